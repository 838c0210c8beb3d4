package partition

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

// Options say which partition it is. They do not change while it is open.
type Options struct {
	Node        kafka.NodeID
	BrokerEpoch kafka.BrokerEpoch // of this node's registration; SetBrokerEpoch changes it
	Topic       string
	TopicID     kafka.TopicID
	Partition   int32
	Config      TopicConfig
	Replica     replica.Options // Node is taken from here
	WAL         wal.Options     // what TopicConfig has no setting for
	NoteBytes   int64           // bytes appended until the state of producers is noted; 0: the default
	Log         *slog.Logger    // nil: silent
}

// Partition is one node's replica of one partition. Any goroutine may use it.
type Partition struct {
	opts Options
	env  Env
	log  *wal.Log
	slog *slog.Logger

	settings atomic.Pointer[settings]
	view     atomic.Pointer[view]
	hw       atomic.Int64
	lso      atomic.Int64
	aborts   atomic.Bool // there are aborted transactions
	ring     func(now time.Time)
	reads    complaint // of consumers' reads that failed
	feeds    complaint // of followers'

	mu        sync.Mutex
	core      *replica.Replica
	slots     []slot
	free      []uint32
	waiters   waiterList
	pieces    []record.Batch
	syncing   bool          // RunSync is scheduled or runs
	syncSince time.Time     // of the last sync that was scheduled
	syncTook  time.Duration // the last sync, with its waiting
	flushAt   time.Time
	alarms    []time.Time   // for which ring is set; the earliest last
	failure   error         // the log failed
	refused   int           // appends that failed since the last that did not
	untrimmed *replica.Trim // what could not be trimmed for want of space; nil: nothing
	closed    bool
	saved     kafka.Offset // end of the last state saved
	compact   compacting
	saveNext  int64               // bytes appended since
	noted     int64               // bytes appended to the last state noted since one was saved durably
	saveSize  int64               // of the last state saved
	found     []*wal.CorruptError // damage that nobody was told of
	lost      kafka.Offset        // end of what could not be read when the core's state of producers was made; 0: all could
}

// settings are what follows from the topic's configs.
type settings struct {
	config  TopicConfig
	rules   record.Rules
	relaxed bool
}

// view is what readers need to know without the lock.
type view struct {
	role        replica.Role
	leader      kafka.NodeID
	leaderEpoch kafka.LeaderEpoch
	epochStart  kafka.Offset
	replicas    []kafka.NodeID
	fenced      bool
	failed      bool
	closed      bool
}

// Recovery is what Open found.
type Recovery struct {
	wal.Recovery
	ReplayedFrom kafka.Offset        // producers' state was rebuilt from here on
	BadSnapshot  error               // the snapshot of producers was not usable; nil if it was, or there was none
	Found        []*wal.CorruptError // damage that was met; there may be more
}

// Snapshots of the producers' state bound what Open has to replay. One is
// noted, which costs no sync, each time so many bytes were appended, and saved
// each time so many more were. Large snapshots are made less often.
const (
	noteEvery   = 8 << 20
	saveFactor  = 8  // notes until one is saved
	savedFactor = 16 // bytes appended for each byte of a snapshot
)

func (p *Partition) noteEvery() int64 {
	if p.opts.NoteBytes > 0 {
		return p.opts.NoteBytes
	}
	return noteEvery
}

// Open opens the partition's log in dir, and makes it if there is none. The
// partition has no role until Assign.
func Open(now time.Time, fs vfs.FS, dir string, opts Options, env Env) (*Partition, Recovery, error) {
	var rec Recovery
	p := &Partition{opts: opts, env: env, slog: opts.Log}
	if p.slog == nil {
		p.slog = slog.New(slog.DiscardHandler)
	}
	p.ring = p.onAlarm
	s := newSettings(opts.Config)
	p.settings.Store(s)
	l, walRec, err := wal.Open(fs, dir, wal.Identity{TopicID: opts.TopicID, Partition: opts.Partition}, p.walOptions(s.config), now)
	rec.Recovery = walRec
	if err != nil {
		return nil, rec, fmt.Errorf("open partition %s-%d: %w", opts.Topic, opts.Partition, err)
	}
	p.log = l
	if walRec.Damage != nil {
		p.slog.Error("log is damaged", "topic", opts.Topic, "partition", opts.Partition, "error", walRec.Damage)
		p.found = append(p.found, walRec.Damage)
	}
	for _, d := range walRec.Damages {
		p.slog.Error("segment is damaged", "topic", opts.Topic, "partition", opts.Partition, "error", d)
		p.found = append(p.found, d)
	}
	if err := p.recover(now, &rec); err != nil {
		_ = l.Close(now)
		return nil, rec, fmt.Errorf("recover partition %s-%d: %w", opts.Topic, opts.Partition, err)
	}
	rec.Found, p.found = p.found, nil
	p.publish(nil)
	return p, rec, nil
}

// recover makes the core from the log.
func (p *Partition) recover(now time.Time, rec *Recovery) error {
	b := p.log.Bounds()
	state, err := p.loadState(b.End)
	if err != nil {
		return err
	}
	highWatermark, snapshot := splitState(state)
	epochs := make([]replica.EpochStart, 0, 8)
	for _, e := range p.log.Epochs() {
		epochs = append(epochs, replica.EpochStart{Epoch: e.Epoch, Start: e.Start})
	}
	o := p.opts.Replica
	o.Node = p.opts.Node
	s := p.settings.Load()
	p.core = replica.New(o, p.coreConfig(s),
		replica.Log{Start: b.Start, End: b.End, Synced: b.Synced, Epochs: epochs, HighWatermark: highWatermark})
	from, err := p.core.Restore(snapshot)
	rec.ReplayedFrom, rec.BadSnapshot = from, err
	p.saved = from
	if mutant.On(mutant.ForgetProducers) {
		from = p.core.End()
	}
	if err := p.replay(now, from); err != nil {
		return err
	}
	p.core.SetBrokerEpoch(now, p.opts.BrokerEpoch)
	p.core.Tick(now)
	return nil
}

// replay gives the batches from an offset on to the core. What is damaged is
// left out: its readers will be told.
func (p *Partition) replay(now time.Time, from kafka.Offset) error {
	p.lost = 0
	damaged := false
	return p.log.Headers(from, p.core.End(), wal.HeaderVisitor{
		Batch: func(header record.Batch, whole func() (record.Batch, error)) error {
			if damaged {
				p.lost, damaged = header.BaseOffset(), false
			}
			p.saveNext += header.Size()
			if header.IsControl() || p.core.Surprising(header) { // else its CRC is not checked
				b, err := whole()
				if err != nil {
					return err
				}
				header = b
			}
			p.core.Replay(now, header)
			return nil
		},
		Damaged: func(d *wal.CorruptError) {
			p.slog.Error("damaged batches left out of producers' state", "topic", p.opts.Topic, "partition", p.opts.Partition, "error", d)
			p.found = append(p.found, d)
			p.lost, damaged = p.core.End(), true
			p.core.ReplayLost()
		},
	})
}

func newSettings(c TopicConfig) *settings {
	s := &settings{config: c, relaxed: c.FlushMessages > 1 || mutant.On(mutant.AckBeforeSync)}
	s.rules = record.Rules{
		MaxMessageBytes:      c.MaxMessageBytes,
		SegmentBytes:         int(min(c.SegmentBytes, math.MaxInt32)),
		Compacted:            c.Compact,
		TimestampBeforeMaxMs: millis(c.TimestampBeforeMax),
		TimestampAfterMaxMs:  millis(c.TimestampAfterMax),
	}
	if c.LogAppendTime {
		s.rules.TimestampType = record.LogAppendTime
	}
	if codec, ok := record.ParseCodec(c.CompressionType); ok {
		s.rules.Recompress, s.rules.Codec = true, codec
		if c.CompressionLevel != LevelDefault {
			s.rules.Level = c.CompressionLevel
		}
	}
	return s
}

// millis is the duration in ms, where all that is near no limit is none.
func millis(d time.Duration) int64 {
	if d >= MaxDuration-time.Second {
		return math.MaxInt64
	}
	return d.Milliseconds()
}

func (p *Partition) walOptions(c TopicConfig) wal.Options {
	o := p.opts.WAL
	o.SegmentBytes = c.SegmentBytes
	o.SegmentMs = millis(c.SegmentTime)
	if c.FlushMessages > 1 { // records may be acknowledged unsynced, so they must outlive the process
		o.DirectBytesMin = -1
	}
	if c.Compact { // only what is in a sealed segment is compacted
		o.SegmentMs = min(o.SegmentMs, millis(c.MaxCompactionLag))
	}
	if c.IndexIntervalBytes > 0 && o.IndexIntervalBytes == 0 {
		o.IndexIntervalBytes = max(c.IndexIntervalBytes, 4096)
	}
	return o
}

// Topic is the topic's name.
func (p *Partition) Topic() string { return p.opts.Topic }

// TopicID is the topic's id.
func (p *Partition) TopicID() kafka.TopicID { return p.opts.TopicID }

// Number is the partition's number in its topic.
func (p *Partition) Number() int32 { return p.opts.Partition }

// HighWatermark is the end of what is committed, as this node knows.
func (p *Partition) HighWatermark() kafka.Offset { return kafka.Offset(p.hw.Load()) }

// LastStableOffset is the end of what readers with read_committed may see.
func (p *Partition) LastStableOffset() kafka.Offset { return kafka.Offset(p.lso.Load()) }

// LogStart is the offset of the first record.
func (p *Partition) LogStart() kafka.Offset { return p.log.Start() }

// LogEnd is the offset that follows the last record, committed or not.
func (p *Partition) LogEnd() kafka.Offset { return p.log.End() }

// Leads says whether this node leads the partition, and in which epoch.
func (p *Partition) Leads() (kafka.LeaderEpoch, bool) {
	v := p.view.Load()
	return v.leaderEpoch, v.role == replica.Leader && !v.failed && !v.closed
}

// Config is the topic's configs as they are in force.
func (p *Partition) Config() TopicConfig { return p.settings.Load().config }

// Configure takes in changed configs of the topic.
func (p *Partition) Configure(now time.Time, c TopicConfig) {
	s := newSettings(c)
	fx := p.enter()
	p.settings.Store(s)
	if err := p.log.SetOptions(p.walOptions(c)); err != nil {
		p.fail(err, fx)
	}
	p.core.Configure(now, p.coreConfig(s))
	p.leave(now, fx)
}

// Assign takes in what the metadata say of the partition.
func (p *Partition) Assign(now time.Time, a replica.Assignment) {
	fx := p.enter()
	was, epoch := p.core.Role(), p.core.Assignment().LeaderEpoch
	p.core.Assign(now, a)
	if role := p.core.Role(); role != was || p.core.Assignment().LeaderEpoch != epoch {
		p.slog.Debug("replica role changed", "topic", p.opts.Topic, "partition", p.opts.Partition, "role", role.String(),
			"leader", int(a.Leader), "epoch", int(a.LeaderEpoch), "end", int64(p.core.End()), "highWatermark", int64(p.core.HighWatermark()))
	}
	p.leave(now, fx)
}

// SetBrokerEpoch names this node's registration.
func (p *Partition) SetBrokerEpoch(now time.Time, e kafka.BrokerEpoch) {
	fx := p.enter()
	p.core.SetBrokerEpoch(now, e)
	p.leave(now, fx)
}

// SetFenced makes the partition acknowledge nothing and answer nothing
// committed, as long as the node's lease is over.
func (p *Partition) SetFenced(now time.Time, fenced bool) {
	fx := p.enter()
	p.core.Fence(now, fenced)
	p.leave(now, fx)
}

// HandleMessage takes in a message of another node's replica. Its bytes are
// not used after the call.
func (p *Partition) HandleMessage(now time.Time, from kafka.NodeID, m *replica.Message) {
	for rest := m.Records; m.Kind == replica.Append && len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil || !b.VerifyCRC() {
			p.slog.Warn("damaged append dropped", "topic", p.opts.Topic, "partition", p.opts.Partition, "from", int(from))
			return // it is sent again
		}
		rest = next
	}
	fx := p.enter()
	if p.usable() == nil {
		p.core.Step(now, from, m)
	}
	p.leave(now, fx)
}

// HandleInSyncResult takes in the controller's answer to a change.
func (p *Partition) HandleInSyncResult(now time.Time, res replica.InSyncResult) {
	fx := p.enter()
	p.core.InSyncResult(now, res)
	p.leave(now, fx)
}

// Tick does what is due and returns when there is more to do, or zero. The
// partition sees to its own deadlines through Env.At.
func (p *Partition) Tick(now time.Time) time.Time {
	fx := p.enter()
	if p.usable() == nil {
		p.core.Tick(now)
	}
	next := earlier(p.core.Wake(), p.flushAt)
	p.leave(now, fx)
	return next
}

func (p *Partition) onAlarm(now time.Time) {
	p.mu.Lock()
	n := len(p.alarms)
	for n > 0 && !now.Before(p.alarms[n-1]) {
		n--
	}
	due := n < len(p.alarms)
	p.alarms = p.alarms[:n]
	p.mu.Unlock()
	if due {
		p.Tick(now)
	}
}

// RunSync makes durable what has been written. It is called once for each
// Env.ScheduleSync. Appends go on meanwhile; the next sync covers them. Who can
// tell how long the sync took calls BeginSync and EndSync instead.
func (p *Partition) RunSync(now time.Time) { p.EndSync(now, p.BeginSync()) }

// SyncRun is a sync that has been done and not yet taken in.
type SyncRun struct {
	cuts uint64
	end  kafka.Offset
	idle bool
	err  error
}

// BeginSync is the first half of RunSync: it syncs what was written when it
// was called. Time passes before the other half.
func (p *Partition) BeginSync() SyncRun {
	p.mu.Lock()
	run := SyncRun{cuts: p.core.Cuts(), end: p.core.End(), idle: p.usable() != nil}
	p.flushAt = time.Time{}
	p.mu.Unlock()
	if !run.idle {
		run.err = p.log.Sync()
	}
	return run
}

// EndSync is the second half of RunSync: it acts on what has become durable.
func (p *Partition) EndSync(now time.Time, run SyncRun) {
	fx := p.enter()
	p.syncing, p.syncTook = false, now.Sub(p.syncSince)
	switch {
	case run.idle:
	case run.err != nil && errors.Is(run.err, wal.ErrClosed):
	case run.err != nil:
		p.fail(run.err, fx)
	default:
		if mutant.On(mutant.SyncOfNow) {
			run.end = p.core.End()
		}
		p.core.Synced(now, run.cuts, run.end)
	}
	save := !run.idle && run.err == nil && p.saveNext >= max(p.noteEvery(), savedFactor*p.saveSize)
	p.leave(now, fx)
	if save {
		_ = p.saveState(false)
	}
}

// SyncTime is how long the sync that is under way has taken until now, or where
// there is none the last one, if it began at since or later; else 0.
func (p *Partition) SyncTime(now, since time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.syncing:
		return now.Sub(p.syncSince)
	case p.syncSince.Before(since):
		return 0
	}
	return p.syncTook
}

// usable is nil while the partition can be written.
func (p *Partition) usable() error {
	if p.closed {
		return wal.ErrClosed
	}
	return p.failure
}

// Failure is the error that took the partition offline on this node, or nil.
func (p *Partition) Failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure
}

// Size is the size of the log in bytes.
func (p *Partition) Size() int64 { return p.log.Size() }

// Status is a snapshot of the partition's state.
func (p *Partition) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.core
	a := c.Assignment()
	return Status{
		Role: c.Role(), Leader: a.Leader, LeaderEpoch: a.LeaderEpoch, PartitionEpoch: a.PartitionEpoch,
		Replicas: a.Replicas, InSync: a.InSync, MinInSync: c.MinInSync(),
		LogStart: c.Start(), End: c.End(), Synced: c.SyncedEnd(), HighWatermark: c.HighWatermark(),
		LastStableOffset: c.LastStableOffset(), Size: p.log.Size(), Fenced: c.Fenced(), Offline: p.failure != nil, Followers: c.Followers(),
	}
}

// Producers lists what is known of idempotent producers, by id.
func (p *Partition) Producers() []replica.ProducerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Producers()
}

// Close answers all who wait with NOT_LEADER_OR_FOLLOWER, saves what is known
// of producers and closes the log. Calls after it are refused.
func (p *Partition) Close(now time.Time) error {
	p.shut(now)
	if p.Failure() == nil {
		_ = p.saveState(false)
	}
	return p.log.Close(now)
}

// Abandon is Close for a log whose files are about to be deleted: nothing is
// written or synced any more.
func (p *Partition) Abandon(now time.Time) {
	p.shut(now)
	p.log.Abandon()
}

func (p *Partition) shut(now time.Time) {
	fx := p.enter()
	if !p.closed {
		p.closed = true
		p.refuseAll(kafka.ErrNotLeaderOrFollower, fx)
	}
	p.leave(now, fx)
}

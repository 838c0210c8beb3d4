package replica

import (
	"slices"
	"time"

	"chronik/internal/base/invariant"
	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
)

// Options do not change while the Replica lives. Zero fields get the default.
type Options struct {
	Node               kafka.NodeID
	LagTimeMax         time.Duration // replica.lag.time.max.ms, default 30 s
	LagRecordsMax      int64         // replica.lag.max.messages: a follower that lacks more leaves the in-sync set; 0: no limit
	JoinWindow         time.Duration // how long the high watermark waits for a follower about to join; default 500 ms
	RetryMin           time.Duration // first repetition of a question without an answer; default 50 ms
	RetryMax           time.Duration // later ones, and the silence after which a stream is questioned; default 1 s
	NoteDelay          time.Duration // how long a moved high watermark waits for an append to travel with; default 5 ms
	InFlightBytesMax   int           // per follower, appends without answer; default 16 MiB
	InFlightAppendsMax int           // per follower; default 256
	ReadBytesMax       int           // of one append that is read from the log; default 1 MiB
	SlowSyncMax        time.Duration // a sync that takes longer makes another replica the better leader; default 2 s, negative: never
	ProducersMax       int           // remembered at a time; the longest silent are forgotten first; default 100 000
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.LagTimeMax, 30*time.Second)
	set(&o.JoinWindow, 500*time.Millisecond)
	set(&o.RetryMin, 50*time.Millisecond)
	set(&o.RetryMax, time.Second)
	set(&o.NoteDelay, 5*time.Millisecond)
	if o.SlowSyncMax == 0 {
		o.SlowSyncMax = 2 * time.Second
	}
	for p, v := range map[*int]int{&o.InFlightBytesMax: 16 << 20, &o.InFlightAppendsMax: 256, &o.ReadBytesMax: 1 << 20, &o.ProducersMax: 100_000} {
		if *p <= 0 {
			*p = v
		}
	}
	return o
}

// Config is what may change at any time: settings of the topic.
type Config struct {
	MinInSync int  // min.insync.replicas
	Relaxed   bool // what is written counts as durable (flush.messages above 1)
	// After how long of silence a producer is forgotten
	// (producer.id.expiration.ms); default 24 h.
	ProducerExpiration time.Duration
	// Followers whose catching up is throttled (KIP-73): what they are sent
	// while they are not in sync is marked so.
	Throttled    []kafka.NodeID
	ThrottledAll bool
}

func (c Config) withDefaults() Config {
	if c.ProducerExpiration <= 0 {
		c.ProducerExpiration = 24 * time.Hour
	}
	return c
}

// Log is what a log holds when its Replica is made.
type Log struct {
	Start, End, Synced kafka.Offset
	Epochs             []EpochStart // in rising order
	HighWatermark      kafka.Offset // a lower bound; NoOffset when not known
}

// Replica is one node's replica of one partition. Package replica's comment
// says how to drive it. It has one owner at a time.
type Replica struct {
	opts   Options
	config Config
	fenced bool

	start, end, synced kafka.Offset
	cuts               uint64 // truncations so far
	highWatermark      kafka.Offset
	epochs             epochs
	producers          producers
	expireAt           time.Time // of producers

	role        Role
	assignment  Assignment
	brokerEpoch kafka.BrokerEpoch
	session     uint64 // leader: last question asked to anyone; follower: last question taken

	writing write
	cutting cut

	leader   leading
	follower following

	out   Ready
	spare [2]Ready // their slices
	turn  int
}

// write is what Ready.Write asked for and Written will confirm.
type write struct {
	active   bool
	records  []byte
	end      kafka.Offset // of the log, once written
	proposal Proposal     // of the leader
	base     kafka.Offset
	message  Message // to a follower
}

// cut is what Ready.Reset or Ready.Truncate asked for.
type cut struct {
	active bool
	reset  bool
	to     kafka.Offset
	// then is the append that goes on after a Reset to its first batch; its
	// Kind is 0 when the leader waits for a State.
	then Message
	// state is what the leader knows of the producers of what is not in the log.
	state []byte
}

// New makes the Replica of a log. Restore and Replay must follow before
// anything else. It has no role until Assign.
func New(opts Options, config Config, log Log) *Replica {
	r := &Replica{opts: opts.withDefaults(), config: config.withDefaults(),
		start: log.Start, end: log.End, synced: min(log.Synced, log.End),
		epochs:        slices.Clone(log.Epochs),
		highWatermark: max(log.Start, min(log.HighWatermark, log.End)),
		brokerEpoch:   kafka.NoBrokerEpoch}
	r.producers = newProducers(r.opts.ProducersMax)
	r.assignment.Leader = kafka.NoNode
	r.assignment.LeaderEpoch = kafka.NoLeaderEpoch
	r.assignment.PartitionEpoch = -1
	return r
}

// Ready returns what is to be done, and whether there is anything.
func (r *Replica) Ready() (Ready, bool) {
	o := &r.out
	if o.Reset == nil && o.Truncate == nil && o.Epoch == nil && o.Write == nil && o.Trim == nil &&
		len(o.Send) == 0 && o.InSync == nil && o.Slow == nil && len(o.Acked) == 0 && len(o.Refused) == 0 {
		return Ready{}, false
	}
	given := *o
	r.spare[r.turn] = given
	r.turn = 1 - r.turn
	s := &r.spare[r.turn]
	clear(s.Send) // lets go of the records
	*o = Ready{Send: s.Send[:0], Acked: s.Acked[:0], Refused: s.Refused[:0]}
	return given, true
}

// Assign takes in what the metadata say. What is older than known is ignored.
func (r *Replica) Assign(now time.Time, a Assignment) {
	old := &r.assignment
	if a.LeaderEpoch < old.LeaderEpoch || a.LeaderEpoch == old.LeaderEpoch && a.PartitionEpoch < old.PartitionEpoch {
		if a.LeaderEpoch == old.LeaderEpoch {
			r.updateBrokers(now, a.Brokers)
		}
		return
	}
	newEpoch := a.LeaderEpoch > old.LeaderEpoch
	newState := newEpoch || a.PartitionEpoch > old.PartitionEpoch
	skipped := a.PartitionEpoch > old.PartitionEpoch+1
	a.Replicas, a.InSync, a.Brokers = slices.Clone(a.Replicas), slices.Clone(a.InSync), slices.Clone(a.Brokers)
	a.Adding, a.Removing = slices.Clone(a.Adding), slices.Clone(a.Removing)
	newLeader := a.Leader != old.Leader
	if !newState { // what the controller has told directly is as new
		a.InSync, a.Recovering = old.InSync, old.Recovering
	}
	r.assignment = a
	role := Offline
	switch {
	case a.Leader == r.opts.Node:
		role = Leader
	case a.Leader != kafka.NoNode && slices.Contains(a.Replicas, r.opts.Node):
		role = Follower
	}
	if r.role == Leader && role != Leader {
		r.resign()
	}
	was := r.role
	r.role = role
	switch {
	case role == Leader && (was != Leader || newEpoch):
		r.lead(now, was == Leader)
	case role == Leader && newState:
		r.leader.change = pendingChange{}
		for _, f := range r.leader.followers {
			f.active = f.active && (!skipped || slices.Contains(a.InSync, f.node)) // else it may have been away in between
		}
		r.updateFollowers(now)
	case role == Leader:
		r.updateBrokers(now, a.Brokers)
	case role == Follower && (was != Follower || newEpoch || newLeader):
		r.follow(now)
	}
}

// Configure takes in changed settings of the topic.
func (r *Replica) Configure(now time.Time, c Config) {
	was := r.config.ProducerExpiration
	r.config = c.withDefaults()
	if r.config.ProducerExpiration != was {
		r.expireAt = now.Add(r.expireEvery())
	}
	if r.role == Leader {
		r.advance(now)
	}
}

// SetBrokerEpoch names this node's registration, which travels with what a
// follower tells.
func (r *Replica) SetBrokerEpoch(now time.Time, e kafka.BrokerEpoch) {
	if r.brokerEpoch == e {
		return
	}
	r.brokerEpoch = e
	if r.role == Follower {
		r.hello(now)
	}
}

// Fence makes the node take itself for fenced, or no longer. While it does, a
// leader refuses proposals, and acknowledges nothing. Those who wait already
// are told to look for another leader when that has lasted for a while, rather
// than when their own time is over.
func (r *Replica) Fence(now time.Time, fenced bool) {
	was := r.fenced
	r.fenced = fenced
	switch {
	case r.role != Leader || was == fenced:
	case fenced:
		r.leader.refuseAt = now.Add(fencedWait)
	default:
		r.leader.refuseAt = time.Time{}
		r.release()
	}
}

// fencedWait is how long those who wait for an acknowledgement are not told
// that the node is fenced: it may not be any more in a moment, when it was only
// late.
const fencedWait = 250 * time.Millisecond

// Written reports that Ready.Write is in the log, though maybe not on disk.
func (r *Replica) Written(now time.Time) {
	invariant.Check(r.writing.active, "reports a write that was not asked for")
	w := r.writing
	r.writing = write{}
	next := r.end
	for rest := w.records; len(rest) > 0; {
		b, more, err := record.Next(rest)
		invariant.Check(err == nil, "writes what is no batch")
		if n := len(r.epochs); r.start == r.end && n > 0 && r.epochs[n-1].Epoch > b.LeaderEpoch() {
			r.epochs = r.epochs[:0] // what was before an empty log was of another history
		}
		r.epochs.appended(b.LeaderEpoch(), b.BaseOffset(), next)
		r.producers.apply(now, b, r.highWatermark)
		next, rest = b.NextOffset(), more
	}
	base := r.end
	r.end = w.end
	if r.role == Leader {
		r.appended(now, &w, base)
	} else {
		r.received(&w.message, true)
	}
}

// WriteFailed reports that Ready.Write is not in the log: it has been refused,
// and nothing of it is left.
func (r *Replica) WriteFailed(now time.Time, code kafka.ErrorCode) {
	invariant.Check(r.writing.active, "reports a write that was not asked for")
	w := r.writing
	r.writing = write{}
	if r.role == Leader {
		if mutant.On(mutant.KnowUnwritten) {
			r.producers.apply(now, w.records, r.highWatermark)
		}
		r.producers.noteRefused(now, w.records)
		r.refuse(w.proposal.Ticket, code)
	} else {
		r.loseThread(now)
	}
}

// Synced reports that the log is on disk up to an offset. A report from
// before a truncation, by the count of cuts that Cuts gave when the sync
// began, is ignored.
func (r *Replica) Synced(now time.Time, cuts uint64, upTo kafka.Offset) {
	upTo = min(upTo, r.end)
	if cuts != r.cuts && !mutant.On(mutant.CountStaleSync) || upTo <= r.synced {
		return
	}
	r.synced = upTo
	switch {
	case r.role == Leader:
		r.advance(now)
	case r.role == Follower && !r.config.Relaxed:
		r.report(Stored)
	}
}

// Truncated reports that Ready.Truncate or Ready.Reset is done, and where the
// log ends since: at the offset asked for, or before it where that was within
// a batch. When it returns true, what is known of producers must be rebuilt:
// Restore and Replay must follow before anything else.
func (r *Replica) Truncated(now time.Time, end kafka.Offset) (rebuild bool) {
	invariant.Check(r.cutting.active && end <= r.cutting.to, "reports a truncation that was not asked for")
	c := r.cutting
	c.to = end
	r.cutting = cut{}
	r.cuts++
	r.end = c.to
	r.synced = min(r.synced, c.to)
	r.highWatermark = min(r.highWatermark, c.to)
	if c.reset {
		r.start, r.synced, r.highWatermark = c.to, c.to, c.to
		r.epochs = r.epochs[:0]
		r.restart(&c)
	} else {
		r.epochs.cut(c.to)
		rebuild = r.producers.last >= c.to && !mutant.On(mutant.CutKeepsProducers)
	}
	if c.then.Kind == Append {
		r.onAppend(now, &c.then)
	} else {
		r.report(State)
	}
	return rebuild
}

// restart takes in who has written what is not in a log that begins anew.
func (r *Replica) restart(c *cut) {
	if c.then.Kind == Append { // it was empty; now it is to begin within the same batch as the leader's
		r.producers.last = min(r.producers.last, c.to-1)
		return
	}
	if _, err := r.Restore(c.state); err != nil {
		r.producers.reset() // as if the leader had known nobody
	}
}

// Step takes in a message of another node.
func (r *Replica) Step(now time.Time, from kafka.NodeID, m *Message) {
	if m.LeaderEpoch != r.assignment.LeaderEpoch && !mutant.On(mutant.NoEpochFence) || r.role == Offline {
		return // one of the two has old metadata; whoever waits asks again
	}
	switch m.Kind {
	case Hello, State, Stored:
		if r.role == Leader {
			r.stepLeader(now, from, m)
		}
	case Probe, Truncate, Reset, Append:
		if r.role == Follower && (from == r.assignment.Leader || mutant.On(mutant.NoEpochFence)) {
			r.stepFollower(now, m)
		}
	}
}

// Tick does what is due. Wake says when there will be something.
func (r *Replica) Tick(now time.Time) {
	if r.expireAt.IsZero() {
		r.expireAt = now.Add(r.expireEvery())
	} else if due(r.expireAt, now) {
		r.expireAt = now.Add(r.expireEvery())
		r.producers.expire(now.Add(-r.config.ProducerExpiration))
	}
	switch r.role {
	case Leader:
		r.tickLeader(now)
	case Follower:
		if due(r.follower.helloAt, now) {
			r.hello(now)
		}
	}
}

// expireEvery is how often silent producers are looked for.
func (r *Replica) expireEvery() time.Duration {
	return max(r.config.ProducerExpiration/24, time.Second)
}

// Wake is the time at which Tick must be called, or zero for never.
func (r *Replica) Wake() time.Time {
	at := r.expireAt
	if len(r.producers.entries) == 0 {
		at = time.Time{}
	}
	switch r.role {
	case Leader:
		at = earlier(at, r.wakeLeader())
	case Follower:
		at = earlier(at, r.follower.helloAt)
	}
	return at
}

// durable is the end of what counts as safe on this node.
func (r *Replica) durable() kafka.Offset {
	if r.config.Relaxed {
		return r.end
	}
	return r.synced
}

func (r *Replica) send(m Message) {
	m.LeaderEpoch = r.assignment.LeaderEpoch
	m.HighWatermark, m.LogStart = r.highWatermark, r.start
	r.out.Send = append(r.out.Send, m)
}

func (r *Replica) refuse(t Ticket, code kafka.ErrorCode) {
	if t != NoTicket {
		r.out.Refused = append(r.out.Refused, Refusal{t, code})
	}
}

func (r *Replica) ack(t Ticket, offset kafka.Offset, timestamp int64) {
	if t != NoTicket {
		r.out.Acked = append(r.out.Acked, Ack{t, offset, timestamp})
	}
}

// moveStart makes the log begin at start.
func (r *Replica) moveStart(start kafka.Offset) {
	invariant.Check(start > r.start && start <= r.end, "moves the log start backwards or past the end")
	r.out.Trim = &Trim{start, r.producers.snapshotAt(start)}
	r.start = start
	r.highWatermark = max(r.highWatermark, start)
	r.epochs.trim(start)
	r.producers.trim(start)
}

// Role is the part that this node plays.
func (r *Replica) Role() Role { return r.role }

// Assignment is what is known of the partition; it must not be changed.
func (r *Replica) Assignment() *Assignment { return &r.assignment }

// Start is the offset of the first record.
func (r *Replica) Start() kafka.Offset { return r.start }

// End is the offset that follows the last record written.
func (r *Replica) End() kafka.Offset { return r.end }

// SyncedEnd is the end of what is on disk.
func (r *Replica) SyncedEnd() kafka.Offset { return r.synced }

// Cuts counts truncations, for Synced.
func (r *Replica) Cuts() uint64 { return r.cuts }

// HighWatermark is the end of what is committed, as this node knows.
func (r *Replica) HighWatermark() kafka.Offset { return r.highWatermark }

// LastStableOffset is the end of what readers with read_committed may see.
func (r *Replica) LastStableOffset() kafka.Offset {
	return r.producers.firstUnstable(r.highWatermark)
}

// EpochStart is where the leader's epoch began. Until the high watermark is
// there, a new leader does not know what was committed (OFFSET_NOT_AVAILABLE).
func (r *Replica) EpochStart() kafka.Offset { return r.leader.epochStart }

// EpochEnd answers OffsetForLeaderEpoch: the largest epoch up to the given
// one, and its end.
func (r *Replica) EpochEnd(epoch kafka.LeaderEpoch) (kafka.LeaderEpoch, kafka.Offset) {
	return r.epochs.endFor(epoch, r.end)
}

// EpochOf is the leader epoch of the record at the offset, or NoLeaderEpoch.
func (r *Replica) EpochOf(o kafka.Offset) kafka.LeaderEpoch { return r.epochs.before(o + 1) }

// LastEpoch is the leader epoch of the last record, or NoLeaderEpoch.
func (r *Replica) LastEpoch() kafka.LeaderEpoch {
	if r.start == r.end {
		return kafka.NoLeaderEpoch
	}
	return r.epochs.before(r.end)
}

// Aborted lists the aborted transactions that reach into [from, to).
func (r *Replica) Aborted(from, to kafka.Offset) []AbortedTxn { return r.producers.abortedIn(from, to) }

// BeginVerification is called before a producer's first batch of a
// transaction: a guard other than 0 means that the coordinator must be asked
// whether the partition is in the transaction, and belongs into the Proposal.
func (r *Replica) BeginVerification(id kafka.ProducerID, epoch kafka.ProducerEpoch, tv2 bool) uint64 {
	return r.producers.begin(id, epoch, tv2)
}

// HasAborted says whether there are aborted transactions in the log at all.
func (r *Replica) HasAborted() bool { return len(r.producers.aborted) > 0 }

// Fenced says whether the node takes itself for fenced.
func (r *Replica) Fenced() bool { return r.fenced }

package partition

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

// slot holds who waits for a ticket. A ticket is the slot's number plus one.
type slot struct {
	produce       func(ProduceResult)
	deleteRecords func(DeleteRecordsResult)
	marker        func(kafka.ErrorCode)
	logAppendTime int64
}

// reply is an answer that is given once the lock is free.
type reply struct {
	slot
	code      kafka.ErrorCode
	offset    kafka.Offset
	timestamp int64
	logStart  kafka.Offset
}

func (r *reply) give() {
	switch {
	case r.produce != nil:
		res := ProduceResult{Code: r.code, BaseOffset: r.offset, LogAppendTime: r.logAppendTime, LogStart: r.logStart}
		if r.timestamp >= 0 { // a duplicate: Kafka tells the batch's timestamp
			res.LogAppendTime = r.timestamp
		}
		if r.code != kafka.None {
			res.BaseOffset, res.LogAppendTime = kafka.NoOffset, record.NoTimestamp
			if !tellsLogStart(r.code) {
				res.LogStart = kafka.NoOffset
			}
		}
		r.produce(res)
	case r.deleteRecords != nil:
		r.deleteRecords(DeleteRecordsResult{r.code, r.offset})
	case r.marker != nil:
		r.marker(r.code)
	}
}

// effects is what is to be done outside the lock.
type effects struct {
	replies []reply
	woken   []func(now time.Time)
	reads   []replica.Message
	changes []replica.InSyncChange
	at      time.Time
	sync    bool
	slow    time.Duration
	failure error
	damage  []*wal.CorruptError
}

var effectsPool = sync.Pool{New: func() any { return new(effects) }}

// enter takes the lock. leave, which gives it back, takes the effects.
func (p *Partition) enter() *effects {
	fx := effectsPool.Get().(*effects)
	p.mu.Lock()
	return fx
}

// leave acts on what the core wants, gives the lock back, and does what must
// be done without it.
func (p *Partition) leave(now time.Time, fx *effects) {
	p.settle(now, fx)
	p.mu.Unlock()
	p.flush(now, fx)
	for len(fx.reads) > 0 {
		m := fx.reads[0]
		fx.reads = append(fx.reads[:0], fx.reads[1:]...)
		p.feed(now, &m, fx)
		p.flush(now, fx)
	}
	clear(fx.reads[:cap(fx.reads)])
	effectsPool.Put(fx)
}

// alarmMin keeps a deadline that is over already from being rung for without pause.
const alarmMin = time.Millisecond

// settle lets the core go on until it wants nothing more, with the lock held.
func (p *Partition) settle(now time.Time, fx *effects) {
	for {
		rd, ok := p.core.Ready()
		if !ok {
			break
		}
		p.act(now, &rd, fx)
	}
	p.publish(fx)
	if len(p.found) > 0 {
		fx.damage, p.found = append(fx.damage, p.found...), nil
	}
	if p.usable() != nil {
		return
	}
	p.scheduleSync(now, fx)
	at := earlier(p.core.Wake(), p.flushAt)
	if at.IsZero() {
		return
	}
	if soon := now.Add(alarmMin); at.Before(soon) {
		at = soon
	}
	if n := len(p.alarms); n == 0 || at.Before(p.alarms[n-1]) {
		p.alarms = append(p.alarms, at)
		fx.at = at
	}
}

// scheduleSync asks for a sync if one is due and none is under way.
func (p *Partition) scheduleSync(now time.Time, fx *effects) {
	unsynced := p.core.End() - p.core.SyncedEnd()
	if p.syncing || unsynced <= 0 {
		return
	}
	if s := p.settings.Load(); s.relaxed && int64(unsynced) < s.config.FlushMessages {
		if s.config.FlushTime >= MaxDuration-time.Second {
			return
		}
		if p.flushAt.IsZero() {
			p.flushAt = now.Add(s.config.FlushTime)
		}
		if p.flushAt.After(now) {
			return
		}
	}
	p.syncing, p.syncSince, fx.sync, p.flushAt = true, now, true, time.Time{}
}

// act does what the core wants, in the order of Ready's fields.
func (p *Partition) act(now time.Time, rd *replica.Ready, fx *effects) {
	if rd.Reset != nil || rd.Truncate != nil {
		p.cut(now, rd, fx)
	}
	if rd.Epoch != nil {
		p.log.AssignEpoch(rd.Epoch.Epoch, rd.Epoch.Start)
	}
	if rd.Write != nil {
		p.write(now, rd.Write, fx)
	}
	if rd.Trim != nil && p.usable() == nil {
		if p.unlearned() { // it would be without those who wrote what is damaged
			rd.Trim.State = nil
		}
		p.trim(rd.Trim, fx)
	}
	if p.usable() != nil {
		rd.Send = nil // it may tell of what could not be done, as that records are deleted
	}
	for i := range rd.Send {
		m := &rd.Send[i]
		if m.ReadMax > 0 {
			fx.reads = append(fx.reads, *m)
		} else {
			p.env.Send(p, m)
		}
	}
	if rd.InSync != nil {
		fx.changes = append(fx.changes, *rd.InSync)
	}
	if rd.Slow != nil {
		fx.slow = rd.Slow.Since
	}
	for _, a := range rd.Acked {
		p.answer(a.Ticket, reply{offset: a.Offset, timestamp: a.Timestamp}, fx)
	}
	for _, r := range rd.Refused {
		p.answer(r.Ticket, reply{code: r.Code, offset: kafka.NoOffset, timestamp: record.NoTimestamp}, fx)
	}
}

// cut truncates or resets the log. If that is not possible, the log cannot be
// used: it holds what the leader's does not.
func (p *Partition) cut(now time.Time, rd *replica.Ready, fx *effects) {
	var err error
	if rd.Reset != nil {
		p.slog.Warn("log reset", "topic", p.opts.Topic, "partition", p.opts.Partition, "end", int64(p.core.End()), "start", int64(rd.Reset.Start))
		p.untrimmed = nil
		var state []byte
		if len(rd.Reset.State) > 0 {
			state = joinState(rd.Reset.Start, rd.Reset.State)
		}
		err = p.log.Reset(rd.Reset.Start, state)
		p.lost = 0
		if at, _, _, _ := p.log.LoadState(rd.Reset.Start); err == nil && state != nil && at != rd.Reset.Start { // the disk is full
			p.untrimmed = &replica.Trim{Start: rd.Reset.Start, State: bytes.Clone(rd.Reset.State)}
			p.saved = kafka.NoOffset
		}
	} else {
		p.slog.Info("log truncated", "topic", p.opts.Topic, "partition", p.opts.Partition, "from", int64(p.core.End()), "to", int64(*rd.Truncate))
		err = p.log.TruncateFrom(*rd.Truncate)
	}
	if err == nil && p.core.Truncated(now, p.log.End()) {
		var state []byte
		if state, err = p.loadState(p.core.End()); err == nil {
			_, snapshot := splitState(state)
			// After an error from is the log's start: all of it is replayed.
			from, _ := p.core.Restore(snapshot)
			err = p.replay(now, from)
		}
	}
	p.saved = min(p.saved, p.core.End())
	if err != nil {
		p.fail(err, fx)
	}
}

// trim lets the log begin elsewhere. What fails, as on a full disk, is made up for
// with the next append that succeeds; until then a process that ends may forget
// the producers of what was deleted.
func (p *Partition) trim(t *replica.Trim, fx *effects) {
	var state []byte
	if t.State != nil {
		state = joinState(p.core.HighWatermark(), t.State)
	}
	news := p.untrimmed == nil
	p.untrimmed = nil
	err := p.log.Trim(t.Start, state)
	switch {
	case err == nil:
	case p.log.Err() != nil:
		p.fail(err, fx)
	default:
		if news { // each append may try it; one line for all
			p.slog.Warn("log not trimmed, or not with its state; tried again with each append", "topic", p.opts.Topic, "partition", p.opts.Partition, "start", int64(t.Start), "error", err)
		}
		p.untrimmed = &replica.Trim{Start: t.Start, State: bytes.Clone(t.State)}
	}
}

// write appends what the core wants written.
func (p *Partition) write(now time.Time, records []byte, fx *effects) {
	if p.usable() != nil {
		p.core.WriteFailed(now, kafka.ErrKafkaStorageError)
		return
	}
	p.pieces = p.pieces[:0]
	for rest := records; len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil {
			p.core.WriteFailed(now, kafka.ErrCorruptMessage)
			return
		}
		p.pieces, rest = append(p.pieces, b), next
	}
	err := p.log.Append(now, p.pieces...)
	clear(p.pieces)
	if err == nil {
		p.saveNext += int64(len(records))
		if p.refused > 0 {
			p.slog.Info("appends succeed again", "topic", p.opts.Topic, "partition", p.opts.Partition, "refused", p.refused)
			p.refused = 0
		}
		if p.untrimmed != nil {
			p.trim(p.untrimmed, fx)
		}
		p.core.Written(now)
		return
	}
	if p.refused++; p.refused == 1 { // clients try again and again; one line for all
		p.slog.Error("append failed; records are refused until one succeeds", "topic", p.opts.Topic, "partition", p.opts.Partition, "error", err)
	}
	code := kafka.ErrKafkaStorageError
	if errors.Is(err, wal.ErrBadBatch) || errors.Is(err, wal.ErrOrder) {
		code = kafka.ErrCorruptMessage
	}
	p.core.WriteFailed(now, code)
	if p.log.Err() != nil || vfs.Broken(err) { // else it may go better later: the disk is full
		p.fail(err, fx)
	}
}

// fail takes the partition offline on this node: what is on its disk is not
// known any more.
func (p *Partition) fail(err error, fx *effects) {
	if p.failure != nil || p.closed {
		return
	}
	p.failure, fx.failure = err, err
	if !mutant.On(mutant.PendingByFailure) {
		p.refuseAll(kafka.ErrKafkaStorageError, fx)
	}
}

// refuseAll answers all who wait. The core may answer them again, to nobody.
func (p *Partition) refuseAll(code kafka.ErrorCode, fx *effects) {
	for i := range p.slots {
		if s := &p.slots[i]; s.produce != nil || s.deleteRecords != nil || s.marker != nil {
			fx.replies = append(fx.replies, reply{slot: *s, code: code, offset: kafka.NoOffset, timestamp: record.NoTimestamp, logStart: kafka.NoOffset})
			*s = slot{}
		}
	}
	p.slots, p.free = nil, nil
}

// ticket keeps s until the core answers. A ticket whose slot is gone was
// answered when the partition failed or was closed, after which none is given.
func (p *Partition) ticket(s slot) replica.Ticket {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		p.slots[i] = s
		return replica.Ticket(i + 1)
	}
	p.slots = append(p.slots, s)
	return replica.Ticket(len(p.slots))
}

func (p *Partition) answer(t replica.Ticket, r reply, fx *effects) {
	i := uint32(t - 1)
	if int(i) >= len(p.slots) {
		return
	}
	r.slot = p.slots[i]
	p.slots[i] = slot{}
	p.free = append(p.free, i)
	r.logStart = p.core.Start()
	fx.replies = append(fx.replies, r)
}

// publish shows readers where things stand, and wakes who waited for it. fx is
// nil only before anyone can wait.
func (p *Partition) publish(fx *effects) {
	c, v := p.core, p.view.Load()
	a := c.Assignment()
	hw, lso := c.HighWatermark(), c.LastStableOffset()
	moved := int64(hw) != p.hw.Load() || int64(lso) != p.lso.Load()
	if has := c.HasAborted(); has != p.aborts.Load() {
		p.aborts.Store(has) // before who looks for them may read what they are in
	}
	if moved {
		p.hw.Store(int64(hw))
		p.lso.Store(int64(lso))
	}
	changed := v == nil || v.role != c.Role() || v.leaderEpoch != a.LeaderEpoch || v.leader != a.Leader || v.epochStart != c.EpochStart() ||
		v.fenced != c.Fenced() || v.failed != (p.failure != nil) || v.closed != p.closed || !slices.Equal(v.replicas, a.Replicas)
	if changed {
		p.view.Store(&view{c.Role(), a.Leader, a.LeaderEpoch, c.EpochStart(), a.Replicas, c.Fenced(), p.failure != nil, p.closed})
	}
	if fx != nil && (moved && !mutant.On(mutant.WakeNever) || changed) {
		p.waiters.fire(hw, lso, changed && !mutant.On(mutant.WakeByRecord), fx)
	}
}

// flush does what is to be done outside the lock, but for reads.
func (p *Partition) flush(now time.Time, fx *effects) {
	if fx.failure != nil {
		err := fx.failure
		fx.failure = nil
		p.env.Failed(p, err)
	}
	for i := range fx.damage {
		p.env.Damaged(p, fx.damage[i])
	}
	fx.damage = nil
	if fx.slow > 0 {
		since := fx.slow
		fx.slow = 0
		p.env.Slow(p, since)
	}
	for i := range fx.replies {
		fx.replies[i].give()
	}
	clear(fx.replies)
	fx.replies = fx.replies[:0]
	for i := range fx.woken {
		fx.woken[i](now)
	}
	clear(fx.woken)
	fx.woken = fx.woken[:0]
	for i := range fx.changes {
		p.env.RequestInSync(p, fx.changes[i])
	}
	clear(fx.changes)
	fx.changes = fx.changes[:0]
	if !fx.at.IsZero() {
		at := fx.at
		fx.at = time.Time{}
		p.env.At(at, p.ring)
	}
	if fx.sync {
		fx.sync = false
		p.env.ScheduleSync(p)
	}
}

// feed reads a piece of the log for a follower that lags, without the lock,
// and sends it if it is still wanted.
func (p *Partition) feed(now time.Time, m *replica.Message, fx *effects) {
	l := p.limits(m.To)
	if m.Throttled {
		bytes, wait := p.env.Admit(now, l, m.ReadMax)
		if wait > 0 {
			later := *m
			p.env.At(now.Add(wait), func(now time.Time) { p.feedLater(now, &later) })
			return
		}
		m.ReadMax = bytes
	}
	buf := takeBuffer()
	defer giveBuffer(buf)
	b, err := p.log.Read(m.Offset, p.log.End(), m.ReadMax, (*buf)[:0])
	*buf = b
	end := kafka.NoOffset
	if err == nil {
		if b, err = fromOffset(b, m.Offset); err != nil {
			b = b[:0]
		}
	}
	if err != nil {
		p.feeds.write(now, p.slog, "read for follower failed", err, "topic", p.opts.Topic, "partition", p.opts.Partition, "offset", int64(m.Offset))
		p.noteDamage(err)
		b = b[:0]
	}
	for rest := b; len(rest) > 0; {
		batch, next, err := record.Next(rest)
		if err != nil {
			b = b[:len(b)-len(rest)]
			break
		}
		end, rest = batch.NextOffset(), next
	}
	if m.Throttled {
		p.env.Sent(now, l, len(b)-m.ReadMax)
	}
	p.mu.Lock()
	if vfs.Broken(err) {
		p.fail(err, fx)
	}
	if p.usable() == nil && p.core.Streams(m) {
		if len(b) > 0 {
			m.Records = b
			p.env.Send(p, m)
			m.Records = nil
		}
		p.core.Loaded(now, m, end, len(b))
	}
	p.settle(now, fx)
	p.mu.Unlock()
}

// earlier is the earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}

func takeBuffer() *[]byte { return buffers.Get().(*[]byte) }

// giveBuffer keeps no buffer that one huge batch has made.
func giveBuffer(b *[]byte) {
	if cap(*b) <= 4<<20 {
		buffers.Put(b)
	}
}

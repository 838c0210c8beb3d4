package replica

import (
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// follower is a leader's view of one follower: what it has, and what is on
// the way to it. Invariant while streaming: synced <= written <= next <= end.
type follower struct {
	node      kafka.NodeID
	epoch     kafka.BrokerEpoch // by the metadata
	seenEpoch kafka.BrokerEpoch // by its own messages
	active    bool              // neither fenced nor shutting down
	inSync    bool              // in the granted in-sync set
	wanted    bool              // in the one that is asked for
	holding   bool              // in neither, but the high watermark waits for it

	session   uint64
	streaming bool // else a question is without answer
	question  Message
	retryAt   time.Time
	backoff   time.Duration
	lastState Message // the State before, to notice that a Truncate changed nothing

	next            kafka.Offset // to be sent next
	written, synced kafka.Offset
	logStart        kafka.Offset
	highWatermark   kafka.Offset // as it has told
	noteAt          time.Time    // look whether it must be told of the high watermark or log start; zero: it knows

	inFlight      []flight // sent and not known to be written
	inFlightBytes int
	reading       bool   // an append with ReadMax has not been reported with Loaded
	waits         bool   // that append is throttled
	read          uint64 // its number
	progressAt    time.Time

	// It has caught up with the log as of markAt when it has synced markEnd.
	markAt     time.Time
	markEnd    kafka.Offset
	caughtUpAt time.Time
}

// flight is one append on its way.
type flight struct {
	end   kafka.Offset
	bytes int
}

// room says whether another append may be sent before an answer comes.
func (f *follower) room(o *Options) bool {
	return len(f.inFlight) < o.InFlightAppendsMax && f.inFlightBytes < o.InFlightBytesMax
}

// eligible says whether it may join the in-sync set, as far as its broker goes
// (KIP-841, KIP-903).
func (f *follower) eligible() bool {
	return f.streaming && f.active && f.epoch == f.seenEpoch
}

// holds says whether the high watermark waits for it though it is not in the
// in-sync set, since otherwise it might never be seen to have caught up.
func (f *follower) holds(now time.Time, window time.Duration) bool {
	return f.eligible() && !f.caughtUpAt.IsZero() && now.Sub(f.caughtUpAt) <= window
}

// ask puts a question to the follower and stops its stream until the answer.
func (r *Replica) ask(now time.Time, f *follower, k Kind, epoch kafka.LeaderEpoch, offset kafka.Offset) {
	r.session++
	if f.backoff == 0 {
		f.backoff = r.opts.RetryMin
	}
	f.session, f.streaming, f.reading = r.session, false, false
	f.inFlight, f.inFlightBytes = f.inFlight[:0], 0
	f.question = Message{Kind: k, To: f.node, Session: r.session, Epoch: epoch, Offset: offset, BrokerEpoch: f.seenEpoch}
	if k == Reset {
		f.question.Records = r.producers.snapshotAt(offset)
	}
	f.retryAt = now.Add(f.backoff)
	r.send(f.question)
}

// stepLeader takes in what a follower tells.
func (r *Replica) stepLeader(now time.Time, from kafka.NodeID, m *Message) {
	var f *follower
	for _, g := range r.leader.followers {
		if g.node == from {
			f = g
		}
	}
	if f == nil || m.BrokerEpoch < f.seenEpoch || m.Offset < 0 || m.Synced > m.Offset {
		return // not one of the replicas, or from before its restart
	}
	if m.BrokerEpoch > f.seenEpoch || m.Kind == Hello {
		f.seenEpoch = m.BrokerEpoch
		f.backoff = 0
		r.ask(now, f, Probe, 0, 0)
		return
	}
	if m.Session != f.session {
		return // answers another question than the last
	}
	switch {
	case f.streaming:
		r.progress(now, f, m)
	case m.Kind == State:
		r.answered(now, f, m)
	}
}

// answered compares the follower's log with this one by leader epoch and end
// offset: only a prefix of it may be streamed to.
func (r *Replica) answered(now time.Time, f *follower, m *Message) {
	epoch, end := r.epochs.floor(m.Epoch, r.end)
	same := m.Epoch == f.lastState.Epoch && m.Offset == f.lastState.Offset
	f.lastState = *m
	f.lastState.Records = nil
	question := Message{}
	switch {
	case m.Offset < r.start || m.Epoch == kafka.NoLeaderEpoch && m.Offset > r.end:
		question = Message{Kind: Reset, Offset: r.start}
	case m.Epoch == kafka.NoLeaderEpoch:
		// An empty log agrees with any.
	case mutant.On(mutant.SkipTruncation):
	case epoch == kafka.NoLeaderEpoch && end <= r.start && r.start > 0:
		// Its log may be another one from before this one's start on, and so may
		// what it knows of producers be.
		question = Message{Kind: Reset, Offset: r.start}
	case epoch == kafka.NoLeaderEpoch && m.Offset > end || epoch != kafka.NoLeaderEpoch && (epoch != m.Epoch || m.Offset > end):
		question = Message{Kind: Truncate, Epoch: epoch, Offset: end}
	}
	if question.Kind == 0 {
		f.streaming, f.backoff, f.retryAt, f.lastState = true, 0, time.Time{}, Message{}
		f.next, f.written = m.Offset, m.Offset
		if !mutant.On(mutant.FollowerSyncKept) {
			f.synced, f.logStart = 0, 0 // its disk may be another than before
		}
		f.markAt, f.markEnd = now, r.end
		f.progressAt = now
		r.progress(now, f, m)
		return
	}
	if same && f.question.Kind == question.Kind { // no progress: not at the network's speed
		f.backoff = min(max(f.backoff, r.opts.RetryMin)*2, r.opts.RetryMax)
		f.question.Kind, f.question.Epoch, f.question.Offset = question.Kind, question.Epoch, question.Offset
		f.retryAt = now.Add(f.backoff)
		return
	}
	r.ask(now, f, question.Kind, question.Epoch, question.Offset)
}

// progress takes in how far the follower is.
func (r *Replica) progress(now time.Time, f *follower, m *Message) {
	if m.Offset > f.next {
		return // tells of what was not sent
	}
	f.written = max(f.written, m.Offset)
	f.synced = max(f.synced, m.Synced)
	f.logStart = max(f.logStart, m.LogStart)
	f.highWatermark = m.HighWatermark
	f.progressAt = now
	n := 0
	for n < len(f.inFlight) && f.inFlight[n].end <= f.written {
		f.inFlightBytes -= f.inFlight[n].bytes
		n++
	}
	f.inFlight = append(f.inFlight[:0], f.inFlight[n:]...)
	if f.synced >= f.markEnd {
		f.caughtUpAt = f.markAt
		f.markAt, f.markEnd = now, r.end
	}
	if f.synced >= r.end {
		f.caughtUpAt = now
	}
	r.advance(now)
	r.fill(now, f)
	if f.knows(r) {
		f.noteAt = time.Time{}
	} else if f.streaming && f.noteAt.IsZero() {
		f.noteAt = now.Add(r.opts.NoteDelay)
	}
}

// stream sends an append with records at hand.
func (r *Replica) stream(now time.Time, f *follower, records []byte, end kafka.Offset) {
	r.send(Message{Kind: Append, To: f.node, Session: f.session, Epoch: r.epochs.before(f.next), Offset: f.next, Records: records})
	f.sent(now, end, len(records))
}

func (f *follower) sent(now time.Time, end kafka.Offset, bytes int) {
	if len(f.inFlight) == 0 {
		f.progressAt = now
	}
	f.next = end
	f.inFlight = append(f.inFlight, flight{end, bytes})
	f.inFlightBytes += bytes
}

// throttled says whether what the follower is sent counts towards the limits on
// replication: it is not in sync nor about to be.
func (r *Replica) throttled(f *follower) bool {
	return !f.inSync && !f.wanted && !f.holding && (r.config.ThrottledAll || slices.Contains(r.config.Throttled, f.node))
}

// unthrottle asks at once for what waits for its turn under a limit, where the
// limit is not, or no longer, for the follower: the high watermark may wait for it.
func (r *Replica) unthrottle(now time.Time) {
	for _, f := range r.leader.followers {
		if f.reading && f.waits && !r.throttled(f) {
			f.reading = false
			r.fill(now, f)
		}
	}
}

// fill has the next piece read from the log for a follower that lags.
func (r *Replica) fill(now time.Time, f *follower) {
	if !f.streaming || f.reading || f.next >= r.end || !f.room(&r.opts) {
		return
	}
	if f.next < r.start {
		r.ask(now, f, Reset, 0, r.start)
		return
	}
	f.reading, f.waits = true, r.throttled(f)
	f.read++
	f.progressAt = now
	r.send(Message{Kind: Append, To: f.node, Session: f.session, Epoch: r.epochs.before(f.next), Offset: f.next,
		ReadMax: r.opts.ReadBytesMax, Throttled: f.waits, Read: f.read})
}

// Loaded reports what became of an append with ReadMax: so many bytes were
// sent, and end follows them. With 0 bytes the log could not be read there.
func (r *Replica) Loaded(now time.Time, m *Message, end kafka.Offset, bytes int) {
	if r.role != Leader || m.LeaderEpoch != r.assignment.LeaderEpoch {
		return
	}
	for _, f := range r.leader.followers {
		if f.node != m.To || f.session != m.Session || !f.reading || f.read != m.Read {
			continue
		}
		f.reading = false
		if bytes == 0 || end <= f.next || end > r.end {
			f.streaming, f.retryAt = false, now.Add(r.opts.RetryMax)
			r.session++
			f.session = r.session
			f.question = Message{Kind: Probe, To: f.node, Session: r.session, BrokerEpoch: f.seenEpoch}
			return
		}
		f.sent(now, end, bytes)
		r.fill(now, f)
	}
}

// Streams says whether an append with ReadMax is still to be sent.
func (r *Replica) Streams(m *Message) bool {
	if r.role != Leader || m.LeaderEpoch != r.assignment.LeaderEpoch {
		return false
	}
	for _, f := range r.leader.followers {
		if f.node == m.To {
			return f.session == m.Session && f.reading && f.read == m.Read
		}
	}
	return false
}

// note sees to it that the followers learn of a moved high watermark or log start.
func (r *Replica) note(now time.Time) {
	for _, f := range r.leader.followers {
		if f.streaming && f.noteAt.IsZero() && !f.knows(r) {
			f.noteAt = now.Add(r.opts.NoteDelay)
		}
	}
}

// knows says whether the follower has told of the high watermark and log
// start, as far as its log goes.
func (f *follower) knows(r *Replica) bool {
	return f.highWatermark >= min(r.highWatermark, f.written) && f.logStart >= min(r.start, f.written)
}

func (r *Replica) tickFollower(now time.Time, f *follower) {
	if !f.streaming {
		if due(f.retryAt, now) {
			f.backoff = min(max(f.backoff, r.opts.RetryMin)*2, r.opts.RetryMax)
			f.retryAt = now.Add(f.backoff)
			r.send(f.question)
		}
		return
	}
	if len(f.inFlight) > 0 && now.Sub(f.progressAt) >= r.opts.RetryMax {
		r.ask(now, f, Probe, 0, 0)
		return
	}
	if !due(f.noteAt, now) {
		return
	}
	f.noteAt = time.Time{}
	if f.knows(r) {
		return
	}
	f.noteAt = now.Add(2 * r.opts.RetryMin)
	if len(f.inFlight) == 0 && !f.reading { // else the answer or the next append will do
		r.send(Message{Kind: Append, To: f.node, Session: f.session, Epoch: r.epochs.before(f.next), Offset: f.next, NeedsAck: true})
	}
}

func (f *follower) wake(r *Replica) time.Time {
	if !f.streaming {
		return f.retryAt
	}
	at := f.noteAt
	if len(f.inFlight) > 0 {
		at = earlier(at, f.progressAt.Add(r.opts.RetryMax))
	}
	if f.holding {
		at = earlier(at, f.caughtUpAt.Add(r.opts.JoinWindow+time.Millisecond))
	}
	return at
}

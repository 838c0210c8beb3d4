package replica

import (
	"bytes"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
)

// following is what only a follower has.
type following struct {
	helloAt time.Time // zero: the leader has asked
	backoff time.Duration
	lost    bool // appends of this session no longer fit
	lostAt  time.Time
}

// follow begins to follow a leader: it must ask first.
func (r *Replica) follow(now time.Time) {
	r.session = 0
	r.follower = following{}
	r.hello(now)
}

// hello asks the leader to ask.
func (r *Replica) hello(now time.Time) {
	f := &r.follower
	f.backoff = min(max(f.backoff*2, r.opts.RetryMin), r.opts.RetryMax)
	f.helloAt = now.Add(f.backoff)
	r.report(Hello)
}

// loseThread is for appends that do not fit to the log's end.
func (r *Replica) loseThread(now time.Time) {
	if r.follower.lost {
		return
	}
	f := &r.follower
	f.lost = true
	if now.Sub(f.lostAt) < r.opts.RetryMax { // what was lost once is lost again, if the disk is full
		f.helloAt = now.Add(r.opts.RetryMin)
		return
	}
	f.lostAt, f.backoff = now, 0
	r.hello(now)
}

// report tells the leader how far this log is.
func (r *Replica) report(k Kind) {
	r.send(Message{Kind: k, To: r.assignment.Leader, Session: r.session, Epoch: r.LastEpoch(), Offset: r.end,
		Synced: r.reported(), BrokerEpoch: r.brokerEpoch})
}

// reported is up to where a follower says that it is on disk.
func (r *Replica) reported() kafka.Offset {
	if mutant.On(mutant.UnsyncedFollower) {
		return r.end
	}
	return r.durable()
}

func (r *Replica) stepFollower(now time.Time, m *Message) {
	if m.Kind == Append {
		if (m.Session == r.session || mutant.On(mutant.NoEpochFence)) && !r.follower.lost {
			r.onAppend(now, m)
		}
		return
	}
	if m.Session < r.session || m.Kind != Probe && m.BrokerEpoch != r.brokerEpoch {
		return // an old question, or one to this node before its restart
	}
	again := m.Session == r.session
	r.session = m.Session
	if again { // the answer was lost; what was asked is done
		r.report(State)
		return
	}
	if m.BrokerEpoch == r.brokerEpoch {
		r.follower = following{lostAt: r.follower.lostAt}
	} else { // the leader is to know yet that this is not the process that it has asked
		r.follower.lost = false
	}
	switch {
	case m.Kind == Truncate:
		if to := r.truncation(m.Epoch, m.Offset); to < r.end {
			r.cutting = cut{active: true, to: to}
			r.out.Truncate = &to
			return
		}
	case m.Kind == Reset && (r.start != m.Offset || r.end != m.Offset):
		to := m.Offset
		r.cutting = cut{active: true, reset: true, to: to, state: bytes.Clone(m.Records)}
		r.out.Reset = &Trim{to, r.cutting.state}
		return
	}
	r.report(State)
}

// truncation is where this log must be cut if the leader's has epoch up to
// end and nothing more of what could be in this one (KIP-279).
func (r *Replica) truncation(epoch kafka.LeaderEpoch, end kafka.Offset) kafka.Offset {
	to := min(end, r.end)
	if epoch != kafka.NoLeaderEpoch && !mutant.On(mutant.OwnEpochsIgnored) {
		_, own := r.epochs.floor(epoch, r.end)
		to = min(to, own)
	}
	if mutant.On(mutant.TruncateShort) {
		to = min(to+1, r.end)
	}
	return max(to, r.start)
}

// onAppend takes in batches, the high watermark and the log start.
func (r *Replica) onAppend(now time.Time, m *Message) {
	first := m.Offset
	if r.start == r.end && len(m.Records) > 0 && first == r.end {
		// The leader's log may start within a batch, which only an empty log can take.
		if b, _, err := record.Next(m.Records); err == nil && b.BaseOffset() < r.end && b.NextOffset() > r.end {
			to := b.BaseOffset()
			r.cutting = cut{active: true, reset: true, to: to, then: *m}
			r.cutting.then.Offset = to
			r.out.Reset = &Trim{to, r.producers.snapshotAt(to)}
			return
		}
	}
	own := r.LastEpoch()
	known := own != kafka.NoLeaderEpoch && m.Epoch != kafka.NoLeaderEpoch
	if first > r.end || first == r.end && known && own != m.Epoch {
		r.loseThread(now)
		return
	}
	records, end, ok := r.fitting(m)
	if !ok {
		r.loseThread(now)
		return
	}
	if len(records) == 0 {
		r.received(m, m.NeedsAck || len(m.Records) > 0)
		return
	}
	r.writing = write{active: true, records: records, end: end, message: *m}
	r.writing.message.Records = nil
	r.out.Write = records
}

// fitting is what of the append is not in the log yet: whole batches with
// rising offsets, of epochs that do not go back nor beyond the leader's.
func (r *Replica) fitting(m *Message) (records []byte, end kafka.Offset, ok bool) {
	records, end = m.Records, r.end
	epoch := r.LastEpoch()
	for rest := m.Records; len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil || b.LastOffsetDelta() < 0 || b.BaseOffset() < 0 {
			return nil, 0, false
		}
		if b.NextOffset() <= r.end {
			records = next
		} else if b.BaseOffset() < end || b.LeaderEpoch() < epoch || b.LeaderEpoch() > m.LeaderEpoch {
			return nil, 0, false
		} else {
			end, epoch = b.NextOffset(), b.LeaderEpoch()
		}
		rest = next
	}
	return records, end, true
}

// received goes on after the batches of an append, if any, are written.
func (r *Replica) received(m *Message, answer bool) {
	hw := min(m.HighWatermark, r.end)
	if mutant.On(mutant.MarkBeyondEnd) {
		hw = m.HighWatermark
	}
	if hw > r.highWatermark {
		r.highWatermark = hw
		r.producers.committed(hw)
	}
	if start := min(m.LogStart, r.end); start > r.start && !mutant.On(mutant.StartNotFollowed) {
		r.moveStart(start)
	}
	if answer && (r.config.Relaxed || r.synced == r.end || m.NeedsAck) {
		r.report(Stored)
	}
}

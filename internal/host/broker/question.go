package broker

import (
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/host/deadline"
)

// retryAfter is how long an asker waits before it asks again when there was no
// controller to answer; a change of controller makes it ask at once.
const retryAfter = 50 * time.Millisecond

// controlReply takes the answer to a request to the controller. Code is None
// exactly when there is a response.
type controlReply func(now time.Time, response controller.Response, code kafka.ErrorCode)

// question is a request to the controller that is not answered yet: one of
// this node's own, or one that a peer has sent to this node. The answer has a
// response if the code is None, or if it is NOT_CONTROLLER for what is done, but
// perhaps not known to all live nodes.
type question struct {
	answer func(now time.Time, r controller.Response, code kafka.ErrorCode, offset kafka.Offset)
}

// asked holds this node's own open questions. It belongs to the control loop.
type asked struct {
	next    uint64
	waiting map[uint64]*ownQuestion
	order   []uint64 // of waiting, oldest first; may name answered ones
	applied []appliedWait
}

type ownQuestion struct {
	id       uint64
	request  controller.Request
	reply    controlReply
	sentTo   kafka.NodeID      // NoNode: to be sent
	epoch    kafka.LeaderEpoch // of the controller that it was sent to
	deadline *deadline.Entry
	retry    *deadline.Entry
	sendings uint32
	noWait   bool // do not wait until the answer's change is applied here

	done controller.Response // a controller that resigned has done what is asked for; nil: not that this node knows
}

// appliedWait is an answer that waits for this node to have applied what it
// speaks of.
type appliedWait struct {
	offset kafka.Offset
	reply  func(now time.Time)
}

// Control has the active controller decide req, wherever it is, and asks again
// until timeout where there is none. The answer comes when the change is
// committed and this node has applied it; changes that clients rely on also
// wait for the other live nodes. Without an answer the code is
// REQUEST_TIMED_OUT; the change may still be made.
func (b *Broker) Control(_ time.Time, req controller.Request, timeout time.Duration, reply func(controller.Response, kafka.ErrorCode)) {
	b.env.Post(func(now time.Time) {
		b.ask(now, req, timeout, false, func(_ time.Time, r controller.Response, code kafka.ErrorCode) { reply(r, code) })
	})
}

// ask is Control on the control loop. With noWait the answer does not wait for
// this node to have applied it.
func (b *Broker) ask(now time.Time, req controller.Request, timeout time.Duration, noWait bool, reply controlReply) {
	if b.closed {
		reply(now, nil, kafka.ErrNotController)
		return
	}
	s := &b.asked
	s.next++
	q := &ownQuestion{id: s.next, request: b.knowAgain(req), reply: reply, sentTo: kafka.NoNode, noWait: noWait}
	s.waiting[q.id] = q
	if len(s.order) >= 2*len(s.waiting)+64 {
		s.order = slices.DeleteFunc(s.order, func(id uint64) bool { return s.waiting[id] == nil })
	}
	s.order = append(s.order, q.id)
	q.deadline = b.At(now.Add(timeout), func(time.Time) {
		b.env.Post(func(now time.Time) { b.settle(now, q.id, nil, kafka.ErrRequestTimedOut, 0) })
	})
	b.put(now, q)
	b.drain(now)
}

// put sends a question to the controller, if one is known.
func (b *Broker) put(now time.Time, q *ownQuestion) {
	to := b.quorumView.Load().Leader
	q.epoch = b.quorumView.Load().Epoch
	switch {
	case b.active != nil && b.active.begun:
		q.sentTo = b.opts.Node
		id := q.id
		b.decide(now, q.sending(), &question{func(now time.Time, r controller.Response, code kafka.ErrorCode, offset kafka.Offset) {
			b.settle(now, id, r, code, offset)
		}})
	case to != kafka.NoNode && to != b.opts.Node:
		q.sentTo = to
		b.sendQuestion(to, frameQuestion, q.id, q.sending())
	default:
		q.sentTo = kafka.NoNode // leaderChanged puts it again
	}
}

// settle takes the answer to one of this node's questions.
func (b *Broker) settle(now time.Time, id uint64, r controller.Response, code kafka.ErrorCode, offset kafka.Offset) {
	q, ok := b.asked.waiting[id]
	if !ok {
		return
	}
	if code == kafka.ErrNotController {
		q.sentTo = kafka.NoNode
		if q.done == nil {
			q.done = r
		}
		if !b.closed {
			b.putLater(now, q)
			return
		}
	}
	if code != kafka.None {
		r = nil
	} else if q.done != nil {
		r = q.done
	}
	delete(b.asked.waiting, id)
	q.deadline.Cancel()
	q.retry.Cancel()
	if code != kafka.None || q.noWait || b.image.Load().Offset() >= offset {
		q.reply(now, r, code)
		return
	}
	b.asked.applied = append(b.asked.applied, appliedWait{offset, func(now time.Time) { q.reply(now, r, code) }})
}

func (b *Broker) putLater(now time.Time, q *ownQuestion) {
	if q.retry != nil {
		return
	}
	q.retry = b.At(now.Add(retryAfter), func(time.Time) {
		b.env.Post(func(now time.Time) {
			q.retry = nil
			if b.asked.waiting[q.id] == q && q.sentTo == kafka.NoNode && !b.closed {
				b.put(now, q)
				b.drain(now)
				if q.sentTo == kafka.NoNode && b.asked.waiting[q.id] == q {
					b.putLater(now, q)
				}
			}
		})
	})
}

// leaderChanged asks the new controller what the old one has not answered. A
// question may be decided twice over by the two: see outcome.go.
func (s *asked) leaderChanged(b *Broker, now time.Time) {
	kept := s.order[:0]
	var again []*ownQuestion
	for _, id := range s.order {
		if q, ok := s.waiting[id]; ok {
			kept = append(kept, id)
			again = append(again, q)
		}
	}
	s.order = kept
	to, epoch := b.quorumView.Load().Leader, b.quorumView.Load().Epoch
	for _, q := range again {
		lost := q.sentTo != to || q.epoch != epoch // the same node may have led, and not, and lead again
		if s.waiting[q.id] == q && (lost || q.sentTo == b.opts.Node && !b.decidesFor(q)) {
			b.put(now, q)
		}
	}
}

// decidesFor says whether this node's controller has the question before it.
func (b *Broker) decidesFor(q *ownQuestion) bool {
	return b.active != nil && b.active.begun && q.sentTo == b.opts.Node
}

// imageMoved releases answers that waited for this node to apply them.
func (s *asked) imageMoved(now time.Time, offset kafka.Offset) {
	if len(s.applied) == 0 {
		return
	}
	waits := s.applied
	s.applied = nil
	for _, w := range waits {
		if offset >= w.offset {
			w.reply(now)
		} else {
			s.applied = append(s.applied, w)
		}
	}
}

package broker

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/controller"
)

// A heartbeat that is granted gives its node a lease. A controller that has
// been paused or cut off may have a successor that has fenced the node, and not
// know it yet: so it grants nothing before a majority of the voters has said,
// after the heartbeat came, that it leads still. Its successor can then only be
// elected later, and gives every node a whole session before it fences it.

// confirming is the grants that wait. It belongs to the active controller.
type confirming struct {
	round   uint64 // the last one that was asked
	done    uint64 // the last one that was answered
	waiting []unconfirmed
}

type unconfirmed struct {
	round    uint64 // that must be answered
	question *question
	response controller.Response
	offset   kafka.Offset
}

// grants says whether a response gives a lease.
func grants(r controller.Response) bool {
	h, ok := r.(controller.HeartbeatResult)
	return ok && h.Error == kafka.None && !h.Fenced && !mutant.On(mutant.GrantUnconfirmed)
}

// confirm answers the question once this node is sure to lead still. Rounds
// follow one another; who comes while one is under way waits for the next.
func (b *Broker) confirm(q *question, r controller.Response, offset kafka.Offset) {
	c := &b.active.confirming
	c.waiting = append(c.waiting, unconfirmed{c.round + 1, q, r, offset})
	if c.round == c.done {
		b.askRound()
	}
}

func (b *Broker) askRound() {
	c := &b.active.confirming
	c.round++
	b.quorum.Confirm(c.round)
}

// confirmed gives the answers that waited for a round.
func (b *Broker) confirmed(now time.Time, round uint64) {
	if b.active == nil || round <= b.active.confirming.done {
		return
	}
	c := &b.active.confirming
	c.done = round
	waiting := c.waiting
	c.waiting = nil
	for _, w := range waiting {
		if w.round > round {
			c.waiting = append(c.waiting, w)
		}
	}
	if len(c.waiting) > 0 {
		b.askRound()
	}
	for _, w := range waiting {
		if w.round <= round {
			w.question.answer(now, w.response, kafka.None, w.offset)
		}
	}
}

// refuse tells those who wait that this node is the controller no more.
func (c *confirming) refuse(now time.Time) {
	waiting := c.waiting
	c.waiting = nil
	for _, w := range waiting {
		w.question.answer(now, nil, kafka.ErrNotController, 0)
	}
}

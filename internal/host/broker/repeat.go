package broker

import (
	"encoding/binary"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// A connection that breaks loses what is on its way, a question as well as an
// answer. When there is a new one, open questions are asked again: by the asker
// if it was its connection, and on the controller's word (frameAgain) if it was
// the controller's. The controller knows a question again by the process and
// the number that it comes with, and decides it once. Heartbeats are not asked
// again: who beats sends another one soon, and a late one would tell of what is
// over.

// heardFor and heardMax bound the answers that the controller keeps for a peer.
// A repetition that comes later is left alone, and its asker waits until its
// timeout, as if no connection had come back.
const (
	heardFor = 30 * time.Second
	heardMax = 1024
)

// lifeShift divides a question's number: above are bits by which its process
// differs from others of the node, below them the process counts. They are 0 in
// the questions of releases that do not ask again.
const lifeShift = 40

// firstQuestion is the number before the first one of the process.
func firstQuestion(incarnation [16]byte) uint64 {
	return max(1, binary.BigEndian.Uint64(incarnation[:])>>lifeShift) << lifeShift
}

// heard is what an active controller keeps of the questions of a peer's process.
type heard struct {
	life      uint64
	questions map[uint64]*heardQuestion // by number: those that are open, and the last answered ones
	answered  []uint64                  // numbers, in the order of the answers
	forgotten uint64                    // the highest number of an answer that is not kept
}

type heardQuestion struct {
	answered bool
	at       time.Time
	response controller.Response
	code     kafka.ErrorCode
	offset   kafka.Offset
}

// hear has the active controller answer a peer's question, or answer it again.
// Repeated says that the peer has asked it before.
func (b *Broker) hear(now time.Time, from kafka.NodeID, id uint64, req controller.Request, repeated bool) {
	a, life := b.active, id>>lifeShift
	if _, beats := req.(controller.Heartbeat); beats || life == 0 || a == nil || !a.begun {
		b.decide(now, req, &question{func(_ time.Time, r controller.Response, code kafka.ErrorCode, offset kafka.Offset) {
			b.sendAnswer(from, id, r, code, offset)
		}})
		return
	}
	h := a.heard[from]
	if h == nil || h.life != life {
		h = &heard{life: life, questions: make(map[uint64]*heardQuestion)}
		a.heard[from] = h
	}
	h.forget(now)
	if q := h.questions[id]; q != nil {
		if q.answered {
			b.sendAnswer(from, id, q.response, q.code, q.offset)
		}
		return
	}
	if repeated && id <= h.forgotten {
		return
	}
	q := &heardQuestion{}
	h.questions[id] = q
	b.decide(now, req, &question{func(now time.Time, r controller.Response, code kafka.ErrorCode, offset kafka.Offset) {
		*q = heardQuestion{answered: true, at: now, response: r, code: code, offset: offset}
		h.answered = append(h.answered, id)
		h.forget(now)
		b.sendAnswer(from, id, r, code, offset)
	}})
}

func (h *heard) forget(now time.Time) {
	for len(h.answered) > 0 {
		id := h.answered[0]
		if len(h.answered) <= heardMax && now.Sub(h.questions[id].at) < heardFor {
			return
		}
		h.answered = h.answered[1:]
		h.forgotten = max(h.forgotten, id)
		delete(h.questions, id)
	}
}

// askAgain repeats the questions that the peer has not answered.
func (s *asked) askAgain(b *Broker, peer kafka.NodeID) {
	if b.closed || peer == b.opts.Node {
		return
	}
	for _, id := range s.order {
		q, ok := s.waiting[id]
		if !ok || q.sentTo != peer {
			continue
		}
		if _, beats := q.request.(controller.Heartbeat); !beats {
			b.sendQuestion(peer, frameRepeat, id, q.sending())
		}
	}
}

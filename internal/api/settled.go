package api

import (
	"time"

	"chronik/internal/base/kafka"
)

// leaderAnswer is an answer that names nodes which lead.
type leaderAnswer interface {
	// build makes the answer from the present Image.
	build()
	// names says whether the answer names a node of which gone is true.
	names(gone func(kafka.NodeID) bool) bool
	// send sends what was built last.
	send(now time.Time)
}

// settled sends an answer, once it names no node that seems to have ended and
// of which the cluster decides in a moment. A client whose connection was lost
// asks at once who leads now, before that decision; told that the lost node
// does, it waits for its back-off, up to 5 s, before it asks again. How long a
// node is waited for is bounded, and each is once: see broker.Doubts.
func (s *Server) settled(now time.Time, a leaderAnswer) {
	doubts := s.Broker.Doubts()
	a.build()
	if doubts == nil || !a.names(doubts.Of) {
		a.send(now)
		return
	}
	doubts.Moved(now, func(now time.Time) { // the control loop, which has the election to do
		s.Broker.At(now, func(now time.Time) { s.settled(now, a) })
	})
}

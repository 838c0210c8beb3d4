package api

import (
	"slices"
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
//
// The client may even know of the loss before this node has come round to
// noticing it; then the kernel is asked. What it knows it knows first: see
// transport.ClosedFirst.
func (s *Server) settled(now time.Time, a leaderAnswer) { s.settle(now, a, true) }

// settle looks for a connection that has just ended, if wanted.
func (s *Server) settle(now time.Time, a leaderAnswer, look bool) {
	again := func(now time.Time) { // on the control loop, which has the election to do
		s.Broker.At(now, func(now time.Time) { s.settle(now, a, false) })
	}
	doubts := s.Broker.Doubts()
	a.build()
	if doubts != nil && a.names(doubts.Of) {
		doubts.Moved(now, again)
		return
	}
	if look {
		connected := make([]kafka.NodeID, 0, 8)
		broken := kafka.NoNode
		if a.names(func(n kafka.NodeID) bool {
			switch {
			case n == kafka.NoNode || slices.Contains(connected, n):
				return false
			case s.Broker.Broken(n):
				broken = n
				return true
			}
			connected = append(connected, n)
			return false
		}) {
			s.Broker.NoteBroken(broken, again)
			return
		}
	}
	a.send(now)
}

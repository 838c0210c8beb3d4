package broker

import (
	"bytes"
	"testing"
	"time"

	"chronik/internal/base/kafka"
)

// follower is a node of the world that is not the controller.
func (w *world) follower() (n *worldNode, controller kafka.NodeID) {
	controller = w.nodes[1].b.Controller()
	return w.nodes[controller%kafka.NodeID(len(w.nodes))+1], controller
}

// A connection that breaks takes with it what was on its way. One heartbeat that
// is lost so, or its answer, must not cost the node its lease.
func TestALostHeartbeatCostsNoLease(t *testing.T) {
	for name, lost := range map[string]struct {
		kind byte
		text string
		to   bool // to the controller
	}{
		"question": {frameQuestion, "Heartbeat", true},
		"answer":   {frameAnswer, "HeartbeatResult", false},
	} {
		w := newWorld(t, 3)
		n, controller := w.follower()
		w.until("lease", func() bool { return n.b.MayServe(w.now) })
		losses := 0
		next := w.now
		w.lose = func(from, to kafka.NodeID, frame []byte) bool {
			heartbeat := (lost.to && from == n.id && to == controller || !lost.to && from == controller && to == n.id) &&
				frame[0] == lost.kind && bytes.Contains(frame, []byte(lost.text))
			if !heartbeat || w.now.Before(next) {
				return false
			}
			losses++
			next = w.now.Add(2 * time.Second)
			return true
		}
		for end := w.now.Add(10 * time.Second); w.now.Before(end); w.step() {
			if !n.b.MayServe(w.now) || n.b.Image().Broker(n.id).Fenced {
				t.Fatalf("%s: no lease after %d losses\n%s", name, losses, w.log.String())
			}
		}
		if losses != 5 {
			t.Errorf("%s: %d losses", name, losses)
		}
	}
}

// A grant waits until the controller is sure to lead; that a node is fenced, it
// says at once. What comes later then was decided earlier.
func TestAGrantThatIsOvertakenGivesNoLease(t *testing.T) {
	w := newWorld(t, 3)
	n, controller := w.follower()
	var held []byte
	w.lose = func(from, to kafka.NodeID, frame []byte) bool {
		if held != nil || from != controller || to != n.id || frame[0] != frameAnswer || !bytes.Contains(frame, []byte("HeartbeatResult")) {
			return false
		}
		held = bytes.Clone(frame)
		n.b.lifecycle.placed = false // it will ask to be fenced
		return true
	}
	for begun := w.now; !n.b.lifecycle.fenced; w.step() {
		if w.now.Sub(begun) > time.Second {
			t.Fatal("never told that it is fenced")
		}
	}
	if n.b.MayServe(w.now) {
		t.Fatal("a fenced node has a lease")
	}
	if err := n.b.HandleControl(w.now, controller, held); err != nil {
		t.Fatal(err)
	}
	if n.b.MayServe(w.now) {
		t.Error("a grant from before the fencing gives a lease")
	}
}

// A controller that resigns, because what it proposes is not taken while it hands
// over, may take up its part again in the same epoch. What the others then say to
// a round of before says nothing of the time after.
func TestNoRoundIsAskedTwiceInAnEpoch(t *testing.T) {
	w := newWorld(t, 3)
	_, controllerID := w.follower()
	b := w.nodes[controllerID].b
	epoch, before := b.active.epoch, b.active.confirming.round
	b.resign(w.now)
	w.until("the controller again", func() bool { return b.active != nil })
	if b.active.epoch != epoch {
		t.Fatalf("it leads in epoch %d, not in %d any more", b.active.epoch, epoch)
	}
	if again := b.active.confirming.done; again < before {
		t.Errorf("after round %d the next one is %d", before, again+1)
	}
}

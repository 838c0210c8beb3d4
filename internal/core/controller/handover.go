package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// A leader answers clients for as long as its lease lasts, so one that has lost
// its lead and does not know yet must hold back the new leader's high
// watermark, or it would tell of an end that is over. In the in-sync set it
// does: it acknowledges nothing in the new leader's epoch before it knows of
// it. So whatever is to drop the leader of a live node does it in two steps:
// first another is elected, and when the old leader has said that it knows, or
// is fenced, it goes. A reassignment waits with its completion, a node that
// stops with its shutdown, and a request that drops leaders with its decision.
// What a new leader drops from the in-sync set does not wait: that takes
// replica.lag.time.max.ms, 10 s by default, and a lease is over after a session of
// 1 s if a node is cut off. Only with a lag below the session would it matter.

// deposedLeader is a node that led a partition and stayed in sync.
type deposedLeader struct {
	partitionKey
	node kafka.NodeID
}

// noteLeads remembers who was deposed by a batch, and what is being reassigned.
func (c *Controller) noteLeads(offset kafka.Offset, delta *metadata.Delta) {
	for _, p := range delta.Partitions {
		key := partitionKey{p.Topic, p.Partition}
		delete(c.reassigned, key)
		if p.New != nil && p.New.Reassigning() {
			c.reassigned[key] = true
		}
		if p.Old != nil && p.New != nil && p.New.Leader != p.Old.Leader && p.New.IsInSync(p.Old.Leader) {
			c.deposed[deposedLeader{key, p.Old.Leader}] = offset
		}
	}
}

// mayTakeItselfForLeader says whether a node could answer clients as the leader
// of a partition after a change that gives or gave the lead to another.
func (d *draft) mayTakeItselfForLeader(t *metadata.Topic, i int32, node kafka.NodeID) bool {
	if !d.active(node) {
		return false
	}
	if t.Partition(i).Leader == node || d.partition(t, i).Leader == node {
		return true
	}
	since := max(d.c.started, d.c.deposed[deposedLeader{partitionKey{t.ID, i}, node}])
	s := d.c.sessions[node]
	return s == nil || s.applied < since
}

// finishReassignments drops the leaders that know by now that they were deposed.
func (d *draft) finishReassignments() {
	maps.DeleteFunc(d.c.deposed, func(l deposedLeader, since kafka.Offset) bool {
		s := d.c.sessions[l.node]
		return s == nil || s.applied >= since
	})
	for _, key := range slices.SortedFunc(maps.Keys(d.c.reassigned), partitionKey.compare) {
		t := d.image.Topic(key.topic)
		if p := d.partition(t, key.partition); p.Leader != kafka.NoNode {
			d.change(t, key.partition, keep(p, "the old leader knows that it is deposed"))
		}
	}
}

// waiting is a request that is decided when the leaders that it drops know that
// they are deposed.
type waiting struct {
	request Request
	ticket  Ticket
	until   time.Time
}

// handOverMax bounds how long a request waits for a live node that does not tell
// that it acts on the metadata.
const handOverMax = 10 * time.Second

// decideWaiting decides one of the waiting requests, if one need not wait any more.
func (d *draft) decideWaiting() []Reply {
	for i, w := range d.c.waiting {
		var response Response
		switch late := !d.now.Before(w.until); {
		case late:
			response = d.c.lateHandOver(w.request)
		case d.handsOver(w.request):
			continue
		default:
			response = d.c.answer(d, w.request)
		}
		d.c.waiting = slices.Delete(d.c.waiting, i, i+1)
		return []Reply{{w.ticket, response}}
	}
	return nil
}

func (c *Controller) lateHandOver(req Request) Response {
	s := status(kafka.ErrRequestTimedOut, fmt.Sprintf("A node that gives a lead to another has not told in %v that it knows.", handOverMax))
	if r, ok := req.(UnregisterBroker); ok {
		delete(c.going, r.Node)
		return StatusResult{s}
	}
	return AlterPartitionReassignmentsResult{Status: s}
}

// handsOver has others lead where a request is to drop the leader, and says
// whether one that it drops may still take itself for the leader.
func (d *draft) handsOver(req Request) (waits bool) {
	switch r := req.(type) {
	case UnregisterBroker:
		return d.mayUnregister(r).Error == kafka.None && d.handsOverLeads(r.Node, fmt.Sprintf("node %d is to be unregistered", r.Node))
	case AlterPartitionReassignments:
		for _, wanted := range r.Partitions {
			t := d.image.TopicByName(wanted.Topic)
			cancels := wanted.Replicas == nil && t.Partition(wanted.Partition) != nil && (!r.Again || d.sameMove(t, wanted))
			if cancels && d.cancelHandsOver(t, wanted.Partition) {
				waits = true
			}
		}
	}
	return waits
}

// handsOverLeads is handsOver for all that a node leads, where another can. It
// gets no lead back: two that go would pass theirs to and fro.
func (d *draft) handsOverLeads(node kafka.NodeID, cause string) (waits bool) {
	if !d.active(node) {
		return false
	}
	if d.c.going[node] == 0 {
		last := 0
		for _, order := range d.c.going {
			last = max(last, order)
		}
		d.c.going[node] = last + 1
	}
	d.eachPartition(func(t *metadata.Topic, i int32, p *metadata.Partition) {
		if !p.IsInSync(node) || !d.mayTakeItselfForLeader(t, i, node) {
			return
		}
		if p.Leader == node {
			w := keep(p, cause)
			w.yield = []kafka.NodeID{node}
			p = d.change(t, i, w)
		}
		waits = waits || p.Leader != node
	})
	return waits
}

// cancelHandsOver is handsOver for a reassignment that is to be cancelled: of
// those that it was to add one may lead already.
func (d *draft) cancelHandsOver(t *metadata.Topic, i int32) bool {
	p := d.partition(t, i)
	isNew := func(n kafka.NodeID) bool { return slices.Contains(p.Adding, n) }
	if len(without(p.InSync, isNew)) == 0 || d.cancelLosesCopies(t, p) {
		return false // refused, or an unclean election, which may lose more
	}
	if !slices.ContainsFunc(p.Adding, func(n kafka.NodeID) bool { return p.IsInSync(n) && d.mayTakeItselfForLeader(t, i, n) }) {
		return false
	}
	w := keep(p, "an operator cancels the reassignment")
	if w.completeReassignment(p, d.minInSync(t, p.Replicas), func(kafka.NodeID) bool { return true }); len(w.yield) > 0 {
		return true // it is done but for a leader that goes: to go back now would take longer than that
	}
	w.yield = p.Adding
	d.change(t, i, w)
	return true
}

func (k partitionKey) compare(o partitionKey) int {
	return cmp.Or(slices.Compare(k.topic[:], o.topic[:]), cmp.Compare(k.partition, o.partition))
}

package controller

import (
	"cmp"
	"maps"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// A leader answers clients for as long as its lease lasts, so one that has lost
// its lead and does not know yet must hold back the new leader's high
// watermark, or it would tell of an end that is over. In the in-sync set it
// does: it acknowledges nothing in the new leader's epoch before it knows of
// it. So a reassignment that is to drop the leader of a live node does it in
// two steps: first another is elected, and when the old leader has said that it
// knows, or is fenced, it goes.

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

func (k partitionKey) compare(o partitionKey) int {
	return cmp.Or(slices.Compare(k.topic[:], o.topic[:]), cmp.Compare(k.partition, o.partition))
}

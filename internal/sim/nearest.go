package sim

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// nearest is the node to read from. Now and then the leader is asked again.
func (r *reading) nearest(leader int) int {
	if r.near != nowhere && r.c.c.rng.IntN(40) == 0 {
		r.near = nowhere
	}
	if r.near == nowhere {
		return leader
	}
	return r.near
}

// serving notes, when the node answers, who is in sync as far as it knows.
func (r *reading) serving(node int, inSync *[]kafka.NodeID) func() {
	return func() {
		if t := r.c.c.w.nodes[node].broker.Image().Topic(r.part.topic.id); t != nil {
			if p := t.Partition(r.part.number); p != nil {
				*inSync = p.InSync
			}
		}
	}
}

// moves says whether the answer is that another replica is to be read, and has
// the reader do so.
func (r *reading) moves(got *kmsg.FetchResponseTopicPartition, leader int, inSync []kafka.NodeID) bool {
	if got.ErrorCode != 0 || got.PreferredReadReplica < 0 {
		return false
	}
	w := r.c.c.w
	near := int(got.PreferredReadReplica) - 1
	if near == leader || near >= len(w.nodes) || !slices.Contains(inSync, kafka.NodeID(near+1)) || w.plan.ways.rack(near) != r.c.rack || w.plan.ways.rack(leader) == r.c.rack {
		w.violate("consumers are sent to a replica in sync in their rack", "%s in %s reads %s from node %d, and is sent to node %d; in sync are %v", r.c.c.name, r.c.rack, r.part, leader+1, near+1, inSync)
		return true
	}
	r.near = near
	w.after(r.c.c.between(0, 5*millisecond), r.fetch)
	return true
}

// outran says whether the replica that was asked is not in sync any more, or
// not yet again, and has not come as far as this reader. Clients go back to the
// leader then, as KIP-392 has it.
func (r *reading) outran(got *kmsg.FetchResponseTopicPartition, leader, asked int, inSync []kafka.NodeID) bool {
	return kafka.ErrorCode(got.ErrorCode) == kafka.ErrOffsetOutOfRange && asked != leader && !slices.Contains(inSync, kafka.NodeID(asked+1))
}

package controller

import (
	"cmp"
	"fmt"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// brokerRing is the brokers in the order in which partitions are dealt out:
// from rack to rack and within a rack by id, so that neighbours stand in
// different racks where that can be.
type brokerRing struct {
	active []*metadata.Broker // may lead
	spare  []*metadata.Broker // fenced or shutting down: only where the active ones do not suffice
}

func (d *draft) ring() brokerRing {
	var r brokerRing
	for _, b := range d.image.Brokers() {
		if b = d.broker(b.ID); b.Active() {
			r.active = append(r.active, b)
		} else {
			r.spare = append(r.spare, b)
		}
	}
	r.active, r.spare = interleave(r.active), interleave(r.spare)
	return r
}

// interleave takes one broker of each rack in turn; racks come in the order of
// their lowest id.
func interleave(brokers []*metadata.Broker) []*metadata.Broker {
	var order []string
	racks := map[string][]*metadata.Broker{}
	for _, b := range brokers {
		if racks[b.Rack] == nil {
			order = append(order, b.Rack)
		}
		racks[b.Rack] = append(racks[b.Rack], b)
	}
	dealt := make([]*metadata.Broker, 0, len(brokers))
	for round := 0; len(dealt) < len(brokers); round++ {
		for _, rack := range order {
			if round < len(racks[rack]) {
				dealt = append(dealt, racks[rack][round])
			}
		}
	}
	return dealt
}

// leaderships counts the partitions of users' topics that prefer each broker
// as their leader.
func (d *draft) leaderships() map[kafka.NodeID]int {
	if d.leaders == nil {
		d.leaders = map[kafka.NodeID]int{}
		for _, t := range d.image.Topics() {
			if !kafka.IsInternalTopic(t.Name) {
				for _, p := range t.Partitions {
					d.leaders[p.Replicas[0]]++
				}
			}
		}
	}
	return d.leaders
}

// place chooses replicas for the partitions from first to first+count-1 of a
// topic: leaders go round the ring, starting after the broker of the partition
// before or, for a new topic, at the broker with the fewest leaderships.
func (d *draft) place(before *metadata.Partition, first, count int32, factor int) ([][]kafka.NodeID, Status) {
	ring := d.ring()
	if all := len(ring.active) + len(ring.spare); factor > all {
		return nil, status(kafka.ErrInvalidReplicationFactor,
			fmt.Sprintf("A replication factor of %d cannot be reached: %d brokers are registered.", factor, all))
	}
	if len(ring.active) == 0 {
		return nil, status(kafka.ErrInvalidReplicationFactor, "All brokers are fenced or shutting down.")
	}
	start := -1
	if before != nil {
		start = slices.IndexFunc(ring.active, func(b *metadata.Broker) bool { return b.ID == before.Replicas[0] })
	}
	if start >= 0 {
		start++
	} else {
		leads := d.leaderships()
		least := slices.MinFunc(ring.active, func(a, b *metadata.Broker) int { return cmp.Compare(leads[a.ID], leads[b.ID]) })
		start = slices.Index(ring.active, least)
	}
	placed := make([][]kafka.NodeID, count)
	for i := range placed {
		turn := (int(first) + i) / len(ring.active)
		placed[i] = ring.replicas(start+i, turn, factor)
	}
	return placed, Status{}
}

// replicas starts with the broker at the position. The others follow it round
// the ring, from another one in each turn so that not always the same two
// share partitions, and those in racks that have no replica yet come first.
func (r brokerRing) replicas(position, turn, factor int) []kafka.NodeID {
	n := len(r.active)
	leader := r.active[position%n]
	chosen := []kafka.NodeID{leader.ID}
	racks := map[string]bool{leader.Rack: true}
	var rest []*metadata.Broker
	for k := range n - 1 {
		rest = append(rest, r.active[(position+1+(turn+k)%(n-1))%n])
	}
	for _, tier := range [][]*metadata.Broker{rest, r.spare} {
		for _, freshRack := range []bool{true, false} {
			for _, b := range tier {
				if len(chosen) < factor && !slices.Contains(chosen, b.ID) && (!freshRack || !racks[b.Rack]) {
					chosen = append(chosen, b.ID)
					racks[b.Rack] = true
				}
			}
		}
	}
	return chosen
}

// checkReplicas refuses a list of replicas made by hand that cannot be.
func (d *draft) checkReplicas(replicas []kafka.NodeID) Status {
	if len(replicas) == 0 {
		return status(kafka.ErrInvalidReplicaAssignment, "The list of replicas is empty.")
	}
	for i, n := range replicas {
		if slices.Contains(replicas[:i], n) {
			return status(kafka.ErrInvalidReplicaAssignment, fmt.Sprintf("Node %d is in the list of replicas twice.", n))
		}
		if d.broker(n) == nil {
			return status(kafka.ErrInvalidReplicaAssignment, fmt.Sprintf("Node %d, which is in the list of replicas, is not registered.", n))
		}
	}
	return Status{}
}

// newPartition is a partition that begins on the replicas: those that are
// active are in sync, for there is nothing to have missed.
func (d *draft) newPartition(replicas []kafka.NodeID) *metadata.Partition {
	p := &metadata.Partition{
		Replicas: replicas, Leader: kafka.NoNode, LastLeader: kafka.NoNode,
		InSync: without(replicas, func(n kafka.NodeID) bool { return !d.active(n) }),
	}
	if len(p.InSync) > 0 {
		p.Leader = p.InSync[0]
	}
	return p
}

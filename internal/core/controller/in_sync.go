package controller

import (
	"fmt"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
)

// alterPartition checks a leader's wishes as replication rule 13 says, and
// grants those that hold.
func (d *draft) alterPartition(r AlterPartition) AlterPartitionResult {
	if s := d.checkBroker(r.Node, r.Epoch); s.Error != kafka.None {
		s.Error = kafka.ErrStaleBrokerEpoch
		return AlterPartitionResult{Status: s}
	}
	result := AlterPartitionResult{Partitions: make([]AlteredPartition, 0, len(r.Changes))}
	for _, c := range r.Changes {
		result.Partitions = append(result.Partitions, d.alterInSync(r.Node, c))
	}
	return result
}

func (d *draft) alterInSync(node kafka.NodeID, c InSyncChange) AlteredPartition {
	answer := AlteredPartition{Topic: c.Topic, Partition: c.Partition}
	t := d.image.Topic(c.Topic)
	if t == nil {
		answer.Status = status(kafka.ErrUnknownTopicID, fmt.Sprintf("There is no topic with id %s.", c.Topic))
		return answer
	}
	if t.Partition(c.Partition) == nil {
		answer.Status = status(kafka.ErrUnknownTopicOrPartition, fmt.Sprintf("Topic %q has no partition %d.", t.Name, c.Partition))
		return answer
	}
	p := d.partition(t, c.Partition)
	answer.State = p
	if answer.Status = d.checkInSync(node, p, c); answer.Error != kafka.None {
		return answer
	}
	w := keep(p, fmt.Sprintf("its leader, node %d, asked for it", node))
	w.inSync = make([]kafka.NodeID, len(c.InSync))
	for i, m := range c.InSync {
		w.inSync[i] = m.Node
	}
	if sameMembers(w.inSync, p.InSync) {
		w.inSync = p.InSync
	}
	w.recovering = c.Recovering
	answer.State = d.change(t, c.Partition, w)
	if answer.State.Leader != node {
		answer.Status = status(kafka.ErrNewLeaderElected, fmt.Sprintf("The change made node %d the leader.", answer.State.Leader))
	}
	return answer
}

func sameMembers(a, b []kafka.NodeID) bool {
	in := func(n kafka.NodeID) bool { return slices.Contains(b, n) }
	return len(a) == len(b) && len(without(a, in)) == 0
}

func (d *draft) checkInSync(node kafka.NodeID, p *metadata.Partition, c InSyncChange) Status {
	switch {
	case c.LeaderEpoch > p.LeaderEpoch || c.PartitionEpoch > p.PartitionEpoch:
		return status(kafka.ErrNotController, "The request knows a later state of the partition than this controller.")
	case c.LeaderEpoch < p.LeaderEpoch:
		return status(kafka.ErrFencedLeaderEpoch, fmt.Sprintf("Leader epoch %d is over, the present one is %d.", c.LeaderEpoch, p.LeaderEpoch))
	case node != p.Leader:
		return status(kafka.ErrInvalidRequest, fmt.Sprintf("Node %d asks, but node %d leads the partition.", node, p.Leader))
	case c.PartitionEpoch < p.PartitionEpoch && !mutant.On(mutant.InSyncOfOldState):
		return status(kafka.ErrInvalidUpdateVersion, fmt.Sprintf("Partition epoch %d is over, the present one is %d.", c.PartitionEpoch, p.PartitionEpoch))
	case c.Recovering && !p.Recovering:
		return status(kafka.ErrInvalidRequest, "A partition that has recovered cannot go back to recovering.")
	case c.Recovering && len(c.InSync) > 1:
		return status(kafka.ErrInvalidRequest, "The in-sync set of a partition that recovers is its leader alone.")
	}
	leads := false
	for i, m := range c.InSync {
		again := slices.ContainsFunc(c.InSync[:i], func(o InSyncMember) bool { return o.Node == m.Node })
		if again || !p.IsReplica(m.Node) {
			return status(kafka.ErrInvalidRequest, fmt.Sprintf("Node %d is in the wished-for in-sync set twice or has no replica.", m.Node))
		}
		leads = leads || m.Node == node
	}
	if !leads {
		return status(kafka.ErrInvalidRequest, "The wished-for in-sync set lacks the leader.")
	}
	for _, m := range c.InSync {
		if p.IsUnfit(m.Node) {
			return status(kafka.ErrIneligibleReplica, fmt.Sprintf("Node %d cannot use its replica.", m.Node))
		}
		b := d.broker(m.Node)
		if b == nil || !b.Active() && !mutant.On(mutant.InSyncInactive) {
			return status(kafka.ErrIneligibleReplica, fmt.Sprintf("Node %d is fenced, shutting down or not registered.", m.Node))
		}
		if m.Epoch != kafka.NoBrokerEpoch && m.Epoch != b.Epoch && !mutant.On(mutant.InSyncOfOldProcess) {
			return status(kafka.ErrIneligibleReplica,
				fmt.Sprintf("Node %d has broker epoch %d, not %d: it has started anew since it caught up.", m.Node, b.Epoch, m.Epoch))
		}
	}
	return Status{}
}

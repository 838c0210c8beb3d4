package controller

import (
	"fmt"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
)

// reportReplicas takes replicas that their broker cannot use out of the
// in-sync sets, and leadership from them; and lets them back when it can. Other
// replicas of the broker are not touched.
func (d *draft) reportReplicas(r ReportReplicas) ReportReplicasResult {
	if s := d.checkBroker(r.Node, r.Epoch); s.Error != kafka.None {
		s.Error = kafka.ErrStaleBrokerEpoch
		return ReportReplicasResult{Status: s}
	}
	result := ReportReplicasResult{Replicas: make([]ReportedReplica, 0, len(r.Replicas))}
	for _, report := range r.Replicas {
		result.Replicas = append(result.Replicas, ReportedReplica{d.reportReplica(r.Node, report), report.Topic, report.Partition})
	}
	return result
}

func (d *draft) reportReplica(node kafka.NodeID, r ReplicaReport) Status {
	t := d.image.Topic(r.Topic)
	if t == nil {
		return status(kafka.ErrUnknownTopicID, fmt.Sprintf("There is no topic with id %s.", r.Topic))
	}
	if t.Partition(r.Partition) == nil {
		return status(kafka.ErrUnknownTopicOrPartition, fmt.Sprintf("Topic %q has no partition %d.", t.Name, r.Partition))
	}
	p := d.partition(t, r.Partition)
	if !p.IsReplica(node) {
		return status(kafka.ErrInvalidRequest, fmt.Sprintf("Node %d has no replica of %s-%d.", node, t.Name, r.Partition))
	}
	is := func(u metadata.Unfit) bool { return u.Node == node }
	if r.Fitness == metadata.Fit {
		if !p.IsUnfit(node) {
			return Status{}
		}
		cause := fmt.Sprintf("node %d can use its replica again", node)
		d.event(Event{Kind: "replica returned", Topic: t.Name, Partition: r.Partition, Node: node, Cause: r.Cause})
		w := keep(p, cause)
		w.unfit = slices.DeleteFunc(slices.Clone(p.Unfit), is)
		d.change(t, r.Partition, w)
		return Status{}
	}
	if slices.Contains(p.Unfit, metadata.Unfit{Node: node, Fitness: r.Fitness, Cause: r.Cause}) {
		return Status{} // asked again because the answer was lost
	}
	if r.Fitness == metadata.Damaged || r.Fitness == metadata.Slow {
		if s := d.canDoWithout(t, p, node, r.Fitness); s.Error != kafka.None {
			return s
		}
	}
	w := keep(p, fmt.Sprintf("node %d cannot use its replica: %s", node, r.Cause))
	w.unfit = append(slices.DeleteFunc(slices.Clone(p.Unfit), is), metadata.Unfit{Node: node, Fitness: r.Fitness, Cause: r.Cause})
	w.inSync = without(p.InSync, func(n kafka.NodeID) bool { return n == node && !mutant.On(mutant.DamagedInSync) })
	switch {
	case r.Fitness == metadata.Damaged && !mutant.On(mutant.DamagedEligible):
		w.forget, w.erased = []kafka.NodeID{node}, []kafka.NodeID{node}
	case r.Fitness == metadata.Failed && !d.syncsEach(t.Name):
		w.forget = []kafka.NodeID{node}
	}
	d.event(Event{Kind: "replica " + r.Fitness.String(), Topic: t.Name, Partition: r.Partition, Node: node, Cause: r.Cause})
	d.change(t, r.Partition, w)
	return Status{}
}

// canDoWithout says whether a partition keeps a leader without a node, and if
// the node is only slow, the in-sync replicas that its topic asks for.
func (d *draft) canDoWithout(t *metadata.Topic, p *metadata.Partition, node kafka.NodeID, f metadata.Fitness) Status {
	least := 1
	if f == metadata.Slow {
		least = max(least, min(d.minInSync(t, p.Replicas), len(p.Replicas)))
	}
	rest := without(p.InSync, func(n kafka.NodeID) bool { return n == node })
	if len(rest) < least {
		return status(kafka.ErrNotEnoughReplicas, fmt.Sprintf("%s without node %d would have the in-sync set %v.", t.Name, node, rest))
	}
	return Status{}
}

// fitting is the replicas that are not fit, in the order of all of them.
func fitting(unfit []metadata.Unfit, replicas []kafka.NodeID) []metadata.Unfit {
	var list []metadata.Unfit
	for _, n := range replicas {
		for _, u := range unfit {
			if u.Node == n {
				list = append(list, u)
			}
		}
	}
	return list
}

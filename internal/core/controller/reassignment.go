package controller

import (
	"fmt"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
)

func (d *draft) alterReassignments(r AlterPartitionReassignments) AlterPartitionReassignmentsResult {
	result := AlterPartitionReassignmentsResult{Partitions: make([]PartitionStatus, 0, len(r.Partitions))}
	for _, wanted := range r.Partitions {
		t := d.image.TopicByName(wanted.Topic)
		s := status(kafka.ErrUnknownTopicOrPartition, fmt.Sprintf("There is no partition %d of topic %q.", wanted.Partition, wanted.Topic))
		if t.Partition(wanted.Partition) != nil {
			switch {
			case r.Again && !d.sameMove(t, wanted):
				s = d.reassignedSince(t, wanted)
			case wanted.Replicas == nil:
				s = d.cancelReassignment(t, wanted.Partition)
			default:
				s = d.reassign(t, wanted, r.RefuseReplicationFactorChanges)
			}
		}
		result.Partitions = append(result.Partitions, PartitionStatus{s, wanted.TopicPartition})
	}
	return result
}

// sameMove says whether a partition still is where it was, or on its way to
// where it was to go, when the request came that is asked for again.
func (d *draft) sameMove(t *metadata.Topic, wanted Reassignment) bool {
	known, p := wanted.Known, d.partition(t, wanted.Partition)
	if known == nil || known.Topic != t.ID {
		return known == nil
	}
	return slices.Equal(remaining(p.Replicas, p.Removing), remaining(known.Replicas, known.Removing))
}

// reassignedSince is the outcome for a partition that has been moved since: by
// this very request, which was asked before, or by another one, which stands.
func (d *draft) reassignedSince(t *metadata.Topic, wanted Reassignment) Status {
	p := d.partition(t, wanted.Partition)
	made := wanted.Replicas
	if made == nil {
		made = remaining(wanted.Known.Replicas, wanted.Known.Adding)
	}
	switch is := remaining(p.Replicas, p.Removing); {
	case wanted.Known.Topic == t.ID && slices.Equal(is, made) && (wanted.Replicas != nil || !p.Reassigning()):
		return Status{}
	case wanted.Replicas == nil && !p.Reassigning():
		return status(kafka.ErrNoReassignmentInProgress, "No reassignment of the partition is in progress.")
	default:
		return status(kafka.ErrRequestTimedOut,
			fmt.Sprintf("The controller was lost while it decided this, and the partition has been moved to %v since.", is))
	}
}

// remaining is where a partition is when those are gone that leave.
func remaining(replicas, leave []kafka.NodeID) []kafka.NodeID {
	return without(replicas, func(n kafka.NodeID) bool { return slices.Contains(leave, n) })
}

func (d *draft) reassign(t *metadata.Topic, wanted Reassignment, keepFactor bool) Status {
	target := slices.Clone(wanted.Replicas)
	if s := d.checkReplicas(target); s.Error != kafka.None {
		return s
	}
	p := d.partition(t, wanted.Partition)
	isNew := func(n kafka.NodeID) bool { return slices.Contains(p.Adding, n) }
	before := without(p.Replicas, isNew)
	if keepFactor && len(target) != len(before) {
		return status(kafka.ErrInvalidReplicationFactor,
			fmt.Sprintf("The partition has %d replicas, the target %d, and the request forbids to change their number.", len(before), len(target)))
	}
	w := keep(p, "an operator asked for a reassignment")
	w.adding = without(target, func(n kafka.NodeID) bool { return slices.Contains(before, n) })
	w.removing = without(p.Replicas, func(n kafka.NodeID) bool { return slices.Contains(target, n) })
	w.replicas = append(target, w.removing...)
	if slices.Equal(w.replicas, p.Replicas) && slices.Equal(w.adding, p.Adding) && slices.Equal(w.removing, p.Removing) {
		return Status{}
	}
	d.event(Event{Kind: "reassignment began", Topic: t.Name, Partition: wanted.Partition, Node: p.Leader,
		Detail: fmt.Sprintf("replicas %v to %v", p.Replicas, wanted.Replicas), Cause: w.cause})
	d.change(t, wanted.Partition, w)
	return Status{}
}

func (d *draft) cancelReassignment(t *metadata.Topic, i int32) Status {
	p := d.partition(t, i)
	if !p.Reassigning() {
		return status(kafka.ErrNoReassignmentInProgress, "No reassignment of the partition is in progress.")
	}
	isNew := func(n kafka.NodeID) bool { return slices.Contains(p.Adding, n) }
	w := keep(p, "an operator cancelled the reassignment")
	w.replicas, w.inSync, w.adding, w.removing = without(p.Replicas, isNew), without(p.InSync, isNew), nil, nil
	// Only the joining replicas may be left that have every committed record.
	eligible := without(p.EligibleLeader, isNew)
	if len(w.inSync) == 0 && len(p.InSync) > 0 && len(eligible) == 0 {
		if !d.topicConfig(t.Name).UncleanLeaderElection {
			return status(kafka.ErrInvalidReplicaAssignment,
				"Without the joining replicas the partition would need an unclean leader election, which its topic does not allow.")
		}
		w.elect = electUnclean
	} else if d.cancelLosesCopies(t, p) {
		return status(kafka.ErrInvalidReplicaAssignment, fmt.Sprintf("Without the joining replicas fewer than min.insync.replicas nodes would have what was acknowledged. "+
			"Have the partition moved to %v instead: the joining replicas go when those have it.", w.replicas))
	}
	d.event(Event{Kind: "reassignment cancelled", Topic: t.Name, Partition: i, Node: p.Leader,
		Detail: fmt.Sprintf("replicas %v to %v", p.Replicas, w.replicas), Cause: w.cause})
	d.change(t, i, w)
	return Status{}
}

// cancelLosesCopies says whether some of those who have what was acknowledged are
// only joining, and the others who have it are too few.
func (d *draft) cancelLosesCopies(t *metadata.Topic, p *metadata.Partition) bool {
	isNew := func(n kafka.NodeID) bool { return slices.Contains(p.Adding, n) }
	stay := without(p.Replicas, isNew)
	return losesCopies(slices.Concat(p.InSync, p.EligibleLeader), isNew, min(d.minInSync(t, p.Replicas), len(stay)))
}

func (d *draft) listReassignments(r ListPartitionReassignments) ListPartitionReassignmentsResult {
	var result ListPartitionReassignmentsResult
	asked := map[kafka.TopicPartition]bool{}
	for _, tp := range r.Partitions {
		asked[tp] = true
	}
	d.eachPartition(func(t *metadata.Topic, i int32, p *metadata.Partition) {
		tp := kafka.TopicPartition{Topic: t.Name, Partition: i}
		if p.Reassigning() && (r.Partitions == nil || asked[tp]) {
			result.Partitions = append(result.Partitions, OngoingReassignment{tp, p.Replicas, p.Adding, p.Removing})
		}
	})
	return result
}

// producerIDBlock is how many producer ids a broker gets at a time.
const producerIDBlock = 1000

func (d *draft) allocateProducerIDs(r AllocateProducerIDs) AllocateProducerIDsResult {
	if s := d.checkBroker(r.Node, r.Epoch); s.Error != kafka.None {
		s.Error = kafka.ErrStaleBrokerEpoch
		return AllocateProducerIDsResult{Status: s, First: kafka.NoProducerID}
	}
	first := d.image.NextProducerID()
	if mutant.On(mutant.ProducerIDsTwice) {
		return AllocateProducerIDsResult{First: first, Count: producerIDBlock}
	}
	d.records = append(d.records, &metadata.ProducerIDsRecord{Next: first + producerIDBlock})
	if mutant.On(mutant.IDsOverlap) {
		return AllocateProducerIDsResult{First: first, Count: producerIDBlock + 1}
	}
	return AllocateProducerIDsResult{First: first, Count: producerIDBlock}
}

package controller

import (
	"fmt"
	"slices"

	"chronik/internal/base/invariant"
	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
)

func mustFit(err error) {
	if err != nil {
		invariant.Checkf(false, "makes records that do not fit: %v", err)
	}
}

// election says whom a change of a partition may make its leader.
type election int8

const (
	electClean     election = iota // the leader, or else the first replica, that has all committed records
	electPreferred                 // the same, but the first replica before the leader
	electUnclean                   // any replica rather than none
)

// wish is what is to become of a partition; who leads follows from it.
type wish struct {
	replicas, inSync, adding, removing []kafka.NodeID
	recovering                         bool
	unfit                              []metadata.Unfit
	forget                             []kafka.NodeID // have lost committed records, so they are not eligible
	erased                             []kafka.NodeID // of forget: have lost everything
	elect                              election
	yield                              []kafka.NodeID // lead only if nobody else can: they go as soon as they know that they lead no more
	cause                              string
}

// keep is the wish that nothing of the partition changes.
func keep(p *metadata.Partition, cause string) wish {
	return wish{replicas: p.Replicas, inSync: p.InSync, adding: p.Adding, removing: p.Removing, recovering: p.Recovering, unfit: p.Unfit, cause: cause}
}

// change fulfils a wish for a partition: it completes a reassignment that can
// be, elects a leader if there is need, and counts the epochs. It returns the
// partition's state afterwards.
func (d *draft) change(t *metadata.Topic, i int32, w wish) *metadata.Partition {
	old := d.partition(t, i)
	least := d.minInSync(t, old.Replicas, w.replicas)
	completed := w.completeReassignment(old, least, func(n kafka.NodeID) bool {
		return slices.Contains(old.InSync, n) && d.mayTakeItselfForLeader(t, i, n)
	})
	topicConfig := d.topicConfig(t.Name)
	minInSync := min(least, len(w.replicas))
	if topicConfig.UncleanLeaderElection && w.elect == electClean {
		w.elect = electUnclean
	}

	p := &metadata.Partition{
		Replicas: w.replicas, InSync: w.inSync, Adding: w.adding, Removing: w.removing,
		EligibleLeader: w.eligible(old, minInSync),
		LastLeader:     old.LastLeader, Leader: kafka.NoNode,
		LeaderEpoch: old.LeaderEpoch, PartitionEpoch: old.PartitionEpoch, Recovering: w.recovering,
		Unfit: fitting(w.unfit, w.replicas),
	}
	if slices.Contains(w.erased, p.LastLeader) || !slices.Contains(p.Replicas, p.LastLeader) {
		p.LastLeader = kafka.NoNode
	}
	unclean := d.elect(p, old, w)
	if !slices.Contains(p.InSync, p.Leader) && p.Leader != kafka.NoNode {
		p.InSync = []kafka.NodeID{p.Leader}
		leads := func(n kafka.NodeID) bool { return n == p.Leader }
		p.EligibleLeader = without(p.EligibleLeader, leads)
		if unclean || minInSync <= 1 {
			p.EligibleLeader = nil
		}
	}
	p.Recovering = p.Recovering || unclean
	switch {
	case p.Leader != kafka.NoNode:
		p.LastLeader = kafka.NoNode
	case old.Leader != kafka.NoNode && !slices.Contains(w.erased, old.Leader) && slices.Contains(p.Replicas, old.Leader):
		p.LastLeader = old.Leader
	}
	if p.Equal(old) {
		return old
	}
	p.PartitionEpoch++
	dropped := func(n kafka.NodeID) bool { return !slices.Contains(p.Replicas, n) }
	if p.Leader != old.Leader || unclean || slices.ContainsFunc(old.Replicas, dropped) {
		p.LeaderEpoch++
	}
	d.setPartition(t.ID, i, p)
	d.tell(t.Name, i, old, p, w.cause, unclean, completed)
	return p
}

// minInSync is the least min.insync.replicas by which a partition's leaders have
// committed. Where it is not set for the topic or for all nodes each leader goes
// by its own setting, which may not be this node's.
func (d *draft) minInSync(t *metadata.Topic, replicas ...[]kafka.NodeID) int {
	const name = "min.insync.replicas"
	own := int(d.topicConfig(t.Name).MinInSync)
	for _, r := range [...]metadata.ConfigResource{{Type: metadata.ResourceTopic, Name: t.Name}, {Type: metadata.ResourceBroker}} {
		if _, ok := d.image.Config(r)[name]; ok {
			return own
		}
	}
	least := 0
	for _, list := range replicas {
		for _, n := range list {
			said := own
			if b := d.broker(n); b != nil && b.MinInSync > 0 {
				said = int(b.MinInSync)
			}
			if least == 0 || said < least {
				least = said
			}
		}
	}
	return least
}

// eligible is the set of replicas that have every committed record though
// they are not in sync (KIP-966). Nothing is committed while the in-sync set
// is smaller than the minimum, so those that leave it then stay eligible.
func (w *wish) eligible(old *metadata.Partition, minInSync int) []kafka.NodeID {
	if mutant.On(mutant.EligibleAtMinimum) {
		minInSync++
	}
	if len(w.inSync) >= minInSync {
		return nil
	}
	var eligible []kafka.NodeID
	for _, n := range w.replicas {
		if (old.IsInSync(n) || slices.Contains(old.EligibleLeader, n)) &&
			!slices.Contains(w.inSync, n) && !slices.Contains(w.forget, n) {
			eligible = append(eligible, n)
		}
	}
	return eligible
}

// elect sets the leader of p and says whether committed records may be lost by it.
func (d *draft) elect(p, old *metadata.Partition, w wish) (unclean bool) {
	able := func(n kafka.NodeID) bool { return d.active(n) && (!p.IsUnfit(n) || mutant.On(mutant.UnfitLeads)) }
	valid := func(n kafka.NodeID) bool {
		has := mutant.On(mutant.ElectAnyone) || slices.Contains(p.InSync, n) || len(p.InSync) == 0 && slices.Contains(p.EligibleLeader, n)
		return has && able(n) && slices.Contains(p.Replicas, n)
	}
	stays := func(n kafka.NodeID) bool { return valid(n) && d.c.going[n] == 0 }
	if slices.Contains(w.yield, old.Leader) {
		heir := func(n kafka.NodeID) bool { return stays(n) && !slices.Contains(w.yield, n) }
		i := slices.IndexFunc(p.Replicas, heir)
		if i < 0 {
			i = slices.IndexFunc(p.Replicas, func(n kafka.NodeID) bool {
				return valid(n) && !slices.Contains(w.yield, n) && d.c.going[n] > d.c.going[old.Leader]
			})
		}
		if i >= 0 {
			p.Leader = p.Replicas[i]
			return false
		}
	}
	if w.elect == electPreferred && len(p.Replicas) > 0 && stays(p.Replicas[0]) {
		p.Leader = p.Replicas[0]
		return false
	}
	if valid(old.Leader) {
		p.Leader = old.Leader
		return false
	}
	for _, may := range []func(kafka.NodeID) bool{stays, valid} {
		if i := slices.IndexFunc(p.Replicas, may); i >= 0 {
			p.Leader = p.Replicas[i]
			return false
		}
	}
	if len(p.InSync) == 0 && len(p.EligibleLeader) == 0 && p.LastLeader != kafka.NoNode && able(p.LastLeader) {
		p.Leader = p.LastLeader
		return true
	}
	if w.elect == electUnclean {
		if i := slices.IndexFunc(p.Replicas, able); i >= 0 {
			p.Leader = p.Replicas[i]
			return true
		}
	}
	return false
}

// completeReassignment drops the replicas that are to leave once the others
// have everything, and none that leaves may take itself for the leader.
func (w *wish) completeReassignment(old *metadata.Partition, minInSync int, mayLead func(kafka.NodeID) bool) bool {
	if len(w.adding) == 0 && len(w.removing) == 0 {
		return false
	}
	leaves := func(n kafka.NodeID) bool { return slices.Contains(w.removing, n) }
	inSync, replicas := without(w.inSync, leaves), without(w.replicas, leaves)
	missing := func(n kafka.NodeID) bool { return !slices.Contains(inSync, n) }
	if len(inSync) == 0 || slices.ContainsFunc(w.adding, missing) && !mutant.On(mutant.ReassignEarly) {
		return false
	}
	// With fewer replicas than before each of them counts.
	if len(replicas) < len(w.replicas)-len(w.adding) && slices.ContainsFunc(replicas, missing) {
		return false
	}
	if losesCopies(slices.Concat(w.inSync, w.eligible(old, minInSync)), leaves, min(minInSync, len(replicas))) {
		return false
	}
	if slices.ContainsFunc(w.inSync, func(n kafka.NodeID) bool { return leaves(n) && mayLead(n) }) {
		w.yield = append(slices.Clone(w.yield), w.removing...)
		return false
	}
	w.inSync, w.replicas, w.adding, w.removing = inSync, replicas, nil, nil
	return true
}

// losesCopies says whether some leave of those who have what was acknowledged, and
// fewer stay than it was acknowledged by.
func losesCopies(have []kafka.NodeID, leaves func(kafka.NodeID) bool, least int) bool {
	stay := without(have, leaves)
	return len(stay) < len(have) && len(stay) < least
}

func (d *draft) tell(topic string, i int32, old, p *metadata.Partition, cause string, unclean, completed bool) {
	e := Event{Topic: topic, Partition: i, Node: p.Leader, Cause: cause}
	if completed {
		e.Kind, e.Detail = "reassignment completed", fmt.Sprintf("replicas %v to %v", old.Replicas, p.Replicas)
		d.event(e)
	}
	inSync := fmt.Sprintf("in sync %v to %v", old.InSync, p.InSync)
	switch {
	case unclean:
		e.Kind = "leader elected uncleanly"
		e.Detail = fmt.Sprintf("leader %d to %d, leader epoch %d, %s; acknowledged records may be lost", old.Leader, p.Leader, p.LeaderEpoch, inSync)
	case p.Leader == kafka.NoNode && old.Leader != kafka.NoNode:
		e.Kind = "partition went offline"
		e.Detail = fmt.Sprintf("leader %d to none, %s; waits for one of %v", old.Leader, inSync, p.EligibleLeader)
	case p.Leader != old.Leader:
		e.Kind, e.Detail = "leader changed", fmt.Sprintf("leader %d to %d, leader epoch %d, %s", old.Leader, p.Leader, p.LeaderEpoch, inSync)
	case !slices.Equal(old.InSync, p.InSync):
		e.Kind, e.Detail = "in-sync set changed", inSync
	default:
		return
	}
	d.event(e)
}

// eachPartition calls fn for every partition, in the order of topic names. It
// must not be used for partitions that the draft creates.
func (d *draft) eachPartition(fn func(t *metadata.Topic, i int32, p *metadata.Partition)) {
	for _, t := range d.image.Topics() {
		for i := range t.Partitions {
			fn(t, int32(i), d.partition(t, int32(i)))
		}
	}
}

// electMissingLeaders elects a leader wherever one is missing and there is one to elect.
func (d *draft) electMissingLeaders(cause string) {
	d.eachPartition(func(t *metadata.Topic, i int32, p *metadata.Partition) {
		if p.Leader == kafka.NoNode && slices.ContainsFunc(p.Replicas, d.active) {
			d.change(t, i, keep(p, cause))
		}
	})
}

// electionsPerTickMax bounds the batch of one round of preferred elections.
const electionsPerTickMax = 1000

func (d *draft) electPreferredLeaders() {
	left := electionsPerTickMax
	d.eachPartition(func(t *metadata.Topic, i int32, p *metadata.Partition) {
		if left == 0 || p.Leader == p.Replicas[0] || !p.IsInSync(p.Replicas[0]) || !d.active(p.Replicas[0]) {
			return
		}
		left--
		w := keep(p, "leadership returned to the preferred replica")
		w.elect = electPreferred
		d.change(t, i, w)
	})
}

func (d *draft) electLeaders(r ElectLeaders) ElectLeadersResult {
	var result ElectLeadersResult
	needed := map[partitionKey]kafka.LeaderEpoch{}
	for _, k := range r.Needed {
		needed[partitionKey{k.Topic, k.Partition}] = k.Epoch
	}
	elect := func(t *metadata.Topic, i int32, p *metadata.Partition) Status {
		epoch, ok := needed[partitionKey{t.ID, i}]
		if r.Again && r.Unclean && p.Leader == kafka.NoNode && (!ok || epoch != p.LeaderEpoch) {
			return status(kafka.ErrRequestTimedOut, "The controller was lost while it held the election, and the partition has lost its leader since.")
		}
		s := d.electOne(t, i, p, r.Unclean)
		if r.Again && ok && s.Error == kafka.ErrElectionNotNeeded {
			s = Status{} // the answer was lost with its controller
		}
		return s
	}
	if r.Partitions == nil {
		d.eachPartition(func(t *metadata.Topic, i int32, p *metadata.Partition) {
			if s := elect(t, i, p); s.Error != kafka.ErrElectionNotNeeded {
				tp := kafka.TopicPartition{Topic: t.Name, Partition: i}
				result.Partitions = append(result.Partitions, PartitionStatus{s, tp})
			}
		})
		return result
	}
	for _, tp := range r.Partitions {
		t := d.image.TopicByName(tp.Topic)
		p := t.Partition(tp.Partition)
		s := status(kafka.ErrUnknownTopicOrPartition, fmt.Sprintf("There is no partition %d of topic %q.", tp.Partition, tp.Topic))
		if p != nil {
			s = elect(t, tp.Partition, d.partition(t, tp.Partition))
		}
		result.Partitions = append(result.Partitions, PartitionStatus{s, tp})
	}
	return result
}

func (d *draft) electOne(t *metadata.Topic, i int32, p *metadata.Partition, unclean bool) Status {
	w := keep(p, "an operator asked for it")
	if unclean {
		w.elect = electUnclean
		if p.Leader != kafka.NoNode {
			return status(kafka.ErrElectionNotNeeded, fmt.Sprintf("The partition has a leader, node %d.", p.Leader))
		}
		if d.change(t, i, w).Leader == kafka.NoNode {
			return status(kafka.ErrEligibleLeadersNotAvailable, "None of the partition's replicas is alive.")
		}
		return Status{}
	}
	w.elect = electPreferred
	if p.Leader == p.Replicas[0] {
		return status(kafka.ErrElectionNotNeeded, "The preferred replica leads the partition.")
	}
	if d.change(t, i, w).Leader != p.Replicas[0] {
		return status(kafka.ErrPreferredLeaderNotAvailable,
			fmt.Sprintf("The preferred replica, node %d, is not alive or not in sync.", p.Replicas[0]))
	}
	return Status{}
}

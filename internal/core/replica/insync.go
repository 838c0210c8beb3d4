package replica

import (
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// pendingChange is the wish for another in-sync set that is under way. There
// is one at a time.
type pendingChange struct {
	active bool
	seq    uint64
	set    []InSyncMember // with the processes that had caught up when the wish came up
	again  time.Time      // zero while an answer is awaited: when to ask again
}

// changeTimeout is how long the answer of a controller is waited for before
// the wish is repeated. It is only a net under a host that has to answer.
const changeTimeout = 30 * time.Second

// markInSync brings the followers' flags in line with the sets.
func (r *Replica) markInSync() {
	c := &r.leader.change
	for _, f := range r.leader.followers {
		f.inSync = slices.Contains(r.assignment.InSync, f.node)
		f.wanted = c.active && slices.ContainsFunc(c.set, func(m InSyncMember) bool { return m.Node == f.node })
	}
}

// reviewInSync asks for another in-sync set if followers have fallen behind or
// caught up.
func (r *Replica) reviewInSync(now time.Time) {
	l := &r.leader
	if l.change.active {
		if due(l.change.again, now) {
			r.wish(now, l.change.set)
		}
		return
	}
	if now.Before(l.changeAt) {
		return
	}
	l.changeAt = time.Time{}
	if r.assignment.Recovering {
		r.wish(now, r.members(r.assignment.InSync))
		return
	}
	lost, joined := 0, 0
	for _, f := range l.followers {
		if f.inSync && r.lags(now, f) {
			lost++
		}
		if !f.inSync && r.joins(now, f) {
			joined++
		}
	}
	if lost == 0 && joined == 0 {
		return
	}
	// Those who fall out go first: only one change is under way at a time.
	set := make([]kafka.NodeID, 0, len(r.assignment.Replicas))
	for _, node := range r.assignment.Replicas {
		i := slices.IndexFunc(l.followers, func(f *follower) bool { return f.node == node })
		switch {
		case i < 0:
			set = append(set, node)
		case l.followers[i].inSync && !(lost > 0 && r.lags(now, l.followers[i])):
			set = append(set, node)
		case !l.followers[i].inSync && lost == 0 && r.joins(now, l.followers[i]):
			set = append(set, node)
		}
	}
	r.wish(now, r.members(set))
}

// members names the processes of the nodes that this leader knows.
func (r *Replica) members(nodes []kafka.NodeID) []InSyncMember {
	set := make([]InSyncMember, 0, len(nodes))
	for _, node := range nodes {
		m := InSyncMember{node, r.brokerEpoch}
		for _, f := range r.leader.followers {
			if f.node == node {
				m.Epoch = f.seenEpoch
			}
		}
		set = append(set, m)
	}
	return set
}

// lags says whether a member of the in-sync set must leave it.
func (r *Replica) lags(now time.Time, f *follower) bool {
	if most := r.opts.LagRecordsMax; most > 0 && int64(r.end-f.synced) > most {
		return true
	}
	return f.synced < r.end && now.Sub(f.caughtUpAt) > r.opts.LagTimeMax
}

// joins says whether a follower may enter the in-sync set: it has all that is
// committed, all that was there when this leader began, and would not have to
// leave again at once.
func (r *Replica) joins(now time.Time, f *follower) bool {
	return f.eligible() && f.synced >= r.highWatermark &&
		(!r.lags(now, f) && f.synced >= r.leader.epochStart || mutant.On(mutant.JoinBeforeEpochStart))
}

// wish asks for an in-sync set. One that is repeated names the same processes: a
// new one of a node may have less than the one before had.
func (r *Replica) wish(now time.Time, set []InSyncMember) {
	l := &r.leader
	l.changeSeq++
	l.change = pendingChange{active: true, seq: l.changeSeq, set: set, again: now.Add(changeTimeout)}
	r.markInSync()
	r.out.InSync = &InSyncChange{Seq: l.changeSeq, LeaderEpoch: r.assignment.LeaderEpoch, PartitionEpoch: r.assignment.PartitionEpoch,
		InSync: slices.Clone(set)}
}

// InSyncResult takes in the controller's answer. A refusal that newer metadata
// will explain leaves the wish standing: until then it may have been granted,
// so that both sets count.
func (r *Replica) InSyncResult(now time.Time, res InSyncResult) {
	l := &r.leader
	if r.role != Leader || !l.change.active || res.Seq != l.change.seq {
		return
	}
	a := &r.assignment
	switch res.Code {
	case kafka.None:
		if res.LeaderEpoch != a.LeaderEpoch {
			return // the metadata will tell
		}
		l.change = pendingChange{}
		if res.PartitionEpoch >= a.PartitionEpoch {
			a.PartitionEpoch, a.InSync, a.Recovering = res.PartitionEpoch, slices.Clone(res.InSync), false
		}
	case kafka.ErrIneligibleReplica, kafka.ErrOperationNotAttempted:
		l.change = pendingChange{}
		l.changeAt = now.Add(r.opts.RetryMax)
	case kafka.ErrFencedLeaderEpoch, kafka.ErrInvalidUpdateVersion, kafka.ErrUnknownTopicOrPartition,
		kafka.ErrUnknownTopicID, kafka.ErrInvalidRequest, kafka.ErrNewLeaderElected:
		return
	default:
		l.change.again = now.Add(r.opts.RetryMin * 2)
		return
	}
	r.markInSync()
	r.advance(now)
}

func (r *Replica) wakeInSync() time.Time {
	l := &r.leader
	if l.change.active {
		return l.change.again
	}
	if !l.changeAt.IsZero() {
		return l.changeAt
	}
	var at time.Time
	for _, f := range l.followers {
		if f.inSync && f.synced < r.end {
			at = earlier(at, f.caughtUpAt.Add(r.opts.LagTimeMax+time.Millisecond))
		}
	}
	return at
}

package broker

import (
	"slices"
	"sync/atomic"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// Counts is what has happened to the partitions that this node leads since it
// started.
type Counts struct {
	Shrinks, Expands   int64 // of in-sync sets
	Elections, Unclean int64 // of this node, to lead a partition
}

type counts struct {
	shrinks, expands, elections, unclean atomic.Int64
}

// Counts may be called from any goroutine.
func (b *Broker) Counts() Counts {
	c := &b.counts
	return Counts{c.shrinks.Load(), c.expands.Load(), c.elections.Load(), c.unclean.Load()}
}

// note counts what has changed, and returns how many partitions the node leads
// since.
func (c *counts) note(node kafka.NodeID, d *metadata.Delta) (elected int) {
	for _, p := range d.Partitions {
		if p.New == nil || p.New.Leader != node {
			continue
		}
		if p.Old == nil || p.New.LeaderEpoch > p.Old.LeaderEpoch {
			elected++
			c.elections.Add(1)
			if p.New.Recovering {
				c.unclean.Add(1)
			}
		}
		if p.Old == nil {
			continue
		}
		lacks := func(set []kafka.NodeID) func(kafka.NodeID) bool {
			return func(n kafka.NodeID) bool { return !slices.Contains(set, n) }
		}
		if slices.ContainsFunc(p.Old.InSync, lacks(p.New.InSync)) {
			c.shrinks.Add(1)
		}
		if slices.ContainsFunc(p.New.InSync, lacks(p.Old.InSync)) {
			c.expands.Add(1)
		}
	}
	return elected
}

package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"

	"chronik/internal/host/partition"
	"chronik/internal/storage/wal"
)

// probeDisks looks at a node's disk now and then.
func (c *checkers) probeDisks() {
	rng := c.w.fork(partProbes)
	var later func()
	later = func() {
		c.w.after(second+instant(rng.Int64N(int64(4*second))), func() {
			n, survival := c.w.nodes[rng.IntN(len(c.w.nodes))], rng.Float64()
			if survival < 0.5 {
				c.durableNow(n)
			} else { // when there is something of which a half may survive
				c.probeAfter = rng.Float64() * float64(rng.IntN(2))
				c.probe = func(n *node) {
					if n.up && n.broker != nil {
						c.durable(n, n.broker.Partitions(), rng, survival)
					}
				}
			}
			c.timesFound(n, rng)
			later()
		})
	}
	later()
}

// unsynced is called when a node has something that is not synced. It is looked at
// now, or when more has come to it.
func (c *checkers) unsynced(n *node) {
	if probe := c.probe; probe != nil {
		c.probe = nil
		c.w.after(instant(c.probeAfter*n.disk.slow*float64(300*microsecond)), func() { probe(n) })
	}
}

// durableNow checks the logs of a node that runs.
func (c *checkers) durableNow(n *node) {
	if n.up && n.broker != nil {
		c.durable(n, n.broker.Partitions(), nil, 0)
	}
}

// logged has a node's disk looked at when it has just cut a log.
func (c *checkers) logged(n *node, message, line string) {
	switch message {
	case "log truncated", "log reset":
		c.w.after(0, func() { c.durableNow(n) })
		for _, p := range c.w.load.parts() {
			p.cut = p.cut || strings.Contains(line, fmt.Sprintf(" topic=%s partition=%d ", p.topic.name, p.number))
		}
	}
}

// durable checks that each replica that a node has, or had when it ended, would be
// found after a loss of power with all that counted as synced, whatever else has
// survived, and without what was cut off.
func (c *checkers) durable(n *node, all []*partition.Partition, rng *rand.Rand, survival float64) {
	if c.w.flips.wanted || n.dark {
		return // the disk has lost more than power takes, or its process has gone on after it
	}
	after := n.disk.mem.Crash(rng, survival)
	after.SetCapacity(0) // what is there, not what could be added, is looked at
	for _, hosted := range all {
		s := hosted.Status()
		if hosted.Failure() != nil || c.w.stopped {
			continue
		}
		dir := path.Join("/data/wal/partitions", fmt.Sprintf("%s-%d", hosted.Topic(), hosted.Number()))
		id := wal.Identity{TopicID: hosted.TopicID(), Partition: hosted.Number()}
		log, rec, err := wal.Open(after, dir, id, wal.Options{}, n.time())
		if errors.Is(err, wal.ErrForeign) && s.Synced == 0 {
			continue // the log of a topic that had the name was put away; that is durable with the first sync
		}
		if err != nil {
			c.w.violate("what is synced survives", "%s-%d on node %d: %v", hosted.Topic(), hosted.Number(), n.id, err)
			return
		}
		if rec.Damage != nil || len(rec.Damages) > 0 {
			c.w.violate("what is synced survives", "%s-%d on node %d would be damaged after a loss of power: %v %v", hosted.Topic(), hosted.Number(), n.id, rec.Damage, rec.Damages)
		}
		start := s.LogStart
		if n.midCall {
			// The core is ahead of a trim that did not get done, and told nobody:
			// what is sent and answered waits for it.
			start = hosted.LogStart()
		}
		if b := log.Bounds(); b.End < s.Synced || b.End > s.End || b.Start < start {
			c.w.violate("what is synced survives", "%s-%d on node %d would be from %d to %d after a loss of power, but was from %d to %d and synced up to %d",
				hosted.Topic(), hosted.Number(), n.id, b.Start, b.End, start, s.End, s.Synced)
		}
		log.Abandon()
	}
}

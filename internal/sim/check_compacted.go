package sim

import (
	"fmt"
	"strconv"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// compacted says in which way the replicas of a partition are not compacted,
// though they should be by now: a record in a sealed segment is followed by
// another of its key in such segments. Topics that wait until half of the log is
// to be compacted, however long that takes, are passed over.
func (c *checkers) compacted(p *topicPart) string {
	soon := p.topic.configs["min.cleanable.dirty.ratio"] == "0.01" || p.topic.configs["max.compaction.lag.ms"] != "" && !c.w.faults.has("step clock")
	if p.topic.kind != compacted || !soon || p.topic.relaxed { // which waits for the next sync
		return ""
	}
	for _, n := range c.w.nodes {
		hosted := n.broker.Partition(p.topic.id, p.number)
		sealed := segmentsIn(n.disk.mem, logDir(p))
		if hosted == nil || len(sealed) == 0 {
			continue
		}
		all, problem := wholeLog(n, hosted)
		if problem != "" {
			return fmt.Sprintf("node %d: %s", n.id, problem)
		}
		if o, next, ok := superseded(all, sealed[len(sealed)-1].end); ok {
			return fmt.Sprintf("node %d still has the record at %d, and one of its key at %d", n.id, o, next)
		}
	}
	return ""
}

// superseded finds a record below an offset whose key comes again below it.
func superseded(all []byte, end kafka.Offset) (at, next kafka.Offset, ok bool) {
	var scratch record.Scratch
	last := make(map[string]kafka.Offset)
	for len(all) > 0 {
		b, rest, _ := record.Next(all)
		for it := b.Records(&scratch); it.Next(); {
			r := it.Record()
			if r.Offset >= end {
				return 0, 0, false
			}
			if was, again := last[string(r.Key)]; again {
				return was, r.Offset, true
			}
			last[string(r.Key)] = r.Offset
		}
		all = rest
	}
	return 0, 0, false
}

// deleteDay is the default of delete.retention.ms.
const deleteDay = 24 * 3600 * 1000

// horizon checks that tombstones in a batch are to go as long after they were first
// seen by a pass as their topic says, by clocks that are off by no more than an hour.
func (c *checkers) horizon(p *topicPart, b record.Batch, n *node) bool {
	if !b.HasDeleteHorizon() {
		return true
	}
	retention := int64(deleteDay)
	if ms, err := strconv.ParseInt(p.topic.configs["delete.retention.ms"], 10, 64); err == nil {
		retention = ms
	}
	began, now := epoch/1e6, (epoch+int64(c.w.now))/1e6
	if h := b.DeleteHorizon(); h < began+retention-clocksOff || h > now+retention+clocksOff {
		c.w.violate("tombstones stay for delete.retention.ms", "%s on node %d: those from %d to %d go at %d, which is %d ms after the beginning and %d ms from now; delete.retention.ms is %d",
			p, n.id, b.BaseOffset(), b.LastOffset(), h, h-began, h-now, retention)
		return false
	}
	return true
}

// clocksOff is more than wall clocks are ever off by, ms.
const clocksOff = 3600 * 1000

package sim

import (
	"fmt"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// compacted says in which way the replicas of a partition are not compacted,
// though they should be by now: a record in a sealed segment is followed by
// another of its key in such segments. Topics that wait until half of the log is
// to be compacted are passed over.
func (c *checkers) compacted(p *topicPart) string {
	if p.topic.kind != compacted || p.topic.configs["min.cleanable.dirty.ratio"] != "0.01" || p.topic.relaxed { // which waits for the next sync
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

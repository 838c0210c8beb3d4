package sim

import (
	"math/rand/v2"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
)

// timed is a record of a log.
type timed struct {
	at kafka.Offset
	ms int64
}

// timesFound checks that a node finds the records of the logs that it leads by
// their time, all of them, committed or not: what was cut off or compacted away is
// not looked for.
func (c *checkers) timesFound(n *node, rng *rand.Rand) {
	if !n.up || n.broker == nil || c.w.flips.wanted {
		return
	}
	for _, hosted := range n.broker.Partitions() {
		p := c.part(hosted.TopicID(), hosted.Number())
		if _, leads := hosted.Leads(); !leads || p == nil || c.w.stopped {
			continue
		}
		all, ok := allTimes(n, hosted)
		if !ok || len(all) == 0 {
			continue
		}
		largest := all[0]
		for _, r := range all {
			if r.ms > largest.ms {
				largest = r
			}
		}
		c.timeFound(p, n, hosted, kafka.TimestampMax, largest)
		ms := all[rng.IntN(len(all))].ms
		for _, r := range all {
			if r.ms >= ms {
				c.timeFound(p, n, hosted, ms, r)
				break
			}
		}
	}
}

// timeFound checks that a leader answers, as to another replica, that a record is
// the one of a time.
func (c *checkers) timeFound(p *topicPart, n *node, hosted *partition.Partition, ms int64, want timed) {
	got := hosted.ListOffsets(n.time(), partition.ListOffsetsRequest{Timestamp: ms, ReplicaID: n.id, CurrentLeaderEpoch: kafka.NoLeaderEpoch})
	if got.Code == kafka.None && (got.Offset != want.at || got.Timestamp != want.ms) {
		c.w.violate("records are found by time", "%s: node %d says for %d that offset %d is of %d, but its log has offset %d of %d", p, n.id, ms, got.Offset, got.Timestamp, want.at, want.ms)
	}
}

// allTimes lists the records of a log to its end. It says no when they cannot be read.
func allTimes(n *node, hosted *partition.Partition) (all []timed, ok bool) {
	var scratch record.Scratch
	start := hosted.LogStart()
	for at := start; at < hosted.LogEnd(); {
		res := hosted.Read(n.time(), partition.ReadRequest{Offset: at, MaxBytes: 1 << 20, MinOneMessage: true, CurrentLeaderEpoch: kafka.NoLeaderEpoch,
			LastFetchedEpoch: kafka.NoLeaderEpoch, ReplicaID: n.id})
		if res.Code != kafka.None || len(res.Records) == 0 {
			return nil, false
		}
		for rest := res.Records; len(rest) > 0; {
			b, more, err := record.Next(rest)
			if err != nil {
				return nil, false
			}
			for it := b.Records(&scratch); it.Next(); {
				if r := it.Record(); r.Offset >= start {
					all = append(all, timed{r.Offset, r.Timestamp})
				}
			}
			at, rest = b.NextOffset(), more
		}
	}
	return all, true
}

package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/format/offsets"
	"chronik/internal/format/record"
)

// partOffsets is the chance of what happens to the topic of committed offsets.
const partOffsets = 1<<15 + 2

// compactOffsets has the topic of committed offsets compacted all the time, from
// the moment on in which there is one. Its tombstones stay, as in a cluster in
// which no replica is away for a day.
func (l *load) compactOffsets() {
	if !l.w.plan.compactOffsets {
		return
	}
	rng, c := l.w.fork(partOffsets), l.w.newClient("offsets")
	configs := map[string]string{
		"internal.segment.bytes":    fmt.Sprint(2048 << rng.IntN(3)),
		"min.cleanable.dirty.ratio": []string{"0.01", "0.5"}[rng.IntN(2)],
		"max.compaction.lag.ms":     fmt.Sprint(1000 + rng.IntN(10000)),
	}
	var ask func()
	ask = func() {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Version = 1
		rr := kmsg.NewIncrementalAlterConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, kafka.TopicConsumerOffsets
		for _, name := range sortedKeys(configs) {
			rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			rc.Name, rc.Value = name, kmsg.StringPtr(configs[name])
			rr.Configs = append(rr.Configs, rc)
		}
		req.Resources = append(req.Resources, rr)
		c.call(rng.IntN(len(l.w.nodes)), req, 8*second, func(r kmsg.Response, err error) {
			if err != nil || r.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode != 0 {
				l.w.after(c.between(second, 2*second), ask)
				return
			}
			l.w.note(notePhase, nowhere, nowhere, 0, 0, fmt.Sprintf("committed offsets are compacted: %v", configs))
		})
	}
	l.w.after(2*second, ask)
}

// offsetsLogs checks that each replica of the topic of committed offsets says
// the same of every key, whatever each has compacted, and what clients were told.
func (c *checkers) offsetsLogs() {
	var topic *metadata.Topic
	for _, n := range c.w.nodes {
		if t := n.broker.Image().TopicByName(kafka.TopicConsumerOffsets); t != nil {
			topic = t
		}
	}
	if topic == nil {
		return
	}
	committed := make(map[string]int64) // by group and partition; -1: the last record deletes it
	for number := range topic.Partitions {
		all := c.offsetsOf(topic, int32(number))
		for i := range all {
			for k := range i {
				c.sameOffsets(fmt.Sprintf("%s-%d", topic.Name, number), all[i], all[k])
			}
		}
		if c.w.stopped {
			return
		}
		latest := make(map[string]lastRecord)
		for _, l := range all { // of which some may not know all to be committed
			for key, last := range l.last {
				if known, ok := latest[key]; !ok || last.at > known.at {
					latest[key] = last
				}
			}
		}
		for key, last := range latest {
			r, err := offsets.Decode([]byte(key), last.value)
			if o, ok := r.(offsets.OffsetCommit); err == nil && ok {
				name := fmt.Sprintf("%s %s-%d", o.Group, o.Topic, o.Partition)
				if committed[name] = -1; o.Value != nil {
					committed[name] = int64(o.Value.Offset)
				}
			}
		}
	}
	for _, m := range c.w.load.committer {
		if m.part == nil || m.part.topic.deleted || m.acked < 0 || c.w.plan.groups.shortRetention {
			continue
		}
		if got, ok := committed[fmt.Sprintf("%s %s", m.group, m.part)]; !ok || got != m.acked && got != m.sent && !m.maybe[got] {
			c.w.violate("committed offsets do not go back", "%s: the log says %d for %s, or nothing (%v); %d was acknowledged", m.group, got, m.part, !ok, m.acked)
			return
		}
	}
}

// offsetsLog is what a replica of committed offsets says, up to where it knows
// it to be committed.
type offsetsLog struct {
	n    *node
	end  kafka.Offset
	last map[string]lastRecord
}

// lastRecord is the last record of a key; one without a value deletes it.
type lastRecord struct {
	at    kafka.Offset
	value []byte
}

func (c *checkers) offsetsOf(topic *metadata.Topic, number int32) (all []offsetsLog) {
	for _, n := range c.w.nodes {
		hosted := n.broker.Partition(topic.ID, number)
		if hosted == nil {
			continue
		}
		b, problem := wholeLog(n, hosted)
		if problem != "" {
			c.w.violate("replicas can be read", "%s-%d on node %d: %s", topic.Name, number, n.id, problem)
			return nil
		}
		l := offsetsLog{n, hosted.HighWatermark(), make(map[string]lastRecord)}
		var scratch record.Scratch
		for len(b) > 0 {
			batch, rest, _ := record.Next(b) // whole, as wholeLog has seen
			for it := batch.Records(&scratch); it.Next(); {
				r := it.Record()
				l.last[string(r.Key)] = lastRecord{r.Offset, bytes.Clone(r.Value)}
			}
			b = rest
		}
		all = append(all, l)
	}
	return all
}

// sameOffsets compares two replicas. What one knows to be committed and the other
// does not yet is no difference.
func (c *checkers) sameOffsets(partition string, a, b offsetsLog) {
	keys := make(map[string]bool)
	for k := range a.last {
		keys[k] = true
	}
	for k := range b.last {
		keys[k] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		x, inA := a.last[key]
		y, inB := b.last[key]
		news := inA && x.at >= b.end || inB && y.at >= a.end
		if !news && (inA != inB || x.at != y.at || !bytes.Equal(x.value, y.value)) {
			c.w.violate("compaction keeps the last record of each key", "%s: of key %q node %d has %x at offset %d (%v), node %d has %x at %d (%v)",
				partition, key, a.n.id, x.value, x.at, inA, b.n.id, y.value, y.at, inB)
			return
		}
	}
}

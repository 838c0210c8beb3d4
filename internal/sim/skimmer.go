package sim

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// skimmer reads here and there: from several partitions at once, with little
// room in the answers.
type skimmer struct {
	c *client
	l *load
}

func newSkimmer(l *load) *skimmer { return &skimmer{c: l.w.newClient("skimmer"), l: l} }

func (s *skimmer) start() {
	s.c.w.after(s.c.between(100*millisecond, 800*millisecond), func() {
		s.skim()
		s.start()
	})
}

// skimmed is what was asked of one partition.
type skimmed struct {
	part *topicPart
	at   kafka.Offset
	most int32 // bytes
}

// at asks for what a partition has at an offset, and for others as skim does.
func (s *skimmer) at(p *topicPart, offset kafka.Offset) { s.ask(p, offset) }

// skim asks the leader of some partition for that and others that it leads.
func (s *skimmer) skim() { s.ask(nil, 0) }

func (s *skimmer) ask(first *topicPart, offset kafka.Offset) {
	rng := s.c.rng
	var asked []skimmed
	h := leaderHint{node: nowhere}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MinBytes, req.SessionEpoch = 12, -1, 1, -1
	req.MaxBytes, req.MaxWaitMillis, req.IsolationLevel = 1<<rng.IntN(16), int32(rng.IntN(200)), int8(rng.IntN(2))
	if rng.IntN(3) == 0 {
		req.MinBytes = 1 << rng.IntN(13)
	}
	parts := s.l.parts()
	order := rng.Perm(len(parts))
	if i := slices.Index(parts, first); i >= 0 {
		order = append([]int{i}, order...)
	}
	for at, i := range order {
		p := parts[i]
		if at > 0 && p == first {
			continue
		}
		to, ok := s.c.leader(p)
		if !ok || p.topic.again || h.node != nowhere && to.node != h.node || len(asked) == 4 {
			continue
		}
		h = to
		a := skimmed{p, kafka.Offset(rng.Int64N(int64(p.committed) + 1)), 1 << rng.IntN(15)}
		if p == first {
			a.at = offset
		}
		asked = append(asked, a)
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = p.number, int64(a.at), a.most, to.epoch
		rt := kmsg.NewFetchRequestTopic()
		rt.Topic, rt.Partitions = p.topic.name, []kmsg.FetchRequestTopicPartition{rp}
		req.Topics = append(req.Topics, rt)
	}
	if len(asked) == 0 {
		return
	}
	s.c.call(h.node, req, s.l.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err != nil {
			s.c.refresh()
			return
		}
		s.answered(asked, req.MaxBytes, r.(*kmsg.FetchResponse), h.node)
	})
}

// answered checks that each partition has one answer, which keeps to the room
// there was, but for the first batch.
func (s *skimmer) answered(asked []skimmed, most int32, resp *kmsg.FetchResponse, node int) {
	w := s.c.w
	var got []kmsg.FetchResponseTopicPartition
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if i := len(got); i >= len(asked) || asked[i].part.topic.name != t.Topic || asked[i].part.number != p.Partition {
				w.violate("each partition of a request is answered", "node %d answers %s-%d in place %d of %d", node+1, t.Topic, p.Partition, i, len(asked))
				return
			}
			got = append(got, p)
		}
	}
	if len(got) != len(asked) {
		w.violate("each partition of a request is answered", "node %d answers %d of %d", node+1, len(got), len(asked))
		return
	}
	total, all, large := 0, 0, false
	for i := range got {
		a, size := &asked[i], len(got[i].RecordBatches)
		if a.part.topic.deleted {
			return
		}
		if code := kafka.ErrorCode(got[i].ErrorCode); code != kafka.None {
			if code == kafka.ErrOffsetOutOfRange && a.at >= a.part.startMax() {
				w.violate("what was read once can be read on", "%s from node %d at offset %d: %v", a.part, node+1, a.at, code)
				return
			}
			s.c.refresh()
			continue
		}
		batches, ok := s.read(a, &got[i], node)
		if !ok {
			return
		}
		// Where the answer waited, the first batch is that of whoever had one first.
		if first := batches == 1 && !large; size > int(a.most) && !first {
			w.violate("answers are no larger than asked for", "%s from node %d at offset %d: %d batches in %d bytes, behind %d; %d were asked for, and %d in all", a.part, node+1, a.at, batches, size, total, a.most, most)
			return
		}
		large = large || size > int(a.most)
		all += batches
		total += size
	}
	if total > int(most) && all > 1 {
		w.violate("answers are no larger than asked for", "%d batches in %d bytes from node %d; %d were asked for in all", all, total, node+1, most)
	}
}

// read checks what was read of one partition, and counts the batches.
func (s *skimmer) read(a *skimmed, got *kmsg.FetchResponseTopicPartition, node int) (batches int, ok bool) {
	w := s.c.w
	next := a.at
	var scratch record.Scratch
	for rest := got.RecordBatches; len(rest) > 0; batches++ {
		b, more, err := record.Next(rest)
		if err != nil || !b.VerifyCRC() {
			w.violate("what is read is whole", "%s at offset %d from node %d: batch %d: %v", a.part, next, node+1, batches, err)
			return batches, false
		}
		if gap := b.BaseOffset() > next || batches > 0 && b.BaseOffset() != next; b.NextOffset() <= next || gap && a.part.topic.kind != compacted {
			w.violate("no gaps", "%s from node %d: a batch from %d to %d, read was from %d", a.part, node+1, b.BaseOffset(), b.LastOffset(), next)
			return batches, false
		}
		for it := b.Records(&scratch); it.Next(); {
			if !w.check.record(a.part, it.Record(), int32(b.LeaderEpoch()), fmt.Sprintf("skimmed from node %d", node+1)) {
				return batches, false
			}
		}
		next, rest = b.NextOffset(), more
	}
	if next > a.at && next > kafka.Offset(got.HighWatermark) {
		w.violate("only committed records are read", "%s from node %d up to %d, but the high watermark is %d", a.part, node+1, next, got.HighWatermark)
		return batches, false
	}
	if !w.check.stable(a.part, got, node) {
		return batches, false
	}
	w.check.read(a.part, next)
	return batches, true
}

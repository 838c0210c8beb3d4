package sim

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// prober asks where partitions begin and end, where records of a time are, and
// where leader epochs end.
type prober struct {
	c *client
	l *load
}

func newProber(l *load) *prober { return &prober{c: l.w.newClient("prober"), l: l} }

func (p *prober) start() {
	p.c.w.after(p.c.between(20*millisecond, 150*millisecond), func() {
		if parts := p.l.parts(); len(parts) > 0 {
			part := parts[p.c.rng.IntN(len(parts))]
			switch what := p.c.rng.IntN(8); {
			case p.c.rng.IntN(12) == 0:
				p.askIDs()
			case p.c.rng.IntN(20) == 0:
				p.askPartitions(nil)
			case p.c.rng.IntN(20) == 0:
				p.askProducers(part)
			case part.topic.again: // its requests name no id
			case what < 4:
				p.askEnd(part)
			case what < 6:
				p.askTime(part)
			case what < 7 && p.c.rng.IntN(3) == 0:
				p.askDiverging(part)
			case what < 7:
				p.askEpoch(part)
			default:
				p.askStart(part)
			}
		}
		p.start()
	})
}

// askIDs has producer ids given away, for nobody. Some seeds have more of them
// asked for of one node than it gets at a time.
func (p *prober) askIDs() {
	if !p.c.w.plan.manyIDs {
		p.askID(p.c.rng.IntN(len(p.c.w.nodes)))
		return
	}
	for range 200 {
		p.askID(0)
	}
}

func (p *prober) askID(node int) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionTimeoutMillis = 4, 60_000
	req.ProducerID, req.ProducerEpoch = -1, -1
	p.c.call(node, req, 3*second, func(r kmsg.Response, err error) {
		if err != nil {
			return
		}
		if got := r.(*kmsg.InitProducerIDResponse); got.ErrorCode == 0 {
			p.c.w.check.producerID(got.ProducerID, "the prober")
		}
	})
}

// askPartitions asks for all partitions, or those of some topics, a few at a time.
func (p *prober) askPartitions(from *kmsg.DescribeTopicPartitionsRequestCursor) {
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit, req.Cursor = 1+p.c.rng.Int32N(8), from
	if from == nil && p.c.rng.IntN(3) == 0 {
		for _, t := range p.l.topics {
			if rt := kmsg.NewDescribeTopicPartitionsRequestTopic(); p.c.rng.IntN(2) == 0 {
				rt.Topic = t.name
				req.Topics = append(req.Topics, rt)
			}
		}
	}
	p.c.call(p.c.rng.IntN(len(p.c.w.nodes)), req, p.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err != nil || len(req.Topics) > 0 {
			return
		}
		if next := r.(*kmsg.DescribeTopicPartitionsResponse).NextCursor; next != nil {
			cursor := kmsg.NewDescribeTopicPartitionsRequestCursor()
			cursor.Topic, cursor.Partition = next.Topic, next.Partition
			p.askPartitions(&cursor)
		}
	})
}

// askProducers asks what is known of the producers of a partition.
func (p *prober) askProducers(part *topicPart) {
	h, ok := p.c.leader(part)
	if !ok {
		return
	}
	req := kmsg.NewPtrDescribeProducersRequest()
	rt := kmsg.NewDescribeProducersRequestTopic()
	rt.Topic, rt.Partitions = part.topic.name, []int32{part.number}
	req.Topics = append(req.Topics, rt)
	p.c.call(h.node, req, p.c.w.plan.requestTimeout, func(kmsg.Response, error) {})
}

// epoch is the leader epoch that a request names: none, the one that the client
// knows, or seldom one beside it.
func (p *prober) epoch(part *topicPart) int32 {
	h, ok := p.c.leader(part)
	if !ok || p.c.rng.IntN(2) == 0 {
		return -1
	}
	if p.c.rng.IntN(8) == 0 {
		return max(-1, h.epoch-1+2*p.c.rng.Int32N(2))
	}
	return h.epoch
}

func listOffsets(part *topicPart, timestamp int64, version int16) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = version, -1
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = part.number, timestamp, -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic, rt.Partitions = part.topic.name, []kmsg.ListOffsetsRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	return req
}

// target is whom to ask: the leader, or one who may think that it still leads.
func (p *prober) target(part *topicPart) (int, bool) {
	h, ok := p.c.leader(part)
	if ok && p.c.rng.IntN(2) == 0 {
		return p.c.rng.IntN(len(p.c.w.nodes)), true
	}
	return h.node, ok
}

// list asks one question, and passes on what was answered without an error.
func (p *prober) list(part *topicPart, timestamp int64, version int16, then func(node int, got *kmsg.ListOffsetsResponseTopicPartition)) {
	node, ok := p.target(part)
	if !ok {
		return
	}
	req := listOffsets(part, timestamp, version)
	req.IsolationLevel, req.Topics[0].Partitions[0].CurrentLeaderEpoch = int8(p.c.rng.IntN(2)), p.epoch(part)
	p.c.call(node, req, p.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err != nil || part.topic.deleted {
			p.c.refresh()
			return
		}
		got := r.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		if got.ErrorCode != 0 {
			p.c.refresh()
			return
		}
		then(node, &got)
	})
}

func (p *prober) askEnd(part *topicPart) {
	least := part.committed
	p.list(part, -1, 6, func(node int, got *kmsg.ListOffsetsResponseTopicPartition) {
		p.c.w.check.end(part, kafka.Offset(got.Offset), least, node)
	})
}

func (p *prober) askStart(part *topicPart) {
	trimmed, known := part.trimmedTo, slices.Clone(part.epochs)
	p.list(part, -2, 6, func(node int, got *kmsg.ListOffsetsResponseTopicPartition) {
		p.c.w.check.start(part, kafka.Offset(got.Offset), trimmed, node)
		p.c.w.check.epochOf(part, got, known, node)
	})
}

func (p *prober) askTime(part *topicPart) {
	if len(part.truth) == 0 {
		return
	}
	s := part.sent(kafka.Offset(p.c.rng.IntN(len(part.truth))))
	if s == nil {
		return
	}
	ms, least, trimmed := s.stamp+p.c.rng.Int64N(100)-50, part.committed, part.trimmedTo
	if p.c.rng.IntN(6) == 0 {
		ms = -3 // the record with the largest timestamp
	}
	known := slices.Clone(part.epochs)
	p.list(part, ms, 7, func(node int, got *kmsg.ListOffsetsResponseTopicPartition) {
		p.c.w.check.epochOf(part, got, known, node)
		p.c.w.check.time(part, ms, got, least, trimmed, node)
	})
}

func (p *prober) askEpoch(part *topicPart) {
	node, ok := p.target(part)
	if !ok || len(part.epochs) == 0 {
		return
	}
	last := part.epochs[len(part.epochs)-1]
	epoch, current := int32(p.c.rng.IntN(int(last.epoch)+2)), int32(-1)
	if h, ok := p.c.leader(part); ok && p.c.rng.IntN(2) == 0 {
		node, epoch, current = h.node, h.epoch, h.epoch // which only who leads in that epoch answers
	}
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.Version, req.ReplicaID = 4, -1
	rp := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	rp.Partition, rp.CurrentLeaderEpoch, rp.LeaderEpoch = part.number, current, epoch
	rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
	rt.Topic, rt.Partitions = part.topic.name, []kmsg.OffsetForLeaderEpochRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	known, least := append([]epochSpan(nil), part.epochs...), part.committed
	p.c.call(node, req, p.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err != nil || part.topic.deleted {
			return
		}
		got := r.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
		if got.ErrorCode == 0 {
			p.c.w.check.epochEnd(part, epoch, &got, known, node)
			if current >= 0 {
				p.c.w.check.ownEpochEnd(part, epoch, &got, least, node)
			}
		}
	})
}

// askDiverging reads on as one who has got, as the last record before, one of an epoch
// that was over by then (KIP-320): who leads must say so, and where that epoch ends.
func (p *prober) askDiverging(part *topicPart) {
	h, ok := p.c.leader(part)
	if !ok || part.topic.kind != plain || len(part.epochs) < 2 {
		return
	}
	i := p.c.rng.IntN(len(part.epochs) - 1)
	was, next := part.epochs[i], part.epochs[i+1]
	if next.first == next.last {
		return
	}
	from := next.first + 1 + kafka.Offset(p.c.rng.Int64N(int64(next.last-next.first)))
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MinBytes, req.MaxBytes, req.SessionEpoch = 12, -1, 1, 1<<20, -1
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch = part.number, int64(from), 64<<10, -1, was.epoch
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.Partitions = part.topic.name, []kmsg.FetchRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	led := p.c.w.check.leadsNow(part, h.node)
	p.c.call(h.node, req, p.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		// Others may have to drop what they have of the epoch that is over.
		if err != nil || part.topic.deleted || led == kafka.NoLeaderEpoch || led != p.c.w.check.leadsNow(part, h.node) {
			return
		}
		resp := r.(*kmsg.FetchResponse)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			return
		}
		got := &resp.Topics[0].Partitions[0]
		end := kafka.Offset(got.DivergingEpoch.EndOffset)
		if len(got.RecordBatches) > 0 || end >= 0 && (end <= was.last || end > next.first || got.DivergingEpoch.Epoch > was.epoch) {
			p.c.w.violate("who has read another log is told so", "%s at offset %d after epoch %d, of which records were read up to %d, and of the next from %d on: node %d gives %d bytes, and says that epoch %d ends at %d",
				part, from, was.epoch, was.last, next.first, h.node+1, len(got.RecordBatches), got.DivergingEpoch.Epoch, end)
		}
	})
}

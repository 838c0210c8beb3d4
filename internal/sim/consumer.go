package sim

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// consumer reads all partitions from their beginning, and some of them again.
type consumer struct {
	c       *client
	l       *load
	version int16
	wait    int32
	reads   []*reading
	scratch record.Scratch
}

// reading is where a consumer is in one partition.
type reading struct {
	c      *consumer
	part   *topicPart
	next   kafka.Offset
	epoch  int32 // leader epoch of the last batch; -1: none
	rounds int
	last   string
}

func newConsumer(l *load, number int) *consumer {
	c := &consumer{c: l.w.newClient(fmt.Sprintf("consumer%d", number)), l: l}
	c.version = []int16{4, 11, 12, 13, 16}[c.c.rng.IntN(5)]
	c.wait = int32(100 + c.c.rng.IntN(900))
	return c
}

func (c *consumer) take(t *topicState) {
	for _, p := range t.parts {
		r := &reading{c: c, part: p, epoch: -1}
		c.reads = append(c.reads, r)
		c.c.w.after(c.c.between(0, 200*millisecond), r.fetch)
	}
}

func (r *reading) later() {
	c := r.c.c
	c.w.after(c.between(10*millisecond, 100*millisecond), r.fetch)
}

func (r *reading) fetch() {
	c := r.c.c
	if r.part.topic.deleted || c.w.stopped {
		return
	}
	h, ok := c.leader(r.part)
	if !ok {
		r.later()
		return
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MinBytes, req.MaxBytes, req.SessionEpoch, req.MaxWaitMillis = r.c.version, -1, 1, 1<<20, -1, r.c.wait
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch, p.LastFetchedEpoch = r.part.number, int64(r.next), 64<<10, h.epoch, r.epoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = r.part.topic.name, r.part.topic.id, []kmsg.FetchRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
	c.call(h.node, req, c.w.plan.requestTimeout, func(resp kmsg.Response, err error) {
		if r.part.topic.deleted {
			return
		}
		if err != nil {
			r.last = err.Error()
			c.refresh()
			r.later()
			return
		}
		got := resp.(*kmsg.FetchResponse)
		if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
			r.last = kafka.ErrorCode(got.ErrorCode).String()
			c.refresh()
			r.later()
			return
		}
		r.got(h, &got.Topics[0].Partitions[0])
	})
}

func (r *reading) got(h leaderHint, got *kmsg.FetchResponseTopicPartition) {
	c, w := r.c.c, r.c.c.w
	code := kafka.ErrorCode(got.ErrorCode)
	r.last = code.String()
	switch code {
	case kafka.None:
	case kafka.ErrNotLeaderOrFollower, kafka.ErrUnknownTopicOrPartition, kafka.ErrUnknownTopicID, kafka.ErrLeaderNotAvailable,
		kafka.ErrFencedLeaderEpoch, kafka.ErrUnknownLeaderEpoch, kafka.ErrOffsetNotAvailable, kafka.ErrKafkaStorageError:
		if got.CurrentLeader.LeaderID > 0 {
			c.learn(r.part, kafka.NodeID(got.CurrentLeader.LeaderID), got.CurrentLeader.LeaderEpoch)
		} else {
			c.refresh()
		}
		r.later()
		return
	default:
		w.violate("what was read once can be read on", "%s got %v from node %d for %s at offset %d", c.name, code, h.node+1, r.part, r.next)
		return
	}
	if got.DivergingEpoch.EndOffset >= 0 {
		w.violate("what was read is not taken back", "%s reads %s at offset %d, last epoch %d, and node %d says that its log diverges: epoch %d ends at %d",
			c.name, r.part, r.next, r.epoch, h.node+1, got.DivergingEpoch.Epoch, got.DivergingEpoch.EndOffset)
		return
	}
	start := r.next
	for rest := got.RecordBatches; len(rest) > 0; {
		b, more, err := record.Next(rest)
		if err != nil {
			if len(rest) < len(got.RecordBatches) {
				break // cut off, as Kafka may
			}
			w.violate("what is read is whole", "%s: %s at offset %d: %v", c.name, r.part, r.next, err)
			return
		}
		rest = more
		if !r.batch(h, b) {
			return
		}
	}
	if r.next > start && r.next > kafka.Offset(got.HighWatermark) {
		w.violate("only committed records are read", "%s reads %s up to %d but the high watermark is %d", c.name, r.part, r.next, got.HighWatermark)
		return
	}
	w.check.read(r.part, r.next)
	if r.next > start && c.rng.IntN(400) == 0 && r.rounds < 3 {
		r.next, r.epoch = 0, -1
		r.rounds++
	}
	if r.next == start && len(got.RecordBatches) == 0 {
		w.after(c.between(0, 20*millisecond), r.fetch)
		return
	}
	w.after(c.between(0, 5*millisecond), r.fetch)
}

// batch checks one batch.
func (r *reading) batch(h leaderHint, b record.Batch) bool {
	w := r.c.c.w
	if !b.VerifyCRC() {
		w.violate("what is read is whole", "%s at offset %d from node %d: checksum", r.part, b.BaseOffset(), h.node+1)
		return false
	}
	if int32(b.LeaderEpoch()) < r.epoch {
		w.violate("leader epochs do not go back", "%s at offset %d: epoch %d after %d", r.part, b.BaseOffset(), b.LeaderEpoch(), r.epoch)
		return false
	}
	for it := b.Records(&r.c.scratch); it.Next(); {
		rec := it.Record()
		at := rec.Offset
		if at < r.next {
			continue
		}
		if at != r.next {
			w.violate("no gaps", "%s: offset %d follows %d", r.part, at, r.next-1)
			return false
		}
		if len(rec.Value) < 8 {
			w.violate("what is read was written", "%s at offset %d: %d bytes", r.part, at, len(rec.Value))
			return false
		}
		v := value(binary.BigEndian.Uint64(rec.Value))
		if !w.check.holds(r.part, at, v, fmt.Sprintf("read by %s from node %d", r.c.c.name, h.node+1)) {
			return false
		}
		r.next = at + 1
	}
	r.epoch = int32(b.LeaderEpoch())
	return true
}

// prober asks for the ends of partitions, which must not go back.
type prober struct {
	c *client
	l *load
}

func newProber(l *load) *prober { return &prober{c: l.w.newClient("prober"), l: l} }

func (p *prober) start() {
	p.c.w.after(p.c.between(20*millisecond, 150*millisecond), func() {
		if parts := p.l.parts(); len(parts) > 0 {
			p.ask(parts[p.c.rng.IntN(len(parts))])
		}
		p.start()
	})
}

func (p *prober) ask(part *topicPart) {
	h, ok := p.c.leader(part)
	if !ok {
		return
	}
	node := h.node
	if p.c.rng.IntN(2) == 0 {
		node = p.c.rng.IntN(len(p.c.w.nodes)) // who may think that it still leads
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 6, -1
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = part.number, -1, -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic, rt.Partitions = part.topic.name, []kmsg.ListOffsetsRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	least := part.committed
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
		p.c.w.check.end(part, kafka.Offset(got.Offset), least, node)
	})
}

package sim

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// consumer reads all partitions from their beginning, and some of them again.
type consumer struct {
	c        *client
	l        *load
	version  int16
	wait     int32
	minBytes int32  // of an answer, but at the end of its wait
	sessions bool   // reads several partitions at a time, in fetch sessions
	maxBytes int32  // of their answers
	rack     string // "": none
	isolated bool   // reads only what is of no transaction, or of one that is committed: here that is all
	reads    []*reading
	scratch  record.Scratch
}

// reading is where a consumer is in one partition.
type reading struct {
	c      *consumer
	part   *topicPart
	next   kafka.Offset
	epoch  int32 // leader epoch of the last batch; -1: none
	rounds int
	near   int // the node that the leader has named to read from, in the consumer's rack; nowhere: none
	last   string
	end    kafka.Offset // the high watermark when nothing more was to be read
	ready  bool         // in sessions: it is to be fetched
}

func newConsumer(l *load, number int) *consumer {
	c := &consumer{c: l.w.newClient(fmt.Sprintf("consumer%d", number)), l: l}
	c.version = []int16{4, 11, 12, 13, 16}[c.c.rng.IntN(5)]
	c.wait = int32(100 + c.c.rng.IntN(900))
	if c.sessions = c.c.rng.IntN(3) == 0; c.sessions {
		c.version, c.maxBytes = max(c.version, 12), []int32{2000, 1 << 20}[c.c.rng.IntN(2)]
		c.fetchers()
	}
	c.rack = l.w.plan.ways.rack(number)
	c.minBytes = []int32{1, 1, 1, 300, 3000}[c.c.rng.IntN(5)]
	c.isolated = c.c.rng.IntN(2) == 0
	return c
}

// isolation is the isolation level of a request.
func isolation(isolated bool) int8 {
	if isolated {
		return 1
	}
	return 0
}

// patience is how long a request waits for records, ms. While the cluster drains
// it is short: each request holds up those behind it, and those who come back to
// be read. With small segments what is left would take minutes else.
func (c *consumer) patience() int32 {
	if c.l.draining {
		return min(c.wait, 20)
	}
	return c.wait
}

func (c *consumer) take(p *topicPart) {
	r := &reading{c: c, part: p, epoch: -1, near: nowhere}
	c.reads = append(c.reads, r)
	c.c.w.after(c.c.between(0, 200*millisecond), r.fetch)
}

func (r *reading) later() {
	c := r.c.c
	c.w.after(c.between(10*millisecond, 100*millisecond), r.fetch)
}

func (r *reading) fetch() {
	c := r.c.c
	if r.inSessions() {
		r.ready = true
		c.leader(r.part)
		return
	}
	if r.part.topic.deleted || c.w.stopped {
		return
	}
	h, ok := c.leader(r.part)
	if !ok {
		r.later()
		return
	}
	trimmed := r.part.trimmedTo
	leader := h.node
	if h.node = r.nearest(leader); h.node != leader {
		trimmed = 0 // followers come after
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MinBytes, req.MaxBytes, req.SessionEpoch, req.MaxWaitMillis = r.c.version, -1, r.c.minBytes, 1<<20, -1, r.c.patience()
	if r.part.topic.again {
		req.Version = max(req.Version, 13)
	}
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch, p.LastFetchedEpoch = r.part.number, int64(r.next), 64<<10, h.epoch, r.epoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = r.part.topic.name, r.part.topic.id, []kmsg.FetchRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
	req.Rack, req.IsolationLevel = r.c.rack, isolation(r.c.isolated)
	var inSync []kafka.NodeID // when the node answered, as far as it knew
	k := c.call(h.node, req, c.w.plan.requestTimeout, func(resp kmsg.Response, err error) {
		if r.part.topic.deleted {
			return
		}
		if err != nil {
			r.last, r.near = err.Error(), nowhere
			c.refresh()
			r.later()
			return
		}
		got := resp.(*kmsg.FetchResponse)
		if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
			r.last, r.near = kafka.ErrorCode(got.ErrorCode).String(), nowhere
			c.refresh()
			r.later()
			return
		}
		fp := &got.Topics[0].Partitions[0]
		if r.moves(fp, leader, inSync) {
			return
		}
		if r.outran(fp, leader, h.node, inSync) {
			r.near = nowhere
			r.later()
			return
		}
		if c.w.check.start(r.part, kafka.Offset(fp.LogStartOffset), trimmed, h.node) {
			r.got(h, fp)
		}
	})
	k.served = r.serving(h.node, &inSync)
}

func (r *reading) got(h leaderHint, got *kmsg.FetchResponseTopicPartition) {
	c, w := r.c.c, r.c.c.w
	code := kafka.ErrorCode(got.ErrorCode)
	r.last = code.String()
	if code != kafka.None {
		r.near = nowhere
	}
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
	case kafka.ErrOffsetOutOfRange:
		if r.next < r.part.startMax() {
			r.restart(h)
			return
		}
		fallthrough
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
	if !w.check.stable(r.part, got, h.node) {
		return
	}
	w.check.read(r.part, r.next)
	if r.next > start && c.rng.IntN(400) == 0 && r.rounds < 3 {
		r.next, r.epoch = 0, -1
		r.rounds++
	}
	if r.next == start && len(got.RecordBatches) == 0 {
		r.end = kafka.Offset(got.HighWatermark)
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
		if at != r.next && r.part.topic.kind != compacted {
			w.violate("no gaps", "%s: offset %d follows %d", r.part, at, r.next-1)
			return false
		}
		if !w.check.record(r.part, rec, int32(b.LeaderEpoch()), fmt.Sprintf("read by %s from node %d", r.c.c.name, h.node+1)) {
			return false
		}
		r.next = at + 1
	}
	r.next = max(r.next, b.NextOffset())
	r.epoch = int32(b.LeaderEpoch())
	return true
}

// restart goes on from the log's beginning, after what was to be read next was
// deleted.
func (r *reading) restart(h leaderHint) {
	c := r.c.c
	req := listOffsets(r.part, -2, 4)
	trimmed := r.part.trimmedTo
	c.call(h.node, req, c.w.plan.requestTimeout, func(resp kmsg.Response, err error) {
		if err == nil {
			got := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
			if got.ErrorCode == 0 && c.w.check.start(r.part, kafka.Offset(got.Offset), trimmed, h.node) {
				r.next, r.epoch = max(r.next, kafka.Offset(got.Offset)), -1
			}
		}
		r.later()
	})
}

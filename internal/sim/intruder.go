package sim

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// intruder sends what no partition may take: batches that are damaged or against
// the rules, and what a producer's epoch has overtaken. Nobody has sent its
// records as far as the checkers know, so that one which is read shows.
type intruder struct {
	c     *client
	l     *load
	count uint64
}

// intruders is the number of a producer that there never is.
const intruders = 200

func newIntruder(l *load) *intruder { return &intruder{c: l.w.newClient("intruder"), l: l} }

func (i *intruder) start() {
	i.c.w.after(i.c.between(200*millisecond, 2*second), func() {
		if ln := i.lane(); ln != nil && i.c.rng.IntN(3) > 0 {
			if i.c.rng.IntN(2) == 0 {
				i.revive(ln)
			} else if n := len(ln.recent); n > 0 {
				i.repeat(ln, ln.recent[i.c.rng.IntN(n)])
			}
		} else if parts := i.l.parts(); len(parts) > 0 {
			i.intrude(parts[i.c.rng.IntN(len(parts))])
		}
		i.start()
	})
}

// lane picks one whose producer its leader must know.
func (i *intruder) lane() *lane {
	var known []*lane
	for _, p := range i.l.producers {
		for _, ln := range p.lanes {
			if ln.known && !ln.part.topic.deleted {
				known = append(known, ln)
			}
		}
	}
	if len(known) == 0 {
		return nil
	}
	return known[i.c.rng.IntN(len(known))]
}

// batch makes one of two records.
func (i *intruder) batch(part *topicPart, keyed bool, opts record.BuilderOptions) record.Batch {
	build := record.NewBuilder(opts)
	for range 2 {
		i.count++
		var key []byte
		if keyed {
			key = []byte("k0")
		}
		v := binary.BigEndian.AppendUint64(nil, uint64(makeValue(intruders, int(part.number), i.count)))
		build.Append((epoch+int64(i.c.w.now))/1e6, key, v)
	}
	return build.Build()
}

// The places of a batch's fields, and its length without records.
const (
	batchCRC, batchAttributes, batchCount = 17, 21, 57
	batchHeader                           = 61
	controlFlag                           = 1 << 5
)

// forge gives a changed batch the checksum that goes with it.
func forge(b record.Batch) { binary.BigEndian.PutUint32(b[batchCRC:], b.ComputeCRC()) }

func (i *intruder) intrude(part *topicPart) {
	b := i.batch(part, true, record.BuilderOptions{})
	var what string
	switch i.c.rng.IntN(6) {
	case 0, 1:
		at := batchHeader + i.c.rng.IntN(len(b)-batchHeader)
		b[at] ^= 1 << i.c.rng.IntN(8)
		what = fmt.Sprintf("a bit of byte %d was flipped", at)
	case 2:
		binary.BigEndian.PutUint32(b[batchCount:], uint32(1+2*i.c.rng.IntN(2)))
		forge(b)
		what = "the number of records is another"
	case 3:
		b[batchAttributes+1] |= controlFlag
		forge(b)
		what = "it says that it is of a coordinator"
	case 4:
		b = append(b, i.batch(part, true, record.BuilderOptions{})...)
		what = "there are two"
	default:
		if !part.topic.keyed() {
			return
		}
		b = i.batch(part, false, record.BuilderOptions{})
		what = "its records have no keys, and the topic is compacted"
	}
	i.send(part, b, what)
}

// revive sends what a lane's producer cannot have sent: in the epoch before, in
// the next one but not from its beginning, and beyond all that is under way.
// Where that is it must not have come by the time that this arrives, however late.
func (i *intruder) revive(ln *lane) {
	p := ln.p
	if i.forgets() {
		return
	}
	who := record.Producer{ID: kafka.ProducerID(p.id), Epoch: kafka.ProducerEpoch(p.epoch + ln.epoch)}
	what := fmt.Sprintf("%s is in epoch %d at sequence %d", p.c.name, who.Epoch, ln.seq)
	switch kind := i.c.rng.IntN(4); {
	case kind < 2 && ln.epoch == 0:
		who.Sequence = nextSequence(ln.seq, 1000)
	case kind == 0:
		who.Epoch, who.Sequence = who.Epoch-1, ln.past
	case kind == 1:
		who.Epoch--
	case kind == 2:
		who.Epoch, who.Sequence = who.Epoch+1, 1000+i.c.rng.Int32N(5)
	default:
		who.Sequence = nextSequence(ln.seq, 1000)
	}
	i.send(ln.part, i.batch(ln.part, true, record.BuilderOptions{Producer: &who}), fmt.Sprintf("%s, it was in epoch %d at %d", what, who.Epoch, who.Sequence))
}

// known is a batch that was acknowledged.
type known struct {
	bytes []byte
	base  kafka.Offset
}

// remember keeps the last few acknowledged batches of an idempotent producer:
// brokers know five again.
func (ln *lane) remember(b *batch, base kafka.Offset) {
	if !ln.p.idempotent {
		return
	}
	if len(ln.recent) == 5 {
		ln.recent = slices.Delete(ln.recent, 0, 1)
	}
	ln.recent = append(ln.recent, known{b.bytes, base})
}

// repeat sends a batch again that is acknowledged already.
func (i *intruder) repeat(ln *lane, k known) {
	if !i.forgets() {
		i.produce(ln.part, k.bytes, func(got *kmsg.ProduceResponseTopicPartition, node int) {
			if got.ErrorCode == 0 && kafka.Offset(got.BaseOffset) != k.base {
				i.l.w.violate("a batch that comes again is known again", "%s: a batch of %s at offset %d was sent again, and node %d says that it is at %d", ln.part, ln.p.c.name, k.base, node+1, got.BaseOffset)
			}
		})
	}
}

// forgets says whether producers may be forgotten here: where disks are damaged
// or lost.
func (i *intruder) forgets() bool { return i.l.w.flips.wanted || i.l.w.plan.mayLoseDisk }

func (i *intruder) send(part *topicPart, b record.Batch, what string) {
	i.produce(part, b, func(got *kmsg.ProduceResponseTopicPartition, node int) {
		if code := kafka.ErrorCode(got.ErrorCode); code == kafka.None || code == kafka.ErrDuplicateSequenceNumber {
			i.l.w.violate("what must not be written is refused", "%s: node %d took a batch: %s", part, node+1, what)
		}
	})
}

func (i *intruder) produce(part *topicPart, b []byte, done func(got *kmsg.ProduceResponseTopicPartition, node int)) {
	h, ok := i.c.leader(part)
	if !ok {
		return
	}
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 2000
	if part.topic.again {
		req.Version = 13
	}
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = part.number, b
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID, rt.Partitions = part.topic.name, part.topic.id, []kmsg.ProduceRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	i.c.call(h.node, req, i.l.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err != nil {
			i.c.refresh()
			return
		}
		got := &r.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		switch kafka.ErrorCode(got.ErrorCode) {
		case kafka.ErrNotLeaderOrFollower, kafka.ErrUnknownTopicOrPartition:
			i.c.refresh()
		}
		done(got, h.node)
	})
}

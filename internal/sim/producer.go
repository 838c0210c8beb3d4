package sim

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// value is what one record holds: its producer and a number that rises with
// each record that the producer makes for one partition. No two records of a
// run hold the same.
type value uint64

func makeValue(producer, lane int, count uint64) value {
	return value(uint64(producer+1)<<56 | uint64(lane)<<40 | count)
}

// source tells values of one lane from those of others.
func (v value) source() uint64 { return uint64(v) >> 40 }

func (v value) count() uint64 { return uint64(v) & (1<<40 - 1) }

func (v value) String() string {
	return fmt.Sprintf("producer %d lane %d record %d", v>>56-1, v>>40&0xffff, v.count())
}

// producer writes to some partitions of each topic, as the Java client does.
type producer struct {
	c          *client
	l          *load
	number     int
	idempotent bool
	acks       int16
	inFlight   int // batches per partition
	version    int16
	codec      record.Codec
	shares     bool    // a request takes what other partitions of the node have, too
	pause      instant // between two batches of a partition, on average
	id         int64
	epoch      int16
	ready      bool
	lanes      []*lane
}

// lane is what a producer has to do with one partition.
type lane struct {
	p       *producer
	number  int
	part    *topicPart
	count   uint64
	seq     int32
	epoch   int16    // of the producer on this partition, above the one that it was given
	past    int32    // the sequence that would have been next in the epoch before
	known   bool     // a batch of this epoch is acknowledged
	recent  []known  // the last that were acknowledged, with their offsets
	pending []*batch // not acknowledged, in order
	flying  int      // batches under way, all of them to one node
	node    int      // that one
	waiting bool     // a retry is set
	silent  instant  // until when nothing is sent but what waits
	last    string
	sent    []sent // by count, from 1 on
}

// sent is what is known of a record beside its value.
type sent struct {
	stamp int64  // ms
	key   string // "": none
	null  bool   // its value is null: it deletes the key
}

// record is what was sent as the value.
func (ln *lane) record(v value) *sent {
	if n := v.count(); n >= 1 && n <= uint64(len(ln.sent)) {
		return &ln.sent[n-1]
	}
	return nil
}

// batch is some records that travel together.
type batch struct {
	seq      int32
	first    uint64 // count of the first record
	records  int
	bytes    []byte
	flying   bool
	done     bool // acknowledged, though one before it is not
	attempts int
	least    kafka.Offset // what was known to be committed before it was first sent
	trimmed  kafka.Offset // up to where deletion was acknowledged before it was last sent
	onDisk   kafka.Offset // with acks=1: the end of what was on the node's disk when it answered
}

func newProducer(l *load, number int) *producer {
	p := &producer{c: l.w.newClient(fmt.Sprintf("producer%d", number)), l: l, number: number, version: 9, acks: -1, inFlight: 1, epoch: -1, id: -1}
	p.idempotent = p.c.rng.IntN(4) > 0
	p.version = []int16{9, 10, 11, 12, 13}[p.c.rng.IntN(5)]
	p.pause = p.c.between(20*millisecond, 400*millisecond)
	p.codec = []record.Codec{record.None, record.None, record.None, record.None, record.LZ4, record.Snappy}[p.c.rng.IntN(6)]
	if p.c.rng.IntN(3) > 0 {
		p.inFlight = 2 + p.c.rng.IntN(4)
	}
	p.shares = p.c.rng.IntN(2) == 0
	if !p.idempotent {
		p.acks = []int16{-1, -1, -1, 1, 0}[p.c.rng.IntN(5)]
		p.ready = true
	} else {
		p.initialise()
	}
	return p
}

func (p *producer) initialise() {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionTimeoutMillis = 4, 60_000
	req.ProducerID, req.ProducerEpoch = -1, -1
	p.c.call(p.c.rng.IntN(len(p.c.w.nodes)), req, 3*second, func(r kmsg.Response, err error) {
		if err == nil {
			got := r.(*kmsg.InitProducerIDResponse)
			if got.ErrorCode == 0 {
				p.id, p.epoch, p.ready = got.ProducerID, got.ProducerEpoch, true
				p.l.w.check.producerID(p.id, p.c.name)
				return
			}
		}
		p.c.w.after(p.c.between(20*millisecond, 200*millisecond), p.initialise)
	})
}

// take begins to write to a partition, or leaves it to others.
func (p *producer) take(part *topicPart) {
	if p.c.rng.IntN(3) == 0 && part.number > 0 {
		return
	}
	ln := &lane{p: p, number: len(p.lanes), part: part}
	if p.idempotent && p.inFlight == 1 && p.c.rng.IntN(2) == 0 {
		ln.seq = math.MaxInt32 - p.c.rng.Int32N(40) // a leader that knows nobody takes any; soon it is 0
	}
	p.lanes = append(p.lanes, ln)
	part.addLane(ln)
	ln.later()
}

func (ln *lane) later() {
	c := ln.p.c
	c.w.after(c.between(ln.p.pause/4, 2*ln.p.pause), func() {
		if ln.part.topic.deleted || ln.p.l.draining {
			return
		}
		if ln.p.ready && len(ln.pending) < 20 && !ln.isSilent() {
			ln.raiseEpoch()
			ln.add()
			ln.pump()
		}
		ln.later()
	})
}

// isSilent says whether the lane is to send nothing now. In some runs each falls
// silent after some seconds, for as long as that or for good.
func (ln *lane) isSilent() bool {
	c := ln.p.c
	if c.w.now >= ln.silent && c.w.plan.ways.silences && c.between(0, 4*second) < ln.p.pause {
		ln.silent = c.w.now + c.between(second, 30*second)
		if c.rng.IntN(4) == 0 {
			ln.silent = math.MaxInt64
		}
	}
	return c.w.now < ln.silent
}

// add makes a batch.
func (ln *lane) add() {
	c := ln.p.c
	b := &batch{seq: ln.seq, first: ln.count + 1, records: 1 + c.rng.IntN(4)}
	opts := record.BuilderOptions{Codec: ln.p.codec}
	if ln.p.idempotent {
		opts.Producer = &record.Producer{ID: kafka.ProducerID(ln.p.id), Epoch: kafka.ProducerEpoch(ln.p.epoch + ln.epoch), Sequence: b.seq}
	}
	size := 8 + c.rng.IntN(60)
	if c.rng.IntN(30) == 0 {
		size += c.rng.IntN(ln.part.topic.recordMax())
	}
	build := record.NewBuilder(opts)
	for range b.records {
		ln.append(build, size)
	}
	b.bytes = build.Build()
	ln.seq = nextSequence(ln.seq, b.records)
	ln.pending = append(ln.pending, b)
}

// nextSequence is what follows so many records from a sequence number on.
func nextSequence(seq int32, records int) int32 {
	return int32((int64(seq) + int64(records)) & math.MaxInt32)
}

// raiseEpoch begins a new epoch of the producer on this partition now and then,
// when nothing is under way, as clients do after errors (KIP-360).
func (ln *lane) raiseEpoch() {
	if p := ln.p; p.idempotent && ln.count > 0 && len(ln.pending) == 0 && ln.flying == 0 && p.c.rng.IntN(20) == 0 {
		ln.epoch++
		ln.past, ln.seq, ln.known, ln.recent = ln.seq, 0, false, nil
	}
}

// append makes a record.
func (ln *lane) append(build *record.Builder, size int) {
	c := ln.p.c
	ln.count++
	s := sent{stamp: (epoch+int64(c.w.now))/1e6 + c.rng.Int64N(1000) - 500}
	if ln.part.topic.kind == aged && c.w.now < c.w.plan.length/2 {
		s.stamp -= agedMillis
	} else if c.w.plan.ways.expiry && ln.p.number%2 == 0 {
		s.stamp -= lateMillis
	}
	id := binary.BigEndian.AppendUint64(nil, uint64(makeValue(ln.p.number, ln.number, ln.count)))
	v := make([]byte, size)
	copy(v, id)
	for i := 8; i < size; i++ {
		v[i] = byte(ln.count) + byte(i)
	}
	if ln.part.topic.keyed() {
		s.key = fmt.Sprintf("k%d", c.rng.IntN(keysPerLane*(ln.p.number+1)))
		s.null = ln.part.topic.kind == compacted && c.rng.IntN(6) == 0
	}
	ln.sent = append(ln.sent, s)
	switch {
	case s.null:
		build.Append(s.stamp, []byte(s.key), nil, record.Header{Key: []byte("v"), Value: id})
	case s.key != "":
		build.Append(s.stamp, []byte(s.key), v)
	default:
		build.Append(s.stamp, nil, v)
	}
}

// valueOf is what a record holds; 0 if it is none that a producer has made.
func valueOf(r *record.Record) value {
	b := r.Value
	if b == nil && len(r.Headers) == 1 {
		b = r.Headers[0].Value
	}
	if len(b) < 8 {
		return 0
	}
	return value(binary.BigEndian.Uint64(b))
}

// pump sends what may be sent: in order, and after a failure one by one.
func (ln *lane) pump() {
	for {
		b, h := ln.next()
		if b == nil {
			return
		}
		ln.p.send(ln, b, h)
	}
}

// next is the batch that may be sent, and to whom; nil: none.
func (ln *lane) next() (*batch, leaderHint) {
	if ln.waiting || ln.part.topic.deleted {
		return nil, leaderHint{}
	}
	for i, b := range ln.pending {
		if b.flying || b.done {
			continue
		}
		// No more than so many after the first that is not acknowledged: brokers
		// know the last five batches again.
		if i >= ln.p.inFlight || b.attempts > 0 && i > 0 {
			break
		}
		h, ok := ln.p.c.leader(ln.part)
		if !ok {
			ln.retry()
			break
		}
		if ln.flying > 0 && ln.node != h.node {
			break // a leader that does not know the producer would take what comes later for its first
		}
		return b, h
	}
	return nil, leaderHint{}
}

// retry goes on after a pause.
func (ln *lane) retry() {
	if ln.waiting {
		return
	}
	ln.waiting = true
	c := ln.p.c
	c.w.after(c.between(10*millisecond, 80*millisecond), func() {
		ln.waiting = false
		ln.pump()
	})
}

func (ln *lane) answered(b *batch, h leaderHint, got *kmsg.ProduceResponseTopicPartition) {
	p, w := ln.p, ln.p.c.w
	code := kafka.ErrorCode(got.ErrorCode)
	ln.last = code.String()
	switch code {
	case kafka.None:
		w.check.acked(ln, b, kafka.Offset(got.BaseOffset), got.LogAppendTime)
		ln.remember(b, kafka.Offset(got.BaseOffset))
		w.check.start(ln.part, kafka.Offset(got.LogStartOffset), b.trimmed, h.node)
		ln.finish(b)
		return
	case kafka.ErrDuplicateSequenceNumber:
		w.check.acked(ln, b, kafka.NoOffset, record.NoTimestamp)
		ln.finish(b)
		return
	case kafka.ErrOutOfOrderSequenceNumber:
		if ln.pending[0] == b {
			w.violate("an idempotent producer goes on after any failure", "%s got %v for %s from node %d, sequence %d, %d records, attempt %d, though all before it is acknowledged", p.c.name, code, ln.part, h.node+1, b.seq, b.records, b.attempts)
			return
		}
	case kafka.ErrNotLeaderOrFollower, kafka.ErrUnknownTopicOrPartition, kafka.ErrUnknownTopicID, kafka.ErrLeaderNotAvailable,
		kafka.ErrNotEnoughReplicas, kafka.ErrNotEnoughReplicasAfterAppend, kafka.ErrRequestTimedOut, kafka.ErrKafkaStorageError,
		kafka.ErrFencedLeaderEpoch, kafka.ErrUnknownLeaderEpoch:
		if got.CurrentLeader.LeaderID > 0 {
			p.c.learn(ln.part, kafka.NodeID(got.CurrentLeader.LeaderID), got.CurrentLeader.LeaderEpoch)
		} else {
			p.c.refresh()
		}
	default:
		w.violate("produce fails with errors that clients retry", "%s got %v for %s from node %d: %s", p.c.name, code, ln.part, h.node+1, stringOf(got.ErrorMessage))
		return
	}
	ln.retry()
}

func stringOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// finish takes a batch off the list.
func (ln *lane) finish(b *batch) {
	b.done = true
	if ln.p.idempotent && !ln.known {
		ln.known = true
		if ln.epoch > 0 {
			ln.p.l.intruder.revive(ln)
		}
	}
	for len(ln.pending) > 0 && ln.pending[0].done {
		ln.pending[0] = nil
		ln.pending = ln.pending[1:]
	}
	ln.pump()
}

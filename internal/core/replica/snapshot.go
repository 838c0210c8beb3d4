package replica

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
)

// ErrSnapshot means that the bytes are no snapshot of producers.
var ErrSnapshot = errors.New("producer snapshot is malformed")

// snapshotVersion is the first byte of a snapshot, snapshotEarlier that of one
// with the last part, which is left out where it is empty. All numbers after it
// are big-endian and of the size of their type:
//
//	end | last | entries: count, {id, epoch, coordinator epoch, transaction start,
//	last timestamp, seen, runs: count, {first, last sequence, last offset,
//	timestamp, offset delta}} | open: count, {id, first} | ended: count,
//	{id, first, last} | aborted: count, {id, first, last} | earlier: count, {id,
//	epoch, first, last sequence, last offset, timestamp, offset delta}
const (
	snapshotVersion = 1
	snapshotEarlier = 2
)

// Snapshot is the state of producers and transactions as of the log's end,
// to be given to Restore, and that end.
func (r *Replica) Snapshot() ([]byte, kafka.Offset) {
	for _, e := range r.producers.entries {
		e.settle(r.highWatermark)
	}
	return r.producers.encode(r.end), r.end
}

func (ps *producers) encode(end kafka.Offset) []byte {
	be := binary.BigEndian
	b := append(make([]byte, 0, 64+len(ps.entries)*96), snapshotVersion)
	b = be.AppendUint64(b, uint64(end))
	b = be.AppendUint64(b, uint64(ps.last))
	b = be.AppendUint32(b, uint32(len(ps.entries)))
	appendRun := func(run producerRun) {
		b = be.AppendUint32(b, uint32(run.firstSequence))
		b = be.AppendUint32(b, uint32(run.lastSequence))
		b = be.AppendUint64(b, uint64(run.lastOffset))
		b = be.AppendUint64(b, uint64(run.timestamp))
		b = be.AppendUint32(b, uint32(run.offsetDelta))
	}
	ids, earlier := ps.ids(), 0
	for _, id := range ids {
		e := ps.entries[id]
		earlier += len(e.earlier)
		b = be.AppendUint64(b, uint64(id))
		b = be.AppendUint16(b, uint16(e.epoch))
		b = be.AppendUint32(b, uint32(e.coordinatorEpoch))
		b = be.AppendUint64(b, uint64(e.txnStart))
		b = be.AppendUint64(b, uint64(e.lastTimestamp))
		b = be.AppendUint64(b, uint64(e.seen))
		b = append(b, e.n)
		for _, run := range e.batches[:e.n] {
			appendRun(run)
		}
	}
	appendSpan := func(s span) {
		b = be.AppendUint64(b, uint64(s.producer))
		b = be.AppendUint64(b, uint64(s.first))
		b = be.AppendUint64(b, uint64(s.last))
	}
	b = be.AppendUint32(b, uint32(len(ps.open)))
	for _, s := range ps.open {
		appendSpan(s)
	}
	b = be.AppendUint32(b, uint32(len(ps.ended)))
	for _, s := range ps.ended {
		appendSpan(s)
	}
	b = be.AppendUint32(b, uint32(len(ps.aborted)))
	for _, a := range ps.aborted {
		appendSpan(span{a.ProducerID, a.FirstOffset, a.LastOffset})
	}
	if earlier == 0 {
		return b
	}
	b[0] = snapshotEarlier
	b = be.AppendUint32(b, uint32(earlier))
	for _, id := range ids {
		for _, run := range ps.entries[id].earlier {
			b = be.AppendUint64(b, uint64(id))
			b = be.AppendUint16(b, uint16(run.epoch))
			appendRun(run)
		}
	}
	return b
}

// snapshotAt is the state as far as batches below an offset have made it, and
// as far as that is still known; nil if nothing is. What the batches from there
// on have pushed out of memory is missing, which those bring back in a Replay.
func (ps *producers) snapshotAt(offset kafka.Offset) []byte {
	if len(ps.entries) == 0 && len(ps.aborted) == 0 {
		return nil
	}
	then := newProducers(ps.max)
	then.last = min(ps.last, offset-1)
	for id, e := range ps.entries {
		c := e.before(offset)
		if c.txnStart >= offset {
			c.txnStart = kafka.NoOffset
		}
		if c.n > 0 || e.n == 0 || c.txnStart != kafka.NoOffset {
			then.entries[id] = c
		}
	}
	then.open = slices.DeleteFunc(slices.Clone(ps.open), func(s span) bool { return s.first >= offset })
	for _, s := range ps.ended {
		then.reopen(s, offset)
	}
	for _, a := range ps.aborted {
		if a.LastOffset < offset {
			then.aborted = append(then.aborted, a)
		}
		then.reopen(span{a.ProducerID, a.FirstOffset, a.LastOffset}, offset)
	}
	slices.SortFunc(then.open, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	return then.encode(offset)
}

// before is the producer with the last of the batches below an offset that are
// known.
func (p *producer) before(offset kafka.Offset) *producer {
	c := *p
	c.earlier = nil
	if c.n == 0 || c.batches[c.n-1].lastOffset < offset {
		return &c
	}
	runs := append(slices.Clone(p.earlier), p.batches[:p.n]...)
	runs = slices.DeleteFunc(runs, func(r producerRun) bool { return r.lastOffset >= offset })
	if c.n = 0; len(runs) == 0 {
		return &c
	}
	last := runs[len(runs)-1]
	c.epoch, c.lastTimestamp = last.epoch, last.timestamp
	for _, r := range runs {
		if r.epoch == c.epoch {
			c.add(r)
		}
	}
	c.earlier = nil
	return &c
}

// reopen opens a transaction again that had not ended before an offset.
func (ps *producers) reopen(s span, offset kafka.Offset) {
	if s.first >= offset || s.last < offset {
		return
	}
	e := ps.entries[s.producer]
	if e == nil {
		e = &producer{coordinatorEpoch: noCoordinatorEpoch, txnStart: kafka.NoOffset}
		ps.entries[s.producer] = e
	}
	if e.txnStart == kafka.NoOffset {
		e.txnStart = s.first
		ps.open = append(ps.open, span{producer: s.producer, first: s.first})
	}
}

// Restore forgets all about producers and takes what the snapshot says. Nil,
// a snapshot that is malformed and one of a longer log count as empty ones;
// the error tells of the second. The batches from the offset returned up to
// the log's end must then be given to Replay.
func (r *Replica) Restore(snapshot []byte) (kafka.Offset, error) {
	r.producers.reset()
	if snapshot == nil {
		return r.start, nil
	}
	d := decoder{b: snapshot}
	version, end := d.u8(), kafka.Offset(d.u64())
	if version != snapshotVersion && version != snapshotEarlier || d.failed {
		return r.start, ErrSnapshot
	}
	if end > r.end || end < r.start {
		return r.start, nil
	}
	if !r.producers.decode(&d, version == snapshotEarlier) {
		r.producers.reset()
		return r.start, ErrSnapshot
	}
	r.producers.trim(r.start)
	r.producers.committed(r.highWatermark)
	return end, nil
}

// Replay takes in a batch that is in the log already. Its producer counts as
// having written now.
//
// Of a batch that is no control batch the header is enough.
func (r *Replica) Replay(now time.Time, batch []byte) { r.producers.apply(now, batch, r.highWatermark) }

// Surprising says whether a batch to be replayed is not what its producer had to
// send next, as far as is known: then its header may be damaged.
func (r *Replica) Surprising(batch []byte) bool {
	b := record.Batch(batch)
	epoch, sequence := b.ProducerEpoch(), b.BaseSequence()
	if !b.HasProducerID() {
		return epoch != kafka.NoProducerEpoch || sequence != record.NoSequence
	}
	e := r.producers.entries[b.ProducerID()]
	switch {
	case b.IsTransactional() != (e != nil && e.txnStart != kafka.NoOffset): // the begin of a transaction, too
		return true
	case e == nil || e.epoch != epoch || e.n == 0:
		return sequence != 0 && sequence != record.NoSequence
	}
	return sequence != record.AddSequence(e.lastSequence(), 1)
}

// ReplayLost tells in place of Replay that there are batches which cannot be
// read. Producers are as unknown again, so that what they send next is not
// refused, but for those with an open transaction.
func (r *Replica) ReplayLost() { r.producers.forget() }

func (ps *producers) decode(d *decoder, earlier bool) bool {
	readRun := func(epoch kafka.ProducerEpoch) producerRun {
		return producerRun{int32(d.u32()), int32(d.u32()), kafka.Offset(d.u64()), int64(d.u64()), int32(d.u32()), epoch}
	}
	ps.last = kafka.Offset(d.u64())
	for range d.count(35) {
		id := kafka.ProducerID(d.u64())
		e := &producer{epoch: kafka.ProducerEpoch(d.u16()), coordinatorEpoch: int32(d.u32()),
			txnStart: kafka.Offset(d.u64()), lastTimestamp: int64(d.u64()), seen: int64(d.u64()), n: d.u8()}
		if e.n > batchesKept {
			return false
		}
		if mutant.On(mutant.SeenLost) {
			e.seen = 0
		}
		for i := range e.batches[:e.n] {
			e.batches[i] = readRun(e.epoch)
		}
		ps.entries[id] = e
	}
	readSpan := func() span {
		return span{kafka.ProducerID(d.u64()), kafka.Offset(d.u64()), kafka.Offset(d.u64())}
	}
	for range d.count(24) {
		ps.open = append(ps.open, readSpan())
	}
	for range d.count(24) {
		ps.ended = append(ps.ended, readSpan())
	}
	for range d.count(24) {
		s := readSpan()
		ps.aborted = append(ps.aborted, AbortedTxn{s.producer, s.first, s.last})
	}
	if earlier {
		for range d.count(38) {
			e := ps.entries[kafka.ProducerID(d.u64())]
			if e == nil {
				return false
			}
			e.earlier = append(e.earlier, readRun(kafka.ProducerEpoch(d.u16())))
		}
	}
	return !d.failed && len(d.b) == 0
}

// ids are the known producers in order.
func (ps *producers) ids() []kafka.ProducerID {
	ids := make([]kafka.ProducerID, 0, len(ps.entries))
	for id := range ps.entries {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b kafka.ProducerID) int { return cmp.Compare(a, b) })
	return ids
}

// ProducerStatus is what DescribeProducers tells of a producer.
type ProducerStatus struct {
	ProducerID       kafka.ProducerID
	ProducerEpoch    kafka.ProducerEpoch
	LastSequence     int32
	LastTimestamp    int64
	CoordinatorEpoch int32        // -1: no marker seen
	TxnStart         kafka.Offset // NoOffset: no open transaction

	// Last offsets of the first and last batch that are remembered for their
	// sequence numbers; NoOffset: there are none.
	FirstOffset, LastOffset kafka.Offset
}

// Producers lists the known producers by id.
func (r *Replica) Producers() []ProducerStatus {
	ps := &r.producers
	list := make([]ProducerStatus, 0, len(ps.entries))
	for _, id := range ps.ids() {
		e := ps.entries[id]
		first, last := kafka.NoOffset, kafka.NoOffset
		if e.n > 0 {
			first, last = e.batches[0].lastOffset, e.batches[e.n-1].lastOffset
		}
		list = append(list, ProducerStatus{id, e.epoch, e.lastSequence(), e.lastTimestamp, e.coordinatorEpoch, e.txnStart, first, last})
	}
	return list
}

// LastCommitted is the last offset of the newest committed batch of a producer
// when those that are remembered for their sequence numbers are not committed:
// a truncation may make it the last again. NoOffset if it is not known or not so.
func (r *Replica) LastCommitted(id kafka.ProducerID) kafka.Offset {
	e := r.producers.entries[id]
	if e == nil {
		return kafka.NoOffset
	}
	e.settle(r.highWatermark)
	if len(e.earlier) == 0 || e.earlier[0].lastOffset >= r.highWatermark {
		return kafka.NoOffset
	}
	return e.earlier[0].lastOffset
}

// decoder reads numbers off bytes that nobody vouches for.
type decoder struct {
	b      []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.failed, d.b = true, nil
		return make([]byte, 8)
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8   { return d.take(1)[0] }
func (d *decoder) u16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

// count reads a number of elements of at least size bytes each.
func (d *decoder) count(size int) int {
	n := int(d.u32())
	if n > len(d.b)/size {
		d.failed, d.b = true, nil
		return 0
	}
	return n
}

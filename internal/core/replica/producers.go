package replica

import (
	"cmp"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
)

// batchesKept is how many batches of a producer are remembered, so that a
// repeated one is known again. Clients rely on Kafka's number.
const batchesKept = 5

// earlierKept bounds what is remembered beyond that of a producer: more than
// clients have under way before they begin a new epoch.
const earlierKept = 16

// noCoordinatorEpoch stands for "no marker seen".
const noCoordinatorEpoch int32 = -1

// producer is what the log says of one idempotent producer.
type producer struct {
	epoch            kafka.ProducerEpoch
	n                uint8                    // of batches in use
	batches          [batchesKept]producerRun // oldest first
	earlier          []producerRun            // what came right before them, as far as settle keeps it; oldest first
	coordinatorEpoch int32                    // of the last marker
	txnStart         kafka.Offset             // of the open transaction, or NoOffset
	lastTimestamp    int64                    // of the last batch or marker
	seen             int64                    // ms at which it last wrote, by this node's clock
}

// producerRun is one remembered batch.
type producerRun struct {
	firstSequence, lastSequence int32
	lastOffset                  kafka.Offset
	timestamp                   int64
	offsetDelta                 int32
	epoch                       kafka.ProducerEpoch
}

func (p *producer) lastSequence() int32 {
	if p.n == 0 {
		return record.NoSequence
	}
	return p.batches[p.n-1].lastSequence
}

func (p *producer) add(r producerRun) {
	if mutant.On(mutant.RememberOneBatch) {
		p.n = 0
	}
	if p.n == batchesKept {
		p.earlier = append(p.earlier, p.batches[0])
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = r
	p.n++
}

// settle forgets what need not be known besides the last batches. A truncation
// may take away those that are not committed. It leaves the newest that is,
// which must be known then, though it be deleted or compacted meanwhile.
func (p *producer) settle(highWatermark kafka.Offset) {
	if len(p.earlier) == 0 {
		return
	}
	n := len(p.earlier)
	if p.n == 0 || p.batches[0].lastOffset >= highWatermark {
		for n--; n > 0 && p.earlier[n].lastOffset >= highWatermark; n-- {
		}
	}
	p.earlier = slices.Delete(p.earlier, 0, max(n, len(p.earlier)-earlierKept))
}

// duplicate finds a remembered batch with the same epoch and sequence numbers.
func (p *producer) duplicate(b record.Batch) *producerRun {
	if p.epoch != b.ProducerEpoch() {
		return nil
	}
	first, last := b.BaseSequence(), b.LastSequence()
	for i := int(p.n) - 1; i >= 0; i-- {
		if r := &p.batches[i]; r.firstSequence == first && r.lastSequence == last {
			return r
		}
	}
	return nil
}

// span is a stretch of the log that a transaction takes up.
type span struct {
	producer    kafka.ProducerID
	first, last kafka.Offset
}

// guard lets through the first batch of a transaction that its coordinator
// has confirmed (KIP-890).
type guard struct {
	id    uint64
	epoch kafka.ProducerEpoch
	tv2   bool
}

// refusedBatch remembers a batch whose place in its producer's sequence is
// open, because it was refused for a reason that passes.
type refusedBatch struct {
	producer kafka.ProducerID
	epoch    kafka.ProducerEpoch
	sequence int32
	at       time.Time
}

// refusedKept and refusedFor bound how many refused batches are remembered,
// and how long: no client has the next batch in flight for longer.
const (
	refusedKept = 64
	refusedFor  = 2 * time.Minute
)

// producers is what a log says of its producers and transactions. It follows
// from the batches alone, so that leader and followers have the same.
type producers struct {
	max     int
	entries map[kafka.ProducerID]*producer
	last    kafka.Offset // of the last batch that changed anything, or NoOffset

	open    []span       // transactions without a marker; in the order of first
	ended   []span       // transactions whose marker is not below the high watermark
	aborted []AbortedTxn // in the order of LastOffset

	guards    map[kafka.ProducerID]guard
	lastGuard uint64
	refused   []refusedBatch
	scratch   record.Scratch
}

func newProducers(limit int) producers {
	return producers{max: limit, entries: map[kafka.ProducerID]*producer{}, last: kafka.NoOffset,
		guards: map[kafka.ProducerID]guard{}}
}

// reset forgets what came from the log.
func (ps *producers) reset() {
	clear(ps.entries)
	ps.last = kafka.NoOffset
	ps.open, ps.ended, ps.aborted = ps.open[:0], ps.ended[:0], ps.aborted[:0]
}

// check says whether the leader may append the batch. A duplicate is returned
// with the code None.
func (ps *producers) check(now time.Time, b record.Batch, p *Proposal) (*producerRun, kafka.ErrorCode) {
	id, epoch, sequence := b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	e := ps.entries[id]
	if e != nil {
		if epoch < e.epoch && !mutant.On(mutant.OldProducerEpoch) {
			return nil, kafka.ErrInvalidProducerEpoch
		}
		if sequence >= 0 {
			if d := e.duplicate(b); d != nil {
				return d, kafka.None
			}
		}
	}
	if code := ps.checkTransaction(e, b, p); code != kafka.None {
		return nil, code
	}
	if sequence < 0 { // batches of coordinators carry no sequence
		return nil, kafka.None
	}
	return nil, ps.checkSequence(now, e, b, p)
}

func (ps *producers) checkTransaction(e *producer, b record.Batch, p *Proposal) kafka.ErrorCode {
	open := e != nil && e.txnStart != kafka.NoOffset
	switch {
	case !b.IsTransactional() && open:
		return kafka.ErrInvalidTxnState
	case b.IsTransactional() && p.Internal && p.Guard == 0:
		return kafka.None
	case b.IsTransactional() && (!open || e.epoch != b.ProducerEpoch()):
		g := ps.guards[b.ProducerID()]
		if p.Guard == 0 || g.id != p.Guard || g.epoch != b.ProducerEpoch() {
			return kafka.ErrInvalidTxnState
		}
	}
	return kafka.None
}

func (ps *producers) checkSequence(now time.Time, e *producer, b record.Batch, p *Proposal) kafka.ErrorCode {
	epoch, sequence := b.ProducerEpoch(), b.BaseSequence()
	switch {
	case e == nil:
		if sequence == 0 {
			return kafka.None
		}
		g, guarded := ps.guards[b.ProducerID()]
		if p.AfterRefusal || guarded && g.tv2 || ps.refusedBefore(now, b) {
			return kafka.ErrOutOfOrderSequenceNumber
		}
	case epoch != e.epoch:
		if sequence != 0 && !mutant.On(mutant.EpochAnywhere) {
			return kafka.ErrOutOfOrderSequenceNumber
		}
	case e.n == 0:
		if sequence != 0 {
			return kafka.ErrOutOfOrderSequenceNumber
		}
	case sequence != record.AddSequence(e.lastSequence(), 1) && !(mutant.On(mutant.SequenceGaps) && sequence > e.lastSequence()):
		return kafka.ErrOutOfOrderSequenceNumber
	}
	return kafka.None
}

// noteRefused remembers that the batch's place in its sequence is open.
func (ps *producers) noteRefused(now time.Time, b record.Batch) {
	if !b.HasProducerID() || b.BaseSequence() < 0 {
		return
	}
	id, epoch, sequence := b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	if e := ps.entries[id]; e != nil && e.epoch == epoch && e.n > 0 {
		return // its sequence is known
	}
	for i := range ps.refused {
		r := &ps.refused[i]
		if r.producer == id && r.epoch == epoch {
			r.sequence, r.at = min(r.sequence, sequence), now
			return
		}
	}
	if len(ps.refused) == refusedKept {
		ps.refused = slices.Delete(ps.refused, 0, 1)
	}
	ps.refused = append(ps.refused, refusedBatch{id, epoch, sequence, now})
}

func (ps *producers) refusedBefore(now time.Time, b record.Batch) bool {
	for _, r := range ps.refused {
		if r.producer == b.ProducerID() && r.epoch == b.ProducerEpoch() {
			return r.sequence < b.BaseSequence() && now.Sub(r.at) < refusedFor
		}
	}
	return false
}

// apply takes in a batch that has been appended. It never refuses: on
// followers the leader has checked.
func (ps *producers) apply(now time.Time, b record.Batch, highWatermark kafka.Offset) {
	if !b.HasProducerID() {
		return
	}
	ps.last = b.LastOffset()
	if b.IsControl() {
		ps.applyMarker(now, b)
		return
	}
	id := b.ProducerID()
	e := ps.entry(now, id, b.ProducerEpoch())
	if len(ps.refused) > 0 {
		ps.refused = slices.DeleteFunc(ps.refused, func(r refusedBatch) bool { return r.producer == id })
	}
	e.seen, e.lastTimestamp = now.UnixMilli(), b.MaxTimestamp()
	if b.BaseSequence() >= 0 {
		e.add(producerRun{b.BaseSequence(), b.LastSequence(), b.LastOffset(), b.MaxTimestamp(), b.LastOffsetDelta(), e.epoch})
	}
	e.settle(highWatermark)
	if b.IsTransactional() {
		if e.txnStart == kafka.NoOffset {
			e.txnStart = b.BaseOffset()
			ps.open = append(ps.open, span{producer: id, first: e.txnStart})
		}
		delete(ps.guards, id)
	}
}

// entry finds or makes the entry, of the epoch given.
func (ps *producers) entry(now time.Time, id kafka.ProducerID, epoch kafka.ProducerEpoch) *producer {
	e := ps.entries[id]
	if e == nil {
		if len(ps.entries) >= ps.max {
			ps.evict()
		}
		e = &producer{epoch: epoch, coordinatorEpoch: noCoordinatorEpoch, txnStart: kafka.NoOffset}
		ps.entries[id] = e
	}
	if e.epoch != epoch {
		if e.epoch = epoch; !mutant.On(mutant.EpochKeepsBatches) {
			e.earlier = append(e.earlier, e.batches[:e.n]...)
			e.n = 0
		}
	}
	return e
}

func (ps *producers) applyMarker(now time.Time, b record.Batch) {
	m, ok, err := record.ParseMarker(b, &ps.scratch)
	if !ok || err != nil {
		return // another control record, or a marker that compaction has emptied
	}
	id := b.ProducerID()
	e := ps.entry(now, id, b.ProducerEpoch())
	e.seen, e.lastTimestamp = now.UnixMilli(), b.MaxTimestamp()
	e.coordinatorEpoch = m.CoordinatorEpoch
	delete(ps.guards, id)
	if e.txnStart == kafka.NoOffset {
		return
	}
	s := span{id, e.txnStart, b.BaseOffset()}
	e.txnStart = kafka.NoOffset
	ps.open = slices.DeleteFunc(ps.open, func(o span) bool { return o.producer == id })
	ps.ended = append(ps.ended, s)
	if !m.Commit {
		ps.aborted = append(ps.aborted, AbortedTxn{id, s.first, s.last})
	}
}

// checkMarker says whether the leader may append the marker.
func (ps *producers) checkMarker(m Marker) kafka.ErrorCode {
	e := ps.entries[m.ProducerID]
	if m.ProducerEpoch < 0 {
		return kafka.ErrInvalidProducerEpoch
	}
	if e == nil {
		return kafka.None
	}
	switch {
	case m.CoordinatorEpoch < e.coordinatorEpoch:
		return kafka.ErrTransactionCoordinatorFenced
	case m.ProducerEpoch < e.epoch:
		return kafka.ErrInvalidProducerEpoch
	case m.TV2 && m.ProducerEpoch == e.epoch && e.txnStart != kafka.NoOffset:
		return kafka.ErrInvalidProducerEpoch
	}
	return kafka.None
}

// begin opens a guard for a producer without an open transaction. Zero means
// that none is needed.
func (ps *producers) begin(id kafka.ProducerID, epoch kafka.ProducerEpoch, tv2 bool) uint64 {
	if e := ps.entries[id]; e != nil && e.txnStart != kafka.NoOffset && e.epoch == epoch {
		return 0
	}
	if g, ok := ps.guards[id]; ok && g.epoch == epoch {
		return g.id
	}
	if len(ps.guards) >= ps.max {
		clear(ps.guards) // their owners verify again
	}
	ps.lastGuard++
	ps.guards[id] = guard{ps.lastGuard, epoch, tv2}
	return ps.lastGuard
}

// firstUnstable is the first offset of the earliest transaction whose outcome
// readers may not know yet, or limit if there is none below it.
func (ps *producers) firstUnstable(limit kafka.Offset) kafka.Offset {
	if len(ps.open) > 0 {
		limit = min(limit, ps.open[0].first)
	}
	for i := range ps.ended {
		limit = min(limit, ps.ended[i].first)
	}
	return limit
}

// committed forgets the ended transactions whose markers are below the high watermark.
func (ps *producers) committed(highWatermark kafka.Offset) {
	if len(ps.ended) > 0 {
		ps.ended = slices.DeleteFunc(ps.ended, func(s span) bool { return s.last < highWatermark })
	}
}

// trim forgets aborted transactions that lie wholly before the log's start.
func (ps *producers) trim(start kafka.Offset) {
	n, _ := slices.BinarySearchFunc(ps.aborted, start, func(a AbortedTxn, o kafka.Offset) int { return cmp.Compare(a.LastOffset, o) })
	ps.aborted = slices.Delete(ps.aborted, 0, n)
}

// abortedIn lists the aborted transactions that reach into [from, to), by
// first offset.
func (ps *producers) abortedIn(from, to kafka.Offset) []AbortedTxn {
	n, _ := slices.BinarySearchFunc(ps.aborted, from, func(a AbortedTxn, o kafka.Offset) int { return cmp.Compare(a.LastOffset, o) })
	var found []AbortedTxn
	for _, a := range ps.aborted[n:] {
		if a.FirstOffset < to {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b AbortedTxn) int {
		return cmp.Or(cmp.Compare(a.FirstOffset, b.FirstOffset), cmp.Compare(a.ProducerID, b.ProducerID))
	})
	return found
}

// lastWrote is what the silence of a producer is counted from.
func (p *producer) lastWrote() int64 {
	if mutant.On(mutant.ExpireByRecord) {
		return p.lastTimestamp
	}
	return p.seen
}

// expire forgets producers that have not written since, and have no open
// transaction.
func (ps *producers) expire(since time.Time) {
	ms := since.UnixMilli()
	for id, e := range ps.entries {
		if (e.lastWrote() < ms || mutant.On(mutant.ExpireEarly)) && e.txnStart == kafka.NoOffset {
			delete(ps.entries, id)
		}
	}
}

// forget forgets the producers without an open transaction.
func (ps *producers) forget() {
	for id, e := range ps.entries {
		if e.txnStart == kafka.NoOffset {
			delete(ps.entries, id)
		}
	}
}

// evict forgets the quarter that has been silent the longest.
func (ps *producers) evict() {
	seen := make([]int64, 0, len(ps.entries))
	for _, e := range ps.entries {
		seen = append(seen, e.seen)
	}
	slices.Sort(seen)
	limit := seen[len(seen)/4]
	quota := max(1, len(seen)/4)
	ids := make([]kafka.ProducerID, 0, quota)
	for id, e := range ps.entries {
		if e.seen <= limit && e.txnStart == kafka.NoOffset {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids) // so that the choice among equals does not depend on the map
	for _, id := range ids[:min(quota, len(ids))] {
		delete(ps.entries, id)
	}
}

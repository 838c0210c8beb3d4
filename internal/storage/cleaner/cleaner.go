// Package cleaner compacts a log: of the records with one key it keeps the
// last (cleanup.policy=compact).
//
// A Pass goes over a log twice. First it reads what was not compacted yet and
// remembers the last offset of each key, in a map of fixed size; when that is
// full, the pass ends there and the next one goes on. Then it rewrites the
// segments from the first one on, without
//
//   - records whose key comes again;
//   - records of aborted transactions;
//   - records without a value (tombstones) after the delete horizon of their
//     batch, which the first pass that sees them sets to delete.retention.ms
//     from its time (KIP-534);
//   - markers of transactions of which nothing is left, after their delete
//     horizon; that of an aborted one only when its owner lists it no more;
//   - records without a key, which cannot be compacted.
//
// What is kept keeps its offset and timestamp. Each segment keeps its end: if
// the last batch goes, one without records stands in for it, so that whoever
// reads gets to the end of the log. So does one for the first of each leader
// epoch, so that whoever copies the log knows where that begins. Of each producer that its owner knows, the
// batches that it may send again stay, without records if need be, since their
// sequence numbers are known from there; others are merged into larger ones when
// they are small, and are then of no producer.
//
// Only sealed segments wholly below the last stable offset are touched, so that
// each transaction in them has ended. Segments are replaced one group at a time
// by wal.Rewrite, first the older ones: after a crash some are compacted and
// some are not, which is a log as good as before.
//
// A pass has no clock and no goroutine. Step does a piece of it.
package cleaner

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

// ErrInterrupted means that the log was changed or closed below a pass. Another
// pass may be begun.
var ErrInterrupted = errors.New("compaction was interrupted")

// Options say what a pass may use. The zero value of each field means its
// default.
type Options struct {
	// DedupeBytes is the memory for keys, 24 bytes each
	// (log.cleaner.dedupe.buffer.size). Default 128 MiB.
	DedupeBytes int64
	// ReadBytes is how much is read at once. Default 1 MiB.
	ReadBytes int
	// MergeBytes is how large small batches are made by merging them; those of
	// a quarter of it are small. Default 64 KiB; negative for no merging.
	MergeBytes int
}

func (o Options) withDefaults() Options {
	if o.DedupeBytes <= 0 {
		o.DedupeBytes = 128 << 20
	}
	if o.ReadBytes <= 0 {
		o.ReadBytes = 1 << 20
	}
	if o.MergeBytes == 0 {
		o.MergeBytes = 64 << 10
	}
	return o
}

// Task is what a pass must know of its log.
type Task struct {
	// Limit is the last stable offset: no transaction below it is open.
	Limit           kafka.Offset
	MinLag          time.Duration // min.compaction.lag.ms
	DeleteRetention time.Duration // delete.retention.ms
	SegmentBytes    int64         // segment.bytes: segments that are smaller together are merged
	BatchBytesMax   int           // max.message.bytes; 0: no limit
	// Aborted are the aborted transactions in the log, all of them.
	Aborted []Transaction
	// Producers are those whose state must survive in the log.
	Producers map[kafka.ProducerID]Producer
}

// Transaction is one that has been aborted.
type Transaction struct {
	Producer    kafka.ProducerID
	First, Last kafka.Offset // of its first record, and of its marker
}

// Producer says which batches of a producer are remembered.
type Producer struct {
	Epoch kafka.ProducerEpoch
	// First and Last are the last offsets of the first and last batch that are
	// remembered for their sequence numbers, NoOffset if there are none.
	First, Last kafka.Offset
	// Before is the last offset of a batch before them that must be known, too;
	// NoOffset if there is none.
	Before kafka.Offset
}

// Result is what a pass has done, so far or as a whole.
type Result struct {
	From, To       kafka.Offset // newly compacted
	Full           bool         // there were more keys than the map could hold: more is to be done
	Keys           int
	BytesRead      int64
	BytesWritten   int64
	SizeBefore     int64 // of the segments that were gone over
	SizeAfter      int64
	SegmentsBefore int
	SegmentsAfter  int
	RecordsRead    int64
	RecordsRemoved int64
	RecordsKeyless int64 // of those removed
	BatchesMerged  int64
	TombstonesKept int64
	NextHorizonMs  int64         // the earliest delete horizon in what was gone over; 0: none
	ForgetAborted  []Transaction // have no records any more for long: the owner may forget them
}

// Pass is one compaction of a log. It has one owner; the log is used meanwhile.
type Pass struct {
	log         *wal.Log
	truncations uint64 // of the log before anything was read of it
	task        Task
	opts        Options
	Result

	mapping bool
	done    bool
	next    kafka.Offset // to read
	keys    keyMap
	to      kafka.Offset // no segment beyond it
	buf     []byte
	scratch record.Scratch
	used    int64 // bytes in this step

	aborted map[kafka.ProducerID][]Transaction // by offset
	// markers has the last marker of producers without sequence numbers.
	markers map[kafka.ProducerID]kafka.Offset

	group group
	kept  map[kafka.ProducerID]bool // the open transaction has batches that are kept
	drop  []bool                    // records of the present batch

	epochs []wal.EpochStart // of the log
}

// group is the segments that become one.
type group struct {
	active   bool
	rewrite  *wal.Rewrite
	end      kafka.Offset
	bytes    int64
	segments int
	changed  bool
	next     kafka.Offset // that follows what was written
	last     record.Batch // header of the last batch that was read
	merge    merge
}

// Begin begins a pass. There is none when nothing may be compacted and again
// is not set; with it, all that was compacted before is gone over once more,
// for delete horizons.
func Begin(log *wal.Log, now time.Time, task Task, opts Options, again bool) (*Pass, error) {
	truncations := log.Truncations()
	d, err := Look(log, now, task.Limit, task.MinLag)
	if err != nil {
		return nil, interrupted(err)
	}
	if d.To <= d.From && (!again || d.CleanBytes == 0) {
		return nil, nil
	}
	p := &Pass{log: log, truncations: truncations, task: task, opts: opts.withDefaults(), mapping: true, next: d.From, to: d.To}
	p.From, p.To = d.From, d.To
	p.keys = newKeyMap(p.opts.DedupeBytes, int64(d.To-d.From))
	p.aborted = map[kafka.ProducerID][]Transaction{}
	p.markers = map[kafka.ProducerID]kafka.Offset{}
	p.kept = map[kafka.ProducerID]bool{}
	for _, t := range task.Aborted {
		p.aborted[t.Producer] = append(p.aborted[t.Producer], t)
	}
	for _, list := range p.aborted {
		slices.SortFunc(list, func(a, b Transaction) int { return cmp.Compare(a.Last, b.Last) })
	}
	return p, nil
}

// Step goes on until about so many bytes were read and written, and says
// whether the pass is done. After an error it is over, and the log is as good
// as before; ErrInterrupted is of no concern.
func (p *Pass) Step(now time.Time, budget int64) (done bool, used int64, err error) {
	p.used = 0
	for !p.done && p.used < budget {
		if p.mapping {
			err = p.mapSome()
		} else {
			err = p.rewriteSome(now)
		}
		if err != nil {
			p.Abort()
			return true, p.used, interrupted(err)
		}
	}
	return p.done, p.used, nil
}

// Progress is about how much of the pass is done, from 0 to 1.
func (p *Pass) Progress() float64 {
	part := func(from, to kafka.Offset) float64 {
		return min(max(float64(p.next-from)/float64(max(to-from, 1)), 0), 1) / 2
	}
	if p.done {
		return 1
	}
	if p.mapping {
		return part(p.From, p.To)
	}
	return 0.5 + part(p.log.Start(), p.to)
}

// interrupted sorts out what is no fault of the log.
func interrupted(err error) error {
	for _, kind := range []error{wal.ErrClosed, wal.ErrOutOfRange, wal.ErrStale} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", ErrInterrupted, err)
		}
	}
	return err
}

// Abort gives up. What was rewritten so far stays.
func (p *Pass) Abort() {
	p.done = true
	if p.group.rewrite != nil {
		p.group.rewrite.Abort()
	}
	p.group, p.keys, p.buf = group{}, keyMap{}, nil
}

// read returns batches from p.next up to a limit.
func (p *Pass) read(limit kafka.Offset) ([]byte, error) {
	b, err := p.log.Read(p.next, limit, p.opts.ReadBytes, p.buf[:0])
	if err != nil {
		return nil, err
	}
	p.buf = b
	p.used += int64(len(b))
	p.BytesRead += int64(len(b))
	return b, nil
}

// mapSome reads some of what is new and remembers its keys.
func (p *Pass) mapSome() error {
	b, err := p.read(p.To)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		p.next = p.To
	}
	for len(b) > 0 && p.next < p.To {
		batch, rest, err := record.Next(b)
		if err != nil {
			return err
		}
		if err := p.mapBatch(batch); err != nil {
			return err
		}
		p.next, b = batch.NextOffset(), rest
	}
	if p.next >= p.To {
		p.mapping = false
		p.Keys = p.keys.used
		return p.firstGroup()
	}
	return nil
}

// mapBatch puts the keys of a batch into the map. When that is full, p.To is
// where.
func (p *Pass) mapBatch(b record.Batch) error {
	if b.IsControl() {
		if pr, ok := p.task.Producers[b.ProducerID()]; ok && pr.Last == kafka.NoOffset {
			p.markers[b.ProducerID()] = b.LastOffset()
		}
		return nil
	}
	if p.isAborted(b) {
		return nil
	}
	it := b.Records(&p.scratch)
	for it.Next() {
		r := it.Record()
		if r.Key == nil || r.Offset < p.From {
			continue
		}
		if !p.keys.put(digestOf(r.Key), r.Offset) {
			p.To, p.Full = r.Offset, true
			return nil
		}
	}
	return it.Err()
}

// isAborted says whether the batch belongs to an aborted transaction.
func (p *Pass) isAborted(b record.Batch) bool {
	if !b.IsTransactional() {
		return false
	}
	list := p.aborted[b.ProducerID()]
	i, _ := slices.BinarySearchFunc(list, b.LastOffset(), func(t Transaction, o kafka.Offset) int { return cmp.Compare(t.Last, o) })
	return i < len(list) && list[i].First <= b.BaseOffset()
}

// firstGroup turns to the first segment of the log.
func (p *Pass) firstGroup() error {
	segments, err := p.log.Segments()
	if err != nil {
		return err
	}
	p.next = segments[0].Base
	return nil
}

// beginGroup takes the next segments that are to become one.
func (p *Pass) beginGroup() error {
	segments, err := p.log.Segments()
	if err != nil {
		return err
	}
	first, g := -1, group{}
	for i, s := range segments {
		if s.Base < p.next {
			continue
		}
		if s.Active || s.End > p.to || s.Base >= p.To || first >= 0 && g.bytes+s.Bytes > p.task.SegmentBytes {
			break
		}
		if first < 0 {
			first = i
		}
		g.bytes += s.Bytes
		g.segments++
		g.end = s.End
	}
	if first < 0 {
		p.finish()
		return p.log.SaveCleaned(p.To, p.truncations)
	}
	g.active, g.changed = true, g.segments > 1
	g.next = segments[first].Base
	if g.rewrite, err = p.log.Rewrite(g.next, g.end); err != nil {
		return err
	}
	// From here on Commit sees to it.
	if p.log.Truncations() != p.truncations {
		g.rewrite.Abort()
		return fmt.Errorf("what was read of the log was cut off: %w", wal.ErrStale)
	}
	p.epochs = p.log.Epochs()
	g.merge.max = p.opts.MergeBytes
	if m := p.task.BatchBytesMax; m > 0 {
		g.merge.max = min(g.merge.max, m)
	}
	p.group = g
	p.next = max(g.next, p.log.Start())
	p.SizeBefore += g.bytes
	p.SegmentsBefore += g.segments
	return nil
}

func (p *Pass) finish() {
	p.done = true
	p.group, p.keys, p.buf = group{}, keyMap{}, nil
}

// rewriteSome reads some of the present group and writes what is kept of it.
func (p *Pass) rewriteSome(now time.Time) error {
	g := &p.group
	if !g.active {
		return p.beginGroup()
	}
	b, err := p.read(g.end)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		p.next = g.end
	}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return err
		}
		if err := p.judge(now, batch); err != nil {
			return err
		}
		g.last = append(g.last[:0], batch[:record.HeaderSize]...)
		p.next, b = batch.NextOffset(), rest
	}
	if p.next >= g.end {
		return p.endGroup()
	}
	return nil
}

// endGroup puts the new segment in place of the group, if it differs.
func (p *Pass) endGroup() error {
	g := &p.group
	if err := p.flush(); err != nil {
		return err
	}
	if g.last != nil && g.next < g.last.NextOffset() || g.last == nil {
		// The end must be there to be read.
		if err := p.write(p.blank(), true); err != nil {
			return err
		}
	}
	size := g.rewrite.Size()
	p.used += size / 2 // of the sync
	p.SegmentsAfter++
	if !g.changed {
		g.rewrite.Abort()
		p.SegmentsAfter += g.segments - 1
		size = g.bytes
	} else if err := g.rewrite.Commit(); err != nil {
		return err
	}
	p.SizeAfter += size
	p.next = g.end
	*g = group{}
	return nil
}

// blank is a batch without records at the end of what the group's last batch
// spans.
func (p *Pass) blank() record.Batch {
	g := &p.group
	if g.last != nil {
		return p.withoutRecords(g.last.LeaderEpoch(), g.last.LastOffset(), g.last.MaxTimestamp())
	}
	return p.withoutRecords(p.log.EpochAt(g.end-1), g.end-1, record.NoTimestamp)
}

// withoutRecords is a batch that spans one offset and has no record.
func (p *Pass) withoutRecords(epoch kafka.LeaderEpoch, at kafka.Offset, ms int64) record.Batch {
	bd := record.NewBuilder(record.BuilderOptions{BaseOffset: at, LeaderEpoch: epoch})
	bd.Append(ms, nil, nil)
	b, _ := record.Filter(bd.Build(), nil, record.FilterOptions{}, func(*record.Record) bool { return false })
	return b
}

// write appends a batch to the new segment.
func (p *Pass) write(b record.Batch, changed bool) error {
	g := &p.group
	if b.IsTransactional() && !b.IsControl() {
		p.kept[b.ProducerID()] = true
	}
	if err := g.rewrite.Append(b); err != nil {
		return err
	}
	g.changed = g.changed || changed
	g.next = b.NextOffset()
	p.used += int64(len(b))
	p.BytesWritten += int64(len(b))
	return nil
}

// horizon is the delete horizon of what is found now.
func (p *Pass) horizon(now time.Time) int64 {
	ms, d := now.UnixMilli(), p.task.DeleteRetention.Milliseconds()
	if mutant.On(mutant.TombstonesEarly) {
		d /= 10
	}
	if d > math.MaxInt64-ms {
		return math.MaxInt64
	}
	return ms + d
}

func (p *Pass) noteHorizon(ms int64) {
	if p.NextHorizonMs == 0 || ms < p.NextHorizonMs {
		p.NextHorizonMs = ms
	}
}

package wal

import (
	"errors"
	"fmt"
	"path/filepath"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// ErrCompacted means that a segment is what compaction has left, which another
// replica's cannot replace: each removes records because of others that it has.
var ErrCompacted = errors.New("segment was compacted")

// Repair makes a segment anew from the batches of another replica:
//
//	r, err := log.Repair(offset)
//	for r.Next() < r.To() { err = r.Append(batch) }
//	err = r.Commit() // or r.Abort()
//
// Until Commit the log is as it was, and nothing that the old file says is
// relied upon. It has one owner; the log is used meanwhile.
type Repair struct {
	*Rewrite
	start kafka.Offset // of the log, where the first segment may begin then; NoOffset for another
	begun bool         // the file was made
}

// Repair begins to repair the segment that holds the offset. An active one is
// sealed first. ErrCompacted means that it cannot be repaired.
func (l *Log) Repair(offset kafka.Offset) (*Repair, error) {
	if err := l.sealAt(offset); err != nil {
		return nil, fmt.Errorf("repair segment at %d: %w", offset, err)
	}
	l.mu.Lock()
	i := l.find(offset)
	if l.closed || offset < l.segments[0].base || i == len(l.segments)-1 || l.segments[i+1].base > l.Synced() {
		l.mu.Unlock()
		return nil, fmt.Errorf("repair segment at %d: %w", offset, ErrStale)
	}
	s := l.segments[i]
	if s.gaps.Load() || s.generation > 0 && l.cleaned > 0 {
		l.mu.Unlock()
		return nil, fmt.Errorf("repair segment at %d: %w", offset, ErrCompacted)
	}
	w := &Rewrite{log: l, old: []*segment{s}, to: l.segments[i+1].base, truncations: l.truncations, interval: l.opts.IndexIntervalBytes, next: s.base}
	w.header = segmentHeader{id: l.id, prev: s.prev, prevSize: s.prevSize, created: s.created}
	r := &Repair{Rewrite: w, start: kafka.NoOffset}
	if i == 0 && l.Start() > s.base { // nobody may have what is before it any more
		r.start, w.next = l.Start(), l.Start()
	}
	l.mu.Unlock()
	if r.start == kafka.NoOffset {
		if err := r.beginAt(s.base); err != nil {
			return nil, fmt.Errorf("repair segment %d: %w", s.base, err)
		}
	}
	return r, nil
}

// beginAt makes the file of a segment with this base offset.
func (r *Repair) beginAt(base kafka.Offset) error {
	l, w := r.log, r.Rewrite
	w.header.base, w.next = base, base
	if r.start != kafka.NoOffset {
		w.header.prev, w.header.prevSize = kafka.NoOffset, 0
	}
	l.mu.Lock()
	for _, e := range l.epochs {
		if e.Start < base {
			w.header.epochs = append(w.header.epochs, e)
		}
	}
	l.mu.Unlock()
	r.begun = true
	return w.beginAt(base)
}

// Abort gives up. The log is as it was.
func (r *Repair) Abort() {
	if r.begun {
		r.Rewrite.Abort()
	}
}

// sealAt seals the active segment if it holds the offset.
func (l *Log) sealAt(offset kafka.Offset) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if offset < l.active().base || offset >= l.End() {
		return nil
	}
	if err := l.settleFirst(); err != nil {
		return err
	}
	if err := l.roll(); err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	return l.Sync()
}

// From is the base offset of the segment.
func (r *Repair) From() kafka.Offset { return max(r.old[0].base, r.start) }

// To is the offset at which the segment must end.
func (r *Repair) To() kafka.Offset { return r.to }

// Next is the offset that the next batch must have, or the first one must
// contain.
func (r *Repair) Next() kafka.Offset { return r.next }

// Append adds a batch as another replica has it. ErrBadBatch means that it is
// damaged, ErrOrder that it is not the one that belongs here: in one leader
// epoch there is but one batch for an offset, and which epoch it must have is
// known.
func (r *Repair) Append(b record.Batch) error {
	if len(b) < record.HeaderSize || batchSize(b) != int64(len(b)) || !b.VerifyCRC() {
		return fmt.Errorf("%w: %d bytes at offset %d", ErrBadBatch, len(b), r.next)
	}
	if !r.begun && b.BaseOffset() <= r.start && b.LastOffset() >= r.start {
		if err := r.beginAt(b.BaseOffset()); err != nil {
			return err
		}
	}
	if b.BaseOffset() != r.next || !r.begun {
		return fmt.Errorf("%w: found offset %d, expected %d", ErrOrder, b.BaseOffset(), r.next)
	}
	l := r.log
	l.mu.Lock()
	want, _ := l.epochAround(b.LastOffset())
	l.mu.Unlock()
	if e := b.LeaderEpoch(); want != kafka.NoLeaderEpoch && e != want {
		return fmt.Errorf("%w: found leader epoch %d at offset %d, expected %d", ErrOrder, e, b.BaseOffset(), want)
	}
	return r.Rewrite.Append(b)
}

// Commit puts the segment in place of the damaged one, after it has been
// written and read back from the disk; see Rewrite.Commit.
func (r *Repair) Commit() error {
	if err := r.readBack(); err != nil {
		r.Abort()
		return fmt.Errorf("repair segment at %d: %w", r.From(), err)
	}
	return r.Rewrite.Commit()
}

func (r *Repair) readBack() error {
	if r.next != r.to || !r.begun {
		return fmt.Errorf("%w: batches end at offset %d, expected %d", ErrOrder, r.next, r.to)
	}
	if err := r.flush(); err != nil {
		return err
	}
	if err := r.sync(); err != nil {
		return fmt.Errorf("sync %s: %w", r.tempLog, err)
	}
	_ = r.file.DropCache(headerSize, r.s.size-headerSize)
	sc := &scanner{file: r.file, pos: headerSize, to: r.s.size, next: r.s.base, epoch: kafka.NoLeaderEpoch, chunk: 256 << 10}
	for {
		b, err := sc.batch(true)
		if err == errEnd {
			_ = r.file.DropCache(headerSize, r.s.size-headerSize)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read back %s: %w", r.tempLog, inSegment(err, r.s))
		}
		sc.skip(b)
	}
}

// Segment is the base offset of the segment that the error names.
func (e *CorruptError) Segment() (base kafka.Offset, ok bool) {
	base, _, ok = parseSegmentName(filepath.Base(e.File), segmentSuffix)
	return base, ok
}

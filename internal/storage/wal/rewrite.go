package wal

import (
	"errors"
	"fmt"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// ErrStale means that segments changed while they were being rewritten, or a
// state made: they were truncated or trimmed away. The log is as it was.
var ErrStale = errors.New("segments have changed meanwhile")

// Rewrite makes one segment that is to take the place of sealed segments that
// follow one another. It has one owner; the log is used meanwhile.
//
//	w, err := log.Rewrite(from, to)
//	for ... { err = w.Append(batch) }
//	err = w.Commit() // or w.Abort()
//
// Until Commit nothing of it is in the log.
type Rewrite struct {
	log         *Log
	old         []*segment
	to          kafka.Offset
	truncations uint64
	interval    int64
	header      segmentHeader

	s       *segment
	file    vfs.File
	tempLog string
	tempIdx string
	next    kafka.Offset
	gaps    bool
	buf     []byte
	written int64 // bytes in the file
	synced  int64
	done    bool
}

const (
	rewriteBuffer    = 256 << 10
	rewriteSyncBytes = 16 << 20
)

// Rewrite begins to rewrite the segments from the one with base offset from up
// to the one that begins at to. All of them must be sealed and below what is
// synced, else it is ErrStale.
func (l *Log) Rewrite(from, to kafka.Offset) (*Rewrite, error) {
	if err := l.usable(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	i := slices.IndexFunc(l.segments, func(s *segment) bool { return s.base == from })
	j := slices.IndexFunc(l.segments, func(s *segment) bool { return s.base == to })
	if i < 0 || j <= i || to > l.Synced() {
		l.mu.Unlock()
		return nil, fmt.Errorf("rewrite offsets %d to %d: %w", from, to, ErrStale)
	}
	old := slices.Clone(l.segments[i:j])
	w := &Rewrite{log: l, old: old, to: to, truncations: l.truncations, interval: l.opts.IndexIntervalBytes, next: from}
	l.mu.Unlock()

	// What the segment that it replaces says of what is before it stays true.
	if err := w.readHeader(); err != nil {
		if stale := w.current(); stale != nil { // its file is gone with it
			err = stale
		}
		return nil, fmt.Errorf("rewrite offsets %d to %d: %w", from, to, err)
	}
	if err := w.begin(); err != nil {
		return nil, fmt.Errorf("rewrite offsets %d to %d: %w", from, to, err)
	}
	return w, nil
}

// begin makes the file of the new segment.
func (w *Rewrite) begin() error { return w.beginAt(w.old[0].base) }

// beginAt is begin for a segment with another base offset, which the header has.
func (w *Rewrite) beginAt(base kafka.Offset) error {
	l, first := w.log, w.old[0]
	w.s = newSegment(l.dir, base, first.generation+1)
	w.s.prev, w.s.prevSize, w.s.created = first.prev, first.prevSize, first.created
	if base != first.base {
		w.s.prev, w.s.prevSize = kafka.NoOffset, 0
	}
	w.s.whole, w.s.statsKnown, w.s.loaded = w.to, true, true
	// A repair of what is being compacted must not write into the same file.
	temp := fmt.Sprintf(".%d%s", l.rewrites.Add(1), tempSuffix)
	w.tempLog, w.tempIdx = w.s.path+temp, w.s.indexPath+temp
	f, err := l.fs.Open(w.tempLog, vfs.ReadWrite|vfs.Create|vfs.Truncate)
	if err != nil {
		return err
	}
	w.file, w.written, w.synced = f, headerSize, headerSize
	return nil
}

func (w *Rewrite) readHeader() error {
	s := w.old[0]
	f, err := s.hold(w.log.fs)
	if err != nil {
		return err
	}
	defer s.release()
	var b [headerSize]byte
	n, err := readFull(f, b[:], 0)
	if err != nil {
		return err
	}
	if w.header, err = decodeHeader(b[:n]); err != nil {
		return &CorruptError{s.path, 0, s.base, err.Error()}
	}
	return nil
}

// Size is how many bytes the segment has so far.
func (w *Rewrite) Size() int64 { return w.s.size }

// Append adds a batch. Batches follow one another by offset, with gaps, within
// what is rewritten. Nothing that is passed is kept.
func (w *Rewrite) Append(b record.Batch) error {
	if len(b) < record.HeaderSize || batchSize(b) != int64(len(b)) || b.LastOffsetDelta() < 0 {
		return fmt.Errorf("%w: %d bytes at offset %d", ErrBadBatch, len(b), w.next)
	}
	if b.BaseOffset() < w.next || b.NextOffset() > w.to {
		return fmt.Errorf("%w: offsets %d to %d, expected %d to %d", ErrOrder, b.BaseOffset(), b.LastOffset(), w.next, w.to)
	}
	s := w.s
	if s.size+int64(len(b)) > segmentBytesMax {
		return fmt.Errorf("%w: segment of %d bytes", ErrBadBatch, s.size+int64(len(b)))
	}
	if s.sincePos < 0 || s.size-s.sincePos >= w.interval || s.lastEpoch != b.LeaderEpoch() {
		s.sincePos = s.size
		s.index = append(s.index, entry{offset: b.BaseOffset(), pos: s.size, maxTs: s.maxTs, epoch: b.LeaderEpoch()})
	}
	if s.size == headerSize {
		s.firstMs = b.MaxTimestamp()
	}
	s.maxTs.include(b)
	s.lastEpoch = b.LeaderEpoch()
	s.size += int64(len(b))
	w.gaps = w.gaps || b.BaseOffset() != w.next
	w.next = b.NextOffset()
	w.buf = append(w.buf, b...)
	if len(w.buf) >= rewriteBuffer {
		return w.flush()
	}
	return nil
}

func (w *Rewrite) flush() error {
	if len(w.buf) > 0 {
		if _, err := w.file.WriteAt(w.buf, w.written); err != nil {
			return fmt.Errorf("write %s: %w", w.tempLog, err)
		}
		w.written += int64(len(w.buf))
		w.buf = w.buf[:0]
	}
	// Many small syncs delay those of the log less than a large one.
	if w.written-w.synced >= rewriteSyncBytes {
		if err := w.file.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", w.tempLog, err)
		}
		_ = w.file.DropCache(w.synced, w.written-w.synced)
		w.synced = w.written
	}
	return nil
}

// Commit puts the segment in place of those that it replaces, durably; a crash
// leaves the old ones or the new one. Who reads meanwhile reads the old ones to
// the end of the call or begins anew. On error the log is as it was, unless it
// has failed; ErrStale means that what was to be replaced is not there any
// more. The Rewrite is of no more use in any case.
func (w *Rewrite) Commit() error {
	if err := w.settle(); err != nil {
		w.Abort()
		return fmt.Errorf("rewrite segment %d: %w", w.s.base, err)
	}
	l := w.log
	for _, s := range w.old {
		w.dropCache(s)
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := w.replace(); err != nil {
		return err
	}
	l.touch(w.s)
	return nil
}

// settle makes file and index durable under the names that Open removes.
func (w *Rewrite) settle() error {
	l, s := w.log, w.s
	if s.size == headerSize {
		return fmt.Errorf("%w: nothing is left", ErrBadBatch)
	}
	if err := w.flush(); err != nil {
		return err
	}
	h := w.header
	h.end, h.wholeSize, h.generation = w.to, s.size, s.generation
	h.synced, h.gaps = l.Synced(), w.gaps || w.next != w.to
	s.gaps.Store(h.gaps)
	if _, err := w.file.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	if err := w.sync(); err != nil {
		return err
	}
	s.index = append(s.index, entry{offset: w.to, pos: s.size, maxTs: s.maxTs, epoch: kafka.NoLeaderEpoch})
	f, err := l.fs.Open(w.tempIdx, vfs.ReadWrite|vfs.Create|vfs.Truncate)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 0, len(s.index)*entrySize)
	for _, e := range s.index {
		b = appendEntry(b, s.base, e)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	s.flushed = len(s.index)
	return f.Sync()
}

func (w *Rewrite) sync() error {
	if mutant.On(mutant.RepairUnsynced) {
		return nil
	}
	return w.file.Sync()
}

// dropCache lets the system forget a file, so that removing it takes no time.
func (w *Rewrite) dropCache(s *segment) {
	if f, err := s.hold(w.log.fs); err == nil {
		_ = f.DropCache(0, s.size)
		s.release()
	}
}

// replace is the part of Commit in which the log stands still.
func (w *Rewrite) replace() error {
	l := w.log
	if err := w.current(); err != nil {
		w.Abort()
		return fmt.Errorf("rewrite segment %d: %w", w.s.base, err)
	}
	// No checkpoint may be found that names a place in what goes.
	if err := l.sync(); err != nil {
		w.Abort()
		return err
	}
	a := l.active()
	if err := l.checkpoint.save(checkpoint{start: l.Start(), point: position{a.base, a.size, l.End()}}); err != nil {
		w.Abort()
		return l.fail("rewrite", err)
	}
	tempIdx := w.tempIdx
	w.tempIdx = w.s.indexPath // to be removed if the next renaming fails, or this has not
	if err := l.fs.Rename(tempIdx, w.s.indexPath); err != nil {
		_ = l.fs.Remove(tempIdx)
		w.Abort()
		return fmt.Errorf("rewrite segment %d: %w", w.s.base, err)
	}
	if err := l.fs.Rename(w.tempLog, w.s.path); err != nil {
		w.Abort()
		return l.fail("rewrite", err)
	}
	w.done = true
	if err := l.fs.SyncDir(l.dir); err != nil {
		w.close()
		return l.fail("rewrite", err)
	}
	w.swap()
	abandonAll(w.old)
	for _, s := range w.old {
		if err := l.removeFiles(s); err != nil {
			return l.fail("remove replaced segment", err)
		}
	}
	// A replaced file that comes back after the next crash must not meet a
	// log without the one that has replaced it.
	if err := l.fs.SyncDir(l.dir); err != nil {
		return l.fail("remove replaced segment", err)
	}
	return nil
}

// current says whether what is to be replaced is still as it was.
func (w *Rewrite) current() error {
	l := w.log
	if err := l.usable(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.segments, w.old[0])
	j := i + len(w.old)
	if i < 0 || j >= len(l.segments) || !slices.Equal(l.segments[i:j], w.old) || l.segments[j].base != w.to || l.truncations != w.truncations {
		return ErrStale
	}
	return nil
}

// swap shows the new segment to readers.
func (w *Rewrite) swap() {
	l, s := w.log, w.s
	s.file, s.writable = w.file, false
	w.file = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.segments, w.old[0])
	s.lastAppend = w.old[len(w.old)-1].lastAppend
	s.preallocated = s.size
	l.segments = slices.Replace(l.segments, i, i+len(w.old), s)
	l.forget(w.old)
}

// Abort gives up. The log is as it was.
func (w *Rewrite) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.close()
	if w.log.usable() != nil {
		return // another Log may have the directory; Open removes what is left
	}
	for _, name := range []string{w.tempLog, w.tempIdx} {
		_ = w.log.fs.Remove(name)
	}
}

func (w *Rewrite) close() {
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
}

// Roll seals the active segment if the first batch that was appended to it is
// older than so many ms, so that it can be compacted though nothing more is
// appended. It says whether it did.
func (l *Log) Roll(nowMs, olderThanMs int64) (bool, error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.usable(); err != nil {
		return false, err
	}
	l.mu.Lock()
	s := l.active()
	first := s.firstAppend
	if first == 0 {
		first = s.created
	}
	due := s.size > headerSize && nowMs-first > olderThanMs
	if due {
		l.now = max(l.now, nowMs)
	}
	l.mu.Unlock()
	if !due {
		return false, nil
	}
	if err := l.settleFirst(); err != nil {
		return false, err
	}
	if err := l.roll(); err != nil {
		return false, fmt.Errorf("begin segment: %w", err)
	}
	return true, l.Sync()
}

package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// Append writes batches at the end of the log, all or none of them. Their
// offsets and leader epochs are stamped already; offsets may leave gaps but
// never go back (ErrOrder), and neither do leader epochs. The batches are
// readable when it returns and durable after the next Sync. On error the log
// is as it was before; after ErrNoSpace of the file system it takes appends
// again as soon as there is space.
//
// Nothing that is passed is kept.
func (l *Log) Append(now time.Time, batches ...record.Batch) error {
	if len(batches) == 0 {
		return nil
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	total, gap, err := l.check(batches)
	if err != nil {
		return err
	}
	if l.mustRoll(now, batches[0], total) {
		if err := l.settleFirst(); err != nil {
			return err
		}
		if err := l.roll(); err != nil {
			return fmt.Errorf("begin segment: %w", err)
		}
	}
	if gap {
		if err := l.active().allowGaps(); err != nil {
			return err
		}
	}
	unsynced, err := l.write(batches, total)
	if err != nil {
		return err
	}
	if mutant.On(mutant.CheckpointAhead) {
		l.checkpoint.note(checkpoint{start: l.Start(), point: position{segment: l.active().base, pos: l.active().size, offset: l.End()}})
	}
	if unsynced {
		return l.Sync()
	}
	return nil
}

// check says whether the batches may follow the end of the log, and whether
// their offsets leave a gap.
func (l *Log) check(batches []record.Batch) (total int64, gap bool, err error) {
	next, epoch := l.End(), l.epochOfLastBatch()
	for _, b := range batches {
		if len(b) < record.HeaderSize || batchSize(b) != int64(len(b)) || b.Magic() != record.Magic2 || b.LastOffsetDelta() < 0 {
			return 0, false, fmt.Errorf("%w: %d bytes at offset %d", ErrBadBatch, len(b), next)
		}
		if b.BaseOffset() < next {
			return 0, false, fmt.Errorf("%w: offset %d, expected %d", ErrOrder, b.BaseOffset(), next)
		}
		if e := b.LeaderEpoch(); e != kafka.NoLeaderEpoch {
			if e < epoch {
				return 0, false, fmt.Errorf("%w: leader epoch %d after %d at offset %d", ErrOrder, e, epoch, b.BaseOffset())
			}
			epoch = e
		}
		gap = gap || b.BaseOffset() != next
		next = b.NextOffset()
		total += int64(len(b))
	}
	if total > segmentBytesMax {
		return 0, false, fmt.Errorf("%w: %d bytes at once", ErrBadBatch, total)
	}
	return total, gap, nil
}

func (l *Log) mustRoll(now time.Time, first record.Batch, total int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock(now)
	s := l.active()
	if s.size == headerSize {
		return false
	}
	if s.size+total > l.opts.SegmentBytes {
		return true
	}
	ms := first.MaxTimestamp()
	return l.opts.SegmentMs >= 0 && ms >= 0 && s.firstMs >= 0 && ms-s.firstMs > l.opts.SegmentMs
}

// write puts the batches at the end of the active segment. The result says
// whether too much is unsynced.
func (l *Log) write(batches []record.Batch, total int64) (unsynced bool, err error) {
	s := l.active() // only who holds changing replaces it
	at := s.size
	left, err := l.leaveBehind(s, batches, at, total)
	if err == nil && !left {
		l.preallocate(s, at+total, preallocateMin)
		err = l.writeAt(s, batches, at)
	}
	if err != nil {
		if l.Err() != nil {
			return false, err
		}
		// What was written in part must not be taken for batches later on.
		if terr := s.file.Truncate(at); terr != nil {
			return false, l.fail("cut off a partial write", errors.Join(err, terr))
		}
		s.preallocated = at
		return false, fmt.Errorf("append to %s: %w", s.path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at == headerSize {
		s.firstMs = batches[0].MaxTimestamp()
	}
	next := l.End()
	for _, b := range batches {
		l.addEpoch(b, next)
		next = b.NextOffset()
		l.index(s, b)
		s.maxTs.include(b)
		s.lastEpoch = b.LeaderEpoch()
		s.size += int64(len(b))
	}
	s.lastAppend = l.now
	if s.firstAppend == 0 {
		s.firstAppend = l.now
	}
	l.end.Store(int64(batches[len(batches)-1].NextOffset()))
	l.unsynced += total
	l.appended += total
	return l.unsynced > l.opts.UnsyncedBytesMax || left && l.unsynced > behindBytesMax, nil
}

// leaveBehind says whether it has left the batches to the next Sync to write.
func (l *Log) leaveBehind(s *segment, batches []record.Batch, at, total int64) (bool, error) {
	l.mu.Lock()
	direct, memory := l.direct(total), l.opts.Memory
	l.mu.Unlock()
	some := s.behind.some()
	room := memory.left()
	if !some && (!direct || !room) {
		return false, nil
	}
	// A disk that is full must show now.
	whole := (at + total + blockSize - 1) / blockSize * blockSize
	if room {
		l.preallocate(s, whole, 0)
	}
	if room && whole <= s.preallocated {
		return true, s.appendBehind(batches, at, memory)
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	return false, l.writeOut(s)
}

func (l *Log) writeAt(s *segment, batches []record.Batch, at int64) error {
	s.behind.forget()
	if len(batches) == 1 {
		_, err := s.file.WriteAt(batches[0], at)
		return err
	}
	l.pieces = l.pieces[:0]
	for _, b := range batches {
		l.pieces = append(l.pieces, b)
	}
	_, err := s.file.WriteVAt(l.pieces, at)
	clear(l.pieces)
	return err
}

// index adds an entry for the batch, which is about to be counted in, if one
// is due.
func (l *Log) index(s *segment, b record.Batch) {
	if s.sincePos >= 0 && s.size-s.sincePos < l.opts.IndexIntervalBytes && s.lastEpoch == b.LeaderEpoch() {
		return
	}
	s.sincePos = s.size
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = append(s.index, entry{offset: b.BaseOffset(), pos: s.size, maxTs: s.maxTs, epoch: b.LeaderEpoch()})
	if len(s.index)-s.flushed >= flushEntries {
		_ = s.flushIndexLocked(l.fs)
	}
}

const preallocateMin = 1 << 20

// preallocate reserves space in pieces that grow with the segment, so that a
// partition with little data takes little space. That it fails shows when the
// space is needed.
func (l *Log) preallocate(s *segment, end, least int64) {
	most := l.options().PreallocateBytesMax
	if most <= 0 || end <= s.preallocated || s.size < least || l.unreserved {
		return
	}
	from := max(s.preallocated, s.size)
	length := min(max(s.size, end-from), max(most, end-from))
	err := s.file.Preallocate(from, length)
	if err == nil {
		s.preallocated = from + length
	}
	l.unreserved = errors.Is(err, errors.ErrUnsupported)
}

// settleFirst writes out the active segment before it is sealed, and makes the
// checkpoint durable before there is a second segment. So Open knows that
// segments without a checkpoint were damaged, unless there is but the first one.
func (l *Log) settleFirst() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if mutant.On(mutant.SealedInMemory) {
		// What is behind is dropped when the segment is sealed.
	} else if err := l.writeOut(l.active()); err != nil {
		return err
	}
	if l.checkpoint.durable {
		return nil
	}
	return l.sync()
}

// roll seals the active segment and begins another at the end of the log. On
// error the active one stays.
func (l *Log) roll() error {
	old := l.active()
	if old.size == headerSize {
		return nil
	}
	s, err := l.create(l.End(), old)
	if err != nil {
		return err
	}
	if old.preallocated > old.size {
		// Gives the reserved space back; if it cannot, nothing is lost.
		_ = old.file.Truncate(old.size)
		old.preallocated = old.size
	}
	l.seal(old)
	old.behind.reset()
	l.mu.Lock()
	defer l.mu.Unlock()
	old.statsKnown = true
	l.segments = append(l.segments, s)
	l.sealed = append(l.sealed, old) // keeps its file until it is synced
	l.namesUnsynced = true
	return nil
}

// seal writes a last index entry, which says what the segment holds.
func (l *Log) seal(s *segment) {
	e := entry{offset: l.End(), pos: s.size, maxTs: s.maxTs, epoch: kafka.NoLeaderEpoch}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.index); n == 0 || s.index[n-1] != e {
		s.index = append(s.index, e)
	}
	_ = s.flushIndexLocked(l.fs)
	s.closeIndex()
}

// create makes the file of a segment that follows old, which may be nil. It is
// not synced.
func (l *Log) create(base kafka.Offset, old *segment) (*segment, error) {
	s := newSegment(l.dir, base, 0)
	h := segmentHeader{id: l.id, base: base, prev: kafka.NoOffset, end: kafka.NoOffset, synced: l.Synced()}
	if old != nil {
		h.prev, h.prevSize = old.base, old.size
	}
	l.mu.Lock()
	h.created = l.now
	for _, e := range l.epochs {
		if e.Start < base { // one without batches is nothing to remember
			h.epochs = append(h.epochs, e)
		}
	}
	l.mu.Unlock()
	s.prev, s.prevSize, s.created, s.lastAppend = h.prev, h.prevSize, h.created, h.created
	// An index of this name is a remnant.
	if err := l.fs.Remove(s.indexPath); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return nil, err
	}
	f, err := l.fs.Open(s.path, vfs.ReadWrite|vfs.Create|vfs.Exclusive)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		f.Close()
		if rerr := l.fs.Remove(s.path); rerr != nil {
			return nil, l.fail("remove a segment that could not be made", errors.Join(err, rerr))
		}
		return nil, fmt.Errorf("write header of %s: %w", s.path, err)
	}
	s.file, s.writable, s.users, s.loaded, s.statsKnown = behindFile{f, &s.behind}, true, 1, true, true
	return s, nil
}

// Sync makes everything durable that was appended before the call; note End
// before to know what that is. It may run at the same time as anything else;
// one Sync waits for the other and then has little to do. When an fsync fails
// the log has failed for good: ErrFailed, from here and from every change.
func (l *Log) Sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	return l.sync()
}

// sync is Sync with syncing held.
func (l *Log) sync() error {
	l.mu.Lock()
	end, names := l.End(), l.namesUnsynced
	if kafka.Offset(l.synced.Load()) == end && !names {
		l.mu.Unlock()
		return nil
	}
	active, size := l.active(), l.active().size
	sealed := l.sealed
	bytes, opts := l.unsynced, l.opts
	l.sealed, l.unsynced, l.namesUnsynced = nil, 0, false
	l.mu.Unlock()

	for i, s := range sealed {
		if mutant.On(mutant.SealedUnsynced) {
			continue
		}
		if err := s.file.Sync(); err != nil {
			l.mu.Lock()
			l.sealed = append(slices.Clone(sealed[i:]), l.sealed...) // closing lets go of them
			l.mu.Unlock()
			return l.fail("sync "+s.path, err)
		}
		s.release()
	}
	if err := l.writeOut(active); err != nil {
		return err
	}
	if err := active.file.Sync(); err != nil && !(mutant.On(mutant.RetrySync) && active.file.Sync() == nil) {
		return l.fail("sync "+active.path, err)
	}
	if names && !mutant.On(mutant.NamesUnsynced) {
		if err := l.syncNames(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.synced.Store(int64(end))
	l.mu.Unlock()
	l.checkpoint.pending += bytes
	ck := checkpoint{start: l.Start(), point: position{segment: active.base, pos: size, offset: end}}
	l.checkpoint.note(ck)
	// What is sealed is never taken for a tail that did not survive, even if it is
	// damaged when the power comes back.
	if l.checkpoint.pending >= opts.CheckpointBytes || len(sealed) > 0 {
		if err := l.checkpoint.sync(); err != nil {
			return l.fail("sync", err)
		}
	}
	l.dropBehind(active, size, opts.CacheBytes)
	for _, s := range sealed {
		l.touch(s)
	}
	return nil
}

// syncNames makes the files durable that were made since the last time: their
// names, and the directory's own the first time.
func (l *Log) syncNames() error {
	if !l.checkpoint.durable {
		if err := l.checkpoint.sync(); err != nil {
			return l.fail("sync", err)
		}
		if mutant.On(mutant.DirectoryUnsynced) {
			return nil
		}
		if err := l.fs.SyncDir(filepath.Dir(l.dir)); err != nil {
			return l.fail("sync directory", err)
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return l.fail("sync directory", err)
	}
	return nil
}

// dropBehind lets go of synced pages that are far behind the end.
func (l *Log) dropBehind(active *segment, size, keep int64) {
	if keep < 0 {
		return
	}
	if l.dropped.segment != active.base {
		l.dropped = position{segment: active.base}
	}
	if to := size - keep; to-l.dropped.pos >= dropCacheBytes {
		_ = active.file.DropCache(l.dropped.pos, to-l.dropped.pos)
		l.dropped.pos = to
	}
}

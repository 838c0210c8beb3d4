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
	"chronik/internal/storage/statefile"
)

// TruncateFrom drops the record at the offset and all after it, durably; a
// batch that contains the offset is dropped whole, so that the end may come to
// lie below the offset. Leader epochs, indices and saved states follow. An
// offset at or above the end drops only epochs that were assigned from there
// on. ErrOutOfRange means that the offset is below the log start offset.
func (l *Log) TruncateFrom(offset kafka.Offset) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if offset < l.Start() {
		return fmt.Errorf("truncate from %d: %w: log begins at %d", offset, ErrOutOfRange, l.Start())
	}
	if offset >= l.End() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cutEpochs(offset)
		return nil
	}
	// The recovery point is about to be put at the cut, and it says that all
	// before it is synced.
	if err := l.sync(); err != nil {
		return err
	}
	s, at, err := l.findCut(offset)
	if err != nil {
		return fmt.Errorf("truncate from %d: %w", offset, err)
	}
	start := min(l.Start(), at.offset)
	if err := l.lowerCleaned(at.offset); err != nil {
		return fmt.Errorf("truncate from %d: %w", offset, err)
	}
	err = l.checkpoint.save(checkpoint{start: start, point: position{segment: s.base, pos: at.pos, offset: at.offset}})
	if err != nil {
		return l.fail("truncate", err)
	}
	if err := l.cut(s, at, start); err != nil {
		return l.fail("truncate", err)
	}
	return nil
}

// findCut finds the begin of the batch that contains the offset.
func (l *Log) findCut(offset kafka.Offset) (*segment, entry, error) {
	l.mu.Lock()
	i := l.find(offset)
	s, size, end, last := l.segments[i], l.segments[i].size, l.End(), i == len(l.segments)-1
	if !last {
		end = l.segments[i+1].base
	}
	l.mu.Unlock()
	f, err := l.use(s, size, end, last)
	if err != nil {
		return nil, entry{}, err
	}
	defer s.release()
	at, err := l.locate(s, f, size, offset)
	return s, at, err
}

// cut makes s the last segment and at its end. The checkpoint allows for it.
func (l *Log) cut(s *segment, at entry, start kafka.Offset) error {
	was := l.active()
	i := slices.Index(l.segments, s) // only who holds changing alters the list
	if was != s {
		if _, err := s.holdWritable(l.fs); err != nil {
			return err
		}
		was.release()
		// Readers may have had it closed since the cut was found, and its index
		// with it: the entries before the cut stay.
		if err := l.loadIndex(s, s.size, l.segments[i+1].base); err != nil {
			return err
		}
	}
	l.mu.Lock()
	removed := slices.Clone(l.segments[i+1:])
	clear(l.segments[i+1:])
	l.segments = l.segments[:i+1]
	l.truncations++
	l.forget(removed)
	l.opened = slices.DeleteFunc(l.opened, func(o *segment) bool { return o == s })
	if mutant.On(mutant.MaxTimeKept) {
		at.maxTs = s.maxTs
	}
	s.size, s.maxTs, s.statsKnown = at.pos, at.maxTs, true
	s.lastEpoch, s.preallocated = unknownEpoch, at.pos
	s.lastAppend = max(s.lastAppend, l.now) // for all that is known
	s.behind.forget()
	l.synced.Store(int64(at.offset))
	l.end.Store(int64(at.offset))
	l.start.Store(int64(start))
	if !mutant.On(mutant.LogEpochsKept) {
		l.cutEpochs(at.offset)
	}
	l.mu.Unlock()

	// From the last to the first, so that what a crash leaves is a log with
	// fewer segments; Open deals with any other subset, too.
	abandonAll(removed)
	for _, r := range slices.Backward(removed) {
		if err := l.removeFiles(r); err != nil {
			return err
		}
	}
	if err := s.cutIndex(l.fs, at.pos); err != nil {
		return err
	}
	l.mu.Lock()
	s.sincePos = -1
	s.mu.Lock()
	if n := len(s.index); n > 0 {
		s.sincePos = s.index[n-1].pos
	}
	s.mu.Unlock()
	l.mu.Unlock()
	if err := s.resume(s.file); err != nil {
		return err
	}
	if err := s.file.Truncate(at.pos); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	l.dropped = position{}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	return l.pruneStates(start, at.offset)
}

// cutReads has reads that are under way find out that the log is another one
// now, and what was read ahead of it forgotten. mu is held.
func (l *Log) cutReads() {
	l.cuts++
	l.opts.Memory.drop(l)
}

// forget takes segments that are removed out of all lists. It is called with
// mu held.
func (l *Log) forget(removed []*segment) {
	l.cutReads()
	if !mutant.On(mutant.HintsKept) {
		l.hints = [len(l.hints)]hint{}
	}
	gone := func(s *segment) bool { return slices.Contains(removed, s) }
	l.opened = slices.DeleteFunc(l.opened, gone)
	l.sealed = slices.DeleteFunc(l.sealed, gone)
}

// abandonAll lets go of segments that are not in the log any more, before the
// first of their files is removed: that may fail.
func abandonAll(removed []*segment) {
	for _, s := range removed {
		s.abandon()
	}
}

// removeFiles removes a segment's files. Readers that hold them go on.
func (l *Log) removeFiles(s *segment) error {
	s.abandon()
	for _, name := range []string{s.indexPath, s.path} {
		if err := l.fs.Remove(name); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Trim moves the log start offset up, durably, and gives back the space of
// segments that are wholly below it. A start that is not above the present one
// does not; ErrOutOfRange means that it is above the end. The segment that
// contains the new start keeps what is below it; that is the active one, too,
// where the new start is the end and another segment cannot be made: the disk is
// full, or too many files are open.
//
// The state is what SaveState would keep at the start; nil: none. It is on disk
// before anything goes. If it cannot be saved, as on a full disk, that is tried
// again when segments are gone; an error then is of the state alone, and Trim with
// the same makes up for it.
func (l *Log) Trim(start kafka.Offset, state []byte) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if start > l.End() {
		return fmt.Errorf("trim to %d: %w: log ends at %d", start, ErrOutOfRange, l.End())
	}
	save := func() error {
		if state == nil || start < l.Start() {
			return nil
		}
		err := l.saveState(start, state)
		if vfs.Broken(err) {
			return l.fail("trim", err)
		}
		return err
	}
	unsaved := save()
	if err := l.Err(); err != nil { // of a Sync meanwhile, too
		return err
	}
	if start <= l.Start() {
		return unsaved
	}
	if err := l.trim(start); err != nil {
		return err
	}
	if unsaved != nil {
		return save()
	}
	return nil
}

func (l *Log) trim(start kafka.Offset) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := l.Err(); err != nil { // of a Sync meanwhile
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	if start == l.End() {
		if err := l.roll(); err != nil && l.Err() != nil {
			return fmt.Errorf("trim to %d: %w", start, err)
		}
		if err := l.sync(); err != nil {
			return err
		}
	}
	s, saved := l.active(), start
	if mutant.On(mutant.StartForgotten) {
		saved = l.Start()
	}
	if err := l.checkpoint.save(checkpoint{start: saved, point: position{s.base, s.size, l.End()}}); err != nil {
		return l.fail("trim", err)
	}
	l.mu.Lock()
	n := l.find(start)
	removed := slices.Clone(l.segments[:n])
	l.segments = slices.Delete(l.segments, 0, n)
	l.forget(removed)
	l.start.Store(int64(start))
	l.trimEpochs(start)
	l.mu.Unlock()
	abandonAll(removed)
	for _, r := range removed {
		if err := l.removeFiles(r); err != nil {
			return fmt.Errorf("trim to %d: %w", start, err)
		}
	}
	return l.pruneStates(start, l.End())
}

// Reset drops everything, durably, and lets the log begin at start, where the
// state is what SaveState would keep; nil: none. A crash leaves the log as it
// was, or one that has the state. On a full disk the state is saved when there
// is space again since the old log is gone, if then.
func (l *Log) Reset(start kafka.Offset, state []byte) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if start < 0 {
		return fmt.Errorf("reset to %d: %w", start, ErrOutOfRange)
	}
	if !l.checkpoint.durable {
		if err := l.syncNames(); err != nil {
			return err
		}
	}
	point := position{segment: start, pos: headerSize, offset: start}
	flags, late := uint16(flagResetting), false
	if state != nil {
		err := statefile.Save(l.fs, l.resetState(), state)
		if vfs.Broken(err) {
			return l.fail("reset", err)
		}
		if late = err != nil; !late {
			flags |= flagHasState
		}
	}
	// A crash from here on leaves files of the old log, which the flag tells
	// Open to remove.
	if err := l.checkpoint.save(checkpoint{flags: flags, start: start, point: point}); err != nil {
		return l.fail("reset", err)
	}
	if err := l.reset(start, point, flags&flagHasState != 0); err != nil {
		return l.fail("reset", err)
	}
	if late {
		_ = l.saveState(start, state)
	}
	return nil
}

func (l *Log) reset(start kafka.Offset, point position, hasState bool) error {
	l.mu.Lock()
	removed := slices.Clone(l.segments)
	held := append(slices.Clone(l.sealed), l.active())
	l.forget(removed)
	// Readers find an empty segment until there is one.
	empty := newSegment(l.dir, start, 0)
	empty.statsKnown, empty.loaded, empty.users = true, true, 1
	l.segments = []*segment{empty}
	l.truncations++
	l.sealed, l.unsynced, l.namesUnsynced = nil, 0, false
	l.epochs = nil
	l.start.Store(int64(start))
	l.end.Store(int64(start))
	l.synced.Store(int64(start))
	l.mu.Unlock()
	for _, s := range held {
		s.release()
	}
	abandonAll(removed)
	for _, s := range slices.Backward(removed) {
		if err := l.removeFiles(s); err != nil {
			return err
		}
	}
	if err := l.dropCleaned(); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	s, err := l.create(start, nil)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.cutReads()
	l.segments = []*segment{s}
	l.mu.Unlock()
	if err := s.file.Sync(); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	l.dropped = position{}
	if err := l.dropStates(start, hasState); err != nil {
		return err
	}
	if err := l.checkpoint.save(checkpoint{start: start, point: point}); err != nil || !hasState {
		return err
	}
	return statefile.Remove(l.fs, l.resetState())
}

// Close syncs what is written, notes that there is nothing to recover, and
// lets go of all files. A log that has failed lets go of its files and returns
// why it failed. One that is closed does nothing.
func (l *Log) Close(now time.Time) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.isClosed() {
		return nil
	}
	err := l.Err()
	if err == nil {
		err = l.settle()
	}
	l.closeFiles()
	return err
}

// settle leaves the files so that Open finds nothing to do. A log that nothing
// was ever written to is so as it was made: should the power fail, it may go.
func (l *Log) settle() error {
	if l.namesUnsynced && l.checkpoint.last.seq <= firstSeq && len(l.segments) == 1 && l.active().size == headerSize {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	s := l.active()
	if s.preallocated > s.size {
		_ = s.file.Truncate(s.size)
	}
	l.seal(s)
	// Not synced: should the power fail next, Open reads a little.
	l.checkpoint.note(checkpoint{
		flags: flagClosed, start: l.Start(), point: position{s.base, s.size, l.End()},
	})
	return nil
}

func (l *Log) closeFiles() {
	l.mu.Lock()
	held := append(slices.Clone(l.sealed), l.active())
	segments := l.segments
	l.closed = true
	l.cutReads()
	l.mu.Unlock()
	for _, s := range held {
		s.release()
	}
	abandonAll(segments) // readers on their way find no file: the directory may be another Log's
	l.checkpoint.file.Close()
}

// deletedSuffix ends the name of a directory that Delete has not emptied yet.
const deletedSuffix = ".deleted"

// Delete closes the log and removes its directory with all that is in it. Once
// it has returned, a crash does not bring the log back.
func (l *Log) Delete() error {
	l.changing.Lock()
	defer l.changing.Unlock()
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.isClosed() {
		return ErrClosed
	}
	l.closeFiles()
	return DeleteDir(l.fs, l.dir)
}

// DeleteDir removes the directory of a log that is not open. It is renamed
// first, so that a crash leaves the whole log or none; CleanDeleted removes
// what one leaves.
func DeleteDir(fs vfs.FS, dir string) error {
	gone := filepath.Clean(dir) + deletedSuffix
	if err := fs.RemoveAll(gone); err != nil {
		return fmt.Errorf("delete log %s: %w", dir, err)
	}
	if err := fs.Rename(dir, gone); err != nil {
		if errors.Is(err, vfs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("delete log %s: %w", dir, err)
	}
	if err := fs.SyncDir(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("delete log %s: %w", dir, err)
	}
	if err := fs.RemoveAll(gone); err != nil {
		return fmt.Errorf("delete log %s: %w", dir, err)
	}
	return nil
}

// CleanDeleted removes from a directory of logs what a crash during Delete has
// left, and returns how many logs that were.
func CleanDeleted(fs vfs.FS, parent string) (int, error) {
	entries, err := fs.List(parent)
	if errors.Is(err, vfs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if e.Dir && filepath.Ext(e.Name) == deletedSuffix {
			if err := fs.RemoveAll(filepath.Join(parent, e.Name)); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

package wal

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
)

// Recovery says what Open found and did.
type Recovery struct {
	Bounds         Bounds // after recovery: Synced is End
	Created        bool   // there was no log
	Clean          bool   // the log was closed in order and is as it was then
	CheckpointLost bool   // there are segments and no readable checkpoint
	Segments       int
	SyncedBefore   kafka.Offset // recovery point: what is below was known to be synced
	ScannedBytes   int64        // read to verify the tail
	CutBytes       int64        // of the tail that did not survive
	CutFrom        kafka.Offset // first offset that is cut off, if CutBytes or CutSegments is not 0
	CutSegments    int          // whole segments cut off
	CutReason      string       // what was wrong with the first batch that was cut off
	// CutResumed is the offset of a whole batch in what was cut off, or
	// kafka.NoOffset. There is one when a disk has kept later writes and lost
	// earlier ones that were never synced, or when synced data that the
	// recovery point did not cover yet was damaged together with a power loss.
	CutResumed kafka.Offset
	// Damage was found below the recovery point, where nothing is cut off;
	// there may be more that was not looked at. Nil for none.
	Damage *CorruptError
	// Damages are sealed segments of which nothing can be read until Repair.
	Damages []*CorruptError
}

// Open opens the log in dir or makes an empty one, and repairs what a crash
// has left: see the package comment for what is cut off and what is ErrCorrupt.
// ErrForeign means that files are of another log. What it reads is bounded by
// Options.UnsyncedBytesMax and Options.CheckpointBytes, not by the size of the
// log. Only one Log may be open for a directory; LockDir sees to that for a
// whole data directory. Files in dir that are not the log's are left alone.
func Open(fs vfs.FS, dir string, id Identity, opts Options, now time.Time) (*Log, Recovery, error) {
	l := &Log{fs: fs, dir: dir, id: id, opts: opts.withDefaults()}
	for i := range l.noted {
		l.noted[i] = kafka.NoOffset
	}
	l.clock(now)
	r := recovery{log: l, Recovery: Recovery{CutFrom: kafka.NoOffset, CutResumed: kafka.NoOffset, SyncedBefore: kafka.NoOffset}}
	err := r.run()
	if err != nil {
		r.close()
		return nil, r.Recovery, fmt.Errorf("open log %s: %w", dir, err)
	}
	r.Bounds, r.Segments = l.Bounds(), len(l.segments)
	return l, r.Recovery, nil
}

// LockDir makes sure that no other process uses the logs below dir, which it
// makes if necessary, until the result is closed.
func LockDir(fs vfs.FS, dir string) (unlock func() error, err error) {
	if err := vfs.MkdirAllSync(fs, dir); err != nil {
		return nil, err
	}
	c, err := fs.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	return c.Close, nil
}

// recovery is an Open that runs.
type recovery struct {
	Recovery
	log      *Log
	ck       checkpoint
	bases    []kafka.Offset          // of the segments
	files    map[kafka.Offset]uint32 // the generation of each
	stray    []string                // files that have no use any more
	replaced []*segment              // by others
	headers  []segmentHeader
	unclean  bool         // there may be something above the recovery point
	headless *segment     // the last one: nothing but its header was written, and that is damaged
	promised kafka.Offset // without a checkpoint: what a header says is synced, at or above the recovery point
}

func (r *recovery) close() {
	l := r.log
	for _, s := range l.segments {
		s.letGoAll()
	}
	if l.checkpoint.file != nil {
		l.checkpoint.file.Close()
	}
}

func (r *recovery) run() error {
	l := r.log
	if err := r.list(); err != nil {
		return err
	}
	if err := r.dropReplaced(); err != nil {
		return err
	}
	var found bool
	var err error
	if l.checkpoint, found, err = openCheckpoint(l.fs, l.dir, l.id); err != nil {
		return err
	}
	r.ck = l.checkpoint.last
	if found && r.ck.flags&flagResetting != 0 {
		return r.finishReset()
	}
	if err := r.remove(l.resetState()); err != nil { // of a reset that has not begun
		return err
	}
	if len(r.bases) == 0 {
		return r.begin(found)
	}
	if err := r.dropTrimmed(found); err != nil {
		return err
	}
	if err := r.settle(found); err != nil {
		return err
	}
	if err := r.readHeaders(found); err != nil {
		return err
	}
	if len(l.segments) == 0 {
		return r.begin(found)
	}
	if !found {
		r.guessCheckpoint()
	}
	return r.finish()
}

// begin makes the first segment of a log that has none.
func (r *recovery) begin(found bool) error {
	l := r.log
	start := kafka.Offset(0)
	if found {
		// A segment is missing only if nothing in it was ever synced.
		if r.ck.point.offset != r.ck.start || r.ck.point.pos != headerSize {
			return &CorruptError{
				File: filepath.Join(l.dir, offsetName(segmentPrefix, r.ck.point.segment, segmentSuffix)), Pos: 0,
				Offset: r.ck.start, Detail: fmt.Sprintf("segment is missing; the log was synced up to offset %d", r.ck.point.offset),
			}
		}
		start = r.ck.start
		r.SyncedBefore = start
	}
	r.Created = !found
	if err := r.makeFirst(start); err != nil {
		return err
	}
	if !found {
		// Into the page cache only: a log that is lost in a crash before its
		// first Sync held nothing.
		l.checkpoint.note(checkpoint{start: start, point: position{start, headerSize, start}})
		l.checkpoint.note(l.checkpoint.last)
	}
	return r.forgetLost()
}

// finish finds the end of the log.
func (r *recovery) finish() error {
	l := r.log
	p := r.ck.point
	r.SyncedBefore = p.offset
	at := slices.IndexFunc(l.segments, func(s *segment) bool { return s.base == p.segment })
	if at < 0 && p.pos > headerSize || at >= 0 && l.segments[at].size < p.pos {
		e := &CorruptError{Offset: p.offset, Detail: fmt.Sprintf("the log was synced up to offset %d at byte %d of this segment", p.offset, p.pos)}
		e.File = filepath.Join(l.dir, offsetName(segmentPrefix, p.segment, segmentSuffix))
		if at >= 0 {
			e.Pos = l.segments[at].size
		}
		return e
	}
	if at < 0 {
		// Nothing of the segment was synced, and it is gone.
		return &CorruptError{
			File: filepath.Join(l.dir, offsetName(segmentPrefix, p.segment, segmentSuffix)), Offset: p.offset,
			Detail: "segment is missing",
		}
	}
	l.start.Store(int64(max(r.ck.start, l.segments[0].base)))
	r.loadEpochs(at)
	if err := r.scan(at, p); err != nil {
		return err
	}
	return r.take()
}

// guessCheckpoint finds a recovery point in the headers: each says what was
// synced when its segment was made.
func (r *recovery) guessCheckpoint() {
	l := r.log
	synced := kafka.Offset(0)
	for _, h := range r.headers {
		synced = max(synced, h.synced)
	}
	l.mu.Lock()
	s := l.segments[l.find(synced)]
	l.mu.Unlock()
	r.promised = synced
	r.ck = checkpoint{start: l.segments[0].base, point: position{s.base, headerSize, s.base}}
}

// settle syncs what may be in the page cache only, and drops it from there, so
// that what is read next, headers too, is what the disk has: after an fsync that
// failed the page cache holds data that the disk does not. Without a checkpoint
// that is all there is.
func (r *recovery) settle(found bool) error {
	l := r.log
	last := r.bases[len(r.bases)-1]
	info, err := l.fs.Stat(r.segment(last).path)
	if err != nil {
		return err
	}
	p := r.ck.point
	r.Clean = found && r.ck.flags&flagClosed != 0 && last == p.segment && info.Size == p.pos
	// Even if there is nothing above the recovery point, files may have been
	// removed or cut, and be back after the next crash.
	untouched := !l.checkpoint.durable && last == p.segment && info.Size == headerSize
	if r.unclean = !r.Clean && !untouched; !r.unclean {
		return nil
	}
	if err := l.checkpoint.resync(); err != nil {
		return err
	}
	for _, base := range r.bases {
		if found && base < p.segment {
			continue
		}
		from := int64(0)
		if found && base == p.segment && p.pos > headerSize {
			from = p.pos &^ (headerSize - 1) // whole pages only are dropped
		}
		if err := r.settleSegment(r.segment(base), from); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.dir)
}

func (r *recovery) settleSegment(s *segment, from int64) error {
	f, err := r.log.fs.Open(s.path, vfs.ReadOnly)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", s.path, err)
	}
	// The header is changed in place now and then.
	_ = f.DropCache(0, headerSize)
	_ = f.DropCache(from, size-from)
	return nil
}

// writeAgain has the next Sync write the header of an empty log and its
// checkpoint even if one that failed has left them in the page cache, where they
// count as clean.
func (r *recovery) writeAgain(f vfs.File, ck checkpoint) error {
	l := r.log
	if _, err := f.WriteAt(r.headers[len(r.headers)-1].encode(), 0); err != nil {
		return fmt.Errorf("write header of %s: %w", l.active().path, err)
	}
	if l.checkpoint.last.seq == 0 { // it did not survive, and the first Sync makes it durable
		l.checkpoint.note(ck)
		l.checkpoint.note(ck)
	}
	return l.checkpoint.again()
}

// take opens the active segment for writing, makes the cut durable, and puts
// the recovery point at the end.
func (r *recovery) take() error {
	l := r.log
	s := l.active()
	f, err := s.holdWritable(l.fs)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err != nil {
		return err
	}
	if s.whole != kafka.NoOffset { // a truncation that was under way
		if err := s.resume(f); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	cut := size > s.preallocated
	if cut {
		if err := f.Truncate(s.size); err != nil {
			return err
		}
	}
	if cut || r.CutSegments > 0 {
		if err := f.Sync(); err != nil {
			return err
		}
		if err := l.fs.SyncDir(l.dir); err != nil {
			return err
		}
	}
	if err := r.trimIndex(s); err != nil {
		return err
	}
	l.synced.Store(l.end.Load())
	if l.End() < l.Start() {
		// The log start offset lies in a batch that was being truncated.
		l.start.Store(l.end.Load())
	}
	l.trimEpochs(l.Start())
	ck := checkpoint{start: l.Start(), point: position{s.base, s.size, l.End()}}
	switch {
	case r.headless != nil:
		if err := l.checkpoint.save(ck); err != nil {
			return err
		}
		if err := r.removeSegment(r.headless.base); err != nil {
			return err
		}
		if err := l.fs.SyncDir(l.dir); err != nil {
			return err
		}
	case r.Clean:
	case !r.unclean: // nothing to lose; left to the first Sync
		if err := r.writeAgain(f, ck); err != nil {
			return err
		}
		l.namesUnsynced = true
	case cut || r.CutSegments > 0 || !l.checkpoint.durable:
		// From its sequence on a checkpoint says that the names are synced.
		if err := l.fs.SyncDir(l.dir); err != nil {
			return err
		}
		if err := l.fs.SyncDir(filepath.Dir(l.dir)); err != nil {
			return err
		}
		if err := l.checkpoint.save(ck); err != nil {
			return err
		}
	default:
		l.checkpoint.note(ck)
	}
	return r.forgetLost()
}

// trimIndex makes the index file of the active segment hold no entry that is
// not in memory: it could be taken for one after the next crash.
func (r *recovery) trimIndex(s *segment) error {
	l := r.log
	s.mu.Lock()
	defer s.mu.Unlock()
	on := int64(0)
	if info, err := l.fs.Stat(s.indexPath); err == nil {
		on = info.Size
	}
	if kept := int64(s.flushed) * entrySize; on > kept {
		f, err := l.fs.Open(s.indexPath, vfs.ReadWrite)
		if err != nil {
			return err
		}
		s.indexFile = f
		if err := f.Truncate(kept); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	// It is as good in memory if the disk is full.
	_ = s.flushIndexLocked(l.fs)
	return nil
}

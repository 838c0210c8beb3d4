package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
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
	changed  bool // files were removed
	unclean  bool // there may be something above the recovery point
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

// list sorts out what is in the directory.
func (r *recovery) list() error {
	l := r.log
	entries, err := l.fs.List(l.dir)
	if errors.Is(err, vfs.ErrNotExist) {
		// The directory's own name is synced by the first Sync.
		if err := vfs.MkdirAllSync(l.fs, filepath.Dir(l.dir)); err != nil {
			return err
		}
		return l.fs.MkdirAll(l.dir)
	}
	if err != nil {
		return err
	}
	type file struct {
		base       kafka.Offset
		generation uint32
	}
	r.files = map[kafka.Offset]uint32{}
	var indices []file
	for _, e := range entries {
		if base, generation, ok := parseSegmentName(e.Name, segmentSuffix); ok {
			newest, known := r.files[base]
			switch {
			case !known:
				r.bases = append(r.bases, base)
				r.files[base] = generation
			case generation > newest:
				r.replaced = append(r.replaced, newSegment(l.dir, base, newest))
				r.files[base] = generation
			default:
				r.replaced = append(r.replaced, newSegment(l.dir, base, generation))
			}
		} else if base, generation, ok := parseSegmentName(e.Name, indexSuffix); ok {
			indices = append(indices, file{base, generation})
		} else if o, ok := parseName(e.Name, statePrefix, stateSuffix); ok {
			l.states = append(l.states, o)
		} else if i := slices.Index(notedNames[:], e.Name); i >= 0 {
			l.findNote(i)
		} else if e.Name == cleanedName {
			l.loadCleaned()
		} else if strings.HasSuffix(e.Name, tempSuffix) &&
			(strings.HasPrefix(e.Name, statePrefix) || strings.HasPrefix(e.Name, segmentPrefix) || strings.HasPrefix(e.Name, cleanedName)) {
			r.stray = append(r.stray, e.Name)
		}
	}
	slices.Sort(r.bases)
	for _, i := range indices {
		if generation, ok := r.files[i.base]; !ok || generation != i.generation {
			r.stray = append(r.stray, segmentName(i.base, i.generation, indexSuffix))
		}
	}
	for _, name := range r.stray {
		if err := r.remove(filepath.Join(l.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// dropReplaced removes the segments that others have replaced, which Rewrite
// had not removed yet.
func (r *recovery) dropReplaced() error {
	l := r.log
	end := kafka.NoOffset // of the last segment that was written as a whole
	kept := r.bases[:0]
	for _, base := range r.bases {
		if base < end {
			r.replaced = append(r.replaced, newSegment(l.dir, base, r.files[base]))
			delete(r.files, base)
			continue
		}
		kept = append(kept, base)
		if r.files[base] == 0 {
			continue
		}
		// One that cannot be read replaces nothing; it is looked at again.
		if h, err := r.readHeader(r.segment(base)); err == nil {
			end = max(end, h.end)
		}
	}
	r.bases = kept
	if len(r.replaced) == 0 {
		return nil
	}
	// What replaces them may be in the page cache only.
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	for _, s := range r.replaced {
		if err := r.remove(s.indexPath); err != nil {
			return err
		}
		if err := r.remove(s.path); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.dir)
}

// segment is the one with this base offset, of the generation found.
func (r *recovery) segment(base kafka.Offset) *segment {
	return newSegment(r.log.dir, base, r.files[base])
}

func (r *recovery) remove(name string) error {
	r.changed = true
	if err := r.log.fs.Remove(name); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return err
	}
	return nil
}

func (r *recovery) removeSegment(base kafka.Offset) error {
	s := r.segment(base)
	if err := r.remove(s.indexPath); err != nil {
		return err
	}
	return r.remove(s.path)
}

// finishReset does again what Reset was doing.
func (r *recovery) finishReset() error {
	l := r.log
	if err := l.checkpoint.resync(); err != nil { // it may be in the page cache only
		return err
	}
	for _, base := range slices.Backward(r.bases) {
		if err := r.removeSegment(base); err != nil {
			return err
		}
	}
	for _, o := range l.states {
		if err := r.remove(l.statePath(o)); err != nil {
			return err
		}
	}
	l.states = nil
	if _, err := l.dropNotes(func(kafka.Offset) bool { return true }); err != nil {
		return err
	}
	if err := l.dropCleaned(); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	if err := r.makeFirst(r.ck.start); err != nil {
		return err
	}
	if err := l.active().file.Sync(); err != nil {
		return err
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	l.namesUnsynced = false
	return l.checkpoint.save(checkpoint{start: r.ck.start, point: r.ck.point})
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

// forgetLost drops what is kept beside the log about records that are gone.
func (r *recovery) forgetLost() error {
	l := r.log
	if err := l.lowerCleaned(l.End()); err != nil {
		return err
	}
	return l.pruneStates(l.Start(), l.End())
}

func (r *recovery) makeFirst(start kafka.Offset) error {
	l := r.log
	l.start.Store(int64(start))
	l.end.Store(int64(start))
	l.synced.Store(int64(start))
	s, err := l.create(start, nil)
	if err != nil {
		return err
	}
	l.segments = []*segment{s}
	l.namesUnsynced = true
	return nil
}

// dropTrimmed removes segments below the log start offset, which Trim had not
// removed yet.
func (r *recovery) dropTrimmed(found bool) error {
	if !found {
		r.CheckpointLost = r.log.checkpoint.damaged || len(r.bases) > 1 || r.bases[0] > 0
		return nil
	}
	n := 0
	for n+1 < len(r.bases) && r.bases[n+1] <= r.ck.start && r.bases[n] < r.ck.point.segment {
		// The checkpoint may be in the page cache only.
		if n == 0 {
			if err := r.log.checkpoint.resync(); err != nil {
				return err
			}
		}
		if err := r.removeSegment(r.bases[n]); err != nil {
			return err
		}
		n++
	}
	r.bases = r.bases[n:]
	return nil
}

// readHeaders makes the segments of the log from the files' headers. Files
// that are not part of the log are cut off if they may be what was never
// synced.
func (r *recovery) readHeaders(found bool) error {
	l := r.log
	for i, base := range r.bases {
		s := r.segment(base)
		h, err := r.readHeader(s)
		if err != nil && r.sealedBelow(base, found) {
			h, err = r.withoutHeader(i, s, err)
		}
		if err == nil {
			if i == 0 && found && base > r.ck.start {
				err = &CorruptError{s.path, 0, r.ck.start, "the segment before it is missing"}
			} else if i > 0 {
				err = r.follows(s, &h)
			}
			if err != nil && found && base <= r.ck.point.segment {
				err = r.amend(s, &h, err)
			}
		}
		if err != nil {
			if errors.Is(err, ErrCorrupt) && r.mayBeUnsynced(i, found) {
				return r.cutSegments(i, err)
			}
			return err
		}
		l.segments = append(l.segments, s)
		r.headers = append(r.headers, h)
	}
	return nil
}

// mayBeUnsynced says whether nothing of the i-th segment is known to be synced.
func (r *recovery) mayBeUnsynced(i int, found bool) bool {
	p := r.ck.point
	switch {
	case found:
		return r.bases[i] > p.segment || r.bases[i] == p.segment && p.pos <= headerSize
	case r.log.checkpoint.damaged:
		return false
	}
	// No checkpoint was ever durable, so there never was a second segment.
	return len(r.bases) == 1 && r.bases[0] == 0
}

// readHeader reads header, size and first batch of a segment.
func (r *recovery) readHeader(s *segment) (h segmentHeader, err error) {
	f, err := r.log.fs.Open(s.path, vfs.ReadOnly)
	if err != nil {
		return h, err
	}
	defer f.Close()
	var b [headerSize + record.HeaderSize]byte
	n, err := readFull(f, b[:], 0)
	if err != nil {
		return h, fmt.Errorf("read header of %s: %w", s.path, err)
	}
	if h, err = decodeHeader(b[:n]); err != nil {
		return h, &CorruptError{s.path, 0, s.base, err.Error()}
	}
	if h.id != r.log.id {
		return h, fmt.Errorf("%w: %s is of topic %s partition %d", ErrForeign, s.path, h.id.TopicID, h.id.Partition)
	}
	if h.base != s.base || h.generation != s.generation {
		return h, fmt.Errorf("%w: %s begins at offset %d and is of generation %d", ErrForeign, s.path, h.base, h.generation)
	}
	if s.size, err = f.Size(); err != nil {
		return h, err
	}
	s.firstMs = record.NoTimestamp
	if n == len(b) {
		s.firstMs = record.Batch(b[headerSize:]).MaxTimestamp()
	}
	s.prev, s.prevSize, s.created, s.lastAppend = h.prev, h.prevSize, h.created, h.created
	s.whole = h.end
	s.gaps.Store(h.gaps)
	return h, nil
}

// follows checks that a segment was made behind the one before it.
func (r *recovery) follows(s *segment, h *segmentHeader) error {
	i := len(r.log.segments) - 1
	before, bh := r.log.segments[i], r.headers[i]
	if bh.end == h.base { // rewritten as a whole
		if before.size < bh.wholeSize {
			return &CorruptError{before.path, before.size, h.base, fmt.Sprintf("segment ends here, it had %d bytes", bh.wholeSize)}
		}
		before.size = bh.wholeSize
		return nil
	}
	if h.prev != before.base {
		return &CorruptError{s.path, 0, before.base, fmt.Sprintf("it follows segment %d, found %d before it", h.prev, before.base)}
	}
	if before.size < h.prevSize {
		return &CorruptError{before.path, before.size, h.base, fmt.Sprintf("segment ends here, it had %d bytes", h.prevSize)}
	}
	// What is beyond was a write that failed.
	before.size = h.prevSize
	return nil
}

// cutSegments removes the segment files from the i-th on.
func (r *recovery) cutSegments(i int, why error) error {
	l := r.log
	r.CutReason = why.Error()
	for _, base := range slices.Backward(r.bases[i:]) {
		if info, err := l.fs.Stat(r.segment(base).path); err == nil {
			r.CutBytes += max(0, info.Size-headerSize)
		}
		r.CutSegments++
		r.CutFrom = base
		if err := r.removeSegment(base); err != nil {
			return err
		}
	}
	r.bases = r.bases[:i]
	return nil
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

// loadEpochs takes the epochs that began before the segment from the headers.
func (r *recovery) loadEpochs(at int) {
	l := r.log
	from := at
	for from > 0 && r.headers[from].epochsCut {
		from--
	}
	for _, h := range r.headers[from : at+1] {
		for _, e := range h.epochs {
			if n := len(l.epochs); n == 0 || l.epochs[n-1].Epoch < e.Epoch {
				l.epochs = append(l.epochs, e)
			}
		}
	}
}

// scan verifies everything from the recovery point on, and finds the end.
func (r *recovery) scan(at int, p position) error {
	l := r.log
	for i := at; i < len(l.segments); i++ {
		s := l.segments[i]
		synced := int64(headerSize)
		if i == at {
			synced = p.pos
		}
		rb, bad, err := r.scanSegment(s, synced)
		if err != nil {
			return err
		}
		if bad != nil && bad.pos < synced {
			return bad.in(s)
		}
		if bad != nil {
			if bad, err = r.unlessPadded(s, rb.pos, bad); err != nil {
				return err
			}
		}
		end := rb.next
		if i == at && rb.pos == p.pos {
			end = max(end, p.offset)
		}
		if bad == nil && i+1 < len(l.segments) && s.whole == l.segments[i+1].base {
			end = s.whole // the records before it may be gone
		}
		broken := bad != nil || i+1 < len(l.segments) && l.segments[i+1].base != end
		if broken || i == len(l.segments)-1 {
			l.end.Store(int64(end))
			r.setActive(s, rb, broken)
			if broken {
				return r.cutTail(i, rb.pos, end, bad)
			}
			return nil
		}
		s.maxTs, s.statsKnown = rb.maxTs, true
		// What was not synced when the segment was sealed may be the index, too.
		s.index, s.loaded = append(rb.index, entry{offset: end, pos: rb.pos, maxTs: rb.maxTs, epoch: kafka.NoLeaderEpoch}), true
		s.flushed = rb.kept
		s.flushIndex(l.fs)
		s.evict()
	}
	return nil
}

// unlessPadded is what is bad about the end of a segment at pos, which is
// nothing when the file was filled up behind it.
func (r *recovery) unlessPadded(s *segment, pos int64, bad *badBatch) (*badBatch, error) {
	f, err := s.hold(r.log.fs)
	if err != nil {
		return bad, err
	}
	defer s.release()
	if ok, err := padded(f, pos, s.size); ok || err != nil {
		return nil, err
	}
	return bad, nil
}

// scanSegment reads the segment from the last index entry below synced on.
func (r *recovery) scanSegment(s *segment, synced int64) (*rebuild, *badBatch, error) {
	l := r.log
	b, err := vfs.ReadFile(l.fs, s.indexPath)
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read index: %w", err)
	}
	index := decodeIndex(b, s.base)
	for n := len(index); n > 0; n-- {
		// An entry of a batch says that the batch was there, which one above
		// the recovery point may not be any more.
		if e := index[n-1]; e.pos < synced || e.pos == synced && e.epoch < 0 {
			break
		}
		index = index[:n-1]
	}
	epochs := slices.Clone(l.epochs)
	f, err := s.hold(l.fs)
	if err != nil {
		return nil, nil, err
	}
	defer s.release()
	try := func(index []entry, verify int64) (*rebuild, *badBatch, error) {
		l.epochs = slices.Clone(epochs)
		for _, e := range index {
			if mutant.On(mutant.IndexEpochsLost) {
				break
			}
			l.noteEpoch(e.epoch, e.offset)
		}
		rb := &rebuild{segment: s, index: slices.Clip(index), kept: len(index), interval: l.opts.IndexIntervalBytes, each: l.addEpoch, point: kafka.NoOffset}
		if r.ck.point.segment == s.base {
			rb.point = r.ck.point.offset
		}
		err := rb.run(f, s.size, verify)
		r.ScannedBytes += rb.read
		var bad *badBatch
		if errors.As(err, &bad) {
			return rb, bad, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", s.path, err)
		}
		return rb, nil, nil
	}
	rb, bad, err := try(index, synced)
	if err == nil && bad != nil && bad.pos < synced && len(index) > 0 {
		// The index may be what is wrong.
		rb, bad, err = try(nil, synced)
	}
	if p := r.ck.point; err == nil && bad != nil && bad.pos < synced && p.segment == s.base && p.pos == synced {
		// Readers meet it; the log goes on from the recovery point.
		r.Damage = &CorruptError{File: s.path, Pos: bad.pos, Offset: bad.offset, Detail: bad.detail}
		known := len(index)
		rb, bad, err = try(append(index, entry{offset: p.offset, pos: p.pos, maxTs: rb.maxTs, epoch: kafka.NoLeaderEpoch}), synced)
		if rb != nil {
			rb.kept = known
		}
	}
	return rb, bad, err
}

// noteEpoch is addEpoch for an index entry.
func (l *Log) noteEpoch(e kafka.LeaderEpoch, start kafka.Offset) {
	if n := len(l.epochs); e >= 0 && (n == 0 || l.epochs[n-1].Epoch < e) {
		l.epochs = append(l.epochs, EpochStart{e, start})
	}
}

// setActive makes s what it would be had it just been written.
func (r *recovery) setActive(s *segment, rb *rebuild, broken bool) {
	s.preallocated = rb.pos
	if !broken {
		s.preallocated = s.size // the file, which may be filled up
	}
	s.size, s.maxTs, s.statsKnown, s.lastEpoch = rb.pos, rb.maxTs, true, rb.lastEpoch
	s.index, s.loaded, s.flushed = rb.index, true, rb.kept
	s.sincePos = -1
	if n := len(rb.index); n > 0 {
		s.sincePos = rb.index[n-1].pos
	}
}

// cutTail removes what did not survive: the i-th segment from pos on and all
// segments behind it.
func (r *recovery) cutTail(i int, pos int64, end kafka.Offset, bad *badBatch) error {
	l := r.log
	s := l.segments[i]
	size, err := l.fs.Stat(s.path)
	if err != nil {
		return err
	}
	if i+1 < len(l.segments) {
		why := fmt.Errorf("segment %d ends at offset %d", s.base, end)
		r.CutResumed = l.segments[i+1].base
		for _, gone := range l.segments[i+1:] {
			gone.evict()
		}
		l.segments = l.segments[:i+1]
		if err := r.cutSegments(i+1, why); err != nil {
			return err
		}
	}
	if bad != nil {
		r.CutReason = bad.detail
		if o, ok := r.resumes(s, bad, size.Size); ok {
			r.CutResumed = o
		}
	}
	r.CutFrom = end
	r.CutBytes += size.Size - pos
	return nil
}

// resumeBytes limits how far behind a bad batch a good one is looked for.
const resumeBytes = 8 << 20

// resumes looks for a whole batch behind a bad one.
func (r *recovery) resumes(s *segment, bad *badBatch, size int64) (kafka.Offset, bool) {
	f, err := s.hold(r.log.fs)
	if err != nil {
		return 0, false
	}
	defer s.release()
	b := make([]byte, min(size-bad.pos, resumeBytes))
	n, err := readFull(f, b, bad.pos)
	if err != nil {
		return 0, false
	}
	b = b[:n]
	for i := 1; i+record.HeaderSize <= len(b); i++ {
		if b[i+16] != record.Magic2 {
			continue
		}
		batch, _, err := record.Next(b[i:])
		if err != nil || batch.BaseOffset() < bad.offset || batch.LastOffsetDelta() < 0 || !batch.VerifyCRC() {
			continue
		}
		return batch.BaseOffset(), true
	}
	return 0, false
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

package wal

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// hint remembers where readers have come to.
type hint struct {
	offset  kafka.Offset
	segment *segment
	pos     int64
	readers int // who have come here and not gone on, as far as is known
}

// lookupChunk is what is read at once to find a batch from an index entry.
const lookupChunk = 32 << 10

var scanners = sync.Pool{New: func() any { return new(scanner) }}

// Read appends whole batches to buf and returns it: from the one that contains
// from on, all of them below limit, up to maxBytes but one at least however
// large it is. It may return fewer than there are; nothing is appended only if
// there is nothing below limit. ErrOutOfRange means that from is below the log
// start offset or above the end; ErrCorrupt that the batch at from is not what
// was written, in which case the ones before it could still be read.
func (l *Log) Read(from, limit kafka.Offset, maxBytes int, buf []byte) ([]byte, error) {
	if from == l.End() && from >= l.Start() {
		return buf, nil
	}
	before := len(buf)
	for {
		r, err := l.beginRead(from, limit)
		if err != nil || r.segment == nil {
			return buf, err
		}
		buf, err = l.readSegment(&r, from, maxBytes, buf[:before])
		again := l.endRead(&r, err == nil && len(buf) > before)
		switch {
		case again:
		case err != nil:
			return buf[:before], err
		case len(buf) > before || r.reached || r.last:
			return buf, nil
		default: // a gap at the segment's end
			from = r.segmentEnd
		}
	}
}

// reading is one attempt to read from one segment.
type reading struct {
	segment    *segment
	size       int64
	segmentEnd kafka.Offset // where the next segment begins, or the end of the log
	last       bool         // it is the active segment
	limit      kafka.Offset
	gaps       bool              // offsets may leave gaps
	epoch      kafka.LeaderEpoch // at from, or NoLeaderEpoch if it is not known
	epochEnd   kafka.Offset      // where the epoch ends
	cuts       uint64
	pos        int64 // where the batch with from begins; 0 if not known
	reached    bool  // the limit ended the read
	ahead      bool  // some of it was read ahead
	fromDisk   bool  // nothing that was read ahead is to be used

	next    kafka.Offset // after the last batch that was read; of the first one before that
	nextPos int64
}

// beginRead finds the segment that holds from. There is none when there is
// nothing to read.
func (l *Log) beginRead(from, limit kafka.Offset) (r reading, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return r, ErrClosed
	}
	start, end := l.Start(), l.End()
	if from < start || from > end {
		return r, fmt.Errorf("%w: offset %d, log has %d to %d", ErrOutOfRange, from, start, end)
	}
	if limit = min(limit, end); from >= limit {
		return r, nil
	}
	i := l.find(from)
	s := l.segments[i]
	r = reading{segment: s, size: s.size, segmentEnd: end, last: i == len(l.segments)-1, limit: limit, cuts: l.cuts}
	if !r.last {
		r.segmentEnd = l.segments[i+1].base
	}
	r.gaps, r.next = s.gaps.Load(), from
	r.epoch, r.epochEnd = l.epochAround(from)
	for _, h := range l.hints {
		if h.segment == s && h.offset == from {
			r.pos = h.pos
		}
	}
	return r, nil
}

// endRead says whether the log was cut meanwhile, so that what was read may
// never have been in it, and otherwise remembers where a read has come to.
func (l *Log) endRead(r *reading, ok bool) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cuts != r.cuts || l.closed {
		return true
	}
	if ok {
		l.noteReader(r)
		l.moveHint(r)
	}
	return false
}

// moveHint notes where a reader has come to in place of where it came from. mu
// is held.
func (l *Log) moveHint(r *reading) {
	slot := -1
	for i := range l.hints {
		h := &l.hints[i]
		switch {
		case h.segment != r.segment:
		case h.pos == r.nextPos:
			h.readers++
			slot = i
		case h.pos == r.pos:
			if h.readers--; h.readers > 0 {
				continue
			}
			*h = hint{}
			if slot < 0 {
				slot = i
			}
		}
	}
	if slot < 0 {
		slot = l.hintNext
		l.hintNext = (l.hintNext + 1) % len(l.hints)
	}
	if h := &l.hints[slot]; h.segment != r.segment || h.pos != r.nextPos {
		*h = hint{offset: r.next, segment: r.segment, pos: r.nextPos, readers: 1}
	}
}

// find returns the index of the segment that holds the offset.
func (l *Log) find(offset kafka.Offset) int {
	return max(0, sort.Search(len(l.segments), func(i int) bool { return l.segments[i].base > offset })-1)
}

// use opens the segment and its index for reading. The caller releases it.
func (l *Log) use(s *segment, size int64, end kafka.Offset, active bool) (vfs.File, error) {
	if s.damage != nil {
		return nil, s.damage
	}
	f, err := s.hold(l.fs)
	if errors.Is(err, vfs.ErrNotExist) {
		return nil, &CorruptError{s.path, 0, s.base, "the file is missing"}
	}
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	if err := l.loadIndex(s, size, end); err != nil {
		s.release()
		return nil, err
	}
	if !active {
		l.touch(s)
	}
	return f, nil
}

// touch notes that a sealed segment was used, and closes the one that was not
// for the longest time if there are too many.
func (l *Log) touch(s *segment) {
	var evict *segment
	l.mu.Lock()
	if i := slices.Index(l.opened, s); i >= 0 {
		l.opened = append(slices.Delete(l.opened, i, i+1), s)
	} else if slices.Contains(l.segments, s) && s != l.active() {
		l.opened = append(l.opened, s)
		if len(l.opened) > l.opts.OpenSegmentsMax {
			evict = l.opened[0]
			l.opened = slices.Delete(l.opened, 0, 1)
		}
	}
	l.mu.Unlock()
	if evict != nil {
		evict.evict()
	}
}

// readSegment does the I/O of one attempt.
func (l *Log) readSegment(r *reading, from kafka.Offset, maxBytes int, buf []byte) ([]byte, error) {
	s := r.segment
	f, err := l.use(s, r.size, r.segmentEnd, r.last)
	if err != nil {
		return buf, err
	}
	defer s.release()
	if r.pos == 0 {
		at, err := l.locate(s, f, r.size, from)
		if err != nil {
			return buf, err
		}
		r.pos, r.next = at.pos, at.offset
	}
	if r.pos >= r.size {
		if !r.gaps {
			return buf, &CorruptError{s.path, r.pos, from, fmt.Sprintf("segment ends at offset %d", r.next)}
		}
		return buf, nil // nothing but a gap follows
	}
	before := len(buf)
	want := int(min(int64(max(maxBytes, record.HeaderSize)), r.size-r.pos))
	for {
		buf = slices.Grow(buf[:before], want)[:before+want]
		n, err := l.readInto(r, f, buf[before:])
		if err != nil {
			return buf[:before], fmt.Errorf("read %s: %w", s.path, err)
		}
		buf = buf[:before+n]
		used, need, err := l.whole(r, f, from, buf[before:])
		if err != nil && r.ahead { // what the disk has now decides
			l.options().Memory.drop(l)
			r.ahead, r.fromDisk = false, true
			continue
		}
		if used > 0 || err != nil || need == 0 {
			return buf[:before+used], err
		}
		if need > r.size-r.pos || n < want {
			return buf[:before], &CorruptError{s.path, r.pos, from, fmt.Sprintf("batch of %d bytes, %d are left", need, r.size-r.pos)}
		}
		want = int(need)
	}
}

// whole returns how many of the bytes are whole batches below the limit. When
// the first batch is cut short, need is its size. An error is one of the first
// batch; a later one is left to the read that begins with it.
func (l *Log) whole(r *reading, f vfs.File, from kafka.Offset, b []byte) (used int, need int64, err error) {
	r.nextPos = r.pos
	bad := func(detail string) error {
		return &CorruptError{r.segment.path, r.pos, from, detail}
	}
	skipCRC := l.options().SkipReadCRC
	for {
		batch, rest, err := record.Next(b[used:])
		if errors.Is(err, record.ErrTruncated) {
			if used > 0 || len(b) < record.HeaderSize {
				if used == 0 {
					return 0, 0, bad("segment ends within a batch")
				}
				return used, 0, nil
			}
			return 0, batchSize(b), nil
		}
		if err == nil && used == 0 && batch.BaseOffset() >= r.epochEnd { // behind a gap
			l.mu.Lock()
			r.epoch, r.epochEnd = l.epochAround(batch.BaseOffset())
			l.mu.Unlock()
		}
		var detail string
		if err != nil {
			detail = err.Error()
		} else if used > 0 && batch.BaseOffset() >= r.epochEnd {
			return used, 0, nil
		} else if detail = r.misplaced(f, from, batch, rest); detail == "" {
			reached := batch.LastOffset() >= r.limit
			if reached && used > 0 {
				r.reached = true
				return used, 0, nil
			}
			if !skipCRC && !batch.VerifyCRC() && !mutant.On(mutant.CorruptServed) {
				detail = "CRC does not match"
			} else if reached {
				r.reached = true
				return 0, 0, nil
			}
		}
		if detail != "" {
			if used > 0 {
				return used, 0, nil
			}
			return 0, 0, bad(detail)
		}
		used += len(batch)
		r.next, r.nextPos = batch.NextOffset(), r.pos+int64(used)
		if len(rest) == 0 {
			return used, 0, nil
		}
	}
}

// misplaced says what is wrong with the base offset or the leader epoch of a
// batch, which its CRC does not cover. Rest is what follows it.
func (r *reading) misplaced(f vfs.File, from kafka.Offset, b record.Batch, rest []byte) string {
	base, last, epoch := b.BaseOffset(), b.LastOffset(), b.LeaderEpoch()
	if b.LastOffsetDelta() < 0 || last < from || base < r.next || last >= r.segmentEnd ||
		base != r.next && (!r.gaps || r.misplacedInGap(f, b, rest)) {
		return fmt.Sprintf("found offsets %d to %d, expected %d", base, last, r.next)
	}
	if epoch != kafka.NoLeaderEpoch && r.epoch != kafka.NoLeaderEpoch && epoch != r.epoch {
		return fmt.Sprintf("found leader epoch %d, expected %d", epoch, r.epoch)
	}
	return ""
}

// misplacedInGap says whether a batch behind a gap is at odds with the index
// or with the batch that follows.
func (r *reading) misplacedInGap(f vfs.File, b record.Batch, rest []byte) bool {
	pos := r.nextPos
	if r.segment.contradicts(pos, b.BaseOffset()) {
		return true
	}
	var h [record.HeaderSize]byte
	if pos += int64(len(b)); len(rest) < len(h) && pos < r.size {
		n, err := readFull(f, h[:min(r.size-pos, int64(len(h)))], pos)
		if err != nil {
			return false // whoever reads there meets it
		}
		rest = h[:n]
	}
	return len(rest) >= len(h) && record.Batch(rest).BaseOffset() <= b.LastOffset()
}

// locate finds the first batch whose last offset is not below the offset. Its
// position is size if there is none.
func (l *Log) locate(s *segment, f vfs.File, size int64, offset kafka.Offset) (entry, error) {
	s.mu.Lock()
	e := floor(s.index, s.base, offset)
	s.mu.Unlock()
	gaps := s.gaps.Load()
	at, err := locateFrom(e, f, size, gaps, offset)
	var bad *badBatch
	if !errors.As(err, &bad) {
		return at, err
	}
	if e.pos > headerSize {
		// Either the batch or the index is wrong. The batches know.
		if at, err := locateFrom(entry{offset: s.base, pos: headerSize, maxTs: noTimestamp, epoch: kafka.NoLeaderEpoch}, f, size, gaps, offset); err == nil {
			return at, nil
		}
	}
	return at, bad.in(s)
}

// locateFrom is locate from an index entry on. The result's maxTs is that of
// all batches before it.
func locateFrom(e entry, f vfs.File, size int64, gaps bool, offset kafka.Offset) (entry, error) {
	sc := scanners.Get().(*scanner)
	defer scanners.Put(sc)
	*sc = scanner{file: f, pos: e.pos, to: size, next: e.offset, gaps: gaps, epoch: e.epoch, chunk: lookupChunk, buf: sc.buf[:0]}
	at := e
	for first := true; ; first = false {
		h, _, err := sc.header()
		if err == errEnd {
			return entry{offset: sc.next, pos: size, maxTs: at.maxTs, epoch: kafka.NoLeaderEpoch}, nil
		}
		if err == nil && first && e.epoch >= 0 && e.pos > headerSize && h.BaseOffset() != e.offset {
			err = sc.bad("index has offset %d, batch has %d", e.offset, h.BaseOffset())
		}
		if err != nil {
			return entry{}, err
		}
		at.pos, at.offset, at.epoch = sc.pos, sc.next, h.LeaderEpoch()
		if h.LastOffset() >= offset {
			return at, nil
		}
		at.maxTs.include(h)
		sc.skip(h)
	}
}

// loadIndex brings the index of a segment into memory, from its file or, where
// that is missing, damaged or cannot be read, from the batches.
func (l *Log) loadIndex(s *segment, size int64, end kafka.Offset) error {
	interval := l.options().IndexIntervalBytes
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded {
		return nil
	}
	b, err := vfs.ReadFile(l.fs, s.indexPath)
	keep := true
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		// It is made of the batches, which say themselves if they cannot be read. What
		// is left of the file must not stand behind what is written into it.
		s.closeIndex()
		b, keep = nil, l.fs.Remove(s.indexPath) == nil
	}
	s.index = decodeIndex(b, s.base)
	s.flushed = len(s.index)
	if n := len(s.index); n > 0 && s.index[n-1].pos == size && s.index[n-1].offset == end {
		s.loaded = true
		return nil
	}
	for n := len(s.index); n > 0 && s.index[n-1].pos >= size; n-- {
		s.index = s.index[:n-1]
	}
	s.flushed = min(s.flushed, len(s.index))
	r := rebuild{index: s.index, segment: s, interval: interval, point: kafka.NoOffset}
	err = r.run(s.file, size, size)
	var bad *badBatch
	if err != nil && !errors.As(err, &bad) {
		return fmt.Errorf("rebuild index of %s: %w", s.path, err)
	}
	s.index = r.index
	if bad == nil {
		s.index = append(s.index, entry{offset: end, pos: size, maxTs: r.maxTs, epoch: kafka.NoLeaderEpoch})
	}
	// It is as good in memory if the file cannot be written.
	if keep {
		_ = s.flushIndexLocked(l.fs)
	}
	s.closeIndex()
	s.loaded = true
	return nil
}

// rebuild goes on with an index from its last entry to the end of a segment.
type rebuild struct {
	segment  *segment
	index    []entry
	kept     int // entries of index that are from the file
	interval int64
	point    kafka.Offset       // of the batch at verify, NoOffset if it is not known
	each     func(record.Batch) // every batch from the last entry on, if not nil

	// Results.
	maxTs     timestampAt
	lastEpoch kafka.LeaderEpoch
	next      kafka.Offset
	pos       int64 // where the batches end
	read      int64 // bytes
}

// run reads up to size. Before verify, which is a batch boundary, it reads
// headers only; the CRC of what is behind it is checked.
func (r *rebuild) run(f vfs.File, size, verify int64) error {
	at := floorPos(r.index, r.segment.base, size)
	since := int64(-1)
	if len(r.index) > 0 {
		since = at.pos
	}
	r.maxTs, r.lastEpoch = at.maxTs, unknownEpoch
	sc := &scanner{file: f, pos: at.pos, to: size, next: at.offset, gaps: r.segment.gaps.Load(), epoch: at.epoch, chunk: 256 << 10}
	before := verify - 1 // where the last batch begins
	defer func() { r.next, r.pos, r.read = sc.next, sc.pos, sc.read }()
	for {
		if sc.pos == verify && !r.reaches(sc) {
			return &badBatch{pos: before, offset: sc.next, detail: fmt.Sprintf("batches end at offset %d, expected %d", sc.next, r.point)}
		}
		sc.sparse = sc.pos < verify
		b, n, err := sc.header()
		if err == nil && sc.pos < verify && n > verify-sc.pos {
			err = sc.bad("batch of %d bytes, %d are left", n, verify-sc.pos)
		}
		doubt := false
		if err == nil && sc.pos >= verify {
			b, err = sc.batch(true)
		} else if err == nil && n < sparseBytes { // it is read anyway
			_, bad := sc.batch(true)
			doubt = bad != nil
			b, _, err = sc.header()
		}
		if err == errEnd {
			return nil
		}
		if err != nil {
			return err
		}
		// The last entry is of this batch already when the walk begins at it.
		known := sc.pos == since && at.epoch >= 0
		if !known && (since < 0 || sc.pos-since >= r.interval || r.lastEpoch != b.LeaderEpoch()) {
			r.index = append(r.index, entry{offset: b.BaseOffset(), pos: sc.pos, maxTs: r.maxTs, epoch: b.LeaderEpoch()})
			since = sc.pos
		}
		if r.each != nil {
			r.each(b)
		}
		r.maxTs.include(b)
		if doubt {
			r.maxTs = unknownTimestamp
		}
		r.lastEpoch = b.LeaderEpoch()
		before = sc.pos
		sc.skip(b)
	}
}

// reaches says whether the batches before the point lead to its offset.
func (r *rebuild) reaches(sc *scanner) bool {
	return r.point == kafka.NoOffset || sc.next == r.point || sc.gaps && sc.next < r.point
}

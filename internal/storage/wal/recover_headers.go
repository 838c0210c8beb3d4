package wal

import (
	"errors"
	"fmt"
	"slices"

	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

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
			if !errors.Is(err, ErrCorrupt) {
				return err
			}
			if end, ok := r.emptyAfter(i, found); ok {
				r.headless, r.CutReason = s, err.Error()
				r.goBack(i, end)
				return nil
			}
			if ok, serr := r.mayBeUnsynced(i, found); !ok || serr != nil {
				return errors.Join(err, serr)
			}
			return r.cutSegments(i, err)
		}
		l.segments = append(l.segments, s)
		r.headers = append(r.headers, h)
	}
	return nil
}

// mayBeUnsynced says whether nothing of the i-th segment is known to be synced.
// A checkpoint that is not the first one names a segment whose header was synced,
// and there may be more that was since.
func (r *recovery) mayBeUnsynced(i int, found bool) (bool, error) {
	p, c := r.ck.point, &r.log.checkpoint
	switch {
	case found && r.bases[i] == p.segment && p.pos <= headerSize && c.durable:
		return r.holdsNothing(i)
	case found:
		return r.bases[i] > p.segment || r.bases[i] == p.segment && p.pos <= headerSize, nil
	case c.damaged:
		return false, nil
	}
	// No checkpoint was ever durable, so there never was a second segment.
	return len(r.bases) == 1 && r.bases[0] == 0, nil
}

// holdsNothing says whether there is nothing in a segment behind its header.
func (r *recovery) holdsNothing(i int) (bool, error) {
	f, err := r.log.fs.Open(r.segment(r.bases[i]).path, vfs.ReadOnly)
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size <= headerSize {
		return err == nil, err
	}
	return padded(f, headerSize, size)
}

// emptyAfter says whether the i-th segment is the last one, nothing was written to
// it, and the one before it ends where it begins: there.
func (r *recovery) emptyAfter(i int, found bool) (end entry, ok bool) {
	p := r.ck.point
	if !found || i == 0 || i+1 < len(r.bases) || r.bases[i] != p.segment || p.pos > headerSize {
		return entry{}, false
	}
	before := r.log.segments[i-1]
	end, ok = r.endByIndex(before)
	if empty, err := r.holdsNothing(i); !empty || err != nil || before.damage != nil {
		return entry{}, false
	}
	return end, ok && end.offset == p.offset && end.pos <= before.size
}

// goBack takes the segment before the i-th for the active one, which it was. What is
// behind its end was a write that failed.
func (r *recovery) goBack(i int, end entry) {
	s := r.log.segments[i-1]
	r.bases, r.Clean = r.bases[:i], false
	r.ck.point = position{segment: s.base, pos: end.pos, offset: end.offset}
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

package wal

import (
	"errors"
	"fmt"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// What is wrong with a sealed segment below the recovery point does not keep
// the log from being opened: nothing of the segment can be read, the rest can,
// and Repair makes it anew. Its place is known from its file's name and from the
// segments around it.

// sealedBelow says whether a segment is sealed and known to be synced.
func (r *recovery) sealedBelow(base kafka.Offset, found bool) bool {
	return found && base < r.ck.point.segment
}

// damaged keeps a segment in the log of which nothing can be read.
func (r *recovery) damaged(s *segment, pos int64, detail string) {
	if s.damage == nil {
		s.damage = &CorruptError{s.path, pos, s.base, detail}
		r.Damages = append(r.Damages, s.damage)
	}
}

// withoutHeader stands in for a header that is damaged, or another file's.
func (r *recovery) withoutHeader(i int, s *segment, why error) (h segmentHeader, err error) {
	if !errors.Is(why, ErrCorrupt) && !errors.Is(why, ErrForeign) {
		return h, why
	}
	l := r.log
	info, err := l.fs.Stat(s.path)
	if err != nil {
		return h, err
	}
	s.size = max(info.Size, headerSize)
	h = segmentHeader{id: l.id, base: s.base, generation: s.generation, prev: kafka.NoOffset, end: kafka.NoOffset}
	if n := len(l.segments); n > 0 {
		before := l.segments[n-1]
		if end, ok := r.endByIndex(before); !ok || end.offset != s.base {
			return h, why // there may be one missing before it
		} else if before.size >= end.pos {
			before.size = end.pos
		}
		h.prev, h.prevSize = before.base, before.size
	}
	if s.generation > 0 && i+1 < len(r.bases) {
		h.end, h.wholeSize = r.bases[i+1], s.size
	}
	s.prev, s.prevSize, s.whole, s.firstMs = h.prev, h.prevSize, h.end, record.NoTimestamp
	r.damaged(s, 0, why.Error())
	return h, nil
}

// endByIndex is what the index says of the end of a sealed segment.
func (r *recovery) endByIndex(s *segment) (entry, bool) {
	b, err := vfs.ReadFile(r.log.fs, s.indexPath)
	if err != nil {
		return entry{}, false
	}
	entries := decodeIndex(b, s.base)
	if n := len(entries); n > 0 && entries[n-1].epoch == kafka.NoLeaderEpoch {
		return entries[n-1], true
	}
	return entry{}, false
}

// amend deals with a segment that does not follow the one before it as it
// should: that one is short, or one between them is missing. Why is what
// readHeaders has found.
func (r *recovery) amend(s *segment, h *segmentHeader, why error) error {
	l := r.log
	n := len(l.segments)
	if !errors.Is(why, ErrCorrupt) {
		return why
	}
	if n == 0 { // the first one is missing
		if h.prev == kafka.NoOffset || h.prev > r.ck.start {
			return why
		}
		r.insert(h, kafka.NoOffset, 0)
		return nil
	}
	before, bh := l.segments[n-1], &r.headers[n-1]
	switch {
	case bh.end == h.base:
		r.damaged(before, before.size, fmt.Sprintf("segment ends here, it had %d bytes", bh.wholeSize))
		before.size = bh.wholeSize
	case h.prev == before.base:
		r.damaged(before, before.size, fmt.Sprintf("segment ends here, it had %d bytes", h.prevSize))
		before.size = h.prevSize
	case h.prev > before.base:
		end, ok := r.endByIndex(before)
		if !ok || end.offset != h.prev || before.size < end.pos {
			return why
		}
		before.size = end.pos
		r.insert(h, before.base, before.size)
	default:
		return why
	}
	return nil
}

// insert puts a segment into the log whose file is missing: what the header of
// the next one says of it.
func (r *recovery) insert(next *segmentHeader, prev kafka.Offset, prevSize int64) {
	l := r.log
	s := newSegment(l.dir, next.prev, 0)
	s.size, s.prev, s.prevSize, s.firstMs = max(next.prevSize, headerSize), prev, prevSize, record.NoTimestamp
	r.damaged(s, 0, "the file is missing")
	l.segments = append(l.segments, s)
	r.headers = append(r.headers, segmentHeader{id: l.id, base: s.base, prev: prev, prevSize: prevSize, end: kafka.NoOffset})
}

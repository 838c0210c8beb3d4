package wal

import (
	"errors"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// HeaderVisitor takes what Headers finds, in the order of the log.
type HeaderVisitor struct {
	// Batch is called with the header of each batch. Whole reads all of it and
	// checks its CRC; neither is to be used after the call, nor the header
	// after whole. An error of whole may be returned: it counts as damage.
	Batch func(header record.Batch, whole func() (record.Batch, error)) error
	// Damaged is called where batches are left out because they are not what
	// was written.
	Damaged func(*CorruptError)
}

// Headers visits the batches from the one that contains from on, all of them
// below limit. It reads little more than their headers, whose CRC therefore is
// not checked. Behind damage it goes on with the next batch that the index
// knows, or with the next segment.
func (l *Log) Headers(from, limit kafka.Offset, v HeaderVisitor) error {
	for from < limit {
		r, err := l.beginRead(from, limit)
		if err != nil || r.segment == nil {
			return err
		}
		next, err := l.walk(&r, from, &v)
		if err != nil && !l.endRead(&r, false) {
			return err
		}
		if next == from && err == nil {
			return nil
		}
		from = next
	}
	return nil
}

// walk visits one segment and returns where to go on.
func (l *Log) walk(r *reading, from kafka.Offset, v *HeaderVisitor) (kafka.Offset, error) {
	s := r.segment
	f, err := l.use(s, r.size, r.segmentEnd, r.last)
	if err != nil {
		var damage *CorruptError
		if !errors.As(err, &damage) || l.endRead(r, false) {
			return from, err
		}
		v.Damaged(damage)
		return max(from, min(r.segmentEnd, r.limit)), nil
	}
	defer s.release()
	w := headerWalk{reading: r, from: from}
	at, err := l.locate(s, f, r.size, from)
	w.seek(f, at)
	for {
		if err == nil {
			err = w.step(v)
		}
		var damage *CorruptError
		switch {
		case err == nil:
		case err == errEnd:
			if w.reached {
				return r.limit, nil
			}
			return max(w.from, min(r.segmentEnd, r.limit)), nil
		case errors.As(err, &damage):
			v.Damaged(damage)
			e, ok := s.entryAfter(damage.Pos)
			if !ok || e.pos >= r.size {
				return max(w.from, min(r.segmentEnd, r.limit)), nil
			}
			w.seek(f, e)
			err = nil
		default:
			return w.from, err
		}
	}
}

// headerWalk is a visit to one segment.
type headerWalk struct {
	*reading
	sc   scanner
	from kafka.Offset // nothing below it is visited
}

func (w *headerWalk) seek(f vfs.File, at entry) {
	w.sc = scanner{file: f, pos: at.pos, to: w.size, next: at.offset, gaps: w.gaps, epoch: at.epoch,
		chunk: lookupChunk, sparse: true, last: w.sc.last, buf: w.sc.buf[:0]}
}

// step visits one batch. errEnd means that there are no more.
func (w *headerWalk) step(v *HeaderVisitor) error {
	sc, s := &w.sc, w.segment
	h, size, err := sc.header()
	if err == nil && h.LastOffset() >= w.segmentEnd {
		err = sc.bad("found offsets %d to %d", h.BaseOffset(), h.LastOffset())
	}
	if err == nil && s.crosses(sc.pos, size, h.NextOffset(), w.gaps) {
		err = sc.bad("found %d bytes up to offset %d, which the index contradicts", size, h.LastOffset())
	}
	if err != nil {
		return inSegment(err, s)
	}
	if h.LastOffset() >= w.limit {
		w.reached = true
		return errEnd
	}
	next, epoch := h.NextOffset(), h.LeaderEpoch()
	if next > w.from {
		err = v.Batch(h, func() (record.Batch, error) {
			b, err := sc.batch(true)
			return b, inSegment(err, s)
		})
		w.from = next
	}
	// The header's bytes may be others by now.
	sc.next, sc.epoch, sc.last = next, max(sc.epoch, epoch), size
	sc.pos += size
	var damage *CorruptError
	if errors.As(err, &damage) {
		v.Damaged(damage)
		return nil
	}
	return err
}

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
		if broken && end < r.promised {
			e := &CorruptError{File: s.path, Pos: rb.pos, Offset: end, Detail: fmt.Sprintf("batches end, the log was synced up to offset %d", r.promised)}
			if bad != nil {
				e.Detail = bad.detail
			}
			return e
		}
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
		rb := &rebuild{segment: s, index: slices.Clip(index), kept: len(index), interval: l.opts.IndexIntervalBytes, each: func(b record.Batch) { l.addEpoch(b, b.BaseOffset()) }, point: kafka.NoOffset}
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
		rb, bad, err = try(append(index, entry{offset: p.offset, pos: p.pos, maxTs: unknownTimestamp, epoch: kafka.NoLeaderEpoch}), synced)
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
	s.lastAppend = max(s.lastAppend, r.log.now) // for all that is known
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

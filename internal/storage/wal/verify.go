package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// Piece is what one call of Verify has gone over.
type Piece struct {
	From, To kafka.Offset // offsets gone over: whole batches; up to the segment's end where there is Damage
	Sum      uint32       // of the batches, see Verify
	Bytes    int64        // that were read
	// Compacted says that the segment is, or may be, not what was appended but
	// what compaction has left of it, so that the sum is this replica's own.
	Compacted bool
	First     kafka.Offset  // base offset of the first batch: From lies in it
	Damage    *CorruptError // the first thing that is not as it was written; nil for none

	SegmentBase, SegmentEnd kafka.Offset // of the segment; the end of an active one is the log's
	IndexRebuilt            bool         // the segment's index was damaged
}

// Verify reads batches from the disk, not from the page cache where it can be
// helped, and checks all that there is to check: the header of the segment,
// CRC, offsets and leader epochs of batches, and the index. It begins with the
// batch that contains from and stops before limit, at the end of the segment,
// or when maxBytes are read, though not before it has read one batch. To equals
// from only if there is nothing below limit.
//
// Sum goes on from the sum given: it is a CRC-32C over offset, leader epoch and
// CRC of each batch, so that replicas can compare what they have.
//
// What is wrong with the disk's bytes is the result's Damage. Errors are those
// of Read, and of opening files.
func (l *Log) Verify(from, limit kafka.Offset, maxBytes int64, sum uint32) (Piece, error) {
	for {
		r, err := l.beginRead(from, limit)
		if err != nil || r.segment == nil {
			return Piece{From: from, To: from, Sum: sum}, err
		}
		v := verifying{reading: &r, log: l, piece: Piece{From: from, To: from, Sum: sum, SegmentBase: r.segment.base, SegmentEnd: r.segmentEnd}}
		err = v.run(maxBytes)
		if l.endRead(&r, false) {
			continue // it may have been cut meanwhile
		}
		if err == nil && !r.last && v.piece.Damage == nil && v.piece.To == r.segmentEnd {
			v.piece.IndexRebuilt, err = l.verifyIndex(&r)
		}
		return v.piece, err
	}
}

// verifying is one attempt of Verify.
type verifying struct {
	*reading
	log   *Log
	piece Piece
}

func (v *verifying) run(maxBytes int64) error {
	l, s := v.log, v.segment
	l.mu.Lock()
	v.piece.Compacted = v.gaps || s.generation > 0 && l.cleaned > 0
	keep := l.opts.CacheBytes
	l.mu.Unlock()
	if s.damage != nil {
		v.damaged(s.damage)
		return nil
	}
	f, err := s.hold(l.fs)
	if errors.Is(err, vfs.ErrNotExist) {
		v.damaged(errors.New("the file is missing"))
		return nil
	}
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	defer s.release()
	// From here on an error is one of reading: as bad as other bytes.
	if err := l.loadIndex(s, v.size, v.segmentEnd); err != nil {
		v.damaged(err)
		return nil
	}
	if !v.last {
		l.touch(s)
	}
	at, err := l.locate(s, f, v.size, v.piece.From)
	if err == nil && (at.pos <= headerSize || v.piece.From <= l.Start()) {
		err = v.header(f)
	}
	if err != nil {
		v.damaged(inSegment(err, s))
		return nil
	}
	// What readers are likely to want stays in the cache, and is verified there.
	cold := v.size
	if v.last {
		cold = max(at.pos, v.size-max(keep, 0))
	}
	end := min(cold, at.pos+maxBytes)
	_ = f.DropCache(at.pos, end-at.pos)
	pos, err := v.batches(f, at, maxBytes)
	_ = f.DropCache(at.pos, min(pos, cold)-at.pos)
	if err != nil {
		v.damaged(inSegment(err, s))
	}
	return nil
}

// batches goes over the batches from at on, and returns where it has come to.
func (v *verifying) batches(f vfs.File, at entry, maxBytes int64) (int64, error) {
	p, s := &v.piece, v.segment
	sc := scanners.Get().(*scanner)
	defer scanners.Put(sc)
	*sc = scanner{file: f, pos: at.pos, to: v.size, next: at.offset, gaps: v.gaps, epoch: at.epoch, chunk: 256 << 10, buf: sc.buf[:0]}
	defer func() { p.Bytes += sc.read }()
	for sc.pos < v.size && (sc.pos == at.pos || sc.pos-at.pos < maxBytes) {
		h, size, err := sc.header()
		if err != nil {
			return sc.pos, err
		}
		if h.LastOffset() >= v.limit && h.LastOffset() < v.segmentEnd {
			return sc.pos, nil
		}
		switch {
		case h.LastOffset() >= v.segmentEnd:
			return sc.pos, sc.bad("found offsets %d to %d, the segment ends at %d", h.BaseOffset(), h.LastOffset(), v.segmentEnd)
		case s.crosses(sc.pos, size, h.NextOffset(), v.gaps) || s.contradicts(sc.pos, h.BaseOffset()):
			// One of the two is wrong. The batch's CRC does not cover what places it.
			return sc.pos, sc.bad("found offsets %d to %d in %d bytes, which the index contradicts", h.BaseOffset(), h.LastOffset(), size)
		}
		b, err := sc.batch(!mutant.On(mutant.VerifyUnchecked))
		if err == nil {
			err = v.epochOf(sc, b)
		}
		if err != nil {
			return sc.pos, err
		}
		if sc.pos == at.pos {
			p.First = b.BaseOffset()
		}
		p.Sum = AddToSum(p.Sum, b)
		sc.skip(b)
		p.To = max(p.To, sc.next)
	}
	if sc.pos >= v.size {
		if !v.gaps && sc.next != v.segmentEnd {
			return sc.pos, sc.bad("segment ends at offset %d, expected %d", sc.next, v.segmentEnd)
		}
		p.To = v.segmentEnd
	}
	return sc.pos, nil
}

// epochOf compares a batch's leader epoch with what the log knows.
func (v *verifying) epochOf(sc *scanner, b record.Batch) error {
	if b.BaseOffset() >= v.epochEnd || b.BaseOffset() < v.piece.From {
		v.log.mu.Lock()
		v.epoch, v.epochEnd = v.log.epochAround(b.BaseOffset())
		v.log.mu.Unlock()
	}
	if e := b.LeaderEpoch(); e != v.epoch && e != kafka.NoLeaderEpoch && v.epoch != kafka.NoLeaderEpoch && b.BaseOffset() >= v.log.Start() {
		return sc.bad("found leader epoch %d, expected %d", e, v.epoch)
	}
	return nil
}

// AddToSum continues the sum of Verify with a batch.
func AddToSum(sum uint32, b record.Batch) uint32 {
	var of [16]byte
	binary.BigEndian.PutUint64(of[:], uint64(b.BaseOffset()))
	binary.BigEndian.PutUint32(of[8:], uint32(b.LeaderEpoch()))
	binary.BigEndian.PutUint32(of[12:], b.CRC())
	return crc32.Update(sum, castagnoli, of[:])
}

// header checks the segment's header page. That of the active segment may be
// changing just now.
func (v *verifying) header(f vfs.File) error {
	s, id := v.segment, v.log.id
	// An open file can be read after its name has gone.
	if _, err := v.log.fs.Stat(s.path); err != nil {
		return fmt.Errorf("the file is not there any more: %w", err)
	}
	var b [headerSize]byte
	var err error
	for range 2 {
		_ = f.DropCache(0, headerSize)
		var n int
		if n, err = readFull(f, b[:], 0); err != nil {
			return fmt.Errorf("read header of %s: %w", s.path, err)
		}
		v.piece.Bytes += int64(n)
		var h segmentHeader
		h, err = decodeHeader(b[:n])
		if err == nil && (h.id != id || h.base != s.base || h.generation != s.generation) {
			err = fmt.Errorf("it is the header of topic %s partition %d, offset %d, generation %d", h.id.TopicID, h.id.Partition, h.base, h.generation)
		}
		if err == nil {
			return nil
		}
		if !v.last {
			break
		}
	}
	return &CorruptError{s.path, 0, s.base, err.Error()}
}

// damaged notes what is wrong with the segment, and goes past it.
func (v *verifying) damaged(err error) {
	p := &v.piece
	if !errors.As(err, &p.Damage) {
		p.Damage = &CorruptError{v.segment.path, 0, p.To, err.Error()}
	}
	p.To = v.segmentEnd
}

// verifyIndex checks the index file of a sealed segment of which the batches
// are right, and makes another if it is damaged.
func (l *Log) verifyIndex(r *reading) (rebuilt bool, err error) {
	s, size, end := r.segment, r.size, r.segmentEnd
	l.mu.Lock()
	sealing := slices.Contains(l.sealed, s)
	l.mu.Unlock()
	if sealing {
		return false, nil // it is written with the next sync
	}
	defer l.doubtNoMore(r)
	b, err := vfs.ReadFile(l.fs, s.indexPath)
	if err == nil {
		entries := decodeIndex(b, s.base)
		n := len(entries)
		// What is below the log start offset is not repaired.
		if n > 0 && n*entrySize == len(b) && entries[n-1].pos == size && entries[n-1].offset == end && (entries[n-1].maxTs != unknownTimestamp || s.base < l.Start()) {
			return false, nil
		}
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	if l.endRead(r, false) {
		return false, nil // it may be the writer's again, or another Log's
	}
	if _, err := s.hold(l.fs); err != nil {
		return false, err
	}
	defer s.release()
	s.mu.Lock()
	s.closeIndex()
	s.index, s.loaded, s.flushed = nil, false, 0
	err = l.fs.Remove(s.indexPath)
	s.mu.Unlock()
	if err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return false, fmt.Errorf("remove damaged index: %w", err)
	}
	return true, l.loadIndex(s, size, end)
}

// doubtNoMore has the largest timestamp of a sealed segment learned again that
// could not be read once.
func (l *Log) doubtNoMore(r *reading) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := r.segment; l.cuts == r.cuts && s.maxTs == unknownTimestamp {
		s.statsKnown = false
	}
}

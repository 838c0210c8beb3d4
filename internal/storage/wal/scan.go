package wal

import (
	"errors"
	"fmt"
	"io"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// readFull reads until b is full or the file ends.
func readFull(f vfs.File, b []byte, off int64) (int, error) {
	total := 0
	for total < len(b) {
		n, err := f.ReadAt(b[total:], off+int64(total))
		total += n
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// errEnd ends a scan that has come to its end.
var errEnd = errors.New("end of segment")

// badBatch is what a scan finds instead of a batch.
type badBatch struct {
	pos    int64
	offset kafka.Offset // expected
	detail string
}

func (b *badBatch) Error() string { return b.detail }

func (b *badBatch) in(s *segment) error {
	return &CorruptError{File: s.path, Pos: b.pos, Offset: b.offset, Detail: b.detail}
}

// inSegment makes a *CorruptError of a *badBatch.
func inSegment(err error, s *segment) error {
	var bad *badBatch
	if errors.As(err, &bad) {
		return bad.in(s)
	}
	return err
}

// sparseBytes is the size of batches from which reading each header alone is
// less work than reading all.
const sparseBytes = 12 << 10

// scanner steps through the batches of a segment's file between two batch
// boundaries, with large reads.
type scanner struct {
	file  vfs.File
	pos   int64        // of the next batch
	to    int64        // where the last batch ends
	next  kafka.Offset // of the next batch; with gaps it must not be below
	gaps  bool
	epoch kafka.LeaderEpoch // which the next batch's must not be below
	chunk int               // bytes to read at once
	// sparse is set when only headers are wanted: what is between those of
	// large batches is not read.
	sparse bool
	last   int64  // size of the batch before
	buf    []byte // what was read
	at     int64  // position of buf in the file
	read   int64  // bytes that were read from the file
}

// header returns the header of the next batch, valid until the next call, and
// its size; errEnd at the end, a *badBatch, or an error of the file.
func (s *scanner) header() (record.Batch, int64, error) {
	if s.pos >= s.to {
		return nil, 0, errEnd
	}
	b, err := s.bytes(record.HeaderSize)
	if err != nil {
		return nil, 0, err
	}
	if len(b) < record.HeaderSize {
		return nil, 0, s.bad("%d bytes are less than a batch", len(b))
	}
	_, _, err = record.Next(b)
	if err != nil && !errors.Is(err, record.ErrTruncated) {
		return nil, 0, s.bad("%v", err)
	}
	h := record.Batch(b[:record.HeaderSize])
	size := batchSize(h)
	switch {
	case h.BaseOffset() < s.next, h.BaseOffset() != s.next && !s.gaps:
		return nil, 0, s.bad("found offset %d", h.BaseOffset())
	case h.LastOffsetDelta() < 0:
		return nil, 0, s.bad("last offset delta %d", h.LastOffsetDelta())
	case h.LeaderEpoch() < s.epoch && h.LeaderEpoch() != kafka.NoLeaderEpoch:
		return nil, 0, s.bad("found leader epoch %d behind %d", h.LeaderEpoch(), s.epoch)
	case size > s.to-s.pos:
		return nil, 0, s.bad("batch of %d bytes, %d are left", size, s.to-s.pos)
	}
	return h, size, nil
}

// batch returns the next batch whole, as header does. Its CRC is checked if
// verify is set.
func (s *scanner) batch(verify bool) (record.Batch, error) {
	_, size, err := s.header()
	if err != nil {
		return nil, err
	}
	b, err := s.bytes(int(size))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) < size {
		return nil, s.bad("file ends within the batch")
	}
	batch := record.Batch(b[:size])
	if verify && !batch.VerifyCRC() {
		return nil, s.bad("CRC does not match")
	}
	return batch, nil
}

// skip goes past the batch that header or batch returned.
func (s *scanner) skip(h record.Batch) {
	s.next = h.NextOffset()
	s.epoch = max(s.epoch, h.LeaderEpoch())
	s.last = batchSize(h)
	s.pos += s.last
}

func (s *scanner) bad(format string, args ...any) error {
	return &badBatch{pos: s.pos, offset: s.next, detail: fmt.Sprintf(format, args...)}
}

// bytes returns n bytes from pos on, fewer if the scan's end comes before.
func (s *scanner) bytes(n int) ([]byte, error) {
	n = int(min(int64(n), s.to-s.pos))
	if lo := s.pos - s.at; lo >= 0 && lo+int64(n) <= int64(len(s.buf)) {
		return s.buf[lo : lo+int64(n)], nil
	}
	chunk := s.chunk
	if s.sparse && s.last >= sparseBytes {
		chunk = 0
	}
	want := int(min(int64(max(n, chunk)), s.to-s.pos))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	got, err := readFull(s.file, s.buf[:want], s.pos)
	s.buf, s.at = s.buf[:got], s.pos
	s.read += int64(got)
	if err != nil {
		return nil, err
	}
	return s.buf[:min(n, got)], nil
}

// batchSize is the size of a batch of which at least the header is there.
func batchSize(h record.Batch) int64 {
	return record.Overhead + int64(uint32(h[8])<<24|uint32(h[9])<<16|uint32(h[10])<<8|uint32(h[11]))
}

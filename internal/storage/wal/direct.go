package wal

import (
	"errors"
	"io"
	"math"
	"slices"
	"sync"

	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// Large appends and reads go past the page cache, through a few buffers that
// are used again and again: filling the cache with pages that nobody reads
// costs more than all else that a log does.
//
// A direct write is of whole blocks. It begins with the block in which the log
// ends, whose bytes the segment remembers, and ends with a block filled up with
// zeros, so that the file may be longer than the log by less than a block; Open
// takes no notice of that, and sealing and closing cut it off.

const (
	blockSize = vfs.DirectAlign
	// directChunk is what is written or read at once.
	directChunk = 1 << 20
	// directReadMin is the least that is read past the cache: less is better
	// read ahead by the system.
	directReadMin = 256 << 10
)

// directBuffers hold buffers for one chunk, aligned.
var directBuffers = sync.Pool{New: func() any { b := vfs.DirectBuffer(directChunk); return &b }}

// lastBlock is what there is of the block in which a segment ends, as far as it
// is known without reading.
type lastBlock struct {
	bytes    []byte // of the block, up to the end
	known    bool
	doubtful bool // a write of it has failed, so that what it held before may be gone
}

// direct says whether an append of so many bytes goes past the cache: not one
// that somebody who is at the end of the log is going to read. mu is held.
func (l *Log) direct(total int64) bool {
	o := &l.opts
	return o.DirectBytesMin > 0 && total >= o.DirectBytesMin && o.CacheBytes >= 0 && l.appended >= l.cachedUntil
}

// noteReader has what is appended next stay in the cache, if a reader is close
// to the end. mu is held.
func (l *Log) noteReader(r *reading) {
	if r.last && r.size-r.nextPos < l.opts.CacheBytes {
		l.cachedUntil = l.appended + l.opts.CacheBytes
	}
}

// writeDirect writes the batches at the segment's end, at.
func (l *Log) writeDirect(s *segment, batches []record.Batch, at int64) error {
	chunk := directBuffers.Get().(*[]byte)
	defer directBuffers.Put(chunk)
	buf := *chunk
	n := int(at % blockSize)
	if s.tail.known {
		copy(buf, s.tail.bytes)
	} else if got, err := readFull(s.file, buf[:n], at-int64(n)); err != nil {
		return err
	} else if got < n {
		return io.ErrUnexpectedEOF
	}
	pos := at - int64(n)
	s.tail.known = false
	for _, b := range batches {
		for rest := []byte(b); len(rest) > 0; {
			if n == len(buf) {
				if err := s.writeBlocks(buf, pos, at); err != nil {
					return err
				}
				pos += int64(n)
				n = 0
			}
			m := copy(buf[n:], rest)
			n, rest = n+m, rest[m:]
		}
	}
	whole := (n + blockSize - 1) / blockSize * blockSize
	clear(buf[n:whole])
	if err := s.writeBlocks(buf[:whole], pos, at); err != nil {
		return err
	}
	s.preallocated = max(s.preallocated, pos+int64(whole))
	s.tail.bytes = append(slices.Grow(s.tail.bytes[:0], blockSize), buf[n-n%blockSize:n]...)
	s.tail.known = true
	return nil
}

// writeBlocks writes at pos; what is before at was written already.
func (s *segment) writeBlocks(b []byte, pos, at int64) error {
	_, err := s.file.WriteDirectAt(b, pos)
	if err != nil && pos < at && !errors.Is(err, vfs.ErrNotDirect) && !errors.Is(err, vfs.ErrNoSpace) {
		s.tail.doubtful = true
	}
	return err
}

// padded says whether nothing but what writeDirect fills up a block with is
// between the end of the batches and that of the file.
func padded(f vfs.File, end, size int64) (bool, error) {
	if n := size - end; n <= 0 || n >= blockSize || size%blockSize != 0 {
		return false, nil
	}
	var block [blockSize]byte
	n, err := readFull(f, block[:size-end], end)
	return err == nil && !slices.ContainsFunc(block[:n], func(b byte) bool { return b != 0 }), err
}

// directReads says whether a read goes past the cache: a large one of what was
// dropped from there, or was never in it.
func (l *Log) directReads(r *reading, want int) bool {
	o := l.options()
	cached := o.CacheBytes
	if cached < 0 || o.DirectBytesMin <= 0 {
		cached = math.MaxInt64
	}
	return int64(want) >= min(directReadMin, o.DirectBytesMin) && (!r.last || r.size-r.pos > cached)
}

// readInto is readFull for one attempt.
func (l *Log) readInto(r *reading, f vfs.File, b []byte) (int, error) {
	if !l.directReads(r, len(b)) {
		return readFull(f, b, r.pos)
	}
	n, err := readDirect(f, b, r.pos)
	if errors.Is(err, vfs.ErrNotDirect) {
		return readFull(f, b, r.pos)
	}
	return n, err
}

// readDirect is readFull past the cache.
func readDirect(f vfs.File, b []byte, off int64) (int, error) {
	chunk := directBuffers.Get().(*[]byte)
	defer directBuffers.Put(chunk)
	total := 0
	for total < len(b) {
		skip := int((off + int64(total)) % blockSize)
		want := min(directChunk, (skip+len(b)-total+blockSize-1)/blockSize*blockSize)
		n, err := f.ReadDirectAt((*chunk)[:want], off+int64(total-skip))
		if n > skip {
			total += copy(b[total:], (*chunk)[skip:n])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

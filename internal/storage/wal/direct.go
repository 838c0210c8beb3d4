package wal

import (
	"errors"
	"io"
	"slices"
	"sync"

	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// Large appends and reads go past the page cache, through a few buffers that
// are used again and again: filling the cache with pages that nobody reads
// costs more than all else that a log does.
//
// A large append is copied into chunks, and Sync writes them: so appends go on
// while the disk is busy, and one write takes what several appends have left.
// Until then the bytes are in this process only, which is why whoever wants
// them to outlive it without a sync must set DirectBytesMin negative.
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
	// directReadsMax is how many readers, each with a chunk, are read for at a
	// time: more than a disk does at once.
	directReadsMax = 64
	// behindBytesMax is how much an Append may leave to the next Sync.
	behindBytesMax = 16 << 20
)

// directBuffer is memory for one chunk, aligned. The others of its region may
// be in use elsewhere.
type directBuffer struct {
	bytes  []byte
	region *vfs.Region // must live as long as the buffer
}

var directBuffers sync.Pool

func takeBuffer() *directBuffer {
	if b, ok := directBuffers.Get().(*directBuffer); ok {
		return b
	}
	r := vfs.NewRegion(vfs.HugePage)
	for at := directChunk; at < vfs.HugePage; at += directChunk {
		directBuffers.Put(&directBuffer{r.Bytes[at:][:directChunk], r})
	}
	return &directBuffer{r.Bytes[:directChunk], r}
}

// chunk is bytes of a segment from pos on, which is the begin of a block.
type chunk struct {
	pos int64
	buf *directBuffer
	n   int
}

// behind is what of a segment was appended and is not yet in its file.
type behind struct {
	mu      sync.Mutex
	memory  *Memory // that the chunks are of
	chunks  []chunk // one behind the other
	writing []chunk // before them; if there are both, they share a block
	block   []byte  // when there are no chunks: the bytes of the block in which the segment ends,
	end     int64   // if it ends here; -1 when they are not known
}

// some says whether there is anything.
func (w *behind) some() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.chunks)+len(w.writing) > 0
}

// forget is for when the segment's end was changed in another way.
func (w *behind) forget() {
	w.mu.Lock()
	w.end = -1
	w.mu.Unlock()
}

// reset drops everything.
func (w *behind) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.recycle(w.writing)
	w.recycle(w.chunks)
	w.chunks, w.writing, w.block, w.end = nil, nil, nil, -1
}

func (w *behind) recycle(chunks []chunk) {
	for _, c := range chunks {
		directBuffers.Put(c.buf)
	}
	w.memory.take(-directChunk * int64(len(chunks)))
	clear(chunks)
}

// direct says whether an append of so many bytes goes past the cache: not one
// that somebody who is at the end of the log is going to read. mu is held.
func (l *Log) direct(total int64) bool {
	o := &l.opts
	return o.pastCache() && total >= o.DirectBytesMin && l.appended >= l.cachedUntil && !l.cachedOnly.Load()
}

// noteReader has what is appended next stay in the cache, if a reader is close
// to the end. mu is held.
func (l *Log) noteReader(r *reading) {
	if r.last && r.size-r.nextPos < l.opts.CacheBytes {
		l.cachedUntil = l.appended + l.opts.CacheBytes
	}
}

// appendBehind leaves the batches, which are appended at the segment's end, to
// writeOut. There is space for them on the disk.
func (s *segment) appendBehind(batches []record.Batch, at int64, memory *Memory) error {
	w := &s.behind
	w.mu.Lock()
	if w.memory == nil { // else it is the same
		w.memory = memory
	}
	known := len(w.chunks) > 0 || w.end == at
	w.mu.Unlock()
	first := int(at % blockSize)
	var read [blockSize]byte
	if !known {
		if n, err := readFull(s.file, read[:first], at-int64(first)); err != nil {
			return err
		} else if n < first {
			return io.ErrUnexpectedEOF
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.chunks) == 0 {
		w.add(at - int64(first))
		before := read[:first]
		if known {
			before = w.block
		}
		w.chunks[0].n = copy(w.chunks[0].buf.bytes, before)
	}
	for _, b := range batches {
		for rest := []byte(b); len(rest) > 0; {
			c := &w.chunks[len(w.chunks)-1]
			if c.n == directChunk {
				w.add(c.pos + directChunk)
				continue
			}
			n := copy(c.buf.bytes[c.n:], rest)
			c.n += n
			rest = rest[n:]
		}
	}
	return nil
}

func (w *behind) add(pos int64) {
	w.chunks = append(w.chunks, chunk{pos: pos, buf: takeBuffer()})
	w.memory.take(directChunk)
}

// take hands over what is to be written: whole blocks, which nobody changes.
func (w *behind) take() []chunk {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.chunks) == 0 {
		return nil
	}
	last := &w.chunks[len(w.chunks)-1]
	whole := (last.n + blockSize - 1) / blockSize * blockSize
	clear(last.buf.bytes[last.n:whole])
	w.block = append(w.block[:0], last.buf.bytes[last.n-last.n%blockSize:last.n]...)
	w.end = last.pos + int64(last.n)
	w.writing, w.chunks = w.chunks, w.writing[:0]
	return w.writing
}

// writeOut writes what was appended before the call to the file, past the
// cache. One that fails leaves the log in doubt: what is written shares a block
// with what was written before. It does nothing in a log that has failed: what
// could not be written stays in memory, where readers find it. syncing is held.
func (l *Log) writeOut(s *segment) error {
	if err := l.Err(); err != nil {
		return err
	}
	w := &s.behind
	chunks := w.take()
	for _, c := range chunks {
		whole := (c.n + blockSize - 1) / blockSize * blockSize
		_, err := s.file.WriteDirectAt(c.buf.bytes[:whole], c.pos)
		if errors.Is(err, vfs.ErrNotDirect) {
			l.cachedOnly.Store(true)
			_, err = s.file.WriteAt(c.buf.bytes[:c.n], c.pos)
		}
		if err != nil {
			return l.fail("write "+s.path, err)
		}
	}
	w.mu.Lock()
	w.recycle(w.writing)
	w.writing = w.writing[:0]
	w.mu.Unlock()
	return nil
}

// behindFile is the file of a segment with what is not written yet.
type behindFile struct {
	vfs.File
	w *behind
}

// ReadAt reads from memory what is there, and the rest from the file.
func (f behindFile) ReadAt(b []byte, off int64) (int, error) {
	from, to := f.w.read(b, off)
	if from < 0 {
		return f.File.ReadAt(b, off)
	}
	if from > off {
		if n, err := f.File.ReadAt(b[:from-off], off); n < int(from-off) {
			return n, err
		}
	}
	if n := int(to - off); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

// ReadDirectAt is ReadAt where that has something in memory.
func (f behindFile) ReadDirectAt(b []byte, off int64) (int, error) {
	if from, _ := f.w.read(b, off); from >= 0 {
		return f.ReadAt(b, off)
	}
	return f.File.ReadDirectAt(b, off)
}

// read copies what is in memory of the bytes from off on: those from one
// position to another; -1 for none.
func (w *behind) read(b []byte, off int64) (from, to int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from, to = -1, -1
	for _, chunks := range [...][]chunk{w.writing, w.chunks} {
		for _, c := range chunks {
			lo, hi := max(off, c.pos), min(off+int64(len(b)), c.pos+int64(c.n))
			if lo >= hi {
				continue
			}
			copy(b[lo-off:hi-off], c.buf.bytes[lo-c.pos:])
			if from < 0 {
				from = lo
			}
			to = hi
		}
	}
	return from, to
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
	return o.pastCache() && int64(want) >= min(directReadMin, o.DirectBytesMin) && (!r.last || r.size-r.pos > o.CacheBytes)
}

// readInto is readFull for one attempt.
func (l *Log) readInto(r *reading, f vfs.File, b []byte) (int, error) {
	if !l.directReads(r, len(b)) {
		return readFull(f, b, r.pos)
	}
	ahead := 0
	if !r.fromDisk {
		ahead = l.readPieces(r, f, b)
		r.ahead = ahead > 0
	}
	if ahead == len(b) {
		return ahead, nil
	}
	m := l.options().Memory
	m.beginDirect()
	n, err := readDirect(f, b[ahead:], r.pos+int64(ahead))
	m.endDirect()
	if errors.Is(err, vfs.ErrNotDirect) {
		n, err = readFull(f, b[ahead:], r.pos+int64(ahead))
	}
	return ahead + n, err
}

// readDirect is readFull past the cache.
func readDirect(f vfs.File, b []byte, off int64) (int, error) {
	chunk := takeBuffer()
	defer directBuffers.Put(chunk)
	total := 0
	for total < len(b) {
		skip := int((off + int64(total)) % blockSize)
		want := min(directChunk, (skip+len(b)-total+blockSize-1)/blockSize*blockSize)
		n, err := f.ReadDirectAt(chunk.bytes[:want], off+int64(total-skip))
		if n > skip {
			total += copy(b[total:], chunk.bytes[skip:n])
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

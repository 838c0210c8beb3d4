package transport

import (
	"encoding/binary"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// chunkBytes is the unit in which memory for frames is taken. Frames go over
// the edges of chunks, so that no size needs a buffer of its own.
const chunkBytes = 64 << 10

type chunk struct {
	used int
	data [chunkBytes]byte
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// queue is frames in the form in which they are sent.
type queue struct {
	chunks []*chunk
	bytes  int
	done   int // bytes of the first chunk that are sent
	pieces [][]byte
}

// frame appends a frame of so many bytes with its length.
func (q *queue) frame(pieces [][]byte, size int) {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(size))
	q.append(length[:])
	for _, piece := range pieces {
		q.append(piece)
	}
}

func (q *queue) append(b []byte) {
	q.bytes += len(b)
	for len(b) > 0 {
		n := len(q.chunks)
		if n == 0 || q.chunks[n-1].used == chunkBytes {
			c := chunks.Get().(*chunk)
			c.used = 0
			q.chunks = append(q.chunks, c)
			n++
		}
		c := q.chunks[n-1]
		k := copy(c.data[c.used:], b)
		c.used += k
		b = b[k:]
	}
}

// gather lists what is to be sent.
func (q *queue) gather() [][]byte {
	q.pieces = q.pieces[:0]
	for i, c := range q.chunks {
		piece := c.data[:c.used]
		if i == 0 {
			piece = piece[q.done:]
		}
		q.pieces = append(q.pieces, piece)
	}
	return q.pieces
}

// sent takes away what has been sent.
func (q *queue) sent(n int) {
	q.bytes -= n
	q.done += n
	through := 0
	for through < len(q.chunks) && q.done >= q.chunks[through].used {
		q.done -= q.chunks[through].used
		chunks.Put(q.chunks[through])
		through++
	}
	rest := copy(q.chunks, q.chunks[through:])
	clear(q.chunks[rest:])
	q.chunks = q.chunks[:rest]
}

func (q *queue) clear() { q.sent(q.bytes) }

// writeTo sends everything, and takes as long as it takes.
func (q *queue) writeTo(c net.Conn) error {
	pieces := net.Buffers(q.gather())
	n, err := pieces.WriteTo(c)
	clear(q.pieces)
	q.sent(int(n))
	return err
}

// flusher sends on a connection without blocking.
type flusher struct {
	raw   syscall.RawConn // nil: not a socket of the kernel
	call  func(fd uintptr) bool
	queue *queue
	n     int
	err   error
}

func (f *flusher) open(c net.Conn) {
	f.raw = nil
	if s, ok := c.(syscall.Conn); ok {
		f.raw, _ = s.SyscallConn()
	}
	if f.call == nil {
		f.call = f.once
	}
}

// try says whether all was sent.
func (f *flusher) try(q *queue) bool {
	f.queue, f.n, f.err = q, 0, nil
	err := f.raw.Write(f.call)
	f.queue = nil
	q.sent(f.n)
	return err == nil && f.err == nil && q.bytes == 0
}

func (f *flusher) once(fd uintptr) bool {
	pieces := f.queue.gather()
	for {
		var n int
		var err error
		if len(pieces) == 1 {
			n, err = unix.Write(int(fd), pieces[0])
		} else {
			n, err = unix.Writev(int(fd), pieces)
		}
		if err == unix.EINTR {
			continue
		}
		f.n, f.err = max(n, 0), err
		clear(pieces)
		return true
	}
}

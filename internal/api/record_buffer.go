package api

import (
	"sync"
	"sync/atomic"
)

// Records for consumers are read into pooled buffers of two sizes: small ones
// for those who are at the end of the log, large ones for those who catch up.
const (
	smallBufferBytes = 64 << 10
	largeBufferBytes = 1<<20 + 4096
	bufferBytesMax   = 4 << 20 // larger ones are left to the garbage collector
)

var smallBuffers, largeBuffers sync.Pool // of *recordBuffer

// recordBuffer is a pooled buffer.
type recordBuffer struct{ bytes []byte }

func newRecordBuffer(large bool) *recordBuffer {
	pool, size := &smallBuffers, smallBufferBytes
	if large {
		pool, size = &largeBuffers, largeBufferBytes
	}
	if b, ok := pool.Get().(*recordBuffer); ok {
		return b
	}
	return &recordBuffer{make([]byte, 0, size)}
}

func (b *recordBuffer) release() {
	b.bytes = b.bytes[:0]
	switch n := cap(b.bytes); {
	case n > bufferBytesMax:
	case n >= largeBufferBytes:
		largeBuffers.Put(b)
	default:
		smallBuffers.Put(b)
	}
}

// fetchHint remembers how much one connection's last fetch got of a partition.
type fetchHint struct{ bytes atomic.Int64 }

func (h *fetchHint) large() bool { return h.bytes.Load() > smallBufferBytes/2 }

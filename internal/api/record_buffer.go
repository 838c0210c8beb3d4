package api

import (
	"sync"
	"sync/atomic"
	"unsafe"
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
	case n > bufferBytesMax || n < smallBufferBytes:
	case n >= largeBufferBytes:
		largeBuffers.Put(b)
	default:
		smallBuffers.Put(b)
	}
}

// fetchBuffers are the buffers of one fetch request. Partitions with few
// records share one.
type fetchBuffers struct {
	large bool
	all   []*recordBuffer
	room  []byte // at the end of the last one: nothing in it, and its capacity
}

// spare returns room for records of a partition, not yet taken.
func (f *fetchBuffers) spare() []byte {
	least := smallBufferBytes / 4
	if f.large {
		least = largeBufferBytes / 2
	}
	if cap(f.room) < least {
		b := newRecordBuffer(f.large)
		f.all = append(f.all, b)
		f.room = b.bytes[:0]
	}
	return f.room
}

// keep takes records that were read into what spare gave, or into something
// larger in its place. It returns them so that nothing can be appended.
func (f *fetchBuffers) keep(records []byte) []byte {
	n := len(records)
	if unsafe.SliceData(records) == unsafe.SliceData(f.room) {
		f.room = f.room[n:n:cap(f.room)]
	} else {
		f.all = append(f.all, &recordBuffer{records})
	}
	return records[:n:n]
}

// release gives the buffers back. No records that were kept may be used after
// it.
func (f *fetchBuffers) release() {
	for _, b := range f.all {
		b.release()
	}
	f.all, f.room = nil, nil
}

// fetchHint remembers how much one connection's last fetch got of a partition.
type fetchHint struct{ bytes atomic.Int64 }

func (h *fetchHint) large() bool { return h.bytes.Load() > smallBufferBytes/2 }

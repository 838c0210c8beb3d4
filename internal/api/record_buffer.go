package api

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// Records for consumers are read into pooled buffers of three sizes: small ones
// for those who are at the end of the log, large ones for those who catch up,
// huge ones for those who catch up on few partitions and want much at a time. A
// buffer's size is also the most that is read at once, so that memory is used
// again: the client asks for the rest.
const (
	smallBufferBytes = 64 << 10
	largeBufferBytes = 1<<20 + 4096
	hugeBufferBytes  = 4<<20 + 4096
	bufferBytesMax   = 5 << 20 // larger ones are left to the garbage collector
)

var smallBuffers, largeBuffers, hugeBuffers sync.Pool // of *recordBuffer

// recordBuffer is a pooled buffer.
type recordBuffer struct{ bytes []byte }

func poolOf(size int) *sync.Pool {
	switch {
	case size >= hugeBufferBytes:
		return &hugeBuffers
	case size >= largeBufferBytes:
		return &largeBuffers
	}
	return &smallBuffers
}

func newRecordBuffer(size int) *recordBuffer {
	if b, ok := poolOf(size).Get().(*recordBuffer); ok {
		return b
	}
	return &recordBuffer{make([]byte, 0, size)}
}

func (b *recordBuffer) release() {
	b.bytes = b.bytes[:0]
	if n := cap(b.bytes); n >= smallBufferBytes && n <= bufferBytesMax {
		poolOf(n).Put(b)
	}
}

// fetchBuffers are the buffers of one fetch request. Partitions with few
// records share one.
type fetchBuffers struct {
	size int // of each
	all  []*recordBuffer
	room []byte // at the end of the last one: nothing in it, and its capacity
}

// spare returns room for records of a partition, not yet taken.
func (f *fetchBuffers) spare() []byte {
	if cap(f.room) < f.size/4 {
		b := newRecordBuffer(f.size)
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

// bufferBytes is the size of the buffers for the next fetch, of so many partitions.
func (h *fetchHint) bufferBytes(partitions int) int {
	switch last := h.bytes.Load(); {
	case last > largeBufferBytes/2 && partitions <= 8:
		return hugeBufferBytes
	case last > smallBufferBytes/2:
		return largeBufferBytes
	}
	return smallBufferBytes
}

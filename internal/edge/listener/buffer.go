package listener

import (
	"math/bits"
	"sync"
)

// buffer is one encoded response in a pooled slice.
type buffer struct{ bytes []byte }

const (
	bufferBitsMin = 9  // 512 bytes
	bufferBitsMax = 24 // larger ones are left to the garbage collector
)

// bufferPools hold buffers with a capacity of at least 1<<(bufferBitsMin+i).
var bufferPools [bufferBitsMax - bufferBitsMin + 1]sync.Pool

// newBuffer gives a buffer with room for size bytes.
func newBuffer(size int) *buffer {
	class := 0
	if size > 1<<bufferBitsMin {
		class = bits.Len(uint(size-1)) - bufferBitsMin
	}
	if class >= len(bufferPools) {
		return &buffer{make([]byte, 0, size)}
	}
	if b, ok := bufferPools[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 0, 1<<(bufferBitsMin+class))}
}

// free gives the buffer back. It may have grown since.
func (b *buffer) free() {
	class := bits.Len(uint(cap(b.bytes))) - 1 - bufferBitsMin
	if class < 0 || class >= len(bufferPools) {
		return
	}
	b.bytes = b.bytes[:0]
	bufferPools[class].Put(b)
}

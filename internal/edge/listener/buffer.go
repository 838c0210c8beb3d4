package listener

import (
	"math/bits"
	"sync"

	"chronik/internal/format/wire"
)

// buffer is one encoded response: bytes in a pooled slice, with records between
// them that are sent from where they are.
type buffer struct {
	bytes   []byte
	cuts    []wire.Cut
	size    int    // of all
	release func() // gives back the records of cuts; may be nil
}

// pieces appends what is left after the first done bytes, in pieces.
func (b *buffer) pieces(dst [][]byte, done int) [][]byte {
	add := func(piece []byte) {
		if done >= len(piece) {
			done -= len(piece)
			return
		}
		dst = append(dst, piece[done:])
		done = 0
	}
	at := 0
	for i := range b.cuts {
		add(b.bytes[at:b.cuts[i].At])
		add(b.cuts[i].Records)
		at = b.cuts[i].At
	}
	add(b.bytes[at:])
	return dst
}

// cutBytesMin is the least for which a piece of its own is cheaper than a copy.
const cutBytesMin = 8 << 10

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
		return &buffer{bytes: make([]byte, 0, size)}
	}
	if b, ok := bufferPools[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{bytes: make([]byte, 0, 1<<(bufferBitsMin+class))}
}

// free gives the buffer back. It may have grown since.
func (b *buffer) free() {
	clear(b.cuts)
	b.cuts, b.size = b.cuts[:0], 0
	if b.release != nil {
		b.release()
		b.release = nil
	}
	class := bits.Len(uint(cap(b.bytes))) - 1 - bufferBitsMin
	if class < 0 || class >= len(bufferPools) {
		return
	}
	b.bytes = b.bytes[:0]
	bufferPools[class].Put(b)
}

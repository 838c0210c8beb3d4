package wire

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"chronik/internal/base/invariant"
)

const (
	poolBytesMin = 512
	poolBytesMax = 16 << 20 // larger buffers are left to the garbage collector
	poisonByte   = 0xdb

	// Buffers come in four sizes per doubling: 512, 640, 768, 896, 1024, …, and
	// the large ones in one: there are few of them, of any size, and the same
	// ones should be used again while they are in the processor's cache.
	poolLargeMin = 128 << 10
	poolStepBits = 2
	poolMinBits  = 9
	poolMaxBits  = 24
	poolClasses  = (poolMaxBits-poolMinBits)<<poolStepBits + 1
)

// Frame is one request's bytes in a pooled buffer. It starts with one holder;
// the buffer goes back to its pool when the last one has released it.
type Frame struct {
	bytes   []byte
	holders atomic.Int32
	class   int // of cap(bytes), -1 if not pooled
	poison  bool
}

// Bytes are the frame without its length field, valid until Release.
func (f *Frame) Bytes() []byte { return f.bytes }

// Retain adds a holder, who must call Release as well.
func (f *Frame) Retain() {
	invariant.Check(f.holders.Add(1) > 1, "retains a released frame")
}

// Release ends one holder's use of the frame and of all that aliases it.
func (f *Frame) Release() {
	n := f.holders.Add(-1)
	invariant.Check(n >= 0, "releases a frame twice")
	if n > 0 {
		return
	}
	if f.poison {
		whole := f.bytes[:cap(f.bytes)]
		for i := range whole {
			whole[i] = poisonByte
		}
	}
	if f.class >= 0 {
		framePools[f.class].Put(f)
	}
}

var framePools [poolClasses]sync.Pool

// newFrame returns a frame of size bytes whose content is undefined.
func newFrame(size int, poison bool) *Frame {
	if size > poolBytesMax {
		f := &Frame{bytes: make([]byte, size), class: -1, poison: poison}
		f.holders.Store(1)
		return f
	}
	class, classBytes := poolClass(size)
	f, ok := framePools[class].Get().(*Frame)
	if !ok {
		f = &Frame{bytes: make([]byte, classBytes), class: class}
	}
	f.bytes, f.poison = f.bytes[:size], poison
	f.holders.Store(1)
	return f
}

// grown returns a frame of size bytes that begins with the bytes of f, and
// releases f.
func (f *Frame) grown(size int) *Frame {
	if size <= cap(f.bytes) {
		f.bytes = f.bytes[:size]
		return f
	}
	g := newFrame(size, f.poison)
	copy(g.bytes, f.bytes)
	f.Release()
	return g
}

// poolClass returns the smallest class that holds size bytes, and its bytes.
func poolClass(size int) (class, classBytes int) {
	if size <= poolBytesMin {
		return 0, poolBytesMin
	}
	top := bits.Len(uint(size-1)) - 1 // size-1 is in [2^top, 2^(top+1))
	if size > poolLargeMin {
		return (top + 1 - poolMinBits) << poolStepBits, 2 << top
	}
	step := 1 << (top - poolStepBits)
	steps := (size - 1 - 1<<top) / step
	return (top-poolMinBits)<<poolStepBits + steps + 1, 1<<top + (steps+1)*step
}

package metadata

import (
	"encoding/binary"
	"math"

	"chronik/internal/base/kafka"
)

// A field is its key, number<<1 | kind, and its value. A field at its default
// is left out.
const (
	kindInt   = 0 // a zigzag varint
	kindBytes = 1 // a length and as many bytes
)

func appendInt(dst []byte, number uint64, v int64) []byte {
	if v == 0 {
		return dst
	}
	return appendPresentInt(dst, number, v)
}

func appendPresentInt(dst []byte, number uint64, v int64) []byte {
	return binary.AppendVarint(binary.AppendUvarint(dst, number<<1|kindInt), v)
}

func appendBool(dst []byte, number uint64, v bool) []byte {
	if !v {
		return dst
	}
	return appendPresentInt(dst, number, 1)
}

func appendString(dst []byte, number uint64, v string) []byte {
	if v == "" {
		return dst
	}
	dst = binary.AppendUvarint(dst, number<<1|kindBytes)
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

func appendID(dst []byte, number uint64, v [16]byte) []byte {
	if v == [16]byte{} {
		return dst
	}
	dst = binary.AppendUvarint(dst, number<<1|kindBytes)
	dst = append(dst, byte(len(v)))
	return append(dst, v[:]...)
}

func appendNodes(dst []byte, number uint64, v []kafka.NodeID) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, number<<1|kindBytes)
	size := 0
	for _, n := range v {
		size += varintSize(int64(n))
	}
	dst = binary.AppendUvarint(dst, uint64(size))
	for _, n := range v {
		dst = binary.AppendVarint(dst, int64(n))
	}
	return dst
}

func appendUnfit(dst []byte, number uint64, u Unfit) []byte {
	dst = binary.AppendUvarint(dst, number<<1|kindBytes)
	dst = binary.AppendUvarint(dst, uint64(varintSize(int64(u.Node))+1+len(u.Cause)))
	return append(append(binary.AppendVarint(dst, int64(u.Node)), byte(u.Fitness)), u.Cause...)
}

func varintSize(v int64) int {
	size := 1
	for u := uint64(v)<<1 ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		size++
	}
	return size
}

func cutUvarint(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// fields reads the fields of one record. A field that nobody asks for is
// skipped; one of another kind than asked for, or out of range, makes it bad.
type fields struct {
	b      []byte
	number uint64
	kind   uint64
	i      int64
	bytes  []byte
	bad    bool
}

func (f *fields) next() bool {
	if f.bad || len(f.b) == 0 {
		return false
	}
	key, b, ok := cutUvarint(f.b)
	if !ok {
		return f.fail()
	}
	f.number, f.kind = key>>1, key&1
	if f.kind == kindInt {
		v, n := binary.Varint(b)
		if n <= 0 {
			return f.fail()
		}
		f.i, f.b = v, b[n:]
		return true
	}
	size, b, ok := cutUvarint(b)
	if !ok || size > uint64(len(b)) {
		return f.fail()
	}
	f.bytes, f.b = b[:size:size], b[size:]
	return true
}

func (f *fields) fail() bool {
	f.bad = true
	return false
}

func (f *fields) int() int64 {
	if f.kind != kindInt {
		f.bad = true
	}
	return f.i
}

func (f *fields) ranged(low, high int64) int64 {
	v := f.int()
	if v < low || v > high {
		f.bad = true
	}
	return v
}

func (f *fields) int32() int32 { return int32(f.ranged(math.MinInt32, math.MaxInt32)) }

func (f *fields) bool() bool { return f.ranged(0, 1) == 1 }

func (f *fields) string() string {
	if f.kind != kindBytes {
		f.bad = true
	}
	return string(f.bytes)
}

func (f *fields) id(to *[16]byte) {
	if f.kind != kindBytes || len(f.bytes) != len(to) {
		f.bad = true
		return
	}
	copy(to[:], f.bytes)
}

func (f *fields) nodes() []kafka.NodeID {
	if f.kind != kindBytes {
		f.bad = true
		return nil
	}
	if len(f.bytes) == 0 {
		return nil // as a field that is left out, which is how no nodes are written
	}
	nodes := make([]kafka.NodeID, 0, min(len(f.bytes), 8))
	for b := f.bytes; len(b) > 0; {
		v, n := binary.Varint(b)
		if n <= 0 || v < 0 || v > math.MaxInt32 {
			f.bad = true
			return nil
		}
		nodes, b = append(nodes, kafka.NodeID(v)), b[n:]
	}
	return nodes
}

func (f *fields) unfit() Unfit {
	v, n := binary.Varint(f.bytes)
	if f.kind != kindBytes || n <= 0 || n == len(f.bytes) || v < 0 || v > math.MaxInt32 {
		f.bad = true
		return Unfit{}
	}
	return Unfit{kafka.NodeID(v), Fitness(f.bytes[n]), string(f.bytes[n+1:])}
}

// Package record reads, verifies, stamps, builds and rewrites record batches.
//
// A Batch is bytes. A leader takes what a producer sent through Check, which
// answers with a Refusal as Kafka would, then stamps it in place; everyone
// else splits bytes with Next and trusts the CRC. Records walks the records of
// any batch, Builder makes new ones, Filter rewrites one for compaction. The
// format is drawn in docs/formats/record-batch.md.
package record

import (
	"encoding/binary"
	"math"

	"chronik/internal/base/kafka"
)

// Header is one header of a record. A nil Value is null.
type Header struct {
	Key   []byte
	Value []byte
}

// Record is one record of a batch. A nil Key or Value is null, an empty one is
// empty.
type Record struct {
	Attributes  int8
	OffsetDelta int32 // Offset less the batch's base offset
	Offset      kafka.Offset
	Timestamp   int64 // ms; the batch's MaxTimestamp with LogAppendTime
	Key         []byte
	Value       []byte
	Headers     []Header
}

// recordBytesMin is the size of the smallest record: seven fields of a byte.
const recordBytesMin = 7

// varint reads a zigzag varint of 32 bits at b[i:]. The position after it is
// 0 when there is none.
func varint(b []byte, i int) (v int32, next int) {
	if i < len(b) && b[i] < 0x80 {
		return int32(b[i]>>1) ^ -int32(b[i]&1), i + 1
	}
	return varintLong(b, i)
}

func varintLong(b []byte, i int) (int32, int) {
	if i+1 < len(b) && b[i+1] < 0x80 {
		u := uint32(b[i]&0x7f) | uint32(b[i+1])<<7
		return int32(u>>1) ^ -int32(u&1), i + 2
	}
	var u uint32
	for shift := uint(0); shift < 35 && i < len(b); shift += 7 {
		c := b[i]
		i++
		if shift == 28 && c > 0x0f {
			return 0, 0
		}
		u |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return int32(u>>1) ^ -int32(u&1), i
		}
	}
	return 0, 0
}

// varlong is varint with 64 bits.
func varlong(b []byte, i int) (v int64, next int) {
	if i < len(b) && b[i] < 0x80 {
		return int64(b[i]>>1) ^ -int64(b[i]&1), i + 1
	}
	u, n := binary.Uvarint(b[min(i, len(b)):])
	if n <= 0 {
		return 0, 0
	}
	return int64(u>>1) ^ -int64(u&1), i + n
}

// appendVarint appends what varint and varlong read.
func appendVarint(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v)<<1^uint64(v>>63))
}

func varintSize(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}

// scanned is what must be known of a record to check it.
type scanned struct {
	timestampDelta int64
	offsetDelta    int32
	keyed          bool
}

// scan checks that body, the bytes of a record after its size, is exactly one
// record.
func scan(body []byte) (r scanned, ok bool) {
	if len(body) < recordBytesMin-1 {
		return r, false
	}
	i := 1 // the attributes have no meaning yet
	if r.timestampDelta, i = varlong(body, i); i == 0 {
		return r, false
	}
	if r.offsetDelta, i = varint(body, i); i == 0 {
		return r, false
	}
	key, i := varint(body, i)
	if i == 0 || int(key) > len(body)-i {
		return r, false
	}
	r.keyed = key >= 0
	value, i := varint(body, i+int(max(key, 0)))
	if i == 0 || int(value) > len(body)-i {
		return r, false
	}
	headers, i := varint(body, i+int(max(value, 0)))
	if i == 0 {
		return r, false
	}
	if headers == 0 {
		return r, i == len(body)
	}
	return r, scanHeaders(body, i, headers)
}

func scanHeaders(body []byte, i int, count int32) bool {
	if count < 0 || int(count) > (len(body)-i)/2 {
		return false
	}
	for range count {
		n, next := varint(body, i)
		if next == 0 || n < 0 || int(n) > len(body)-next {
			return false
		}
		i = next + int(n)
		if n, next = varint(body, i); next == 0 || int(n) > len(body)-next {
			return false
		}
		i = next + int(max(n, 0))
	}
	return i == len(body)
}

// parse reads body, which scan has found right, into r. Headers go to the
// capacity of headers.
func (r *Record) parse(body []byte, headers []Header) []Header {
	r.Attributes = int8(body[0])
	i := 1
	r.Timestamp, i = varlong(body, i)
	r.OffsetDelta, i = varint(body, i)
	r.Key, i = bytesAt(body, i)
	r.Value, i = bytesAt(body, i)
	n, i := varint(body, i)
	headers = headers[:0]
	for range n {
		var h Header
		h.Key, i = bytesAt(body, i)
		h.Value, i = bytesAt(body, i)
		headers = append(headers, h)
	}
	r.Headers = headers
	return headers
}

func bytesAt(body []byte, i int) ([]byte, int) {
	n, i := varint(body, i)
	if n < 0 {
		return nil, i
	}
	end := i + int(n)
	return body[i:end:end], end
}

// appendRecord appends one encoded record to dst.
func appendRecord(dst []byte, r *Record, timestampDelta int64) []byte {
	size := 1 + varintSize(timestampDelta) + varintSize(int64(r.OffsetDelta)) +
		bytesSize(r.Key) + bytesSize(r.Value) + varintSize(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		size += varintSize(int64(len(h.Key))) + len(h.Key) + bytesSize(h.Value)
	}
	dst = appendVarint(dst, int64(size))
	dst = append(dst, byte(r.Attributes))
	dst = appendVarint(dst, timestampDelta)
	dst = appendVarint(dst, int64(r.OffsetDelta))
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = appendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = append(appendVarint(dst, int64(len(h.Key))), h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 1) // -1
	}
	return append(appendVarint(dst, int64(len(b))), b...)
}

// addMs is a+b, held within the range of int64.
func addMs(a, b int64) int64 {
	s := a + b
	switch {
	case b > 0 && s < a:
		return math.MaxInt64
	case b < 0 && s > a:
		return math.MinInt64
	}
	return s
}

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// then is the timestamp of records that say nothing else. It is fixed, so that
// answers may be compared, and taken once, so that it is within every limit.
var then = time.Now().Add(-2 * time.Hour).Truncate(time.Hour).UnixMilli()

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one record; a nil key or value is null.
type record struct {
	attributes  int8
	timestamp   int64  // relative to then
	offsetDelta *int32 // instead of its place in the batch
	key, value  []byte
	headers     []recordHeader
	raw         []byte // instead of all
}

type recordHeader struct {
	key   string
	value []byte
}

func rec(key, value string) record {
	r := record{value: []byte(value)}
	if key != "" {
		r.key = []byte(key)
	}
	return r
}

func (r record) encode(place int) []byte {
	if r.raw != nil {
		return r.raw
	}
	delta := int64(place)
	if r.offsetDelta != nil {
		delta = int64(*r.offsetDelta)
	}
	b := []byte{byte(r.attributes)}
	b = binary.AppendVarint(b, r.timestamp)
	b = binary.AppendVarint(b, delta)
	b = appendBytes(b, r.key)
	b = appendBytes(b, r.value)
	b = binary.AppendVarint(b, int64(len(r.headers)))
	for _, h := range r.headers {
		b = appendBytes(b, []byte(h.key))
		b = appendBytes(b, h.value)
	}
	return append(binary.AppendVarint(nil, int64(len(b))), b...)
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

// batch is a record batch, right unless a field says otherwise.
type batch struct {
	baseOffset  int64
	leaderEpoch int32
	length      *int32
	magic       *int8
	attributes  int16 // the codec included
	lastDelta   *int32
	first, max  *int64
	producer    *producer
	count       *int32
	records     []record
	payload     []byte // instead of the records, compressed already
	badCRC      bool
}

type producer struct {
	id       int64
	epoch    int16
	sequence int32
}

func p[T any](v T) *T { return &v }

func or[T any](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return *v
}

func (b batch) encode() []byte {
	payload := b.payload
	latest := int64(0)
	if payload == nil {
		for i, r := range b.records {
			payload = append(payload, r.encode(i)...)
			latest = max(latest, r.timestamp)
		}
		payload = compress(int(b.attributes&7), payload)
	}
	who := producer{-1, -1, -1}
	if b.producer != nil {
		who = *b.producer
	}
	first := or(b.first, then)
	body := binary.BigEndian.AppendUint16(nil, uint16(b.attributes))
	body = binary.BigEndian.AppendUint32(body, uint32(or(b.lastDelta, int32(len(b.records)-1))))
	body = binary.BigEndian.AppendUint64(body, uint64(first))
	body = binary.BigEndian.AppendUint64(body, uint64(or(b.max, first+latest)))
	body = binary.BigEndian.AppendUint64(body, uint64(who.id))
	body = binary.BigEndian.AppendUint16(body, uint16(who.epoch))
	body = binary.BigEndian.AppendUint32(body, uint32(who.sequence))
	body = binary.BigEndian.AppendUint32(body, uint32(or(b.count, int32(len(b.records)))))
	body = append(body, payload...)
	crc := crc32.Checksum(body, castagnoli)
	if b.badCRC {
		crc ^= 1
	}
	out := binary.BigEndian.AppendUint64(nil, uint64(b.baseOffset))
	out = binary.BigEndian.AppendUint32(out, uint32(or(b.length, int32(9+len(body)))))
	out = binary.BigEndian.AppendUint32(out, uint32(b.leaderEpoch))
	out = append(out, byte(or(b.magic, 2)))
	out = binary.BigEndian.AppendUint32(out, crc)
	return append(out, body...)
}

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

func compress(codec int, in []byte) []byte {
	var out bytes.Buffer
	switch codec {
	case 1:
		w := gzip.NewWriter(&out)
		_, _ = w.Write(in)
		_ = w.Close()
	case 2:
		return snappy.Encode(nil, in)
	case 3:
		w := lz4.NewWriter(&out)
		_, _ = w.Write(in)
		_ = w.Close()
	case 4:
		w, _ := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		_, _ = w.Write(in)
		_ = w.Close()
	default:
		return in
	}
	return out.Bytes()
}

func decompress(codec int, in []byte) ([]byte, error) {
	switch codec {
	case 0:
		return in, nil
	case 1:
		r, err := gzip.NewReader(bytes.NewReader(in))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case 2:
		if bytes.HasPrefix(in, []byte("\x82SNAPPY\x00")) {
			return xerial(in[16:])
		}
		return snappy.Decode(nil, in)
	case 3:
		return io.ReadAll(lz4.NewReader(bytes.NewReader(in)))
	case 4:
		r, err := zstd.NewReader(bytes.NewReader(in), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	return nil, fmt.Errorf("codec %d", codec)
}

// xerial reads the blocks of Java's framing of snappy.
func xerial(in []byte) ([]byte, error) {
	var out []byte
	for len(in) >= 4 {
		n := binary.BigEndian.Uint32(in)
		if int(n) > len(in)-4 {
			return nil, io.ErrUnexpectedEOF
		}
		block, err := snappy.Decode(nil, in[4:4+n])
		if err != nil {
			return nil, err
		}
		out = append(out, block...)
		in = in[4+n:]
	}
	return out, nil
}

// batches takes a fetch response's records apart into values. A cut batch at
// the end is left out, as consumers do.
func (n *normal) batches(path string, in []byte) {
	for i := 0; len(in) >= 61; i++ {
		at := fmt.Sprintf("%s[%d]", path, i)
		length := int(int32(binary.BigEndian.Uint32(in[8:])))
		if length < 49 || length > len(in)-12 {
			n.put(at, "cut")
			return
		}
		b := in[:12+length]
		in = in[12+length:]
		i64 := func(off int) int64 { return int64(binary.BigEndian.Uint64(b[off:])) }
		i32 := func(off int) int32 { return int32(binary.BigEndian.Uint32(b[off:])) }
		attributes := int16(binary.BigEndian.Uint16(b[21:]))
		n.put(at+".BaseOffset", i64(0))
		n.put(at+".LeaderEpoch", i32(12))
		n.put(at+".Magic", int8(b[16]))
		n.put(at+".CRCRight", crc32.Checksum(b[21:], castagnoli) == uint32(i32(17)))
		n.put(at+".Attributes", attributes)
		n.put(at+".LastOffsetDelta", i32(23))
		n.put(at+".FirstTimestamp", moment(i64(27)))
		n.put(at+".MaxTimestamp", moment(i64(35)))
		n.put(at+".ProducerID", n.known("producer", i64(43), i64(43) < 0))
		n.put(at+".ProducerEpoch", int16(binary.BigEndian.Uint16(b[51:])))
		n.put(at+".BaseSequence", i32(53))
		n.put(at+".Count", i32(57))
		payload, err := decompress(int(attributes&7), b[61:])
		if err != nil {
			n.put(at+".Payload", err)
			continue
		}
		n.put(at+".Payload", fmt.Sprintf("%x", payload))
	}
}

package record

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"chronik/internal/base/kafka"
)

// zeros yields the records of a bomb: one record of n bytes of zeros.
func zeros(n int) io.Reader {
	head := appendVarint(nil, int64(n+5+varintSize(int64(n))))
	head = append(head, 0, 0, 0, 1)
	head = appendVarint(head, int64(n))
	return io.MultiReader(bytes.NewReader(head), io.LimitReader(zeroReader{}, int64(n+1)))
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func bomb(t *testing.T, codec Codec, n int) Batch {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case Gzip:
		w = gzip.NewWriter(&out)
	case LZ4:
		w = lz4.NewWriter(&out)
	case Zstd:
		w, _ = zstd.NewWriter(&out)
	case Snappy:
		all, _ := io.ReadAll(zeros(n))
		return raw(Snappy, 1, snappy.Encode(nil, all))
	}
	if _, err := io.Copy(struct{ io.Writer }{w}, zeros(n)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return raw(codec, 1, out.Bytes())
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestBombsAreRefusedInBoundedMemory(t *testing.T) {
	const limit = 4 << 20
	for _, codec := range codecs[1:] {
		b := bomb(t, codec, 16*limit)
		rules := DefaultRules(testNowMs)
		rules.MaxMessageBytes = 16 << 20
		rules.DecompressBytesMax = limit
		var refusal *Refusal
		got := allocated(func() { _, _, refusal = Check(b, rules) })
		if refusal == nil || refusal.Code != kafka.ErrInvalidRecord {
			t.Errorf("%v: %v", codec, refusal)
		}
		// Doubling adds up to twice the limit; the rest is for decoders' state.
		if got > 4*limit {
			t.Errorf("%v: %d bytes were allocated for a batch of %d", codec, got, len(b))
		}
		it := b.Records(&Scratch{BytesMax: limit})
		if got := allocated(func() { it.Next() }); it.Err() == nil || got > 4*limit {
			t.Errorf("%v: walk allocates %d, %v", codec, got, it.Err())
		}
	}
}

func TestLargeRecordsUpToTheLimitAreAccepted(t *testing.T) {
	for _, codec := range codecs[1:] {
		for _, n := range []int{100, 31 << 10, 200_000, 1 << 20, 5 << 20, 9_999_000} {
			b := bomb(t, codec, n)
			rules := DefaultRules(testNowMs)
			rules.DecompressBytesMax = 10_000_000
			if _, info, refusal := Check(b, rules); refusal != nil && len(b) <= rules.MaxMessageBytes {
				t.Errorf("%v, %d bytes: %v", codec, n, refusal)
			} else if refusal == nil && info.UncompressedBytes < n {
				t.Errorf("%v, %d bytes: info %+v", codec, n, info)
			}
		}
	}
}

// Sizes that the input merely declares must cost nothing.
func TestDeclaredSizesAreNotBelieved(t *testing.T) {
	huge := binary.AppendUvarint(nil, 1<<31)
	lz4Header := []byte{0x04, 0x22, 0x4d, 0x18, lz4Flag, 0x70}
	lz4Header = append(lz4Header, byte(xxh32(lz4Header[4:6])>>8))
	for name, b := range map[string]Batch{
		"snappy plain":      raw(Snappy, 1, append(huge, 0, 'a')),
		"snappy framed":     raw(Snappy, 1, cat(xerialMagic, []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7}, huge, []byte{0, 'a'})),
		"snappy block size": raw(Snappy, 1, cat(xerialMagic, []byte{0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff})),
		"lz4 blocks of 4 M": raw(LZ4, 1, cat(lz4Header, []byte{3, 0, 0, 0, 0x10, 'a', 'b'})),
		// Single segment, content size of 8 bytes: 1 GiB; then an empty raw block.
		"zstd content size": raw(Zstd, 1, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0x40, 0, 0, 0, 0, 1, 0, 0}),
		// A window of 128 MiB and one raw byte.
		"zstd window": raw(Zstd, 1, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 9, 0, 0, 'a'}),
		"count":       raw(None, 1<<31-1, plainRecords(0)),
		"count lz4":   raw(LZ4, 1<<31-1, compress(nil, LZ4, 0, plainRecords(0))),
		"record size": raw(Gzip, 1, compress(nil, Gzip, 0, []byte{0xfe, 0xff, 0xff, 0xff, 0x0f, 0})),
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			Check(bytes.Clone(b), DefaultRules(testNowMs)) // decoders' state is made once
			var refusal *Refusal
			got := allocated(func() { _, _, refusal = Check(b, DefaultRules(testNowMs)) })
			if refusal == nil || refusal.Code != kafka.ErrInvalidRecord {
				t.Errorf("%v", refusal)
			}
			if got > 1<<20 {
				t.Errorf("%d bytes were allocated", got)
			}
		})
	}
}

var raceDetector bool // set in race_test.go

func TestCheckDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("pools are not reliable under the race detector")
	}
	for _, codec := range codecs {
		bd := NewBuilder(BuilderOptions{Codec: codec})
		for range 16 {
			bd.Append(testNowMs, []byte("key"), mixed(1000), Header{[]byte("h"), nil})
		}
		b := bd.Build()
		rules := DefaultRules(testNowMs)
		rules.Compacted = true
		got := testing.AllocsPerRun(200, func() {
			if _, _, refusal := Check(b, rules); refusal != nil {
				t.Fatal(refusal)
			}
		})
		if got >= 1 {
			t.Errorf("%v: Check makes %v allocations", codec, got)
		}
		var scratch Scratch
		got = testing.AllocsPerRun(200, func() {
			it := b.Records(&scratch)
			for it.Next() {
			}
		})
		if got >= 1 {
			t.Errorf("%v: a walk makes %v allocations", codec, got)
		}
	}
}

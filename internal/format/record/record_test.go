package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
)

func cloneRecord(r *Record) Record {
	c := *r
	c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	c.Headers = nil
	for _, h := range r.Headers {
		c.Headers = append(c.Headers, Header{bytes.Clone(h.Key), bytes.Clone(h.Value)})
	}
	return c
}

func collect(t interface{ Fatalf(string, ...any) }, b Batch) (records []Record) {
	it := b.Records(nil)
	for it.Next() {
		records = append(records, cloneRecord(it.Record()))
	}
	if it.Err() != nil {
		t.Fatalf("records: %v", it.Err())
	}
	return records
}

func equalBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func equalRecords(a, b []Record) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if x.Offset != y.Offset || x.OffsetDelta != y.OffsetDelta || x.Timestamp != y.Timestamp || x.Attributes != y.Attributes ||
			!equalBytes(x.Key, y.Key) || !equalBytes(x.Value, y.Value) || len(x.Headers) != len(y.Headers) {
			return false
		}
		for j := range x.Headers {
			if !bytes.Equal(x.Headers[j].Key, y.Headers[j].Key) || !equalBytes(x.Headers[j].Value, y.Headers[j].Value) {
				return false
			}
		}
	}
	return true
}

func TestNextSplits(t *testing.T) {
	a, b := batchOf(None), batchOf(LZ4)
	joined := cat(a, b)
	first, rest, err := Next(joined)
	if err != nil || !bytes.Equal(first, a) || cap(first) != len(a) {
		t.Fatalf("first: %v", err)
	}
	second, rest, err := Next(rest)
	if err != nil || !bytes.Equal(second, b) || len(rest) != 0 {
		t.Fatalf("second: %v", err)
	}
	for n := range len(a) {
		if _, _, err := Next(a[:n]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	corrupt := bytes.Clone(a)
	corrupt[atMagic] = 1
	if _, _, err := Next(corrupt); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("magic 1: %v", err)
	}
	if _, _, err := Next(make([]byte, 100)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("zeros: %v", err)
	}
}

func TestSequencesWrap(t *testing.T) {
	b := batchOf(None)
	for _, c := range []struct{ base, want int32 }{
		{0, 2}, {NoSequence, NoSequence}, {math.MaxInt32, 1}, {math.MaxInt32 - 1, 0}, {math.MaxInt32 - 2, math.MaxInt32},
	} {
		put32(atBaseSequence, c.base)(b)
		if got := b.LastSequence(); got != c.want {
			t.Errorf("base sequence %d: last %d, want %d", c.base, got, c.want)
		}
	}
}

func TestStampLeavesCRCRight(t *testing.T) {
	b := batchOf(Zstd)
	Stamp(b, 1<<40, 9)
	if !b.VerifyCRC() || b.BaseOffset() != 1<<40 || b.NextOffset() != 1<<40+3 || b.LeaderEpoch() != 9 {
		t.Fatal("stamped wrongly")
	}
	b.SetLogAppendTime(4711)
	if !b.VerifyCRC() || b.TimestampType() != LogAppendTime || collect(t, b)[1].Timestamp != 4711 {
		t.Fatal("log append time is wrong")
	}
}

func TestHeaderIsAsOtherClientsReadIt(t *testing.T) {
	bd := NewBuilder(BuilderOptions{BaseOffset: 42, LeaderEpoch: 7, Codec: Gzip, Transactional: true, Producer: &Producer{99, 3, 1000}})
	for i := range int64(5) {
		bd.Append(testNowMs-i, nil, []byte("v"))
	}
	b := bd.Build()
	var want kmsg.RecordBatch
	if err := want.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	got := kmsg.RecordBatch{
		FirstOffset: int64(b.BaseOffset()), Length: int32(b.Len() - Overhead), PartitionLeaderEpoch: int32(b.LeaderEpoch()),
		Magic: b.Magic(), CRC: int32(b.CRC()), Attributes: b.Attributes(), LastOffsetDelta: b.LastOffsetDelta(),
		FirstTimestamp: b.BaseTimestamp(), MaxTimestamp: b.MaxTimestamp(), ProducerID: int64(b.ProducerID()),
		ProducerEpoch: int16(b.ProducerEpoch()), FirstSequence: b.BaseSequence(), NumRecords: b.Count(), Records: want.Records,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || !b.VerifyCRC() {
		t.Fatalf("got %v, want %v", got, want)
	}
	if !b.IsTransactional() || b.IsControl() || b.LastSequence() != 1004 || b.MaxTimestamp() != testNowMs {
		t.Fatal("flags, sequence or max timestamp are wrong")
	}
}

func kgoCodec(c Codec) kgo.CompressionCodec {
	return [...]kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[c]
}

// mixed is n bytes, half of them easy to compress.
func mixed(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		if i/64%2 == 0 {
			b[i] = byte(rng.Uint32())
		}
	}
	return b
}

func TestCodecsAgreeWithFranz(t *testing.T) {
	decompressor := kgo.DefaultDecompressor()
	for _, codec := range codecs[1:] {
		compressor, err := kgo.DefaultCompressor(kgoCodec(codec))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 100, 32 << 10, 64 << 10, 64<<10 + 1, 300_000, 3 << 20} {
			bd := NewBuilder(BuilderOptions{})
			bd.Append(1, nil, mixed(n))
			bd.Append(2, nil, mixed(n/2))
			plain := bd.Build()
			records := plain[HeaderSize:]

			ours := compress(nil, codec, 0, records)
			back, err := decompressor.Decompress(ours, kgo.CompressionCodecType(codec))
			if err != nil || !bytes.Equal(back, records) {
				t.Fatalf("%v, %d bytes: franz-go does not read ours: %v", codec, n, err)
			}
			theirs, _ := compressor.Compress(new(bytes.Buffer), records)
			if got := collect(t, raw(codec, 2, theirs)); len(got) != 2 || !bytes.Equal(got[0].Value, mixed(n)) {
				t.Fatalf("%v, %d bytes: we do not read franz-go's", codec, n)
			}
			rules := DefaultRules(testNowMs)
			rules.MaxMessageBytes = 10 << 20
			if _, _, refusal := Check(raw(codec, 2, theirs), rules); refusal != nil {
				t.Fatalf("%v, %d bytes: we refuse franz-go's: %v", codec, n, refusal)
			}
		}
	}
}

func TestSnappyComesPlainAndFramed(t *testing.T) {
	records := plainRecords(0, 1, 2)
	for name, payload := range map[string][]byte{
		"plain":  snappy.Encode(nil, records),
		"framed": compressSnappy(nil, records),
	} {
		b := raw(Snappy, 3, payload)
		if _, _, refusal := Check(b, DefaultRules(testNowMs)); refusal != nil || len(collect(t, b)) != 3 {
			t.Errorf("%s: %v", name, refusal)
		}
	}
	// A copy at offset 0 is an extension that Java's decoder does not know.
	extended := []byte{8, 0x00, 'a', 0x09, 0, 0x01, 0}
	if _, _, refusal := Check(raw(Snappy, 1, extended), DefaultRules(testNowMs)); refusal == nil {
		t.Error("an extension of snappy was accepted")
	}
}

func TestLZ4FramesWithAllFlags(t *testing.T) {
	records := plainRecords(0, 1, 2)
	for _, opts := range [][]lz4.Option{
		{lz4.BlockChecksumOption(true)},
		{lz4.ChecksumOption(false)},
		{lz4.SizeOption(uint64(len(records)))},
		{lz4.BlockSizeOption(lz4.Block4Mb), lz4.BlockChecksumOption(true), lz4.CompressionLevelOption(lz4.Level9)},
	} {
		var out bytes.Buffer
		w := lz4.NewWriter(&out)
		if err := w.Apply(opts...); err != nil {
			t.Fatal(err)
		}
		w.Write(records)
		w.Close()
		b := raw(LZ4, 3, out.Bytes())
		if _, _, refusal := Check(b, DefaultRules(testNowMs)); refusal != nil {
			t.Errorf("%v: %v", opts, refusal)
		}
	}
}

func TestXXH32(t *testing.T) {
	for in, want := range map[string]uint32{
		"": 0x02cc5d05, "a": 0x550d7456, "abc": 0x32d153ff,
		"Nobody inspects the spammish repetition": 0xe2293b2f,
	} {
		if got := xxh32([]byte(in)); got != want {
			t.Errorf("%q: %08x, want %08x", in, got, want)
		}
	}
}

func TestLevelsAreTaken(t *testing.T) {
	records := bytes.Repeat(mixed(2000), 20)
	for codec, levels := range map[Codec][]int{
		Gzip: {-1, 0, 1, 9, 12}, LZ4: {0, 1, 8, 9, 10, 17, 99}, Zstd: {-131072, -1, 0, 1, 3, 6, 19, 22}, Snappy: {0, 5},
	} {
		for _, level := range levels {
			var p payload
			if err := p.open(raw(codec, 1, compress(nil, codec, level, records)), 0, true, false); err != nil {
				t.Fatalf("%v level %d: %v", codec, level, err)
			}
			if got, err := p.all(); err != nil || !bytes.Equal(got, records) {
				t.Fatalf("%v level %d: %v", codec, level, err)
			}
		}
	}
}

func drawBytes(t *rapid.T, label string) []byte {
	if rapid.Bool().Draw(t, label+" null") {
		return nil
	}
	return append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, label)...)
}

func TestWhatIsBuiltIsRead(t *testing.T) {
	var scratch Scratch
	rapid.Check(t, func(t *rapid.T) {
		codec := rapid.SampledFrom(codecs).Draw(t, "codec")
		bd := NewBuilder(BuilderOptions{BaseOffset: 1000, Codec: codec})
		var want []Record
		delta := int32(-1)
		for range rapid.IntRange(1, 30).Draw(t, "n") {
			delta += rapid.Int32Range(1, 1000).Draw(t, "gap")
			r := Record{OffsetDelta: delta, Offset: 1000 + kafka.Offset(delta), Timestamp: rapid.Int64().Draw(t, "timestamp"),
				Key: drawBytes(t, "key"), Value: drawBytes(t, "value")}
			for range rapid.IntRange(0, 3).Draw(t, "headers") {
				r.Headers = append(r.Headers, Header{append([]byte{}, drawBytes(t, "header")...), drawBytes(t, "header value")})
			}
			want = append(want, r)
			bd.AppendAt(r.OffsetDelta, r.Timestamp, r.Key, r.Value, r.Headers...)
		}
		b := bd.Build()
		var got []Record
		it := b.Records(&scratch)
		for it.Next() {
			got = append(got, cloneRecord(it.Record()))
		}
		if it.Err() != nil || !equalRecords(want, got) || !b.VerifyCRC() || b.LastOffset() != want[len(want)-1].Offset {
			t.Fatalf("got %v, want %v, %v", got, want, it.Err())
		}
	})
}

func TestFilterKeepsTheFrame(t *testing.T) {
	for _, codec := range codecs {
		bd := NewBuilder(BuilderOptions{BaseOffset: 100, LeaderEpoch: 4, Codec: codec, Producer: &Producer{7, 2, 50}})
		for i := range int64(10) {
			bd.Append(1000+i, []byte{byte(i)}, []byte("v"))
		}
		b := bd.Build()
		var scratch Scratch
		even := func(r *Record) bool { return r.Offset%2 == 0 }
		got, err := Filter(b, &scratch, FilterOptions{}, even)
		if err != nil || got.Count() != 5 || !got.VerifyCRC() || got.Codec() != codec || got.MaxTimestamp() != 1008 ||
			got.BaseOffset() != 100 || got.LastOffset() != 109 || got.LastSequence() != 59 || got.LeaderEpoch() != 4 {
			t.Fatalf("%v: %v, %v", codec, got, err)
		}
		var want []Record
		for _, r := range collect(t, b) {
			if even(&r) {
				want = append(want, r)
			}
		}
		if !equalRecords(want, collect(t, got)) {
			t.Fatalf("%v: records differ", codec)
		}

		same, err := Filter(b, &scratch, FilterOptions{}, func(*Record) bool { return true })
		if err != nil || &same[0] != &b[0] {
			t.Fatalf("%v: rewritten for nothing, %v", codec, err)
		}

		horizon, err := Filter(got, &scratch, FilterOptions{SetDeleteHorizon: true, DeleteHorizon: 5555}, even)
		if err != nil || horizon.DeleteHorizon() != 5555 || !equalRecords(want, collect(t, horizon)) || horizon.MaxTimestamp() != 1008 {
			t.Fatalf("%v: delete horizon %d, %v", codec, horizon.DeleteHorizon(), err)
		}
		again, err := Filter(horizon, &scratch, FilterOptions{SetDeleteHorizon: true, DeleteHorizon: 6666}, even)
		if err != nil || again.DeleteHorizon() != 5555 {
			t.Fatalf("%v: delete horizon moved to %d, %v", codec, again.DeleteHorizon(), err)
		}

		empty, err := Filter(horizon, &scratch, FilterOptions{}, func(*Record) bool { return false })
		if err != nil || len(empty) != HeaderSize || empty.Count() != 0 || empty.LastSequence() != 59 || empty.NextOffset() != 110 ||
			!empty.VerifyCRC() || empty.ProducerID() != 7 || empty.HasDeleteHorizon() || empty.MaxTimestamp() != 1008 {
			t.Fatalf("%v: empty batch %v, %v", codec, empty, err)
		}
		if _, rest, err := Next(empty); err != nil || len(rest) != 0 || len(collect(t, empty)) != 0 {
			t.Fatalf("%v: empty batch does not read: %v", codec, err)
		}
	}
}

func TestFilterKeepsLogAppendTime(t *testing.T) {
	b := batchOf(None)
	b.SetLogAppendTime(777)
	got, err := Filter(b, nil, FilterOptions{SetDeleteHorizon: true, DeleteHorizon: 9}, func(r *Record) bool { return r.Offset > 0 })
	if err != nil || got.MaxTimestamp() != 777 || got.TimestampType() != LogAppendTime || collect(t, got)[0].Timestamp != 777 {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestMarkersAreReadBack(t *testing.T) {
	for _, m := range []Marker{{5, 1, 9, true, 1234}, {6, 32767, 0, false, 1}} {
		b := m.Batch()
		if !b.IsControl() || !b.IsTransactional() || b.BaseSequence() != NoSequence || !b.VerifyCRC() {
			t.Fatalf("marker has flags %x", b.Attributes())
		}
		got, ok, err := ParseMarker(b, nil)
		if err != nil || !ok || got != m {
			t.Fatalf("got %v, want %v, %v", got, m, err)
		}
		// What franz-go's kmsg makes of it.
		var key kmsg.ControlRecordKey
		var value kmsg.EndTxnMarker
		r := collect(t, b)[0]
		if err := errors.Join(key.ReadFrom(r.Key), value.ReadFrom(r.Value)); err != nil {
			t.Fatal(err)
		}
		if (key.Type == kmsg.ControlRecordKeyTypeCommit) != m.Commit || value.CoordinatorEpoch != m.CoordinatorEpoch {
			t.Fatalf("franz-go reads %v %v", key, value)
		}
	}
	if _, ok, err := ParseMarker(batchOf(None), nil); ok || err != nil {
		t.Fatal("found a marker in users' records")
	}
}

func TestRecordsReportCorruption(t *testing.T) {
	for _, b := range []Batch{
		raw(None, 3, plainRecords(0, 1)), raw(Zstd, 3, []byte("no")), raw(6, 1, plainRecords(0)),
		with(None, put32(atCount, -5)), raw(None, 1, []byte{1, 2, 3}),
	} {
		it := b.Records(nil)
		for it.Next() {
		}
		if !errors.Is(it.Err(), ErrCorrupt) {
			t.Errorf("%v", it.Err())
		}
	}
}

func TestVarintsRoundTrip(t *testing.T) {
	for _, v := range []int64{0, -1, 1, 63, 64, -64, -65, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		b := appendVarint(nil, v)
		if got, n := varlong(b, 0); got != v || n != len(b) || n != varintSize(v) {
			t.Errorf("%d: %d in %d bytes", v, got, n)
		}
		if int64(int32(v)) == v {
			if got, n := varint(b, 0); int64(got) != v || n != len(b) {
				t.Errorf("%d: %d in %d bytes", v, got, n)
			}
		}
		if want := binary.AppendVarint(nil, v); !bytes.Equal(b, want) {
			t.Errorf("%d: %x, want %x", v, b, want)
		}
	}
}

package record

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"chronik/internal/base/kafka"
)

const testNowMs = 1_790_000_000_000

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// batchOf is a batch of three records as a producer sends it.
func batchOf(codec Codec) Batch {
	bd := NewBuilder(BuilderOptions{LeaderEpoch: kafka.NoLeaderEpoch, Codec: codec})
	for i := range int64(3) {
		bd.Append(testNowMs+i, []byte("key"), bytes.Repeat([]byte("value"), 20), Header{[]byte("h"), []byte("v")})
	}
	return bd.Build()
}

// raw is a batch with these bytes as records, of which the header counts n.
func raw(codec Codec, n int32, records []byte) Batch {
	b := make([]byte, HeaderSize)
	copy(b, batchOf(None)[:HeaderSize])
	b = append(b, records...)
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(n-1))
	binary.BigEndian.PutUint32(b[atCount:], uint32(n))
	return finish(b, codec)
}

// plainRecords is the bytes of records with these offset deltas.
func plainRecords(deltas ...int32) []byte {
	var b []byte
	for _, d := range deltas {
		b = appendRecord(b, &Record{OffsetDelta: d, Key: []byte("k"), Value: []byte("v")}, 0)
	}
	return b
}

// with applies a change to a fresh batch and makes its CRC right again.
func with(codec Codec, change func(b Batch)) Batch {
	b := batchOf(codec)
	change(b)
	b.setCRC()
	return b
}

func put32(at int, v int32) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint32(b[at:], uint32(v)) }
}

func put64(at int, v int64) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint64(b[at:], uint64(v)) }
}

func withTimestamps(codec Codec, ms ...int64) Batch {
	bd := NewBuilder(BuilderOptions{Codec: codec})
	for _, t := range ms {
		bd.Append(t, []byte("k"), nil)
	}
	return bd.Build()
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// flip changes one bit and leaves the CRC as it is.
func flip(b Batch, at int) Batch {
	b[at] ^= 1
	return b
}

type checkCase struct {
	row   string // of bad-input.md 5.2 or kafka-answers.md "Produce"
	bytes []byte
	rules func(*Rules)
	want  kafka.ErrorCode
	bad   []int32 // indexes of the record errors
}

func headerCases() []checkCase {
	magic := func(m int8) []byte { b := batchOf(None); b[atMagic] = byte(m); b.setCRC(); return b }
	length := func(n int32) []byte { b := batchOf(None); put32(atLength, n)(b); return b }
	return []checkCase{
		{row: "a good batch", bytes: batchOf(None)},
		{row: "magic 3", bytes: magic(3), want: kafka.ErrCorruptMessage},
		{row: "magic -1", bytes: magic(-1), want: kafka.ErrCorruptMessage},
		{row: "magic 0", bytes: magic(0), want: kafka.ErrInvalidRecord},
		{row: "magic 1", bytes: magic(1), want: kafka.ErrInvalidRecord},
		{row: "batch length negative", bytes: length(-1), want: kafka.ErrCorruptMessage},
		{row: "batch length < 14", bytes: length(13), want: kafka.ErrCorruptMessage},
		{row: "batch length 14", bytes: length(14), want: kafka.ErrCorruptMessage},
		{row: "batch length 38", bytes: length(38), want: kafka.ErrCorruptMessage},
		{row: "batch length 39", bytes: length(39), want: kafka.ErrCorruptMessage},
		{row: "batch length 48", bytes: length(48), want: kafka.ErrCorruptMessage},
		{row: "batch length larger than the bytes given", bytes: length(100_000), want: kafka.ErrInvalidRecord},
		{row: "batch length of 2 GiB", bytes: length(math.MaxInt32), want: kafka.ErrInvalidRecord},
		{row: "a cut batch", bytes: batchOf(None)[:HeaderSize+3], want: kafka.ErrInvalidRecord},
		{row: "a cut header", bytes: batchOf(None)[:16], want: kafka.ErrInvalidRecord},
		{row: "null records", bytes: nil, want: kafka.ErrInvalidRecord},
		{row: "empty records", bytes: []byte{}, want: kafka.ErrInvalidRecord},
		{row: "two batches in one partition", bytes: cat(batchOf(None), batchOf(None)), want: kafka.ErrInvalidRecord},
		{row: "one batch and then rubbish", bytes: cat(batchOf(None), []byte("rubbish, and a good deal of it"))},
		{row: "one batch and then zeros", bytes: cat(batchOf(None), make([]byte, 100))},
		{row: "one batch and half a batch", bytes: cat(batchOf(None), batchOf(None)[:70])},
		{row: "wrong CRC, records", bytes: flip(batchOf(None), 80), want: kafka.ErrCorruptMessage},
		{row: "wrong CRC, header", bytes: flip(batchOf(LZ4), 40), want: kafka.ErrCorruptMessage},
		{row: "wrong CRC, codec bits", bytes: flip(batchOf(LZ4), atAttributes+1), want: kafka.ErrCorruptMessage},
		{row: "batch > max.message.bytes", bytes: batchOf(None),
			rules: func(r *Rules) { r.MaxMessageBytes = len(batchOf(None)) - 1 }, want: kafka.ErrMessageTooLarge},
		{row: "batch = max.message.bytes", bytes: batchOf(None),
			rules: func(r *Rules) { r.MaxMessageBytes = len(batchOf(None)) }},
		{row: "batch > max.message.bytes is checked before CRC", bytes: flip(batchOf(None), 80),
			rules: func(r *Rules) { r.MaxMessageBytes = 100 }, want: kafka.ErrMessageTooLarge},
		{row: "batch > segment.bytes", bytes: batchOf(None),
			rules: func(r *Rules) { r.SegmentBytes = 100 }, want: kafka.ErrRecordListTooLarge},
		{row: "baseOffset 1", bytes: with(None, put64(atBaseOffset, 1)), want: kafka.ErrInvalidRecord},
		{row: "baseOffset -1", bytes: with(None, put64(atBaseOffset, -1)), want: kafka.ErrInvalidRecord},
		{row: "leader epoch in the batch is ignored", bytes: with(None, put32(atLeaderEpoch, 77))},
		{row: "lastOffsetDelta < 0", bytes: with(None, put32(atLastOffsetDelta, -1)), want: kafka.ErrInvalidRecord},
		{row: "count 0", bytes: with(None, put32(atCount, 0)), want: kafka.ErrInvalidRecord},
		{row: "count -1", bytes: with(None, put32(atCount, -1)), want: kafka.ErrInvalidRecord},
		{row: "count != lastOffsetDelta+1", bytes: with(None, put32(atCount, 2)), want: kafka.ErrInvalidRecord},
		{row: "count and delta at the ends of int32", bytes: with(None, func(b Batch) {
			put32(atCount, math.MinInt32)(b)
			put32(atLastOffsetDelta, math.MaxInt32)(b)
		}), want: kafka.ErrInvalidRecord},
		{row: "a header without records", bytes: raw(None, 0, nil), want: kafka.ErrInvalidRecord},
		{row: "codec id 5", bytes: raw(5, 1, plainRecords(0)), want: kafka.ErrUnsupportedCompressionType},
		{row: "codec id 7", bytes: raw(7, 1, plainRecords(0)), want: kafka.ErrUnsupportedCompressionType},
		{row: "zstd with Produce v6", bytes: batchOf(Zstd),
			rules: func(r *Rules) { r.ProduceVersion = 6 }, want: kafka.ErrUnsupportedCompressionType},
		{row: "zstd with Produce v7", bytes: batchOf(Zstd), rules: func(r *Rules) { r.ProduceVersion = 7 }},
		{row: "lz4 with Produce v3", bytes: batchOf(LZ4), rules: func(r *Rules) { r.ProduceVersion = 3 }},
		{row: "control batch from a client", bytes: Marker{ProducerID: 1, Commit: true}.Batch(), want: kafka.ErrInvalidRecord},
		{row: "control bit on users' records", bytes: with(None, func(b Batch) { b[atAttributes+1] |= attrControl }), want: kafka.ErrInvalidRecord},
		{row: "control batch from a coordinator", bytes: Marker{ProducerID: 1, Commit: true, Timestamp: testNowMs}.Batch(),
			rules: func(r *Rules) { r.AllowControl = true; r.Compacted = true }},
		{row: "producer id set, base sequence < 0", bytes: with(None, put64(atProducerID, 5)), want: kafka.ErrInvalidRecord},
		{row: "producer id set, base sequence 0", bytes: with(None, func(b Batch) {
			put64(atProducerID, 5)(b)
			put32(atBaseSequence, 0)(b)
		})},
		{row: "transactional bit without a producer id", bytes: with(None, func(b Batch) { b[atAttributes+1] |= attrTransactional }), want: kafka.ErrInvalidRecord},
		{row: "delete horizon bit", bytes: with(None, func(b Batch) { b[atAttributes+1] |= attrDeleteHorizon })},
		{row: "unused attribute bits", bytes: with(None, func(b Batch) { b[atAttributes] = 0xff; b[atAttributes+1] |= 0x80 })},
	}
}

func recordCases() (cases []checkCase) {
	add := func(c checkCase) { cases = append(cases, c) }
	for _, codec := range codecs {
		packed := func(n int32, records []byte) []byte { return raw(codec, n, compress(nil, codec, 0, records)) }
		bad := func(row string, n int32, records []byte) {
			add(checkCase{row: codec.String() + ": " + row, bytes: packed(n, records), want: kafka.ErrInvalidRecord})
		}
		good := func(row string, n int32, records []byte) {
			add(checkCase{row: codec.String() + ": " + row, bytes: packed(n, records)})
		}
		good("three records", 3, plainRecords(0, 1, 2))
		bad("fewer records inside than count", 4, plainRecords(0, 1, 2))
		bad("more records inside than count", 2, plainRecords(0, 1, 2))
		bad("no records inside", 1, nil)
		bad("bytes after the last record", 1, append(plainRecords(0), 0))
		bad("half a record after the last", 1, append(plainRecords(0), plainRecords(1)[:4]...))
		bad("last record cut", 2, plainRecords(0, 1)[:len(plainRecords(0, 1))-1])
		bad("offset deltas shuffled", 3, plainRecords(0, 2, 1))
		bad("offset deltas repeated", 3, plainRecords(0, 1, 1))
		bad("offset deltas negative", 2, plainRecords(-1, 0))
		bad("offset deltas with a gap", 2, plainRecords(0, 2))
		one := func(fields ...byte) []byte { return append([]byte{byte(len(fields) << 1)}, fields...) }
		good("smallest record", 1, one(0, 0, 0, 1, 1, 0))
		good("record attributes", 1, one(0xff, 0, 0, 1, 1, 0))
		bad("record size 0", 1, []byte{0})
		bad("record size negative", 1, []byte{1, 0, 0, 0, 1, 1, 0})
		bad("record size too large", 1, []byte{0x40, 0, 0, 0, 1, 1, 0})
		bad("record size of 2 GiB", 1, []byte{0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 1, 0})
		bad("record size too small", 1, []byte{10, 0, 0, 0, 1, 1, 0})
		bad("record size varint too long", 1, []byte{0x8c, 0x80, 0x80, 0x80, 0x80, 0x00, 0, 0, 0, 1, 1, 0})
		bad("record has bytes too many", 1, one(0, 0, 0, 1, 1, 0, 0))
		bad("key size too large", 1, one(0, 0, 0, 20, 1, 0))
		bad("value size too large", 1, one(0, 0, 0, 1, 20, 0))
		bad("header count negative", 1, one(0, 0, 0, 1, 1, 1))
		bad("header count too large", 1, one(0, 0, 0, 1, 1, 0x7e))
		bad("header count of 2^31-1", 1, one(0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f))
		good("header", 1, one(0, 0, 0, 1, 1, 2, 2, 'k', 1))
		bad("header key size negative", 1, one(0, 0, 0, 1, 1, 2, 1, 1))
		bad("header key size too large", 1, one(0, 0, 0, 1, 1, 2, 40, 1))
		bad("header value size too large", 1, one(0, 0, 0, 1, 1, 2, 0, 40))

		compacted := func(r *Rules) { r.Compacted = true }
		bd := NewBuilder(BuilderOptions{Codec: codec})
		bd.Append(testNowMs, nil, []byte("v"))
		bd.Append(testNowMs, []byte{}, []byte("v"))
		bd.Append(testNowMs, nil, []byte("v"))
		keyless := bd.Build()
		add(checkCase{row: codec.String() + ": null key on a compacted topic", bytes: keyless,
			rules: compacted, want: kafka.ErrInvalidRecord, bad: []int32{0, 2}})
		add(checkCase{row: codec.String() + ": null key elsewhere", bytes: keyless})

		if codec != None {
			broken := raw(codec, 3, []byte("CRC valid but payload does not decompress"))
			add(checkCase{row: codec.String() + ": CRC valid but payload does not decompress", bytes: broken, want: kafka.ErrInvalidRecord})
			add(checkCase{row: codec.String() + ": no payload", bytes: raw(codec, 3, nil), want: kafka.ErrInvalidRecord})
			add(checkCase{row: codec.String() + ": plain records under codec bits", bytes: raw(codec, 2, plainRecords(0, 1)), want: kafka.ErrInvalidRecord})
			cut := compress(nil, codec, 0, plainRecords(0, 1, 2))
			add(checkCase{row: codec.String() + ": payload cut", bytes: raw(codec, 3, cut[:len(cut)-5]), want: kafka.ErrInvalidRecord})
			add(checkCase{row: codec.String() + ": payload and then rubbish", bytes: raw(codec, 3, append(cut, "rubbish"...)), want: kafka.ErrInvalidRecord})
		}
	}
	add(checkCase{row: "compressed bytes without codec bits", bytes: raw(None, 3, compress(nil, Gzip, 0, plainRecords(0, 1, 2))), want: kafka.ErrInvalidRecord})
	return cases
}

func timestampCases() (cases []checkCase) {
	add := func(c checkCase) { cases = append(cases, c) }
	for _, codec := range []Codec{None, LZ4} {
		limits := func(r *Rules) { r.TimestampBeforeMaxMs, r.TimestampAfterMaxMs = 1000, 1000 }
		for _, c := range []checkCase{
			{row: "timestamp -1", bytes: withTimestamps(codec, -1)},
			{row: "timestamp -2", bytes: withTimestamps(codec, -2)},
			{row: "smallest int64", bytes: withTimestamps(codec, math.MinInt64), want: kafka.ErrInvalidTimestamp, bad: []int32{0}},
			{row: "largest int64", bytes: withTimestamps(codec, math.MaxInt64), want: kafka.ErrInvalidTimestamp, bad: []int32{0}},
			{row: "an hour ahead", bytes: withTimestamps(codec, testNowMs+3_600_000)},
			{row: "more than an hour ahead", bytes: withTimestamps(codec, testNowMs, testNowMs+3_600_001), want: kafka.ErrInvalidTimestamp, bad: []int32{1}},
			{row: "before and after limits", rules: limits, want: kafka.ErrInvalidTimestamp, bad: []int32{0, 3},
				bytes: withTimestamps(codec, testNowMs-1001, testNowMs-1000, testNowMs+1000, testNowMs+1001)},
			{row: "-1 is exempt from limits", rules: limits, bytes: withTimestamps(codec, -1, testNowMs)},
			{row: "limits with LogAppendTime", bytes: withTimestamps(codec, 5, math.MaxInt64),
				rules: func(r *Rules) { limits(r); r.TimestampType = LogAppendTime }},
			{row: "LogAppendTime batch, CreateTime topic", bytes: with(codec, func(b Batch) { b[atAttributes+1] |= attrLogAppendTime })},
			{row: "LogAppendTime batch without timestamps", want: kafka.ErrInvalidTimestamp, bad: []int32{0},
				bytes: func() []byte { b := withTimestamps(codec, -1); b.SetLogAppendTime(5); return b }()},
			{row: "LogAppendTime batch, LogAppendTime topic", bytes: with(codec, func(b Batch) { b[atAttributes+1] |= attrLogAppendTime }),
				rules: func(r *Rules) { r.TimestampType = LogAppendTime }, want: kafka.ErrInvalidTimestamp, bad: []int32{0, 1, 2}},
			{row: "a wrong max timestamp", bytes: with(codec, put64(atMaxTimestamp, math.MaxInt64))},
		} {
			c.row = codec.String() + ": " + c.row
			add(c)
		}
	}
	return cases
}

func allCases() []checkCase {
	return append(append(headerCases(), recordCases()...), timestampCases()...)
}

func TestCheckAnswersAsWritten(t *testing.T) {
	for _, c := range allCases() {
		t.Run(c.row, func(t *testing.T) {
			rules := DefaultRules(testNowMs)
			if c.rules != nil {
				c.rules(&rules)
			}
			b, info, refusal := Check(bytes.Clone(c.bytes), rules)
			if c.want != kafka.None {
				if refusal == nil {
					t.Fatalf("accepted, want %v", c.want)
				}
				if refusal.Code != c.want || refusal.Message == "" {
					t.Fatalf("got %v, want %v", refusal, c.want)
				}
				if len(refusal.RecordErrors) != len(c.bad) {
					t.Fatalf("record errors %v, want at %v", refusal.RecordErrors, c.bad)
				}
				for i, e := range refusal.RecordErrors {
					if e.Index != c.bad[i] || e.Message == "" {
						t.Fatalf("record errors %v, want at %v", refusal.RecordErrors, c.bad)
					}
				}
				return
			}
			if refusal != nil {
				t.Fatalf("refused: %v", refusal)
			}
			verifyAccepted(t, b, info, rules)
		})
	}
}

// verifyAccepted checks what must hold of every batch that Check accepts.
func verifyAccepted(t *testing.T, b Batch, info Info, rules Rules) {
	t.Helper()
	if again, rest, err := Next(b); err != nil || len(rest) != 0 || len(again) != len(b) {
		t.Fatalf("Next: %d bytes rest, %v", len(rest), err)
	}
	if !b.VerifyCRC() || b.TimestampType() != rules.TimestampType || b.Codec() != info.Codec || b.Count() != info.Count {
		t.Fatalf("accepted batch is wrong: crc %v, %v, %v, info %+v", b.VerifyCRC(), b.TimestampType(), b.Codec(), info)
	}
	latest, n := NoTimestamp, int32(0)
	it := b.Records(&Scratch{BytesMax: rules.DecompressBytesMax})
	for it.Next() {
		r := it.Record()
		if r.OffsetDelta != n || r.Offset != b.BaseOffset()+kafka.Offset(n) {
			t.Fatalf("record %d has offset delta %d", n, r.OffsetDelta)
		}
		latest = max(latest, r.Timestamp)
		n++
	}
	if it.Err() != nil || n != info.Count {
		t.Fatalf("%d records of %d, %v", n, info.Count, it.Err())
	}
	if latest != info.MaxTimestamp || latest != b.MaxTimestamp() {
		t.Fatalf("max timestamp %d, info %d, batch %d", latest, info.MaxTimestamp, b.MaxTimestamp())
	}
}

func TestCheckCorrectsMaxTimestamp(t *testing.T) {
	b := withTimestamps(None, testNowMs, testNowMs+7, testNowMs+7, testNowMs+2)
	put64(atMaxTimestamp, 12345)(b)
	b.setCRC()
	got, info, refusal := Check(b, DefaultRules(testNowMs))
	if refusal != nil || got.MaxTimestamp() != testNowMs+7 || info.MaxTimestampDelta != 1 || !got.VerifyCRC() {
		t.Fatalf("max timestamp %d, info %+v, %v", got.MaxTimestamp(), info, refusal)
	}
}

func TestCheckStampsLogAppendTime(t *testing.T) {
	for _, codec := range codecs {
		rules := DefaultRules(testNowMs)
		rules.TimestampType = LogAppendTime
		b, info, refusal := Check(batchOf(codec), rules)
		if refusal != nil || info.LogAppendTime != testNowMs || b.MaxTimestamp() != testNowMs {
			t.Fatalf("%v: %+v, %v", codec, info, refusal)
		}
		verifyAccepted(t, b, info, rules)
	}
}

func TestCheckRecompresses(t *testing.T) {
	for _, from := range codecs {
		for _, to := range codecs {
			rules := DefaultRules(testNowMs)
			rules.Recompress, rules.Codec = true, to
			sent := batchOf(from)
			b, info, refusal := Check(bytes.Clone(sent), rules)
			if refusal != nil || info.Codec != to || info.ProducerCodec != from {
				t.Fatalf("%v to %v: %+v, %v", from, to, info, refusal)
			}
			verifyAccepted(t, b, info, rules)
			if want, got := collect(t, sent), collect(t, b); !equalRecords(want, got) {
				t.Fatalf("%v to %v: got %v, want %v", from, to, got, want)
			}
			if from == to && !bytes.Equal(b, sent) {
				t.Fatalf("%v was compressed again", from)
			}
		}
	}
}

func TestCheckRefusesWhatRecompressionMakesTooLarge(t *testing.T) {
	bd := NewBuilder(BuilderOptions{Codec: Zstd})
	bd.Append(testNowMs, nil, make([]byte, 100_000))
	rules := DefaultRules(testNowMs)
	rules.MaxMessageBytes = 50_000
	rules.Recompress = true
	if _, _, refusal := Check(bd.Build(), rules); refusal == nil || refusal.Code != kafka.ErrMessageTooLarge {
		t.Fatalf("got %v", refusal)
	}
}

func TestRecordErrorsAreBounded(t *testing.T) {
	bd := NewBuilder(BuilderOptions{})
	for range 5000 {
		bd.Append(testNowMs, nil, nil)
	}
	rules := DefaultRules(testNowMs)
	rules.Compacted = true
	_, _, refusal := Check(bd.Build(), rules)
	if refusal == nil || len(refusal.RecordErrors) != recordErrorsMax {
		t.Fatalf("got %v", refusal)
	}
}

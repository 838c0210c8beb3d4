package record

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// Rules are what a leader asks of a batch that a producer sent, mostly
// settings of the topic. DefaultRules has Kafka's defaults; in the zero value
// the limits are 0 too and refuse everything.
type Rules struct {
	MaxMessageBytes int  // max.message.bytes: the largest batch, header included
	SegmentBytes    int  // segment.bytes; 0: not checked
	Compacted       bool // cleanup.policy has compact: each record needs a key

	TimestampType        TimestampType // message.timestamp.type
	TimestampBeforeMaxMs int64         // message.timestamp.before.max.ms
	TimestampAfterMaxMs  int64         // message.timestamp.after.max.ms
	NowMs                int64         // the leader's clock

	Recompress bool  // compression.type is not "producer"
	Codec      Codec // with Recompress: what it is instead
	Level      int   // with Recompress: compression.<codec>.level; 0: the codec's default

	ProduceVersion     int16 // of the request; zstd needs 7
	AllowControl       bool  // the batch is from a coordinator and not from a client
	DecompressBytesMax int   // 0: the constant of that name
}

// DefaultRules are the rules of a topic without settings of its own.
func DefaultRules(nowMs int64) Rules {
	return Rules{
		MaxMessageBytes:      1<<20 + Overhead,
		SegmentBytes:         1 << 30,
		TimestampBeforeMaxMs: math.MaxInt64,
		TimestampAfterMaxMs:  3_600_000,
		NowMs:                nowMs,
		ProduceVersion:       math.MaxInt16,
	}
}

// Info is what Check has learned about a batch that it accepts.
type Info struct {
	Count             int32
	Codec             Codec // as stored
	ProducerCodec     Codec // as sent
	MaxTimestamp      int64 // as stored, ms
	MaxTimestampDelta int32 // offset of the first record with it, less the base offset
	LogAppendTime     int64 // ms; NoTimestamp when the topic has CreateTime
	UncompressedBytes int   // records, without the header
}

// RecordError says what is wrong with one record of a refused batch.
type RecordError struct {
	Index   int32 // of the record in the batch, from 0
	Message string
}

// recordErrorsMax bounds the answer to a batch of bad records only.
const recordErrorsMax = 1000

// Refusal is the answer to a batch that must not be appended.
type Refusal struct {
	Code         kafka.ErrorCode
	Message      string
	RecordErrors []RecordError // at most 1000
	Unread       bool          // there is not the one batch: no log was asked
}

// Error is the code's name and the message.
func (r *Refusal) Error() string { return r.Code.String() + ": " + r.Message }

func refuse(code kafka.ErrorCode, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Check verifies the records of one partition in a Produce request and returns
// the batch to append, or else why not. b must hold exactly one whole batch;
// what follows and is no batch is dropped, as Kafka does.
//
// The batch aliases b unless it was recompressed. Its timestamp type and max
// timestamp are made what the topic and the records say, in place; it still
// needs Stamp. Every record is looked at, compressed or not.
func Check(b []byte, rules Rules) (Batch, Info, *Refusal) {
	batch, refusal := single(b, rules.ProduceVersion)
	if refusal != nil {
		refusal.Unread = true
		return nil, Info{}, refusal
	}
	if refusal = checkHeader(batch, &rules); refusal != nil {
		return nil, Info{}, refusal
	}
	v := newVerifier(batch, &rules)
	codec := batch.Codec()
	info := Info{Count: v.count, Codec: codec, ProducerCodec: codec, LogAppendTime: NoTimestamp}
	if codec == None {
		if !v.plain(batch[HeaderSize:]) {
			return nil, Info{}, v.malformed()
		}
		info.UncompressedBytes = len(batch) - HeaderSize
	} else {
		n, refusal := v.compressed(batch, rules.DecompressBytesMax)
		if refusal != nil {
			return nil, Info{}, refusal
		}
		info.UncompressedBytes = n
	}
	if refusal := v.verdict(); refusal != nil {
		return nil, Info{}, refusal
	}
	info.MaxTimestamp, info.MaxTimestampDelta = v.maxTimestamp, v.maxIndex
	if rules.TimestampType == LogAppendTime {
		info.MaxTimestamp, info.MaxTimestampDelta = rules.NowMs, 0
		info.LogAppendTime = rules.NowMs
	}
	if rules.Recompress && codec != rules.Codec && !batch.IsControl() {
		var err error
		if batch, err = Recompress(batch, rules.Codec, rules.Level, rules.DecompressBytesMax); err != nil {
			return nil, Info{}, refuse(kafka.ErrInvalidRecord, "records do not decompress: %v", err)
		}
		info.Codec = rules.Codec
		if len(batch) > rules.MaxMessageBytes {
			return nil, Info{}, tooLarge(len(batch), rules.MaxMessageBytes)
		}
	}
	if rules.SegmentBytes > 0 && len(batch) > rules.SegmentBytes {
		return nil, Info{}, refuse(kafka.ErrRecordListTooLarge,
			"batch of %d bytes is larger than a segment of %d bytes", len(batch), rules.SegmentBytes)
	}
	batch.setMaxTimestamp(rules.TimestampType, info.MaxTimestamp)
	return batch, info, nil
}

// The smallest length of a batch of any magic.
const lengthMinAnyMagic = 14

// single is the one batch that b holds. It leaves the CRC unchecked.
func single(b []byte, version int16) (Batch, *Refusal) {
	if len(b) < Overhead {
		return nil, refuse(kafka.ErrInvalidRecord, "partition has %d bytes of records, which is no whole batch", len(b))
	}
	length := int32(binary.BigEndian.Uint32(b[atLength:]))
	if length < lengthMinAnyMagic {
		return nil, refuse(kafka.ErrCorruptMessage, "batch length %d is too small", length)
	}
	if len(b) <= atMagic {
		return nil, refuse(kafka.ErrInvalidRecord, "batch of length %d is cut off", length)
	}
	magic := int8(b[atMagic])
	if magic < 0 || magic > Magic2 {
		return nil, refuse(kafka.ErrCorruptMessage, "magic %d is not known", magic)
	}
	if len(b)-Overhead < int(length) {
		return nil, refuse(kafka.ErrInvalidRecord, "batch of length %d is cut off", length)
	}
	if magic != Magic2 {
		return nil, refuse(kafka.ErrInvalidRecord, "magic is %d, only 2 is supported", magic)
	}
	if length < HeaderSize-Overhead {
		return nil, refuse(kafka.ErrCorruptMessage, "batch length %d is too small", length)
	}
	size := Overhead + int(length)
	batch := Batch(b[:size:size])
	if batch.Codec() == Zstd && version < 7 {
		return nil, refuse(kafka.ErrUnsupportedCompressionType, "zstd needs Produce version 7, not %d", version)
	}
	if wholeBatch(b[size:]) {
		return nil, refuse(kafka.ErrInvalidRecord, "partition has more than one batch")
	}
	return batch, nil
}

// wholeBatch says whether b begins with something that passes for a batch of
// any magic.
func wholeBatch(b []byte) bool {
	if len(b) <= atMagic {
		return false
	}
	length := int32(binary.BigEndian.Uint32(b[atLength:]))
	return length >= lengthMinAnyMagic && int(length) <= len(b)-Overhead && b[atMagic] <= Magic2
}

func tooLarge(size, limit int) *Refusal {
	return refuse(kafka.ErrMessageTooLarge, "batch of %d bytes is larger than the limit of %d", size, limit)
}

func checkHeader(b Batch, rules *Rules) *Refusal {
	if b.BaseOffset() != 0 {
		return refuse(kafka.ErrInvalidRecord, "base offset is %d, not 0", b.BaseOffset())
	}
	if len(b) > rules.MaxMessageBytes {
		return tooLarge(len(b), rules.MaxMessageBytes)
	}
	if !b.VerifyCRC() && !mutant.On(mutant.ChecksumIgnored) {
		return refuse(kafka.ErrCorruptMessage, "batch has CRC %08x, not %08x as it says", b.ComputeCRC(), b.CRC())
	}
	if !b.Codec().Known() {
		refusal := refuse(kafka.ErrUnsupportedCompressionType, "%v is not known", b.Codec())
		refusal.Unread = rules.ProduceVersion < 7 // which looks at the codec first
		return refusal
	}
	count, delta := b.Count(), b.LastOffsetDelta()
	if delta < 0 || count <= 0 || int64(count) != int64(delta)+1 {
		return refuse(kafka.ErrInvalidRecord, "record count %d does not fit last offset delta %d", count, delta)
	}
	if b.IsControl() && !rules.AllowControl {
		return refuse(kafka.ErrInvalidRecord, "clients may not write control records")
	}
	if b.HasProducerID() && b.BaseSequence() < 0 && !b.IsControl() {
		return refuse(kafka.ErrInvalidRecord, "base sequence is %d with producer id %d", b.BaseSequence(), b.ProducerID())
	}
	if b.IsTransactional() && !b.HasProducerID() {
		return refuse(kafka.ErrInvalidRecord, "transactional batch has no producer id")
	}
	return nil
}

// verifier looks at the records of one batch in order.
type verifier struct {
	index, count  int32
	base          int64
	compacted     bool
	logAppendTime bool // the batch says so, which only a broker may
	topic         TimestampType
	earliest      int64
	latest        int64

	maxTimestamp int64
	maxIndex     int32

	timestamps bool // some of errors are about timestamps
	errors     []RecordError
}

func newVerifier(b Batch, rules *Rules) verifier {
	v := verifier{
		count:         b.Count(),
		base:          b.BaseTimestamp(),
		compacted:     rules.Compacted && !b.IsControl(),
		logAppendTime: b.TimestampType() == LogAppendTime,
		topic:         rules.TimestampType,
		earliest:      math.MinInt64,
		latest:        math.MaxInt64,
		maxTimestamp:  NoTimestamp,
	}
	if rules.TimestampType == CreateTime {
		v.earliest = addMs(rules.NowMs, -rules.TimestampBeforeMaxMs)
		v.latest = addMs(rules.NowMs, rules.TimestampAfterMaxMs)
	}
	return v
}

// plain verifies uncompressed records, which b must hold and nothing else.
func (v *verifier) plain(b []byte) bool {
	i := 0
	for i < len(b) {
		size, next := varint(b, i)
		if next == 0 || size < 0 || int(size) > len(b)-next {
			return false
		}
		i = next + int(size)
		if v.index == v.count || !v.record(b[next:i]) {
			return false
		}
	}
	return v.index == v.count
}

var payloads = sync.Pool{New: func() any { return new(payload) }}

// compressed decompresses the records of b and verifies them. It returns how
// many bytes came out.
func (v *verifier) compressed(b Batch, limit int) (int, *Refusal) {
	p := payloads.Get().(*payload)
	defer func() {
		p.close()
		payloads.Put(p)
	}()
	if err := p.open(b, limit, true, true); err != nil {
		return 0, undecodable(b, err)
	}
	for v.index < v.count {
		body, err := p.next()
		if err != nil && err != errEnds && err != errMalformed {
			return 0, undecodable(b, err)
		}
		if err != nil || !v.record(body) {
			return 0, v.malformed()
		}
	}
	// The end may have to be read before it is known to be one.
	for p.r == p.w && !p.done {
		if err := p.fill(); err != nil {
			return 0, undecodable(b, err)
		}
	}
	if p.r != p.w {
		return 0, v.malformed()
	}
	return p.total, nil
}

func undecodable(b Batch, err error) *Refusal {
	return refuse(kafka.ErrInvalidRecord, "records do not decompress as %v: %v", b.Codec(), err)
}

// record verifies the record of which body is the bytes after the size.
func (v *verifier) record(body []byte) bool {
	r, ok := scan(body)
	if !ok || r.offsetDelta != v.index {
		return false
	}
	timestamp := v.base + r.timestampDelta
	if timestamp > v.maxTimestamp {
		v.maxTimestamp, v.maxIndex = timestamp, v.index
	}
	if v.compacted && !r.keyed && !mutant.On(mutant.KeysMissing) {
		v.fault("record of a compacted topic has no key")
	} else if timestamp < v.earliest || timestamp > v.latest || v.logAppendTime {
		v.timestamp(timestamp)
	}
	v.index++
	return true
}

// timestamp judges one that is out of bounds, or in a batch that claims
// LogAppendTime.
func (v *verifier) timestamp(ms int64) {
	if v.topic == CreateTime && ms != NoTimestamp {
		if ms < v.earliest || ms > v.latest {
			v.timestamps = true
			v.fault("timestamp %d is not between %d and %d", ms, v.earliest, v.latest)
		}
	} else if v.logAppendTime {
		v.timestamps = true
		v.fault("producers may not set LogAppendTime")
	}
}

func (v *verifier) fault(format string, args ...any) {
	if len(v.errors) < recordErrorsMax {
		message := format
		if len(args) > 0 {
			message = fmt.Sprintf(format, args...)
		}
		v.errors = append(v.errors, RecordError{v.index, message})
	}
}

func (v *verifier) malformed() *Refusal {
	return refuse(kafka.ErrInvalidRecord,
		"batch does not hold exactly %d well-formed records with offset deltas from 0 up; good until %d", v.count, v.index)
}

func (v *verifier) verdict() *Refusal {
	switch {
	case len(v.errors) == 0:
		return nil
	case v.timestamps:
		return &Refusal{Code: kafka.ErrInvalidTimestamp, Message: "one or more records have a timestamp that is not allowed", RecordErrors: v.errors}
	default:
		return &Refusal{Code: kafka.ErrInvalidRecord, Message: "one or more records are not allowed: " + v.errors[0].Message, RecordErrors: v.errors}
	}
}

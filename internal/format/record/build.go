package record

import (
	"encoding/binary"
	"math"

	"chronik/internal/base/invariant"
	"chronik/internal/base/kafka"
)

// Producer is what an idempotent producer puts into its batches.
type Producer struct {
	ID       kafka.ProducerID
	Epoch    kafka.ProducerEpoch
	Sequence int32 // of the first record
}

// BuilderOptions are the properties of a batch to build. The zero value makes
// a plain, uncompressed batch at offset 0.
type BuilderOptions struct {
	BaseOffset    kafka.Offset
	LeaderEpoch   kafka.LeaderEpoch
	Codec         Codec
	Level         int       // of compression, on the scale of the topic's setting; 0: default
	Producer      *Producer // nil: not idempotent
	Transactional bool
	Control       bool
	// LogAppendTime, if above 0, is the timestamp in ms of all records.
	LogAppendTime int64
}

// Builder collects records and makes a batch of them. It may be used again
// after Reset.
type Builder struct {
	opts     BuilderOptions
	buf      []byte // room for the header, then records
	count    int32
	last     int32 // offset delta
	base     int64 // timestamps
	max      int64
	appended Record // here, so that it does not go to the heap each time
}

// NewBuilder begins a batch.
func NewBuilder(opts BuilderOptions) *Builder {
	bd := new(Builder)
	bd.Reset(opts)
	return bd
}

// Reset begins another batch. The one that Build returned stays valid.
func (bd *Builder) Reset(opts BuilderOptions) {
	buf := bd.buf
	if cap(buf) < HeaderSize {
		buf = make([]byte, HeaderSize, 512)
	}
	*bd = Builder{opts: opts, buf: buf[:HeaderSize], last: -1, max: NoTimestamp}
}

// Count is the number of records so far.
func (bd *Builder) Count() int { return int(bd.count) }

// Size is the size of the batch in bytes if it were not compressed.
func (bd *Builder) Size() int { return len(bd.buf) }

// Append adds a record at the next offset. The timestamp is in ms; a nil key
// or value is null. Nothing that is passed is kept.
func (bd *Builder) Append(timestamp int64, key, value []byte, headers ...Header) {
	bd.AppendAt(bd.last+1, timestamp, key, value, headers...)
}

// AppendAt is Append with an offset delta of its own, which must be larger
// than the last.
func (bd *Builder) AppendAt(offsetDelta int32, timestamp int64, key, value []byte, headers ...Header) {
	invariant.Check(offsetDelta > bd.last, "builds a batch with offsets out of order")
	if bd.count == 0 {
		bd.base = timestamp
	}
	bd.max = max(bd.max, timestamp)
	bd.appended = Record{OffsetDelta: offsetDelta, Key: key, Value: value, Headers: headers}
	bd.buf = appendRecord(bd.buf, &bd.appended, timestamp-bd.base)
	bd.appended = Record{}
	bd.last = offsetDelta
	bd.count++
	invariant.Check(len(bd.buf) < math.MaxInt32, "builds a batch of more than 2 GiB")
}

// Build is the batch, in bytes of its own. There must be a record.
func (bd *Builder) Build() Batch {
	invariant.Check(bd.count > 0, "builds a batch without records")
	out := make([]byte, HeaderSize, len(bd.buf))
	copy(out, bd.buf[:HeaderSize])
	bd.header(out)
	return finish(compress(out, bd.opts.Codec, bd.opts.Level, bd.buf[HeaderSize:]), bd.opts.Codec)
}

func (bd *Builder) header(b []byte) {
	o := &bd.opts
	producer := Producer{kafka.NoProducerID, kafka.NoProducerEpoch, NoSequence}
	if o.Producer != nil {
		producer = *o.Producer
	}
	clear(b[:HeaderSize])
	Batch(b).SetBaseOffset(o.BaseOffset)
	Batch(b).SetLeaderEpoch(o.LeaderEpoch)
	b[atMagic] = Magic2
	latest := bd.max
	if o.LogAppendTime > 0 {
		b[atAttributes+1] |= attrLogAppendTime
		latest = o.LogAppendTime
	}
	if o.Transactional {
		b[atAttributes+1] |= attrTransactional
	}
	if o.Control {
		b[atAttributes+1] |= attrControl
	}
	binary.BigEndian.PutUint32(b[atLastOffsetDelta:], uint32(bd.last))
	binary.BigEndian.PutUint64(b[atBaseTimestamp:], uint64(bd.base))
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(latest))
	binary.BigEndian.PutUint64(b[atProducerID:], uint64(producer.ID))
	binary.BigEndian.PutUint16(b[atProducerEpoch:], uint16(producer.Epoch))
	binary.BigEndian.PutUint32(b[atBaseSequence:], uint32(producer.Sequence))
	binary.BigEndian.PutUint32(b[atCount:], uint32(bd.count))
}

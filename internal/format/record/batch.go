package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"chronik/internal/base/invariant"
	"chronik/internal/base/kafka"
)

// HeaderSize is the size in bytes of a batch without records.
const HeaderSize = 61

// Overhead is what precedes the bytes that the batch length counts: the base
// offset and the length itself.
const Overhead = 12

// Magic2 is the only batch format that is read and written.
const Magic2 = 2

// NoTimestamp marks a record without a timestamp.
const NoTimestamp int64 = -1

// NoSequence marks a batch of a producer without idempotence.
const NoSequence int32 = -1

// Where the fields stand in a batch; docs/formats/record-batch.md has the
// whole table.
const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atCount           = 57
)

// The bits of a batch's attributes.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40 // KIP-534
)

var (
	// ErrTruncated means that the bytes end before the batch does.
	ErrTruncated = errors.New("record batch is incomplete")
	// ErrCorrupt means that the bytes cannot be a batch, however many follow.
	ErrCorrupt = errors.New("record batch is corrupt")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// TimestampType says whose clock a batch's timestamps are from.
type TimestampType int8

// CreateTime is the producer's clock, LogAppendTime the leader's.
const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// String is the value of message.timestamp.type.
func (t TimestampType) String() string {
	if t == LogAppendTime {
		return "LogAppendTime"
	}
	return "CreateTime"
}

// Batch is the bytes of exactly one record batch of magic 2, at least
// HeaderSize long. Next and Check make one of foreign bytes; the accessors
// trust it.
type Batch []byte

// Next splits the first batch off b. ErrTruncated means that b, which may be
// empty, ends within it; ErrCorrupt that its length or magic is impossible.
// The CRC is not looked at. The batch aliases b.
func Next(b []byte) (batch Batch, rest []byte, err error) {
	if len(b) < Overhead {
		return nil, b, ErrTruncated
	}
	length := int32(binary.BigEndian.Uint32(b[atLength:]))
	if length < HeaderSize-Overhead {
		return nil, b, fmt.Errorf("%w: length %d", ErrCorrupt, length)
	}
	if len(b) > atMagic && b[atMagic] != Magic2 {
		return nil, b, fmt.Errorf("%w: magic %d", ErrCorrupt, int8(b[atMagic]))
	}
	size := Overhead + int(length)
	if len(b) < size {
		return nil, b, ErrTruncated
	}
	return Batch(b[:size:size]), b[size:], nil
}

// BaseOffset is the offset of the first record that was ever in the batch.
func (b Batch) BaseOffset() kafka.Offset {
	return kafka.Offset(binary.BigEndian.Uint64(b[atBaseOffset:]))
}

// LastOffsetDelta is the distance from BaseOffset to LastOffset.
func (b Batch) LastOffsetDelta() int32 {
	return int32(binary.BigEndian.Uint32(b[atLastOffsetDelta:]))
}

// LastOffset is the offset of the last record that was ever in the batch;
// compaction does not change it.
func (b Batch) LastOffset() kafka.Offset {
	return b.BaseOffset() + kafka.Offset(b.LastOffsetDelta())
}

// NextOffset is the offset that follows the batch.
func (b Batch) NextOffset() kafka.Offset { return b.LastOffset() + 1 }

// Size is what Len is for the whole batch; the header is enough.
func (b Batch) Size() int64 { return Overhead + int64(binary.BigEndian.Uint32(b[atLength:])) }

// Len is the size of the batch in bytes, header included.
func (b Batch) Len() int { return len(b) }

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() kafka.LeaderEpoch {
	return kafka.LeaderEpoch(binary.BigEndian.Uint32(b[atLeaderEpoch:]))
}

// Magic is the version of the format.
func (b Batch) Magic() int8 { return int8(b[atMagic]) }

// CRC is the CRC-32C that the batch claims for everything from the attributes
// on.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[atCRC:]) }

// ComputeCRC is the CRC-32C that the batch ought to claim.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[atAttributes:], castagnoli) }

// VerifyCRC says whether the batch is what its writer wrote, but for the base
// offset and the leader epoch, which the CRC does not cover.
func (b Batch) VerifyCRC() bool { return b.CRC() == b.ComputeCRC() }

// Attributes are the flags of the batch as they stand.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[atAttributes:])) }

// Codec is the compression of the records; it may be one that is not Known.
func (b Batch) Codec() Codec { return Codec(b[atAttributes+1] & attrCodec) }

// IsTransactional says whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b[atAttributes+1]&attrTransactional != 0 }

// IsControl says whether the batch holds a transaction marker or another
// control record and not users' records.
func (b Batch) IsControl() bool { return b[atAttributes+1]&attrControl != 0 }

// HasDeleteHorizon says whether BaseTimestamp is the time from which
// tombstones in the batch may be dropped (KIP-534).
func (b Batch) HasDeleteHorizon() bool { return b[atAttributes+1]&attrDeleteHorizon != 0 }

// DeleteHorizon is the time in ms from which compaction may drop the batch's
// tombstones, or NoTimestamp while none is set.
func (b Batch) DeleteHorizon() int64 {
	if !b.HasDeleteHorizon() {
		return NoTimestamp
	}
	return b.BaseTimestamp()
}

// TimestampType says whose clock the timestamps are from. With LogAppendTime
// each record's timestamp is MaxTimestamp.
func (b Batch) TimestampType() TimestampType {
	if b[atAttributes+1]&attrLogAppendTime != 0 {
		return LogAppendTime
	}
	return CreateTime
}

// BaseTimestamp is the time in ms that the records' timestamps are relative to.
func (b Batch) BaseTimestamp() int64 {
	return int64(binary.BigEndian.Uint64(b[atBaseTimestamp:]))
}

// MaxTimestamp is the largest timestamp of the records, in ms.
func (b Batch) MaxTimestamp() int64 {
	return int64(binary.BigEndian.Uint64(b[atMaxTimestamp:]))
}

// ProducerID is the idempotent producer's id or kafka.NoProducerID.
func (b Batch) ProducerID() kafka.ProducerID {
	return kafka.ProducerID(binary.BigEndian.Uint64(b[atProducerID:]))
}

// HasProducerID says whether the batch is from an idempotent producer.
func (b Batch) HasProducerID() bool { return b.ProducerID() > kafka.NoProducerID }

// ProducerEpoch is the producer's epoch or kafka.NoProducerEpoch.
func (b Batch) ProducerEpoch() kafka.ProducerEpoch {
	return kafka.ProducerEpoch(binary.BigEndian.Uint16(b[atProducerEpoch:]))
}

// BaseSequence is the sequence number of the first record or NoSequence.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[atBaseSequence:])) }

// LastSequence is the sequence number of the last record or NoSequence. It
// follows 2^31-1 with 0.
func (b Batch) LastSequence() int32 {
	base := b.BaseSequence()
	if base == NoSequence {
		return NoSequence
	}
	return AddSequence(base, b.LastOffsetDelta())
}

// AddSequence is the sequence number that stands n after s; 2^31-1 is
// followed by 0.
func AddSequence(s, n int32) int32 {
	return int32((uint32(s) + uint32(n)) & math.MaxInt32)
}

// Count is the number of records in the batch. It is less than the offsets
// suggest, and may be 0, after compaction.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[atCount:])) }

// SetBaseOffset moves the batch to another offset.
func (b Batch) SetBaseOffset(o kafka.Offset) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(o))
}

// SetLeaderEpoch names another leader as the one that appended the batch.
func (b Batch) SetLeaderEpoch(e kafka.LeaderEpoch) {
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(e))
}

// SetLogAppendTime makes ms the timestamp of all records, and recomputes the
// CRC.
func (b Batch) SetLogAppendTime(ms int64) { b.setMaxTimestamp(LogAppendTime, ms) }

// setMaxTimestamp leaves the CRC alone when nothing changes.
func (b Batch) setMaxTimestamp(t TimestampType, ms int64) {
	if b.TimestampType() == t && b.MaxTimestamp() == ms {
		return
	}
	b[atAttributes+1] &^= attrLogAppendTime
	if t == LogAppendTime {
		b[atAttributes+1] |= attrLogAppendTime
	}
	binary.BigEndian.PutUint64(b[atMaxTimestamp:], uint64(ms))
	b.setCRC()
}

func (b Batch) setCRC() { binary.BigEndian.PutUint32(b[atCRC:], b.ComputeCRC()) }

// Stamp gives a checked batch its place in the leader's log. The CRC covers
// neither of the two.
func Stamp(b Batch, base kafka.Offset, epoch kafka.LeaderEpoch) {
	invariant.Check(len(b) >= HeaderSize, "stamps what is no batch")
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(epoch)
}

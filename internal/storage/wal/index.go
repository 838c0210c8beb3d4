package wal

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"sort"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
)

// An index file is a row of entries, each with its own checksum, so that any
// part of the file may be lost in a crash:
//
//	offset | size | field
//	     0 |    8 | base offset of the batch at the position
//	     8 |    8 | position in the segment, in bytes
//	    16 |    8 | largest timestamp of the batches before it in the segment, -1 for none
//	    24 |    8 | base offset of the first batch with that timestamp, -1 for none
//	    32 |    4 | leader epoch of the batch, -1 if no batch was there yet
//	    36 |    4 | CRC-32C of the segment's base offset and of bytes 0 to 35
const entrySize = 40

// flushEntries is how many entries wait in memory until they are written.
const flushEntries = 32

// entry says what is known at a batch boundary of a segment.
type entry struct {
	offset kafka.Offset
	pos    int64
	maxTs  timestampAt // of the batches before pos
	epoch  kafka.LeaderEpoch
}

// timestampAt is a timestamp and the base offset of the batch that has it.
type timestampAt struct {
	ms   int64
	base kafka.Offset
}

var noTimestamp = timestampAt{ms: record.NoTimestamp, base: kafka.NoOffset}

// unknownTimestamp is the largest of batches of which some cannot be read: it may
// be any.
var unknownTimestamp = timestampAt{ms: math.MaxInt64, base: kafka.NoOffset}

func (t *timestampAt) include(b record.Batch) {
	// A batch that compaction has emptied keeps the timestamp of its records.
	if ms := b.MaxTimestamp(); ms > t.ms && b.Count() > 0 {
		t.ms, t.base = ms, b.BaseOffset()
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendEntry(dst []byte, base kafka.Offset, e entry) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.offset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.pos))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.maxTs.ms))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.maxTs.base))
	dst = binary.BigEndian.AppendUint32(dst, uint32(e.epoch))
	return binary.BigEndian.AppendUint32(dst, entryCRC(base, dst[at:]))
}

func entryCRC(base kafka.Offset, b []byte) uint32 {
	var salt [8]byte
	binary.BigEndian.PutUint64(salt[:], uint64(base))
	return crc32.Update(crc32.Checksum(salt[:], castagnoli), castagnoli, b)
}

// decodeIndex returns the entries at the begin of b that are whole and in
// order.
func decodeIndex(b []byte, base kafka.Offset) []entry {
	out := make([]entry, 0, len(b)/entrySize)
	for ; len(b) >= entrySize; b = b[entrySize:] {
		if entryCRC(base, b[:36]) != binary.BigEndian.Uint32(b[36:]) {
			break
		}
		e := entry{
			offset: kafka.Offset(binary.BigEndian.Uint64(b)),
			pos:    int64(binary.BigEndian.Uint64(b[8:])),
			maxTs: timestampAt{
				ms:   int64(binary.BigEndian.Uint64(b[16:])),
				base: kafka.Offset(binary.BigEndian.Uint64(b[24:])),
			},
			epoch: kafka.LeaderEpoch(binary.BigEndian.Uint32(b[32:])),
		}
		last := entry{offset: base, pos: headerSize, maxTs: timestampAt{ms: -1 << 63}}
		if len(out) > 0 {
			last = out[len(out)-1]
		}
		if e.offset < last.offset || e.pos < last.pos || e.maxTs.ms < last.maxTs.ms {
			break
		}
		out = append(out, e)
	}
	return out
}

// floor returns the last entry at or before the offset, or the segment's
// first batch.
func floor(entries []entry, base, offset kafka.Offset) entry {
	i := sort.Search(len(entries), func(i int) bool { return entries[i].offset > offset })
	if i == 0 {
		return entry{offset: base, pos: headerSize, maxTs: noTimestamp, epoch: kafka.NoLeaderEpoch}
	}
	if i < len(entries) && mutant.On(mutant.IndexAfter) {
		return entries[i]
	}
	return entries[i-1]
}

// floorPos is floor by position.
func floorPos(entries []entry, base kafka.Offset, pos int64) entry {
	i := sort.Search(len(entries), func(i int) bool { return entries[i].pos > pos })
	if i == 0 {
		return entry{offset: base, pos: headerSize, maxTs: noTimestamp, epoch: kafka.NoLeaderEpoch}
	}
	return entries[i-1]
}

// floorTime returns the last entry before which all timestamps are below ms.
func floorTime(entries []entry, base kafka.Offset, ms int64) entry {
	i := sort.Search(len(entries), func(i int) bool { return entries[i].maxTs.ms >= ms })
	if i == 0 {
		return entry{offset: base, pos: headerSize, maxTs: noTimestamp, epoch: kafka.NoLeaderEpoch}
	}
	return entries[i-1]
}

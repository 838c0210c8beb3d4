package record

import (
	"encoding/binary"
	"fmt"

	"chronik/internal/base/kafka"
)

// Recompress is b with its records compressed another way, in fresh bytes.
// Nothing else changes. The level is on the scale of the topic's setting; 0
// is the codec's default. Errors wrap ErrCorrupt.
func Recompress(b Batch, codec Codec, level, decompressBytesMax int) (Batch, error) {
	p := payloads.Get().(*payload)
	defer func() {
		p.close()
		payloads.Put(p)
	}()
	if err := p.open(b, decompressBytesMax, false, true); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	records, err := p.all()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	size := len(b)
	if codec == None {
		size = HeaderSize + len(records)
	}
	out := make([]byte, HeaderSize, size)
	copy(out, b[:HeaderSize])
	return finish(compress(out, codec, level, records), codec), nil
}

// finish sets what depends on the bytes after the header.
func finish(b []byte, codec Codec) Batch {
	b[atAttributes+1] = b[atAttributes+1]&^attrCodec | byte(codec)
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-Overhead))
	Batch(b).setCRC()
	return Batch(b[:len(b):len(b)])
}

// FilterOptions say how Filter rewrites.
type FilterOptions struct {
	// SetDeleteHorizon puts DeleteHorizon, in ms, on the batch, unless it has
	// one already (KIP-534).
	SetDeleteHorizon bool
	DeleteHorizon    int64
	Level            int // of compression; 0: the codec's default
}

// Filter is b without the records for which keep says no, for compaction. The
// offsets that the batch spans and all about its producer stay as they are. A
// batch of which nothing is left has a header only, which keeps the
// producer's last sequence; the caller may drop it if it needs neither that
// nor the offset. When nothing changes, the result is b itself, else it is
// fresh bytes. Errors wrap ErrCorrupt.
func Filter(b Batch, scratch *Scratch, opts FilterOptions, keep func(*Record) bool) (Batch, error) {
	base, horizon := b.BaseTimestamp(), opts.SetDeleteHorizon && !b.HasDeleteHorizon()
	if horizon {
		base = opts.DeleteHorizon
	}
	out := make([]byte, HeaderSize, len(b)+16)
	copy(out, b[:HeaderSize])
	// LogAppendTime keeps its one timestamp; deltas have no meaning then.
	logAppendTime := b.TimestampType() == LogAppendTime
	maxTimestamp := NoTimestamp
	var kept int32
	it := b.Records(scratch)
	for it.Next() {
		r := it.Record()
		if !keep(r) {
			continue
		}
		maxTimestamp = max(maxTimestamp, r.Timestamp)
		kept++
		out = appendRecord(out, r, r.Timestamp-base)
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	if kept == b.Count() && (!horizon || kept == 0) {
		return b, nil
	}
	codec := b.Codec()
	binary.BigEndian.PutUint32(out[atCount:], uint32(kept))
	if kept == 0 {
		out[atAttributes+1] &^= attrDeleteHorizon
		binary.BigEndian.PutUint64(out[atBaseTimestamp:], uint64(b.MaxTimestamp()))
		return finish(out, None), nil
	}
	if horizon {
		out[atAttributes+1] |= attrDeleteHorizon
	}
	binary.BigEndian.PutUint64(out[atBaseTimestamp:], uint64(base))
	if !logAppendTime {
		binary.BigEndian.PutUint64(out[atMaxTimestamp:], uint64(maxTimestamp))
	}
	if codec == None {
		return finish(out, None), nil
	}
	packed := make([]byte, HeaderSize, len(b))
	copy(packed, out)
	return finish(compress(packed, codec, opts.Level, out[HeaderSize:]), codec), nil
}

// Split is the part of b from an offset on, which must lie in b, as a batch in
// fresh bytes that begins there. It is for batches of no producer: sequence
// numbers would no longer fit. Errors wrap ErrCorrupt.
func Split(b Batch, from kafka.Offset, scratch *Scratch) (Batch, error) {
	skip := int32(from - b.BaseOffset())
	out := make([]byte, HeaderSize, len(b)+16)
	copy(out, b[:HeaderSize])
	Batch(out).SetBaseOffset(from)
	binary.BigEndian.PutUint32(out[atLastOffsetDelta:], uint32(b.LastOffsetDelta()-skip))
	logAppendTime, base := b.TimestampType() == LogAppendTime, b.BaseTimestamp()
	latest := NoTimestamp
	var kept int32
	it := b.Records(scratch)
	for it.Next() {
		r := it.Record()
		if r.OffsetDelta < skip {
			continue
		}
		r.OffsetDelta -= skip
		latest = max(latest, r.Timestamp)
		kept++
		out = appendRecord(out, r, r.Timestamp-base)
	}
	if err := it.Err(); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(out[atCount:], uint32(kept))
	codec := b.Codec()
	if kept == 0 {
		out[atAttributes+1] &^= attrDeleteHorizon
		codec = None
	} else if !logAppendTime {
		binary.BigEndian.PutUint64(out[atMaxTimestamp:], uint64(latest))
	}
	if codec == None {
		return finish(out, None), nil
	}
	packed := make([]byte, HeaderSize, len(b))
	copy(packed, out)
	return finish(compress(packed, codec, 0, out[HeaderSize:]), codec), nil
}

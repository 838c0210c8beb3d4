package record

import (
	"errors"
	"fmt"

	"chronik/internal/base/kafka"
)

var errMalformed = errors.New("record is malformed")

// Scratch keeps the memory of walking batches from one batch to the next. Its
// zero value is ready. It serves one walk at a time: beginning another one
// ends the last, its error included.
type Scratch struct {
	// BytesMax limits what a batch may decompress to; 0 means
	// DecompressBytesMax.
	BytesMax int

	payload payload
	headers []Header
	records Records
}

// Records walks the records of one batch:
//
//	it := b.Records(&scratch)
//	for it.Next() {
//		use(it.Record())
//	}
//	return it.Err()
type Records struct {
	scratch *Scratch
	batch   Batch
	base    kafka.Offset
	left    int32
	record  Record
	err     error
}

// Records begins a walk, for which scratch, unless nil, lends its memory. It
// takes every codec, and verifies the form of each record but not the CRC.
func (b Batch) Records(scratch *Scratch) *Records {
	if scratch == nil {
		scratch = new(Scratch)
	}
	it := &scratch.records
	*it = Records{scratch: scratch, batch: b, base: b.BaseOffset(), left: b.Count()}
	if it.left == 0 {
		return it
	}
	if it.left < 0 {
		it.fail(errMalformed)
		return it
	}
	if err := scratch.payload.open(b, scratch.BytesMax, false, false); err != nil {
		it.fail(err)
	}
	return it
}

// Next moves to the next record and says whether there is one.
func (it *Records) Next() bool {
	if it.left == 0 {
		it.scratch.payload.close()
		return false
	}
	p := &it.scratch.payload
	body, err := p.next()
	if err != nil {
		it.fail(err)
		return false
	}
	if _, ok := scan(body); !ok {
		it.fail(errMalformed)
		return false
	}
	r := &it.record
	it.scratch.headers = r.parse(body, it.scratch.headers)
	r.Offset = it.base + kafka.Offset(r.OffsetDelta)
	if it.batch.TimestampType() == LogAppendTime {
		r.Timestamp = it.batch.MaxTimestamp()
	} else {
		r.Timestamp += it.batch.BaseTimestamp()
	}
	it.left--
	return true
}

// Record is the record that Next moved to. It is valid until Next is called
// again; so are its slices.
func (it *Records) Record() *Record { return &it.record }

// Err is what ended the walk early, if anything; it wraps ErrCorrupt.
func (it *Records) Err() error { return it.err }

func (it *Records) fail(err error) {
	it.err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	it.left = 0
	it.scratch.payload.close()
}

// next is the body of the next record, without its size. It is valid until
// the next call.
func (p *payload) next() ([]byte, error) {
	for {
		size, i := varint(p.data[:p.w], p.r)
		if i != 0 {
			if size < 0 {
				return nil, errMalformed
			}
			if !p.done && int(size) > p.limit {
				return nil, errTooLarge
			}
			n := i - p.r
			if err := p.ensure(n + int(size)); err != nil {
				return nil, err
			}
			start := p.r + n
			p.r = start + int(size)
			return p.data[start:p.r:p.r], nil
		}
		if p.w-p.r >= 5 {
			return nil, errMalformed
		}
		if err := p.ensure(p.w - p.r + 1); err != nil {
			return nil, err
		}
	}
}

package record

import (
	"encoding/binary"
	"fmt"

	"chronik/internal/base/kafka"
)

// Marker ends a producer's transaction in a partition.
type Marker struct {
	ProducerID       kafka.ProducerID
	ProducerEpoch    kafka.ProducerEpoch
	CoordinatorEpoch int32
	Commit           bool  // else abort
	Timestamp        int64 // ms
}

// The types of control records that matter here.
const (
	controlAbort  = 0
	controlCommit = 1
)

// Batch is a control batch with the marker as its only record, at offset 0.
func (m Marker) Batch() Batch {
	var key [4]byte // version 0, type
	if m.Commit {
		key[3] = controlCommit
	}
	var value [6]byte // version 0, coordinator epoch
	binary.BigEndian.PutUint32(value[2:], uint32(m.CoordinatorEpoch))
	bd := NewBuilder(BuilderOptions{
		Producer:      &Producer{m.ProducerID, m.ProducerEpoch, NoSequence},
		Transactional: true,
		Control:       true,
	})
	bd.Append(m.Timestamp, key[:], value[:])
	return bd.Build()
}

// ParseMarker reads the marker in a control batch. ok is false for control
// batches of other kinds and for those that compaction has emptied; the error
// wraps ErrCorrupt.
func ParseMarker(b Batch, scratch *Scratch) (m Marker, ok bool, err error) {
	it := b.Records(scratch)
	if !b.IsControl() || !it.Next() {
		return m, false, it.Err()
	}
	r := it.Record()
	if len(r.Key) < 4 {
		return m, false, fmt.Errorf("%w: control record has a key of %d bytes", ErrCorrupt, len(r.Key))
	}
	kind := int16(binary.BigEndian.Uint16(r.Key[2:]))
	if kind != controlAbort && kind != controlCommit {
		return m, false, nil
	}
	if len(r.Value) < 6 {
		return m, false, fmt.Errorf("%w: marker has a value of %d bytes", ErrCorrupt, len(r.Value))
	}
	return Marker{
		ProducerID:       b.ProducerID(),
		ProducerEpoch:    b.ProducerEpoch(),
		CoordinatorEpoch: int32(binary.BigEndian.Uint32(r.Value[2:])),
		Commit:           kind == controlCommit,
		Timestamp:        r.Timestamp,
	}, true, nil
}

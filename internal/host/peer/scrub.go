package peer

import (
	"encoding/binary"

	"chronik/internal/base/kafka"
)

// ScrubVersion stands where Version does in a message between replicas, so that
// both can travel in one frame.
const ScrubVersion = 2

// ScrubKind says what a Scrub means.
type ScrubKind uint8

// The kinds of messages of the scrubber.
const (
	AskSum     ScrubKind = 1 + iota // what is the sum of your batches from From up to To?
	Sum                             // answer to AskSum
	AskBatches                      // send batches from From on, below To, about Max bytes
	Batches                         // answer to AskBatches
	Diverged                        // L→F: what you have from From up to To is not what I have
	AskState                        // how far are you? Data is JSON, as is the answer's
	State                           // answer to AskState
)

// ScrubStatus is what a replica says of a range of its log.
type ScrubStatus uint8

// The statuses.
const (
	ScrubOK        ScrubStatus = iota // Sum, or Data, is what was asked for
	ScrubDamaged                      // it is not as it was written here
	ScrubOther                        // no batches begin at From and end at To
	ScrubCompacted                    // compaction has been there, so that every replica's is its own
	ScrubNotHere                      // there is no such replica here, or its log does not go so far
)

// String is the status in words.
func (s ScrubStatus) String() string {
	names := [...]string{"ok", "is damaged", "has other batches", "is compacted", "does not have it"}
	if int(s) < len(names) {
		return names[s]
	}
	return "?"
}

// Scrub is a question of one node's scrubber to another's, or an answer.
type Scrub struct {
	Kind      ScrubKind
	ID        uint64 // of the question; the answer has the same
	Topic     kafka.TopicID
	Partition int32
	From, To  kafka.Offset
	Max       uint32
	Sum       uint32
	Status    ScrubStatus
	Data      []byte // whole batches, or JSON
}

// A Scrub is, in big-endian order:
//
//	offset | size | field
//	     0 |    4 | bytes that follow this field
//	     4 |    1 | 2
//	     5 |    1 | kind
//	     6 |    1 | status
//	     7 |   16 | topic id
//	    23 |    4 | partition
//	    27 |    8 | number of the question
//	    35 |    8 | from
//	    43 |    8 | to
//	    51 |    4 | max
//	    55 |    4 | sum
//	    59 |      | data
const scrubHeader = 59

// EncodeScrub appends the message.
func EncodeScrub(dst []byte, m *Scrub) []byte {
	be := binary.BigEndian
	dst = be.AppendUint32(dst, uint32(scrubHeader-4+len(m.Data)))
	dst = append(dst, ScrubVersion, byte(m.Kind), byte(m.Status))
	dst = append(dst, m.Topic[:]...)
	dst = be.AppendUint32(dst, uint32(m.Partition))
	dst = be.AppendUint64(dst, m.ID)
	dst = be.AppendUint64(dst, uint64(m.From))
	dst = be.AppendUint64(dst, uint64(m.To))
	dst = be.AppendUint32(dst, m.Max)
	dst = be.AppendUint32(dst, m.Sum)
	return append(dst, m.Data...)
}

// IsScrub says whether what b begins with is a Scrub.
func IsScrub(b []byte) bool { return len(b) > 4 && b[4] == ScrubVersion }

// Unknown splits off a message with a version that this release does not know,
// whatever it is; false when b begins with another.
func Unknown(b []byte) (rest []byte, ok bool) {
	if len(b) <= 4 || b[4] <= ScrubVersion {
		return b, false
	}
	size := int64(binary.BigEndian.Uint32(b)) + 4
	if size <= 4 || size > int64(len(b)) {
		return b, false
	}
	return b[size:], true
}

// DecodeScrub splits a Scrub off b. Its data alias b.
func DecodeScrub(b []byte) (m Scrub, rest []byte, err error) {
	be := binary.BigEndian
	if len(b) < scrubHeader || !IsScrub(b) {
		return m, b, ErrMalformed
	}
	size := int64(be.Uint32(b)) + 4
	if size < scrubHeader || size > int64(len(b)) {
		return m, b, ErrMalformed
	}
	m = Scrub{
		Kind: ScrubKind(b[5]), Status: ScrubStatus(b[6]),
		Partition: int32(be.Uint32(b[23:])), ID: be.Uint64(b[27:]),
		From: kafka.Offset(be.Uint64(b[35:])), To: kafka.Offset(be.Uint64(b[43:])),
		Max: be.Uint32(b[51:]), Sum: be.Uint32(b[55:]),
	}
	copy(m.Topic[:], b[7:])
	if size > scrubHeader {
		m.Data = b[scrubHeader:size:size]
	}
	if m.Kind < AskSum || m.Kind > State || m.Status > ScrubNotHere || m.Partition < 0 || m.From < 0 || m.To < m.From {
		return Scrub{}, b, ErrMalformed
	}
	return m, b[size:], nil
}

package peer

import (
	"encoding/binary"
	"errors"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
)

// ErrMalformed means that the bytes are no messages, or of another version.
var ErrMalformed = errors.New("replica message is malformed")

// Version stands at the begin of each message, so that a change of the layout
// is noticed.
const Version = 1

// A message is, in big-endian order:
//
//	offset | size | field
//	     0 |    4 | bytes of the message that follow this field
//	     4 |    1 | version
//	     5 |    1 | kind
//	     6 |    1 | flags: 1 an answer is needed
//	     7 |   16 | topic id
//	    23 |    4 | partition
//	    27 |    4 | leader epoch
//	    31 |    8 | session
//	    39 |    4 | epoch
//	    43 |    8 | offset
//	    51 |    8 | synced
//	    59 |    8 | high watermark
//	    67 |    8 | log start
//	    75 |    8 | broker epoch
//	    83 |      | records, to the end of the message
const headerSize = 83

const flagNeedsAck = 1

// Size is the size of the message's bytes.
func Size(m *replica.Message) int { return headerSize + len(m.Records) }

// Encode appends a message of a partition. Messages may follow one another in
// a frame. To is not encoded: it is who gets the frame.
func Encode(dst []byte, topic kafka.TopicID, partition int32, m *replica.Message) []byte {
	return append(EncodeHeader(dst, topic, partition, m), m.Records...)
}

// EncodeHeader is Encode without the records, which must follow: for callers
// that write them from where they are.
func EncodeHeader(dst []byte, topic kafka.TopicID, partition int32, m *replica.Message) []byte {
	be := binary.BigEndian
	dst = be.AppendUint32(dst, uint32(headerSize-4+len(m.Records)))
	flags := byte(0)
	if m.NeedsAck {
		flags |= flagNeedsAck
	}
	dst = append(dst, Version, byte(m.Kind), flags)
	dst = append(dst, topic[:]...)
	dst = be.AppendUint32(dst, uint32(partition))
	dst = be.AppendUint32(dst, uint32(m.LeaderEpoch))
	dst = be.AppendUint64(dst, m.Session)
	dst = be.AppendUint32(dst, uint32(m.Epoch))
	dst = be.AppendUint64(dst, uint64(m.Offset))
	dst = be.AppendUint64(dst, uint64(m.Synced))
	dst = be.AppendUint64(dst, uint64(m.HighWatermark))
	dst = be.AppendUint64(dst, uint64(m.LogStart))
	return be.AppendUint64(dst, uint64(m.BrokerEpoch))
}

// Decode splits the first message off b. Its records alias b and are not
// looked at; only an Append has any, and a Reset a snapshot. Nothing is allocated.
func Decode(b []byte) (topic kafka.TopicID, partition int32, m replica.Message, rest []byte, err error) {
	be := binary.BigEndian
	if len(b) < headerSize {
		return topic, 0, m, b, ErrMalformed
	}
	size := int64(be.Uint32(b)) + 4
	if size < headerSize || size > int64(len(b)) || b[4] != Version || b[6]&^flagNeedsAck != 0 {
		return topic, 0, m, b, ErrMalformed
	}
	copy(topic[:], b[7:])
	partition = int32(be.Uint32(b[23:]))
	m = replica.Message{
		Kind:          replica.Kind(b[5]),
		NeedsAck:      b[6]&flagNeedsAck != 0,
		LeaderEpoch:   kafka.LeaderEpoch(be.Uint32(b[27:])),
		Session:       be.Uint64(b[31:]),
		Epoch:         kafka.LeaderEpoch(be.Uint32(b[39:])),
		Offset:        kafka.Offset(be.Uint64(b[43:])),
		Synced:        kafka.Offset(be.Uint64(b[51:])),
		HighWatermark: kafka.Offset(be.Uint64(b[59:])),
		LogStart:      kafka.Offset(be.Uint64(b[67:])),
		BrokerEpoch:   kafka.BrokerEpoch(be.Uint64(b[75:])),
	}
	if size > headerSize {
		m.Records = b[headerSize:size:size]
	}
	known := m.Kind >= replica.Hello && m.Kind <= replica.Stored
	if !known || partition < 0 || m.Offset < 0 || m.HighWatermark < 0 || m.LogStart < 0 || m.Synced < 0 || len(m.Records) > 0 && m.Kind != replica.Append && m.Kind != replica.Reset {
		return topic, 0, replica.Message{}, b, ErrMalformed
	}
	return topic, partition, m, b[size:], nil
}

package traffic

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"chronik/test/chaos/history"
)

// ValueBytesMin is the shortest value that names its record.
const ValueBytesMin = 12

var producers atomic.Uint32

// NewProducer returns a number that no other producer of this process has.
func NewProducer() uint32 { return producers.Add(1) }

// Value is a record's value: its id, and then bytes that follow from the id, so
// that a reader can tell a wrong byte anywhere.
func Value(id history.ID, size int) []byte {
	v := make([]byte, max(size, ValueBytesMin))
	binary.BigEndian.PutUint32(v, id.Producer)
	binary.BigEndian.PutUint64(v[4:], id.Seq)
	state := uint64(id.Producer)*0xd6e8feb86659fd93 ^ id.Seq*0xff51afd7ed558ccd
	for rest := v[ValueBytesMin:]; len(rest) > 0; {
		// splitmix64: cheap, and no two ids give like bytes.
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], z^z>>31)
		rest = rest[copy(rest, word[:]):]
	}
	return v
}

// Identify reads a value's id and checks its every byte.
func Identify(v []byte) (history.ID, error) {
	if len(v) < ValueBytesMin {
		return history.ID{}, fmt.Errorf("value of %d bytes", len(v))
	}
	id := history.ID{Producer: binary.BigEndian.Uint32(v), Seq: binary.BigEndian.Uint64(v[4:])}
	if !bytes.Equal(v, Value(id, len(v))) {
		return id, fmt.Errorf("value of %v has other bytes than were sent", id)
	}
	return id, nil
}

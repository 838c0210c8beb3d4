package cleaner

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// slotBytes is what one key takes.
const slotBytes = 24

// digest stands for a key. Two keys with one digest would be taken for one
// another, and whoever may write to a topic may choose keys: so it is half of
// a SHA-256 and not something faster.
type digest [2]uint64

func digestOf(key []byte) digest {
	sum := sha256.Sum256(key)
	return digest{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// slot holds a digest and its last offset plus 1; 0 marks one that is free.
type slot struct {
	key  digest
	next kafka.Offset
}

// keyMap remembers the last offset of each of so many keys.
type keyMap struct {
	slots []slot
	used  int
	max   int
}

// MemoryFor is how many bytes a map for so many records takes at most.
func MemoryFor(records int64) int64 { return slotBytes * (records + records/4 + 1) }

// newKeyMap makes a map in so many bytes, or fewer when there are no more than
// so many keys to come.
func newKeyMap(bytes, keys int64) keyMap {
	n := max(min(bytes/slotBytes, keys+keys/4+1), 2)
	return keyMap{slots: make([]slot, n), max: int(max(n*17/20, 1))}
}

// find returns the slot of the key or the free one that is to be its.
func (m *keyMap) find(key digest) *slot {
	i, _ := bits.Mul64(key[0], uint64(len(m.slots)))
	for {
		s := &m.slots[i]
		if s.next == 0 || s.key == key {
			return s
		}
		if i++; i == uint64(len(m.slots)) {
			i = 0
		}
	}
}

// put notes that the key is at the offset. It says no when there is no room
// for another key.
func (m *keyMap) put(key digest, offset kafka.Offset) bool {
	s := m.find(key)
	if s.next == 0 {
		if m.used >= m.max {
			return false
		}
		m.used++
		s.key = key
	}
	s.next = max(s.next, offset+1)
	return true
}

// after says whether the key is known at an offset above this one.
func (m *keyMap) after(key digest, offset kafka.Offset) bool {
	if mutant.On(mutant.CompactLast) {
		return m.find(key).next > offset
	}
	return m.find(key).next > offset+1
}

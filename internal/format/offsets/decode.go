package offsets

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"chronik/internal/base/kafka"
)

// Decode reads a record. A nil value makes a tombstone. The result has no part
// of key or value in it. Errors are ErrUnknownKind and ErrCorrupt.
func Decode(key, value []byte) (Record, error) {
	k := reader{b: key}
	kind := k.int16()
	if k.bad {
		return nil, fmt.Errorf("decode key: %w", ErrCorrupt)
	}
	r, known := decodeKey(&k, kind)
	if !known {
		return nil, fmt.Errorf("kind %d: %w", kind, ErrUnknownKind)
	}
	if k.bad {
		return nil, fmt.Errorf("decode key of kind %d: %w", kind, ErrCorrupt)
	}
	if value == nil {
		return r, nil
	}
	v := reader{b: value}
	version := v.int16()
	if !v.bad && (version < 0 || version > maxVersion(kind)) {
		return nil, fmt.Errorf("kind %d version %d: %w", kind, version, ErrUnknownKind)
	}
	r = decodeValue(&v, version, r)
	if v.bad {
		return nil, fmt.Errorf("decode value of kind %d: %w", kind, ErrCorrupt)
	}
	return r, nil
}

func maxVersion(kind int16) int16 {
	switch kind {
	case kindOffsetCommitV0, kindOffsetCommit, kindGroupMetadata:
		return 4
	}
	return 0
}

func decodeKey(k *reader, kind int16) (r Record, known bool) {
	switch kind {
	case kindOffsetCommitV0, kindOffsetCommit:
		return OffsetCommit{Group: k.string(), Topic: k.string(), Partition: k.int32()}, true
	case kindGroupMetadata:
		return GroupMetadata{Group: k.string()}, true
	case kindConsumerGroup:
		return ConsumerGroup{Group: k.string()}, true
	case kindConsumerMember:
		return ConsumerMember{Group: k.string(), MemberID: k.string()}, true
	case kindConsumerTargetEpoch:
		return ConsumerTargetEpoch{Group: k.string()}, true
	case kindConsumerTarget:
		return ConsumerTarget{Group: k.string(), MemberID: k.string()}, true
	case kindConsumerCurrent:
		return ConsumerCurrent{Group: k.string(), MemberID: k.string()}, true
	case kindConsumerRegex:
		return ConsumerRegex{Group: k.string(), Regex: k.string()}, true
	}
	return nil, false
}

func decodeValue(v *reader, version int16, r Record) Record {
	switch r := r.(type) {
	case OffsetCommit:
		r.Value = v.offsetCommit(version)
		return r
	case GroupMetadata:
		r.Value = v.groupMetadata(version)
		return r
	case ConsumerGroup:
		r.Value = &ConsumerGroupValue{Epoch: v.int32()}
		v.tags(func(tag uint64, t *reader) {
			if tag == 0 {
				r.Value.MetadataHash = t.int64()
			}
		})
		return r
	case ConsumerMember:
		r.Value = v.member()
		return r
	case ConsumerTargetEpoch:
		r.Value = &ConsumerTargetEpochValue{Epoch: v.int32()}
		v.tags(func(tag uint64, t *reader) {
			if tag == 0 {
				r.Value.Timestamp = t.int64()
			}
		})
		return r
	case ConsumerTarget:
		r.Value = &ConsumerTargetValue{Partitions: v.partitions()}
		v.tags(nil)
		return r
	case ConsumerCurrent:
		r.Value = &ConsumerCurrentValue{
			MemberEpoch: v.int32(), PreviousMemberEpoch: v.int32(), State: int8(v.byte()),
			Assigned: v.partitions(), PendingRevocation: v.partitions(),
		}
		v.tags(nil)
		return r
	case ConsumerRegex:
		r.Value = &ConsumerRegexValue{Topics: v.strings(), Version: v.int64(), Timestamp: v.int64()}
		v.tags(nil)
		return r
	}
	return r
}

func (v *reader) offsetCommit(version int16) *OffsetCommitValue {
	o := &OffsetCommitValue{Offset: kafka.Offset(v.int64()), LeaderEpoch: kafka.NoLeaderEpoch, ExpireTimestamp: -1}
	if version >= 3 {
		o.LeaderEpoch = kafka.LeaderEpoch(v.int32())
	}
	if version < 4 {
		o.Metadata = v.string()
	} else {
		o.Metadata = v.compactString()
	}
	o.CommitTimestamp = v.int64()
	switch version {
	case 1:
		o.ExpireTimestamp = v.int64()
	case 4:
		v.tags(func(tag uint64, t *reader) {
			if tag == 0 {
				o.TopicID = t.topicID()
			}
		})
	}
	return o
}

func (v *reader) groupMetadata(version int16) *GroupMetadataValue {
	str, blob := v.string, v.bytes
	if version >= 4 {
		str, blob = v.compactString, v.compactBytes
	}
	g := &GroupMetadataValue{ProtocolType: str(), Generation: v.int32(), Protocol: str(), Leader: str(), StateTimestamp: -1}
	if version >= 2 {
		g.StateTimestamp = v.int64()
	}
	var n int
	if version >= 4 {
		n = v.compactCount(12)
	} else {
		n = v.count(16)
	}
	for i := 0; i < n && !v.bad; i++ {
		m := GroupMember{MemberID: str()}
		if version >= 3 {
			m.InstanceID = str()
		}
		m.ClientID, m.ClientHost = str(), str()
		if version >= 1 {
			m.RebalanceTimeoutMs = v.int32()
		}
		m.SessionTimeoutMs = v.int32()
		if version == 0 {
			m.RebalanceTimeoutMs = m.SessionTimeoutMs
		}
		m.Subscription, m.Assignment = blob(), blob()
		if version >= 4 {
			v.tags(nil)
		}
		g.Members = append(g.Members, m)
	}
	if version >= 4 {
		v.tags(nil)
	}
	return g
}

func (v *reader) member() *ConsumerMemberValue {
	m := &ConsumerMemberValue{
		InstanceID: v.compactString(), RackID: v.compactString(), ClientID: v.compactString(), ClientHost: v.compactString(),
		SubscribedTopicNames: v.strings(), SubscribedTopicRegex: v.compactString(),
		RebalanceTimeoutMs: v.int32(), ServerAssignor: v.compactString(),
	}
	v.tags(func(tag uint64, t *reader) {
		if tag != 0 || int8(t.byte()) < 0 {
			return
		}
		m.Classic = &ClassicMember{SessionTimeoutMs: t.int32()}
		n := t.compactCount(3)
		for i := 0; i < n && !t.bad; i++ {
			m.Classic.Protocols = append(m.Classic.Protocols, ClassicProtocol{Name: t.compactString(), Metadata: t.compactBytes()})
			t.tags(nil)
		}
		t.tags(nil)
	})
	return m
}

// reader takes values off the front of b. After the first that is not there,
// bad is set and all others are zero.
type reader struct {
	b   []byte
	bad bool
}

func (v *reader) take(n int) []byte {
	if v.bad || n < 0 || n > len(v.b) {
		v.bad = true
		return nil
	}
	out := v.b[:n:n]
	v.b = v.b[n:]
	return out
}

func (v *reader) byte() byte {
	if b := v.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (v *reader) int16() int16 {
	if b := v.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (v *reader) int32() int32 {
	if b := v.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (v *reader) int64() int64 {
	if b := v.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (v *reader) uvarint() uint64 {
	if v.bad {
		return 0
	}
	x, n := binary.Uvarint(v.b)
	if n <= 0 {
		v.bad = true
		return 0
	}
	v.b = v.b[n:]
	return x
}

func (v *reader) topicID() (id kafka.TopicID) {
	copy(id[:], v.take(len(id)))
	return id
}

// string reads a string; null is "".
func (v *reader) string() string {
	n := v.int16()
	if n == -1 {
		return ""
	}
	return string(v.take(int(n)))
}

func (v *reader) bytes() []byte {
	n := v.int32()
	if n == -1 {
		return nil
	}
	return bytes.Clone(v.take(int(n)))
}

// count reads the length of an array whose elements have at least size bytes.
func (v *reader) count(size int) int {
	n := int(v.int32())
	if n < 0 {
		return 0
	}
	if n > len(v.b)/size {
		v.bad = true
		return 0
	}
	return n
}

func (v *reader) compactCount(size int) int {
	n := v.uvarint()
	if n == 0 {
		return 0
	}
	if n-1 > uint64(len(v.b)/size) {
		v.bad = true
		return 0
	}
	return int(n - 1)
}

// compactString reads a string; null is "".
func (v *reader) compactString() string { return string(v.compact()) }

func (v *reader) compactBytes() []byte { return bytes.Clone(v.compact()) }

func (v *reader) compact() []byte {
	n := v.uvarint()
	if n == 0 {
		return nil
	}
	if n-1 > uint64(len(v.b)) {
		v.bad = true
		return nil
	}
	return v.take(int(n - 1))
}

func (v *reader) strings() []string {
	n := v.compactCount(1)
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, v.compactString())
	}
	return list
}

func (v *reader) partitions() []TopicPartitions {
	n := v.compactCount(18)
	if n == 0 {
		return nil
	}
	list := make([]TopicPartitions, 0, n)
	for i := 0; i < n && !v.bad; i++ {
		t := TopicPartitions{TopicID: v.topicID()}
		m := v.compactCount(4)
		t.Partitions = make([]int32, 0, m)
		for range m {
			t.Partitions = append(t.Partitions, v.int32())
		}
		v.tags(nil)
		list = append(list, t)
	}
	return list
}

// tags reads a tag section and gives each tag to fn.
func (v *reader) tags(fn func(tag uint64, t *reader)) {
	n := v.uvarint()
	for i := uint64(0); i < n && !v.bad; i++ {
		tag, size := v.uvarint(), v.uvarint()
		if size > uint64(len(v.b)) {
			v.bad = true
			return
		}
		body := reader{b: v.take(int(size))}
		if fn != nil {
			fn(tag, &body)
		}
		v.bad = v.bad || body.bad
	}
}

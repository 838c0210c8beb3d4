package group

import (
	"encoding/binary"
	"slices"

	"chronik/internal/format/offsets"
)

// The bytes that classic consumers exchange through the coordinator, which it
// must understand where both protocols meet in a group.
//
// Subscription: version int16, topics []string, user data bytes; from v1 on
// owned [](topic string, partitions []int32); from v2 on generation int32; from
// v3 on rack string. Assignment: version int16, [](topic string, partitions
// []int32), user data bytes. Counts and lengths are int32, those of strings
// int16; -1 stands for null.

// embeddedSubscription is what a classic consumer says when it joins.
type embeddedSubscription struct {
	version int16
	topics  []string
	owned   []embeddedPartitions
	rack    string
}

// embeddedPartitions is a set of partitions of a topic.
type embeddedPartitions struct {
	topic      string
	partitions []int32
}

func parseSubscription(b []byte) (s embeddedSubscription, ok bool) {
	r := embeddedReader{b: b}
	s.version = r.int16()
	for range r.count(2) {
		s.topics = append(s.topics, r.string())
	}
	r.bytes()
	// There are clients that name a version and leave its fields out.
	if s.version >= 1 && len(r.b) > 0 {
		s.owned = r.partitions()
	}
	if s.version >= 2 && len(r.b) > 0 {
		r.int32()
	}
	if s.version >= 3 && len(r.b) > 0 {
		s.rack = r.string()
	}
	return s, !r.bad && s.version >= 0
}

// parseAssignment reads an assignment; none at all stands for an empty one.
func parseAssignment(b []byte) (list []embeddedPartitions, userData []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, true
	}
	r := embeddedReader{b: b}
	version := r.int16()
	list = r.partitions()
	userData = r.bytes()
	return list, userData, !r.bad && version >= 0
}

func appendAssignment(b []byte, version int16, list []embeddedPartitions) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
	for _, t := range list {
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.topic)))
		b = append(b, t.topic...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(t.partitions)))
		for _, p := range t.partitions {
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		}
	}
	return binary.BigEndian.AppendUint32(b, 0xffffffff) // no user data
}

// embeddedReader reads bytes that a client made; after the first thing that
// does not fit it is bad, and reads zeros.
type embeddedReader struct {
	b   []byte
	bad bool
}

func (r *embeddedReader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.b) {
		r.bad = true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *embeddedReader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *embeddedReader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *embeddedReader) string() string {
	n := r.int16()
	if n < 0 {
		return ""
	}
	return string(r.take(int(n)))
}

func (r *embeddedReader) bytes() []byte {
	n := r.int32()
	if n < 0 {
		return nil
	}
	return r.take(int(n))
}

// count reads the number of elements, each of which takes at least size bytes.
func (r *embeddedReader) count(size int) int {
	n := int(r.int32())
	if n < 0 {
		return 0
	}
	if n > len(r.b)/size {
		r.bad = true
		return 0
	}
	return n
}

func (r *embeddedReader) partitions() []embeddedPartitions {
	var list []embeddedPartitions
	for range r.count(6) {
		t := embeddedPartitions{topic: r.string()}
		for range r.count(4) {
			t.partitions = append(t.partitions, r.int32())
		}
		list = append(list, t)
	}
	return list
}

// byID is a set of partitions by topic id; topics that do not exist are left out.
func (s *Shard) byID(list []embeddedPartitions) partitionSet {
	set := make([]offsets.TopicPartitions, 0, len(list))
	for _, t := range list {
		if topic, ok := s.topics.ByName(t.topic); ok {
			known := slices.DeleteFunc(slices.Clone(t.partitions), func(p int32) bool { return p < 0 || p >= topic.Partitions })
			set = append(set, offsets.TopicPartitions{TopicID: topic.ID, Partitions: known})
		}
	}
	return normalize(set)
}

// embeddedAssignment is a set of partitions in the bytes that a classic member
// with this metadata understands.
func (s *Shard) embeddedAssignment(metadata []byte, set partitionSet) []byte {
	version := int16(0)
	if len(metadata) >= 2 {
		version = max(int16(binary.BigEndian.Uint16(metadata)), 0)
	}
	var list []embeddedPartitions
	for _, t := range s.named(set) {
		list = append(list, embeddedPartitions{t.Topic, t.Partitions})
	}
	return appendAssignment(nil, version, list)
}

// classicProtocols and protocolsOf turn the protocols of a join into what is
// stored, and back.
func classicProtocols(list []Protocol) []offsets.ClassicProtocol {
	out := make([]offsets.ClassicProtocol, len(list))
	for i, p := range list {
		out[i] = offsets.ClassicProtocol{Name: p.Name, Metadata: p.Metadata}
	}
	return out
}

func protocolsOf(m *offsets.ClassicMember) []Protocol {
	out := make([]Protocol, len(m.Protocols))
	for i, p := range m.Protocols {
		out[i] = Protocol{Name: p.Name, Metadata: p.Metadata}
	}
	return out
}

// sameClassic says whether two members say the same in the classic protocol.
func sameClassic(a, b *offsets.ClassicMember) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.SessionTimeoutMs == b.SessionTimeoutMs && slices.EqualFunc(a.Protocols, b.Protocols, func(x, y offsets.ClassicProtocol) bool {
		return x.Name == y.Name && string(x.Metadata) == string(y.Metadata)
	})
}

// supportedClassic says whether a member with these protocols fits in with the
// classic members of a consumer group: all have one in common.
func (c *consumerGroup) supportedClassic(protocolType string, protocols []Protocol) bool {
	if protocolType != protocolTypeConsumer || len(protocols) == 0 || hasDuplicates(protocols) {
		return false
	}
	classic, named := 0, map[string]int{}
	for _, m := range c.members {
		if m.about.Classic == nil {
			continue
		}
		classic++
		for i := range m.about.Classic.Protocols {
			named[m.about.Classic.Protocols[i].Name]++
		}
	}
	return slices.ContainsFunc(protocols, func(p Protocol) bool { return named[p.Name] == classic })
}

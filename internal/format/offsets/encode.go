package offsets

import (
	"encoding/binary"
)

// AppendKey adds the record's key to dst.
func (r OffsetCommit) AppendKey(dst []byte) []byte {
	dst = appendInt16(dst, kindOffsetCommit)
	dst = appendString(dst, r.Group)
	dst = appendString(dst, r.Topic)
	return appendInt32(dst, r.Partition)
}

// AppendKey adds the record's key to dst.
func (r GroupMetadata) AppendKey(dst []byte) []byte {
	return appendKey1(dst, kindGroupMetadata, r.Group)
}

// AppendKey adds the record's key to dst.
func (r ConsumerGroup) AppendKey(dst []byte) []byte {
	return appendKey1(dst, kindConsumerGroup, r.Group)
}

// AppendKey adds the record's key to dst.
func (r ConsumerMember) AppendKey(dst []byte) []byte {
	return appendKey2(dst, kindConsumerMember, r.Group, r.MemberID)
}

// AppendKey adds the record's key to dst.
func (r ConsumerTargetEpoch) AppendKey(dst []byte) []byte {
	return appendKey1(dst, kindConsumerTargetEpoch, r.Group)
}

// AppendKey adds the record's key to dst.
func (r ConsumerTarget) AppendKey(dst []byte) []byte {
	return appendKey2(dst, kindConsumerTarget, r.Group, r.MemberID)
}

// AppendKey adds the record's key to dst.
func (r ConsumerCurrent) AppendKey(dst []byte) []byte {
	return appendKey2(dst, kindConsumerCurrent, r.Group, r.MemberID)
}

// AppendKey adds the record's key to dst.
func (r ConsumerRegex) AppendKey(dst []byte) []byte {
	return appendKey2(dst, kindConsumerRegex, r.Group, r.Regex)
}

// AppendValue adds the record's value to dst: version 3, or 1 with an expiry
// of its own, or 4 with a topic id.
func (r OffsetCommit) AppendValue(dst []byte) []byte {
	v := r.Value
	switch {
	case v == nil:
		return dst
	case v.ExpireTimestamp >= 0:
		dst = appendInt16(dst, 1)
		dst = appendInt64(dst, int64(v.Offset))
		dst = appendString(dst, v.Metadata)
		dst = appendInt64(dst, v.CommitTimestamp)
		return appendInt64(dst, v.ExpireTimestamp)
	case v.TopicID.IsZero():
		dst = appendInt16(dst, 3)
		dst = appendInt64(dst, int64(v.Offset))
		dst = appendInt32(dst, int32(v.LeaderEpoch))
		dst = appendString(dst, v.Metadata)
		return appendInt64(dst, v.CommitTimestamp)
	}
	dst = appendInt16(dst, 4)
	dst = appendInt64(dst, int64(v.Offset))
	dst = appendInt32(dst, int32(v.LeaderEpoch))
	dst = appendCompactString(dst, v.Metadata)
	dst = appendInt64(dst, v.CommitTimestamp)
	dst = append(dst, 1, 0, 16)
	return append(dst, v.TopicID[:]...)
}

// AppendValue adds the record's value to dst, in version 3.
func (r GroupMetadata) AppendValue(dst []byte) []byte {
	v := r.Value
	if v == nil {
		return dst
	}
	dst = appendInt16(dst, 3)
	dst = appendString(dst, v.ProtocolType)
	dst = appendInt32(dst, v.Generation)
	dst = appendNullableString(dst, v.Protocol)
	dst = appendNullableString(dst, v.Leader)
	dst = appendInt64(dst, v.StateTimestamp)
	dst = appendInt32(dst, int32(len(v.Members)))
	for i := range v.Members {
		m := &v.Members[i]
		dst = appendString(dst, m.MemberID)
		dst = appendNullableString(dst, m.InstanceID)
		dst = appendString(dst, m.ClientID)
		dst = appendString(dst, m.ClientHost)
		dst = appendInt32(dst, m.RebalanceTimeoutMs)
		dst = appendInt32(dst, m.SessionTimeoutMs)
		dst = appendBytes(dst, m.Subscription)
		dst = appendBytes(dst, m.Assignment)
	}
	return dst
}

// AppendValue adds the record's value to dst.
func (r ConsumerGroup) AppendValue(dst []byte) []byte {
	if r.Value == nil {
		return dst
	}
	dst = appendInt16(dst, 0)
	dst = appendInt32(dst, r.Value.Epoch)
	return appendInt64Tag(dst, r.Value.MetadataHash)
}

// AppendValue adds the record's value to dst.
func (r ConsumerMember) AppendValue(dst []byte) []byte {
	v := r.Value
	if v == nil {
		return dst
	}
	dst = appendInt16(dst, 0)
	dst = appendCompactNullableString(dst, v.InstanceID)
	dst = appendCompactNullableString(dst, v.RackID)
	dst = appendCompactString(dst, v.ClientID)
	dst = appendCompactString(dst, v.ClientHost)
	dst = appendCompactStrings(dst, v.SubscribedTopicNames)
	dst = appendCompactNullableString(dst, v.SubscribedTopicRegex)
	dst = appendInt32(dst, v.RebalanceTimeoutMs)
	dst = appendCompactNullableString(dst, v.ServerAssignor)
	if v.Classic == nil {
		return append(dst, 0)
	}
	body := v.Classic.append(nil)
	dst = append(dst, 1, 0)
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...)
}

// append adds the tagged structure: a byte that says "not null", then the fields.
func (c *ClassicMember) append(dst []byte) []byte {
	dst = append(dst, 1)
	dst = appendInt32(dst, c.SessionTimeoutMs)
	dst = binary.AppendUvarint(dst, uint64(len(c.Protocols))+1)
	for i := range c.Protocols {
		dst = appendCompactString(dst, c.Protocols[i].Name)
		dst = binary.AppendUvarint(dst, uint64(len(c.Protocols[i].Metadata))+1)
		dst = append(dst, c.Protocols[i].Metadata...)
		dst = append(dst, 0)
	}
	return append(dst, 0)
}

// AppendValue adds the record's value to dst.
func (r ConsumerTargetEpoch) AppendValue(dst []byte) []byte {
	if r.Value == nil {
		return dst
	}
	dst = appendInt16(dst, 0)
	dst = appendInt32(dst, r.Value.Epoch)
	return appendInt64Tag(dst, r.Value.Timestamp)
}

// AppendValue adds the record's value to dst.
func (r ConsumerTarget) AppendValue(dst []byte) []byte {
	if r.Value == nil {
		return dst
	}
	dst = appendInt16(dst, 0)
	dst = appendPartitions(dst, r.Value.Partitions)
	return append(dst, 0)
}

// AppendValue adds the record's value to dst.
func (r ConsumerCurrent) AppendValue(dst []byte) []byte {
	v := r.Value
	if v == nil {
		return dst
	}
	dst = appendInt16(dst, 0)
	dst = appendInt32(dst, v.MemberEpoch)
	dst = appendInt32(dst, v.PreviousMemberEpoch)
	dst = append(dst, byte(v.State))
	dst = appendPartitions(dst, v.Assigned)
	dst = appendPartitions(dst, v.PendingRevocation)
	return append(dst, 0)
}

// AppendValue adds the record's value to dst.
func (r ConsumerRegex) AppendValue(dst []byte) []byte {
	if r.Value == nil {
		return dst
	}
	dst = appendInt16(dst, 0)
	dst = appendCompactStrings(dst, r.Value.Topics)
	dst = appendInt64(dst, r.Value.Version)
	dst = appendInt64(dst, r.Value.Timestamp)
	return append(dst, 0)
}

func appendKey1(dst []byte, kind int16, group string) []byte {
	return appendString(appendInt16(dst, kind), group)
}

func appendKey2(dst []byte, kind int16, group, second string) []byte {
	return appendString(appendKey1(dst, kind, group), second)
}

func appendInt16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }
func appendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }
func appendInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

func appendString(dst []byte, s string) []byte {
	return append(appendInt16(dst, int16(len(s))), s...)
}

func appendNullableString(dst []byte, s string) []byte {
	if s == "" {
		return appendInt16(dst, -1)
	}
	return appendString(dst, s)
}

func appendBytes(dst, b []byte) []byte { return append(appendInt32(dst, int32(len(b))), b...) }

func appendCompactString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))+1), s...)
}

func appendCompactNullableString(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, 0)
	}
	return appendCompactString(dst, s)
}

func appendCompactStrings(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list))+1)
	for _, s := range list {
		dst = appendCompactString(dst, s)
	}
	return dst
}

// appendInt64Tag adds a tag section with v as tag 0, left out when v is 0.
func appendInt64Tag(dst []byte, v int64) []byte {
	if v == 0 {
		return append(dst, 0)
	}
	return appendInt64(append(dst, 1, 0, 8), v)
}

func appendPartitions(dst []byte, topics []TopicPartitions) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(topics))+1)
	for i := range topics {
		dst = append(dst, topics[i].TopicID[:]...)
		dst = binary.AppendUvarint(dst, uint64(len(topics[i].Partitions))+1)
		for _, p := range topics[i].Partitions {
			dst = appendInt32(dst, p)
		}
		dst = append(dst, 0)
	}
	return dst
}

var _ = [...]Record{
	OffsetCommit{}, GroupMetadata{}, ConsumerGroup{}, ConsumerMember{}, ConsumerTargetEpoch{},
	ConsumerTarget{}, ConsumerCurrent{}, ConsumerRegex{},
}

// Package offsets turns the records of __consumer_offsets into values and
// back, byte for byte as Apache Kafka 4.3 writes them, so that tools which
// read that topic work. docs/formats/consumer-offsets.md has the tables.
package offsets

import (
	"errors"

	"chronik/internal/base/kafka"
)

// ErrCorrupt is returned by Decode for bytes that are no record of their kind.
var ErrCorrupt = errors.New("corrupt group coordinator record")

// ErrUnknownKind is returned by Decode for a kind or version of record that
// this package does not know (share and streams groups, later releases). A
// reader skips it.
var ErrUnknownKind = errors.New("unknown kind of group coordinator record")

// Record is one record of __consumer_offsets. Its Value is nil when the record
// is a tombstone, which removes what the key names.
type Record interface {
	// GroupID is the group that the record belongs to.
	GroupID() string
	// IsTombstone says whether the record removes its key.
	IsTombstone() bool
	// AppendKey adds the record's key to dst.
	AppendKey(dst []byte) []byte
	// AppendValue adds the record's value to dst. A tombstone has none.
	AppendValue(dst []byte) []byte
}

// Kinds of record, the first two bytes of a key.
const (
	kindOffsetCommitV0      = 0
	kindOffsetCommit        = 1
	kindGroupMetadata       = 2
	kindConsumerGroup       = 3
	kindConsumerMember      = 5
	kindConsumerTargetEpoch = 6
	kindConsumerTarget      = 7
	kindConsumerCurrent     = 8
	kindConsumerRegex       = 16
)

// OffsetCommit is the committed offset of one partition in one group.
type OffsetCommit struct {
	Group     string
	Topic     string
	Partition int32
	Value     *OffsetCommitValue
}

// OffsetCommitValue is what a group committed for a partition.
type OffsetCommitValue struct {
	Offset          kafka.Offset
	LeaderEpoch     kafka.LeaderEpoch // NoLeaderEpoch when the client did not say
	Metadata        string            // the client's own, returned as it came
	CommitTimestamp int64             // milliseconds since 1970
	ExpireTimestamp int64             // milliseconds since 1970; -1 leaves it to offsets.retention.minutes
	TopicID         kafka.TopicID     // zero when the client committed by name
}

// GroupMetadata is a classic group at the moment its assignment was agreed, or
// when its last member had gone.
type GroupMetadata struct {
	Group string
	Value *GroupMetadataValue
}

// GroupMetadataValue is the durable part of a classic group.
type GroupMetadataValue struct {
	ProtocolType   string
	Generation     int32
	Protocol       string // "" when there are no members
	Leader         string // "" when there are no members
	StateTimestamp int64  // milliseconds since 1970 of the last change of state; -1 unknown
	Members        []GroupMember
}

// GroupMember is one member of a classic group.
type GroupMember struct {
	MemberID           string
	InstanceID         string // "" unless the member is static
	ClientID           string
	ClientHost         string
	RebalanceTimeoutMs int32
	SessionTimeoutMs   int32
	Subscription       []byte // metadata for the selected protocol
	Assignment         []byte
}

// TopicPartitions is a set of partitions of one topic, in ascending order.
type TopicPartitions struct {
	TopicID    kafka.TopicID
	Partitions []int32
}

// ConsumerGroup is the epoch of a KIP-848 group.
type ConsumerGroup struct {
	Group string
	Value *ConsumerGroupValue
}

// ConsumerGroupValue is the state of a KIP-848 group that is not a member's.
type ConsumerGroupValue struct {
	Epoch        int32
	MetadataHash int64 // of the subscribed topics' metadata; 0 when not computed
}

// ConsumerMember is the subscription of one member of a KIP-848 group.
type ConsumerMember struct {
	Group    string
	MemberID string
	Value    *ConsumerMemberValue
}

// ConsumerMemberValue is what a member has said about itself. Empty strings
// stand for null.
type ConsumerMemberValue struct {
	InstanceID           string
	RackID               string
	ClientID             string
	ClientHost           string
	SubscribedTopicNames []string
	SubscribedTopicRegex string
	RebalanceTimeoutMs   int32
	ServerAssignor       string
	Classic              *ClassicMember // nil unless the member speaks the classic protocol
}

// ClassicMember is what is known of a member of a KIP-848 group that speaks
// the classic protocol.
type ClassicMember struct {
	SessionTimeoutMs int32
	Protocols        []ClassicProtocol
}

// ClassicProtocol is one protocol that a classic member supports.
type ClassicProtocol struct {
	Name     string
	Metadata []byte
}

// ConsumerTargetEpoch is the group epoch that the target assignment is for.
type ConsumerTargetEpoch struct {
	Group string
	Value *ConsumerTargetEpochValue
}

// ConsumerTargetEpochValue is the epoch of the target assignment.
type ConsumerTargetEpochValue struct {
	Epoch     int32
	Timestamp int64 // milliseconds since 1970 when it was computed; 0 unknown
}

// ConsumerTarget is the target assignment of one member.
type ConsumerTarget struct {
	Group    string
	MemberID string
	Value    *ConsumerTargetValue
}

// ConsumerTargetValue is what a member is to own in the end.
type ConsumerTargetValue struct {
	Partitions []TopicPartitions
}

// ConsumerCurrent is the current assignment of one member.
type ConsumerCurrent struct {
	Group    string
	MemberID string
	Value    *ConsumerCurrentValue
}

// Member states of a KIP-848 group, as stored.
const (
	MemberStable               int8 = 0
	MemberUnrevokedPartitions  int8 = 1
	MemberUnreleasedPartitions int8 = 2
)

// ConsumerCurrentValue is what a member owns and what it must give back.
type ConsumerCurrentValue struct {
	MemberEpoch         int32
	PreviousMemberEpoch int32
	State               int8
	Assigned            []TopicPartitions
	PendingRevocation   []TopicPartitions
}

// ConsumerRegex is the set of topics that a regular expression resolved to.
type ConsumerRegex struct {
	Group string
	Regex string
	Value *ConsumerRegexValue
}

// ConsumerRegexValue is a resolved regular expression.
type ConsumerRegexValue struct {
	Topics    []string
	Version   int64 // of the metadata that it was resolved against
	Timestamp int64 // milliseconds since 1970
}

// GroupID is the group that the record belongs to.
func (r OffsetCommit) GroupID() string { return r.Group }

// GroupID is the group that the record belongs to.
func (r GroupMetadata) GroupID() string { return r.Group }

// GroupID is the group that the record belongs to.
func (r ConsumerGroup) GroupID() string { return r.Group }

// GroupID is the group that the record belongs to.
func (r ConsumerMember) GroupID() string { return r.Group }

// GroupID is the group that the record belongs to.
func (r ConsumerTargetEpoch) GroupID() string { return r.Group }

// GroupID is the group that the record belongs to.
func (r ConsumerTarget) GroupID() string { return r.Group }

// GroupID is the group that the record belongs to.
func (r ConsumerCurrent) GroupID() string { return r.Group }

// GroupID is the group that the record belongs to.
func (r ConsumerRegex) GroupID() string { return r.Group }

// IsTombstone says whether the record removes its key.
func (r OffsetCommit) IsTombstone() bool { return r.Value == nil }

// IsTombstone says whether the record removes its key.
func (r GroupMetadata) IsTombstone() bool { return r.Value == nil }

// IsTombstone says whether the record removes its key.
func (r ConsumerGroup) IsTombstone() bool { return r.Value == nil }

// IsTombstone says whether the record removes its key.
func (r ConsumerMember) IsTombstone() bool { return r.Value == nil }

// IsTombstone says whether the record removes its key.
func (r ConsumerTargetEpoch) IsTombstone() bool { return r.Value == nil }

// IsTombstone says whether the record removes its key.
func (r ConsumerTarget) IsTombstone() bool { return r.Value == nil }

// IsTombstone says whether the record removes its key.
func (r ConsumerCurrent) IsTombstone() bool { return r.Value == nil }

// IsTombstone says whether the record removes its key.
func (r ConsumerRegex) IsTombstone() bool { return r.Value == nil }

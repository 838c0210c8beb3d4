package group

import (
	"chronik/internal/base/kafka"
	"chronik/internal/format/offsets"
)

// Request is what a client asks of the coordinator of one group, as the
// structs of this file. Empty strings stand for null. Versions are those of
// the Kafka API, where the answer depends on them. Times are in milliseconds.
type Request interface {
	// GroupID is the group that is asked about; "" too for requests to all groups
	// of a shard: ListGroups, TxnMarker, TopicsDeleted.
	GroupID() string
	// Refuse makes the reply that refuses the request with code.
	Refuse(code kafka.ErrorCode) Response
}

// Response is the answer to a Request: *JoinGroupResponse to JoinGroup, and so on.
type Response interface{ isResponse() }

// Protocol is one way of sharing the work that a member of a classic group
// supports, the preferred first.
type Protocol struct {
	Name     string
	Metadata []byte
}

// JoinGroup asks to become a member of the next generation of a classic group.
type JoinGroup struct {
	Version            int16
	Group              string
	MemberID           string
	InstanceID         string // static membership (KIP-345)
	ClientID           string
	ClientHost         string
	SessionTimeoutMs   int32
	RebalanceTimeoutMs int32 // -1 (v0): as the session timeout
	ProtocolType       string
	Protocols          []Protocol
	Reason             string
}

// JoinGroupResponse tells a member its generation. Members is for the leader only.
type JoinGroupResponse struct {
	Err            kafka.ErrorCode
	Generation     int32
	ProtocolType   string // "" is null from v7 on
	ProtocolName   string // "" is null from v7 on
	Leader         string
	SkipAssignment bool // v9+: the leader must not assign (KIP-814)
	MemberID       string
	Members        []JoinedMember
}

// JoinedMember is a member as the group's leader sees it.
type JoinedMember struct {
	MemberID   string
	InstanceID string
	Metadata   []byte
}

// SyncGroup exchanges assignments: the leader brings them all, each member
// gets its own.
type SyncGroup struct {
	Version      int16
	Group        string
	MemberID     string
	InstanceID   string
	Generation   int32
	ProtocolType string // v5+; "" is null
	ProtocolName string // v5+; "" is null
	Assignments  []Assignment
}

// Assignment is what the leader gives to one member.
type Assignment struct {
	MemberID string
	Data     []byte
}

// SyncGroupResponse is a member's own assignment.
type SyncGroupResponse struct {
	Err          kafka.ErrorCode
	ProtocolType string // "" is null
	ProtocolName string // "" is null
	Assignment   []byte
}

// Heartbeat says that a member of a classic group is alive.
type Heartbeat struct {
	Group      string
	MemberID   string
	InstanceID string
	Generation int32
}

// HeartbeatResponse is REBALANCE_IN_PROGRESS when the member must join again.
type HeartbeatResponse struct{ Err kafka.ErrorCode }

// LeaveGroup takes members out of a group.
type LeaveGroup struct {
	Version int16
	Group   string
	Members []LeavingMember
}

// LeavingMember names a member by its id, or a static one by its instance id.
type LeavingMember struct {
	MemberID   string
	InstanceID string
	Reason     string
}

// LeaveGroupResponse has one entry per member of the request, in its order.
// Up to v2 Err is the error of the only member.
type LeaveGroupResponse struct {
	Err     kafka.ErrorCode
	Members []LeftMember
}

// LeftMember says whether the member could leave.
type LeftMember struct {
	MemberID   string
	InstanceID string
	Err        kafka.ErrorCode
}

// OffsetCommit stores offsets. The topics' existence and the right to read
// them are checked before.
type OffsetCommit struct {
	Version     int16
	Group       string
	MemberID    string
	InstanceID  string
	Generation  int32 // or member epoch; -1 outside of group membership
	RetentionMs int64 // v2-4; -1 for the broker's
	Offsets     []OffsetToCommit
}

// OffsetToCommit is the offset of one partition.
type OffsetToCommit struct {
	Topic       string
	TopicID     kafka.TopicID // zero when not known
	Partition   int32
	Offset      kafka.Offset
	LeaderEpoch kafka.LeaderEpoch
	Metadata    string
}

// OffsetCommitResponse has one code for each offset of the request, in its order.
type OffsetCommitResponse struct{ Codes []kafka.ErrorCode }

// TxnOffsetCommit stores offsets that become visible when the transaction commits.
type TxnOffsetCommit struct {
	Version       int16
	Group         string
	ProducerID    kafka.ProducerID
	ProducerEpoch kafka.ProducerEpoch
	MemberID      string // v3+
	InstanceID    string // v3+
	Generation    int32  // v3+; -1 when not given
	Offsets       []OffsetToCommit
}

// TxnOffsetCommitResponse has one code for each offset of the request, in its order.
type TxnOffsetCommitResponse struct{ Codes []kafka.ErrorCode }

// TxnMarker ends a transaction for all groups of the shard.
type TxnMarker struct {
	ProducerID       kafka.ProducerID
	ProducerEpoch    kafka.ProducerEpoch
	CoordinatorEpoch int32
	Commit           bool
	TV2              bool // of a transaction of version 2 (KIP-890); for the log to check
}

// TxnMarkerResponse says whether the marker is in the log.
type TxnMarkerResponse struct{ Err kafka.ErrorCode }

// OffsetFetch reads committed offsets of one group.
type OffsetFetch struct {
	Group         string
	MemberID      string // v9+; "" when not given
	MemberEpoch   int32  // v9+; -1 when not given
	RequireStable bool   // KIP-447
	All           bool   // all partitions with an offset; Topics is not looked at
	Topics        []TopicToFetch
}

// TopicToFetch names partitions whose offsets are asked for.
type TopicToFetch struct {
	Topic      string
	TopicID    kafka.TopicID // handed back; zero before v10
	Partitions []int32
}

// OffsetFetchResponse has the topics in the order of the request, or by name.
type OffsetFetchResponse struct {
	Err    kafka.ErrorCode
	Topics []FetchedTopic
}

// FetchedTopic is the committed offsets of one topic.
type FetchedTopic struct {
	Topic      string
	TopicID    kafka.TopicID
	Partitions []FetchedOffset
}

// FetchedOffset is a committed offset; Offset is -1 when there is none.
type FetchedOffset struct {
	Partition   int32
	Offset      kafka.Offset
	LeaderEpoch kafka.LeaderEpoch
	Metadata    string
	Err         kafka.ErrorCode
}

// OffsetDelete removes committed offsets (KIP-496).
type OffsetDelete struct {
	Group      string
	Partitions []kafka.TopicPartition
}

// OffsetDeleteResponse has one code for each partition of the request, in its order.
type OffsetDeleteResponse struct {
	Err   kafka.ErrorCode
	Codes []kafka.ErrorCode
}

// DescribeGroup asks for one classic group.
type DescribeGroup struct {
	Version int16
	Group   string
}

// DescribeGroupResponse describes a classic group.
type DescribeGroupResponse struct {
	Err          kafka.ErrorCode
	Message      string
	State        string
	ProtocolType string
	Protocol     string
	Members      []DescribedMember
}

// DescribedMember is one member of a classic group. Metadata and Assignment
// are there in the state Stable only.
type DescribedMember struct {
	MemberID   string
	InstanceID string
	ClientID   string
	ClientHost string
	Metadata   []byte
	Assignment []byte
}

// ListGroups asks for the groups of the shard, filtered without regard to case.
type ListGroups struct {
	States []string // empty for all
	Types  []string // empty for all
}

// ListGroupsResponse has the groups by name.
type ListGroupsResponse struct {
	Err    kafka.ErrorCode
	Groups []ListedGroup
}

// ListedGroup is one group in a list.
type ListedGroup struct {
	Group        string
	ProtocolType string
	State        string
	Type         string // "classic" or "consumer"
}

// DeleteGroup removes an empty group and its offsets.
type DeleteGroup struct{ Group string }

// DeleteGroupResponse says whether the group is gone.
type DeleteGroupResponse struct{ Err kafka.ErrorCode }

// TopicsDeleted removes the offsets of topics that are no more, in all groups.
type TopicsDeleted struct {
	Topics []string
	// Unknown removes those of topics that are not there, too, or have another id.
	Unknown bool
}

// TopicsDeletedResponse says that the offsets are gone.
type TopicsDeletedResponse struct{ Err kafka.ErrorCode }

// ConsumerGroupHeartbeat joins, keeps up membership of, and leaves a group of
// the KIP-848 protocol. Nil and empty stand for "unchanged".
type ConsumerGroupHeartbeat struct {
	Version              int16
	Group                string
	MemberID             string
	MemberEpoch          int32 // 0 joins, -1 leaves, -2 a static member leaves for a while
	InstanceID           string
	RackID               string
	ClientID             string
	ClientHost           string
	RebalanceTimeoutMs   int32    // -1 unchanged
	SubscribedTopicNames []string // nil unchanged, empty for none
	SubscribedTopicRegex *string  // v1+; nil unchanged, "" for none
	ServerAssignor       string
	Owned                []offsets.TopicPartitions // nil unchanged

	classic *offsets.ClassicMember // of a member that joined by the classic protocol
}

// ConsumerGroupHeartbeatResponse is the member's epoch and, when it changed or
// the member asked in full, its assignment.
type ConsumerGroupHeartbeatResponse struct {
	Err                 kafka.ErrorCode
	Message             string
	MemberID            string
	MemberEpoch         int32
	HeartbeatIntervalMs int32
	HasAssignment       bool // Assignment is null when false
	Assignment          []offsets.TopicPartitions
}

// ConsumerGroupDescribe asks for one group of the KIP-848 protocol.
type ConsumerGroupDescribe struct{ Group string }

// ConsumerGroupDescribeResponse describes a group of the KIP-848 protocol.
type ConsumerGroupDescribeResponse struct {
	Err             kafka.ErrorCode
	Message         string
	State           string
	Epoch           int32
	AssignmentEpoch int32
	Assignor        string
	Members         []DescribedConsumer
}

// DescribedConsumer is one member of a group of the KIP-848 protocol.
type DescribedConsumer struct {
	MemberID             string
	InstanceID           string
	RackID               string
	MemberEpoch          int32
	ClientID             string
	ClientHost           string
	SubscribedTopicNames []string
	SubscribedTopicRegex string
	Assignment           []NamedPartitions
	Target               []NamedPartitions
	Classic              bool // speaks the classic protocol
}

// NamedPartitions is a set of partitions of a topic that still exists.
type NamedPartitions struct {
	TopicID    kafka.TopicID
	Topic      string
	Partitions []int32
}

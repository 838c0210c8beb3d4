// Package kafka holds Kafka's nouns as distinct Go types, so that an offset
// cannot be passed where a leader epoch is meant.
package kafka

import (
	"encoding/base64"
	"fmt"
	"strconv"
)

// NodeID names a broker for its whole life. Valid ids are 0 and above.
type NodeID int32

// NoNode stands for "no broker", as in a partition without a leader.
const NoNode NodeID = -1

// Offset is the position of a record in a partition's log, counted from 0
// without gaps.
type Offset int64

// NoOffset stands for "no such offset" in answers.
const NoOffset Offset = -1

// LeaderEpoch counts the leaders of one partition; it rises by at least one
// with each of them and never goes back. In the metadata log it is the Raft
// term.
type LeaderEpoch int32

// NoLeaderEpoch stands for "epoch not known".
const NoLeaderEpoch LeaderEpoch = -1

// PartitionEpoch counts every change of one partition's metadata record.
type PartitionEpoch int32

// BrokerEpoch names one registration of a broker. It is the metadata offset
// of the registration record, so it rises with each registration.
type BrokerEpoch int64

// NoBrokerEpoch stands for "not registered".
const NoBrokerEpoch BrokerEpoch = -1

// ProducerID names an idempotent or transactional producer.
type ProducerID int64

// NoProducerID marks a batch of a producer without idempotence.
const NoProducerID ProducerID = -1

// ProducerEpoch fences older instances of the same producer.
type ProducerEpoch int16

// NoProducerEpoch marks a batch of a producer without idempotence.
const NoProducerEpoch ProducerEpoch = -1

// TopicPartition names one partition by its topic's name.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is the directory name of the partition: "orders-3".
func (tp TopicPartition) String() string {
	return tp.Topic + "-" + strconv.Itoa(int(tp.Partition))
}

// TopicID names one topic for its whole life; a topic that is deleted and made
// again under the same name has another id (KIP-516).
type TopicID [16]byte

// IsZero says whether the id is the all-zero one, which no topic has.
func (id TopicID) IsZero() bool { return id == TopicID{} }

// String is the id in Kafka's notation: 22 characters of URL-safe base64.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ParseTopicID reads what String writes.
func ParseTopicID(s string) (TopicID, error) {
	var id TopicID
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("parse topic id %q: want 22 characters of URL-safe base64", s)
	}
	copy(id[:], b)
	return id, nil
}

// MarshalText writes the id in Kafka's notation.
func (id TopicID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *TopicID) UnmarshalText(b []byte) error {
	v, err := ParseTopicID(string(b))
	*id = v
	return err
}

// Offsets and timestamps with a meaning of their own in ListOffsets.
const (
	TimestampLatest        int64 = -1
	TimestampEarliest      int64 = -2
	TimestampMax           int64 = -3 // KIP-734
	TimestampEarliestLocal int64 = -4 // KIP-405
	TimestampLatestTiered  int64 = -5 // KIP-1005
)

// Internal topics, created on demand and never writable by clients.
const (
	TopicConsumerOffsets  = "__consumer_offsets"
	TopicTransactionState = "__transaction_state"
	TopicClusterMetadata  = "__cluster_metadata" // reserved; the metadata log is not a topic
)

// IsInternalTopic says whether only brokers may write to the topic.
func IsInternalTopic(name string) bool {
	return name == TopicConsumerOffsets || name == TopicTransactionState
}

// TopicNameMaxLength is the greatest length of a topic name in bytes.
const TopicNameMaxLength = 249

// ValidTopicName says why name cannot be a topic's name, or returns nil.
// Valid names have 1 to 249 characters of [a-zA-Z0-9._-] and are neither "."
// nor ".." (a topic's name is part of directory names).
func ValidTopicName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the empty string is not allowed as a topic name")
	case name == "." || name == "..":
		return fmt.Errorf("topic name %q is not allowed: it cannot be \".\" or \"..\"", name)
	case len(name) > TopicNameMaxLength:
		return fmt.Errorf("the length of topic name %q... is %d, longer than %d", name[:32], len(name), TopicNameMaxLength)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("topic name %q has a character other than ASCII letters, digits, '.', '_' and '-'", name)
		}
	}
	return nil
}

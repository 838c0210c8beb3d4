package metadata

import "chronik/internal/base/kafka"

// Delta is what differs between two images, in the order of the records, each
// thing once.
type Delta struct {
	From, To   *Image
	Topics     []TopicDelta     // created and deleted
	Partitions []PartitionDelta // created, changed, and deleted with their topic
	Brokers    []BrokerDelta    // registered, changed and removed
	Configs    []ConfigResource // set or removed something
}

// TopicDelta is a topic that came or went.
type TopicDelta struct {
	Old, New *Topic // Old is nil: created; New is nil: deleted
}

// PartitionDelta is a partition that came, changed or went.
type PartitionDelta struct {
	Topic     kafka.TopicID
	Name      string // of the topic
	Partition int32
	Old, New  *Partition // Old is nil: created; New is nil: deleted
}

// BrokerDelta is a broker that registered, changed or was removed.
type BrokerDelta struct {
	Node     kafka.NodeID
	Old, New *Broker // Old is nil: registered; New is nil: removed
}

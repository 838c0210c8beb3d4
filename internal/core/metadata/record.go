package metadata

import "chronik/internal/base/kafka"

// Record is one change of the cluster. A record states the whole of what it
// is about after the change, so that applying it twice changes nothing more.
type Record interface {
	recordType() recordType
	appendFields(dst []byte) []byte
}

// ClusterRecord gives the cluster its id. It is the first record of all.
type ClusterRecord struct {
	ID string
}

// BrokerRecord is the state of a broker that has registered or changed. A
// registration is known by its new epoch.
type BrokerRecord struct {
	State *Broker
}

// RemoveBrokerRecord takes back a broker's registration for good.
type RemoveBrokerRecord struct {
	Node kafka.NodeID
}

// TopicRecord creates a topic without partitions.
type TopicRecord struct {
	ID   kafka.TopicID
	Name string
}

// RemoveTopicRecord deletes a topic, its partitions and its configs.
type RemoveTopicRecord struct {
	ID kafka.TopicID
}

// PartitionRecord is the state of a partition that was created or changed.
// New partitions are numbered on from the last one.
type PartitionRecord struct {
	Topic     kafka.TopicID
	Partition int32
	State     *Partition
}

// ConfigRecord sets one config of a resource, or removes it.
type ConfigRecord struct {
	Resource ConfigResource
	Key      string
	Value    string
	Remove   bool // Value is not used
}

// ProducerIDsRecord says that every producer id below Next may be in use.
type ProducerIDsRecord struct {
	Next kafka.ProducerID
}

// FeatureRecord finalizes the level of a feature; level 0 removes it.
type FeatureRecord struct {
	Name  string
	Level int16
}

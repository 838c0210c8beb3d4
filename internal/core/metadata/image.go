// Package metadata is the cluster as data: the metadata records, and the
// immutable Image that they fold into.
package metadata

import (
	"chronik/internal/base/kafka"
)

// Image is the state of the cluster after the metadata record at Offset. It
// is immutable: every handler of a node reads the Image that its node has
// published, without a lock. Make a later one with Edit.
type Image struct {
	offset     kafka.Offset
	clusterID  string
	nextProdID kafka.ProducerID

	topics  map[kafka.TopicID]*Topic
	byName  map[string]*Topic
	brokers map[kafka.NodeID]*Broker
	configs map[ConfigResource]map[string]string
}

// Topic is one topic. It is immutable.
type Topic struct {
	ID         kafka.TopicID
	Name       string
	Partitions []*Partition // by partition number, without gaps
}

// Partition is one partition's placement and leadership. It is immutable.
type Partition struct {
	Replicas       []kafka.NodeID // in order of preference; the first is the preferred leader
	InSync         []kafka.NodeID // the committed in-sync set
	EligibleLeader []kafka.NodeID // KIP-966: may be elected though not in sync
	LastLeader     kafka.NodeID   // the last leader of a partition without one; NoNode otherwise
	Adding         []kafka.NodeID // of Replicas: joining by a reassignment in progress
	Removing       []kafka.NodeID // of Replicas: leaving by a reassignment in progress
	Leader         kafka.NodeID   // NoNode: offline
	LeaderEpoch    kafka.LeaderEpoch
	PartitionEpoch kafka.PartitionEpoch
	Recovering     bool // the leader was elected uncleanly and has not yet said that it recovered
}

// Broker is one registered broker. It is immutable.
type Broker struct {
	ID           kafka.NodeID
	Epoch        kafka.BrokerEpoch
	Incarnation  [16]byte // new with each start of the process
	Directory    [16]byte // new with each new data directory: a lost disk is noticed by it
	Host         string   // advertised to Kafka clients
	Port         int32
	PeerAddress  string // HOST:PORT for the other nodes
	Rack         string // "" means none
	Version      string // the software's version
	Fenced       bool   // may not lead nor be in sync
	ShuttingDown bool   // in controlled shutdown (KIP-841)
}

// ResourceType is the kind of thing that a config belongs to, numbered as in
// the Kafka protocol.
type ResourceType int8

// The resource types that have configs.
const (
	ResourceTopic         ResourceType = 2
	ResourceBroker        ResourceType = 4
	ResourceClientMetrics ResourceType = 16
	ResourceGroup         ResourceType = 32
)

// ConfigResource names one thing that has configs. The broker "" stands for
// the cluster-wide default of all brokers.
type ConfigResource struct {
	Type ResourceType
	Name string
}

// Package metadata is the cluster as data: the metadata records, and the
// immutable Image that they fold into.
package metadata

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"chronik/internal/base/kafka"
)

// Image is the state of the cluster after the metadata record at Offset. It
// is immutable: every handler of a node reads the Image that its node has
// published, without a lock. Apply makes the next one. Nothing that an
// accessor returns may be changed.
type Image struct {
	offset       kafka.Offset
	clusterID    string
	nextProducer kafka.ProducerID

	topics   map[kafka.TopicID]*Topic
	byName   map[string]kafka.TopicID
	brokers  map[kafka.NodeID]*Broker
	configs  map[ConfigResource]map[string]string
	features map[string]int16
	history  *history

	sorted *sortedLists // shared by images whose topics and brokers are the same
}

// sortedLists caches what is costly to sort and seldom asked for.
type sortedLists struct {
	topicsOnce, brokersOnce sync.Once
	topics                  []*Topic
	brokers                 []*Broker
}

// Topic is one topic. It is immutable.
type Topic struct {
	ID         kafka.TopicID
	Name       string
	Partitions []*Partition // by partition number, without gaps
}

// Partition returns one partition of the topic, or nil if it has no such one.
func (t *Topic) Partition(partition int32) *Partition {
	if t == nil || partition < 0 || int(partition) >= len(t.Partitions) {
		return nil
	}
	return t.Partitions[partition]
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
	Recovering     bool    // the leader was elected uncleanly and has not yet said that it recovered
	Unfit          []Unfit // of Replicas, in their order: may neither lead nor be in sync
}

// Unfit is a replica that its node cannot use, as the node has reported.
type Unfit struct {
	Node    kafka.NodeID
	Fitness Fitness // not Fit
	Cause   string  // for an operator
}

// Fitness says what a broker can do with a replica of its own.
type Fitness uint8

// The kinds of fitness. Their numbers are on disk.
const (
	// Fit: it can be used.
	Fit Fitness = iota
	// Failed: its log cannot be used, though what was synced is on the disk.
	Failed
	// Damaged: records that it had acknowledged are missing or corrupt.
	Damaged
	// Slow: its disk takes too long.
	Slow
)

// String is the word for it: "failed".
func (f Fitness) String() string {
	if names := [...]string{"fit", "failed", "damaged", "slow"}; int(f) < len(names) {
		return names[f]
	}
	return "unfit"
}

// IsUnfit says whether the node has reported that it cannot use its replica.
func (p *Partition) IsUnfit(n kafka.NodeID) bool {
	return slices.ContainsFunc(p.Unfit, func(u Unfit) bool { return u.Node == n })
}

// IsReplica says whether the node has a replica of the partition.
func (p *Partition) IsReplica(n kafka.NodeID) bool { return slices.Contains(p.Replicas, n) }

// IsInSync says whether the node is in the committed in-sync set.
func (p *Partition) IsInSync(n kafka.NodeID) bool { return slices.Contains(p.InSync, n) }

// Reassigning says whether a reassignment of replicas is in progress.
func (p *Partition) Reassigning() bool { return len(p.Adding) > 0 || len(p.Removing) > 0 }

// Equal says whether both are the same in every field.
func (p *Partition) Equal(o *Partition) bool {
	return p == o || p != nil && o != nil &&
		p.Leader == o.Leader && p.LeaderEpoch == o.LeaderEpoch && p.PartitionEpoch == o.PartitionEpoch &&
		p.Recovering == o.Recovering && p.LastLeader == o.LastLeader &&
		slices.Equal(p.Replicas, o.Replicas) && slices.Equal(p.InSync, o.InSync) &&
		slices.Equal(p.EligibleLeader, o.EligibleLeader) &&
		slices.Equal(p.Adding, o.Adding) && slices.Equal(p.Removing, o.Removing) && slices.Equal(p.Unfit, o.Unfit)
}

// Broker is one registered broker. It is immutable.
type Broker struct {
	ID           kafka.NodeID
	Epoch        kafka.BrokerEpoch // of this registration; rises with each
	Incarnation  [16]byte          // new with each start of the process
	Directory    [16]byte          // new with each new data directory: a lost disk is noticed by it
	Host         string            // advertised to Kafka clients
	Port         int32
	PeerAddress  string // HOST:PORT for the other nodes
	Rack         string // "" means none
	Version      string // the software's version
	Fenced       bool   // may not lead nor be in sync
	ShuttingDown bool   // in controlled shutdown (KIP-841): neither, though it still serves
	MinInSync    int32  // its own setting of min.insync.replicas; 0: not known
	RecordsLevel int16  // of metadata records, that it reads
}

// Active says whether the broker may lead partitions and be in sync.
func (b *Broker) Active() bool { return b != nil && !b.Fenced && !b.ShuttingDown }

// ResourceType is the kind of thing that a config belongs to, numbered as in
// the Kafka protocol.
type ResourceType int8

// The resource types that have configs.
const (
	ResourceTopic         ResourceType = 2
	ResourceBroker        ResourceType = 4
	ResourceBrokerLogger  ResourceType = 8
	ResourceClientMetrics ResourceType = 16
	ResourceGroup         ResourceType = 32
)

// ConfigResource names one thing that has configs. The broker "" stands for
// the cluster-wide default of all brokers.
type ConfigResource struct {
	Type ResourceType
	Name string
}

func (r ConfigResource) compare(o ConfigResource) int {
	return cmp.Or(cmp.Compare(r.Type, o.Type), cmp.Compare(r.Name, o.Name))
}

// Empty returns the Image of a cluster that has no metadata records.
func Empty() *Image {
	return &Image{offset: kafka.NoOffset, sorted: new(sortedLists)}
}

// Offset is the offset of the last metadata record that the image holds, or
// NoOffset for the empty one.
func (m *Image) Offset() kafka.Offset { return m.offset }

// ClusterID is the id of the cluster; "" until the first controller chose one.
func (m *Image) ClusterID() string { return m.clusterID }

// NextProducerID is the first producer id that was never handed out.
func (m *Image) NextProducerID() kafka.ProducerID { return m.nextProducer }

// Topic returns the topic with the id, or nil.
func (m *Image) Topic(id kafka.TopicID) *Topic { return m.topics[id] }

// TopicByName returns the topic with the name, or nil.
func (m *Image) TopicByName(name string) *Topic {
	id, ok := m.byName[name]
	if !ok {
		return nil
	}
	return m.topics[id]
}

// Topics returns all topics, sorted by name.
func (m *Image) Topics() []*Topic {
	m.sorted.topicsOnce.Do(func() {
		m.sorted.topics = slices.SortedFunc(maps.Values(m.topics), func(a, b *Topic) int { return cmp.Compare(a.Name, b.Name) })
	})
	return m.sorted.topics
}

// TopicCount is the number of topics.
func (m *Image) TopicCount() int { return len(m.topics) }

// Partition returns one partition by its topic's name, or nil.
func (m *Image) Partition(tp kafka.TopicPartition) *Partition {
	return m.TopicByName(tp.Topic).Partition(tp.Partition)
}

// Broker returns the registered broker with the id, or nil.
func (m *Image) Broker(id kafka.NodeID) *Broker { return m.brokers[id] }

// Brokers returns all registered brokers, fenced ones too, sorted by id.
func (m *Image) Brokers() []*Broker {
	m.sorted.brokersOnce.Do(func() {
		m.sorted.brokers = slices.SortedFunc(maps.Values(m.brokers), func(a, b *Broker) int { return cmp.Compare(a.ID, b.ID) })
	})
	return m.sorted.brokers
}

// Config returns what was set for the resource, without defaults; nil if
// nothing was. Package config has the effective values.
func (m *Image) Config(r ConfigResource) map[string]string { return m.configs[r] }

// ConfigResources returns the resources for which something was set, sorted
// by type and name.
func (m *Image) ConfigResources() []ConfigResource {
	return slices.SortedFunc(maps.Keys(m.configs), ConfigResource.compare)
}

// FeatureLevel is the finalized level of a feature; 0 if it is not in use.
func (m *Image) FeatureLevel(name string) int16 { return m.features[name] }

// Features returns the names of the features in use, sorted.
func (m *Image) Features() []string { return slices.Sorted(maps.Keys(m.features)) }

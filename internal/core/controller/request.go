package controller

import (
	"bytes"
	"encoding/binary"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// Request is one of the request types of this package.
type Request interface{ request() }

// Response is one of the response types of this package. Lists in a response
// are in the order of the request unless said otherwise.
type Response interface{ response() }

// Status is the outcome of a request or of one item of it.
type Status struct {
	Error   kafka.ErrorCode
	Message string // for humans; "" without an error
}

// RegisterBroker announces a process that wants to be the broker Node. It
// starts fenced and is unfenced by a heartbeat once it has read its own
// registration.
type RegisterBroker struct {
	Node          kafka.NodeID
	ClusterID     string // the cluster that it believes to belong to; "" when it does not know
	Incarnation   [16]byte
	Directory     [16]byte
	Host          string
	Port          int32
	PeerAddress   string
	Rack          string
	Version       string
	CleanShutdown bool  // its last process synced everything before it ended (rule 19)
	MinInSync     int32 // its own setting of min.insync.replicas; 0: it does not say
	RecordsLevel  int16 // of metadata records, that it reads
}

// RegisterBrokerResult answers RegisterBroker.
type RegisterBrokerResult struct {
	Status
	Epoch     kafka.BrokerEpoch
	ClusterID string
}

// Heartbeat renews a broker's session.
type Heartbeat struct {
	Node           kafka.NodeID
	Epoch          kafka.BrokerEpoch
	MetadataOffset kafka.Offset // the image that the broker acts on
	WantFence      bool
	WantShutdown   bool
}

// HeartbeatResult answers Heartbeat.
type HeartbeatResult struct {
	Status
	CaughtUp       bool // the broker has read its own registration, and of its last fencing
	Fenced         bool
	ShouldShutDown bool // controlled shutdown is done: the process may end
}

// PeerLost is the transport's proof that the process of a broker is gone: its
// connection closed and a new one was refused. It is fenced at once.
type PeerLost struct {
	Node  kafka.NodeID
	Epoch kafka.BrokerEpoch // NoBrokerEpoch: whichever is registered
}

// UnregisterBroker forgets a broker that will not come back. One that serves is
// kept while it is the only one to serve, or the whole in-sync set of a partition.
type UnregisterBroker struct {
	Node  kafka.NodeID
	Known kafka.BrokerEpoch // that it had when the request came; NoBrokerEpoch: it was not registered
	Again bool              // the request was sent before and may have been carried out
}

// StatusResult answers requests whose outcome is one status: UnregisterBroker, PeerLost.
type StatusResult struct {
	Status
}

// NewTopic is one topic to create.
type NewTopic struct {
	Name              string
	ID                OwnID // which topics are of this very request; zero: none
	Partitions        int32 // -1: num.partitions
	ReplicationFactor int16 // -1: default.replication.factor
	Assignment        []Assignment
	Configs           []ConfigValue
}

// OwnID lets a topic be known as one that a request has created itself, when it
// is asked again because the answer was lost with its controller. The topic of
// the nth sending has the id ID(n): no id is ever given to two topics, not even
// when the first was deleted meanwhile.
type OwnID struct {
	Drawn   kafka.TopicID // a random id; zero: the controller draws one, and knows none
	Sending uint32
}

// ownIDPart is how many bytes of a drawn id all its sendings have in common.
const ownIDPart = len(kafka.TopicID{}) - 4

// ID is the id of the topic that this sending creates.
func (o OwnID) ID() kafka.TopicID {
	id := o.Drawn
	binary.BigEndian.PutUint32(id[ownIDPart:], o.Sending)
	return id
}

// has says whether a topic is one that this sending, or an earlier one, has created.
func (o OwnID) has(id kafka.TopicID) bool {
	return !o.Drawn.IsZero() && bytes.Equal(id[:ownIDPart], o.Drawn[:ownIDPart]) && binary.BigEndian.Uint32(id[ownIDPart:]) <= o.Sending
}

// Assignment places one partition by hand.
type Assignment struct {
	Partition int32
	Replicas  []kafka.NodeID
}

// ConfigValue is one config to set; a nil value stands for the default.
type ConfigValue struct {
	Name  string
	Value *string
}

// CreateTopics creates topics, each on its own.
type CreateTopics struct {
	Topics       []NewTopic
	ValidateOnly bool
}

// AutoCreateTopics creates topics that a client or a coordinator asked for
// with the broker's defaults; internal topics get their own configs. It does
// so whatever auto.create.topics.enable says: the caller asks that.
type AutoCreateTopics struct {
	Names []string
}

// CreateTopicsResult answers CreateTopics and AutoCreateTopics. A name given
// twice has one entry.
type CreateTopicsResult struct {
	Topics []CreatedTopic
}

// CreatedTopic is the outcome of one topic.
type CreatedTopic struct {
	Status
	Name              string
	ID                kafka.TopicID
	Partitions        int32
	ReplicationFactor int16
	Configs           []config.Entry // all effective topic configs
}

// TopicRef names a topic by name, or by id if Name is "".
type TopicRef struct {
	Name string
	ID   kafka.TopicID
}

// DeleteTopics deletes topics, each on its own.
type DeleteTopics struct {
	Topics []TopicRef
	// Again says that the request was sent before and may have been carried out.
	// Known has then for each topic the id that it had when the request came;
	// zero: there was none of that name.
	Again bool
	Known []kafka.TopicID
}

// DeleteTopicsResult answers DeleteTopics. A topic given twice has one entry.
type DeleteTopicsResult struct {
	Topics []DeletedTopic
}

// DeletedTopic is the outcome of one topic. Name and ID are both set where the topic was found.
type DeletedTopic struct {
	Status
	TopicRef
}

// CreatePartitions adds partitions to topics, each on its own.
type CreatePartitions struct {
	Topics       []MorePartitions
	ValidateOnly bool
	Again        bool // the request was sent before and may have been carried out
}

// MorePartitions asks for a topic to have Count partitions.
type MorePartitions struct {
	Name       string
	Count      int32
	Assignment [][]kafka.NodeID // of the new partitions; nil: placed by the controller
	Had        int32            // how many partitions there were when the request came; only where that is known
}

// CreatePartitionsResult answers CreatePartitions. A name given twice has one entry.
type CreatePartitionsResult struct {
	Topics []TopicStatus
}

// TopicStatus is the outcome of one topic.
type TopicStatus struct {
	Status
	Name string
}

// ConfigOp says what an incremental change does to a config, numbered as in
// the Kafka protocol.
type ConfigOp int8

// The operations of IncrementalAlterConfigs.
const (
	OpSet      ConfigOp = 0
	OpDelete   ConfigOp = 1
	OpAppend   ConfigOp = 2
	OpSubtract ConfigOp = 3
)

// AlterConfigs replaces all configs of resources by the given ones.
type AlterConfigs struct {
	Resources    []ResourceConfigs
	ValidateOnly bool
	Again        bool // the request was sent before and may have been carried out
}

// ResourceConfigs is all that is to be set for one resource.
type ResourceConfigs struct {
	Resource metadata.ConfigResource
	Configs  []ConfigValue
	Known    map[string]string // what was set when the request came
}

// IncrementalAlterConfigs changes single configs of resources.
type IncrementalAlterConfigs struct {
	Resources    []ResourceChanges
	ValidateOnly bool
	Again        bool // the request was sent before and may have been carried out
}

// ResourceChanges is the list of changes for one resource.
type ResourceChanges struct {
	Resource metadata.ConfigResource
	Changes  []ConfigChange
	Known    map[string]string // what was set when the request came
}

// ConfigChange is one change of one config.
type ConfigChange struct {
	ConfigValue
	Op ConfigOp
}

// AlterConfigsResult answers AlterConfigs and IncrementalAlterConfigs. A
// resource given twice has an entry for each time.
type AlterConfigsResult struct {
	Resources []ResourceStatus
}

// ResourceStatus is the outcome of one resource.
type ResourceStatus struct {
	Status
	Resource metadata.ConfigResource
}

// AlterPartition is a leader's wish to change in-sync sets (KIP-497).
type AlterPartition struct {
	Node    kafka.NodeID
	Epoch   kafka.BrokerEpoch
	Changes []InSyncChange
}

// InSyncChange is the wish for one partition.
type InSyncChange struct {
	Topic          kafka.TopicID
	Partition      int32
	LeaderEpoch    kafka.LeaderEpoch
	PartitionEpoch kafka.PartitionEpoch
	InSync         []InSyncMember
	Recovering     bool
}

// InSyncMember is a member of a wished-for in-sync set.
type InSyncMember struct {
	Node  kafka.NodeID
	Epoch kafka.BrokerEpoch // of the registration that caught up; NoBrokerEpoch: not checked
}

// AlterPartitionResult answers AlterPartition.
type AlterPartitionResult struct {
	Status     // STALE_BROKER_EPOCH: nothing was looked at
	Partitions []AlteredPartition
}

// AlteredPartition is the outcome for one partition.
type AlteredPartition struct {
	Status
	Topic     kafka.TopicID
	Partition int32
	State     *metadata.Partition // as the controller has it after the change; nil if unknown
}

// ReportReplicas tells which of a broker's replicas it cannot use, and which it
// can use again.
type ReportReplicas struct {
	Node     kafka.NodeID
	Epoch    kafka.BrokerEpoch
	Replicas []ReplicaReport
}

// ReplicaReport is the report on one replica. One that is damaged is taken out
// only where another is in sync, for it may be the best that there is; one that
// is slow only where those in sync are enough without it.
type ReplicaReport struct {
	Topic     kafka.TopicID
	Partition int32
	Fitness   metadata.Fitness
	Cause     string // for an operator
}

// ReportReplicasResult answers ReportReplicas.
type ReportReplicasResult struct {
	Status   // STALE_BROKER_EPOCH: nothing was looked at
	Replicas []ReportedReplica
}

// ReportedReplica is the outcome for one replica. NOT_ENOUGH_REPLICAS means
// that the partition cannot do without a damaged or slow one.
type ReportedReplica struct {
	Status
	Topic     kafka.TopicID
	Partition int32
}

// ElectLeaders asks for elections (KIP-460).
type ElectLeaders struct {
	Unclean    bool                   // else the preferred replica
	Partitions []kafka.TopicPartition // nil: all that need it
	Needed     []KnownLead            // those of them that needed it when the request came
	Again      bool                   // the request was sent before and may have been carried out
}

// KnownLead is who leads a partition, told by the leader epoch.
type KnownLead struct {
	Topic     kafka.TopicID
	Partition int32
	Epoch     kafka.LeaderEpoch
}

// ElectLeadersResult answers ElectLeaders. Without a list of partitions it
// names only those whose election was tried.
type ElectLeadersResult struct {
	Status
	Partitions []PartitionStatus
}

// PartitionStatus is the outcome of one partition.
type PartitionStatus struct {
	Status
	kafka.TopicPartition
}

// AlterPartitionReassignments moves partitions to other replicas (KIP-455).
type AlterPartitionReassignments struct {
	Partitions                     []Reassignment
	RefuseReplicationFactorChanges bool // KIP-860
	Again                          bool // the request was sent before and may have been carried out
}

// Reassignment is the wish for one partition.
type Reassignment struct {
	kafka.TopicPartition
	Replicas []kafka.NodeID // the target; nil: cancel what is in progress
	Known    *KnownReplicas // when the request came; nil where that is not known
}

// KnownReplicas is where a partition is, and is moved.
type KnownReplicas struct {
	Topic                      kafka.TopicID
	Replicas, Adding, Removing []kafka.NodeID
}

// AlterPartitionReassignmentsResult answers AlterPartitionReassignments.
type AlterPartitionReassignmentsResult struct {
	Status
	Partitions []PartitionStatus
}

// ListPartitionReassignments lists reassignments in progress.
type ListPartitionReassignments struct {
	Partitions []kafka.TopicPartition // nil: all
}

// ListPartitionReassignmentsResult answers ListPartitionReassignments, sorted
// by topic and partition.
type ListPartitionReassignmentsResult struct {
	Partitions []OngoingReassignment
}

// OngoingReassignment is a reassignment in progress.
type OngoingReassignment struct {
	kafka.TopicPartition
	Replicas, Adding, Removing []kafka.NodeID
}

// AllocateProducerIDs gives a broker a block of producer ids for itself.
type AllocateProducerIDs struct {
	Node  kafka.NodeID
	Epoch kafka.BrokerEpoch
}

// AllocateProducerIDsResult answers AllocateProducerIDs.
type AllocateProducerIDsResult struct {
	Status
	First kafka.ProducerID
	Count int32
}

func (RegisterBroker) request()              {}
func (Heartbeat) request()                   {}
func (PeerLost) request()                    {}
func (UnregisterBroker) request()            {}
func (CreateTopics) request()                {}
func (AutoCreateTopics) request()            {}
func (DeleteTopics) request()                {}
func (CreatePartitions) request()            {}
func (AlterConfigs) request()                {}
func (IncrementalAlterConfigs) request()     {}
func (AlterPartition) request()              {}
func (ReportReplicas) request()              {}
func (ElectLeaders) request()                {}
func (AlterPartitionReassignments) request() {}
func (ListPartitionReassignments) request()  {}
func (AllocateProducerIDs) request()         {}

func (RegisterBrokerResult) response()              {}
func (HeartbeatResult) response()                   {}
func (StatusResult) response()                      {}
func (CreateTopicsResult) response()                {}
func (DeleteTopicsResult) response()                {}
func (CreatePartitionsResult) response()            {}
func (AlterConfigsResult) response()                {}
func (AlterPartitionResult) response()              {}
func (ReportReplicasResult) response()              {}
func (ElectLeadersResult) response()                {}
func (AlterPartitionReassignmentsResult) response() {}
func (ListPartitionReassignmentsResult) response()  {}
func (AllocateProducerIDsResult) response()         {}

// Package config holds the one table of settings and reads it from flags, the
// environment and a file.
package config

import (
	"slices"
	"strconv"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// Config is what a node was told. Every field belongs to one row of the table
// in table.go, which says what it means and what it may be.
type Config struct {
	// This node and its cluster.
	NodeID         kafka.NodeID
	DataDir        string
	Kafka          string // HOST:PORT to listen on for Kafka clients
	AdvertiseKafka string // HOST:PORT that clients are told; never empty after Load
	Peer           string // HOST:PORT to listen on for other nodes
	HTTP           string // HOST:PORT to listen on for metrics and health; "" turns it off
	Peers          []Peer // the voters of a new cluster, this node among them; empty: alone, or Join
	Join           string // HOST:PORT of any node of a running cluster; "" when not joining
	Rack           string
	LogLevel       string // debug, info, warn, error
	LogFormat      string // text, json

	// Connections of Kafka clients.
	ConnectionsMax           int
	ConnectionsPerIPMax      int
	ConnectionsIdleMax       time.Duration
	RequestBytesMax          int   // one request
	QueuedRequestBytesMax    int64 // all connections: requests and responses in memory
	InFlightRequestsMax      int   // one connection
	InFlightBytesMax         int64 // one connection
	RequestDeadline          time.Duration
	ResponseDeadline         time.Duration
	FetchBytesMax            int
	FetchSessionSlotsMax     int
	ShutdownAnswersWait      time.Duration // how long answers may still go out after a stop was asked for
	TopicAutoCreateEnable    bool
	TopicDeleteEnable        bool
	PartitionsDefault        int32
	ReplicationFactorDefault int16

	// Defaults of topics, under the names of Kafka's broker settings.
	MinInSyncReplicas         int32
	MessageBytesMax           int32
	UncleanLeaderElection     bool
	CompressionType           string
	LogCleanupPolicy          string
	LogRetentionMs            int64
	LogRetentionBytes         int64
	LogSegmentBytes           int32
	LogRollMs                 int64
	LogIndexIntervalBytes     int32
	LogFlushIntervalMessages  int64
	LogMessageTimestampType   string
	LogTimestampBeforeMaxMs   int64
	LogTimestampAfterMaxMs    int64
	LogDeleteRetentionMs      int64
	LogCompactionLagMinMs     int64
	LogCompactionLagMaxMs     int64
	LogCleanableRatioMin      float64
	LogRetentionCheckInterval time.Duration
	LogCacheBytes             int64 // behind the synced end of each log; 0: the kernel decides
	LogCleanerBackoff         time.Duration
	LogCleanerThreads         int
	LogCleanerMemoryBytes     int64
	ScrubBytesPerSecond       int64         // 0: off
	ScrubInterval             time.Duration // 0: only when asked for

	// Producers, groups and replication.
	ProducerIDExpiration            time.Duration
	OffsetsPartitions               int32
	OffsetsReplicationFactor        int16
	OffsetsRetention                time.Duration
	OffsetsRetentionCheckInterval   time.Duration
	OffsetMetadataBytesMax          int
	GroupSessionTimeoutMin          time.Duration
	GroupSessionTimeoutMax          time.Duration
	GroupInitialRebalanceDelay      time.Duration
	GroupSizeMax                    int
	GroupConsumerSessionTimeout     time.Duration
	GroupConsumerHeartbeatInterval  time.Duration
	GroupConsumerSizeMax            int
	GroupConsumerAssignmentInterval time.Duration
	GroupConsumerAssignors          string
	GroupConsumerMigrationPolicy    string
	GroupLagPartitionsMax           int // whose lag /metrics shows
	ReplicaLagTimeMax               time.Duration
	ReplicaLagMessagesMax           int64 // 0: no limit
	BrokerSessionTimeout            time.Duration
	BrokerHeartbeatInterval         time.Duration
	QuorumElectionTimeout           time.Duration
	LeaderRebalanceEnable           bool
	LeaderImbalanceCheckInterval    time.Duration

	sources map[string]Source
}

// Peer names one node and where other nodes reach it.
type Peer struct {
	ID      kafka.NodeID
	Address string // HOST:PORT
}

// String is the peer as the peers setting takes it: ID@HOST:PORT.
func (p Peer) String() string {
	return strconv.Itoa(int(p.ID)) + "@" + p.Address
}

// Source says where a value came from.
type Source string

// Sources, the weakest first.
const (
	FromDefault     Source = "default"
	FromFile        Source = "file"
	FromEnvironment Source = "environment"
	FromFlag        Source = "flag"
)

// Source says where the value of the named setting came from.
func (c *Config) Source(name string) Source {
	if s, ok := c.sources[name]; ok {
		return s
	}
	return FromDefault
}

// Value is the value in effect of the named setting, as the setting takes it;
// "" for a name that is not in the table.
func (c *Config) Value(name string) string {
	for i := range table {
		if table[i].Name == name {
			return format(table[i].field(c))
		}
	}
	return ""
}

// lagMessages was a setting of Kafka's long ago, which it does not show.
const lagMessages = "replica.lag.max.messages"

// Static lists the settings that the node was given, and those whose default
// is not Kafka's, under Kafka's names: what DescribeConfigs of a broker shows as
// STATIC_BROKER_CONFIG. The others have the default that core/config knows.
func (c *Config) Static() map[string]string {
	static := map[string]string{
		"node.id":              strconv.Itoa(int(c.NodeID)),
		"broker.id":            strconv.Itoa(int(c.NodeID)),
		"log.dirs":             c.DataDir,
		"listeners":            "PLAINTEXT://" + c.Kafka,
		"advertised.listeners": "PLAINTEXT://" + c.AdvertiseKafka,
	}
	if c.Rack != "" {
		static["broker.rack"] = c.Rack
	}
	for i := range table {
		s := &table[i]
		if !s.IsKafka() || s.Name == lagMessages {
			continue
		}
		value := format(s.field(c))
		if c.Source(s.Name) != FromDefault || !isDefault(s.Name, value) {
			static[s.Name] = value
		}
	}
	return static
}

// isDefault says whether a broker that was told nothing behaves as with this value.
func isDefault(name, value string) bool {
	k, known := config.Lookup(metadata.ResourceBroker, name)
	if !known || !k.NoDefault {
		return !known || k.Default == value
	}
	return slices.ContainsFunc(config.Keys(metadata.ResourceTopic), func(k config.Key) bool { return k.Synonym == name && k.Default == value })
}

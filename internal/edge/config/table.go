package config

import (
	"math"
	"strings"
	"time"
)

// Setting is one row of the table.
type Setting struct {
	Name    string // as the file has it: "num.partitions", "data-dir"
	Default string
	Help    string // one or two sentences
	Section string // the heading it stands under

	kind  kind
	field func(*Config) any
}

// Flag is the name as a flag, without the dashes in front.
func (s *Setting) Flag() string { return strings.ReplaceAll(s.Name, ".", "-") }

// Env is the name as an environment variable.
func (s *Setting) Env() string {
	return envPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(s.Name))
}

// Type is the kind of value: "number", "milliseconds", "address".
func (s *Setting) Type() string { return s.kind.name }

// Takes says which values are right: "a whole number from 0 to 9".
func (s *Setting) Takes() string { return s.kind.takes }

// IsBoolean says whether the flag may stand without a value.
func (s *Setting) IsBoolean() bool { return s.kind.name == boolean.name }

// IsKafka says whether Kafka has a broker setting of this name.
func (s *Setting) IsKafka() bool { return strings.Contains(s.Name, ".") }

// Settings is the table, in the order of the documentation.
func Settings() []Setting { return append([]Setting(nil), table...) }

const envPrefix = "CHRONIK_"

const (
	int32Max = math.MaxInt32
	int64Max = math.MaxInt64
)

func milliseconds(at *time.Duration) any { return &unitDuration{at, time.Millisecond} }

var table = inSections(
	section{"This node and its cluster", []Setting{
		{Name: "node-id", Default: "1", kind: count(0, int32Max), field: func(c *Config) any { return &c.NodeID },
			Help: "The id of this node; unique in the cluster, and the same for the node's whole life."},
		{Name: "data-dir", Default: "./chronik-data", kind: directory, field: func(c *Config) any { return &c.DataDir },
			Help: "Where the node keeps everything that it must not forget. One process at a time may use it."},
		{Name: "kafka", Default: "127.0.0.1:9092", kind: listenAddress, field: func(c *Config) any { return &c.Kafka },
			Help: "Where to listen for Kafka clients. Port 0 takes any that is free."},
		{Name: "advertise-kafka", Default: "", kind: orNone(dialAddress), field: func(c *Config) any { return &c.AdvertiseKafka },
			Help: "The address that clients are told to connect to. Nothing: the one of `kafka`, with the machine's name for a host that stands for every interface."},
		{Name: "peer", Default: "127.0.0.1:9192", kind: listenAddress, field: func(c *Config) any { return &c.Peer },
			Help: "Where to listen for the other nodes of the cluster. Not given: what `peers` says of this node. The others are told the machine's name for a host that stands for every interface."},
		{Name: "http", Default: "127.0.0.1:9644", kind: orNone(listenAddress), field: func(c *Config) any { return &c.HTTP },
			Help: "Where to serve /metrics, /healthz and /readyz. Nothing: not at all."},
		{Name: "peers", Default: "", kind: peerList, field: func(c *Config) any { return &c.Peers },
			Help: "The nodes that found the cluster, this one among them, the same list on each, with addresses that all of them can reach. Nothing: a cluster of one node, or `join`."},
		{Name: "join", Default: "", kind: orNone(dialAddress), field: func(c *Config) any { return &c.Join },
			Help: "The peer address of any node of a running cluster, to become one more node of it."},
		{Name: "rack", Default: "", kind: text, field: func(c *Config) any { return &c.Rack },
			Help: "The rack or zone of this node: replicas of a partition are spread over racks, and consumers read from their own where they say it."},
		{Name: "log-level", Default: "info", kind: word("debug", "info", "warn", "error"), field: func(c *Config) any { return &c.LogLevel },
			Help: "The least important log lines that are written."},
		{Name: "log-format", Default: "text", kind: word("text", "json"), field: func(c *Config) any { return &c.LogFormat },
			Help: "How log lines are written to standard error."},
	}},
	section{"Connections and limits", []Setting{
		{Name: "max.connections", Default: "16384", kind: count(1, int32Max), field: func(c *Config) any { return &c.ConnectionsMax },
			Help: "Connections of Kafka clients at a time; more are refused."},
		{Name: "max.connections.per.ip", Default: "12288", kind: count(1, int32Max), field: func(c *Config) any { return &c.ConnectionsPerIPMax },
			Help: "Connections of Kafka clients at a time from one address; more are refused."},
		{Name: "connections.max.idle.ms", Default: "600000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.ConnectionsIdleMax) },
			Help: "A connection on which nothing was asked or answered for so long is closed."},
		{Name: "socket.request.max.bytes", Default: "104857600", kind: size(1024, int32Max), field: func(c *Config) any { return &c.RequestBytesMax },
			Help: "The longest request; a longer one closes the connection."},
		{Name: "queued.max.request.bytes", Default: "536870912", kind: size(1<<20, int64Max), field: func(c *Config) any { return &c.QueuedRequestBytesMax },
			Help: "Requests and responses of all connections in memory; beyond it no further request is read until some have been answered, and those that are long and have begun come in one at a time."},
		{Name: "max-inflight-requests", Default: "100", kind: count(1, 10000), field: func(c *Config) any { return &c.InFlightRequestsMax },
			Help: "Requests of one connection that wait for their answers; beyond it the connection is not read."},
		{Name: "max-inflight-bytes", Default: "67108864", kind: size(1<<10, int64Max), field: func(c *Config) any { return &c.InFlightBytesMax },
			Help: "Requests and responses of one connection in memory; beyond it the connection is not read."},
		{Name: "request-deadline-ms", Default: "10000", kind: ms(10), field: func(c *Config) any { return milliseconds(&c.RequestDeadline) },
			Help: "A request must have arrived so long after its first byte, and one more second for each 64 KiB of it; otherwise the connection is closed."},
		{Name: "response-deadline-ms", Default: "30000", kind: ms(10), field: func(c *Config) any { return milliseconds(&c.ResponseDeadline) },
			Help: "A client that takes nothing of its responses for so long is disconnected."},
		{Name: "shutdown-answers-ms", Default: "1000", kind: ms(0), field: func(c *Config) any { return milliseconds(&c.ShutdownAnswersWait) },
			Help: "How long the answers to requests already received may still go out when the node is stopped."},
		{Name: "fetch.max.bytes", Default: "57671680", kind: size(1024, int32Max), field: func(c *Config) any { return &c.FetchBytesMax },
			Help: "The most bytes of records in one fetch response; a larger first batch is sent alone."},
		{Name: "max.incremental.fetch.session.cache.slots", Default: "1000", kind: count(0, 1<<20), field: func(c *Config) any { return &c.FetchSessionSlotsMax },
			Help: "Incremental fetch sessions that are kept (KIP-227)."},
	}},
	section{"Topics", []Setting{
		{Name: "auto.create.topics.enable", Default: "true", kind: boolean, field: func(c *Config) any { return &c.TopicAutoCreateEnable },
			Help: "Make a topic when a client that allows it asks for one that does not exist."},
		{Name: "delete.topic.enable", Default: "true", kind: boolean, field: func(c *Config) any { return &c.TopicDeleteEnable },
			Help: "Let clients delete topics."},
		{Name: "num.partitions", Default: "1", kind: count(1, 100000), field: func(c *Config) any { return &c.PartitionsDefault },
			Help: "Partitions of a topic that is made without saying how many."},
		{Name: "default.replication.factor", Default: "1", kind: count(1, 32767), field: func(c *Config) any { return &c.ReplicationFactorDefault },
			Help: "Replicas of a topic that is made without saying how many."},
		{Name: "min.insync.replicas", Default: "1", kind: count(1, 32767), field: func(c *Config) any { return &c.MinInSyncReplicas },
			Help: "Replicas that must be in sync for a write with acks=all, where the topic does not say otherwise."},
		{Name: "unclean.leader.election.enable", Default: "false", kind: boolean, field: func(c *Config) any { return &c.UncleanLeaderElection },
			Help: "Let a replica lead that was not in sync, and lose what it does not have, where the topic does not say otherwise."},
		{Name: "message.max.bytes", Default: "1048588", kind: size(0, int32Max), field: func(c *Config) any { return &c.MessageBytesMax },
			Help: "The longest record batch, where the topic does not say otherwise (`max.message.bytes`)."},
		{Name: "compression.type", Default: "producer", kind: word("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"), field: func(c *Config) any { return &c.CompressionType },
			Help: "How records are compressed in the log, where the topic does not say otherwise; `producer` keeps what was sent."},
		{Name: "log.cleanup.policy", Default: "delete", kind: words("delete", "compact"), field: func(c *Config) any { return &c.LogCleanupPolicy },
			Help: "What happens to old records, where the topic does not say otherwise (`cleanup.policy`). Nothing: they are kept."},
		{Name: "log.retention.ms", Default: "604800000", kind: millis(-1, int64Max), field: func(c *Config) any { return &c.LogRetentionMs },
			Help: "How long records are kept, where the topic does not say otherwise (`retention.ms`); -1 is for ever."},
		{Name: "log.retention.bytes", Default: "-1", kind: size(-1, int64Max), field: func(c *Config) any { return &c.LogRetentionBytes },
			Help: "How many bytes of a partition are kept, where the topic does not say otherwise (`retention.bytes`); -1 is all."},
		{Name: "log.segment.bytes", Default: "1073741824", kind: size(1<<20, int32Max), field: func(c *Config) any { return &c.LogSegmentBytes },
			Help: "The longest segment file, where the topic does not say otherwise (`segment.bytes`)."},
		{Name: "log.roll.ms", Default: "604800000", kind: millis(1, int64Max), field: func(c *Config) any { return &c.LogRollMs },
			Help: "A segment older than this is closed at the next write, where the topic does not say otherwise (`segment.ms`)."},
		{Name: "log.index.interval.bytes", Default: "4096", kind: size(0, int32Max), field: func(c *Config) any { return &c.LogIndexIntervalBytes },
			Help: "Bytes of log between two entries of its index, where the topic does not say otherwise (`index.interval.bytes`)."},
		{Name: "log.flush.interval.messages", Default: "1", kind: count(1, int64Max), field: func(c *Config) any { return &c.LogFlushIntervalMessages },
			Help: "Records that may be acknowledged before they are on disk, where the topic does not say otherwise (`flush.messages`). 1: an acknowledged record is on disk; 9223372036854775807: Kafka's behaviour."},
		{Name: "log.message.timestamp.type", Default: "CreateTime", kind: word("CreateTime", "LogAppendTime"), field: func(c *Config) any { return &c.LogMessageTimestampType },
			Help: "Whose clock stamps records, where the topic does not say otherwise (`message.timestamp.type`)."},
		{Name: "log.message.timestamp.before.max.ms", Default: "9223372036854775807", kind: millis(0, int64Max), field: func(c *Config) any { return &c.LogTimestampBeforeMaxMs },
			Help: "How far a record's timestamp may lie in the past, where the topic does not say otherwise (`message.timestamp.before.max.ms`)."},
		{Name: "log.message.timestamp.after.max.ms", Default: "3600000", kind: millis(0, int64Max), field: func(c *Config) any { return &c.LogTimestampAfterMaxMs },
			Help: "How far a record's timestamp may lie in the future, where the topic does not say otherwise (`message.timestamp.after.max.ms`)."},
		{Name: "log.cleaner.delete.retention.ms", Default: "86400000", kind: millis(0, int64Max), field: func(c *Config) any { return &c.LogDeleteRetentionMs },
			Help: "How long a compacted topic keeps its tombstones, where the topic does not say otherwise (`delete.retention.ms`)."},
		{Name: "log.cleaner.min.compaction.lag.ms", Default: "0", kind: millis(0, int64Max), field: func(c *Config) any { return &c.LogCompactionLagMinMs },
			Help: "How long a record is left alone by compaction, where the topic does not say otherwise (`min.compaction.lag.ms`)."},
		{Name: "log.cleaner.max.compaction.lag.ms", Default: "9223372036854775807", kind: millis(1, int64Max), field: func(c *Config) any { return &c.LogCompactionLagMaxMs },
			Help: "After how long a record is compacted at the latest, where the topic does not say otherwise (`max.compaction.lag.ms`)."},
		{Name: "log.cleaner.min.cleanable.ratio", Default: "0.5", kind: ratio, field: func(c *Config) any { return &c.LogCleanableRatioMin },
			Help: "The share of a log not yet compacted that makes compaction worth while, where the topic does not say otherwise (`min.cleanable.dirty.ratio`)."},
		{Name: "log-cache-bytes", Default: "16777216", kind: size(0, int64Max), field: func(c *Config) any { return &c.LogCacheBytes },
			Help: "How much behind the synced end of each log stays in the page cache for readers; what is older is dropped as it is written and read past the cache, and large appends go past it while nobody reads close to the end. More helps consumers that lag a little on a machine with memory to spare; 0 leaves it all to the kernel."},
		{Name: "log.retention.check.interval.ms", Default: "300000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.LogRetentionCheckInterval) },
			Help: "How often logs are searched for segments whose time is over."},
		{Name: "scrub-bytes-per-second", Default: "4194304", kind: size(0, int64Max), field: func(c *Config) any { return &c.ScrubBytesPerSecond },
			Help: "The most bytes of logs that are read in a second to verify them and to compare replicas (docs/scrubbing.md). 0: never, though damage that readers meet is repaired all the same."},
		{Name: "scrub-interval-minutes", Default: "10080", kind: minutes(0), field: func(c *Config) any { return &unitDuration{&c.ScrubInterval, time.Minute} },
			Help: "From the begin of one verification of all logs to that of the next; the first begins ten minutes after the start at the latest. 0: only when `chronik cluster scrub --now` asks for it."},
		{Name: "log.cleaner.backoff.ms", Default: "15000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.LogCleanerBackoff) },
			Help: "How often logs are searched for what can be compacted."},
		{Name: "log.cleaner.threads", Default: "1", kind: count(1, 1024), field: func(c *Config) any { return &c.LogCleanerThreads },
			Help: "How many logs are compacted at a time."},
		{Name: "log.cleaner.dedupe.buffer.size", Default: "134217728", kind: size(1<<20, int64Max), field: func(c *Config) any { return &c.LogCleanerMemoryBytes },
			Help: "Memory for the keys of all logs that are compacted at a time, 24 bytes each. A log with more keys than its share takes several passes."},
	}},
	section{"Producers and groups", []Setting{
		{Name: "producer.id.expiration.ms", Default: "86400000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.ProducerIDExpiration) },
			Help: "How long a partition remembers a producer that writes nothing, to recognise its repeats."},
		{Name: "offsets.topic.num.partitions", Default: "50", kind: count(1, 100000), field: func(c *Config) any { return &c.OffsetsPartitions },
			Help: "Partitions of the topic that holds groups and their offsets. Must not change once the topic exists."},
		{Name: "offsets.topic.replication.factor", Default: "3", kind: count(1, 32767), field: func(c *Config) any { return &c.OffsetsReplicationFactor },
			Help: "Replicas of the topic that holds groups and their offsets; as many as there are nodes in a smaller cluster."},
		{Name: "offsets.retention.minutes", Default: "10080", kind: minutes(1), field: func(c *Config) any { return &unitDuration{&c.OffsetsRetention, time.Minute} },
			Help: "How long the offsets of a group without members are kept."},
		{Name: "offsets.retention.check.interval.ms", Default: "600000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.OffsetsRetentionCheckInterval) },
			Help: "How often groups are searched for offsets whose time is over."},
		{Name: "offset.metadata.max.bytes", Default: "4096", kind: size(0, int32Max), field: func(c *Config) any { return &c.OffsetMetadataBytesMax },
			Help: "The longest text that a client may store with a committed offset."},
		{Name: "group.min.session.timeout.ms", Default: "6000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.GroupSessionTimeoutMin) },
			Help: "The shortest session that a member of a classic group may ask for."},
		{Name: "group.max.session.timeout.ms", Default: "1800000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.GroupSessionTimeoutMax) },
			Help: "The longest session that a member of a classic group may ask for."},
		{Name: "group.initial.rebalance.delay.ms", Default: "3000", kind: ms(0), field: func(c *Config) any { return milliseconds(&c.GroupInitialRebalanceDelay) },
			Help: "How long a new classic group waits for more members before its first rebalance."},
		{Name: "group.max.size", Default: "2147483647", kind: count(1, int32Max), field: func(c *Config) any { return &c.GroupSizeMax },
			Help: "Members of one classic group."},
		{Name: "group.consumer.session.timeout.ms", Default: "45000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.GroupConsumerSessionTimeout) },
			Help: "After how long without a heartbeat a member of a consumer group (KIP-848) is removed."},
		{Name: "group.consumer.heartbeat.interval.ms", Default: "5000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.GroupConsumerHeartbeatInterval) },
			Help: "How often members of a consumer group (KIP-848) are told to send a heartbeat."},
		{Name: "group.consumer.assignment.interval.ms", Default: "0", kind: ms(0), field: func(c *Config) any { return milliseconds(&c.GroupConsumerAssignmentInterval) },
			Help: "The least time between two assignments of a consumer group (KIP-1263): with more than 0, many members that come one after another are given partitions together. One group may have another value: `consumer.assignment.interval.ms`."},
		{Name: "group.consumer.assignors", Default: "uniform,range", kind: words("uniform", "range"), field: func(c *Config) any { return &c.GroupConsumerAssignors },
			Help: "The assignors that members of consumer groups (KIP-848) may name; the first is that of members who name none."},
		{Name: "group.consumer.migration.policy", Default: "bidirectional", kind: word("bidirectional", "upgrade", "downgrade", "disabled"), field: func(c *Config) any { return &c.GroupConsumerMigrationPolicy },
			Help: "Which live groups change their protocol when a member of the other one joins (upgrade to that of KIP-848), or the last one goes (downgrade)."},
		{Name: "group.consumer.max.size", Default: "2147483647", kind: count(1, int32Max), field: func(c *Config) any { return &c.GroupConsumerSizeMax },
			Help: "Members of one consumer group (KIP-848)."},
		{Name: "group-lag-partitions-max", Default: "10000", kind: count(0, 1<<24), field: func(c *Config) any { return &c.GroupLagPartitionsMax },
			Help: "The most partitions of groups whose lag /metrics of one node shows, each with two series; `chronik_group_lag_partitions_omitted` counts the others. 0: none."},
	}},
	section{"Replication and failover", []Setting{
		{Name: "replica.lag.time.max.ms", Default: "10000", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.ReplicaLagTimeMax) },
			Help: "A follower that has not caught up for so long leaves the in-sync set."},
		{Name: lagMessages, Default: "0", kind: count(0, int64Max), field: func(c *Config) any { return &c.ReplicaLagMessagesMax },
			Help: "A follower that lacks more records than this leaves the in-sync set at once. 0: only time counts."},
		{Name: "broker.session.timeout.ms", Default: "1000", kind: ms(10), field: func(c *Config) any { return milliseconds(&c.BrokerSessionTimeout) },
			Help: "After how long without a heartbeat a node is taken for dead and others lead in its place."},
		{Name: "broker.heartbeat.interval.ms", Default: "100", kind: ms(1), field: func(c *Config) any { return milliseconds(&c.BrokerHeartbeatInterval) },
			Help: "How often a node tells the controller that it lives; at most half of `broker.session.timeout.ms`."},
		{Name: "controller.quorum.election.timeout.ms", Default: "800", kind: ms(10), field: func(c *Config) any { return milliseconds(&c.QuorumElectionTimeout) },
			Help: "After how long at the most without word from the controller the voters elect another; after half of it at the least."},
		{Name: "auto.leader.rebalance.enable", Default: "true", kind: boolean, field: func(c *Config) any { return &c.LeaderRebalanceEnable },
			Help: "Give partitions back to their preferred leaders when those are in sync again."},
		{Name: "leader.imbalance.check.interval.seconds", Default: "300", kind: seconds(1), field: func(c *Config) any { return &unitDuration{&c.LeaderImbalanceCheckInterval, time.Second} },
			Help: "How often partitions are given back to their preferred leaders."},
	}},
)

type section struct {
	name     string
	settings []Setting
}

func inSections(sections ...section) []Setting {
	var all []Setting
	for _, s := range sections {
		for _, setting := range s.settings {
			setting.Section = s.name
			all = append(all, setting)
		}
	}
	return all
}

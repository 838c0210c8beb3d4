package config

import (
	"math"
	"strconv"
	"time"
)

// TopicConfig is the effective configuration of one topic on one node.
// Durations of "no limit" are Forever.
type TopicConfig struct {
	Compact, Delete        bool // cleanup.policy; neither: records are kept for ever
	RetentionTime          time.Duration
	RetentionBytes         int64 // -1: no limit
	SegmentBytes           int32
	SegmentTime            time.Duration
	SegmentIndexBytes      int32
	IndexIntervalBytes     int32
	MaxMessageBytes        int32
	MinInSync              int32 // to be capped by the number of replicas
	UncleanLeaderElection  bool
	CompressionType        string // producer, uncompressed, gzip, snappy, lz4, zstd
	GzipLevel              int
	LZ4Level               int
	ZstdLevel              int
	LogAppendTime          bool          // else CreateTime
	TimestampBeforeMax     time.Duration // how far before the broker's clock a timestamp may be
	TimestampAfterMax      time.Duration
	DeleteRetention        time.Duration // how long tombstones stay
	MinCompactionLag       time.Duration
	MaxCompactionLag       time.Duration
	MinCleanableDirtyRatio float64
	FlushMessages          int64         // 1: an acknowledgement means on disk
	FlushTime              time.Duration // how long records may stay unsynced
	LeaderThrottled        string        // replicas whose catching up is throttled by their leader; ask Throttles
	FollowerThrottled      string        // and by who follows
}

// Forever stands for a duration that Kafka's milliseconds hold but Go's
// nanoseconds do not, and for -1 where that means no limit.
const Forever = time.Duration(math.MaxInt64)

// FlushEach says whether each batch is on disk before it is acknowledged.
func (c *TopicConfig) FlushEach() bool { return c.FlushMessages == 1 }

// brokerName is a broker config that gives a topic config its default.
type brokerName struct {
	name string
	unit int64 // topic config's units in one of the broker config's
}

type topicKey struct {
	Key
	rule    rule
	brokers []brokerName // the first is the synonym in DescribeConfigs, the others are coarser ones
	hidden  bool         // not shown unless set
	set     func(c *TopicConfig, value string)
}

const hour, minute = int64(time.Hour / time.Millisecond), int64(time.Minute / time.Millisecond)

func same(name string) []brokerName { return []brokerName{{name, 1}} }

func milliseconds(field func(*TopicConfig) *time.Duration) func(*TopicConfig, string) {
	return func(c *TopicConfig, value string) { *field(c) = parseMillis(value) }
}

func parseMillis(value string) time.Duration {
	v := parseInt(value)
	if v == -1 || v > int64(Forever/time.Millisecond) {
		return Forever
	}
	return time.Duration(v) * time.Millisecond
}

func parseInt(value string) int64 {
	v, _ := strconv.ParseInt(value, 10, 64)
	return v
}

const maxLong = "9223372036854775807"

var topicTable = []topicKey{
	{Key: Key{Name: "cleanup.policy", Type: List, Default: "delete", Doc: "What happens to old records: delete drops whole segments by age and size, compact keeps the last record of each key; both may be given, and with neither records are kept for ever."},
		rule: list(elementOf("compact", "delete")), brokers: same("log.cleanup.policy"),
		set: func(c *TopicConfig, v string) {
			c.Compact, c.Delete = false, false
			for _, p := range SplitList(v) {
				c.Compact = c.Compact || p == "compact"
				c.Delete = c.Delete || p == "delete"
			}
		}},
	{Key: Key{Name: "compression.gzip.level", Type: Int, Default: "-1", Doc: "The gzip level where the broker compresses: 1 to 9, or -1 for the library's choice."},
		rule: gzipLevel, brokers: same("compression.gzip.level"),
		set: func(c *TopicConfig, v string) { c.GzipLevel = int(parseInt(v)) }},
	{Key: Key{Name: "compression.lz4.level", Type: Int, Default: "9", Doc: "The lz4 level where the broker compresses: 1 to 17."},
		rule: intIn(1, 17), brokers: same("compression.lz4.level"),
		set: func(c *TopicConfig, v string) { c.LZ4Level = int(parseInt(v)) }},
	{Key: Key{Name: "compression.type", Type: String, Default: "producer", Doc: "How batches are stored: producer keeps what the producer chose, the others recompress or uncompress."},
		rule: oneOf("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"), brokers: same("compression.type"),
		set: func(c *TopicConfig, v string) { c.CompressionType = v }},
	{Key: Key{Name: "compression.zstd.level", Type: Int, Default: "3", Doc: "The zstd level where the broker compresses: up to 22; negative ones are faster."},
		rule: intIn(-131072, 22), brokers: same("compression.zstd.level"),
		set: func(c *TopicConfig, v string) { c.ZstdLevel = int(parseInt(v)) }},
	{Key: Key{Name: "delete.retention.ms", Type: Long, Default: "86400000", Doc: "How long the mark of a deleted key stays in a compacted topic, so that slow readers see it."},
		rule: longFrom(0), brokers: same("log.cleaner.delete.retention.ms"),
		set: milliseconds(func(c *TopicConfig) *time.Duration { return &c.DeleteRetention })},
	{Key: Key{Name: "file.delete.delay.ms", Type: Long, Default: "60000", Doc: "Kept for tools that set it; space is given back at once here, and who still reads a file reads on."},
		rule: longFrom(0), brokers: same("log.segment.delete.delay.ms"),
		set: func(*TopicConfig, string) {}},
	{Key: Key{Name: "flush.messages", Type: Long, Default: "1", Doc: "After how many records the log is synced. 1, the default here, means that an acknowledged record is on disk; Kafka's own default of 9223372036854775807 leaves that to the operating system."},
		rule: longFrom(1), brokers: same("log.flush.interval.messages"),
		set: func(c *TopicConfig, v string) { c.FlushMessages = parseInt(v) }},
	{Key: Key{Name: "flush.ms", Type: Long, Default: maxLong, Doc: "After how much time the log is synced if flush.messages did not ask for it before."},
		rule: longFrom(0), brokers: []brokerName{{"log.flush.interval.ms", 1}, {"log.flush.scheduler.interval.ms", 1}},
		set: milliseconds(func(c *TopicConfig) *time.Duration { return &c.FlushTime })},
	{Key: Key{Name: "follower.replication.throttled.replicas", Type: List, Default: "", Doc: "Replicas, as PARTITION:NODE, or * for all, that catch up at no more than follower.replication.throttled.rate of their node."},
		rule: throttledReplicas, set: func(c *TopicConfig, v string) { c.FollowerThrottled = v }},
	{Key: Key{Name: "index.interval.bytes", Type: Int, Default: "4096", Doc: "How many bytes of log there are for each entry of the offset index; at least 4096."},
		rule: intFrom(0), brokers: same("log.index.interval.bytes"),
		set: func(c *TopicConfig, v string) { c.IndexIntervalBytes = int32(parseInt(v)) }},
	{Key: Key{Name: "leader.replication.throttled.replicas", Type: List, Default: "", Doc: "Partitions with the node that leads them, as PARTITION:NODE, or * for all, whose followers that catch up get no more than leader.replication.throttled.rate of that node."},
		rule: throttledReplicas, set: func(c *TopicConfig, v string) { c.LeaderThrottled = v }},
	{Key: Key{Name: "local.retention.bytes", Type: Long, Default: "-2", Doc: "Kept for tools that set it; there is no tiered storage here."},
		rule: longFrom(-2), brokers: same("log.local.retention.bytes"),
		set: func(*TopicConfig, string) {}},
	{Key: Key{Name: "local.retention.ms", Type: Long, Default: "-2", Doc: "Kept for tools that set it; there is no tiered storage here."},
		rule: longFrom(-2), brokers: same("log.local.retention.ms"),
		set: func(*TopicConfig, string) {}},
	{Key: Key{Name: "max.compaction.lag.ms", Type: Long, Default: maxLong, Doc: "The longest time that a record stays out of reach of compaction."},
		rule: longFrom(1), brokers: same("log.cleaner.max.compaction.lag.ms"),
		set: milliseconds(func(c *TopicConfig) *time.Duration { return &c.MaxCompactionLag })},
	{Key: Key{Name: "max.message.bytes", Type: Int, Default: "1048588", Doc: "The largest record batch that a producer may send, as it is stored."},
		rule: intFrom(0), brokers: same("message.max.bytes"),
		set: func(c *TopicConfig, v string) { c.MaxMessageBytes = int32(parseInt(v)) }},
	{Key: Key{Name: "message.timestamp.after.max.ms", Type: Long, Default: "3600000", Doc: "How far a record's timestamp may be ahead of the broker's clock."},
		rule: longFrom(0), brokers: same("log.message.timestamp.after.max.ms"),
		set: milliseconds(func(c *TopicConfig) *time.Duration { return &c.TimestampAfterMax })},
	{Key: Key{Name: "message.timestamp.before.max.ms", Type: Long, Default: maxLong, Doc: "How far a record's timestamp may be behind the broker's clock."},
		rule: longFrom(0), brokers: same("log.message.timestamp.before.max.ms"),
		set: milliseconds(func(c *TopicConfig) *time.Duration { return &c.TimestampBeforeMax })},
	{Key: Key{Name: "message.timestamp.type", Type: String, Default: "CreateTime", Doc: "Whose clock stamps records: CreateTime the producer's, LogAppendTime the broker's."},
		rule: oneOf("CreateTime", "LogAppendTime"), brokers: same("log.message.timestamp.type"),
		set: func(c *TopicConfig, v string) { c.LogAppendTime = v == "LogAppendTime" }},
	{Key: Key{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", Doc: "The share of a compacted log that must be new before it is compacted again."},
		rule: doubleIn(0, 1), brokers: same("log.cleaner.min.cleanable.ratio"),
		set: func(c *TopicConfig, v string) { c.MinCleanableDirtyRatio, _ = strconv.ParseFloat(v, 64) }},
	{Key: Key{Name: "min.compaction.lag.ms", Type: Long, Default: "0", Doc: "The shortest time that a record stays out of reach of compaction."},
		rule: longFrom(0), brokers: same("log.cleaner.min.compaction.lag.ms"),
		set: milliseconds(func(c *TopicConfig) *time.Duration { return &c.MinCompactionLag })},
	{Key: Key{Name: "min.insync.replicas", Type: Int, Default: "1", Doc: "How many replicas must have a record of a producer with acks=all before it is acknowledged; never more than the topic has replicas."},
		rule: intFrom(1), brokers: same("min.insync.replicas"),
		set: func(c *TopicConfig, v string) { c.MinInSync = int32(parseInt(v)) }},
	{Key: Key{Name: "preallocate", Type: Boolean, Default: "false", Doc: "Kept for tools that set it; space is reserved in pieces as a segment grows."},
		rule: boolean, brokers: same("log.preallocate"),
		set: func(*TopicConfig, string) {}},
	{Key: Key{Name: "remote.log.copy.disable", Type: Boolean, Default: "false", Doc: "Kept for tools that set it; there is no tiered storage here."},
		rule: boolean, set: func(*TopicConfig, string) {}},
	{Key: Key{Name: "remote.log.delete.on.disable", Type: Boolean, Default: "false", Doc: "Kept for tools that set it; there is no tiered storage here."},
		rule: boolean, set: func(*TopicConfig, string) {}},
	{Key: Key{Name: "remote.storage.enable", Type: Boolean, Default: "false", Doc: "Tiered storage for the topic; it cannot be turned on here."},
		rule: onlyFalse("this cluster has no tiered storage"), set: func(*TopicConfig, string) {}},
	{Key: Key{Name: "retention.bytes", Type: Long, Default: "-1", Doc: "With cleanup.policy delete: how large each partition may become before its oldest segments are dropped; negative means no limit."},
		rule: longFrom(math.MinInt64), brokers: same("log.retention.bytes"),
		set: func(c *TopicConfig, v string) { c.RetentionBytes = max(parseInt(v), -1) }},
	{Key: Key{Name: "retention.ms", Type: Long, Default: "604800000", Doc: "With cleanup.policy delete: how long records are kept; -1 means no limit."},
		rule: longFrom(-1), brokers: []brokerName{{"log.retention.ms", 1}, {"log.retention.minutes", minute}, {"log.retention.hours", hour}},
		set: milliseconds(func(c *TopicConfig) *time.Duration { return &c.RetentionTime })},
	{Key: Key{Name: "segment.bytes", Type: Int, Default: "1073741824", Doc: "The size at which a new segment is begun."},
		rule: intFrom(1 << 20), brokers: same("log.segment.bytes"),
		set: func(c *TopicConfig, v string) { c.SegmentBytes = int32(parseInt(v)) }},
	{Key: Key{Name: "segment.index.bytes", Type: Int, Default: "10485760", Doc: "Kept for tools that set it; indices have no limit of their own here."},
		rule: intFrom(4), brokers: same("log.index.size.max.bytes"),
		set: func(c *TopicConfig, v string) { c.SegmentIndexBytes = int32(parseInt(v)) }},
	{Key: Key{Name: "segment.jitter.ms", Type: Long, Default: "0", Doc: "Kept for tools that set it; segments are rolled as writes come, without jitter."},
		rule: longFrom(0), brokers: []brokerName{{"log.roll.jitter.ms", 1}, {"log.roll.jitter.hours", hour}},
		set: func(*TopicConfig, string) {}},
	{Key: Key{Name: "segment.ms", Type: Long, Default: "604800000", Doc: "The age at which a new segment is begun even if the last one is not full."},
		rule: longFrom(1), brokers: []brokerName{{"log.roll.ms", 1}, {"log.roll.hours", hour}},
		set: milliseconds(func(c *TopicConfig) *time.Duration { return &c.SegmentTime })},
	{Key: Key{Name: "unclean.leader.election.enable", Type: Boolean, Default: "false", Doc: "Whether a replica that lacks acknowledged records may lead when no other is left: the topic is available again, and those records are lost."},
		rule: boolean, brokers: same("unclean.leader.election.enable"),
		set: func(c *TopicConfig, v string) { c.UncleanLeaderElection = v == "true" }},
	// For tests of many segments. It comes last so that it wins over segment.bytes.
	{Key: Key{Name: "internal.segment.bytes", Type: Int, NoDefault: true, Doc: "A segment size below the limit of segment.bytes, for tests."}, hidden: true,
		rule: intFrom(math.MinInt32), set: func(c *TopicConfig, v string) {
			if n := parseInt(v); n > 0 {
				c.SegmentBytes = int32(n)
			}
		}},
}

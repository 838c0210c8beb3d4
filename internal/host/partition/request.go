package partition

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
	"chronik/internal/storage/wal"
)

// ProduceRequest asks for one batch to be appended.
type ProduceRequest struct {
	Records  []byte // as the client sent them; valid during the call only
	Acks     int16  // -1, 0 or 1
	Timeout  time.Duration
	Version  int16 // of the Produce request; 0 stands for the newest
	Internal bool  // from a coordinator of this broker: no verification, control batches allowed
	// LeaderEpoch is the one in which an Internal batch was decided: it is not appended in another.
	LeaderEpoch kafka.LeaderEpoch
	// TxnVerification is what BeginVerification returned, 0 when it said that none is needed.
	TxnVerification uint64
	// AfterRefusal says that an earlier batch of the same producer on the same
	// connection has just been refused (its place in the sequence is open).
	AfterRefusal bool
}

// RecordError says what is wrong with one record of a batch.
type RecordError struct {
	Index   int32
	Message string
}

// ProduceResult answers a ProduceRequest.
type ProduceResult struct {
	Code          kafka.ErrorCode
	Message       string // "" is none
	RecordErrors  []RecordError
	BaseOffset    kafka.Offset // NoOffset on failure
	LogAppendTime int64        // -1 when the topic stores the producer's times
	LogStart      kafka.Offset // NoOffset where the log was not asked
}

// Isolation is a consumer's isolation level, numbered as in the protocol.
type Isolation int8

// The isolation levels.
const (
	ReadUncommitted Isolation = 0
	ReadCommitted   Isolation = 1
)

// NoReplicaID marks a read by a consumer.
const NoReplicaID kafka.NodeID = -1

// ReadRequest asks for records from an offset on.
type ReadRequest struct {
	Offset             kafka.Offset
	MaxBytes           int
	MinOneMessage      bool              // the first batch is returned even if it is larger than MaxBytes
	CurrentLeaderEpoch kafka.LeaderEpoch // NoLeaderEpoch: not checked
	LastFetchedEpoch   kafka.LeaderEpoch // NoLeaderEpoch: no divergence check
	Isolation          Isolation
	ReplicaID          kafka.NodeID // NoReplicaID for consumers; a replica reads to the log's end
	FromFollower       bool         // a follower may answer (KIP-392)
	Buf                []byte       // records are appended to it
}

// ReadResult answers a ReadRequest. On an error all offsets are -1.
type ReadResult struct {
	Code             kafka.ErrorCode
	Records          []byte // Buf with whole batches appended; nil when there are none and Buf was nil
	HighWatermark    kafka.Offset
	LastStableOffset kafka.Offset
	LogStart         kafka.Offset
	Aborted          []replica.AbortedTxn // for read_committed; sorted by first offset
	Diverging        *replica.EpochStart  // set: the reader's log diverges; Epoch and its end offset
}

// ListOffsetsRequest asks for the offset of a time, or of one of the special
// timestamps kafka.TimestampLatest and so on.
type ListOffsetsRequest struct {
	Timestamp          int64
	Isolation          Isolation
	ReplicaID          kafka.NodeID
	CurrentLeaderEpoch kafka.LeaderEpoch // NoLeaderEpoch: not checked
}

// ListOffsetsResult answers a ListOffsetsRequest.
type ListOffsetsResult struct {
	Code        kafka.ErrorCode
	Offset      kafka.Offset // NoOffset when no record is that young
	Timestamp   int64        // -1 for the special timestamps and when there is none
	LeaderEpoch kafka.LeaderEpoch
}

// EpochEndResult answers OffsetForLeaderEpoch.
type EpochEndResult struct {
	Code        kafka.ErrorCode
	LeaderEpoch kafka.LeaderEpoch
	EndOffset   kafka.Offset
}

// DeleteRecordsResult answers DeleteRecords.
type DeleteRecordsResult struct {
	Code         kafka.ErrorCode
	LowWatermark kafka.Offset
}

// TopicConfig is what a partition needs of its topic's configs. The zero
// value of a field is not its default: use DefaultTopicConfig.
type TopicConfig struct {
	MaxMessageBytes     int           // max.message.bytes
	CompressionType     string        // compression.type: "producer" keeps what the client chose
	CompressionLevel    int           // of the codec named by CompressionType; LevelDefault for the codec's own
	LogAppendTime       bool          // message.timestamp.type
	TimestampBeforeMax  time.Duration // message.timestamp.before.max.ms; ≥ MaxDuration: no limit
	TimestampAfterMax   time.Duration // message.timestamp.after.max.ms
	Compact             bool          // cleanup.policy has compact
	Delete              bool          // cleanup.policy has delete
	RetentionTime       time.Duration // retention.ms; negative: no limit
	RetentionBytes      int64         // retention.bytes; negative: no limit
	SegmentBytes        int64         // segment.bytes
	SegmentTime         time.Duration // segment.ms
	SegmentIndexBytes   int64         // segment.index.bytes
	IndexIntervalBytes  int64         // index.interval.bytes
	MinInSync           int           // min.insync.replicas
	FlushMessages       int64         // flush.messages; 1: every acknowledgement means on disk
	FlushTime           time.Duration // flush.ms
	DeleteRetentionTime time.Duration // delete.retention.ms
	MinCompactionLag    time.Duration // min.compaction.lag.ms
	MaxCompactionLag    time.Duration // max.compaction.lag.ms
	MinDirtyRatio       float64       // min.cleanable.dirty.ratio
	LeaderThrottled     string        // leader.replication.throttled.replicas
	FollowerThrottled   string        // follower.replication.throttled.replicas
	ProducerExpiration  time.Duration // producer.id.expiration.ms, of the broker; 0: the default
}

// LevelDefault stands for a codec's own default level.
const LevelDefault = -1 << 31

// MaxDuration stands for "no limit" in durations.
const MaxDuration = time.Duration(1<<63 - 1)

// DefaultTopicConfig holds Kafka's defaults, but for flush.messages.
func DefaultTopicConfig() TopicConfig {
	return TopicConfig{
		MaxMessageBytes:     1048588,
		CompressionType:     "producer",
		CompressionLevel:    LevelDefault,
		TimestampBeforeMax:  MaxDuration,
		TimestampAfterMax:   time.Hour,
		Delete:              true,
		RetentionTime:       7 * 24 * time.Hour,
		RetentionBytes:      -1,
		SegmentBytes:        1 << 30,
		SegmentTime:         7 * 24 * time.Hour,
		SegmentIndexBytes:   10 << 20,
		IndexIntervalBytes:  4096,
		MinInSync:           1,
		FlushMessages:       1,
		FlushTime:           MaxDuration,
		DeleteRetentionTime: 24 * time.Hour,
		MaxCompactionLag:    MaxDuration,
		MinDirtyRatio:       0.5,
	}
}

// Status is a snapshot of a partition for metadata, metrics and tools.
type Status struct {
	Role             replica.Role
	Leader           kafka.NodeID
	LeaderEpoch      kafka.LeaderEpoch
	PartitionEpoch   kafka.PartitionEpoch
	Replicas         []kafka.NodeID
	InSync           []kafka.NodeID
	MinInSync        int // effective: capped by the number of replicas
	LogStart         kafka.Offset
	End              kafka.Offset
	Synced           kafka.Offset
	HighWatermark    kafka.Offset
	LastStableOffset kafka.Offset
	Size             int64
	Fenced           bool // the node takes itself for fenced: nothing is acknowledged
	Offline          bool // the log failed; nothing works until it is opened again
	Followers        []replica.FollowerStatus
}

// Limits says which limits on replication a piece counts towards.
type Limits struct {
	Leader   bool         // leader.replication.throttled.rate of this node
	Follower bool         // follower.replication.throttled.rate of To
	To       kafka.NodeID // the follower
}

// Env is what a partition needs of its node. None of its methods may call the
// partition before it returns, except where it says so.
type Env interface {
	// Send hands a message to the connection with msg.To, which may lose it.
	// It is called with the partition's lock held: it must not block, and must
	// have copied the message and its records when it returns.
	Send(p *Partition, msg *replica.Message)
	// ScheduleSync has p.RunSync called once, soon or before it returns, and
	// never twice at a time for the same partition.
	ScheduleSync(p *Partition)
	// RequestInSync sends the change to the controller. The answer goes to
	// p.HandleInSyncResult, at once or later; if none will come, a result with
	// REQUEST_TIMED_OUT does.
	RequestInSync(p *Partition, change replica.InSyncChange)
	// At has fn called once when t has come. It is never called back before it returns.
	At(t time.Time, fn func(now time.Time))
	// Admit is asked before a piece of the log of up to want bytes is read for a
	// follower that catches up under a limit. It says how many bytes it may
	// have, which count as sent, or after how long to ask again.
	Admit(now time.Time, l Limits, want int) (bytes int, wait time.Duration)
	// Sent corrects what Admit has counted by so many bytes.
	Sent(now time.Time, l Limits, more int)
	// Slow reports that the partition's leader here has waited so long for its
	// disk for what a follower in sync has on its own. It is repeated now and
	// then while that is so.
	Slow(p *Partition, since time.Duration)
	// Failed reports that the partition's log failed (KAFKA_STORAGE_ERROR) and
	// the partition is offline on this node until it is opened again. It is
	// called once.
	Failed(p *Partition, err error)
	// Damaged reports that something in the log is not as it was written. The
	// rest of the log is of use.
	Damaged(p *Partition, damage *wal.CorruptError)
}

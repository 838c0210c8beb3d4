package replica

import (
	"time"

	"chronik/internal/base/kafka"
)

// Ticket is a number by which the caller knows a request again.
type Ticket uint64

// NoTicket marks a request that wants no answer.
const NoTicket Ticket = 0

// EpochStart says at which offset a leader epoch begins.
type EpochStart struct {
	Epoch kafka.LeaderEpoch
	Start kafka.Offset
}

// Ready lists what the caller must now do, in the order of the fields. It is
// valid until the next call of the Replica's methods that give it input.
type Ready struct {
	Reset    *Trim         // drop the whole log and begin there; report with Truncated
	Truncate *kafka.Offset // drop this offset and all after it; report with Truncated
	Epoch    *EpochStart   // note the start of a leader epoch durably
	Write    []byte        // append these batches; report with Written or WriteFailed, sync later and report with Synced
	Trim     *Trim         // the log starts elsewhere from now on
	Send     []Message     // to other nodes, only after what stands above
	InSync   *InSyncChange // ask the controller; report with InSyncResult
	Slow     *SlowDisk     // another replica had better lead: tell the controller
	Acked    []Ack         // committed: answer these
	Refused  []Refusal     // no longer possible: answer these with the typed reason
}

// Trim makes the log start at an offset. Producers are known by what they have
// written, also by what is gone, so State must be durable before anything is
// removed, and in a Reset take the place of what is known otherwise at once with
// that: Restore takes it after a restart or a truncation.
type Trim struct {
	Start kafka.Offset
	State []byte // a snapshot as of Start; nil if nothing is known of producers
}

// Ack answers a request that succeeded.
type Ack struct {
	Ticket    Ticket
	Offset    kafka.Offset // of the first record; for DeleteRecords the low watermark
	Timestamp int64        // of a duplicate: the timestamp of the batch; otherwise -1
}

// Refusal answers a request that failed.
type Refusal struct {
	Ticket Ticket
	Code   kafka.ErrorCode
}

// InSyncMember is one member of a wished-for in-sync set.
type InSyncMember struct {
	Node  kafka.NodeID
	Epoch kafka.BrokerEpoch // of the registration that caught up
}

// InSyncChange asks the controller for another in-sync set (KIP-497).
type InSyncChange struct {
	Seq            uint64 // numbers the wishes; comes back with the result
	LeaderEpoch    kafka.LeaderEpoch
	PartitionEpoch kafka.PartitionEpoch
	InSync         []InSyncMember
	Recovering     bool // LeaderRecoveryState to set; false once recovered
}

// InSyncResult is the controller's answer to an InSyncChange. Code is None
// when it was granted, and the code of a transport failure when the answer is
// not known.
type InSyncResult struct {
	Seq            uint64
	Code           kafka.ErrorCode
	LeaderEpoch    kafka.LeaderEpoch
	PartitionEpoch kafka.PartitionEpoch
	InSync         []kafka.NodeID
}

// Broker is what the metadata say of a broker that has a replica.
type Broker struct {
	Node   kafka.NodeID
	Epoch  kafka.BrokerEpoch
	Active bool // neither fenced nor shutting down (KIP-841)
}

// Assignment is what the metadata say of the partition.
type Assignment struct {
	LeaderEpoch    kafka.LeaderEpoch
	PartitionEpoch kafka.PartitionEpoch
	Leader         kafka.NodeID
	Replicas       []kafka.NodeID
	InSync         []kafka.NodeID
	Adding         []kafka.NodeID
	Removing       []kafka.NodeID
	Brokers        []Broker // of Replicas; a replica without an entry may not join the in-sync set
	Recovering     bool
}

// Proposal asks the leader to append one batch.
type Proposal struct {
	Ticket   Ticket
	Batch    []byte    // one batch with valid checksum; offset and leader epoch are stamped in place
	Acks     int16     // -1, 0 or 1
	Deadline time.Time // zero: wait for ever
	Guard    uint64    // of a transactional batch: what BeginVerification returned, 0 when none was needed
	// Internal marks a batch of a coordinator of this broker, which is held to
	// no verification.
	Internal bool
	// AfterRefusal says that an earlier batch of the same producer on the same
	// connection has just been refused, so that a producer of whom nothing is
	// known may only begin at sequence 0.
	AfterRefusal bool
}

// Marker ends a transaction on this partition.
type Marker struct {
	ProducerID       kafka.ProducerID
	ProducerEpoch    kafka.ProducerEpoch
	Commit           bool
	CoordinatorEpoch int32
	TV2              bool // transactions version 2: the epoch must be above the open transaction's (KIP-890)
}

// AbortedTxn is one aborted transaction, as read_committed fetches name them.
type AbortedTxn struct {
	ProducerID  kafka.ProducerID
	FirstOffset kafka.Offset
	LastOffset  kafka.Offset // of the ABORT marker
}

// Role is the part that a replica plays.
type Role uint8

// The roles.
const (
	Offline  Role = iota // no leader is known, or this node has no replica
	Follower             // appends what the leader sends
	Leader               // orders the records
)

// String is the role's name.
func (r Role) String() string { return [...]string{"offline", "follower", "leader"}[r] }

// FollowerStatus is a leader's view of one follower.
type FollowerStatus struct {
	Node       kafka.NodeID
	Streaming  bool // false: its log's end is not yet known
	Next       kafka.Offset
	Written    kafka.Offset
	Synced     kafka.Offset
	LogStart   kafka.Offset
	CaughtUpAt time.Time // last time at which it had all of the log
}

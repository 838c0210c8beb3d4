package replica

import "chronik/internal/base/kafka"

// Kind says what a Message means.
type Kind uint8

// The kinds of messages. L→F goes from the leader to a follower, F→L back.
const (
	Hello    Kind = 1 + iota // F→L: I follow you now, or have lost the thread: ask me
	Probe                    // L→F: where does your log end?
	State                    // F→L: answer to Probe, Truncate and Reset
	Truncate                 // L→F: your log diverges; cut it by (Epoch, Offset) and tell
	Reset                    // L→F: your log ends before mine starts, or is another one there; begin anew at Offset
	Append                   // L→F: batches, or only a moved high watermark or log start
	Stored                   // F→L: what of the stream is written and synced
)

// String is the kind's name.
func (k Kind) String() string {
	names := [...]string{"?", "Hello", "Probe", "State", "Truncate", "Reset", "Append", "Stored"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// Message is what replicas of one partition tell one another.
//
// Session numbers the leader's questions (Probe, Truncate, Reset) and the
// stream of appends that follows the last of them. A follower takes no
// question with a number that is not above all before, and a leader takes no
// answer but to its last question: so a late message changes nothing.
type Message struct {
	Kind        Kind
	To          kafka.NodeID // receiver; the sender is known from the connection
	LeaderEpoch kafka.LeaderEpoch
	Session     uint64

	// Epoch is in Append the epoch of the batch before Offset, in Truncate the
	// leader's largest epoch up to the follower's, in Hello and State that of
	// the follower's last batch; NoLeaderEpoch where there is none.
	Epoch kafka.LeaderEpoch
	// Offset is in Append that of the first record, in Truncate where Epoch
	// ends in the leader's log, in Reset the leader's log start, in Hello, State
	// and Stored the end of the follower's log.
	Offset kafka.Offset

	Synced        kafka.Offset      // F→L: end of what is durable
	HighWatermark kafka.Offset      // as the sender knows it
	LogStart      kafka.Offset      // of the sender's log
	BrokerEpoch   kafka.BrokerEpoch // F→L: the follower's registration
	NeedsAck      bool              // Append: answer at once, though there is nothing to sync

	// Records holds whole batches, one after the other; in Reset a snapshot of
	// producers as of Offset, if any are known. They are valid only until the
	// caller has acted on the message.
	Records []byte
	// ReadMax, when above 0, asks the caller to put up to so many bytes of
	// batches from Offset of the log into Records, and to report with Loaded.
	ReadMax int
	// Throttled, with ReadMax, says that the piece is to wait for its turn
	// under the limits on replication. Read numbers such requests: one that is
	// no longer wanted is known by it. Neither is sent.
	Throttled bool
	Read      uint64
}

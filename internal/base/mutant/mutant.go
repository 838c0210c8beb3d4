// Package mutant names deliberate bugs, by which it is seen that the simulator
// has teeth. They exist only in builds with the tag "mutants"; in any other, On
// is the constant false and nothing is left of them.
package mutant

// Mutant is one deliberate bug.
type Mutant uint8

// The bugs, each one that some system has had.
const (
	None                 Mutant = iota
	AckBeforeSync               // what is written counts as durable
	CommitOnCurrentSet          // the high watermark does not wait for those whose joining is asked for
	SkipTruncation              // a log that diverges is streamed to as it is
	NoEpochFence                // messages of other leader epochs are taken
	RetrySync                   // a sync that has failed is tried again, and believed
	ForgetProducers             // the state of producers is not rebuilt when a log is opened
	JoinBeforeEpochStart        // a follower joins the in-sync set before it has all that the leader began with
	AckAfterStepDown            // who waits when a leader steps down is told that all went well
	CountStaleSync              // a sync that began before a truncation counts after it
	IgnoreLease                 // a node serves after its lease has ended
	GrantUnconfirmed            // a controller grants leases without being sure that it leads still
	ElectAnyone                 // any live replica may become leader
	MetadataUnsynced            // entries of the metadata log are acknowledged before they are on disk
	VoteUnsaved                 // a vote is not written down

	ServeUnloaded        // a group coordinator answers before it has read its log
	AnswerUncommitted    // a group coordinator answers before its records are committed
	CommitFromAnyone     // commits are taken whoever sends them
	TwoLeaders           // every member of a generation is told that it leads
	GenerationKept       // a generation of a classic group has the number of the one before
	SessionsForgotten    // members in a log that was loaded have no session
	StaticRenameUnnoted  // the member that takes a static member's place is not noted as such
	StaticRenameUnlogged // it is, but not in the log
	ParkedSyncsLost      // who waits for an assignment is not told that there is none
	AssignBeforeRevoked  // a member gets a partition before the one that had it has given it up
	EpochKept            // the epoch of a KIP-848 group does not rise when members go
	UpgradeForgets       // what members have is forgotten when their group changes its protocol
	ExpireLive           // offsets expire though their group reads the topic
	count
)

// GroupsFrom is the first of those that are bugs of groups.
const GroupsFrom = ServeUnloaded

var names = [...]string{
	"none", "ack-before-sync", "commit-on-current-set", "skip-truncation", "no-epoch-fence", "retry-sync", "forget-producers",
	"join-before-epoch-start", "ack-after-step-down", "count-stale-sync", "ignore-lease", "grant-unconfirmed", "elect-anyone",
	"metadata-unsynced", "vote-unsaved",
	"serve-unloaded", "answer-uncommitted", "commit-from-anyone", "two-leaders", "generation-kept", "sessions-forgotten",
	"static-rename-unnoted", "static-rename-unlogged", "parked-syncs-lost", "assign-before-revoked", "epoch-kept",
	"upgrade-forgets", "expire-live",
}

// String is the bug's name.
func (m Mutant) String() string { return names[m] }

// All lists the bugs.
func All() []Mutant {
	var out []Mutant
	for m := None + 1; m < count; m++ {
		out = append(out, m)
	}
	return out
}

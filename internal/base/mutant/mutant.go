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

	TruncateShort              // a log that diverges keeps one record too many
	ReadUncommitted            // consumers read what is not committed
	EpochBelow                 // a leader epoch counts as known only below the one asked for
	RememberOneBatch           // only the last batch of a producer is known again
	SequenceGaps               // sequence numbers may leave gaps
	InSyncOfOldState           // an in-sync set is granted whatever has changed since it was wished for
	InSyncOfOldProcess         // a process counts as in sync for what the one before it had
	InSyncInactive             // fenced brokers may join an in-sync set
	SnapshotWithoutConfigs     // metadata snapshots lack the configs
	SnapshotWithoutProducerIDs // they lack which producer ids are given away
	SnapshotWithoutEligible    // they lack who is eligible though not in sync
	MinInSyncIgnored           // one replica in sync is enough for acks=all
	ReassignEarly              // replicas leave before those that are added have everything
	ConfigRemovalLost          // a config that is removed stays
	ProducerIDsTwice           // the same producer ids are given away again
	StartNotFollowed           // followers keep what the leader has deleted
	StartNotAdopted            // nor does a new leader what its followers have deleted
	StartForgotten             // where a log begins is not saved
	RetainTooLittle            // retention drops a segment too many
	UnsyncedFollower           // followers tell of what is written as if it were synced
	UnsyncedLeader             // the high watermark does not wait for the leader's own disk
	EpochStartUnnoted          // a leader does not note where its epoch begins
	CutKeepsProducers          // what is known of producers is not rebuilt after a truncation
	MarkBeyondEnd              // a follower takes a high watermark beyond its log
	CheckpointAhead            // a log's checkpoint tells of what is not synced
	SealedUnsynced             // a segment that is full is not synced any more
	NamesUnsynced              // the names of new segments are not synced
	IndexAfter                 // a record is looked for from the index entry after it
	TimeAfter                  // records of just the time that is asked for are passed over
	CompactLast                // compaction removes the last record of a key
	CompactUncommitted         // what is not committed supersedes what is
	OffsetsLost                // a group coordinator passes over the last batch of its log
	EndUncommitted             // ListOffsets tells the end of the log, not of what is committed
	LeaseFromAnswer            // a lease is counted from its answer, not from its question
	DeletedFilesKept           // the files of deleted topics stay
	RemovedInSync              // a node that is removed from the cluster stays in in-sync sets
	VoteForgotten              // a vote whose file is gone passes for never given
	KnowUnwritten              // a producer's batch is known again though it could not be written
	CompactEpochStarts         // compaction leaves nothing of the batch with which a leader epoch begins
	AckOneUnsynced             // acks=1 is acknowledged before it is on the leader's disk
	OldProducerEpoch           // batches of a producer's epoch that is over are taken
	EpochAnywhere              // a new epoch of a producer may begin with any sequence number
	ChecksumIgnored            // batches of producers are taken whatever their checksum
	KeysMissing                // compacted topics take records without keys
	SealedInMemory             // a segment is sealed with some of it not in its file
	FollowerUncommitted        // followers let consumers read what is not committed
	EpochOfNow                 // ListOffsets tells the leader's epoch, not the record's
	LagIgnored                 // compaction does not wait for min.compaction.lag.ms
	CompactNever               // compaction finds nothing to do
	RetainForever              // retention.ms takes nothing
	IndexEpochsLost            // which epochs are in a segment is not read off its index
	DirectoryUnsynced          // the names of new logs are not synced
	StateUnsynced              // state files are not synced before they get their names

	AllCommittedAtStart // what a node finds in its metadata log counts as committed
	IDsOverlap          // a block of producer ids has one too many
	EligibleAtMinimum   // replicas stay eligible when the in-sync set has just the minimum
	AnswerUnapplied     // who changes the metadata is told so before all nodes act on it
	ReplicasAsInSync    // Metadata tells of the replicas as if they were the in-sync set
	ConfigsNotFollowed  // partitions are not told of configs that change
	DeleteBelowMinimum  // deletions are acknowledged with fewer in sync than the minimum
	SessionOffsetKept   // fetch sessions keep the offset that they began with
	EmptyEligible       // a node that comes back with an empty disk is taken for what it was
	LostEligible        // one that was not in sync any more stays eligible with an empty disk

	WakeNever        // a high watermark that moves wakes none of those who wait to read
	WakeByRecord     // a change of hands wakes none of them, only records do
	WakeFirst        // a fetch of several partitions waits for the first alone
	WaitTooLong      // a fetch is answered long after its time is up
	WaitNever        // a fetch is answered though there is nothing
	MinBytesIgnored  // a fetch is answered as soon as there is anything
	AckByTimer       // acknowledgements wait for a timer
	DeletedByTimer   // those of deletions do
	ShipByTimer      // followers are sent what there is when they have answered, or by a timer
	PendingByFailure // a log that fails answers nobody
	OfflineUntold    // Metadata tells of no replica that it is not there
	CursorUntold     // DescribeTopicPartitions does not say where to go on
	LeaderHintOwn    // with NOT_LEADER_OR_FOLLOWER a node names itself as the leader
	ClientEpochTaken // a client that knows of a later leader epoch is answered

	DuplicateAcked    // a batch that comes again is acknowledged though it is not committed yet
	EpochKeepsBatches // a producer's batches of the epoch before pass for those of the next
	ExpireEarly       // producers are forgotten though they are not silent
	SyncOfNow         // a sync counts for what was written while it ran
	EndWhileBehind    // a new leader tells the end before it knows what was committed
	SessionStarves    // a fetch session always begins with the same partition
	SessionMarkUntold // a fetch session does not tell of a high watermark alone
	ExpireByRecord    // producers are forgotten by the time of their last record
	SeenLost          // a snapshot of producers does not say when they last wrote

	MaxTimeKept       // the largest timestamp of a log stays though its record is cut off
	LogEpochsKept     // a log that is cut keeps the leader epochs that began behind the cut
	RetainUncommitted // retention takes what is not committed
	DivergenceUntold  // who has read a log that diverges is given the records of this one
	OverdueIgnored    // max.compaction.lag.ms has nothing compacted
	TombstonesEarly   // tombstones go before delete.retention.ms is over
	OwnEpochsIgnored  // a log is cut where the leader's epoch ends, though its own of that number ends before
	HintsKept         // where readers were is believed after a truncation
	FollowerSyncKept  // what a follower has told of its disk counts though its log is another one
	StateKept         // what is noted of producers stays though it is of records that are cut off

	UnfitLeads          // replicas that their nodes cannot use may lead
	DamagedInSync       // a damaged replica stays in the in-sync set
	DamagedEligible     // it stays eligible though it is not in sync
	FitTooEarly         // a replica is called fit when the first of its segments is repaired
	DamageUntold        // the scrubber passes over what it finds damaged
	ScrubEndsAtDamage   // it leaves a log when it has found the first damage in it
	FollowersUnscrubbed // it leaves out logs that others lead
	VerifyUnchecked     // it does not look at the checksums of batches
	RepairUnsynced      // a segment that was made anew replaces the damaged one before it is on disk
	CorruptServed       // batches are read whatever their checksum
	ScrubMiscounts      // damage is counted twice

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
	LoadToGap            // a group coordinator takes a gap in its log, which compaction leaves, for the end
	LoadCommitted        // a group coordinator loads only what is committed when it begins
	CommitMetadataLost   // the metadata of a committed offset are not given back
	CommitNeverBack      // an offset below the one that is committed is not taken
	AllOffsetsUntold     // who asks for all offsets of a group is told none
	RevokingFree         // what a member has still to give up passes for nobody's
	RetainFromCommit     // offsets of an empty classic group grow old from their commit on, not from when it became empty
	OffsetsKeptForever   // offsets do not grow old
	CommitWhileMade      // commits are taken while a generation is made
	OldEpochHeartbeat    // heartbeats of any earlier epoch of a KIP-848 member are taken
	OldEpochCommit       // and so are commits
	InstanceUnfenced     // a member of a KIP-848 group may speak in the name of any instance
	InstanceTaken        // the place of a static member that lives can be had
	DeleteLiveGroup      // groups with members can be deleted
	DeleteReadOffsets    // so can offsets that members read
	OffsetsOutliveGroup  // the offsets of a group that is deleted stay
	GroupsComeBack       // that groups and members are gone is passed over in the log
	LoadAtOnce           // of a log that is read in parts, the first batch of the later ones is passed over
	ProtocolOfOne        // the protocol of a generation need not be known to all members
	RangeShort           // the assignor by ranges gives nobody the last partition
	DescribeOne          // only one member of a group is described
	ListNoEmpty          // groups without members are not listed
	LeaveOne             // only the first of several members that are to leave does
	OffsetsComeBack      // that offsets were deleted is passed over in the log
	count
)

// GroupsFrom is the first of those that are bugs of groups.
const GroupsFrom = ServeUnloaded

var names = [...]string{
	"none", "ack-before-sync", "commit-on-current-set", "skip-truncation", "no-epoch-fence", "retry-sync", "forget-producers",
	"join-before-epoch-start", "ack-after-step-down", "count-stale-sync", "ignore-lease", "grant-unconfirmed", "elect-anyone",
	"metadata-unsynced", "vote-unsaved",
	"truncate-short", "read-uncommitted", "epoch-below", "remember-one-batch", "sequence-gaps", "in-sync-of-old-state",
	"in-sync-of-old-process", "in-sync-inactive", "snapshot-without-configs", "snapshot-without-producer-ids",
	"snapshot-without-eligible", "min-in-sync-ignored", "reassign-early",
	"config-removal-lost", "producer-ids-twice", "start-not-followed", "start-not-adopted", "start-forgotten", "retain-too-little",
	"unsynced-follower", "unsynced-leader", "epoch-start-unnoted", "cut-keeps-producers",
	"mark-beyond-end", "checkpoint-ahead", "sealed-unsynced", "names-unsynced", "index-after", "time-after",
	"compact-last", "compact-uncommitted", "offsets-lost", "end-uncommitted", "lease-from-answer", "deleted-files-kept",
	"removed-in-sync", "vote-forgotten", "know-unwritten", "compact-epoch-starts",
	"ack-one-unsynced", "old-producer-epoch", "epoch-anywhere", "checksum-ignored", "keys-missing", "sealed-in-memory",
	"follower-uncommitted", "epoch-of-now", "lag-ignored", "compact-never", "retain-forever", "index-epochs-lost",
	"directory-unsynced", "state-unsynced",
	"all-committed-at-start", "ids-overlap", "eligible-at-minimum", "answer-unapplied", "replicas-as-in-sync",
	"configs-not-followed", "delete-below-minimum", "session-offset-kept", "empty-eligible", "lost-eligible",
	"wake-never", "wake-by-record", "wake-first", "wait-too-long", "wait-never", "min-bytes-ignored", "ack-by-timer", "deleted-by-timer",
	"ship-by-timer", "pending-by-failure", "offline-untold", "cursor-untold", "leader-hint-own", "client-epoch-taken",
	"duplicate-acked", "epoch-keeps-batches", "expire-early", "sync-of-now", "end-while-behind", "session-starves", "session-mark-untold", "expire-by-record", "seen-lost",
	"max-time-kept", "log-epochs-kept", "retain-uncommitted", "divergence-untold", "overdue-ignored", "tombstones-early", "own-epochs-ignored", "hints-kept", "follower-sync-kept", "state-kept",

	"unfit-leads", "damaged-in-sync", "damaged-eligible", "fit-too-early", "damage-untold", "scrub-ends-at-damage", "followers-unscrubbed",
	"verify-unchecked", "repair-unsynced", "corrupt-served", "scrub-miscounts",
	"serve-unloaded", "answer-uncommitted", "commit-from-anyone", "two-leaders", "generation-kept", "sessions-forgotten",
	"static-rename-unnoted", "static-rename-unlogged", "parked-syncs-lost", "assign-before-revoked", "epoch-kept",
	"upgrade-forgets", "expire-live", "load-to-gap", "load-committed", "commit-metadata-lost",
	"commit-never-back", "all-offsets-untold", "revoking-free",
	"retain-from-commit", "offsets-kept-forever", "commit-while-made", "old-epoch-heartbeat", "old-epoch-commit",
	"instance-unfenced", "instance-taken", "delete-live-group", "delete-read-offsets", "offsets-outlive-group",
	"groups-come-back", "load-at-once", "protocol-of-one", "range-short", "describe-one", "list-no-empty", "leave-one",
	"offsets-come-back",
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

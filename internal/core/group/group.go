// Package group decides for the groups of one partition of __consumer_offsets:
// who is a member, who owns what, and which offsets are committed.
//
// A Shard is stepped by its host. Decide and Tick change soft state only
// (members that wait, deadlines) and return records; the host applies those at
// once with Apply, appends them as one atomic batch, and releases the replies
// when they, and all records before them, are committed. When records cannot
// be committed the shard is thrown away and rebuilt from the log: Apply for
// each record, then Start.
//
// Both protocols are here: the classic one, where the members' leader assigns
// (classic*.go), and that of KIP-848, where the coordinator does
// (consumer*.go). Offsets are the same for both (offset*.go).
package group

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/format/offsets"
)

// Ticket is the host's number for a request that waits for its reply. Each is
// answered exactly once.
type Ticket uint64

// Record is one change of durable state.
type Record struct {
	Data     offsets.Record // nil for a marker
	Producer *Producer      // of the transaction that the record is part of; nil outside of one
	Marker   Marker         // ends the producer's transaction; stored as a control record
}

// Producer is the producer of a transaction.
type Producer struct {
	ID               kafka.ProducerID
	Epoch            kafka.ProducerEpoch
	CoordinatorEpoch int32 // of a marker
	TV2              bool  // of a marker of a transaction of version 2; not stored
}

// Marker is the end of a transaction.
type Marker int8

// Markers.
const (
	NoMarker     Marker = 0
	AbortMarker  Marker = 1
	CommitMarker Marker = 2
)

// Reply is the answer to the request that has Ticket.
type Reply struct {
	Ticket   Ticket
	Response Response
}

// Decision is what the host must do, in the order of the fields.
type Decision struct {
	Records []Record  // apply, then append as one atomic batch; all have the same Producer
	Replies []Reply   // release when Records, and all records before them, are committed
	Events  []Event   // what an operator may want to know
	Wake    time.Time // call Tick again by then; zero for never
}

// EventKind is the kind of an Event, a constant past-tense phrase.
type EventKind string

// The kinds of events.
const (
	EventRebalanceStarted   EventKind = "group rebalance started"
	EventGenerationStarted  EventKind = "group generation started"
	EventGenerationAssigned EventKind = "group assignment stored"
	EventGroupEmptied       EventKind = "group became empty"
	EventMemberJoined       EventKind = "group member joined"
	EventMemberLeft         EventKind = "group member left"
	EventMemberExpired      EventKind = "group member expired"
	EventMemberFenced       EventKind = "group member fenced"
	EventGroupDeleted       EventKind = "group deleted"
	EventOffsetsExpired     EventKind = "group offsets expired"
	EventGroupUpgraded      EventKind = "group went over to the consumer protocol"
	EventGroupDowngraded    EventKind = "group went back to the classic protocol"
)

// Event is something that happened in a group.
type Event struct {
	Kind       EventKind
	Group      string
	MemberID   string // "" when it is not about a member
	Generation int32  // or group epoch
	Members    int
	Cause      string // why, in words: "member X missed heartbeats for 45s"
}

// Topics is an immutable view of the cluster's topics.
type Topics interface {
	// Version changes with every change of what the view shows.
	Version() int64
	// ByName finds a topic; false when there is none.
	ByName(name string) (Topic, bool)
	// ByID finds a topic; false when there is none.
	ByID(id kafka.TopicID) (Topic, bool)
	// Each calls fn for all topics in the order of their names until it returns false.
	Each(fn func(Topic) bool)
}

// Topic is one topic of a Topics view.
type Topic struct {
	ID         kafka.TopicID
	Name       string
	Partitions int32
	Racks      func(partition int32) []string // of the replicas; nil when unknown
}

// Options are the settings of a shard. Zero values stand for the defaults.
type Options struct {
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms; default 3 s, negative for none
	SessionTimeoutMin     time.Duration // group.min.session.timeout.ms; default 6 s
	SessionTimeoutMax     time.Duration // group.max.session.timeout.ms; default 30 min
	MaxSize               int           // group.max.size: members of a classic group; default no limit
	OffsetsRetention      time.Duration // offsets.retention.minutes; default 7 days
	RetentionCheck        time.Duration // offsets.retention.check.interval.ms; default 10 min
	OffsetMetadataMax     int           // offset.metadata.max.bytes; default 4096, negative for none
	NewMemberTimeout      time.Duration // a joining member must be met by a generation within; default 5 min

	ConsumerSessionTimeout    time.Duration // group.consumer.session.timeout.ms; default 45 s
	ConsumerHeartbeatInterval time.Duration // group.consumer.heartbeat.interval.ms; default 5 s
	// ConsumerAssignmentInterval is the least time between two assignments of a
	// group (group.consumer.assignment.interval.ms, KIP-1263). Default none.
	ConsumerAssignmentInterval time.Duration
	// PerGroup has the settings of groups that have some of their own.
	PerGroup map[string]ConsumerSettings

	ConsumerMaxSize   int       // group.consumer.max.size; default no limit
	ConsumerAssignors []string  // group.consumer.assignors, the default first; default uniform, range
	Migration         Migration // group.consumer.migration.policy; default bidirectional
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.InitialRebalanceDelay, 3*time.Second)
	def(&o.SessionTimeoutMin, 6*time.Second)
	def(&o.SessionTimeoutMax, 30*time.Minute)
	def(&o.OffsetsRetention, 7*24*time.Hour)
	def(&o.RetentionCheck, 10*time.Minute)
	def(&o.NewMemberTimeout, 5*time.Minute)
	def(&o.ConsumerSessionTimeout, 45*time.Second)
	def(&o.ConsumerHeartbeatInterval, 5*time.Second)
	o.InitialRebalanceDelay = max(o.InitialRebalanceDelay, 0)
	if o.MaxSize <= 0 {
		o.MaxSize = 1<<31 - 1
	}
	if o.ConsumerMaxSize <= 0 {
		o.ConsumerMaxSize = 1<<31 - 1
	}
	if o.OffsetMetadataMax == 0 {
		o.OffsetMetadataMax = 4096
	}
	o.OffsetMetadataMax = max(o.OffsetMetadataMax, 0)
	if o.Migration == "" {
		o.Migration = MigrationBidirectional
	}
	if len(o.ConsumerAssignors) == 0 {
		o.ConsumerAssignors = []string{AssignorUniform, AssignorRange}
	}
	return o
}

// ConsumerSettings are those that a group of the KIP-848 protocol may have of
// its own. Zero values stand for those of all groups; but an assignment interval
// of none is negative.
type ConsumerSettings struct {
	SessionTimeout     time.Duration // consumer.session.timeout.ms
	HeartbeatInterval  time.Duration // consumer.heartbeat.interval.ms
	AssignmentInterval time.Duration // consumer.assignment.interval.ms
}

// settingsOf are the settings of a group of the KIP-848 protocol.
func (o *Options) settingsOf(group string) ConsumerSettings {
	c := o.PerGroup[group]
	if c.SessionTimeout == 0 {
		c.SessionTimeout = o.ConsumerSessionTimeout
	}
	if c.HeartbeatInterval == 0 {
		c.HeartbeatInterval = o.ConsumerHeartbeatInterval
	}
	if c.AssignmentInterval == 0 {
		c.AssignmentInterval = o.ConsumerAssignmentInterval
	}
	return c
}

// The assignors of the coordinator.
const (
	AssignorUniform = "uniform"
	AssignorRange   = "range"
)

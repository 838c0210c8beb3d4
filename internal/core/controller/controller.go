// Package controller decides the metadata records that answer a request or a
// deadline that has passed. It is the active controller without its Raft
// group: the host appends what Decide returns and calls Apply.
package controller

import (
	"math/rand/v2"
	"time"

	"chronik/internal/base/invariant"
	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// Ticket is a number that the host chooses to recognise a request's reply.
type Ticket uint64

// Decision is what the caller must now do, in the order of the fields.
type Decision struct {
	Records []metadata.Record // append these as one atomic batch and call Apply; may be empty
	Replies []Reply           // release when Records are committed; when there are none, at once
	Wake    time.Time         // call Tick again by then
	Events  []Event           // what an operator wants to know; log when Records are committed
}

// Reply answers the request with the given ticket.
type Reply struct {
	Ticket   Ticket
	Response Response
}

// Event is one line for the operator's log: what changed, to what, and why.
type Event struct {
	Kind      string // past tense, constant: "leader changed", "broker fenced"
	Topic     string // "" where it does not apply
	Partition int32
	Node      kafka.NodeID // NoNode where it does not apply
	Detail    string       // from what to what
	Cause     string       // why
}

// Options are the settings of a controller.
type Options struct {
	ClusterID string // for a cluster that has none; "" lets the controller draw one
	// SessionTimeout is how long a broker may be silent before it is fenced.
	// Default 1 s.
	SessionTimeout time.Duration
	// PreferredInterval is the time between elections of preferred leaders
	// that could lead but do not. Default: leader.imbalance.check.interval.seconds
	// where auto.leader.rebalance.enable allows it; negative: never.
	PreferredInterval time.Duration
	// UncleanInterval is the time between looks for partitions without a
	// leader that have one to elect. Default: unclean.leader.election.interval.ms.
	UncleanInterval time.Duration
	// ExpectedBrokers is how many brokers there will be once all have
	// registered. Internal topics are not created with fewer replicas than
	// these allow. Default: those that have registered.
	ExpectedBrokers int
	// Silent is for how long brokers had certainly not been heard of when the
	// controller began, which counts for their sessions. Default: nothing.
	Silent map[kafka.NodeID]time.Duration
	// Configs resolves configs with the static settings of the controller's
	// own node. Default: no static settings.
	Configs *config.Resolver
}

func (o Options) withDefaults(m *metadata.Image) Options {
	if o.SessionTimeout <= 0 {
		o.SessionTimeout = time.Second
	}
	if o.Configs == nil {
		r, err := config.NewResolver(kafka.NoNode, nil)
		invariant.Check(err == nil, "has no resolver for no settings")
		o.Configs = r
	}
	if o.PreferredInterval == 0 {
		o.PreferredInterval = time.Duration(o.Configs.BrokerInt(m, "leader.imbalance.check.interval.seconds")) * time.Second
		if !o.Configs.BrokerBool(m, "auto.leader.rebalance.enable") {
			o.PreferredInterval = -1
		}
	}
	if o.UncleanInterval <= 0 {
		o.UncleanInterval = time.Duration(o.Configs.BrokerInt(m, "unclean.leader.election.interval.ms")) * time.Millisecond
	}
	return o
}

// ticksPerSession is how often a session is looked at while it lasts, so that
// the time for which the controller itself was held up is known well.
const ticksPerSession = 8

// Controller is the state machine of the active controller.
//
// Its durable state is the image; everything else is soft and starts anew
// with each active controller.
type Controller struct {
	image *metadata.Image // speculative: applied at append, not at commit
	opts  Options
	rng   *rand.Rand

	started    kafka.Offset                   // of the image that the controller began with
	fenced     map[kafka.NodeID]kafka.Offset  // of the last batch that fenced it, as a registration does too
	sessions   map[kafka.NodeID]*session      // of registered brokers, fenced ones too
	stopping   map[kafka.NodeID]kafka.Offset  // of the batch that took a stopping broker's leaderships
	deposed    map[deposedLeader]kafka.Offset // of the batch that gave its lead to another
	reassigned map[partitionKey]bool          // partitions with a reassignment under way
	waiting    []waiting                      // in the order in which they came
	going      map[kafka.NodeID]int           // live nodes that hand over what they lead: in which order they came to
	wake       time.Time                      // when Tick is expected
	preferred  time.Time                      // when preferred leaders are next elected; zero: never
	unclean    time.Time                      // when leaderless partitions are next looked at
}

// session is what is known of a registered broker's life.
type session struct {
	end     time.Time    // fenced unless heard of before
	applied kafka.Offset // the image that it acts on, as it has said last
}

// New returns a controller that starts from the image of all metadata records
// of the log. It does not know old heartbeat times, so every session starts anew.
func New(now time.Time, image *metadata.Image, opts Options, rng *rand.Rand) *Controller {
	c := &Controller{
		image: image, opts: opts.withDefaults(image), rng: rng,
		started:    image.Offset(),
		fenced:     map[kafka.NodeID]kafka.Offset{},
		sessions:   map[kafka.NodeID]*session{},
		stopping:   map[kafka.NodeID]kafka.Offset{},
		deposed:    map[deposedLeader]kafka.Offset{},
		reassigned: map[partitionKey]bool{},
		going:      map[kafka.NodeID]int{},
	}
	for _, t := range image.Topics() {
		for i, p := range t.Partitions {
			if p.Reassigning() {
				c.reassigned[partitionKey{t.ID, int32(i)}] = true
			}
		}
	}
	for _, b := range image.Brokers() {
		left := max(0, c.opts.SessionTimeout-c.opts.Silent[b.ID])
		c.sessions[b.ID] = &session{end: now.Add(left), applied: kafka.NoOffset}
		if b.ShuttingDown {
			c.stopping[b.ID] = image.Offset()
		}
	}
	if c.opts.PreferredInterval > 0 {
		c.preferred = now.Add(c.opts.PreferredInterval)
	}
	c.unclean = now.Add(c.opts.UncleanInterval)
	c.wake = now // the cluster may want an id, or partitions a leader
	return c
}

// Image is the state of the cluster with all that was appended, committed or not.
func (c *Controller) Image() *metadata.Image { return c.image }

// Wake is when Tick is to be called next if nothing is decided before.
func (c *Controller) Wake() time.Time { return c.wake }

// Apply folds a batch of records that was appended at the offset into the
// state. The batches of one controller are applied in the order of their
// decisions, each before the next decision; offsets of the metadata log that
// hold no records may be left out.
func (c *Controller) Apply(offset kafka.Offset, records []metadata.Record) {
	image, delta, err := c.image.Apply(offset, records)
	if err != nil {
		invariant.Checkf(false, "applies records that do not fit: %v", err)
	}
	c.image = image
	c.noteLeads(offset, delta)
	for _, b := range delta.Brokers {
		if !b.New.Active() || b.Old == nil || b.Old.Epoch != b.New.Epoch {
			delete(c.going, b.Node)
		}
		switch {
		case b.New == nil:
			delete(c.fenced, b.Node)
			delete(c.sessions, b.Node)
			delete(c.stopping, b.Node)
			continue
		case b.Old == nil || b.Old.Epoch != b.New.Epoch || b.New.Fenced && !b.Old.Fenced:
			c.fenced[b.Node] = offset
		}
		if !b.New.ShuttingDown {
			delete(c.stopping, b.Node)
		} else if b.Old == nil || !b.Old.ShuttingDown {
			c.stopping[b.Node] = offset
		}
	}
}

// NoteApplied takes a broker's word that it acts on the image at the offset,
// which it may give between its heartbeats.
func (c *Controller) NoteApplied(node kafka.NodeID, offset kafka.Offset) {
	if s := c.sessions[node]; s != nil {
		s.applied = max(s.applied, offset)
	}
}

// Decide answers one request, at once or with a later decision. It changes soft
// state only; the caller appends the records and calls Apply before it asks for
// the next decision.
func (c *Controller) Decide(now time.Time, req Request, t Ticket) Decision {
	d := c.draft(now)
	if d.handsOver(req) {
		c.waiting = append(c.waiting, waiting{req, t, now.Add(handOverMax)})
		return d.decision()
	}
	return d.decision(Reply{t, c.answer(d, req)})
}

func (c *Controller) answer(d *draft, req Request) Response {
	switch r := req.(type) {
	case Heartbeat:
		return d.heartbeat(r)
	case AlterPartition:
		return d.alterPartition(r)
	case ReportReplicas:
		return d.reportReplicas(r)
	case RegisterBroker:
		return d.registerBroker(r)
	case PeerLost:
		return d.peerLost(r)
	case UnregisterBroker:
		return d.unregisterBroker(r)
	case CreateTopics:
		return d.createTopics(r)
	case AutoCreateTopics:
		return d.autoCreateTopics(r)
	case DeleteTopics:
		return d.deleteTopics(r)
	case CreatePartitions:
		return d.createPartitions(r)
	case AlterConfigs:
		return d.alterConfigs(r)
	case IncrementalAlterConfigs:
		return d.incrementalAlterConfigs(r)
	case ElectLeaders:
		return d.electLeaders(r)
	case AlterPartitionReassignments:
		return d.alterReassignments(r)
	case ListPartitionReassignments:
		return d.listReassignments(r)
	case AllocateProducerIDs:
		return d.allocateProducerIDs(r)
	}
	invariant.Checkf(false, "is asked for a %T", req)
	return nil
}

// Tick does what is due: it fences brokers whose session is over, and now and
// then returns leadership to preferred leaders.
func (c *Controller) Tick(now time.Time) Decision {
	// Whoever was not running could not hear heartbeats either: that time is
	// not held against anybody.
	if late := now.Sub(c.wake); late > 0 {
		for _, s := range c.sessions {
			end := s.end.Add(late)
			if most := now.Add(c.opts.SessionTimeout); end.After(most) {
				end = most
			}
			if end.After(s.end) {
				s.end = end
			}
		}
	}
	d := c.draft(now)
	d.ensureClusterID()
	d.raiseRecordsLevel()
	d.fenceExpired()
	if !c.preferred.IsZero() && !now.Before(c.preferred) {
		c.preferred = now.Add(c.opts.PreferredInterval)
		d.electPreferredLeaders()
	}
	if !now.Before(c.unclean) {
		c.unclean = now.Add(c.opts.UncleanInterval)
		d.electMissingLeaders("looked for partitions without a leader")
	}
	d.finishReassignments()
	var replies []Reply
	if len(d.records) == 0 { // else it would have to look at them too
		replies = d.decideWaiting()
	}
	c.wake = c.nextTick(now)
	if len(replies) > 0 && len(c.waiting) > 0 {
		c.wake = now
	}
	return d.decision(replies...)
}

func (c *Controller) nextTick(now time.Time) time.Time {
	next := now.Add(c.opts.SessionTimeout / ticksPerSession)
	for _, s := range c.sessions {
		if s.end.After(now) && s.end.Before(next) {
			next = s.end
		}
	}
	return next
}

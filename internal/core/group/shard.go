package group

import (
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"chronik/internal/base/invariant"
	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// Shard is all groups of one partition of __consumer_offsets. It is not safe
// for concurrent use.
type Shard struct {
	opts      Options
	rand      *rand.Rand
	topics    Topics
	groups    map[string]*group
	open      map[kafka.ProducerID]map[string]struct{} // transactions with offsets, and their groups
	producers map[kafka.ProducerID]producerSeen
	applied   int64 // records applied; orders commits

	started  bool
	timers   timerHeap
	timerSeq uint64
	sweepAt  int                  // entries of timers at which to look for those that are over
	now      time.Time            // of the call that is being answered
	late     time.Duration        // how late the present Tick came
	drops    map[string][]dropped // members of KIP-848 groups to remove in the present Tick
	out      Decision
}

// group is one group, of one of the two protocols.
type group struct {
	id       string
	stored   *offsets.GroupMetadataValue // as applied; nil unless a classic group was stored
	classic  *classicGroup               // live; nil when consumer is not
	consumer *consumerGroup              // as applied
	offsets  map[string]map[int32]committed
	pending  map[kafka.ProducerID]map[kafka.TopicPartition]committed
}

// New makes an empty shard. The random numbers are for member ids.
func New(opts Options, r *rand.Rand) *Shard {
	return &Shard{
		opts: opts.withDefaults(), rand: r, topics: noTopics{}, groups: map[string]*group{},
		open: map[kafka.ProducerID]map[string]struct{}{}, producers: map[kafka.ProducerID]producerSeen{},
	}
}

// SetOptions replaces the settings; they hold from the next request on.
func (s *Shard) SetOptions(opts Options) { s.opts = opts.withDefaults() }

// SetTopics replaces the view of the cluster's topics. Groups whose topics
// changed rebalance with their members' next heartbeat.
func (s *Shard) SetTopics(t Topics) { s.topics = t }

// Start ends loading: members get a full session from now on.
func (s *Shard) Start(now time.Time) Decision {
	invariant.Check(!s.started, "starts a group shard twice")
	s.begin(now)
	s.started = true
	for _, id := range s.groupIDs() {
		g := s.groups[id]
		if g.consumer != nil {
			s.startConsumer(g)
			continue
		}
		if g.classic = newClassicGroup(now); g.stored != nil {
			g.classic = restoreClassicGroup(g.stored)
		}
		for _, m := range g.classic.order {
			if !mutant.On(mutant.SessionsForgotten) {
				s.touch(g, m)
			}
		}
		if len(g.classic.members) > s.opts.MaxSize {
			s.prepareRebalance(g, "the group is larger than group.max.size")
		}
	}
	for id, p := range s.producers {
		p.at = now.UnixMilli()
		s.producers[id] = p
	}
	s.schedule(timerRetention, "", "", now.Add(s.opts.RetentionCheck))
	return s.end()
}

// Decide answers req, now or in a later Decision.
func (s *Shard) Decide(now time.Time, req Request, t Ticket) Decision {
	invariant.Check(s.started, "asks a group shard that is loading")
	s.begin(now)
	if tooLong(req) {
		s.reply(t, req.Refuse(kafka.ErrInvalidRequest))
		return s.end()
	}
	switch r := req.(type) {
	case *JoinGroup:
		s.joinGroup(r, t)
	case *SyncGroup:
		s.syncGroup(r, t)
	case *Heartbeat:
		s.reply(t, &HeartbeatResponse{Err: s.heartbeat(r)})
	case *LeaveGroup:
		s.leaveGroup(r, t)
	case *OffsetCommit:
		s.reply(t, s.offsetCommit(r))
	case *TxnOffsetCommit:
		s.reply(t, s.txnOffsetCommit(r))
	case *TxnMarker:
		s.txnMarker(r, t)
	case *OffsetFetch:
		s.reply(t, s.offsetFetch(r))
	case *OffsetDelete:
		s.reply(t, s.offsetDelete(r))
	case *DescribeGroup:
		s.reply(t, s.describeGroup(r))
	case *ListGroups:
		s.reply(t, s.listGroups(r))
	case *DeleteGroup:
		s.reply(t, &DeleteGroupResponse{Err: s.deleteGroup(r)})
	case *TopicsDeleted:
		s.topicsDeleted(r)
		s.reply(t, &TopicsDeletedResponse{})
	case *ConsumerGroupHeartbeat:
		s.reply(t, s.consumerHeartbeat(r))
	case *ConsumerGroupDescribe:
		s.reply(t, s.consumerDescribe(r))
	default:
		invariant.Checkf(false, "group shard does not know request %T", req)
	}
	return s.end()
}

// Tick acts on the deadlines that have passed.
func (s *Shard) Tick(now time.Time) Decision {
	s.begin(now)
	if len(s.timers) > 0 {
		s.late = now.Sub(s.timers[0].at)
	}
	s.fire()
	s.dropExpired()
	s.late = 0
	return s.end()
}

// Apply changes durable state by one record.
func (s *Shard) Apply(r Record) {
	s.applied++
	if r.Marker != NoMarker {
		s.applyMarker(r.Producer, r.Marker == CommitMarker)
		return
	}
	switch d := r.Data.(type) {
	case offsets.OffsetCommit:
		s.applyOffset(d, r.Producer)
	case offsets.GroupMetadata:
		s.applyGroupMetadata(d)
	default:
		s.applyConsumer(d)
	}
}

func (s *Shard) applyGroupMetadata(d offsets.GroupMetadata) {
	if d.Value != nil {
		s.ensure(d.Group).stored = d.Value
		return
	}
	g := s.groups[d.Group]
	if g == nil {
		return
	}
	g.stored = nil
	if g.consumer == nil {
		g.classic = newClassicGroup(s.now)
		s.forgetIfVoid(g)
	}
}

// forgetIfVoid drops a group of which nothing is stored.
func (s *Shard) forgetIfVoid(g *group) {
	if g.stored == nil && g.consumer == nil && len(g.offsets) == 0 && len(g.pending) == 0 &&
		(g.classic == nil || len(g.classic.members)+len(g.classic.pending) == 0) {
		delete(s.groups, g.id)
	}
}

// ensure finds the group or makes it, empty.
func (s *Shard) ensure(id string) *group {
	g := s.groups[id]
	if g == nil {
		g = &group{id: id, classic: newClassicGroup(s.now)}
		s.groups[id] = g
	}
	return g
}

// Waiting calls fn for all tickets without a reply, which the host answers
// itself when it drops the shard.
func (s *Shard) Waiting(fn func(Ticket)) {
	for _, id := range s.groupIDs() {
		if c := s.groups[id].classic; c != nil {
			for _, m := range c.order {
				if m.join.is {
					fn(m.join.ticket)
				}
				if m.sync.is {
					fn(m.sync.ticket)
				}
			}
		}
	}
}

// CommittedOffset is one committed offset, for metrics.
type CommittedOffset struct {
	Group     string
	Topic     string
	Partition int32
	Offset    kafka.Offset
}

// EachOffset calls fn for every committed offset, by group, topic and partition.
func (s *Shard) EachOffset(fn func(CommittedOffset)) {
	for _, id := range s.groupIDs() {
		g := s.groups[id]
		for _, topic := range slices.Sorted(maps.Keys(g.offsets)) {
			for _, p := range slices.Sorted(maps.Keys(g.offsets[topic])) {
				fn(CommittedOffset{Group: id, Topic: topic, Partition: p, Offset: g.offsets[topic][p].offset})
			}
		}
	}
}

// GroupStats is the size of one group, for metrics.
type GroupStats struct {
	Group      string
	Type       string // "classic" or "consumer"
	State      string
	Members    int
	Generation int32 // or group epoch
}

// EachGroup calls fn for every group, by name.
func (s *Shard) EachGroup(fn func(GroupStats)) {
	for _, id := range s.groupIDs() {
		g := s.groups[id]
		st := GroupStats{Group: id, Type: g.typeName(), State: g.stateName()}
		switch {
		case g.consumer != nil:
			st.Members, st.Generation = len(g.consumer.members), g.consumer.epoch
		case g.classic != nil:
			st.Members, st.Generation = len(g.classic.members), g.classic.generation
		}
		fn(st)
	}
}

func (s *Shard) groupIDs() []string { return slices.Sorted(maps.Keys(s.groups)) }

func (g *group) typeName() string {
	if g.consumer != nil {
		return "consumer"
	}
	return "classic"
}

func (g *group) stateName() string {
	if g.consumer != nil {
		return g.consumer.state()
	}
	return g.classic.state.String()
}

func (s *Shard) begin(now time.Time) {
	s.now = now
	s.out = Decision{}
	s.sweep()
}

func (s *Shard) end() Decision {
	d := s.out
	s.out = Decision{}
	if len(s.timers) > 0 {
		d.Wake = s.timers[0].at
	}
	return d
}

func (s *Shard) record(data offsets.Record) {
	s.out.Records = append(s.out.Records, Record{Data: data})
}

func (s *Shard) reply(t Ticket, r Response) {
	s.out.Replies = append(s.out.Replies, Reply{Ticket: t, Response: r})
}

// answer replies to a request that waits, if one does.
func (s *Shard) answer(w *waiting, r Response) {
	if w.is {
		s.reply(w.ticket, r)
		*w = waiting{}
	}
}

func (s *Shard) event(kind EventKind, g *group, member, cause string) {
	e := Event{Kind: kind, Group: g.id, MemberID: member, Cause: cause}
	switch {
	case g.consumer != nil:
		e.Generation, e.Members = g.consumer.epoch, len(g.consumer.members)
	case g.classic != nil:
		e.Generation, e.Members = g.classic.generation, len(g.classic.members)
	}
	s.out.Events = append(s.out.Events, e)
}

// newMemberID makes an id that no other member has: the prefix and a random UUID.
func (s *Shard) newMemberID(prefix string) string { return prefix + "-" + s.uuid() }

func (s *Shard) uuid() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(s.rand.Uint32())
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// noTopics is the view before the first SetTopics.
type noTopics struct{}

func (noTopics) Version() int64                   { return -1 }
func (noTopics) ByName(string) (Topic, bool)      { return Topic{}, false }
func (noTopics) ByID(kafka.TopicID) (Topic, bool) { return Topic{}, false }
func (noTopics) Each(func(Topic) bool)            {}

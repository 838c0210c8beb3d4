package group

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// consumerGroup is a group of the KIP-848 protocol. All of it is durable,
// changed by Apply only, but for the fields marked as soft.
//
// The group epoch rises with every change of members, subscriptions or topics.
// The target assignment is made for a group epoch; each member moves towards
// it by itself, giving up partitions before anybody else gets them:
//
//	         has to give up partitions
//	Stable ────────────────────────────▶ Unrevoked
//	▲    ▲                                   │ gave them up
//	│    └───────────────────────────────────┤
//	│  others gave up what it is to get      ▼
//	└──────────────────────────────────── Unreleased
type consumerGroup struct {
	epoch        int32
	metadataHash int64
	targetEpoch  int32
	assignedAt   int64 // when the target assignment was made, milliseconds since 1970; 0: never
	members      map[string]*consumerMember
	static       map[string]string // instance id to member id
	target       map[string]partitionSet
	owners       map[kafka.TopicID]map[int32]string
	regexes      map[string]*offsets.ConsumerRegexValue

	checked int64            // soft: version of the topics that the group was compared with
	seen    map[string]int32 // soft: the topics that were found then, and their partitions; nil when not known
}

// consumerMember is one member of a group of the KIP-848 protocol.
type consumerMember struct {
	id        string
	about     offsets.ConsumerMemberValue
	epoch     int32
	prevEpoch int32
	state     int8
	assigned  partitionSet
	revoking  partitionSet
	kept      partitionSet // had at the epoch before, and ever since; after loading, as far as the log still tells

	session  session   // soft
	revokeAt time.Time // soft: Unrevoked members are removed then
	joinAt   time.Time // soft: classic members that did not join again are removed then
	syncAt   time.Time // soft: classic members that did not sync are removed then

	// Soft: it was told of another assignment, and of no other epoch, and has not
	// said since that it has it. If that answered a heartbeat which it had given up
	// and which came late, its next ones look as if it had heard: it is told again.
	unheard bool
}

// Member epochs with a meaning of their own.
const (
	epochJoin        int32 = 0
	epochLeave       int32 = -1
	epochLeaveStatic int32 = -2
)

func newConsumerGroup() *consumerGroup {
	return &consumerGroup{
		members: map[string]*consumerMember{}, static: map[string]string{},
		target: map[string]partitionSet{}, owners: map[kafka.TopicID]map[int32]string{},
		regexes: map[string]*offsets.ConsumerRegexValue{}, checked: -1,
	}
}

func (c *consumerGroup) state() string {
	switch {
	case len(c.members) == 0:
		return "Empty"
	case c.epoch > c.targetEpoch:
		return "Assigning"
	}
	for _, m := range c.members {
		if m.state != offsets.MemberStable || m.epoch != c.targetEpoch {
			return "Reconciling"
		}
	}
	return "Stable"
}

func (c *consumerGroup) memberIDs() []string { return slices.Sorted(maps.Keys(c.members)) }

// isSubscribed says whether a member reads the topic.
func (c *consumerGroup) isSubscribed(topic string) bool {
	for _, m := range c.members {
		if slices.Contains(m.about.SubscribedTopicNames, topic) {
			return true
		}
		if r := c.regexes[m.about.SubscribedTopicRegex]; r != nil && slices.Contains(r.Topics, topic) {
			return true
		}
	}
	return false
}

// mayCommit is the rule of the KIP-848 protocol: members commit with their
// present epoch, others only while there are no members.
func (c *consumerGroup) mayCommit(version int16, memberID, instanceID string, epoch int32, txn bool) kafka.ErrorCode {
	if epoch < 0 && len(c.members) == 0 {
		return kafka.None
	}
	if txn && epoch == -1 && memberID == "" && instanceID == "" {
		return kafka.None
	}
	m := c.members[memberID]
	switch {
	case m == nil:
		return kafka.ErrUnknownMemberID
	case !txn && version < 9 && m.about.Classic == nil:
		return kafka.ErrUnsupportedVersion
	}
	return m.checkEpoch(epoch)
}

// checkEpoch compares the epoch, or generation, that a member gives with its own.
func (m *consumerMember) checkEpoch(epoch int32) kafka.ErrorCode {
	switch {
	case m.epoch == epoch, mutant.On(mutant.OldEpochCommit) && epoch > 0 && epoch < m.epoch:
		return kafka.None
	case m.about.Classic != nil:
		return kafka.ErrIllegalGeneration
	}
	return kafka.ErrStaleMemberEpoch
}

// keptSince says whether the member has had all these partitions at the epoch
// before its present one, and ever since. A commit that was on its way when the
// epoch rose is taken then (KIP-1251): nobody else can have committed in between.
func (s *Shard) keptSince(m *consumerMember, epoch int32, list []OffsetToCommit) bool {
	if epoch <= 0 || epoch != m.prevEpoch {
		return false
	}
	for i := range list {
		if t, ok := s.topics.ByName(list[i].Topic); !ok || !containsPartition(m.kept, t.ID, list[i].Partition) {
			return false
		}
	}
	return true
}

func containsPartition(set partitionSet, id kafka.TopicID, partition int32) bool {
	for i := range set {
		if set[i].TopicID == id {
			_, ok := slices.BinarySearch(set[i].Partitions, partition)
			return ok
		}
	}
	return false
}

func (c *consumerGroup) mayFetch(memberID string, epoch int32) kafka.ErrorCode {
	if memberID == "" && epoch < 0 {
		return kafka.None
	}
	m := c.members[memberID]
	if m == nil {
		return kafka.ErrUnknownMemberID
	}
	return m.checkEpoch(epoch)
}

// subscription is the set of topics that a group's members read, as a plan
// that is not applied: the members, one of them replaced, and the resolved
// regular expressions.
type subscription struct {
	members map[string]*consumerMember
	regexes map[string][]string
}

// topics lists the topics that the member reads and that exist, by name.
func (p *subscription) topics(m *consumerMember, view Topics) []Topic {
	names := m.about.SubscribedTopicNames
	if r := m.about.SubscribedTopicRegex; r != "" {
		names = slices.Concat(names, p.regexes[r])
	}
	names = slices.Clone(names)
	slices.Sort(names)
	var out []Topic
	for _, n := range slices.Compact(names) {
		if t, ok := view.ByName(n); ok {
			out = append(out, t)
		}
	}
	return out
}

// found are the topics that the members read and that exist.
func (p *subscription) found(view Topics) map[string]Topic {
	byName := map[string]Topic{}
	for _, m := range p.members {
		for _, t := range p.topics(m, view) {
			byName[t.Name] = t
		}
	}
	return byName
}

// hash sums up all that an assignment depends on in the topics.
func (p *subscription) hash(view Topics) int64 { return p.hashOf(p.found(view)) }

func (p *subscription) hashOf(byName map[string]Topic) int64 {
	if len(byName) == 0 {
		return 0
	}
	racks := false
	for _, m := range p.members {
		racks = racks || m.about.RackID != ""
	}
	h := fnv.New64a()
	var buf []byte
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		t := byName[name]
		buf = append(buf[:0], t.ID[:]...)
		buf = append(buf, name...)
		buf = append(buf, 0, byte(t.Partitions), byte(t.Partitions>>8), byte(t.Partitions>>16), byte(t.Partitions>>24))
		if racks && t.Racks != nil {
			for i := range t.Partitions {
				for _, r := range t.Racks(i) {
					buf = append(append(buf, r...), 0)
				}
				buf = append(buf, 1)
			}
		}
		_, _ = h.Write(buf)
	}
	return int64(h.Sum64())
}

// applyConsumer applies one record of the KIP-848 protocol.
func (s *Shard) applyConsumer(d offsets.Record) {
	g := s.groups[d.GroupID()]
	if d.IsTombstone() && (g == nil || g.consumer == nil) {
		return
	}
	if g == nil {
		g = s.ensure(d.GroupID())
	}
	s.applyConsumerTo(g, d)
}

// applyConsumerTo applies a record to the group.
func (s *Shard) applyConsumerTo(g *group, d offsets.Record) {
	if g.consumer == nil {
		g.consumer, g.classic = newConsumerGroup(), nil
	}
	c := g.consumer
	switch r := d.(type) {
	case offsets.ConsumerGroup:
		if r.Value == nil {
			g.consumer = nil
			if g.classic == nil {
				g.classic = newClassicGroup(s.now)
			}
			s.forgetIfVoid(g)
			return
		}
		c.epoch, c.metadataHash = r.Value.Epoch, r.Value.MetadataHash
	case offsets.ConsumerMember:
		s.applyMember(c, r)
	case offsets.ConsumerTargetEpoch:
		if c.targetEpoch, c.assignedAt = 0, 0; r.Value != nil {
			c.targetEpoch, c.assignedAt = r.Value.Epoch, r.Value.Timestamp
		}
	case offsets.ConsumerTarget:
		if delete(c.target, r.MemberID); r.Value != nil {
			c.target[r.MemberID] = r.Value.Partitions
		}
	case offsets.ConsumerCurrent:
		c.applyCurrent(r)
	case offsets.ConsumerRegex:
		if delete(c.regexes, r.Regex); r.Value != nil {
			c.regexes[r.Regex] = r.Value
		}
	}
}

func (s *Shard) applyMember(c *consumerGroup, r offsets.ConsumerMember) {
	m := c.members[r.MemberID]
	if m != nil && m.about.InstanceID != "" && c.static[m.about.InstanceID] == m.id {
		delete(c.static, m.about.InstanceID)
	}
	if r.Value == nil {
		if m != nil {
			c.release(m)
			delete(c.members, r.MemberID)
		}
		return
	}
	if m == nil {
		// The timers were set when the join was decided.
		at := s.now.Add(s.consumerSession(r.Group, r.Value.Classic))
		m = &consumerMember{id: r.MemberID, session: session{deadline: at, entryAt: at}}
		if r.Value.Classic != nil {
			m.syncAt = s.now.Add(time.Duration(r.Value.RebalanceTimeoutMs) * time.Millisecond)
		}
		c.members[m.id] = m
	}
	m.about = *r.Value
	if m.about.InstanceID != "" {
		c.static[m.about.InstanceID] = m.id
	}
}

func (c *consumerGroup) applyCurrent(r offsets.ConsumerCurrent) {
	m := c.members[r.MemberID]
	if m == nil {
		if r.Value == nil {
			return
		}
		m = &consumerMember{id: r.MemberID}
		c.members[m.id] = m
	}
	c.release(m)
	if r.Value == nil {
		m.epoch, m.prevEpoch, m.state, m.assigned, m.revoking, m.kept = 0, 0, offsets.MemberStable, nil, nil, nil
		return
	}
	if r.Value.MemberEpoch != m.epoch {
		m.kept = m.assigned
	}
	m.kept = intersect(m.kept, r.Value.Assigned)
	m.epoch, m.prevEpoch, m.state = r.Value.MemberEpoch, r.Value.PreviousMemberEpoch, r.Value.State
	m.assigned, m.revoking = r.Value.Assigned, r.Value.PendingRevocation
	c.own(m, m.assigned)
	if !mutant.On(mutant.RevokingFree) {
		c.own(m, m.revoking)
	}
}

func (c *consumerGroup) own(m *consumerMember, set partitionSet) {
	for _, t := range set {
		if c.owners[t.TopicID] == nil {
			c.owners[t.TopicID] = map[int32]string{}
		}
		for _, p := range t.Partitions {
			c.owners[t.TopicID][p] = m.id
		}
	}
}

func (c *consumerGroup) release(m *consumerMember) {
	for _, set := range [...]partitionSet{m.assigned, m.revoking} {
		for _, t := range set {
			for _, p := range t.Partitions {
				if c.owners[t.TopicID][p] == m.id {
					delete(c.owners[t.TopicID], p)
				}
			}
			if len(c.owners[t.TopicID]) == 0 {
				delete(c.owners, t.TopicID)
			}
		}
	}
}

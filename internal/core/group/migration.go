package group

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// Migration says which live groups change their protocol: one that a member
// of the other protocol joins (an upgrade to the protocol of KIP-848), or whose
// last member of that protocol goes (a downgrade). Empty groups always do.
type Migration string

// The values of group.consumer.migration.policy.
const (
	MigrationBidirectional Migration = "bidirectional"
	MigrationUpgrade       Migration = "upgrade"
	MigrationDowngrade     Migration = "downgrade"
	MigrationDisabled      Migration = "disabled"
)

func (m Migration) upgrades() bool   { return m == MigrationBidirectional || m == MigrationUpgrade }
func (m Migration) downgrades() bool { return m == MigrationBidirectional || m == MigrationDowngrade }

// convertToConsumer makes a group of the KIP-848 protocol, or one of a classic
// group. The group that it returns is a sketch to decide on; what it is made of
// goes into records. It is refused what cannot be, and then nothing has happened:
// so it is if there is no place in the group for who wants to join.
func (s *Shard) convertToConsumer(r *ConsumerGroupHeartbeat, old *group) (g *group, refused *ConsumerGroupHeartbeatResponse) {
	g = &group{id: r.Group, consumer: newConsumerGroup()}
	g.consumer.epoch = 1
	if old == nil {
		return g, nil
	}
	g.stored, g.offsets, g.pending = old.stored, old.offsets, old.pending
	g.consumer.epoch = max(old.classic.generation, 1)
	members, why := s.upgradable(old)
	if why != "" {
		return nil, refusal(kafka.ErrGroupIDNotFound, fmt.Sprintf("Group %s is not a consumer group: %s.", r.Group, why))
	}
	known, holder := old.classic.members[r.MemberID] != nil, ""
	if r.InstanceID != "" {
		holder = old.classic.static[r.InstanceID]
	}
	switch {
	case known && holder != "" && holder != r.MemberID:
		return nil, refusal(kafka.ErrInvalidRequest, whyTaken(r, holder))
	case !known && holder == "" && len(members) >= s.opts.ConsumerMaxSize:
		return nil, refusal(kafka.ErrGroupMaxSizeReached, s.whyFull())
	}
	s.refuseWaiting(old)
	if old.stored != nil {
		s.record(offsets.GroupMetadata{Group: r.Group})
	}
	if len(members) > 0 {
		s.recordUpgrade(g, old.classic, members)
		s.event(EventGroupUpgraded, old, "", "a member of the consumer protocol joined")
	}
	return g, nil
}

// upgraded is a classic member on its way into a consumer group.
type upgraded struct {
	member   *classicMember
	about    offsets.ConsumerMemberValue
	assigned partitionSet

	// What it had when it joined, by its own account. A cooperative member has all
	// of that still while a generation is being made, and what its assignment
	// leaves out until it joins once more.
	had partitionSet
}

// upgradable works out what the members of a classic group will be in a
// consumer group, or says why it cannot become one.
func (s *Shard) upgradable(g *group) (list []upgraded, why string) {
	c := g.classic
	switch {
	case len(c.members) == 0:
		return nil, ""
	case !s.opts.Migration.upgrades():
		return nil, "group.consumer.migration.policy forbids the upgrade"
	case c.protocolType != protocolTypeConsumer:
		return nil, "its members are not consumers"
	case len(c.members) > s.opts.ConsumerMaxSize:
		return nil, "it is larger than group.consumer.max.size"
	}
	owned := map[kafka.TopicID]map[int32]bool{}
	for _, m := range c.order {
		sub, ok := parseSubscription(m.metadata(c.protocolFor(m)))
		assignment, userData, fine := parseAssignment(m.assignment)
		switch {
		case !ok || !fine:
			return nil, fmt.Sprintf("member %s speaks a consumer protocol that cannot be read", m.id)
		case len(userData) > 0:
			return nil, "it uses a custom assignor, whose data would be lost"
		}
		u := upgraded{member: m, assigned: claim(owned, s.byID(assignment)), had: s.byID(sub.owned), about: offsets.ConsumerMemberValue{
			InstanceID: m.instanceID, RackID: sub.rack, ClientID: m.clientID, ClientHost: m.clientHost,
			SubscribedTopicNames: sortedNames(sub.topics), RebalanceTimeoutMs: m.rebalanceTimeoutMs,
			Classic: &offsets.ClassicMember{SessionTimeoutMs: m.sessionTimeoutMs, Protocols: classicProtocols(m.protocols)},
		}}
		list = append(list, u)
	}
	for i := range list {
		u := &list[i]
		u.assigned = union(u.assigned, claim(owned, u.had))
		if mutant.On(mutant.UpgradeForgets) {
			u.assigned = nil
		}
	}
	return list, ""
}

// protocolFor is the protocol whose metadata counts: the group's, or the
// member's first while the group has not agreed.
func (c *classicGroup) protocolFor(m *classicMember) string {
	if c.protocol != "" && m.supports(c.protocol) || len(m.protocols) == 0 {
		return c.protocol
	}
	return m.protocols[0].Name
}

// claim takes from the set what nobody has claimed before: the members' leader
// may have given a partition to two of them.
func claim(owned map[kafka.TopicID]map[int32]bool, set partitionSet) partitionSet {
	var out partitionSet
	for _, t := range set {
		if owned[t.TopicID] == nil {
			owned[t.TopicID] = map[int32]bool{}
		}
		var list []int32
		for _, p := range t.Partitions {
			if !owned[t.TopicID][p] {
				owned[t.TopicID][p] = true
				list = append(list, p)
			}
		}
		if len(list) > 0 {
			out = append(out, offsets.TopicPartitions{TopicID: t.TopicID, Partitions: list})
		}
	}
	return out
}

func sortedNames(names []string) []string {
	names = append([]string{}, names...)
	slices.Sort(names)
	return slices.Compact(names)
}

// recordUpgrade makes the records of a consumer group out of a classic one's
// members, and applies them to the sketch.
func (s *Shard) recordUpgrade(g *group, c *classicGroup, members []upgraded) {
	epoch := g.consumer.epoch
	put := func(d offsets.Record) {
		s.record(d)
		s.applyConsumerTo(g, d)
	}
	for _, u := range members {
		put(offsets.ConsumerMember{Group: g.id, MemberID: u.member.id, Value: &u.about})
		s.schedule(timerConsumerSession, g.id, u.member.id, s.now.Add(s.consumerSession(g.id, u.about.Classic)))
	}
	put(offsets.ConsumerGroup{Group: g.id, Value: &offsets.ConsumerGroupValue{Epoch: epoch}})
	for _, u := range members {
		put(offsets.ConsumerTarget{Group: g.id, MemberID: u.member.id, Value: &offsets.ConsumerTargetValue{Partitions: u.assigned}})
	}
	put(offsets.ConsumerTargetEpoch{Group: g.id, Value: &offsets.ConsumerTargetEpochValue{Epoch: epoch}})
	for _, u := range members {
		put(offsets.ConsumerCurrent{Group: g.id, MemberID: u.member.id, Value: &offsets.ConsumerCurrentValue{
			MemberEpoch: epoch, PreviousMemberEpoch: epoch, State: offsets.MemberStable, Assigned: u.assigned,
		}})
	}
}

// refuseWaiting asks all members that wait for a generation to join again.
func (s *Shard) refuseWaiting(g *group) {
	for _, m := range g.classic.order {
		s.answer(&m.join, &JoinGroupResponse{Err: kafka.ErrRebalanceInProgress, Generation: -1, MemberID: m.id})
		s.answer(&m.sync, &SyncGroupResponse{Err: kafka.ErrRebalanceInProgress})
	}
	g.classic.awaitingJoin, g.classic.awaitingSync = 0, 0
}

// downgradable says whether a group of these members goes back to the classic
// protocol.
func (s *Shard) downgradable(members map[string]*consumerMember) bool {
	if len(members) == 0 || len(members) > s.opts.MaxSize || !s.opts.Migration.downgrades() {
		return false
	}
	for _, m := range members {
		if m.about.Classic == nil {
			return false
		}
	}
	return true
}

// downgrade makes a classic group of the members, with what they have as their
// assignment, and has it rebalance. Records of the members that go are not made
// here. Even a group that was settled must rebalance: in a consumer group nobody
// leads, and a member that the group only takes for its leader would not know
// that it has to look after the topics; new partitions would stay nobody's. That
// must not be forgotten when another coordinator takes over, so what is stored
// is a generation that no member is in, and none will be: all have to join again.
func (s *Shard) downgrade(g *group, members map[string]*consumerMember, cause string) {
	old, c := g.consumer, newClassicGroup(s.now)
	c.generation, c.protocolType = old.epoch, protocolTypeConsumer
	c.state = stateStable
	ids := slices.Sorted(maps.Keys(members))
	for _, id := range ids {
		m := members[id]
		s.removeConsumer(g, id)
		c.add(&classicMember{
			id: id, instanceID: m.about.InstanceID, clientID: m.about.ClientID, clientHost: m.about.ClientHost,
			rebalanceTimeoutMs: m.about.RebalanceTimeoutMs, sessionTimeoutMs: m.about.Classic.SessionTimeoutMs,
			protocols: protocolsOf(m.about.Classic),
		})
	}
	s.consumerTombstones(g)
	c.protocol = c.selectProtocol()
	for _, m := range c.order {
		m.assignment = s.embeddedAssignment(m.metadata(c.protocol), union(members[m.id].assigned, members[m.id].revoking))
	}
	c.computeSubscribed()
	g.classic = c
	for _, m := range c.order {
		s.touch(g, m)
	}
	v := c.snapshot()
	v.Generation++
	c.skipped = v.Generation
	s.record(offsets.GroupMetadata{Group: g.id, Value: v})
	g.stored = v // what follows may change it
	s.event(EventGroupDowngraded, g, "", "its last member of the consumer protocol is gone")
	s.prepareRebalance(g, cause)
}

// downgradeForStatic turns the group into a classic one when the member that
// joins by the classic protocol takes the place of a static member which was
// the last of the other protocol. It says whether it has.
func (s *Shard) downgradeForStatic(g *group, r *JoinGroup) bool {
	holder := g.consumer.members[g.consumer.static[r.InstanceID]]
	if r.InstanceID == "" || r.MemberID != "" || holder == nil || holder.about.Classic != nil ||
		!g.consumer.supportedClassic(r.ProtocolType, r.Protocols) {
		return false
	}
	place := *holder
	place.about.Classic = &offsets.ClassicMember{SessionTimeoutMs: r.SessionTimeoutMs, Protocols: classicProtocols(r.Protocols)}
	members := maps.Clone(g.consumer.members)
	members[holder.id] = &place
	if !s.downgradable(members) {
		return false
	}
	s.downgrade(g, members, fmt.Sprintf("the group went back to the classic protocol with %s", r.InstanceID))
	return true
}

// consumerSession is the session of a member of a consumer group: a classic
// member has its own.
func (s *Shard) consumerSession(group string, classic *offsets.ClassicMember) time.Duration {
	if classic != nil {
		return time.Duration(classic.SessionTimeoutMs) * time.Millisecond
	}
	return s.opts.settingsOf(group).SessionTimeout
}

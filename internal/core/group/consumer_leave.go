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

// consumerLeave takes a member out of the group, or notes that a static one
// will come back.
func (s *Shard) consumerLeave(g *group, r *ConsumerGroupHeartbeat) Response {
	c := g.consumer
	m := c.members[r.MemberID]
	if r.InstanceID != "" {
		switch holder, ok := c.static[r.InstanceID]; {
		case !ok:
			return refusal(kafka.ErrUnknownMemberID, fmt.Sprintf("Instance id %s is unknown.", r.InstanceID))
		case holder != r.MemberID:
			return refusal(kafka.ErrFencedInstanceID, fmt.Sprintf("Static member %s with instance id %s was fenced by member %s.", r.MemberID, r.InstanceID, holder))
		}
	}
	if m == nil {
		return refusal(kafka.ErrUnknownMemberID, fmt.Sprintf("Member %s is not a member of group %s.", r.MemberID, g.id))
	}
	if r.MemberEpoch == epochLeaveStatic {
		s.record(offsets.ConsumerCurrent{Group: g.id, MemberID: m.id, Value: &offsets.ConsumerCurrentValue{
			MemberEpoch: epochLeaveStatic, PreviousMemberEpoch: m.epoch, State: offsets.MemberStable, Assigned: m.assigned,
		}})
		s.event(EventMemberLeft, g, m.id, "the static member left for a while")
	} else {
		s.dropConsumers(g, dropped{m, EventMemberLeft, "the member said so"})
	}
	return &ConsumerGroupHeartbeatResponse{MemberID: r.MemberID, MemberEpoch: r.MemberEpoch}
}

// dropped is a member that is about to be removed, and why.
type dropped struct {
	member *consumerMember
	kind   EventKind
	cause  string
}

// dropConsumers removes members and raises the group epoch; the others get
// their partitions with their next heartbeats.
func (s *Shard) dropConsumers(g *group, drops ...dropped) {
	p := &subscription{members: maps.Clone(g.consumer.members), regexes: map[string][]string{}}
	for _, d := range drops {
		s.removeConsumer(g, d.member.id)
		delete(p.members, d.member.id)
		s.event(d.kind, g, d.member.id, d.cause)
	}
	first := drops[0]
	cause := fmt.Sprintf("member %s is gone: %s", first.member.id, first.cause)
	if len(drops) > 1 {
		cause = fmt.Sprintf("%d members are gone, among them %s: %s", len(drops), first.member.id, first.cause)
	}
	if s.downgradable(p.members) {
		s.downgrade(g, p.members, cause)
		return
	}
	s.resolveRegexes(g, p)
	epoch := g.consumer.epoch + 1
	if mutant.On(mutant.EpochKept) {
		epoch--
	}
	s.record(offsets.ConsumerGroup{Group: g.id, Value: &offsets.ConsumerGroupValue{Epoch: epoch, MetadataHash: p.hash(s.topics)}})
	if len(p.members) == 0 {
		s.event(EventGroupEmptied, g, "", cause)
		return
	}
	s.event(EventRebalanceStarted, g, "", cause)
}

// fireConsumer notes the members whose deadline has passed. They are removed
// together at the end of the Tick.
func (s *Shard) fireConsumer(g *group, e timer) {
	m := g.consumer.members[e.member]
	if m == nil {
		return
	}
	d := dropped{member: m}
	switch {
	case e.kind == timerConsumerSession && s.passed(&m.session, e):
		d.kind, d.cause = EventMemberExpired, fmt.Sprintf("missed heartbeats for %s", s.consumerSession(g.id, m.about.Classic))
	case e.kind == timerConsumerRevoke && m.state == offsets.MemberUnrevokedPartitions && m.revokeAt.Equal(e.at):
		d.kind, d.cause = EventMemberFenced, fmt.Sprintf("did not give up its partitions within %s", m.rebalanceTimeout())
	case e.kind == timerConsumerJoin && m.joinAt.Equal(e.at):
		d.kind, d.cause = EventMemberFenced, fmt.Sprintf("did not join again within %s", m.rebalanceTimeout())
	case e.kind == timerConsumerSync && m.syncAt.Equal(e.at):
		d.kind, d.cause = EventMemberFenced, fmt.Sprintf("sent no SyncGroup within %s", m.rebalanceTimeout())
	default:
		return
	}
	if s.drops == nil {
		s.drops = map[string][]dropped{}
	}
	if !slices.ContainsFunc(s.drops[g.id], func(o dropped) bool { return o.member == m }) {
		s.drops[g.id] = append(s.drops[g.id], d)
	}
}

// dropExpired removes the members that fireConsumer noted.
func (s *Shard) dropExpired() {
	for _, id := range slices.Sorted(maps.Keys(s.drops)) {
		s.dropConsumers(s.groups[id], s.drops[id]...)
	}
	s.drops = nil
}

// startConsumer gives the members of a loaded group a full session.
func (s *Shard) startConsumer(g *group) {
	for _, id := range g.consumer.memberIDs() {
		m := g.consumer.members[id]
		m.session, m.joinAt, m.syncAt = session{}, time.Time{}, time.Time{}
		if !mutant.On(mutant.SessionsForgotten) {
			s.touchConsumer(g, m)
		}
		if m.state == offsets.MemberUnrevokedPartitions {
			m.revokeAt = s.now.Add(m.rebalanceTimeout())
			s.schedule(timerConsumerRevoke, g.id, id, m.revokeAt)
		}
	}
}

// consumerTombstones makes the records that remove an empty group.
func (s *Shard) consumerTombstones(g *group) {
	c := g.consumer
	for _, re := range slices.Sorted(maps.Keys(c.regexes)) {
		s.record(offsets.ConsumerRegex{Group: g.id, Regex: re})
	}
	s.record(offsets.ConsumerTargetEpoch{Group: g.id})
	s.record(offsets.ConsumerGroup{Group: g.id})
}

// consumerDescribe describes a group of the KIP-848 protocol.
func (s *Shard) consumerDescribe(r *ConsumerGroupDescribe) Response {
	g := s.groups[r.Group]
	if g == nil || g.consumer == nil {
		resp := &ConsumerGroupDescribeResponse{Err: kafka.ErrGroupIDNotFound, Message: fmt.Sprintf("Group %s not found.", r.Group)}
		if g != nil {
			resp.Message = fmt.Sprintf("Group %s is not a consumer group.", r.Group)
		}
		return resp
	}
	c := g.consumer
	resp := &ConsumerGroupDescribeResponse{
		State: c.state(), Epoch: c.epoch, AssignmentEpoch: c.targetEpoch,
		Assignor: s.preferredAssignor(&subscription{members: c.members}),
	}
	for _, id := range c.memberIDs() {
		m := c.members[id]
		resp.Members = append(resp.Members, DescribedConsumer{
			MemberID: id, InstanceID: m.about.InstanceID, RackID: m.about.RackID, MemberEpoch: m.epoch,
			ClientID: m.about.ClientID, ClientHost: m.about.ClientHost,
			SubscribedTopicNames: m.about.SubscribedTopicNames, SubscribedTopicRegex: m.about.SubscribedTopicRegex,
			Assignment: s.named(m.assigned), Target: s.named(c.target[id]), Classic: m.about.Classic != nil,
		})
	}
	return resp
}

// named adds the topics' names to a set; topics that are no more are left out.
func (s *Shard) named(set partitionSet) []NamedPartitions {
	var out []NamedPartitions
	for _, t := range set {
		if topic, ok := s.topics.ByID(t.TopicID); ok {
			out = append(out, NamedPartitions{TopicID: t.TopicID, Topic: topic.Name, Partitions: t.Partitions})
		}
	}
	return out
}

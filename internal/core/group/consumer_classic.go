package group

import (
	"fmt"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/format/offsets"
)

// Members of a consumer group that speak the classic protocol. The coordinator
// assigns to them as to the others; they learn of it by joining and syncing
// again, which a heartbeat tells them to do. A member epoch is their generation.

// joinConsumer lets a member join a consumer group by the classic protocol. It
// never waits.
func (s *Shard) joinConsumer(g *group, r *JoinGroup, t Ticket) kafka.ErrorCode {
	c := g.consumer
	known := c.members[r.MemberID] != nil || r.InstanceID != "" && c.static[r.InstanceID] != ""
	if !known && len(c.members) >= s.opts.ConsumerMaxSize {
		return kafka.ErrGroupMaxSizeReached
	}
	if !c.supportedClassic(r.ProtocolType, r.Protocols) {
		return kafka.ErrInconsistentGroupProtocol
	}
	id := r.MemberID
	if id == "" {
		id = s.newMemberID(r.ClientID)
		if r.Version >= 4 && r.InstanceID == "" {
			resp := r.Refuse(kafka.ErrMemberIDRequired).(*JoinGroupResponse)
			resp.MemberID = id
			s.reply(t, resp)
			return kafka.None
		}
	}
	if r.InstanceID != "" && r.MemberID != "" {
		switch holder := c.static[r.InstanceID]; {
		case holder == "":
			return kafka.ErrUnknownMemberID
		case holder != r.MemberID:
			return kafka.ErrFencedInstanceID
		}
	}
	sub, ok := parseSubscription(r.Protocols[0].Metadata)
	if !ok {
		return kafka.ErrInconsistentGroupProtocol
	}
	return s.joinAsConsumer(g, r, t, id, sub)
}

// joinAsConsumer says in the words of a heartbeat what a classic member says
// when it joins.
func (s *Shard) joinAsConsumer(g *group, r *JoinGroup, t Ticket, id string, sub embeddedSubscription) kafka.ErrorCode {
	timeout := r.RebalanceTimeoutMs
	if timeout < 0 {
		timeout = r.SessionTimeoutMs
	}
	owned := s.byID(sub.owned)
	if owned == nil {
		owned = partitionSet{}
	}
	noRegex := ""
	hb := &ConsumerGroupHeartbeat{
		Group: r.Group, MemberID: id, MemberEpoch: epochJoin, InstanceID: r.InstanceID, RackID: sub.rack,
		ClientID: r.ClientID, ClientHost: r.ClientHost, RebalanceTimeoutMs: timeout,
		SubscribedTopicNames: sortedNames(sub.topics), SubscribedTopicRegex: &noRegex, Owned: owned,
		classic: &offsets.ClassicMember{SessionTimeoutMs: r.SessionTimeoutMs, Protocols: classicProtocols(r.Protocols)},
	}
	m, code, _ := s.heartbeatMember(g, hb)
	if code != kafka.None {
		return code
	}
	resp := s.heartbeatOf(g, m, hb).(*ConsumerGroupHeartbeatResponse)
	// The member must ask for its assignment in time. That of a new member is
	// noted when the record that makes it is applied.
	syncAt := s.now.Add(time.Duration(timeout) * time.Millisecond)
	s.schedule(timerConsumerSync, g.id, id, syncAt)
	if live := g.consumer.members[id]; live != nil {
		live.joinAt, live.syncAt = time.Time{}, syncAt
	}
	s.reply(t, &JoinGroupResponse{
		Generation: resp.MemberEpoch, ProtocolType: protocolTypeConsumer, ProtocolName: r.Protocols[0].Name, MemberID: id,
	})
	return kafka.None
}

// classicIn finds the member of a consumer group that speaks the classic
// protocol, and checks its generation; -1 for any.
func (c *consumerGroup) classicIn(memberID, instanceID string, generation int32) (*consumerMember, kafka.ErrorCode) {
	if instanceID != "" {
		switch holder, ok := c.static[instanceID]; {
		case !ok:
			return nil, kafka.ErrUnknownMemberID
		case memberID == "" && generation < 0: // an administrator removes it
			memberID = holder
		case holder != memberID:
			return nil, kafka.ErrFencedInstanceID
		}
	}
	m := c.members[memberID]
	switch {
	case m == nil || m.about.Classic == nil:
		return nil, kafka.ErrUnknownMemberID
	case generation >= 0 && m.epoch != generation:
		return nil, kafka.ErrIllegalGeneration
	}
	return m, kafka.None
}

// syncConsumer tells a classic member of a consumer group its assignment.
func (s *Shard) syncConsumer(g *group, r *SyncGroup, t Ticket) kafka.ErrorCode {
	m, code := g.consumer.classicIn(r.MemberID, r.InstanceID, max(r.Generation, 0))
	if code != kafka.None {
		return code
	}
	protocol := m.about.Classic.Protocols[0]
	if r.ProtocolType != "" && r.ProtocolType != protocolTypeConsumer || r.ProtocolName != "" && r.ProtocolName != protocol.Name {
		return kafka.ErrInconsistentGroupProtocol
	}
	if s.mayMove(g, m) && m.state != offsets.MemberUnrevokedPartitions {
		s.expectJoin(g, m)
		return kafka.ErrRebalanceInProgress
	}
	m.syncAt = time.Time{}
	s.touchConsumer(g, m)
	s.reply(t, &SyncGroupResponse{
		ProtocolType: protocolTypeConsumer, ProtocolName: protocol.Name,
		Assignment: s.embeddedAssignment(protocol.Metadata, m.assigned),
	})
	return kafka.None
}

// heartbeatConsumer keeps a classic member of a consumer group alive, and
// asks it to join again where there is something new for it.
func (s *Shard) heartbeatConsumer(g *group, r *Heartbeat) kafka.ErrorCode {
	c := g.consumer
	m, code := c.classicIn(r.MemberID, r.InstanceID, max(r.Generation, 0))
	if code != kafka.None {
		return code
	}
	s.touchConsumer(g, m)
	switch {
	case s.mayMove(g, m), m.state == offsets.MemberUnrevokedPartitions:
	case m.state == offsets.MemberUnreleasedPartitions && c.released(m):
	case s.topicsChanged(g):
	default:
		return kafka.None
	}
	s.expectJoin(g, m)
	return kafka.ErrRebalanceInProgress
}

// mayMove says whether joining again takes the member to another epoch: there
// is an assignment for it, or one can be made.
func (s *Shard) mayMove(g *group, m *consumerMember) bool {
	c := g.consumer
	return m.epoch < c.targetEpoch || m.epoch < c.epoch && s.assignmentWait(g) == 0
}

// released says whether all that the member waits for is free.
func (c *consumerGroup) released(m *consumerMember) bool {
	wanted := subtract(c.target[m.id], m.assigned)
	return countPartitions(c.free(wanted, m)) == countPartitions(wanted)
}

// topicsChanged raises the group epoch if the topics are not those that the
// group was assigned by: in a group of classic members alone nobody else would
// notice.
func (s *Shard) topicsChanged(g *group) bool {
	c := g.consumer
	if c.checked == s.topics.Version() {
		return false
	}
	p := &subscription{members: c.members, regexes: map[string][]string{}}
	s.resolveRegexes(g, p)
	return s.updateEpoch(g, p, "") > c.epoch
}

// expectJoin gives a classic member its rebalance timeout to join again.
func (s *Shard) expectJoin(g *group, m *consumerMember) {
	if m.joinAt.IsZero() {
		m.joinAt = s.now.Add(m.rebalanceTimeout())
		s.schedule(timerConsumerJoin, g.id, m.id, m.joinAt)
	}
}

func (m *consumerMember) rebalanceTimeout() time.Duration {
	return time.Duration(m.about.RebalanceTimeoutMs) * time.Millisecond
}

// touchConsumer gives a member of a consumer group a full session.
func (s *Shard) touchConsumer(g *group, m *consumerMember) {
	s.extend(&m.session, timerConsumerSession, g.id, m.id, s.now.Add(s.consumerSession(g.id, m.about.Classic)))
}

// leaveConsumer takes classic members out of a consumer group.
func (s *Shard) leaveConsumer(g *group, r *LeaveGroup, t Ticket) {
	resp := &LeaveGroupResponse{Members: make([]LeftMember, len(r.Members))}
	var drops []dropped
	gone := map[string]bool{}
	for i, leaving := range r.Members {
		left := &resp.Members[i]
		*left = LeftMember{MemberID: leaving.MemberID, InstanceID: leaving.InstanceID}
		m, code := g.consumer.classicIn(leaving.MemberID, leaving.InstanceID, -1)
		if code == kafka.None && gone[m.id] {
			code = kafka.ErrUnknownMemberID
		}
		if left.Err = code; code != kafka.None {
			continue
		}
		gone[m.id] = true
		drops = append(drops, dropped{m, EventMemberLeft, fmt.Sprintf("it left%s", reason(leaving.Reason))})
	}
	if r.Version <= 2 && len(resp.Members) > 0 {
		resp.Err = resp.Members[0].Err
	}
	if len(drops) > 0 {
		s.dropConsumers(g, drops...)
	}
	s.reply(t, resp)
}

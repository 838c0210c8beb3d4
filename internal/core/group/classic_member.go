package group

import (
	"fmt"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// syncGroup answers a member with its assignment, once the leader has brought it.
func (s *Shard) syncGroup(r *SyncGroup, t Ticket) {
	if code := s.decideSync(r, t); code != kafka.None {
		s.reply(t, r.Refuse(code))
	}
}

func (s *Shard) decideSync(r *SyncGroup, t Ticket) kafka.ErrorCode {
	if r.Version >= 5 && (r.ProtocolType == "" || r.ProtocolName == "") {
		return kafka.ErrInconsistentGroupProtocol
	}
	if g := s.groups[r.Group]; g != nil && g.consumer != nil {
		return s.syncConsumer(g, r, t)
	}
	c, code := s.classicGroup(r.Group)
	if code != kafka.None {
		return code
	}
	if code := c.check(r.MemberID, r.InstanceID); code != kafka.None {
		return code
	}
	switch {
	case r.Generation != c.generation:
		return kafka.ErrIllegalGeneration
	case r.ProtocolType != "" && r.ProtocolType != c.protocolType, r.ProtocolName != "" && r.ProtocolName != c.protocol:
		return kafka.ErrInconsistentGroupProtocol
	}
	g, m := s.groups[r.Group], c.members[r.MemberID]
	switch c.state {
	case stateEmpty:
		return kafka.ErrUnknownMemberID
	case statePreparing:
		return kafka.ErrRebalanceInProgress
	case stateStable:
		c.synced(m)
		s.touch(g, m)
		s.reply(t, c.assigned(m))
		return kafka.None
	}
	if m.sync.is {
		s.answer(&m.sync, &SyncGroupResponse{Err: kafka.ErrRebalanceInProgress})
	}
	m.sync = waiting{t, true}
	c.synced(m)
	if m.id == c.leader {
		s.assign(g, r.Assignments)
	}
	return kafka.None
}

// assign stores what the leader gave to each member, and tells those who wait.
// Whom the leader left out gets nothing.
func (s *Shard) assign(g *group, assignments []Assignment) {
	c := g.classic
	byMember := make(map[string][]byte, len(assignments))
	for i := range assignments {
		byMember[assignments[i].MemberID] = assignments[i].Data
	}
	c.enter(stateStable, s.now)
	for _, m := range c.order {
		m.assignment = byMember[m.id]
	}
	s.record(offsets.GroupMetadata{Group: g.id, Value: c.snapshot()})
	for _, m := range c.order {
		if m.sync.is {
			s.answer(&m.sync, c.assigned(m))
			s.touch(g, m)
		}
	}
	s.event(EventGenerationAssigned, g, c.leader, "the leader brought the assignment")
}

func (c *classicGroup) assigned(m *classicMember) *SyncGroupResponse {
	return &SyncGroupResponse{ProtocolType: c.protocolType, ProtocolName: c.protocol, Assignment: m.assignment}
}

// classicGroup finds the classic group that a member speaks of.
func (s *Shard) classicGroup(id string) (*classicGroup, kafka.ErrorCode) {
	if id == "" {
		return nil, kafka.ErrInvalidGroupID
	}
	g := s.groups[id]
	if g == nil || g.consumer != nil {
		return nil, kafka.ErrUnknownMemberID
	}
	return g.classic, kafka.None
}

func (s *Shard) heartbeat(r *Heartbeat) kafka.ErrorCode {
	if g := s.groups[r.Group]; g != nil && g.consumer != nil {
		return s.heartbeatConsumer(g, r)
	}
	c, code := s.classicGroup(r.Group)
	if code != kafka.None {
		return code
	}
	if code := c.check(r.MemberID, r.InstanceID); code != kafka.None {
		return code
	}
	if r.Generation != c.generation {
		return kafka.ErrIllegalGeneration
	}
	if c.state == stateEmpty {
		return kafka.ErrUnknownMemberID
	}
	if m := c.members[r.MemberID]; !m.isNew {
		s.touch(s.groups[r.Group], m)
	}
	if c.state == statePreparing {
		return kafka.ErrRebalanceInProgress
	}
	return kafka.None
}

func (s *Shard) leaveGroup(r *LeaveGroup, t Ticket) {
	if g := s.groups[r.Group]; g != nil && g.consumer != nil {
		s.leaveConsumer(g, r, t)
		return
	}
	c, code := s.classicGroup(r.Group)
	resp := &LeaveGroupResponse{Members: make([]LeftMember, len(r.Members))}
	if code == kafka.ErrInvalidGroupID {
		resp.Err, resp.Members = code, nil
		s.reply(t, resp)
		return
	}
	removed := ""
	for i, m := range r.Members {
		if mutant.On(mutant.LeaveOne) && i > 0 {
			break
		}
		left := &resp.Members[i]
		*left = LeftMember{MemberID: m.MemberID, InstanceID: m.InstanceID, Err: code}
		if code != kafka.None {
			continue
		}
		var was bool
		if left.Err, was = s.leave(s.groups[r.Group], c, m); was {
			removed = m.MemberID + m.InstanceID
		}
	}
	if r.Version <= 2 && len(resp.Members) > 0 {
		resp.Err = resp.Members[0].Err
	}
	s.reply(t, resp)
	if code != kafka.None {
		return
	}
	g := s.groups[r.Group]
	if removed != "" {
		s.rebalanceOrComplete(g, fmt.Sprintf("member %s left", removed))
		return
	}
	s.completeIfAllJoined(g)
}

// leave takes one member out; it says whether a member of the group is gone.
func (s *Shard) leave(g *group, c *classicGroup, r LeavingMember) (kafka.ErrorCode, bool) {
	id := r.MemberID
	if id == "" && r.InstanceID != "" {
		// An administrator removes a static member without knowing its id.
		var ok bool
		if id, ok = c.static[r.InstanceID]; !ok {
			return kafka.ErrUnknownMemberID, false
		}
	}
	if _, ok := c.pending[id]; ok && r.InstanceID == "" {
		delete(c.pending, id)
		return kafka.None, false
	}
	if code := c.check(id, r.InstanceID); code != kafka.None {
		return code, false
	}
	cause := "the member said so"
	if r.Reason != "" {
		cause = r.Reason
	}
	s.removeMember(g, c.members[id], EventMemberLeft, cause)
	return kafka.None, true
}

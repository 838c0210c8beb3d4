package group

import (
	"fmt"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// joinGroup answers a join once its generation is complete, or at once where
// the member need not wait.
func (s *Shard) joinGroup(r *JoinGroup, t Ticket) {
	if code := s.decideJoin(r, t); code != kafka.None {
		s.reply(t, r.Refuse(code))
	}
}

// decideJoin returns the code to refuse the join with; None when it has been
// answered or waits.
func (s *Shard) decideJoin(r *JoinGroup, t Ticket) kafka.ErrorCode {
	if r.Group == "" {
		return kafka.ErrInvalidGroupID
	}
	session := time.Duration(r.SessionTimeoutMs) * time.Millisecond
	if session < s.opts.SessionTimeoutMin || session > s.opts.SessionTimeoutMax {
		return kafka.ErrInvalidSessionTimeout
	}
	g := s.groups[r.Group]
	if g == nil {
		if r.MemberID != "" {
			return kafka.ErrUnknownMemberID
		}
		g = &group{id: r.Group, classic: newClassicGroup(s.now)}
	}
	if g.consumer != nil && len(g.consumer.members) > 0 {
		if !s.downgradeForStatic(g, r) {
			return s.joinConsumer(g, r, t)
		}
	} else if g.consumer != nil {
		if code := s.convertToClassic(g, r); code != kafka.None {
			return code
		}
	}
	c := g.classic
	if !c.accepts(r.MemberID, s.opts.MaxSize) {
		delete(c.pending, r.MemberID)
		return kafka.ErrGroupMaxSizeReached
	}
	if !c.supports(r.ProtocolType, r.Protocols) {
		return kafka.ErrInconsistentGroupProtocol
	}
	s.groups[r.Group] = g
	if r.MemberID == "" {
		s.joinNewcomer(g, r, t)
		return kafka.None
	}
	return s.joinKnown(g, r, t)
}

// accepts says whether there is room for the member.
func (c *classicGroup) accepts(memberID string, maxSize int) bool {
	m := c.members[memberID]
	switch c.state {
	case stateEmpty:
		return true
	case statePreparing:
		return m != nil && m.join.is || c.awaitingJoin < maxSize
	default:
		return m != nil || len(c.members) < maxSize
	}
}

// joinNewcomer lets somebody join who has no member id.
func (s *Shard) joinNewcomer(g *group, r *JoinGroup, t Ticket) {
	c := g.classic
	if r.InstanceID != "" {
		id := s.newMemberID(r.InstanceID)
		if old := c.members[c.static[r.InstanceID]]; old != nil {
			s.replaceStatic(g, old, id, r, t)
			return
		}
		s.addMember(g, id, r, t)
		return
	}
	id := s.newMemberID(r.ClientID)
	if r.Version < 4 {
		s.addMember(g, id, r, t)
		return
	}
	deadline := s.now.Add(time.Duration(r.SessionTimeoutMs) * time.Millisecond)
	c.pending[id] = deadline
	s.schedule(timerPendingMember, g.id, id, deadline)
	resp := r.Refuse(kafka.ErrMemberIDRequired).(*JoinGroupResponse)
	resp.MemberID = id
	s.reply(t, resp)
}

// joinKnown lets somebody join who has a member id.
func (s *Shard) joinKnown(g *group, r *JoinGroup, t Ticket) kafka.ErrorCode {
	c := g.classic
	if _, ok := c.pending[r.MemberID]; ok && r.InstanceID == "" {
		s.addMember(g, r.MemberID, r, t)
		return kafka.None
	}
	if code := c.check(r.MemberID, r.InstanceID); code != kafka.None {
		return code
	}
	m := c.members[r.MemberID]
	switch c.state {
	case statePreparing:
		s.updateMember(g, m, r, t, fmt.Sprintf("member %s joined during the rebalance", m.id))
	case stateCompleting:
		if !m.matches(r.Protocols) {
			s.updateMember(g, m, r, t, fmt.Sprintf("member %s changed its metadata%s", m.id, reason(r.Reason)))
			break
		}
		s.touch(g, m)
		s.reply(t, c.joined(m))
	case stateStable:
		switch {
		case m.id == c.leader:
			s.updateMember(g, m, r, t, fmt.Sprintf("leader %s joined again%s", m.id, reason(r.Reason)))
		case !m.matches(r.Protocols):
			s.updateMember(g, m, r, t, fmt.Sprintf("member %s changed its metadata%s", m.id, reason(r.Reason)))
		default:
			s.touch(g, m)
			s.reply(t, c.joined(m))
		}
	default:
		return kafka.ErrUnknownMemberID
	}
	return kafka.None
}

func reason(clients string) string {
	if clients == "" {
		return ""
	}
	return ", client says: " + clients
}

// check says whether the member is one of the group, under its instance id if
// it gives one.
func (c *classicGroup) check(memberID, instanceID string) kafka.ErrorCode {
	if instanceID != "" {
		switch id, ok := c.static[instanceID]; {
		case !ok:
			return kafka.ErrUnknownMemberID
		case id != memberID:
			return kafka.ErrFencedInstanceID
		}
	}
	if c.members[memberID] == nil {
		return kafka.ErrUnknownMemberID
	}
	return kafka.None
}

// joined is the answer to a member that joined the present generation.
func (c *classicGroup) joined(m *classicMember) *JoinGroupResponse {
	resp := &JoinGroupResponse{
		Generation: c.generation, ProtocolType: c.protocolType, ProtocolName: c.protocol,
		Leader: c.leader, MemberID: m.id,
	}
	if mutant.On(mutant.TwoLeaders) {
		resp.Leader = m.id
	}
	if m.id == resp.Leader {
		resp.Members = make([]JoinedMember, 0, len(c.order))
		for _, o := range c.order {
			resp.Members = append(resp.Members, JoinedMember{
				MemberID: o.id, InstanceID: o.instanceID, Metadata: o.metadata(c.protocol),
			})
		}
	}
	return resp
}

func (s *Shard) addMember(g *group, id string, r *JoinGroup, t Ticket) {
	c := g.classic
	m := &classicMember{
		id: id, instanceID: r.InstanceID, clientID: r.ClientID, clientHost: r.ClientHost,
		join: waiting{t, true}, isNew: true,
	}
	m.update(r)
	if len(c.members) == 0 {
		c.protocolType = r.ProtocolType
	}
	if c.state == statePreparing && c.fromEmpty {
		c.newcomer = true
	}
	delete(c.pending, id)
	c.add(m)
	s.recordRename(g, m) // of one that was away for too long, and is in the log still
	s.touch(g, m)
	s.event(EventMemberJoined, g, id, r.Reason)
	s.rebalanceOrComplete(g, fmt.Sprintf("member %s joined%s", id, reason(r.Reason)))
}

// update takes over what a join says about the member.
func (m *classicMember) update(r *JoinGroup) {
	m.protocols, m.named = r.Protocols, nil
	m.sessionTimeoutMs, m.rebalanceTimeoutMs = r.SessionTimeoutMs, r.RebalanceTimeoutMs
	if r.RebalanceTimeoutMs < 0 {
		m.rebalanceTimeoutMs = r.SessionTimeoutMs
	}
}

func (s *Shard) updateMember(g *group, m *classicMember, r *JoinGroup, t Ticket, cause string) {
	m.update(r)
	s.park(g, m, r, t)
	s.rebalanceOrComplete(g, cause)
}

// park makes the join wait, in place of an earlier one of the same member.
func (s *Shard) park(g *group, m *classicMember, r *JoinGroup, t Ticket) {
	if m.join.is {
		s.answer(&m.join, &JoinGroupResponse{Err: kafka.ErrRebalanceInProgress, Generation: -1, MemberID: r.MemberID})
	} else {
		g.classic.awaitingJoin++
	}
	m.join = waiting{t, true}
}

// replaceStatic gives the place of a static member to its new instance
// (KIP-345). Nobody else notices while the group is stable, the protocol stays
// the same, and the old instance did not owe the group a rebalance.
func (s *Shard) replaceStatic(g *group, m *classicMember, id string, r *JoinGroup, t Ticket) {
	c := g.classic
	oldID, oldLeader, owes := m.id, c.leader, c.givesUp(m)
	if m.join.is {
		c.awaitingJoin--
		s.answer(&m.join, &JoinGroupResponse{Err: kafka.ErrFencedInstanceID, Generation: -1, MemberID: oldID})
	}
	s.answer(&m.sync, &SyncGroupResponse{Err: kafka.ErrFencedInstanceID})
	c.rename(m, id)
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	m.session = session{}
	s.event(EventMemberFenced, g, oldID, fmt.Sprintf("instance %s came back as member %s", m.instanceID, id))
	m.update(r)
	s.touch(g, m)
	if c.state == stateStable && c.selectProtocol() == c.protocol && !owes {
		c.computeSubscribed()
		s.record(offsets.GroupMetadata{Group: g.id, Value: c.snapshot()})
		resp := c.joined(m)
		switch {
		case c.leader != id:
		case r.Version >= 9:
			resp.SkipAssignment = true
		default:
			// Older clients take a leader for one that must assign, which would
			// leave the others unaware. Named as the old id, it acts as a follower.
			resp.Leader, resp.Members = oldLeader, nil
		}
		s.reply(t, resp)
		return
	}
	s.recordRename(g, m)
	s.park(g, m, r, t)
	s.rebalanceOrComplete(g, fmt.Sprintf("static member %s came back as %s", m.instanceID, id))
}

// recordRename makes the record by which a static member has its new id in the
// last generation that was stored. A coordinator that takes over before the next
// one would fence the new instance in favour of the old one otherwise, for good.
func (s *Shard) recordRename(g *group, m *classicMember) {
	if g.stored == nil || m.instanceID == "" || mutant.On(mutant.StaticRenameUnlogged) {
		return
	}
	i := slices.IndexFunc(g.stored.Members, func(o offsets.GroupMember) bool { return o.InstanceID == m.instanceID && o.MemberID != m.id })
	if i < 0 {
		return
	}
	oldID := g.stored.Members[i].MemberID
	v := *g.stored
	v.Members = slices.Clone(v.Members)
	v.Members[i].MemberID, v.Members[i].ClientID, v.Members[i].ClientHost = m.id, m.clientID, m.clientHost
	if v.Leader == oldID {
		v.Leader = m.id
	}
	s.record(offsets.GroupMetadata{Group: g.id, Value: &v})
}

// rebalanceOrComplete starts a rebalance, or ends the one that runs if this
// member was the last to wait for.
func (s *Shard) rebalanceOrComplete(g *group, cause string) {
	if g.classic.state == statePreparing {
		s.completeIfAllJoined(g)
		return
	}
	s.prepareRebalance(g, cause)
}

// prepareRebalance asks all members to join again. A group that was empty
// waits a little for more members first.
func (s *Shard) prepareRebalance(g *group, cause string) {
	c := g.classic
	if c.state == stateCompleting {
		s.refuseSyncs(g)
	}
	for _, m := range c.order {
		m.owesSync = false
	}
	c.awaitingSync, c.syncAt = 0, time.Time{}
	s.event(EventRebalanceStarted, g, "", cause)
	c.fromEmpty = c.state == stateEmpty
	c.enter(statePreparing, s.now)
	if !c.fromEmpty {
		s.waitForJoins(g)
		s.completeIfAllJoined(g)
		return
	}
	c.newcomer = false
	c.joinDelay = s.opts.InitialRebalanceDelay
	c.joinLeft = max(c.rebalanceTimeout()-c.joinDelay, 0)
	if c.joinDelay == 0 {
		s.completeJoin(g)
		return
	}
	s.setJoinTimer(g, c.joinDelay)
}

func (s *Shard) waitForJoins(g *group) {
	s.setJoinTimer(g, max(g.classic.rebalanceTimeout(), 100*time.Millisecond))
}

func (s *Shard) setJoinTimer(g *group, d time.Duration) {
	g.classic.joinAt = s.now.Add(d)
	s.schedule(timerJoin, g.id, "", g.classic.joinAt)
}

// refuseSyncs takes back the assignments of a generation that is over.
func (s *Shard) refuseSyncs(g *group) {
	for _, m := range g.classic.order {
		m.assignment = nil
		if m.sync.is && !mutant.On(mutant.ParkedSyncsLost) {
			s.touch(g, m)
			s.answer(&m.sync, &SyncGroupResponse{Err: kafka.ErrRebalanceInProgress})
		}
	}
}

func (s *Shard) completeIfAllJoined(g *group) {
	if c := g.classic; c.state == statePreparing && !c.fromEmpty && c.allJoined() {
		s.completeJoin(g)
	}
}

// joinTimeout ends the time for joining, or the initial delay if nobody new
// came during it.
func (s *Shard) joinTimeout(g *group) {
	c := g.classic
	if c.fromEmpty && c.newcomer && c.joinLeft > 0 {
		c.newcomer = false
		c.joinDelay = min(s.opts.InitialRebalanceDelay, c.joinLeft)
		c.joinLeft = max(c.joinLeft-c.joinDelay, 0)
		s.setJoinTimer(g, c.joinDelay)
		return
	}
	s.completeJoin(g)
}

// completeJoin makes the next generation out of the members that joined.
// Static members stay, though they did not.
func (s *Shard) completeJoin(g *group) {
	c := g.classic
	c.joinAt = time.Time{}
	for _, m := range slices.Clone(c.order) {
		if !m.join.is && m.instanceID == "" {
			c.remove(m)
			s.event(EventMemberExpired, g, m.id, fmt.Sprintf("did not join again within %s", c.since(s.now)))
		}
	}
	if len(c.members) > 0 && !c.electLeader() {
		s.waitForJoins(g)
		return
	}
	if !mutant.On(mutant.GenerationKept) || c.generation == 0 {
		c.generation = max(c.generation, c.skipped) + 1
		c.skipped = 0
	}
	if c.generation < 0 {
		c.generation = 1
	}
	c.fromEmpty = false
	if len(c.members) == 0 {
		c.protocol, c.leader = "", ""
		c.enter(stateEmpty, s.now)
		c.computeSubscribed()
		s.record(offsets.GroupMetadata{Group: g.id, Value: c.snapshot()})
		s.event(EventGroupEmptied, g, "", "its last member is gone")
		return
	}
	c.protocol = c.selectProtocol()
	c.enter(stateCompleting, s.now)
	c.computeSubscribed()
	for _, m := range c.order {
		m.isNew = false
		if m.join.is {
			s.answer(&m.join, c.joined(m))
		}
		m.owesSync = true
		s.touch(g, m)
	}
	c.awaitingJoin, c.awaitingSync = 0, len(c.order)
	c.syncAt = s.now.Add(c.rebalanceTimeout())
	s.schedule(timerSync, g.id, "", c.syncAt)
	s.event(EventGenerationStarted, g, c.leader, fmt.Sprintf("protocol %s selected", c.protocol))
}

func (c *classicGroup) since(now time.Time) time.Duration {
	return max(now.Sub(time.UnixMilli(c.stateSince)), 0).Round(time.Millisecond)
}

// touch gives the member a full session from now on. A member that waits for
// its first generation cannot send heartbeats, so it has more time.
func (s *Shard) touch(g *group, m *classicMember) {
	d := m.sessionTimeout()
	if m.isNew {
		d = s.opts.NewMemberTimeout
	}
	s.extend(&m.session, timerSession, g.id, m.id, s.now.Add(d))
}

// removeMember takes the member out, and the group on to its next generation.
func (s *Shard) removeMember(g *group, m *classicMember, kind EventKind, cause string) {
	c := g.classic
	if m.join.is {
		c.awaitingJoin--
		s.answer(&m.join, &JoinGroupResponse{Err: kafka.ErrUnknownMemberID, Generation: -1})
	}
	s.answer(&m.sync, &SyncGroupResponse{Err: kafka.ErrUnknownMemberID})
	c.remove(m)
	s.event(kind, g, m.id, cause)
}

// fireClassic acts on a deadline of a classic group.
func (s *Shard) fireClassic(g *group, e timer) {
	c := g.classic
	switch e.kind {
	case timerJoin:
		if c.state == statePreparing && c.joinAt.Equal(e.at) {
			s.joinTimeout(g)
		}
	case timerSync:
		if c.syncAt.Equal(e.at) {
			s.syncTimeout(g)
		}
	case timerSession:
		if m := c.members[e.member]; m != nil && s.passed(&m.session, e) {
			s.sessionTimeout(g, m)
		}
	case timerPendingMember:
		if at, ok := c.pending[e.member]; ok && at.Equal(e.at) {
			delete(c.pending, e.member)
			s.completeIfAllJoined(g)
		}
	}
}

// sessionTimeout removes a member that was not heard of. While the coordinator
// owes it an answer it need not say anything, unless it never was in a
// generation.
func (s *Shard) sessionTimeout(g *group, m *classicMember) {
	if !m.isNew && (m.join.is || m.sync.is) {
		return
	}
	cause := fmt.Sprintf("missed heartbeats for %s", m.sessionTimeout())
	if m.isNew {
		cause = fmt.Sprintf("joined no generation within %s", s.opts.NewMemberTimeout)
	}
	id := m.id
	s.removeMember(g, m, EventMemberExpired, cause)
	s.rebalanceOrComplete(g, fmt.Sprintf("member %s %s", id, cause))
}

// syncTimeout removes the members that did not ask for their assignment.
func (s *Shard) syncTimeout(g *group) {
	c := g.classic
	c.syncAt = time.Time{}
	if c.state != stateCompleting && c.state != stateStable {
		return
	}
	var gone []string
	for _, m := range slices.Clone(c.order) {
		if m.owesSync {
			gone = append(gone, m.id)
			s.removeMember(g, m, EventMemberExpired, fmt.Sprintf("sent no SyncGroup within %s", c.since(s.now)))
		}
	}
	if len(gone) > 0 {
		s.prepareRebalance(g, fmt.Sprintf("%d members sent no SyncGroup, the first is %s", len(gone), gone[0]))
	}
}

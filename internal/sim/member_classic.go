package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// The classic protocol as a member speaks it: join, sync, heartbeat, leave.

// classicJoin joins the group, anew or again.
func (m *member) classicJoin() {
	if m.superseded && m.id == "" {
		m.die() // it would take the place of the new process
		return
	}
	m.turn++
	m.owes, m.unsynced = false, false
	if !m.joining {
		m.askedAt = m.g.w.now
	}
	m.joining, m.settled, m.rejoin = true, false, false
	if !m.cooperative {
		m.disown(nil)
	}
	m.found(func() {
		p := &m.g.w.plan.groups
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version = 5 + int16(m.c.rng.IntN(5))
		if m.instance != "" {
			req.Version = 9 // with an older one a leader that comes back leads no more (KIP-814)
		}
		req.Group, req.MemberID, req.ProtocolType = m.g.name, m.id, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(p.session/millisecond), int32(m.slot.rebalance/millisecond)
		if m.instance != "" {
			req.InstanceID = &m.instance
		}
		for _, name := range m.strategies() {
			proto := kmsg.NewJoinGroupRequestProtocol()
			proto.Name, proto.Metadata = name, m.metadata()
			req.Protocols = append(req.Protocols, proto)
		}
		turn, sent := m.turn, m.g.w.now
		m.highAtJoin, m.joinedAt = m.g.high, sent
		k := m.ask(req, p.initialDelay+p.rebalance+p.session+10*second, func(r kmsg.Response, err error) {
			if m.turn == turn {
				m.classicJoined(r, err)
			}
		})
		switch {
		case m.instance != "" && m.id == "":
			k.late = func() { m.slot.outrunAt = m.g.w.now }
		case m.g.kind == groupMixed:
			k.late = func() { m.durable = false } // a consumer group waits for its sync, which this one knows nothing of
		}
	})
}

// mostStrategies is how many protocols there are that eager members may know.
const mostStrategies = 3

// strategies are the protocols that the member knows, as it prefers them. One is
// known to all members of the group.
func (m *member) strategies() []string {
	if m.cooperative {
		return []string{"cooperative-sticky"}
	}
	return m.slot.strategies
}

// metadata is what the member tells the leader.
func (m *member) metadata() []byte {
	meta := kmsg.ConsumerMemberMetadata{Version: 2, Topics: slices.Clone(m.topics), Generation: -1}
	slices.Sort(meta.Topics)
	if m.cooperative {
		meta.Generation = m.epoch
		for _, p := range m.list() {
			meta.OwnedPartitions = append(meta.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{
				Topic: p.part.topic.name, Partitions: []int32{p.part.number}})
		}
	}
	return meta.AppendTo(nil)
}

func (m *member) classicJoined(r kmsg.Response, err error) {
	if err != nil {
		m.last = "JoinGroup: " + err.Error()
		m.soon(m.classicJoin)
		return
	}
	resp := r.(*kmsg.JoinGroupResponse)
	code := kafka.ErrorCode(resp.ErrorCode)
	m.last = "JoinGroup: " + code.String()
	switch {
	case code == kafka.None:
	case m.moved(code), code == kafka.ErrRebalanceInProgress:
		m.soon(m.classicJoin)
		return
	case code == kafka.ErrMemberIDRequired:
		m.id = resp.MemberID
		m.classicJoin()
		return
	case code == kafka.ErrUnknownMemberID:
		m.forgotten("JoinGroup", code)
		m.soon(m.classicJoin)
		return
	case code == kafka.ErrFencedInstanceID:
		m.fencedInstance("JoinGroup")
		return
	case code == kafka.ErrInconsistentGroupProtocol && len(m.strategies()) < mostStrategies && m.g.kind == groupEager:
		// The next coordinator knows of each member the protocol of the generation
		// alone, which this one may not know.
		m.note("knows no protocol of the group's")
		m.die()
		m.g.w.after(m.c.between(100*millisecond, 5*second), func() {
			if g := m.g; !g.w.healed || g.deserted() {
				m.slot.start()
			}
		})
		return
	default:
		m.unexpected("JoinGroup", code)
		return
	}
	if m.g.kind == groupMixed && m.leaseUntil < m.g.w.now {
		m.durable = false // a consumer group takes one that it had given up for a new one, with its old id
	}
	// It has until a rebalance timeout from when the generation began to sync,
	// however often it asks what that is. The generation did not begin before the
	// member asked to join; one with a static member in it may have.
	if m.instance == "" {
		m.alive(m.askedAt)
	}
	protocol := stringOf(resp.Protocol)
	if !slices.Contains(m.strategies(), protocol) {
		m.g.w.violate("the protocol of a generation is one that all members know", "%s, which knows %v, joined generation %d with %q", m, m.strategies(), resp.Generation, protocol)
		return
	}
	m.slot.heard(m.joinedAt)
	fresh := m.epoch != resp.Generation
	m.id, m.epoch = resp.MemberID, resp.Generation
	m.leads = resp.LeaderID == m.id && len(resp.Members) > 0
	m.note("joined generation %d, leader %s of %d", m.epoch, resp.LeaderID, len(resp.Members))
	var plan []kmsg.SyncGroupRequestGroupAssignment
	if m.assignedFor = ""; m.leads && !resp.SkipAssignment {
		plan = m.assign(resp.Members)
		if m.hangsBeforeSync() {
			m.unsynced = true
			m.note("does not sync the generation that it leads")
			m.classicHeartbeat()
			return
		}
		if fresh && m.g.kind != groupMixed && m.coordinator != nowhere && m.c.rng.IntN(3) == 0 {
			m.commitEarly(plan, protocol)
			return
		}
	}
	m.classicSync(plan, protocol, false)
}

// commitEarly commits in a generation that the member leads, before it brings the
// assignment. That is refused, or else another generation is being made already, and
// then so is the sync.
func (m *member) commitEarly(plan []kmsg.SyncGroupRequestGroupAssignment, protocol string) {
	turn := m.turn
	m.ask(m.commitAs(m.id, m.instance, m.epoch)(), m.g.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if m.turn == turn {
			m.classicSync(plan, protocol, err == nil && codeIn(r) == kafka.None)
		}
	})
}

// hangsBeforeSync says whether the member, told that it leads, is one whose
// program hangs then while its heartbeats go on, as they do in clients with a
// thread for them. It goes on once it is put out: nobody else of its generation
// has an assignment before. Its generation is not in the coordinator's log, so
// that the next coordinator does not know it either. A follower that hangs
// would be in the log, and be kept by the next coordinator, which does not know
// what it owes; and a static leader may have to be waited for until it is missed.
func (m *member) hangsBeforeSync() bool {
	g := m.g
	switch {
	case g.kind > groupCooperative || m.instance != "":
		return false
	case !g.w.healed:
		return m.stuck() || m.c.rng.IntN(25) == 0
	}
	hangs := g.hangs
	g.hangs = false
	return hangs
}

// classicSync asks for the assignment; the leader brings everybody's. Early says
// whether a commit was taken before that.
func (m *member) classicSync(plan []kmsg.SyncGroupRequestGroupAssignment, protocol string, early bool) {
	turn, sent := m.turn, m.g.w.now
	if m.coordinator == nowhere {
		m.soon(m.classicJoin)
		return
	}
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version = 3 + int16(m.c.rng.IntN(3))
	req.Group, req.MemberID, req.Generation, req.GroupAssignment = m.g.name, m.id, m.epoch, plan
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	if req.Version >= 5 {
		consumer := "consumer"
		req.ProtocolType, req.Protocol = &consumer, &protocol
	}
	m.ask(req, m.g.w.plan.groups.rebalance+10*second, func(r kmsg.Response, err error) {
		if m.turn != turn {
			return
		}
		if err != nil {
			m.last = "SyncGroup: " + err.Error()
			m.soon(m.classicJoin)
			return
		}
		resp := r.(*kmsg.SyncGroupResponse)
		if m.refused("SyncGroup", kafka.ErrorCode(resp.ErrorCode)) {
			return
		}
		if early {
			m.g.w.violate("no offset is committed while a generation is made", "%s, which leads generation %d, committed before it brought the assignment", m, m.epoch)
			return
		}
		m.durable, m.joining, m.inForce = true, false, m.epoch
		m.takeAssignment(resp.MemberAssignment, sent)
	})
}

// refused acts on the codes that SyncGroup and Heartbeat may be answered with;
// it says whether there was one.
func (m *member) refused(what string, code kafka.ErrorCode) bool {
	m.last = what + ": " + code.String()
	switch {
	case code == kafka.None:
		return false
	case m.moved(code), code == kafka.ErrRebalanceInProgress:
		m.soon(m.classicJoin)
	case code == kafka.ErrIllegalGeneration:
		m.disown(nil)
		m.epoch = -1
		m.soon(m.classicJoin)
	case code == kafka.ErrUnknownMemberID:
		m.forgotten(what, code)
		m.soon(m.classicJoin)
	case code == kafka.ErrFencedInstanceID:
		m.fencedInstance(what)
	default:
		m.unexpected(what, code)
	}
	return true
}

// takeAssignment takes over what the leader has given to the member, which asked
// for it at a time.
func (m *member) takeAssignment(b []byte, sent instant) {
	var a kmsg.ConsumerMemberAssignment
	if len(b) > 0 {
		if err := a.ReadFrom(b); err != nil {
			m.g.w.violate("an assignment is what the leader made", "%s: %v: %x", m, err, b)
			return
		}
	}
	parts, all := m.knownParts(&a)
	if m.unknown = nil; !all {
		m.unknown = &a
	}
	before := len(m.owned)
	m.disown(parts)
	revoked := before - len(m.owned)
	if revoked > 0 && m.g.kind == groupMixed {
		// In a consumer group its time to give up runs since its join was handled,
		// however late it hears what to give up.
		sent = m.askedAt
	}
	m.alive(sent)
	m.g.synced(m)
	m.own(parts)
	m.note("has %d partitions in generation %d, %d given up", len(m.owned), m.epoch, revoked)
	if revoked > 0 {
		m.soon(m.classicJoin) // so that others get them
		return
	}
	m.classicHeartbeat()
}

// knownParts are the partitions that the member was given, and whether those
// are all: who made a topic may have had no answer so far, so that nobody here
// knows it yet.
func (m *member) knownParts(a *kmsg.ConsumerMemberAssignment) (parts []*groupPart, all bool) {
	all = true
	for _, t := range a.Topics {
		for _, n := range t.Partitions {
			if p := m.g.partByName(t.Topic, n); p != nil {
				parts = append(parts, p)
			} else {
				all = false
			}
		}
	}
	return parts, all
}

func (m *member) classicHeartbeat() {
	turn := m.turn
	m.after(m.g.w.plan.groups.heartbeat, func() {
		if m.turn != turn {
			return
		}
		if m.unknown != nil {
			parts, all := m.knownParts(m.unknown)
			if m.own(parts); all {
				m.unknown = nil
			}
		}
		if !m.stuck() && (m.rejoin || m.leads && m.assignedFor != m.partitionsRead()) {
			m.classicJoin()
			return
		}
		m.found(func() {
			sent := m.g.w.now
			req := kmsg.NewPtrHeartbeatRequest()
			req.Version, req.Group, req.MemberID, req.Generation = 4, m.g.name, m.id, m.epoch
			if m.instance != "" {
				req.InstanceID = &m.instance
			}
			m.ask(req, m.g.w.plan.requestTimeout, func(r kmsg.Response, err error) {
				switch {
				case m.turn != turn:
					return
				case err != nil:
					m.last, m.settled = "Heartbeat: "+err.Error(), false
				default:
					code := kafka.ErrorCode(r.(*kmsg.HeartbeatResponse).ErrorCode)
					if m.moved(code) {
						m.last, m.settled = "Heartbeat: "+code.String(), false
						break
					}
					if code == kafka.ErrRebalanceInProgress && m.stuck() {
						m.last, m.settled = "Heartbeat: "+code.String(), false
						m.owes = m.owes || m.instance == "" // static members stay in any case
						break
					}
					if m.refused("Heartbeat", code) {
						m.settled = false
						return
					}
					if !m.unsynced { // else its time to sync runs
						m.alive(sent)
						// The next coordinator knows nothing of a rebalance that had begun, and
						// waits for nobody.
						m.settled, m.owes = true, false
						m.commitLate()
					}
				}
				m.classicHeartbeat()
			})
		})
	})
}

// commitLate commits now and then in the generation before, which is over since
// the coordinator has just said that it is in a later one.
func (m *member) commitLate() {
	owned := m.list()
	if m.beats++; m.beats%4 > 0 || m.g.kind > groupCooperative || m.inForce != m.epoch || m.coordinator == nowhere || len(owned) == 0 || owned[0].part.topic.deleted {
		return
	}
	at, p := m.epoch-1, owned[0].part
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 8, m.g.name, m.id, at
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition = p.number
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = p.topic.name, []kmsg.OffsetCommitRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	m.c.call(m.coordinator, req, m.g.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err == nil && r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode == 0 {
			m.g.w.violate("what is over is refused", "%s: a commit for %s in generation %d was taken", m, p, at)
		}
	})
}

func (m *member) classicLeave() {
	if m.instance != "" {
		return // static members are missed only when their session is over
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group, req.MemberID = int16(m.c.rng.IntN(6)), m.g.name, m.id
	l := kmsg.NewLeaveGroupRequestMember()
	l.MemberID = m.id
	req.Members = append(req.Members, l)
	m.c.call(m.coordinator, req, m.g.w.plan.requestTimeout, func(kmsg.Response, error) {})
}

// partitionsRead names the partitions of all topics that the group's leader
// has to assign.
func (m *member) partitionsRead() string {
	var b strings.Builder
	for _, t := range m.g.w.load.topics {
		if !t.deleted {
			fmt.Fprintf(&b, "%s:%d ", t.name, len(t.parts))
		}
	}
	return b.String()
}

// claimant is a member as the leader sees it.
type claimant struct {
	id    string
	meta  kmsg.ConsumerMemberMetadata
	given []*groupPart
}

// assign shares all partitions out among those who read them. A cooperative
// leader gives what one member has to another only when it was given up.
func (m *member) assign(members []kmsg.JoinGroupResponseMember) []kmsg.SyncGroupRequestGroupAssignment {
	m.assignedFor = m.partitionsRead()
	all := make([]*claimant, len(members))
	for i, jm := range members {
		all[i] = &claimant{id: jm.MemberID}
		if err := all[i].meta.ReadFrom(jm.ProtocolMetadata); err != nil {
			m.g.w.violate("the leader gets what members sent", "%s: %v: %x", m, err, jm.ProtocolMetadata)
			return nil
		}
	}
	most := len(m.g.w.load.parts())/len(all) + 1
	for _, t := range m.g.w.load.topics {
		if t.deleted {
			continue
		}
		for _, p := range t.parts {
			m.assignOne(all, m.g.part(p), most)
		}
	}
	out := make([]kmsg.SyncGroupRequestGroupAssignment, 0, len(all))
	for _, c := range all {
		if len(c.given) == 0 && m.epoch%2 == 0 {
			continue // some leaders do not name who gets nothing
		}
		a := kmsg.ConsumerMemberAssignment{}
		for _, p := range c.given {
			a.Topics = append(a.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: p.part.topic.name, Partitions: []int32{p.part.number}})
		}
		out = append(out, kmsg.SyncGroupRequestGroupAssignment{MemberID: c.id, MemberAssignment: a.AppendTo(nil)})
	}
	return out
}

func (m *member) assignOne(all []*claimant, p *groupPart, most int) {
	var best *claimant
	var claimed []*claimant
	for _, c := range all {
		reads := slices.Contains(c.meta.Topics, p.part.topic.name)
		if m.cooperative && c.claims(p) {
			claimed = append(claimed, c)
			if reads && len(c.given) < most && len(claimed) == 1 {
				best = c
			}
		}
	}
	if best == nil {
		for _, c := range all {
			if slices.Contains(c.meta.Topics, p.part.topic.name) && (best == nil || len(c.given) < len(best.given)) {
				best = c
			}
		}
	}
	if best == nil || len(claimed) > 1 || len(claimed) == 1 && claimed[0] != best {
		return
	}
	best.given = append(best.given, p)
}

func (c *claimant) claims(p *groupPart) bool {
	for _, t := range c.meta.OwnedPartitions {
		if t.Topic == p.part.topic.name && slices.Contains(t.Partitions, p.part.number) {
			return true
		}
	}
	return false
}

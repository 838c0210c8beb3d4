package sim

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// The protocol of KIP-848 as a member speaks it: heartbeats that say what it
// has and what it reads, answered with what it is to have.

// consumerJoin joins the group, anew or again, without partitions.
func (m *member) consumerJoin() {
	m.turn++
	m.owes = false
	m.disown(nil)
	m.epoch, m.full, m.settled, m.revoking, m.rejoin, m.told, m.overtaken = 0, true, false, false, false, "", false
	if m.id == "" {
		m.id = fmt.Sprintf("%s.%d", m.c.name, m.number)
	}
	m.consumerHeartbeat()
}

func (m *member) consumerHeartbeat() {
	m.found(func() {
		req := m.heartbeatRequest()
		turn, sent, revoking := m.turn, m.g.w.now, m.revoking
		m.full = false
		k := m.ask(req, m.g.w.plan.requestTimeout, func(r kmsg.Response, err error) {
			if m.turn == turn {
				m.consumerAnswer(req, r, err, sent, revoking)
			}
		})
		id := m.id
		k.late = func() {
			m.overtaken = m.overtaken || m.id == id
			if m.overtaken && m.owes && !m.dead { // the coordinator may think that it has given up everything, and waits no more
				m.soon(m.consumerJoin)
			}
		}
	})
}

func (m *member) heartbeatRequest() *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version = 1
	req.Group, req.MemberID, req.MemberEpoch = m.g.name, m.id, m.epoch
	req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = -1, nil, nil
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	if m.full || m.rejoin {
		m.rejoin = false
		req.RebalanceTimeoutMillis = int32(m.slot.rebalance / millisecond)
		if rack := m.slot.rack; rack != "" {
			req.RackID = &rack
		}
		if a := m.g.assignor; a != "" {
			req.ServerAssignor = &a
		}
		req.SubscribedTopicNames = []string{}
		if re := everything; m.byRegex() {
			req.SubscribedTopicRegex = &re
		} else {
			req.SubscribedTopicNames = slices.Clone(m.topics)
		}
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, p := range m.list() {
			if n := len(req.Topics); n > 0 && req.Topics[n-1].TopicID == p.part.topic.id {
				req.Topics[n-1].Partitions = append(req.Topics[n-1].Partitions, p.part.number)
				continue
			}
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: p.part.topic.id, Partitions: []int32{p.part.number}})
		}
	}
	return req
}

func (m *member) consumerAnswer(req *kmsg.ConsumerGroupHeartbeatRequest, r kmsg.Response, err error, sent instant, revoking bool) {
	if err != nil {
		m.last, m.settled, m.full = "ConsumerGroupHeartbeat: "+err.Error(), false, true
		m.soon(m.consumerHeartbeat)
		return
	}
	resp := r.(*kmsg.ConsumerGroupHeartbeatResponse)
	code := kafka.ErrorCode(resp.ErrorCode)
	m.last = "ConsumerGroupHeartbeat: " + code.String()
	if code != kafka.None {
		m.consumerRefused(code, req)
		return
	}
	switch {
	case resp.MemberID == nil || *resp.MemberID != m.id:
		m.g.w.violate("a member keeps its id", "%s was answered as %v", m, resp.MemberID)
		return
	case resp.MemberEpoch < m.epoch:
		m.g.w.violate("member epochs do not go back", "%s: %d after %d", m, resp.MemberEpoch, m.epoch)
		return
	}
	if req.MemberEpoch == 0 {
		m.slot.heard(sent)
	}
	m.durable = true
	if !revoking && !m.toGiveUp(resp.Assignment) { // what it has given up since it asked it has not told
		m.alive(sent) // else its time to give up runs
	}
	m.settled = resp.MemberEpoch == m.epoch && !m.revoking && !m.rejoin && !m.full
	m.epoch, m.inForce = resp.MemberEpoch, resp.MemberEpoch
	if resp.Assignment != nil {
		m.reconcile(resp.Assignment)
	}
	turn := m.turn
	wait := m.g.w.plan.groups.heartbeat
	if m.full {
		wait = 0
	}
	m.after(wait, func() {
		if m.turn == turn {
			m.consumerHeartbeat()
		}
	})
}

func (m *member) consumerRefused(code kafka.ErrorCode, req *kmsg.ConsumerGroupHeartbeatRequest) {
	const what = "ConsumerGroupHeartbeat"
	m.settled, m.full = false, true
	switch {
	case m.moved(code):
		// A coordinator that lost its part in the midst of it may have noted it all the same.
		m.missed = m.missed || code == kafka.ErrNotCoordinator
		m.soon(m.consumerHeartbeat)
	case code == kafka.ErrUnreleasedInstanceID && req.MemberEpoch == 0:
		m.soon(m.consumerHeartbeat)
	case code == kafka.ErrFencedMemberEpoch:
		if m.sure() && !m.missed {
			m.g.w.violate("a member that is alive stays one", "%s at epoch %d was answered %v, though it missed no answer", m, m.epoch, code)
		}
		m.note("fenced at epoch %d", m.epoch)
		m.durable, m.leaseUntil = false, 0
		m.soon(m.consumerJoin)
		m.disown(nil)
	case code == kafka.ErrUnknownMemberID, code == kafka.ErrGroupIDNotFound && req.MemberEpoch > 0:
		m.forgotten(what, code)
		m.soon(m.consumerJoin)
	case code == kafka.ErrFencedInstanceID:
		m.fencedInstance(what)
	default:
		m.unexpected(fmt.Sprintf("%s at epoch %d", what, req.MemberEpoch), code)
	}
}

// toGiveUp says whether the member has partitions that it is not to have.
func (m *member) toGiveUp(a *kmsg.ConsumerGroupHeartbeatResponseAssignment) bool {
	if m.revoking || a == nil {
		return m.revoking
	}
	kept := 0
	for _, t := range a.Topics {
		for _, n := range t.Partitions {
			if p := m.g.partByID(t.TopicID, n); p != nil && m.owned[p] {
				kept++
			}
		}
	}
	return kept < len(m.owned)
}

// reconcile gives up what is not the member's any more, after a while, and
// then takes what is new.
func (m *member) reconcile(a *kmsg.ConsumerGroupHeartbeatResponseAssignment) {
	var parts []*groupPart
	unknown := false
	for _, t := range a.Topics {
		for _, n := range t.Partitions {
			if p := m.g.partByID(t.TopicID, n); p != nil {
				parts = append(parts, p)
			} else if !m.g.w.load.stray(t.TopicID) {
				unknown = true // it was made a moment ago
			}
		}
	}
	kept := 0
	for _, p := range parts {
		if m.owned[p] {
			kept++
		}
	}
	// What is new is the member's from now on, whether it begins at once or not.
	gone := len(m.owned) - kept
	m.note("is to have %d partitions at epoch %d, to give up %d", len(parts), m.epoch, gone)
	m.own(parts)
	same := fmt.Sprint(a.Topics) == m.told
	m.told = fmt.Sprint(a.Topics)
	if gone == 0 && len(parts) == kept && same && !unknown {
		return
	}
	m.settled = false
	if gone == 0 {
		m.full = true
		return
	}
	m.revoking = true
	if m.holdsOn(parts) {
		m.owes = true
		m.note("does not give up what it should")
		return
	}
	turn := m.turn
	m.after(m.c.between(millisecond, 500*millisecond), func() {
		if m.turn == turn {
			m.disown(parts)
			m.revoking, m.full = false, true
		}
	})
}

// holdsOn says whether the member is one that does not give up what it should,
// until it is put out. Now and then its coordinator ends meanwhile: the next one
// must put it out. What is of topics that are deleted nobody may wait for.
func (m *member) holdsOn(keep []*groupPart) bool {
	w := m.g.w
	if m.stuck() {
		return true
	}
	stays := func(p *groupPart) bool { return !p.part.topic.deleted && !slices.Contains(keep, p) }
	if m.overtaken || w.calm() || !slices.ContainsFunc(m.list(), stays) || m.c.rng.IntN(8) > 0 {
		return false
	}
	if m.coordinator != nowhere {
		w.faults.endCoordinator(w.nodes[m.coordinator], m.slot.rebalance)
	}
	return true
}

func (m *member) consumerLeave() {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version = 1
	req.Group, req.MemberID, req.MemberEpoch = m.g.name, m.id, -1
	req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = -1, nil, nil
	if m.instance != "" {
		req.InstanceID, req.MemberEpoch = &m.instance, -2
	}
	m.c.call(m.coordinator, req, m.g.w.plan.requestTimeout, func(kmsg.Response, error) {})
}

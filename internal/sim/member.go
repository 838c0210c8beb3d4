package sim

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// member is one process that is a member of a group, or wants to be one. It
// does what clients do: whatever happens, it goes on.
type member struct {
	g           *simGroup
	slot        *memberSlot
	number      int // of the processes in the slot
	c           *client
	classic     bool
	cooperative bool
	instance    string
	topics      []string

	id          string
	epoch       int32 // or generation
	inForce     int32 // the epoch, or the generation whose assignment it has
	coordinator int   // nowhere: not known
	owned       map[*groupPart]bool
	dead        bool
	superseded  bool // another process was started with its instance id
	frozenUntil instant
	stuckUntil  instant // until then it lives, and does not join again
	owes        bool    // it was to join again or give up partitions while it was stuck, and does not until it is put out
	unsynced    bool    // classic: it leads a generation that it does not sync, until it is put out
	turn        int     // of joining; timers of another one are over
	joining     bool    // waits for a generation
	rejoin      bool    // what it reads has changed
	settled     bool    // the coordinator has said that all is as it is here
	last        string

	durable bool // the coordinator has it in its log
	missed  bool // a request had no answer, or one that says nothing: it may still arrive, or have arrived
	// KIP-848: a heartbeat it had given up was handled late. One that joined told
	// the coordinator that it has nothing; the answer to another, lost, may have
	// been what to give up.
	overtaken  bool
	leaseUntil instant // until then the coordinator cannot have given it up
	joinedAt   instant // when it asked to join last
	askedAt    instant // when it began to ask, for the generation that it waits for
	highAtJoin int32   // the highest generation that was known when it joined

	unknown     *kmsg.ConsumerMemberAssignment // classic: the assignment, while some of it is of topics that nobody knows
	assignedFor string                         // classic leader: the partitions that it assigned
	leads       bool
	beats       int    // classic: heartbeats that were answered well
	revoking    bool   // KIP-848: is giving up partitions
	full        bool   // KIP-848: the next heartbeat says everything
	told        string // KIP-848: the last assignment, as it came
}

func (m *member) String() string {
	return fmt.Sprintf("%s.%d (%s)", m.c.name, m.number, m.protocolName())
}

func (m *member) protocolName() string {
	switch {
	case !m.classic:
		return "consumer"
	case m.cooperative:
		return "cooperative"
	}
	return "eager"
}

func (m *member) note(format string, args ...any) {
	m.g.w.note(noteMember, m.c.site, nowhere, int64(m.epoch), 0, m.String()+" "+fmt.Sprintf(format, args...))
}

// after has fn called later, unless the process has ended; not while it hangs.
func (m *member) after(d instant, fn func()) { m.at(m.g.w.now+d, fn) }

func (m *member) at(t instant, fn func()) {
	m.g.w.at(t, func() {
		switch {
		case m.dead:
		case m.g.w.now < m.frozenUntil:
			m.at(m.frozenUntil, fn)
		default:
			fn()
		}
	})
}

// soon has fn called after a pause, if the member has not begun to join anew.
func (m *member) soon(fn func()) {
	turn := m.turn
	m.after(m.c.between(30*millisecond, 300*millisecond), func() {
		if m.turn == turn {
			fn()
		}
	})
}

// ask sends a request to the coordinator, which must be known.
func (m *member) ask(req kmsg.Request, timeout instant, done func(r kmsg.Response, err error)) *call {
	return m.c.call(m.coordinator, req, timeout, func(r kmsg.Response, err error) {
		m.at(m.g.w.now, func() {
			if err != nil {
				m.coordinator, m.missed = nowhere, true
			}
			done(r, err)
		})
	})
}

// found calls fn when the coordinator is known.
func (m *member) found(fn func()) {
	if m.coordinator != nowhere {
		fn()
		return
	}
	turn := m.turn
	again := func() {
		m.after(m.c.between(20*millisecond, 400*millisecond), func() {
			if m.turn == turn {
				m.found(fn)
			}
		})
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, []string{m.g.name}
	m.c.call(m.c.rng.IntN(len(m.g.w.nodes)), req, m.g.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		m.at(m.g.w.now, func() {
			if m.turn != turn {
				return
			}
			if err != nil {
				again()
				return
			}
			got := r.(*kmsg.FindCoordinatorResponse).Coordinators
			if len(got) != 1 || got[0].ErrorCode != 0 || got[0].NodeID < 1 {
				again()
				return
			}
			m.coordinator = int(got[0].NodeID) - 1
			fn()
		})
	})
}

// moved says whether the code means that somebody else may be the coordinator,
// or that it is not ready.
func (m *member) moved(code kafka.ErrorCode) bool {
	switch code {
	case kafka.ErrNotCoordinator, kafka.ErrCoordinatorNotAvailable:
		m.coordinator = nowhere
		return true
	case kafka.ErrCoordinatorLoadInProgress:
		return true
	}
	return false
}

// alive notes that the coordinator has answered a request well that was sent
// at a time: for a session from then on it keeps the member, and for a
// rebalance timeout if it asks for something that does not arrive here.
func (m *member) alive(sent instant) {
	if !m.durable {
		return
	}
	p := &m.g.w.plan.groups
	m.leaseUntil = max(m.leaseUntil, sent+min(p.session, m.slot.rebalance)*99/100)
	m.g.seen(m)
}

// sure says whether the coordinator must have the member still.
func (m *member) sure() bool {
	return m.durable && !m.superseded && !m.overtaken && m.slot.outrunAt == 0 && m.g.w.now < m.leaseUntil
}

// forgotten takes in that the coordinator does not know the member.
func (m *member) forgotten(what string, code kafka.ErrorCode) {
	if m.sure() && !m.dead {
		m.g.w.violate("a member that is alive stays one", "%s at epoch %d: %s was answered %v, though the coordinator must keep it until %v", m, m.epoch, what, code, m.leaseUntil)
	}
	m.note("forgotten: %s %v", what, code)
	m.disown(nil)
	m.id, m.epoch, m.durable, m.leaseUntil = "", 0, false, 0
}

// fencedInstance takes in that another process has the instance id, or that this
// one is taken for another.
func (m *member) fencedInstance(what string) {
	if !m.mayBeFenced() {
		m.g.w.violate("only a static member that was replaced is fenced", "%s: %s", m, what)
	}
	again := !m.superseded
	m.die()
	if again { // it ends as if another had its place, and somebody starts it again
		m.note("is fenced by a join that came late")
		m.g.w.after(m.c.between(100*millisecond, 5*second), m.slot.start)
	}
}

// mayBeFenced says whether another process has the member's instance id, or
// seems to: a join that it, or who was in its place before, had given up came late.
func (m *member) mayBeFenced() bool { return m.superseded || m.slot.outrunAt > 0 }

// stuck says whether the program does nothing but send heartbeats, as that of a
// client does whose user's code hangs.
func (m *member) stuck() bool { return m.owes || m.unsynced || m.g.w.now < m.stuckUntil }

// unexpected is an error that a client would not know what to do with.
func (m *member) unexpected(what string, code kafka.ErrorCode) {
	m.g.w.violate("errors are those that members retry", "%s: %s was answered %v", m, what, code)
}

// die ends the process.
func (m *member) die() {
	if m.dead {
		return
	}
	m.dead = true
	m.owned = nil
	for i, o := range m.g.members {
		if o == m {
			m.g.members = append(m.g.members[:i:i], m.g.members[i+1:]...)
			break
		}
	}
	if m.slot.last == m {
		for _, s := range m.c.sessions {
			if s != nil {
				s.lose(errConnection)
			}
		}
	}
}

// leave ends the process in peace: it tells the coordinator and does not wait.
func (m *member) leave() {
	m.note("leaves")
	if m.coordinator != nowhere && m.id != "" {
		if m.classic {
			m.classicLeave()
		} else {
			m.consumerLeave()
		}
	}
	m.dead, m.owned = true, nil
	for i, o := range m.g.members {
		if o == m {
			m.g.members = append(m.g.members[:i:i], m.g.members[i+1:]...)
			break
		}
	}
	m.leaseUntil = 0
	m.g.left()
}

// own takes over partitions.
func (m *member) own(parts []*groupPart) {
	if m.owned == nil {
		m.owned = map[*groupPart]bool{}
	}
	for _, p := range parts {
		if !m.owned[p] {
			m.owned[p] = true
			m.g.taken(m, p)
		}
	}
}

// disown gives up all partitions but those that keep names.
func (m *member) disown(keep []*groupPart) {
	kept := map[*groupPart]bool{}
	for _, p := range keep {
		if m.owned[p] {
			kept[p] = true
		}
	}
	m.owned = kept
}

// list is what the member owns, in order.
func (m *member) list() (out []*groupPart) {
	for _, p := range m.g.parts {
		if m.owned[p] {
			out = append(out, p)
		}
	}
	return out
}

// work reads and commits offsets of what the member owns, until it ends.
func (m *member) work() {
	m.after(m.c.between(100*millisecond, 700*millisecond), func() {
		owned := m.list()
		if len(owned) == 0 || m.joining || m.coordinator == nowhere || m.revoking {
			m.work()
			return
		}
		p := owned[m.c.rng.IntN(len(owned))]
		switch {
		case p.part.topic.deleted:
			m.work()
		case p.reader != m || m.c.rng.IntN(4) == 0:
			m.fetchOffset(p)
		default:
			m.commitOffset(p, m.work)
		}
	})
}

// commitAnything commits an offset of what the member takes for its own.
func (m *member) commitAnything() {
	if owned := m.list(); len(owned) > 0 && !m.joining && m.coordinator != nowhere {
		if p := owned[m.c.rng.IntN(len(owned))]; !p.part.topic.deleted {
			m.commitOffset(p, func() {})
		}
	}
}

func (m *member) fetchOffset(p *groupPart) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 8
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = m.g.name
	g.MemberEpoch = -1
	if !m.classic {
		req.Version, g.MemberID, g.MemberEpoch = 9, &m.id, m.epoch
	}
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = p.part.topic.name, []int32{p.part.number}
	all := m.c.rng.IntN(3) == 0
	if !all {
		g.Topics = append(g.Topics, gt)
	}
	req.Groups = append(req.Groups, g)
	read := p.beginRead(m.g.w.now)
	id := m.id
	m.ask(req, m.g.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		defer m.work()
		if err != nil {
			return
		}
		got := r.(*kmsg.OffsetFetchResponse).Groups[0]
		code := kafka.ErrorCode(got.ErrorCode)
		if all && code == kafka.None {
			got.Topics = onlyOf(got.Topics, p.part)
		}
		if code == kafka.None && len(got.Topics) == 1 && len(got.Topics[0].Partitions) == 1 {
			code = kafka.ErrorCode(got.Topics[0].Partitions[0].ErrorCode)
		}
		switch {
		case code == kafka.None:
			if at := &got.Topics[0].Partitions[0]; m.g.w.check.asCommitted(m.String(), p.part, at) {
				m.g.fetched(m, p, read, at.Offset)
			}
		case m.moved(code):
		case code == kafka.ErrStaleMemberEpoch, code == kafka.ErrUnknownTopicOrPartition,
			code == kafka.ErrUnknownMemberID && !(id == m.id && m.sure()):
		default:
			m.unexpected("OffsetFetch", code)
		}
	})
}

func (m *member) commitOffset(p *groupPart, then func()) {
	commit := p.beginCommit(m, m.g.w.now)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 8, m.g.name, m.id, m.epoch
	if !m.classic {
		req.Version = 9
	}
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = p.part.number, commit.value
	rp.LeaderEpoch, rp.Metadata = besideOffset(commit.value)
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = p.part.topic.name, []kmsg.OffsetCommitRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	id := m.id
	m.ask(req, m.g.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		defer then()
		if err != nil {
			return
		}
		switch code := kafka.ErrorCode(r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode); {
		case code == kafka.None:
			m.g.committed(m, p, commit)
		case m.moved(code), code == kafka.ErrRequestTimedOut:
			// It may be in the log all the same.
		case code == kafka.ErrUnknownMemberID && id == m.id && m.sure():
			m.forgotten("OffsetCommit", code)
		case code == kafka.ErrIllegalGeneration, code == kafka.ErrUnknownMemberID, code == kafka.ErrRebalanceInProgress,
			code == kafka.ErrStaleMemberEpoch, code == kafka.ErrUnknownTopicOrPartition, code == kafka.ErrGroupIDNotFound,
			code == kafka.ErrFencedInstanceID && m.mayBeFenced():
			commit.refused = true
		default:
			m.unexpected("OffsetCommit", code)
		}
	})
}

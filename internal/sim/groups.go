package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"chronik/internal/base/kafka"
)

// Parts of a world with chance of their own, for groups.
const partGroups = 4 << 16

// groupKind says which protocols a group's members speak.
type groupKind int

const (
	groupEager       groupKind = iota // classic: everything is given up before joining again
	groupCooperative                  // classic: what stays is kept
	groupConsumer                     // KIP-848
	groupMixed                        // each member speaks one of them, drawn when it starts
	groupKinds
)

// groupPlan is what a seed draws for its groups.
type groupPlan struct {
	count          int
	initialDelay   instant // group.initial.rebalance.delay.ms
	session        instant // of members of all groups
	rebalance      instant // the rebalance timeout of most of them
	heartbeat      instant
	shortRetention bool    // offsets of groups without members are kept for a while only
	kept           instant // for so long; 0: for days
	loadBytes      int     // of the topic of committed offsets, read at a time while groups load; 0: the default, which is more than there is
}

// drawGroups draws what concerns groups, apart from all else.
func (w *world) drawGroups(o Options) {
	rng := w.fork(partGroups)
	g := &w.plan.groups
	g.count = rng.IntN(4)
	if o.Groups > 0 {
		g.count = o.Groups
	}
	g.initialDelay = instant(rng.IntN(4)) * 700 * millisecond
	g.session = []instant{2 * second, 4 * second, 8 * second}[rng.IntN(3)]
	g.rebalance = []instant{3 * second, 6 * second, 10 * second}[rng.IntN(3)]
	g.heartbeat = g.session / instant(4+rng.IntN(4))
	g.shortRetention = rng.IntN(3) == 0
	set := func(name string, d instant) { w.plan.static[name] = fmt.Sprint(int64(d / millisecond)) }
	set("group.initial.rebalance.delay.ms", g.initialDelay)
	set("group.min.session.timeout.ms", second)
	set("group.consumer.session.timeout.ms", g.session)
	set("group.consumer.heartbeat.interval.ms", g.heartbeat)
	if w.plan.mayLoseDisk {
		w.plan.static["min.insync.replicas"] = "2" // of __consumer_offsets, too: each record on two disks
	}
	if g.shortRetention {
		g.kept = second * instant(5+rng.IntN(20))
		if rng.IntN(2) == 0 { // else anything may be old at any time
			for i := range w.plan.clocks {
				if c := &w.plan.clocks[i]; c.differs() {
					c.wall = 0
				}
			}
		}
		set("offsets.retention.check.interval.ms", 3*second)
	}
	if rng.IntN(2) == 0 {
		g.loadBytes = 256 << rng.IntN(8)
	}
	set("group.consumer.assignment.interval.ms", instant(max(0, rng.IntN(6)-3))*700*millisecond)
}

// simGroup is one group, and what the checkers know of it.
type simGroup struct {
	w        *world
	rng      *rand.Rand
	name     string
	kind     groupKind
	always   []string // topics that every member reads
	assignor string   // that members of the KIP-848 protocol ask for; "": none
	regex    bool     // members of the KIP-848 protocol read what a regular expression matches
	slots    []*memberSlot
	members  []*member // processes that run
	hangs    bool      // the next that leads hangs before it syncs
	closed   instant   // no member starts until then
	groupHistory
}

// memberSlot is a place for one member: a program that is started again after
// it has ended.
type memberSlot struct {
	g          *simGroup
	c          *client
	instance   string   // of a static member
	rebalance  instant  // its rebalance timeout
	topics     []string // that a static member reads, each time it starts: a change would wait for a rebalance
	changedBy  int      // the last process that changed topics after it had joined; 0: none
	strategies []string // of a member that speaks the eager protocol: those it knows, as it prefers them
	rack       string   // of a member that speaks the KIP-848 protocol
	starts     int
	last       *member
	outrunAt   instant // static: when the join of a new classic process, which had given it up, was handled late; 0: none was
}

// startGroups makes the groups that the seed has drawn.
func startGroups(l *load) (groups []*simGroup) {
	p := &l.w.plan
	for i := range p.groups.count {
		g := &simGroup{w: l.w, rng: l.w.fork(partGroups + 1 + uint64(i)), name: fmt.Sprintf("members%d", i+1)}
		g.groupHistory.init()
		g.kind = groupKind(g.rng.IntN(int(groupKinds)))
		g.regex = g.rng.IntN(3) == 0
		g.assignor = []string{"", "uniform", "range"}[g.rng.IntN(3)]
		for t := range p.topics {
			g.always = append(g.always, fmt.Sprintf("t%d", t+1))
		}
		for n := range 2 + g.rng.IntN(4) {
			s := &memberSlot{g: g, c: l.w.newClient(fmt.Sprintf("%s/%d", g.name, n+1)), rebalance: p.groups.rebalance}
			if n == 0 && g.rng.IntN(2) == 0 {
				s.rebalance = 700 * millisecond // a classic group waits for as long as the others want
			}
			if g.rng.IntN(3) == 0 {
				s.instance = fmt.Sprintf("static%d", n+1)
			}
			s.strategies = []string{"range"}
			for _, name := range []string{"roundrobin", "sticky"} {
				if i := g.rng.IntN(2 * (len(s.strategies) + 1)); i <= len(s.strategies) {
					s.strategies = slices.Insert(s.strategies, i, name)
				}
			}
			s.rack = l.w.plan.ways.rack(n)
			g.slots = append(g.slots, s)
			l.w.after(s.c.between(0, 10*second), s.start)
		}
		if kept := p.groups.kept; kept > 0 && g.rng.IntN(2) == 0 {
			l.w.after(5*second+instant(g.rng.Int64N(int64(15*second))), func() { g.close(kept) })
		}
		groups = append(groups, g)
	}
	return groups
}

// start starts a process in the place, and sees to its end.
func (s *memberSlot) start() {
	if s.g.w.stopped || s.last != nil && !s.last.dead {
		return
	}
	if s.g.w.now < s.g.closed {
		s.g.w.at(s.g.closed, s.start)
		return
	}
	s.launch()
}

func (s *memberSlot) launch() {
	g := s.g
	s.starts++
	m := &member{g: g, slot: s, number: s.starts, c: s.c, instance: s.instance, coordinator: nowhere}
	kind := g.kind
	if kind == groupMixed {
		kind = groupKind(s.c.rng.IntN(int(groupMixed)))
		if kind == groupEager { // mixed groups have one classic protocol, as they must
			kind = groupCooperative
		}
	}
	m.classic, m.cooperative = kind != groupConsumer, kind == groupCooperative
	m.subscribe()
	if s.last != nil {
		s.last.superseded = true
	}
	s.last = m
	g.members = append(g.members, m)
	m.note("starts, %s", m.protocolName())
	m.work()
	if m.classic {
		m.classicJoin()
	} else {
		m.consumerJoin()
	}
	s.fate(m)
}

// heard takes in that a process that asked to join at a time is a member: it is
// the one in the place, if nothing came late after that.
func (s *memberSlot) heard(joinedAt instant) {
	if joinedAt > s.outrunAt {
		s.outrunAt = 0
	}
}

// fate is what becomes of a process: it leaves, crashes, hangs for a while,
// changes what it reads, or is replaced while it runs.
func (s *memberSlot) fate(m *member) {
	g := s.g
	g.w.after(s.c.between(3*second, 40*second), func() {
		if m.dead || g.w.healed {
			return
		}
		switch s.c.rng.IntN(6) {
		case 0, 1:
			m.leave()
			g.w.after(s.c.between(100*millisecond, 15*second), s.startUnlessHealed)
		case 2:
			m.note("crashes")
			m.die()
			g.w.after(s.c.between(100*millisecond, 15*second), s.startUnlessHealed)
		case 3:
			if s.c.rng.IntN(3) == 0 {
				m.stuckUntil = g.w.now + s.c.between(second, 20*second)
				m.note("is stuck, but for its heartbeats")
				s.fate(m)
				return
			}
			m.frozenUntil = g.w.now + s.c.between(second, 3*g.w.plan.groups.session)
			m.note("hangs")
			m.at(m.frozenUntil, m.commitAnything) // before it learns what happened meanwhile
			s.fate(m)
		case 4:
			m.subscribe()
			m.rejoin = true
			s.fate(m)
		default:
			if s.instance == "" || !m.classic || !m.settled {
				s.fate(m)
				return
			}
			m.note("is replaced")
			s.launch() // and this one finds out
		}
	})
}

func (s *memberSlot) startUnlessHealed() {
	if !s.g.w.healed {
		s.start()
	}
}

// close ends all members, and none starts for a while: the offsets may grow old, or
// it comes back just before.
func (g *simGroup) close(kept instant) {
	if g.w.healed {
		return
	}
	for _, m := range slices.Clone(g.members) {
		if g.rng.IntN(2) == 0 {
			m.leave()
		} else {
			m.note("crashes")
			m.die()
		}
	}
	g.closed = g.w.now + kept/2 + instant(g.rng.Int64N(int64(kept)))
	for _, s := range g.slots {
		s.start()
	}
}

// healGroups ends what happens to members: of each group at least one runs. In
// some, one hangs yet when it is to sync the next generation.
func (w *world) healGroups() {
	for _, g := range w.groups {
		g.closed = 0
		for _, m := range g.members {
			m.frozenUntil, m.stuckUntil = w.now, w.now
		}
		if g.deserted() {
			g.slots[0].start()
		}
		if g.hangs = g.kind <= groupCooperative && len(g.members) > 0 && g.rng.IntN(2) == 0; g.hangs {
			m := g.members[g.rng.IntN(len(g.members))]
			m.subscribe() // so that there is another generation
			m.rejoin = true
		}
	}
}

// deserted says whether nobody runs but who is replaced and will find out.
func (g *simGroup) deserted() bool {
	return !slices.ContainsFunc(g.members, func(m *member) bool { return !m.superseded })
}

// subscribe draws what the member reads.
func (m *member) subscribe() {
	if m.instance != "" && len(m.slot.topics) > 0 && len(m.topics) == 0 {
		m.topics = m.slot.topics
		return
	}
	switch {
	case len(m.topics) == 0:
	case m.epoch > 0:
		m.slot.changedBy = m.number
	default: // as if it had always read that, and not the one before
		m.slot.changedBy = m.number - 1
	}
	m.topics = slices.Clone(m.g.always)
	for n := range 12 {
		if name := fmt.Sprintf("t%d", n+1); m.c.rng.IntN(4) == 0 && !slices.Contains(m.topics, name) {
			m.topics = append(m.topics, name)
		}
	}
	m.slot.topics = m.topics
}

// drifted says whether what the member reads was changed before it first joined, and
// perhaps told to nobody: a classic coordinator gives a static member what the process
// before had, and sees no reason for another generation (KIP-345).
func (m *member) drifted() bool {
	return m.classic && m.instance != "" && m.slot.changedBy > 0 && m.number > m.slot.changedBy
}

// everything is what the regular expression of members that have one matches.
const everything = "t[0-9]+"

// reads says whether the member reads a topic.
func (m *member) reads(t *topicState) bool {
	return m.byRegex() && !t.passing || slices.Contains(m.topics, t.name)
}

func (m *member) byRegex() bool { return !m.classic && m.g.regex }

// part is the group's side of a partition.
func (g *simGroup) part(p *topicPart) *groupPart {
	if gp := g.byPart[p]; gp != nil {
		return gp
	}
	gp := &groupPart{part: p, acked: -1}
	g.byPart[p] = gp
	g.parts = append(g.parts, gp)
	return gp
}

// partByID finds a partition by its topic's id; nil when it is not known.
func (g *simGroup) partByID(id kafka.TopicID, number int32) *groupPart {
	for _, t := range g.w.load.topics {
		if t.id == id && int(number) < len(t.parts) {
			return g.part(t.parts[number])
		}
	}
	return nil
}

// partByName finds a partition by its topic's name.
func (g *simGroup) partByName(name string, number int32) *groupPart {
	for _, t := range g.w.load.topics {
		if t.name == name && int(number) < len(t.parts) {
			return g.part(t.parts[number])
		}
	}
	return nil
}

// groupsAtRest says whether all groups are stable, every partition is owned by
// one member, and every join is answered; and if not, why.
func (c *checkers) groupsAtRest() (bool, string) {
	for _, g := range c.w.groups {
		if why := g.unrest(); why != "" {
			return false, fmt.Sprintf("group %s: %s", g.name, why)
		}
	}
	for _, m := range c.w.load.committer {
		if why := m.lingers(); why != "" {
			return false, why
		}
	}
	for _, n := range c.w.nodes {
		for _, s := range n.sessions {
			for _, sl := range s.served {
				if k := sl.call.key; (k == keyJoinGroup || k == keySyncGroup) && !sl.answered && strings.HasPrefix(s.c.name, "members") {
					return false, fmt.Sprintf("node %d has not answered a request of key %d by %s since %v", n.id, k, s.c.name, sl.since)
				}
			}
		}
	}
	return true, ""
}

// Keys of requests that may wait.
const (
	keyJoinGroup = 11
	keySyncGroup = 14
)

func (g *simGroup) unrest() string {
	if len(g.members) == 0 {
		return "it has no members"
	}
	owner := map[*groupPart]*member{}
	for _, m := range g.members {
		if !m.settled {
			return fmt.Sprintf("%s is not settled at epoch %d, last result %q", m, m.epoch, m.last)
		}
		if m.epoch != g.members[0].epoch {
			return fmt.Sprintf("%s is at epoch %d, and %s at %d", m, m.epoch, g.members[0], g.members[0].epoch)
		}
		for p := range m.owned {
			if other := owner[p]; other != nil && !p.part.topic.deleted {
				return fmt.Sprintf("%s is owned by two members at epoch %d", p.part, m.epoch)
			}
			owner[p] = m
		}
	}
	for _, t := range g.w.load.topics {
		if t.deleted {
			continue
		}
		read := slices.ContainsFunc(g.members, func(m *member) bool { return m.reads(t) && !m.drifted() })
		for _, p := range t.parts {
			switch m := owner[g.part(p)]; {
			case read && m == nil:
				return fmt.Sprintf("nobody owns %s", p)
			case m != nil && !m.reads(t) && !m.drifted():
				return fmt.Sprintf("%s owns %s, which it does not read", m, p)
			}
		}
	}
	return ""
}

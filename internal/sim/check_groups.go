package sim

import (
	"maps"
	"slices"
)

// groupHistory is what the checkers know of a group.
type groupHistory struct {
	parts  []*groupPart
	byPart map[*topicPart]*groupPart

	leaders    map[int32]*member // by generation: whose assignment was taken
	high       int32             // the highest generation that is in the coordinator's log for sure
	aliveUntil instant           // the group has a member for sure until then
	aliveLast  instant           // the last time at which it had one for sure
	gapAt      instant           // the last time that it may have had none
	backAt     instant           // the last time that it had one again after none for so long that offsets grow old
	lives      int               // how often its epochs may have begun anew
}

func (h *groupHistory) init() {
	h.byPart, h.leaders = map[*topicPart]*groupPart{}, map[int32]*member{}
}

// groupPart is a group's side of a partition.
type groupPart struct {
	part       *topicPart
	owner      *member // who was given it last
	ownerAt    instant
	ownerEpoch int32
	reader     *member // who has read the committed offset since it was given it

	next    int64         // to be committed; each is committed once at most
	acked   int64         // the last that was acknowledged, in the order in which they took effect; -1: none
	ackedAt instant       // when its answer came
	recent  []*offsetSent // commits that may be seen yet
}

// offsetSent is a commit on its way, or one that was.
type offsetSent struct {
	value   int64
	by      *member
	life    int // of the group, when it was sent
	epoch   int32
	at      instant
	acked   bool
	refused bool
	goneAt  instant // it cannot be seen by who asks after this; 0: it can
}

func (p *groupPart) beginCommit(m *member, now instant) *offsetSent {
	p.next++
	c := &offsetSent{value: p.next, by: m, life: m.g.lives, epoch: m.epoch, at: now}
	// What nobody can see any more, and was so before any read under way.
	p.recent = slices.DeleteFunc(p.recent, func(o *offsetSent) bool { return o.goneAt > 0 && now-o.goneAt > 120*second })
	p.recent = append(p.recent, c)
	return c
}

// offsetRead is a read of a committed offset on its way.
type offsetRead struct {
	at      instant
	acked   int64
	ackedAt instant
}

func (p *groupPart) beginRead(now instant) offsetRead { return offsetRead{now, p.acked, p.ackedAt} }

// taken checks that nobody else owns a partition that a member is given.
func (g *simGroup) taken(m *member, p *groupPart) {
	for _, o := range g.members {
		switch {
		case o == m || !o.owned[p] || o.superseded && o.slot == m.slot:
		case o.classic && p.part.topic.deleted: // it names what it has, and the coordinator may know no such topic any more
		case !o.sure() && g.mayBeAnother(o): // the epochs began anew, and it has not heard
		case !m.sure() && g.mayBeAnother(m): // what it reads is late, and of an epoch before they began anew
		case o.overtaken: // by a join of its own that it had given up: it is taken for one that has lost everything
		case o.inForce == m.epoch:
			g.w.violate("a partition has one owner per epoch", "%s: both %s and %s own it at epoch %d", p.part, o, m, m.epoch)
		case o.sure() && o.inForce < m.epoch: // else it is m that comes late
			g.w.violate("a partition has one owner at a time", "%s: %s got it at epoch %d while %s has it from epoch %d, whom the coordinator must keep until %v", p.part, m, m.epoch, o, o.inForce, o.leaseUntil)
		}
	}
	if m.epoch >= p.ownerEpoch {
		p.owner, p.ownerAt, p.ownerEpoch, p.reader = m, g.w.now, m.epoch, nil
	}
}

// committed takes in that a commit was acknowledged.
func (g *simGroup) committed(m *member, p *groupPart, c *offsetSent) {
	if p.owner != m && p.ownerAt < c.at && p.ownerEpoch > c.epoch {
		g.w.violate("only its owner commits for a partition", "%s: a commit of %s at epoch %d was taken, sent at %v, though %s had it at epoch %d since %v", p.part, m, c.epoch, c.at, p.owner, p.ownerEpoch, p.ownerAt)
		return
	}
	c.acked = true
	if c.goneAt > 0 || p.part.topic.deleted {
		return // its answer is late: the next owner has committed since
	}
	p.acked, p.ackedAt = c.value, g.w.now
	for _, o := range p.recent {
		if o != c && o.goneAt == 0 && o.overBy(c) {
			o.goneAt = g.w.now
		}
	}
}

// overBy says whether a commit can be seen no more once another one has taken
// effect. One of the same member that was not answered may still arrive, and one
// of the next owner may have: a member that hung reads its answer late.
func (o *offsetSent) overBy(c *offsetSent) bool {
	switch {
	case o.by == c.by && !o.acked:
		return false
	case o.life != c.life:
		return o.life < c.life
	case o.epoch != c.epoch || o.by.slot != c.by.slot:
		return o.epoch <= c.epoch
	}
	return o.by.number <= c.by.number // who replaces a static member may stay in its generation
}

// fetched checks a committed offset that was read: it is one that was in force
// between question and answer, or may have been.
func (g *simGroup) fetched(m *member, p *groupPart, read offsetRead, value int64) {
	if p.part.topic.deleted {
		return
	}
	ok := value == read.acked
	for _, o := range p.recent {
		ok = ok || o.value == value && !o.refused && (o.goneAt == 0 || o.goneAt >= read.at)
	}
	if !ok && value == -1 && g.mayExpire(p, read) {
		ok = true
		p.acked, p.ackedAt = -1, g.w.now
		for _, o := range p.recent {
			if o.acked && o.goneAt == 0 {
				o.goneAt = g.w.now
			}
		}
	}
	if !ok {
		g.w.violate("committed offsets of members do not go back", "%s of %s: %s reads %d; %d was acknowledged at %v, and %d was the last to be committed", p.part, g.name, m, value, read.acked, read.ackedAt, p.next)
		return
	}
	if m.owned[p] {
		p.reader = m
	}
}

// offsetsKept is for how long offsets that nobody reads stay, where retention is
// short, by clocks that are hardly off.
func (p *groupPlan) offsetsKept() instant { return p.kept * 59 / 60 }

// mayExpire says whether the retention may have removed the offset.
func (g *simGroup) mayExpire(p *groupPart, read offsetRead) bool {
	always, kept := slices.Contains(g.always, p.part.topic.name), g.w.plan.groups.offsetsKept()
	switch {
	case !g.w.plan.groups.shortRetention, always && g.gapAt < read.ackedAt && g.w.now <= g.aliveUntil:
		return false
	case g.w.wallClocksDiffer():
		return true
	}
	for _, o := range p.recent {
		if o.value == read.acked && g.w.now-o.at < kept {
			return false
		}
	}
	g.alive()
	// In a classic group it counts from when the last member has gone.
	return !always || g.kind > groupCooperative || g.w.now-g.aliveLast >= kept || g.backAt > read.ackedAt
}

// seen takes in that a member is alive for sure for a while.
func (g *simGroup) seen(m *member) {
	g.alive()
	if g.w.now > g.aliveUntil {
		if g.w.now-g.aliveLast >= g.w.plan.groups.offsetsKept() {
			g.backAt = g.w.now
		}
		g.gap()
	}
	g.aliveUntil = max(g.aliveUntil, m.leaseUntil)
}

// left takes in that a member goes: the others keep the group alive, or nobody.
func (g *simGroup) left() {
	g.alive()
	g.aliveUntil = 0
	for _, m := range g.members {
		g.aliveUntil = max(g.aliveUntil, m.leaseUntil)
	}
	if g.aliveUntil <= g.w.now {
		g.gap()
	}
}

// alive notes until when the group has had a member for sure.
func (g *simGroup) alive() { g.aliveLast = max(g.aliveLast, min(g.w.now, g.aliveUntil)) }

// mayBeAnother says whether the group may have been removed, for being empty,
// since the coordinator must have had the member last.
func (g *simGroup) mayBeAnother(m *member) bool {
	return g.endsEmpty() && g.gapAt >= m.leaseUntil
}

// endsEmpty says whether the group may be removed when it has no members, and
// begin anew: after its retention, or when the next one speaks the other protocol.
func (g *simGroup) endsEmpty() bool { return g.w.plan.groups.shortRetention || g.kind == groupMixed }

// gap notes that the group may have been without members, and then gone.
func (g *simGroup) gap() {
	g.gapAt = g.w.now
	if g.endsEmpty() {
		g.high = 0
		g.lives++
		clear(g.leaders)
		for _, p := range g.parts {
			p.ownerEpoch = -1
		}
	}
}

// synced checks a generation that is in force.
func (g *simGroup) synced(m *member) {
	// In a consumer group each member comes to the group's epoch by itself.
	if g.kind != groupMixed && m.epoch < m.highAtJoin && !(g.w.plan.groups.shortRetention && g.gapAt >= m.joinedAt) {
		g.w.violate("generations do not go back", "%s is in generation %d of %s, which was in %d before it joined", m, m.epoch, g.name, m.highAtJoin)
	}
	g.high = max(g.high, m.epoch)
	if !m.leads || m.instance != "" {
		return
	}
	if o := g.leaders[m.epoch]; o != nil && o != m {
		g.w.violate("a generation has one leader", "%s and %s both led generation %d of %s", o, m, m.epoch, g.name)
	}
	g.leaders[m.epoch] = m
	if len(g.leaders) > 64 {
		delete(g.leaders, slices.Min(slices.Collect(maps.Keys(g.leaders))))
	}
}

package sim

import (
	"testing"
	"time"
)

// lateAnswer is a history in which a member hangs, the next owner of its
// partition commits and never reads the answer, and the first one reads its own.
// It returns the promises that are broken if then the offset of the one or of
// the other is read.
func lateAnswer(kind groupKind, next func(g *simGroup, first *member) *member, value int64) []Violation {
	w := &world{now: second, trace: &trace{}}
	g := &simGroup{w: w, name: "members1", kind: kind}
	g.groupHistory.init()
	slots := []*memberSlot{{g: g, c: &client{name: "members1/1"}}, {g: g, c: &client{name: "members1/2"}}}
	g.slots = slots
	first := &member{g: g, slot: slots[0], c: slots[0].c, number: 1, epoch: 2}
	p := g.part(&topicPart{topic: &topicState{name: "t1"}})
	first.own([]*groupPart{p})
	one := p.beginCommit(first, w.now)

	w.now += second
	owner := next(g, first)
	first.disown(nil)
	owner.own([]*groupPart{p})
	w.now++
	p.beginCommit(owner, w.now)
	w.now++
	owner.dead = true
	g.gap()

	w.now++
	g.committed(first, p, one)
	w.now++
	g.fetched(first, p, p.beginRead(w.now), value)
	return w.violations
}

func TestTheNextOwnersCommitMayBeInForceThoughItsAnswerWasLost(t *testing.T) {
	nexts := map[string]func(g *simGroup, first *member) *member{
		"a higher epoch": func(g *simGroup, _ *member) *member {
			return &member{g: g, slot: g.slots[1], c: g.slots[1].c, number: 1, epoch: 4}
		},
		"the same epoch of a group that began anew": func(g *simGroup, first *member) *member {
			g.gap()
			return &member{g: g, slot: g.slots[1], c: g.slots[1].c, number: 1, epoch: first.epoch}
		},
		"a static member replaced in its generation": func(g *simGroup, first *member) *member {
			first.superseded = true
			return &member{g: g, slot: first.slot, c: first.c, number: 2, epoch: first.epoch}
		},
	}
	// A group of both protocols may begin anew when it is empty, one of KIP-848 not.
	for _, kind := range []groupKind{groupMixed, groupConsumer} {
		for name, next := range nexts {
			if kind == groupConsumer && name == "the same epoch of a group that began anew" {
				continue
			}
			for _, value := range []int64{1, 2} {
				if broken := lateAnswer(kind, next, value); len(broken) > 0 {
					t.Errorf("kind %d, %s: reading %d is taken for %v", kind, name, value, broken)
				}
			}
			for _, value := range []int64{-1, 3} {
				if broken := lateAnswer(kind, next, value); len(broken) != 1 {
					t.Errorf("kind %d, %s: reading %d, which is nobody's, broke %v", kind, name, value, broken)
				}
			}
		}
	}
}

func TestAnOlderCommitIsOverWhenTheNextOwnersIsTaken(t *testing.T) {
	w := &world{now: second, trace: &trace{}}
	g := &simGroup{w: w, name: "members1", kind: groupMixed}
	g.groupHistory.init()
	slots := []*memberSlot{{g: g}, {g: g}}
	old := &member{g: g, slot: slots[0], number: 1, epoch: 7, c: &client{name: "members1/1"}}
	for name, c := range map[string]struct {
		by  *member
		gap bool
	}{
		"a higher epoch":             {by: &member{g: g, slot: slots[1], number: 1, epoch: 8}},
		"a group that began anew":    {by: &member{g: g, slot: slots[1], number: 1, epoch: 1}, gap: true},
		"who replaced a static one":  {by: &member{g: g, slot: slots[0], number: 2, epoch: 7}},
		"the same epoch, began anew": {by: &member{g: g, slot: slots[1], number: 1, epoch: 7}, gap: true},
	} {
		p := g.part(&topicPart{topic: &topicState{name: "t1"}})
		before := p.beginCommit(old, w.now)
		if c.gap {
			g.gap()
		}
		after := p.beginCommit(c.by, w.now)
		if !before.overBy(after) || after.overBy(before) {
			t.Errorf("%s: the older commit is over: %v; the newer one, by the older: %v", name, before.overBy(after), after.overBy(before))
		}
	}
}

// A group whose members have all been silent for longer than their sessions may
// be gone with its offsets before anybody hears of that.
func TestOffsetsMayExpireThoughNobodyHasNoticedThatTheGroupWasEmpty(t *testing.T) {
	for name, c := range map[string]struct {
		silent instant
		broken int
	}{
		"within the session": {silent: second, broken: 1},
		"after it":           {silent: 5 * second, broken: 0},
	} {
		w := &world{now: second, trace: &trace{}}
		w.plan.groups.shortRetention, w.plan.groups.session, w.plan.groups.kept = true, 4*second, 60*second
		w.plan.clocks = []clock{{rate: 1, wall: 2 * time.Minute}}
		g := &simGroup{w: w, name: "members1", kind: groupMixed, always: []string{"t1"}}
		g.groupHistory.init()
		slot := &memberSlot{g: g, c: &client{name: "members1/1"}, rebalance: 10 * second}
		m := &member{g: g, slot: slot, c: slot.c, number: 1, epoch: 1, durable: true}
		p := g.part(&topicPart{topic: &topicState{name: "t1"}})
		m.alive(w.now)
		w.now++ // the group began before the commit
		g.committed(m, p, p.beginCommit(m, w.now))
		w.now += c.silent
		g.fetched(m, p, p.beginRead(w.now), -1)
		if len(w.violations) != c.broken {
			t.Errorf("%s: reading nothing broke %v", name, w.violations)
		}
	}
}

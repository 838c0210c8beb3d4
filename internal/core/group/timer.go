package group

import (
	"container/heap"
	"slices"
	"time"
)

// timerKind says what passes at a timer's time.
type timerKind int8

const (
	timerJoin            timerKind = iota // a classic group stops waiting for members
	timerSync                             // a classic group stops waiting for syncs
	timerSession                          // a classic member's session
	timerPendingMember                    // a member id that was given out
	timerConsumerSession                  // a KIP-848 member's session
	timerConsumerRevoke                   // a KIP-848 member's time to give partitions back
	timerConsumerJoin                     // a classic member of a KIP-848 group has to join again
	timerConsumerSync                     // a classic member of a KIP-848 group has to sync
	timerRetention                        // offsets grow old
)

// timer is an entry of the shard's heap. A timer that was moved leaves its old
// entry behind; what fires is compared with the time that its owner holds. When
// such entries are many they are taken out.
type timer struct {
	at     time.Time
	seq    uint64
	kind   timerKind
	group  string
	member string
}

type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return t
}

func (s *Shard) schedule(kind timerKind, group, member string, at time.Time) {
	s.timerSeq++
	heap.Push(&s.timers, timer{at: at, seq: s.timerSeq, kind: kind, group: group, member: member})
}

// sweepMin is how many entries are worth looking through.
const sweepMin = 1024

// sweep takes out the entries that nobody holds, when there are twice as many as
// were left the last time. What was decided must be applied by then: a new
// member's entry comes before the member.
func (s *Shard) sweep() {
	if len(s.timers) < max(s.sweepAt, sweepMin) {
		return
	}
	s.timers = slices.DeleteFunc(s.timers, func(e timer) bool { return !s.isHeld(e) })
	heap.Init(&s.timers)
	s.sweepAt = 2 * len(s.timers)
}

// isHeld says whether the entry is for the time that its owner holds.
func (s *Shard) isHeld(e timer) bool {
	if e.kind == timerRetention {
		return true
	}
	g := s.groups[e.group]
	switch {
	case g == nil:
		return false
	case g.consumer != nil:
		return g.consumer.holds(e)
	}
	return g.classic.holds(e)
}

func (c *classicGroup) holds(e timer) bool {
	switch e.kind {
	case timerJoin:
		return c.joinAt.Equal(e.at)
	case timerSync:
		return c.syncAt.Equal(e.at)
	case timerSession:
		m := c.members[e.member]
		return m != nil && m.session.entryAt.Equal(e.at)
	case timerPendingMember:
		at, ok := c.pending[e.member]
		return ok && at.Equal(e.at)
	}
	return false
}

func (c *consumerGroup) holds(e timer) bool {
	m := c.members[e.member]
	if m == nil {
		return false
	}
	switch e.kind {
	case timerConsumerSession:
		return m.session.entryAt.Equal(e.at)
	case timerConsumerRevoke:
		return m.revokeAt.Equal(e.at)
	case timerConsumerJoin:
		return m.joinAt.Equal(e.at)
	case timerConsumerSync:
		return m.syncAt.Equal(e.at)
	}
	return false
}

// session is the time by which a member must be heard of. A heartbeat moves
// the deadline and leaves the heap alone; the entry is put back when it fires
// too early.
type session struct {
	deadline time.Time
	entryAt  time.Time // of the entry in the heap; zero when there is none
	graced   bool      // got more time because the coordinator itself was late
}

// extend sets the deadline and makes sure that a timer fires by then.
func (s *Shard) extend(x *session, kind timerKind, group, member string, deadline time.Time) {
	x.deadline, x.graced = deadline, false
	if x.entryAt.IsZero() || deadline.Before(x.entryAt) {
		x.entryAt = deadline
		s.schedule(kind, group, member, deadline)
	}
}

// passed says whether the session is over, given the entry that fired. When
// the coordinator itself comes late, heartbeats may be waiting behind it: each
// session gets that much more time, once.
func (s *Shard) passed(x *session, e timer) bool {
	if !x.entryAt.Equal(e.at) {
		return false
	}
	x.entryAt = time.Time{}
	if x.deadline.After(s.now) {
		x.entryAt = x.deadline
		s.schedule(e.kind, e.group, e.member, x.deadline)
		return false
	}
	if s.late > lateMax && !x.graced {
		s.extend(x, e.kind, e.group, e.member, s.now.Add(s.late))
		x.graced = true
		return false
	}
	return true
}

// lateMax is how late a Tick may come before it is held against the
// coordinator rather than the members.
const lateMax = 500 * time.Millisecond

// fire acts on all timers that are due.
func (s *Shard) fire() {
	for len(s.timers) > 0 && !s.timers[0].at.After(s.now) {
		s.fireOne(heap.Pop(&s.timers).(timer))
	}
}

func (s *Shard) fireOne(e timer) {
	if e.kind == timerRetention {
		s.expireOffsets(e)
		return
	}
	g := s.groups[e.group]
	switch {
	case g == nil:
	case g.consumer != nil:
		s.fireConsumer(g, e)
	default:
		s.fireClassic(g, e)
	}
}

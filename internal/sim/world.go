package sim

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// instant is a moment of virtual time: nanoseconds since the world began.
type instant int64

const (
	microsecond = instant(time.Microsecond)
	millisecond = instant(time.Millisecond)
	second      = instant(time.Second)
)

func (t instant) String() string { return fmt.Sprintf("%.6fs", float64(t)/1e9) }

// event is a call at a moment. Events of the same moment are called in the
// order in which they were added.
type event struct {
	at  instant
	seq uint64
	fn  func()
}

// eventQueue is a binary heap.
type eventQueue []event

func (q eventQueue) before(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}

func (q *eventQueue) push(e event) {
	*q = append(*q, e)
	h := *q
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h.before(i, up) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *eventQueue) pop() event {
	h := *q
	e := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = event{}
	*q = h[:last]
	h = h[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return e
		}
		if child+1 < last && h.before(child+1, child) {
			child++
		}
		if !h.before(child, i) {
			return e
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// world is a run: the cluster, its clients, and what happens to them.
type world struct {
	seed   uint64
	now    instant
	queue  eventQueue
	seq    uint64
	events uint64
	trace  *trace

	plan    plan
	nodes   []*node
	net     *network
	clients []*client
	faults  *nemesis
	flips   *flipper
	load    *load
	groups  []*simGroup
	check   *checkers

	violations []Violation
	stopped    bool // nothing more is run: a promise was broken
	mended     bool // no more faults but one
	healed     bool // no more faults
}

// Violation is a promise that was broken.
type Violation struct {
	At      time.Duration // virtual time
	Promise string        // which one, in a few words
	Detail  string
}

func (v Violation) String() string {
	return fmt.Sprintf("%.6fs: %s: %s", v.At.Seconds(), v.Promise, v.Detail)
}

// fork makes a source of chance of its own for a part of the world, so that
// what one part draws does not move the others.
func (w *world) fork(part uint64) *rand.Rand {
	return rand.New(rand.NewPCG(w.seed, 0x9e3779b97f4a7c15*(part+1)))
}

// at has fn called at a moment.
func (w *world) at(t instant, fn func()) {
	w.seq++
	w.queue.push(event{max(t, w.now), w.seq, fn})
}

// after has fn called when so much time has passed.
func (w *world) after(d instant, fn func()) { w.at(w.now+d, fn) }

// run goes on until a moment, or until there is nothing to do.
func (w *world) run(until instant) {
	for len(w.queue) > 0 && !w.stopped {
		if w.queue[0].at > until {
			break
		}
		e := w.queue.pop()
		w.now = e.at
		w.events++
		w.trace.step(e.at, e.seq)
		w.guard(e.fn)
		w.check.lookAround()
		if w.events&0xfff == 0 && w.events > eventsMax(w.now) && !w.stopped {
			w.violate("the cluster does not go round in circles", "%d events", w.events)
		}
	}
	if !w.stopped {
		w.now = max(w.now, until)
	}
}

// eventsMax is more than twice as many events as came by then in the busiest of
// many seeds. Nodes that answer each other without end, and ever more often,
// would keep a run from ending.
func eventsMax(now instant) uint64 { return 200_000 + 15_000*uint64(now/second) }

// calm says whether nothing more is broken.
func (w *world) calm() bool { return w.mended || w.healed }

// guard calls fn; a panic in it is a broken promise.
func (w *world) guard(fn func()) {
	defer func() {
		if r := recover(); r != nil {
			w.violate("no panic", "%v\n%s", r, debug.Stack())
		}
	}()
	fn()
}

// violate notes a broken promise and ends the run: what follows from it would
// only hide it.
func (w *world) violate(promise, format string, args ...any) {
	v := Violation{time.Duration(w.now), promise, fmt.Sprintf(format, args...)}
	w.violations = append(w.violations, v)
	w.note(noteViolation, nowhere, nowhere, 0, 0, v.Promise+": "+v.Detail)
	w.stopped = true
}

package sim

import (
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options of a run. The zero value draws everything from the seed.
type Options struct {
	Seed       uint64
	Length     time.Duration // of the part with faults; default 2 minutes of virtual time
	Nodes      int           // default: drawn, 3 to 5
	Partitions int           // of one topic; default: drawn, in some topics
	Groups     int           // groups with members; default: drawn, 0 to 3
	Faults     []string      // only these; default: drawn
	Trace      io.Writer     // every event is written to it; may be nil
}

// healBudget is how much virtual time a healed cluster may take until
// everything is at rest.
const healBudget = 90 * second

// scrubBudget is how much a pass over all logs may take beyond that: it begins
// when all else is at rest.
const scrubBudget = 60 * second

// Result is what a run has shown.
type Result struct {
	Seed       uint64
	Hash       uint64 // over all events
	Events     uint64
	Virtual    time.Duration
	Violations []Violation
	Acked      int // records acknowledged
	Read       int // records read by consumers
	Restarts   int // of processes
	Epochs     int // leader epochs seen
	Faults     map[string]int
	last       []note
}

// Failed says whether a promise was broken.
func (r *Result) Failed() bool { return len(r.Violations) > 0 }

// Report tells of a failure: how to see it again, and what came before it.
func (r *Result) Report(out io.Writer, notes int) {
	last := r.last
	if len(last) > notes {
		last = last[len(last)-notes:]
	}
	for _, n := range last {
		fmt.Fprintln(out, n)
	}
	for _, v := range r.Violations {
		fmt.Fprintln(out, "VIOLATION", v)
	}
}

// String is one line on the run.
func (r *Result) String() string {
	state := "ok"
	if r.Failed() {
		state = "FAILED: " + strings.SplitN(r.Violations[0].Promise+": "+r.Violations[0].Detail, "\n", 2)[0]
	}
	return fmt.Sprintf("seed %d: %s (%.0f s, %d events, %d acked, %d read, %d starts, %d epochs, hash %016x)",
		r.Seed, state, r.Virtual.Seconds(), r.Events, r.Acked, r.Read, r.Restarts, r.Epochs, r.Hash)
}

// seededReader stands for crypto/rand.Reader, from which Raft draws its
// election timeouts.
type seededReader struct{ rng *mathrand.Rand }

func (r seededReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.rng.Uint32())
	}
	return len(b), nil
}

// One run at a time: they share the process's source of chance.
var running sync.Mutex

// Run runs one world.
func Run(o Options) *Result {
	running.Lock()
	defer running.Unlock()
	if o.Length == 0 {
		o.Length = 2 * time.Minute
	}
	w := &world{seed: o.Seed, trace: newTrace(o.Trace)}
	old := rand.Reader
	rand.Reader = seededReader{w.fork(partRaft)}
	defer func() { rand.Reader = old }()

	w.draw(o)
	w.check = newCheckers(w)
	w.net = newNetwork(w, len(w.plan.clocks))
	w.net.latency, w.net.loss = w.plan.latency, w.plan.loss
	for i := range w.plan.clocks {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	w.load = newLoad(w)
	w.faults = newNemesis(w, o.Faults)
	w.expireProducers()
	w.flips = newFlipper(w, o.Faults)
	for i, n := range w.nodes {
		if i < w.plan.founders {
			w.guard(n.start)
		} else {
			w.after(w.faults.between(second, 20*second), n.start)
		}
	}
	w.load.start()
	w.check.watch()
	w.check.probeDisks()
	w.after(2*second, w.faults.start)
	w.after(2*second, w.startTails)
	w.after(2*second, w.flips.start)
	w.run(w.plan.length)
	w.heal()
	w.finish()
	w.examGroups() // which takes time, in which retention goes on
	return w.result()
}

// endureBudget is how much virtual time a cluster may take until all that a
// node had is led by others, when only that is away: many times a session.
const endureBudget = 30 * second

// endure ends the faults in some runs, but for one node that stays away, dead or
// cut off: the others must do without it. Or two nodes do not hear each other,
// though all others hear both: leaders must do without one of their followers.
func (w *world) endure() {
	lost := func(n *node) bool { return n.wiped || n.removed }
	if w.faults.rng.IntN(4) > 0 || !w.faults.mayMaim || slices.ContainsFunc(w.nodes, lost) {
		return // who has lost its part in the quorum may not have one again
	}
	away := w.nodes[w.faults.rng.IntN(len(w.nodes))]
	w.note(notePhase, nowhere, nowhere, int64(away.id), 0, "heal but for one node")
	w.mended = true
	w.guard(w.faults.heal)
	mend, missing := func() {}, func() (string, bool) { return w.check.without(away), true }
	switch w.faults.rng.IntN(3) {
	case 0:
		away.kill()
		away.away = true
	case 1:
		mend = w.faults.isolateNode(away)
	default:
		other := w.nodes[(away.index+1+w.faults.rng.IntN(len(w.nodes)-1))%len(w.nodes)]
		w.faults.note("cut n%d from n%d", away.index, other.index)
		mend = w.faults.cutAll([][2]int{{away.index, other.index}, {other.index, away.index}})
		w.run(w.now + w.plan.lagMax + 2*second)
		waits := make(map[pairing]instant)
		missing = func() (string, bool) { return w.check.apart(away, other, waits) }
	}
	var why string
	var late bool
	for end := w.now + endureBudget; w.now < end && !w.stopped; {
		w.run(w.now + 200*millisecond)
		if why, late = missing(); why == "" {
			break
		}
	}
	if why != "" && late && !w.stopped {
		w.violate("a cluster does without one of its nodes", "%v after node %d went away: %s", time.Duration(endureBudget), away.id, why)
	}
	mend()
	away.away = false
}

// heal ends the faults and waits until everything is at rest.
func (w *world) heal() {
	if w.stopped {
		return
	}
	w.endure()
	w.note(notePhase, nowhere, nowhere, 0, 0, "heal")
	w.healed = true
	w.guard(w.faults.heal)
	w.guard(w.healGroups)
	if len(w.load.committer) > 0 {
		w.load.committer[0].hush()
	}
	w.run(w.now + 5*second) // the load goes on
	w.load.draining = true
	for _, p := range w.load.producers {
		for _, ln := range p.lanes {
			if !ln.part.topic.deleted && p.ready && w.now >= ln.silent {
				ln.add()
				ln.pump()
			}
		}
	}
	begun := w.now
	end := begun + healBudget
	var why string
	for w.now < end && !w.stopped {
		w.run(w.now + 200*millisecond)
		w.load.electLost()
		var ok bool
		if ok, why = w.check.atRest(); ok {
			ok, why = w.check.groupsAtRest()
		}
		if ok {
			ok, why = w.flips.atRest()
			end = begun + healBudget + scrubBudget
		}
		if ok {
			return
		}
	}
	if !w.stopped {
		w.violate("a healed cluster comes to rest", "after %v: %s", time.Duration(w.now-begun), why)
	}
}

// finish reads everything and compares.
func (w *world) finish() {
	if w.stopped {
		return
	}
	w.note(notePhase, nowhere, nowhere, 0, 0, "read everything")
	w.guard(w.check.final)
}

func (w *world) result() *Result {
	r := &Result{Seed: w.seed, Hash: w.trace.hash, Events: w.events, Virtual: time.Duration(w.now), Violations: w.violations,
		Acked: w.check.ackedCount, Read: w.check.readCount, Epochs: w.check.epochCount, Faults: w.faults.done, last: w.trace.last()}
	for _, n := range w.nodes {
		r.Restarts += n.restarts
	}
	return r
}

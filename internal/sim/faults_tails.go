package sim

import "math/rand/v2"

// tailer has leaders be replaced that have records which no other node has: for a
// while no node hears them, though clients do. They find another leader when they
// are heard again, or when they are started again after they were killed, and cut
// off what they have. It has chance of its own, so that a seed's other faults stay
// what they are.
type tailer struct {
	w   *world
	rng *rand.Rand
}

// tailFault is the name of what the tailer does.
const tailFault = "leave a tail"

func (w *world) startTails() {
	if w.plan.ways.tails {
		t := &tailer{w, w.fork(partTails)}
		t.start()
	}
}

func (t *tailer) between(lo, hi instant) instant { return lo + instant(t.rng.Int64N(int64(hi-lo))) }

func (t *tailer) start() {
	t.w.after(t.between(300*millisecond, 3*second), func() {
		if !t.w.calm() {
			t.leave()
			t.start()
		}
	})
}

// leave lets one leader write what no other node hears of.
func (t *tailer) leave() {
	w := t.w
	n := t.leader()
	if n == nil || !n.up || n.paused || n.stopping {
		return
	}
	w.faults.done[tailFault]++
	var pairs [][2]int
	for i := range w.nodes {
		if i != n.index {
			pairs = append(pairs, [2]int{n.index, i})
		}
	}
	w.faults.note("no node hears n%d", n.index)
	undo := w.faults.later(w.faults.cutAll(pairs))
	if t.rng.IntN(2) == 0 {
		w.after(t.between(1500*millisecond, 3*second), undo)
		w.after(t.between(500*millisecond, 1500*millisecond), func() { w.check.timesFound(n, t.rng) })
		return
	}
	w.after(t.between(50*millisecond, 800*millisecond), func() {
		undo()
		if w.calm() || n.away {
			return
		}
		n.kill()
		w.after(t.between(0, 300*millisecond), w.faults.later(n.start))
	})
}

// leader is that of some partition, as far as clients know.
func (t *tailer) leader() *node {
	parts := t.w.load.parts()
	if len(parts) == 0 {
		return nil
	}
	h, ok := t.w.load.probe.c.leaders[parts[t.rng.IntN(len(parts))]]
	if !ok {
		return nil
	}
	return t.w.nodes[h.node]
}

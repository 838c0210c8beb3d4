package sim

import (
	"math/rand/v2"
	"slices"

	"chronik/internal/base/kafka"
)

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

// toAndFro has two nodes that do not hear each other lead a partition in turns, both
// of them in sync: each writes what the other has not, and meets it again with more
// than one epoch between (KIP-279).
func (t *tailer) toAndFro(p *topicPart) {
	w, image := t.w, t.w.check.newestImage()
	if image == nil || image.Topic(p.topic.id).Partition(p.number) == nil {
		return
	}
	state := image.Topic(p.topic.id).Partition(p.number)
	if len(state.InSync) < 2 || state.Leader == kafka.NoNode || state.Reassigning() {
		return
	}
	others := slices.DeleteFunc(slices.Clone(state.InSync), func(id kafka.NodeID) bool { return id == state.Leader })
	pair := []kafka.NodeID{others[t.rng.IntN(len(others))], state.Leader}
	a, b := int(pair[0])-1, int(pair[1])-1
	w.faults.note("%s goes to and fro between n%d and n%d, which do not hear each other", p, a, b)
	undo := w.faults.later(w.faults.cutAll([][2]int{{a, b}, {b, a}}))
	for i := range 1 + t.rng.IntN(3) {
		w.after(instant(i)*400*millisecond+t.between(0, 300*millisecond), func() {
			if w.calm() || p.topic.deleted || p.topic.again {
				return
			}
			nodes := []int32{int32(pair[i%2])}
			for _, id := range state.Replicas {
				if id != pair[i%2] {
					nodes = append(nodes, int32(id))
				}
			}
			w.load.reassignTo(p, nodes)
			w.after(t.between(5*millisecond, 50*millisecond), w.load.electPreferred)
		})
	}
	w.after(t.between(300*millisecond, 2*second), undo)
}

// leave lets one leader write what no other node hears of.
func (t *tailer) leave() {
	w := t.w
	p, n := t.leader()
	if n == nil || !n.up || n.paused || n.stopping {
		return
	}
	if t.rng.IntN(4) == 0 {
		w.faults.done[tailFault]++
		t.toAndFro(p)
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
func (t *tailer) leader() (*topicPart, *node) {
	parts := t.w.load.parts()
	if len(parts) == 0 {
		return nil, nil
	}
	p := parts[t.rng.IntN(len(parts))]
	h, ok := t.w.load.probe.c.leaders[p]
	if !ok {
		return nil, nil
	}
	return p, t.w.nodes[h.node]
}

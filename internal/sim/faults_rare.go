package sim

import "chronik/internal/base/vfs"

// pauseAndKill is how acknowledged records were lost elsewhere: some nodes are
// paused while records come in, one of the others loses its power, and the
// paused ones meet it again while the last one that knows is paused.
func (n *nemesis) pauseAndKill() func() {
	order := n.rng.Perm(len(n.w.nodes))
	behind, victim, rest := n.w.nodes[order[0]], n.w.nodes[order[1]], n.w.nodes[order[2]]
	behind.pause()
	n.w.after(n.between(100*millisecond, 3*second), func() {
		if n.w.healed {
			return
		}
		victim.losePower(n.survival())
		rest.pause()
		behind.resume()
		n.w.after(n.between(10*millisecond, second), func() { n.powerUp(victim) })
	})
	return func() {
		behind.resume()
		rest.resume()
		n.powerUp(victim)
	}
}

// pauseAndCutOff has a node find an answer, when it goes on after a pause, that
// was true when it was sent, and nothing newer.
func (n *nemesis) pauseAndCutOff() func() {
	t := n.target()
	far := n.between(20*millisecond, 150*millisecond)
	n.w.net.extra[t.index] += far
	undo, over := func() {}, false
	n.w.after(n.between(200*millisecond, 500*millisecond), func() {
		if over {
			return
		}
		t.pause()
		n.w.after(n.between(500*millisecond, 4*second), func() {
			if over {
				return
			}
			n.note("cut n%d off from the other nodes", t.index)
			var pairs [][2]int
			for i := range n.w.nodes {
				if i != t.index {
					pairs = append(pairs, [2]int{i, t.index}, [2]int{t.index, i})
				}
			}
			undo = n.cutAll(pairs)
			t.resume()
		})
	})
	return func() {
		n.w.net.extra[t.index] -= far
		over = true
		undo()
		t.resume()
	}
}

// loseDisk takes all that a node has, once in a run: more than that no cluster
// promises to bear.
func (n *nemesis) loseDisk() func() {
	for _, nd := range n.w.nodes {
		if nd.wiped || !n.w.plan.mayLoseDisk {
			return nil
		}
	}
	t := n.target()
	n.note("n%d loses its disk", t.index)
	t.kill()
	t.wiped = true
	t.disk.mem = vfs.NewMem()
	return t.start
}

// endInCall ends a process, with or without the power, between two changes of
// its disk that belong together: at any of the next ones, or at one of those that
// make, rename and remove files.
func (n *nemesis) endInCall() func() {
	t, s := n.target(), n.survival()
	power, names := n.rng.IntN(2) == 0, n.rng.IntN(2) == 0
	most := 200
	if names {
		most = 12
	}
	end := func() { t.perish(power, s) }
	t.disk.crashIn(1+n.rng.IntN(most), names, end)
	return func() {
		t.disk.crash = nil
		if !n.w.healed && !t.up && n.rng.IntN(2) == 0 { // once more, while it makes out what it has
			t.disk.crashIn(1+n.rng.IntN(60), names, end)
			n.w.after(n.between(500*millisecond, 3*second), func() {
				t.disk.crash = nil
				n.powerUp(t)
			})
		}
		n.powerUp(t)
	}
}

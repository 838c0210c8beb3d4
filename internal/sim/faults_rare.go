package sim

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/storage/statefile"
)

// pauseAndKill is how acknowledged records were lost elsewhere: some nodes are
// paused while records come in, one of the others loses its power, and the
// paused ones meet it again while the last one that knows is paused.
func (n *nemesis) pauseAndKill() func() {
	order := n.rng.Perm(len(n.w.nodes))
	behind, victim, rest := n.w.nodes[order[0]], n.w.nodes[order[1]], n.w.nodes[order[2]]
	behind.pause()
	n.w.after(n.between(100*millisecond, 3*second), func() {
		if n.w.calm() {
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
	if !n.mayLose() {
		return nil
	}
	if n.rng.IntN(2) == 0 {
		if undo := n.loseLastButOne(); undo != nil {
			return undo
		}
	}
	t := n.target()
	if n.w.check.onlyOn(t) {
		return nil
	}
	n.wipe(t)
	return t.start
}

// loseLastButOne has one of the last two replicas that have all of a partition be
// lost with its node's disk, and come back while the other is away: it must not
// lead. The third is there, too, but for a while was not, so that it is not in
// sync; the other nodes are a quorum with it. Where there are too few of them the
// other one comes back at about the same time, and who is let in first is open.
func (n *nemesis) loseLastButOne() func() {
	image := n.w.check.newestImage()
	var all [][]kafka.NodeID
	for _, p := range n.w.load.parts() {
		if image == nil || image.Topic(p.topic.id).Partition(p.number) == nil {
			continue
		}
		if state := image.Topic(p.topic.id).Partition(p.number); len(state.Replicas) == 3 && len(state.InSync) == 3 && !state.Reassigning() {
			all = append(all, state.InSync)
		}
	}
	if len(all) == 0 {
		return nil
	}
	inSync, order := all[n.rng.IntN(len(all))], n.rng.Perm(3)
	at := func(i int) *node { return n.w.nodes[inSync[order[i]]-1] }
	behind, empty, other := at(0), at(1), at(2)
	behind.kill()
	n.w.after(n.between(100*millisecond, 3*second), func() {
		if n.w.calm() || !n.mayLose() || n.w.check.onlyOn(empty) {
			return
		}
		n.wipe(empty)
		other.kill()
		n.w.after(n.between(millisecond, 300*millisecond), behind.start)
		n.w.after(n.between(millisecond, second), empty.start)
		if len(n.w.nodes) < 5 {
			n.w.after(n.between(millisecond, second), other.start)
		}
	})
	return func() {
		behind.start()
		empty.start()
		other.start()
	}
}

// mayLose says whether what is on one node may be given up, as it was on no
// other before.
func (n *nemesis) mayLose() bool {
	return n.w.plan.mayLoseDisk && !slices.ContainsFunc(n.w.nodes, func(nd *node) bool { return nd.wiped || nd.removed })
}

func (n *nemesis) wipe(t *node) {
	n.note("n%d loses its disk", t.index)
	t.kill()
	t.wiped = true
	for _, o := range n.w.nodes {
		if o.broker != nil {
			t.wipedAt = max(t.wipedAt, o.broker.Image().Offset())
		}
	}
	t.disk.mem = vfs.NewMem()
	n.w.check.wiped(t)
}

// removeNode has an operator take a node out of the cluster, dead or alive, and
// give it back a while later: with what it has, or with an empty disk. The
// cluster counts what it has as lost.
func (n *nemesis) removeNode() func() {
	if !n.mayLose() {
		return nil
	}
	t := n.target()
	if n.w.check.onlyOn(t) {
		return nil
	}
	t.removed = true
	if n.rng.IntN(3) == 0 {
		t.kill()
	}
	n.note("n%d is to be removed from the cluster", t.index)
	var ask func()
	ask = func() {
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = int32(t.id)
		n.w.load.admin.call((t.index+1+n.rng.IntN(len(n.w.nodes)-1))%len(n.w.nodes), req, 3*second, func(r kmsg.Response, err error) {
			if n.w.calm() {
				return
			}
			if err != nil || r.(*kmsg.UnregisterBrokerResponse).ErrorCode != 0 {
				n.w.after(n.between(100*millisecond, second), ask)
				return
			}
			n.note("n%d was removed from the cluster", t.index)
		})
	}
	n.w.after(n.between(0, 2*second), ask)
	return func() {
		if n.rng.IntN(2) == 0 && !n.w.calm() {
			n.wipe(t)
		}
		t.start()
	}
}

// fullDisk leaves a node's disk so much space, or none, until there is some again.
func (n *nemesis) fullDisk() func() {
	t := n.target()
	left := int64(n.between(0, 64<<10))
	if n.rng.IntN(2) == 0 {
		left = int64(n.between(0, 512))
	}
	n.note("the disk of n%d has %d bytes left", t.index, left)
	t.disk.mem.SetCapacity(max(1, t.disk.mem.Used()+left))
	return func() {
		n.note("the disk of n%d has space again", t.index)
		t.disk.mem.SetCapacity(0)
	}
}

// damageMetadata ends a process and harms what it had to keep as a member of the
// quorum: its vote is lost, or it or the snapshot damaged. Once in a run, as only
// a minority may lose that; not where a node may lose its disk.
func (n *nemesis) damageMetadata() func() {
	t := n.target()
	if !n.mayMaim || n.w.plan.mayLoseDisk || !t.up || !t.ready {
		return nil
	}
	t.kill()
	name := "/data/wal/__meta/" + []string{"vote", "snapshot"}[n.rng.IntN(2)]
	b, err := vfs.ReadFile(t.disk.mem, name)
	if err != nil {
		n.w.violate("the simulator's own disk works", "%s: %v", name, err)
		return nil
	}
	n.mayMaim, t.maimed, t.was = false, true, t.incarnation()
	n.note("n%d: %s is damaged", t.index, name)
	if strings.HasSuffix(name, "vote") && n.rng.IntN(2) == 0 {
		err = statefile.Remove(t.disk.mem, name)
	} else {
		b[n.rng.IntN(len(b))] ^= 1 << n.rng.IntN(8)
		err = overwrite(t.disk.mem, name, b)
	}
	if err != nil {
		n.w.violate("the simulator's own disk works", "%s: %v", name, err)
	}
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
		if !n.w.calm() && !t.up && n.rng.IntN(2) == 0 { // once more, while it makes out what it has
			t.disk.crashIn(1+n.rng.IntN(60), names, end)
			n.w.after(n.between(500*millisecond, 3*second), func() {
				t.disk.crash = nil
				n.powerUp(t)
			})
		}
		n.powerUp(t)
	}
}

// overwrite writes bytes over those of a file, durably.
func overwrite(fs vfs.FS, name string, b []byte) error {
	f, err := fs.Open(name, vfs.ReadWrite)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Sync()
}

package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// nemesis does harm, and undoes it after a while. Which kinds of harm it knows
// and how often it does any is drawn per seed.
type nemesis struct {
	w       *world
	rng     *rand.Rand
	kinds   []faultKind
	every   instant
	lasting instant
	done    map[string]int // by kind
	mayMaim bool           // no node has lost its part in the quorum yet
	undo    []func()       // what is still to be undone, nil where it was

	// armed is called when the next produce request has been answered, or one that
	// changes something else: what is promised there and then is in the greatest danger.
	armed     func(by *node)
	armedElse bool
	// torn is called when a node, or any where it is nil, has something that is not
	// synced: then a loss of power may take the half of it.
	torn   func()
	tornAt *node
	// granted is called when an in-sync set has been changed.
	granted func(leader *node)
}

// faultKind is one way to do harm. It returns how to undo it, or nil.
type faultKind struct {
	name     string
	do       func(n *nemesis) func()
	unsynced bool // takes what was not synced
}

// allFaults are in the order in which a seed draws from them.
var allFaults = []faultKind{
	{"kill", (*nemesis).kill, false},
	{"lose power", (*nemesis).losePower, true},
	{"lose power everywhere", (*nemesis).losePowerEverywhere, true},
	{"kill all", (*nemesis).killAll, false},
	{"stop", (*nemesis).stop, true},
	{"pause", (*nemesis).pause, false},
	{"isolate", (*nemesis).isolate, false},
	{"one way", (*nemesis).oneWay, false},
	{"split", (*nemesis).split, false},
	{"bridge", (*nemesis).bridge, false},
	{"cut a link", (*nemesis).cutLink, false},
	{"cut clients", (*nemesis).cutClients, false},
	{"sever", (*nemesis).sever, false},
	{"delay", (*nemesis).delay, false},
	{"slow disk", (*nemesis).slowDisk, false},
	{"sync error", (*nemesis).syncError, true},
	{"step clock", (*nemesis).stepClock, false},
	{"pause and kill", (*nemesis).pauseAndKill, true},
	{"pause and cut off", (*nemesis).pauseAndCutOff, false},
	{"lose disk", (*nemesis).loseDisk, true},
	{"end in a call", (*nemesis).endInCall, true},
}

// rareFaults come in a fifth of the runs.
var rareFaults = []faultKind{
	{"full disk", (*nemesis).fullDisk, true},
	{"remove node", (*nemesis).removeNode, true},
	{"damage metadata", (*nemesis).damageMetadata, false},
}

// FaultNames lists the kinds of faults.
func FaultNames() []string {
	var out []string
	for _, k := range slices.Concat(allFaults, rareFaults) {
		out = append(out, k.name)
	}
	return append(out, flipFault, tailFault)
}

func newNemesis(w *world, only []string) *nemesis {
	n := &nemesis{w: w, rng: w.fork(partFaults), done: make(map[string]int)}
	for _, k := range allFaults {
		wanted := n.rng.IntN(2) == 0
		if len(only) > 0 {
			wanted = false
			for _, o := range only {
				wanted = wanted || o == k.name
			}
		}
		if wanted {
			n.kinds = append(n.kinds, k)
		}
	}
	for _, k := range rareFaults {
		if slices.Contains(only, k.name) || len(only) == 0 && n.rng.IntN(5) == 0 {
			n.kinds = append(n.kinds, k)
		}
	}
	if w.plan.relaxed {
		n.kinds = slices.DeleteFunc(n.kinds, func(k faultKind) bool { return k.unsynced })
	}
	if w.plan.ways.expiry && len(only) == 0 {
		n.kinds = slices.DeleteFunc(n.kinds, func(k faultKind) bool { return k.name == "step clock" })
	}
	n.mayMaim = true
	n.every = 500*millisecond + instant(n.rng.Int64N(int64(10*second)))
	n.lasting = 200*millisecond + instant(n.rng.Int64N(int64(12*second)))
	return n
}

func (n *nemesis) between(lo, hi instant) instant { return lo + instant(n.rng.Int64N(int64(hi-lo))) }

// start does harm until the world heals.
func (n *nemesis) start() {
	if len(n.kinds) == 0 {
		return
	}
	n.w.after(n.between(n.every/8, 2*n.every), func() {
		if n.w.calm() {
			return
		}
		if n.rng.IntN(8) == 0 { // some peace, so that what was broken can mend
			n.w.after(2*n.lasting, n.start)
			return
		}
		k := n.kinds[n.rng.IntN(len(n.kinds))]
		n.done[k.name]++
		if undo := k.do(n); undo != nil {
			i := len(n.undo)
			n.undo = append(n.undo, undo)
			n.w.after(n.between(n.lasting/20, 2*n.lasting), func() { n.mend(i) })
		}
		n.start()
	})
}

// later has something undone when it is called, or when the world heals.
func (n *nemesis) later(undo func()) func() {
	i := len(n.undo)
	n.undo = append(n.undo, undo)
	return func() { n.mend(i) }
}

func (n *nemesis) mend(i int) {
	if undo := n.undo[i]; undo != nil {
		n.undo[i] = nil
		undo()
	}
}

// has says whether faults of a kind may come.
func (n *nemesis) has(name string) bool {
	return slices.ContainsFunc(n.kinds, func(k faultKind) bool { return k.name == name })
}

// heal undoes all.
func (n *nemesis) heal() {
	n.armed, n.torn, n.granted = nil, nil, nil
	for i := range n.undo {
		n.mend(i)
	}
	for _, nd := range n.w.nodes {
		nd.disk.slow, nd.disk.failSync, nd.disk.crash = n.w.plan.disks[nd.index], "", nil
		nd.disk.mem.SetCapacity(0)
		nd.resume()
		nd.start()
	}
	n.w.net.loss = 0
}

// anyFailed says whether a partition of the node is offline.
func (n *nemesis) anyFailed(nd *node) bool {
	if !nd.up || nd.broker == nil {
		return false
	}
	for _, p := range nd.broker.Partitions() {
		if errors.Is(p.Failure(), errDisk) {
			return true
		}
	}
	return false
}

func (n *nemesis) note(format string, args ...any) {
	n.w.note(noteFault, nowhere, nowhere, 0, 0, fmt.Sprintf(format, args...))
}

// target picks a node: any, the controller, or the leader of some partition.
func (n *nemesis) target() *node {
	any := n.w.nodes[n.rng.IntN(len(n.w.nodes))]
	switch n.rng.IntN(3) {
	case 0:
		if any.up && any.broker != nil {
			if c := any.broker.Controller(); c >= 1 && int(c) <= len(n.w.nodes) {
				return n.w.nodes[c-1]
			}
		}
	case 1:
		if parts := n.w.load.parts(); len(parts) > 0 {
			if h, ok := n.w.load.probe.c.leaders[parts[n.rng.IntN(len(parts))]]; ok {
				return n.w.nodes[h.node]
			}
		}
	}
	return any
}

func (n *nemesis) survival() float64 {
	switch n.rng.IntN(3) {
	case 0:
		return 0
	case 1:
		return 1
	}
	return n.rng.Float64()
}

func (n *nemesis) kill() func() {
	t := n.target()
	n.arm(func(by *node) {
		if by != nil {
			t = by
		}
		t.kill()
	})
	return func() { t.start() }
}

// endCoordinator kills a node within a time, where such faults come, and starts
// it again.
func (n *nemesis) endCoordinator(t *node, within instant) {
	if !n.has("kill") {
		return
	}
	n.w.after(n.between(0, within), func() {
		if n.w.calm() {
			return
		}
		n.done["kill"]++
		n.note("n%d is a coordinator that ends", t.index)
		t.kill()
		i := len(n.undo)
		n.undo = append(n.undo, t.start)
		n.w.after(n.between(n.lasting/20, 2*n.lasting), func() { n.mend(i) })
	})
}

func (n *nemesis) losePower() func() {
	t, s := n.target(), n.survival()
	n.arm(func(by *node) {
		if by != nil {
			t = by
		}
		n.tear(t, s, func() { t.losePower(s) })
	})
	return func() {
		n.torn = nil
		n.powerUp(t)
	}
}

// tear does harm at once, or where only some of what is not synced survives when
// there is such on a node; nil: on any.
func (n *nemesis) tear(t *node, survival float64, harm func()) {
	if survival <= 0 || survival > 0.7 || n.torn != nil {
		harm()
		return
	}
	n.torn, n.tornAt = harm, t
}

// unsynced is called when a node has something that is not synced.
func (n *nemesis) unsynced(at *node) {
	harm := n.torn
	if harm == nil || n.tornAt != nil && n.tornAt != at || n.w.calm() {
		return
	}
	n.torn = nil
	n.w.after(0, harm)
}

// arm does harm at once, or just after the next produce request, or another one
// by which a client changes something, is answered by the node that is passed on.
func (n *nemesis) arm(harm func(by *node)) {
	if n.armed != nil || n.rng.IntN(2) == 0 {
		harm(nil)
		return
	}
	n.armed, n.armedElse = harm, n.rng.IntN(3) == 0
}

// changing are the kinds of requests, beside produce, by which clients change
// what must stay so.
var changing = []int16{
	8,  // OffsetCommit
	19, // CreateTopics
	20, // DeleteTopics
	21, // DeleteRecords
	22, // InitProducerID
	37, // CreatePartitions
	44, // IncrementalAlterConfigs
	45, // AlterPartitionReassignments
}

// answering is called when a node answers a request of a kind.
func (n *nemesis) answering(by *node, key int16) {
	harm := n.armed
	if harm == nil || n.w.calm() || n.armedElse != slices.Contains(changing, key) || !n.armedElse && key != 0 {
		return
	}
	n.armed = nil
	n.w.after(n.between(0, 2*millisecond), func() {
		if !n.w.calm() {
			harm(by)
		}
	})
}

// powerUp brings the machine back; its kernel refuses connections until the
// process runs.
func (n *nemesis) powerUp(t *node) {
	t.dark = false
	n.w.after(n.between(millisecond, 300*millisecond), t.start)
}

func (n *nemesis) losePowerEverywhere() func() {
	s := n.survival()
	n.arm(func(*node) {
		n.tear(nil, s, func() {
			n.note("all lose power, %.2f survives", s)
			for _, t := range n.w.nodes {
				t.losePower(s)
			}
		})
	})
	return func() {
		n.torn = nil
		n.startAll()
	}
}

func (n *nemesis) killAll() func() {
	n.arm(func(*node) {
		for _, t := range n.w.nodes {
			t.kill()
		}
	})
	return n.startAll
}

func (n *nemesis) startAll() {
	for _, i := range n.rng.Perm(len(n.w.nodes)) {
		t := n.w.nodes[i]
		n.w.after(n.between(0, 3*second), func() { n.powerUp(t) })
	}
}

func (n *nemesis) stop() func() {
	t := n.target()
	t.stop()
	return func() {
		if !t.up && n.rng.IntN(2) == 0 { // the machine is switched off with it
			t.losePower(n.survival())
			n.powerUp(t)
			return
		}
		t.start()
	}
}

func (n *nemesis) pause() func() {
	t := n.target()
	t.pause()
	return t.resume
}

// cutAll cuts paths and returns how to mend them.
func (n *nemesis) cutAll(pairs [][2]int) func() {
	for _, p := range pairs {
		n.w.net.cut(p[0], p[1])
	}
	return func() {
		n.note("mended %v", pairs)
		for _, p := range pairs {
			n.w.net.mend(p[0], p[1])
		}
	}
}

func (n *nemesis) isolate() func() {
	if n.granted != nil || n.rng.IntN(3) > 0 {
		return n.isolateNode(n.target())
	}
	// Not now, but when the controller has changed an in-sync set and the
	// partition's leader does not know yet.
	undo := func() { n.granted = nil }
	n.granted = func(leader *node) { undo = n.isolateNode(leader) }
	return func() { undo() }
}

// granting is called when the controller has changed an in-sync set as a
// leader had asked.
func (n *nemesis) granting(leader int) {
	if harm := n.granted; harm != nil && !n.w.calm() && leader >= 1 && leader <= len(n.w.nodes) {
		n.granted = nil
		harm(n.w.nodes[leader-1])
	}
}

func (n *nemesis) isolateNode(t *node) func() {
	places := len(n.w.nodes)
	clients := n.rng.IntN(2) == 0
	if clients {
		places += clientSites
	}
	n.note("isolated n%d, from clients too: %v", t.index, clients)
	var pairs [][2]int
	for i := range places {
		if i != t.index {
			pairs = append(pairs, [2]int{i, t.index}, [2]int{t.index, i})
		}
	}
	return n.cutAll(pairs)
}

func (n *nemesis) oneWay() func() {
	t := n.target()
	deaf := n.rng.IntN(2) == 0
	n.note("n%d cannot hear: %v, else cannot speak", t.index, deaf)
	var pairs [][2]int
	for i := range n.w.nodes {
		switch {
		case i == t.index:
		case deaf:
			pairs = append(pairs, [2]int{i, t.index})
		default:
			pairs = append(pairs, [2]int{t.index, i})
		}
	}
	return n.cutAll(pairs)
}

func (n *nemesis) split() func() {
	order := n.rng.Perm(len(n.w.nodes) + clientSites)
	at := 1 + n.rng.IntN(len(order)-1)
	n.note("split %v from %v", order[:at], order[at:])
	var pairs [][2]int
	for _, i := range order[:at] {
		for _, j := range order[at:] {
			pairs = append(pairs, [2]int{i, j}, [2]int{j, i})
		}
	}
	return n.cutAll(pairs)
}

// bridge leaves one node that reaches all, while the others are in two halves.
func (n *nemesis) bridge() func() {
	order := n.rng.Perm(len(n.w.nodes))
	rest := order[1:]
	at := len(rest) / 2
	n.note("split %v from %v, n%d reaches both", rest[:at], rest[at:], order[0])
	var pairs [][2]int
	for _, i := range rest[:at] {
		for _, j := range rest[at:] {
			pairs = append(pairs, [2]int{i, j}, [2]int{j, i})
		}
	}
	return n.cutAll(pairs)
}

func (n *nemesis) cutLink() func() {
	order := n.rng.Perm(len(n.w.nodes))
	n.note("cut n%d from n%d", order[0], order[1])
	pairs := [][2]int{{order[0], order[1]}}
	if n.rng.IntN(2) == 0 {
		pairs = append(pairs, [2]int{order[1], order[0]})
	}
	return n.cutAll(pairs)
}

// cutClients has requests, or answers, of one site not arrive at a node.
func (n *nemesis) cutClients() func() {
	t, site := n.target(), len(n.w.nodes)+n.rng.IntN(clientSites)
	if n.rng.IntN(2) == 0 {
		n.note("answers of n%d are lost at site %d", t.index, site)
		return n.cutAll([][2]int{{t.index, site}})
	}
	n.note("requests of site %d to n%d are lost", site, t.index)
	return n.cutAll([][2]int{{site, t.index}})
}

// sever breaks connections, those of clients too.
func (n *nemesis) sever() func() {
	share := n.rng.Float64()
	n.note("severed connections, %.2f of all", share)
	for _, l := range append([]*link(nil), n.w.net.links...) {
		if n.rng.Float64() < share {
			l.sever(n.between(100*microsecond, 20*millisecond))
		}
	}
	for _, c := range n.w.clients {
		for _, s := range c.sessions {
			if s != nil && n.rng.Float64() < share {
				if n.rng.IntN(2) == 0 {
					s.out.broken = true // what was sent is lost too
				}
				s.lose(errConnection)
			}
		}
	}
	return nil
}

func (n *nemesis) delay() func() {
	t := n.target()
	d := n.between(millisecond, 150*millisecond)
	n.note("n%d is %v further away", t.index, time.Duration(d))
	n.w.net.extra[t.index] += d
	return func() { n.w.net.extra[t.index] -= d }
}

func (n *nemesis) slowDisk() func() {
	t := n.target()
	t.disk.slow = float64(n.between(5, 3000))
	n.note("the disk of n%d is %.0f times as slow as a fast one", t.index, t.disk.slow)
	return func() { t.disk.slow = n.w.plan.disks[t.index] }
}

// syncError has one sync fail. A partition whose sync has failed is out of the
// in-sync set until its log has been opened again, by the node itself after a
// while, or because it is started anew.
func (n *nemesis) syncError() func() {
	t := n.target()
	t.disk.failSync = []string{"/data", "partitions", "__meta"}[n.rng.IntN(3)]
	t.disk.failNames = n.rng.IntN(3) == 0
	n.note("a sync on n%d below %s will fail, one of names: %v", t.index, t.disk.failSync, t.disk.failNames)
	return func() {
		t.disk.failSync = ""
		if n.anyFailed(t) && n.rng.IntN(2) == 0 {
			t.kill()
			n.w.after(n.between(10*millisecond, second), t.start)
		}
	}
}

func (n *nemesis) stepClock() func() {
	t := n.target()
	d := time.Duration(n.between(millisecond, 100*millisecond))
	if n.rng.IntN(2) == 0 {
		d = time.Duration(n.between(second, 15*60*second))
	}
	if n.rng.IntN(2) == 0 {
		d = -d
	}
	n.note("the wall clock of n%d is stepped by %v", t.index, d)
	t.clock.wall += d
	return func() { t.clock.wall -= d }
}

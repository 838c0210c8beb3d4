package sim

import (
	"hash/crc32"
	"math/rand/v2"

	"chronik/internal/host/broker"
)

// network carries frames between nodes, and between clients and nodes, as
// connections do: whole and in order while a connection lasts. A packet that is
// lost delays all behind it; a path that is cut stalls connections until it is
// mended, if they do not break before.
//
// Its places are the nodes, by index, and then the clients' sites.
type network struct {
	w     *world
	rng   *rand.Rand
	cuts  [][]int // by from and to: how many faults cut this path
	extra []instant
	links []*link

	latency instant // usual, one way
	loss    float64 // of packets

	stalled []stall
}

// stall is what waits for a path to be mended.
type stall struct {
	from, to int
	since    instant
	resume   func()
}

// The two sites that clients are at.
const clientSites = 2

func newNetwork(w *world, nodes int) *network {
	n := &network{w: w, rng: w.fork(partNetwork), latency: 150 * microsecond}
	places := nodes + clientSites
	n.cuts = make([][]int, places)
	for i := range n.cuts {
		n.cuts[i] = make([]int, places)
	}
	n.extra = make([]instant, places)
	return n
}

func (n *network) open(from, to int) bool { return n.cuts[from][to] == 0 }

// cut stops all that goes from one place to another.
func (n *network) cut(from, to int) { n.cuts[from][to]++ }

// mend undoes one cut. What was stalled goes on after a while: the sender
// tries again ever less often.
func (n *network) mend(from, to int) {
	n.cuts[from][to]--
	if !n.open(from, to) {
		return
	}
	waiting := n.stalled
	n.stalled = nil
	for _, s := range waiting {
		if s.from != from || s.to != to {
			n.stalled = append(n.stalled, s)
			continue
		}
		pause := min(n.w.now-s.since, 2*second)
		n.w.after(n.between(millisecond, pause+2*millisecond), s.resume)
	}
}

func (n *network) stall(from, to int, resume func()) {
	n.stalled = append(n.stalled, stall{from, to, n.w.now, resume})
}

func (n *network) between(lo, hi instant) instant {
	if hi <= lo {
		return lo
	}
	return lo + instant(n.rng.Int64N(int64(hi-lo)))
}

// travel draws how long a frame is on its way.
func (n *network) travel(from, to int) instant {
	t := n.latency/2 + n.between(0, n.latency)
	t += n.extra[from] + n.extra[to]
	if n.loss > 0 && n.rng.Float64() < n.loss {
		t += n.between(200*millisecond, 600*millisecond) // sent again
	}
	return t
}

// connection is one way of one connection.
type connection struct {
	n        *network
	from, to int
	last     instant // when what was sent last arrives
	broken   bool
	held     []func() // stalled, in order
}

// carry has arrive called when what is sent now has come to the other end.
func (c *connection) carry(depart instant, arrive func()) {
	at := max(depart+c.n.travel(c.from, c.to), c.last)
	c.last = at
	c.n.w.at(at, func() { c.arrived(arrive) })
}

func (c *connection) arrived(arrive func()) {
	switch {
	case c.broken:
	case len(c.held) > 0:
		c.held = append(c.held, arrive)
	case !c.n.open(c.from, c.to):
		c.held = append(c.held, arrive)
		c.n.stall(c.from, c.to, c.resume)
	default:
		arrive()
	}
}

func (c *connection) resume() {
	held := c.held
	c.held = nil
	for _, f := range held {
		c.arrived(f)
	}
}

// link is the connection that one process dials to another node for one class
// of traffic, as edge/transport has it.
type link struct {
	w        *world
	from, to *node
	class    broker.Class
	life     uint64 // of the dialling process
	closed   bool
	conn     *connection // nil: not connected
	backoff  instant
	queue    [][]byte // sent while not connected
	queued   int
}

// What edge/transport does, in numbers.
const (
	dialTimeout   = second
	helloTimeout  = 2 * second
	redialMin     = 20 * millisecond
	redialMax     = second
	idleQueueMax  = 1 << 20
	refusalTravel = 300 * microsecond
)

func (n *network) link(from, to *node, class broker.Class) *link {
	l := &link{w: n.w, from: from, to: to, class: class, life: from.life, backoff: redialMin}
	n.links = append(n.links, l)
	l.dial()
	return l
}

// after has fn called later unless the process has ended.
func (l *link) after(d instant, fn func()) {
	l.w.after(d, func() {
		if !l.closed && l.from.life == l.life {
			fn()
		}
	})
}

func (l *link) dial() {
	n := l.w.net
	switch {
	case !n.open(l.from.index, l.to.index) || !n.open(l.to.index, l.from.index) || l.to.dark:
		l.after(dialTimeout, func() { l.failed(false) })
	case !l.to.up:
		l.after(refusalTravel, func() { l.failed(!l.to.up) })
	case l.to.paused:
		l.after(helloTimeout, func() { l.failed(false) })
	default:
		life := l.to.life
		l.after(2*n.travel(l.from.index, l.to.index), func() {
			if l.to.life != life {
				l.failed(!l.to.up && !l.to.dark)
				return
			}
			l.connected()
		})
	}
}

// failed goes on after an attempt to dial.
func (l *link) failed(refused bool) {
	l.queue, l.queued = nil, 0
	if refused {
		l.down(true)
	}
	d := l.backoff
	l.backoff = min(2*l.backoff, redialMax)
	l.after(d, l.dial)
}

func (l *link) connected() {
	l.backoff = redialMin
	l.conn = &connection{n: l.w.net, from: l.from.index, to: l.to.index}
	l.w.note(noteLink, l.from.index, l.to.index, int64(l.class), 0, "connected")
	if b, to := l.from.broker, l.to.id; b != nil && !l.from.paused {
		l.from.post(func() { b.PeerUp(l.from.time(), to) })
	}
	queue := l.queue
	l.queue, l.queued = nil, 0
	for _, f := range queue {
		l.carry(l.w.now, f)
	}
}

// down tells the process that the connection was lost, or that there is none.
func (l *link) down(gone bool) {
	b, to := l.from.broker, l.to.id
	if l.from.paused {
		return // by the time that it looks it has something newer
	}
	x := int64(0)
	if gone {
		x = 1
	}
	l.w.note(noteLink, l.from.index, l.to.index, int64(l.class), x, "down")
	l.from.post(func() { b.PeerDown(l.from.time(), to, gone) })
}

// sever breaks the connection; the dialler notices after a while and dials
// again.
func (l *link) sever(notice instant) {
	if l.conn == nil || l.closed {
		return
	}
	l.conn.broken = true
	l.conn = nil
	l.after(notice, func() {
		l.down(false)
		l.dial()
	})
}

// send is edge/transport's Send. It keeps the frame.
func (l *link) send(frame []byte) {
	if l.conn == nil {
		if l.queued+len(frame) <= idleQueueMax {
			l.queue = append(l.queue, frame)
			l.queued += len(frame)
		}
		return
	}
	l.carry(l.from.clockNow(), frame)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (l *link) carry(depart instant, frame []byte) {
	to, life := l.to, l.to.life
	l.conn.carry(depart, func() {
		if to.life != life || !to.up {
			return
		}
		text := "bulk"
		if l.class == broker.ClassControl {
			text = "control"
		}
		l.w.note(noteFrame, l.from.index, to.index, int64(len(frame)), int64(crc32.Checksum(frame, castagnoli)), text)
		to.receive(l.from.id, l.class, frame)
	})
}

// ended breaks all connections with a process that has ended. Unless the power
// is gone its kernel says so to the other ends.
func (n *network) ended(dead *node, power bool) {
	kept := n.links[:0]
	for _, l := range n.links {
		switch {
		case l.from == dead:
			l.closed = true // what is on its way still arrives
			continue
		case l.to == dead && power && l.conn != nil:
			// Nobody answers: the dialler notices when it has sent for a while.
			l.sever(n.between(200*millisecond, 5*second))
		case l.to == dead:
			l.sever(n.travel(dead.index, l.from.index))
		}
		kept = append(kept, l)
	}
	clear(n.links[len(kept):])
	n.links = kept
}

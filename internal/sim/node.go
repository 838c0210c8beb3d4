package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/metadata"
	"chronik/internal/host/broker"
	"chronik/internal/host/deadline"
	"chronik/internal/host/fetchsession"
	"chronik/internal/host/partition"
	"chronik/internal/storage/statefile"
)

// node is one machine, and the process on it while there is one.
type node struct {
	w     *world
	index int // its place in the network
	id    kafka.NodeID
	rng   *rand.Rand
	clock clock
	disk  *disk

	up      bool   // a process runs
	dark    bool   // no power: not even a refusal comes back
	midCall bool   // its process is noted as gone, and ended in the midst of a call
	paused  bool   // the process does nothing; its connections stay
	away    bool   // nobody starts a process on it
	life    uint64 // counts processes
	ready   bool
	serving bool // clients are served: from the first time that the process was ready

	broker    *broker.Broker
	server    *api.Server
	deadlines *deadline.Queue
	links     map[kafka.NodeID][2]*link
	sessions  []*session
	pending   []*pendingRequest // that wait
	clientIDs uint64

	held     []func() // what came while paused
	loop     []func() // of the control loop
	loopLast instant  // when the last of them is called
	loopFree instant  // until then the loop is busy with its disk
	inLoop   bool
	busy     instant // time that the call under way has spent on the disk
	ringAt   time.Time
	stopping bool
	restarts int
	began    instant      // its process
	wiped    bool         // its first disk is lost
	wipedAt  kafka.Offset // the last of the metadata that any node knew then
	maimed   bool         // its metadata are damaged, which its next process must notice
	was      uint32       // its incarnation in the quorum until then
	removed  bool         // its removal from the cluster was asked for
}

func newNode(w *world, index int) *node {
	n := &node{w: w, index: index, id: kafka.NodeID(index + 1), rng: w.fork(partNode + uint64(index))}
	n.clock = w.plan.clocks[index]
	n.disk = newDisk(w.fork(partDisk + uint64(index)))
	n.disk.slow = w.plan.disks[index]
	n.disk.used = func(d instant) { n.busy += d }
	n.disk.lost = func() { w.after(n.between(0, 200*millisecond), func() { w.check.durableNow(n) }) }
	return n
}

// time is the node's own time.
func (n *node) time() time.Time { return n.clock.time(n.w.now) }

// clockNow is when what the running call does is done, true time.
func (n *node) clockNow() instant { return n.w.now + n.busy }

// at has fn called by the process that runs now, if it still does then. What
// comes while it is paused comes after it.
func (n *node) at(t instant, fn func()) {
	life := n.life
	n.w.at(t, func() {
		switch {
		case n.life != life:
		case n.paused:
			n.held = append(n.held, fn)
		default:
			n.call(fn)
		}
	})
}

func (n *node) after(d instant, fn func()) { n.at(n.w.now+d, fn) }

// deliver has the process take something that has just come.
func (n *node) deliver(fn func()) {
	if n.paused {
		n.held = append(n.held, fn)
		return
	}
	n.call(fn)
}

// call has the process do something: what it spends on its disk delays what it
// sends.
func (n *node) call(fn func()) {
	n.busy = 0
	fn()
	n.busy = 0
}

func (n *node) between(lo, hi instant) instant { return lo + instant(n.rng.Int64N(int64(hi-lo))) }

// post puts a call on the control loop, which runs them in order, one at a time.
func (n *node) post(fn func()) {
	n.loopLast = max(n.clockNow()+n.between(microsecond, 20*microsecond), n.loopLast)
	n.loop = append(n.loop, fn)
	n.at(n.loopLast, n.runLoop)
}

func (n *node) runLoop() {
	if n.w.now < n.loopFree {
		n.at(n.loopFree, n.runLoop)
		return
	}
	fn := n.loop[0]
	n.loop[0] = nil
	n.loop = n.loop[1:]
	n.inLoop = true
	fn()
	n.inLoop = false
	n.loopFree = n.w.now + n.busy
}

// ring is called by the queue of deadlines when the earliest moves forward.
func (n *node) ring(t time.Time) {
	if n.ringAt.IsZero() || t.Before(n.ringAt) {
		n.setAlarm(t)
	}
}

func (n *node) setAlarm(t time.Time) {
	n.ringAt = t
	n.at(n.clock.when(n.w.now, t), func() {
		if !n.ringAt.Equal(t) {
			return // another one was set
		}
		n.ringAt = time.Time{}
		next := n.deadlines.Run(n.time())
		if !next.IsZero() && (n.ringAt.IsZero() || next.Before(n.ringAt)) {
			n.setAlarm(next)
		}
	})
}

// start starts a process on the node.
func (n *node) start() {
	if n.up || n.away || n.w.stopped {
		return
	}
	n.life++
	n.up, n.dark, n.paused, n.ready, n.serving, n.stopping = true, false, false, false, false, false
	n.held, n.loop, n.sessions, n.pending = nil, nil, nil, nil
	n.loopLast, n.loopFree, n.inLoop, n.ringAt = 0, 0, false, time.Time{}
	n.links = make(map[kafka.NodeID][2]*link)
	n.deadlines = deadline.New(n.ring)
	n.restarts++
	n.began = n.w.now
	n.w.note(noteProcess, n.index, nowhere, int64(n.life), 0, "started")
	life := n.life
	mounted := n.disk.mount()
	failedBefore := n.disk.failed
	n.call(func() {
		options := n.w.plan.options(n)
		n.w.flips.options(&options)
		b, err := broker.New(n.time(), options, n.env(mounted))
		if errors.Is(err, broker.ErrMetadataDamaged) && n.life == life {
			options.Joining, options.Anew = true, true // as edge/server does
			b, err = broker.New(n.time(), options, n.env(mounted))
		}
		if n.maimed && err == nil && n.life == life {
			if n.maimed = false; n.incarnation() == n.was {
				n.w.violate("damaged metadata are noticed", "node %d takes itself for the member that it was", n.id)
				return
			}
		}
		switch {
		case n.life != life:
			return
		case err != nil && (n.disk.failed > failedBefore || errors.Is(err, vfs.ErrNoSpace)):
			n.w.note(noteProcess, n.index, nowhere, 0, 0, "did not start: "+err.Error())
			n.exit(false)
			n.w.after(second, n.start)
			return
		case err != nil:
			n.w.violate("a node starts after any crash", "node %d: %v", n.id, err)
			return
		}
		n.broker = b
		n.server = &api.Server{Broker: b, Sessions: fetchsession.New(fetchsession.Options{}, rand.New(rand.NewPCG(n.rng.Uint64(), n.rng.Uint64())))}
		n.w.check.started(n)
		n.broker.Start()
	})
}

// incarnation is which member of the quorum the node's files say that it is.
func (n *node) incarnation() uint32 {
	var id struct{ Incarnation uint32 }
	b, err := statefile.Load(n.disk.mem, "/data/identity")
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err != nil {
		n.w.violate("a node keeps its identity", "node %d: %v", n.id, err)
	}
	return id.Incarnation
}

// exit ends the process; its disk stays as it is.
func (n *node) exit(power bool) {
	if !n.up {
		return
	}
	n.w.check.ended(n)
	n.up, n.paused, n.ready, n.serving = false, false, false, false
	n.life++
	n.disk.life++ // whoever still has the disk is dead
	n.broker, n.server = nil, nil
	n.w.net.ended(n, power)
	for _, s := range n.sessions {
		s.ended(power)
	}
	n.sessions = nil
}

// lostUnknown says whether a node has lost its disk and, by an image of the
// cluster, nobody knows.
func (n *node) lostUnknown(image *metadata.Image) bool {
	b := image.Broker(n.id)
	return n.wiped && b != nil && int64(b.Epoch) <= int64(n.wipedAt)
}

// kill ends the process as SIGKILL does.
func (n *node) kill() {
	n.w.note(noteProcess, n.index, nowhere, int64(n.life), 0, "killed")
	n.exit(false)
}

// losePower ends the process and loses what was not synced.
func (n *node) losePower(survival float64) {
	n.w.note(noteProcess, n.index, nowhere, int64(n.life), int64(survival*1000), "lost power")
	n.exit(true)
	n.dark = true
	n.disk.losePower(survival)
}

// perish ends the process, and the power too if wanted, in the midst of what it
// is doing: nothing that it does from here on is seen by anybody. That it is gone
// is noted when it has come back from there.
func (n *node) perish(power bool, survival float64) {
	n.w.note(noteProcess, n.index, nowhere, int64(n.life), int64(survival*1000), "ends in the midst of a call")
	n.life++
	n.disk.life++
	if n.dark = true; power {
		n.disk.losePower(survival)
	}
	n.w.after(0, func() {
		if n.up {
			n.dark, n.midCall = power, true
			n.exit(power)
			n.midCall = false
		}
	})
}

// stop ends the process as SIGTERM does.
func (n *node) stop() {
	if !n.up || n.stopping || n.paused {
		return
	}
	n.stopping = true
	n.w.note(noteProcess, n.index, nowhere, int64(n.life), 0, "stops")
	b := n.broker
	n.call(func() {
		b.Stop(600*time.Millisecond, func(time.Time) {
			n.post(func() {
				failed := n.disk.failed
				hosted := b.Partitions()
				defer func() { n.w.check.sawAll(n, hosted) }() // closing syncs what is left
				if err := b.Close(n.time()); err != nil && n.disk.failed == failed {
					n.w.note(noteLog, n.index, nowhere, 0, 0, "close: "+err.Error())
				}
				// The process ends with this call; what it has sent still arrives.
				life := n.life
				n.w.at(n.clockNow(), func() {
					if n.life == life {
						n.w.note(noteProcess, n.index, nowhere, int64(n.life), 0, "stopped")
						n.exit(false)
						if n.w.calm() {
							n.w.after(100*millisecond, n.start)
						}
					}
				})
			})
		})
	})
}

func (n *node) pause() {
	if n.up && !n.paused {
		n.w.note(noteProcess, n.index, nowhere, int64(n.life), 0, "paused")
		n.paused = true
	}
}

func (n *node) resume() {
	if !n.paused {
		return
	}
	n.w.note(noteProcess, n.index, nowhere, int64(n.life), int64(len(n.held)), "resumed")
	n.paused = false
	held, life := n.held, n.life
	n.held = nil
	for _, fn := range held {
		if n.life == life {
			n.call(fn)
		}
	}
}

// receive takes a frame from a peer, as edge/server does.
func (n *node) receive(from kafka.NodeID, class broker.Class, frame []byte) {
	b := n.broker
	if class == broker.ClassControl {
		n.deliver(func() {
			n.post(func() {
				if err := b.HandleControl(n.time(), from, frame); err != nil {
					n.w.violate("peers understand each other", "node %d refused a frame from node %d: %v", n.id, from, err)
				}
			})
		})
		return
	}
	n.deliver(func() {
		if err := b.HandleBulk(n.time(), from, frame); err != nil {
			n.w.violate("peers understand each other", "node %d refused a frame from node %d: %v", n.id, from, err)
		}
		for i := range frame {
			frame[i] = 0xdb // whoever has kept a piece of it is found out
		}
	})
}

func (n *node) env(fs *mounted) broker.Env {
	life := n.life
	alive := func() bool { return n.life == life }
	return broker.Env{
		FS: fs, Log: slog.New(&logHandler{n: n, life: life}), Rand: rand.New(rand.NewPCG(n.rng.Uint64(), n.rng.Uint64())),
		Deadlines: n.deadlines,
		Post: func(fn func(now time.Time)) {
			if alive() {
				n.post(func() { fn(n.time()) })
			}
		},
		ScheduleSync: func(p *partition.Partition) {
			if alive() {
				n.scheduleSync(p)
			}
		},
		Send: func(to kafka.NodeID, class broker.Class, frame ...[]byte) {
			if l, ok := n.links[to]; ok && alive() {
				l[class].send(slices.Concat(frame...))
			}
		},
		Background: func(fn func(now time.Time)) {
			if alive() {
				n.after(n.between(100*microsecond, 20*millisecond), func() {
					n.w.check.committed(n) // compaction is done here
					fn(n.time())
				})
			}
		},
		Peers: func(peers map[kafka.NodeID]string) {
			if alive() {
				n.setPeers(peers)
			}
		},
		Ready: func(ready bool) {
			if alive() {
				n.ready, n.serving = ready, n.serving || ready
			}
		},
		Fatal: func(err error) {
			if alive() {
				n.fatal(err)
			}
		},
	}
}

// scheduleSync syncs a partition's log. It waits for the disk; then what has
// been written is on disk, and the process learns of it later.
func (n *node) scheduleSync(p *partition.Partition) {
	n.w.check.unsynced(n)
	n.w.faults.unsynced(n)
	queued := instant(n.rng.Float64() * float64(n.disk.syncTime()))
	n.after(n.between(microsecond, 50*microsecond)+queued+n.busy, func() {
		busy := n.busy
		run := p.BeginSync()
		took := n.busy - busy
		n.busy = busy
		n.after(took, func() {
			p.EndSync(n.time(), run)
			if n.stopping { // and has perhaps let go of it
				n.w.check.sawAll(n, []*partition.Partition{p})
			}
		})
	})
}

func (n *node) setPeers(peers map[kafka.NodeID]string) {
	for _, to := range n.w.nodes {
		if _, ok := peers[to.id]; ok && n.links[to.id][0] == nil && to != n {
			n.links[to.id] = [2]*link{n.w.net.link(n, to, broker.ClassControl), n.w.net.link(n, to, broker.ClassBulk)}
		}
	}
}

// fatal is a node that gives itself up. Somebody starts it again.
func (n *node) fatal(err error) {
	if !errors.Is(err, errDisk) && !errors.Is(err, vfs.ErrNoSpace) && !(n.removed && errors.Is(err, broker.ErrRemoved)) {
		n.w.violate("a node gives up only when its disk fails", "node %d: %v", n.id, err)
		return
	}
	life := n.life
	n.w.after(0, func() {
		if n.life == life {
			n.w.note(noteProcess, n.index, nowhere, int64(n.life), 0, "gave up: "+err.Error())
			n.exit(false)
			n.w.after(second, n.start)
		}
	})
}

// logHandler puts what a node logs into the trace.
type logHandler struct {
	n     *node
	life  uint64
	attrs string
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s", r.Level, r.Message, h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	if r.Message == "in-sync set changed" && strings.Contains(b.String(), "asked for it") {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "broker" {
				h.n.w.faults.granting(int(a.Value.Int64()))
			}
			return true
		})
	}
	h.n.w.note(noteLog, h.n.index, nowhere, int64(h.life), 0, b.String())
	h.n.w.check.logged(h.n, r.Message, b.String())
	h.n.w.flips.logged(h.n, r.Message, b.String())
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	own := *h
	for _, a := range attrs {
		own.attrs += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return &own
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }

package broker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/format/record"
	"chronik/internal/host/deadline"
	"chronik/internal/host/partition"
)

// world is a few brokers in one goroutine, on disks in memory, with a clock of
// its own and a network that loses nothing unless told to.
type world struct {
	t     *testing.T
	now   time.Time
	queue []func()
	nodes map[kafka.NodeID]*worldNode
	log   bytes.Buffer
	lose  func(from, to kafka.NodeID, frame []byte) bool // nil: nothing is lost
	deaf  kafka.NodeID                                   // hears nothing more of the metadata and the controller
	goes  kafka.NodeID                                   // is to be removed, and may say so
	full  map[kafka.NodeID]error                         // nodes that may open no more logs

	foundersWait time.Duration
}

type worldNode struct {
	w         *world
	id        kafka.NodeID
	fs        *vfs.Mem
	faults    *vfs.Faulty // over fs
	b         *Broker
	deadlines *deadline.Queue
	life      int
	ready     bool
}

func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), nodes: map[kafka.NodeID]*worldNode{}}
	for i := range nodes {
		id := kafka.NodeID(i + 1)
		w.nodes[id] = &worldNode{w: w, id: id, fs: vfs.NewMem()}
	}
	for id := range kafka.NodeID(nodes) {
		w.nodes[id+1].start()
	}
	w.until("all are ready", func() bool {
		for _, n := range w.nodes {
			if !n.ready {
				return false
			}
		}
		return true
	})
	return w
}

func (n *worldNode) start() {
	n.w.t.Helper()
	n.life++
	life := n.life
	n.deadlines = deadline.New(nil)
	n.faults = vfs.NewFaulty(n.fs)
	voters := map[kafka.NodeID]string{}
	for id := range n.w.nodes {
		voters[id] = fmt.Sprintf("host:%d", id)
	}
	soon := func(fn func(now time.Time)) {
		n.w.queue = append(n.w.queue, func() {
			if n.life == life {
				fn(n.w.now)
			}
		})
	}
	options := Options{Node: n.id, DataDir: "data", Voters: voters, PeerAddress: voters[n.id], AdvertiseHost: "host", AdvertisePort: int32(n.id),
		ScrubBytesPerSecond: 1 << 20, FoundersWait: n.w.foundersWait}
	env := Env{
		FS: n.faults, Log: slog.New(slog.NewTextHandler(&n.w.log, nil)), Rand: rand.New(rand.NewPCG(uint64(n.id), uint64(life))),
		Deadlines: n.deadlines, Post: soon, Background: soon,
		ScheduleSync: func(p *partition.Partition) { soon(p.RunSync) },
		Send: func(to kafka.NodeID, class Class, pieces ...[]byte) {
			frame := bytes.Join(pieces, nil)
			n.w.queue = append(n.w.queue, func() {
				other := n.w.nodes[to]
				if other == nil || other.b == nil || n.w.lose != nil && n.w.lose(n.id, to, frame) {
					return
				}
				if to == n.w.deaf && class == ClassControl && (frame[0] == frameRaft || frame[0] == frameAnswer) {
					return
				}
				var err error
				if class == ClassBulk {
					err = other.b.HandleBulk(n.w.now, n.id, frame)
				} else {
					err = other.b.HandleControl(n.w.now, n.id, frame)
				}
				if err != nil {
					n.w.t.Error(err)
				}
			})
		},
		MayOpen: func() error { return n.w.full[n.id] },
		Peers:   func(map[kafka.NodeID]string) {}, Ready: func(ready bool) { n.ready = ready },
		Fatal: func(err error) {
			if n.id != n.w.goes || !errors.Is(err, ErrRemoved) {
				n.w.t.Errorf("node %d: %v", n.id, err)
			}
		},
	}
	b, err := New(n.w.now, options, env)
	if errors.Is(err, ErrMetadataDamaged) {
		options.Joining, options.Anew = true, true
		b, err = New(n.w.now, options, env)
	}
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.b = b
	b.Start()
}

// kill ends the process; what it wrote is there.
func (n *worldNode) kill() {
	n.life++
	n.b, n.ready = nil, false
	n.fs = n.fs.Crash(nil, 1)
	for _, o := range n.w.nodes {
		if o.b != nil {
			o.b.PeerDown(n.w.now, n.id, true)
		}
	}
}

// step does all that is to be done now, and goes on to what is next.
func (w *world) step() {
	for len(w.queue) > 0 {
		fn := w.queue[0]
		w.queue = w.queue[1:]
		fn()
	}
	w.now = w.now.Add(time.Millisecond)
	for id := range kafka.NodeID(len(w.nodes)) {
		if n := w.nodes[id+1]; n.b != nil {
			n.deadlines.Run(w.now)
		}
	}
}

func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for until := w.now.Add(5 * time.Minute); !done(); w.step() {
		if w.now.After(until) {
			w.t.Fatalf("in 5 minutes not come: %s\n%s", what, w.log.String())
		}
	}
}

func (w *world) partition() *metadata.Partition {
	for _, n := range w.nodes {
		if n.b != nil {
			if t := n.b.Image().TopicByName("t"); t != nil {
				return t.Partition(0)
			}
		}
	}
	return nil
}

func (w *world) replicaOf(id kafka.NodeID) *partition.Partition {
	n := w.nodes[id]
	if n.b == nil {
		return nil
	}
	if t := n.b.Image().TopicByName("t"); t != nil {
		return n.b.Partition(t.ID, 0)
	}
	return nil
}

// create makes the topic t with a replica on each node, and fills it.
func (w *world) create(configs map[string]string, batches int) {
	w.t.Helper()
	n := w.nodes[1]
	topic := controller.NewTopic{Name: "t", Partitions: 1, ReplicationFactor: int16(len(w.nodes))}
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		value := configs[name]
		topic.Configs = append(topic.Configs, controller.ConfigValue{Name: name, Value: &value})
	}
	created := false
	n.b.Control(w.now, controller.CreateTopics{Topics: []controller.NewTopic{topic}}, 10*time.Second, func(r controller.Response, code kafka.ErrorCode) {
		created = true
		if code != kafka.None || r.(controller.CreateTopicsResult).Topics[0].Error != kafka.None {
			w.t.Errorf("create: %v %+v", code, r)
		}
	})
	w.until("topic created", func() bool { return created && w.partition() != nil })
	w.produce(batches)
}

func (w *world) produce(batches int) {
	w.t.Helper()
	acked := 0
	for i := range batches {
		bd := record.NewBuilder(record.BuilderOptions{})
		for j := range 3 {
			bd.Append(w.now.UnixMilli(), []byte(fmt.Sprintf("key-%d-%d", i%10, j)), bytes.Repeat([]byte{byte(i)}, 300))
		}
		done := false
		w.replicaOf(w.partition().Leader).Produce(w.now, partition.ProduceRequest{Records: bd.Build(), Acks: -1, Timeout: time.Minute}, func(r partition.ProduceResult) {
			if r.Code == kafka.None {
				acked++
			}
			done = true
		})
		w.until("acknowledged", func() bool { return done })
	}
	if acked != batches {
		w.t.Fatalf("%d of %d acknowledged", acked, batches)
	}
}

// segments are the files of a node's replica, oldest first.
func (n *worldNode) segments() []string {
	dir := path.Join("data", "wal", "partitions", "t-0")
	entries, err := n.fs.List(dir)
	if err != nil {
		n.w.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name, ".wal") {
			out = append(out, path.Join(dir, e.Name))
		}
	}
	return out
}

// edit changes the bytes of a file of a node.
func (n *worldNode) edit(name string, change func(b []byte)) {
	f, err := n.fs.Open(name, vfs.ReadWrite)
	if err != nil {
		n.w.t.Fatal(err)
	}
	size, _ := f.Size()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		n.w.t.Fatal(err)
	}
	change(b)
	if _, err := f.WriteAt(b, 0); err != nil {
		n.w.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		n.w.t.Fatal(err)
	}
	f.Close()
}

func flip(at int) func(b []byte) { return func(b []byte) { b[at] ^= 8 } }

// contents are a replica's batches up to the high watermark, by way of its log.
func (w *world) contents(id kafka.NodeID) []byte {
	w.t.Helper()
	p := w.replicaOf(id)
	if p == nil {
		return nil
	}
	start, _, end := p.Durable()
	var out []byte
	for from := start; from < end; {
		b, err := p.ReadSound(from, end, 1<<20, nil)
		if err != nil || len(b) == 0 {
			w.t.Fatalf("node %d at %d: %v\n%s", id, from, err, w.log.String())
		}
		out = append(out, b...)
		for rest := b; len(rest) > 0; {
			batch, next, err := record.Next(rest)
			if err != nil {
				w.t.Fatal(err)
			}
			from, rest = batch.NextOffset(), next
		}
	}
	return out
}

// whole says whether all replicas are in sync and nothing is to be repaired.
func (w *world) whole() bool {
	if p := w.partition(); len(p.InSync) < len(w.nodes) || len(p.Unfit) > 0 {
		return false
	}
	for _, n := range w.nodes {
		if n.b == nil || len(n.b.scrub.repairs) > 0 {
			return false
		}
	}
	return true
}

// scrub has all nodes go over their logs, to the end of it and of all repairs.
func (w *world) scrub() (states []ScrubState) {
	w.t.Helper()
	replies := 0
	w.nodes[1].b.ScrubAll(w.now, ScrubRequest{Start: true}, 10*time.Second, func(s []ScrubState) { replies, states = replies+1, s })
	w.until("scrubbers answer", func() bool { return replies == 1 })
	for _, s := range states {
		if s.Error != "" || s.Started == 0 {
			w.t.Fatalf("not begun: %+v", s)
		}
	}
	w.until("scrubbed", func() bool {
		for _, n := range w.nodes {
			if len(n.b.scrub.passes) > 0 {
				return false
			}
		}
		return w.whole()
	})
	w.nodes[1].b.ScrubAll(w.now, ScrubRequest{}, 10*time.Second, func(s []ScrubState) { replies, states = replies+1, s })
	w.until("scrubbers answer", func() bool { return replies == 2 })
	return states
}

// total adds up what the nodes have counted.
func total(states []ScrubState) (c ScrubCounts) {
	for _, s := range states {
		c.Damages += s.Counts.Damages
		c.Mismatches += s.Counts.Mismatches
		c.Repairs += s.Counts.Repairs
		c.StartedOver += s.Counts.StartedOver
		c.Failures += s.Counts.Failures
		c.Compared += s.Counts.Compared
		c.Uncompared += s.Counts.Uncompared
	}
	return c
}

// check says whether all replicas hold want, and take more.
func (w *world) check(want []byte) {
	w.t.Helper()
	for id := range w.nodes {
		if got := w.contents(id); !bytes.Equal(got, want) {
			w.t.Errorf("node %d holds %d bytes, want %d\n%s", id, len(got), len(want), w.log.String())
		}
	}
	w.produce(1)
	w.until("replicated", func() bool {
		return len(w.contents(1)) > len(want) && len(w.contents(1)) == len(w.contents(2)) && len(w.contents(1)) == len(w.contents(3))
	})
}

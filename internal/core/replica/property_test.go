package replica

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// world is three replicas, a network that loses, repeats and reorders, and a
// controller that fences, elects and changes in-sync sets as Kafka's does.
type world struct {
	t       *rapid.T
	now     time.Time
	nodes   []*node
	seen    []int // version of the metadata that each node has applied
	network []envelope
	history []Assignment // of the controller; the last is in force
	asked   []askedChange
	syncs   map[int]heldSync // fsyncs that have begun
	ticket  Ticket
	values  int

	committed []string          // each record that was ever below a high watermark
	promised  map[Ticket]string // acks=all: what it was
	marks     []kafka.Offset    // high watermark of each node, for its present life
}

type askedChange struct {
	from   int
	change *InSyncChange
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: time.UnixMilli(1_000_000), promised: map[Ticket]string{}, syncs: map[int]heldSync{}}
	for i := range 3 {
		n := newNode(kafka.NodeID(i+1), Options{LagTimeMax: 2 * time.Second, JoinWindow: time.Millisecond, InFlightAppendsMax: 4, ReadBytesMax: 300}, Config{MinInSync: rapid.IntRange(1, 2).Draw(t, "min")})
		w.nodes, w.seen, w.marks = append(w.nodes, n), append(w.seen, 0), append(w.marks, 0)
		n.boot(w.now)
	}
	for _, n := range w.nodes {
		n.config.MinInSync = w.nodes[0].config.MinInSync
		n.r.Configure(w.now, n.config)
	}
	w.history = []Assignment{{LeaderEpoch: 1, PartitionEpoch: 1, Leader: 1, Replicas: []kafka.NodeID{1, 2, 3}, InSync: []kafka.NodeID{1, 2, 3}}}
	return w
}

func (w *world) truth() Assignment { return w.history[len(w.history)-1] }

// change makes a new version of the metadata.
func (w *world) change(f func(a *Assignment)) {
	a := w.truth()
	a.InSync = slices.Clone(a.InSync)
	f(&a)
	a.PartitionEpoch++
	a.Brokers = nil
	for _, n := range w.nodes {
		a.Brokers = append(a.Brokers, Broker{n.id, n.incarn, true})
	}
	w.t.Logf("controller: %+v", a)
	w.history = append(w.history, a)
}

// elect moves leadership to a member of the in-sync set; the deposed one
// leaves the set unless it is alone in it.
func (w *world) elect(deposed kafka.NodeID, removed bool) {
	w.change(func(a *Assignment) {
		rest := slices.DeleteFunc(slices.Clone(a.InSync), func(id kafka.NodeID) bool { return id == deposed })
		if len(rest) == 0 {
			a.Leader, a.LeaderEpoch = deposed, a.LeaderEpoch+1
			return
		}
		a.Leader, a.LeaderEpoch = rapid.SampledFrom(rest).Draw(w.t, "new leader"), a.LeaderEpoch+1
		if removed {
			a.InSync = rest
		}
	})
}

// learn lets a node apply the next version of the metadata, or the last.
func (w *world) learn(i int, all bool) {
	for w.seen[i] < len(w.history) {
		w.nodes[i].r.Assign(w.now, w.history[w.seen[i]])
		w.seen[i]++
		w.settle()
		if !all {
			return
		}
	}
}

// restart loses what was not synced. Its broker registers anew: if it led, the
// leader epoch rises, since it may have sent what it has lost.
func (w *world) restart(i int) {
	n := w.nodes[i]
	kept := n.log.synced + kafka.Offset(rapid.IntRange(0, int(n.log.end-n.log.synced)).Draw(w.t, "kept"))
	n.log.truncate(w.boundary(n, kept))
	n.log.synced = n.log.end // as wal.Open leaves it
	n.incarn++
	n.sent, n.changes = nil, nil
	delete(w.syncs, i)
	if w.truth().Leader == n.id {
		w.elect(n.id, true)
	} else {
		w.change(func(*Assignment) {})
	}
	w.marks[i] = 0
	n.boot(w.now)
	w.seen[i] = len(w.history) - 1
	w.learn(i, true)
}

// boundary is the end of the last batch that ends at o or before.
func (w *world) boundary(n *node, o kafka.Offset) kafka.Offset {
	end := n.log.start
	for _, b := range n.log.batches {
		if b.NextOffset() <= o {
			end = b.NextOffset()
		}
	}
	return end
}

func (w *world) settle() {
	for i, n := range w.nodes {
		n.run(w.now)
		w.network = append(w.network, n.sent...)
		n.sent = nil
		for _, c := range n.changes {
			w.asked = append(w.asked, askedChange{i, c})
		}
		n.changes = nil
		for _, e := range n.events {
			w.t.Logf("%d: %s", n.id, e)
		}
		n.events = nil
	}
	w.check()
}

// answer lets the controller judge a wish; the answer may be lost.
func (w *world) answer(k int, lost bool) {
	q := w.asked[k]
	w.asked = slices.Delete(w.asked, k, k+1)
	a := w.truth()
	n := w.nodes[q.from]
	res := InSyncResult{Seq: q.change.Seq}
	switch {
	case q.change.LeaderEpoch != a.LeaderEpoch:
		res.Code = kafka.ErrFencedLeaderEpoch
	case a.Leader != n.id:
		res.Code = kafka.ErrInvalidRequest
	case q.change.PartitionEpoch != a.PartitionEpoch:
		res.Code = kafka.ErrInvalidUpdateVersion
	case !w.current(q.change.InSync):
		res.Code = kafka.ErrIneligibleReplica
	default:
		w.change(func(a *Assignment) {
			a.InSync = nil
			for _, m := range q.change.InSync {
				a.InSync = append(a.InSync, m.Node)
			}
		})
		a = w.truth()
		res.LeaderEpoch, res.PartitionEpoch, res.InSync = a.LeaderEpoch, a.PartitionEpoch, a.InSync
	}
	if lost {
		res = InSyncResult{Seq: q.change.Seq, Code: kafka.ErrRequestTimedOut}
	}
	n.r.InSyncResult(w.now, res)
	w.settle()
}

// sync begins an fsync or ends one; appends and truncations may come between.
func (w *world) sync(i int) {
	n := w.nodes[i]
	h, begun := w.syncs[i]
	if !begun {
		h = heldSync{n.r.Cuts(), n.r.End()}
		w.syncs[i] = h
		if rapid.Bool().Draw(w.t, "slow") {
			return
		}
	}
	delete(w.syncs, i)
	if h.cuts == n.r.Cuts() { // else a truncation has come in between; what is after it is not covered
		n.log.synced = max(n.log.synced, h.upTo)
	}
	n.r.Synced(w.now, h.cuts, h.upTo)
	w.settle()
}

func (w *world) current(set []InSyncMember) bool {
	for _, m := range set {
		if w.nodes[m.Node-1].incarn != m.Epoch {
			return false
		}
	}
	return true
}

func (w *world) propose(i int) {
	w.ticket++
	w.values++
	value := fmt.Sprintf("v%d", w.values)
	var producer *record.Producer
	if rapid.Bool().Draw(w.t, "idempotent") {
		producer = &record.Producer{ID: 1} // the next sequence, or a gap or repetition
		if known := w.nodes[i].r.Producers(); len(known) > 0 {
			producer.Sequence = max(0, known[0].LastSequence+int32(rapid.SampledFrom([]int{1, 1, 1, 0, 3}).Draw(w.t, "sequence")))
		}
	}
	b := batch(rapid.IntRange(1, 3).Draw(w.t, "records"), producer, false, value)
	acks := int16(rapid.SampledFrom([]int{-1, -1, 1}).Draw(w.t, "acks"))
	w.nodes[i].r.Propose(w.now, Proposal{Ticket: w.ticket, Batch: b, Acks: acks})
	if acks == -1 {
		w.promised[w.ticket] = value
	}
	w.settle()
}

func (w *world) deliver(k int, repeat bool) {
	e := w.network[k]
	if !repeat {
		w.network = slices.Delete(w.network, k, k+1)
	}
	e.m.Records = bytes.Clone(e.m.Records)
	w.t.Logf("deliver from %d: %s", e.from, describe(&e.m))
	w.nodes[e.m.To-1].r.Step(w.now, e.from, &e.m)
	w.settle()
}

// check holds all nodes to what was ever committed.
func (w *world) check() {
	for i, n := range w.nodes {
		hw := n.r.HighWatermark()
		if hw < w.marks[i] {
			w.t.Fatalf("node %d: high watermark went back from %d to %d", n.id, w.marks[i], hw)
		}
		w.marks[i] = hw
		if n.r.End() != n.log.end || n.r.Start() != n.log.start || hw > n.log.end {
			w.t.Fatalf("node %d: log [%d,%d), replica [%d,%d) hw %d", n.id, n.log.start, n.log.end, n.r.Start(), n.r.End(), hw)
		}
		for _, b := range n.log.batches {
			for o := b.BaseOffset(); o < b.NextOffset() && o < hw; o++ {
				if int(o) == len(w.committed) {
					w.committed = append(w.committed, string(b))
				}
				if int(o) > len(w.committed) || w.committed[o] != string(b) {
					w.t.Fatalf("node %d: offset %d is committed twice, with different records", n.id, o)
				}
			}
		}
	}
}

// heal ends all faults and lets the cluster come to rest.
func (w *world) heal() {
	quiet := 0
	for range 4000 {
		for i, n := range w.nodes {
			w.learn(i, true)
			n.sync(w.now)
			n.r.Tick(w.now)
		}
		w.settle()
		busy := len(w.network) > 0
		for n := 0; len(w.network) > 0; n++ {
			if n > 2000 {
				w.t.Fatal("messages beget messages without end")
			}
			w.deliver(0, false)
		}
		for len(w.asked) > 0 {
			busy = true
			w.answer(0, false)
		}
		w.now = w.now.Add(20 * time.Millisecond)
		if quiet++; busy {
			quiet = 0
		}
		if quiet > 200 {
			return
		}
	}
	w.t.Fatal("messages do not come to an end")
}

func TestCommittedRecordsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for i := range w.nodes {
			w.learn(i, true)
		}
		steps := rapid.IntRange(20, 250).Draw(t, "steps")
		for range steps {
			i := rapid.IntRange(0, 2).Draw(t, "node")
			switch k := rapid.IntRange(0, 19).Draw(t, "step"); {
			case k < 4:
				if rapid.IntRange(0, 3).Draw(t, "anyone") > 0 {
					i = int(w.truth().Leader) - 1
				}
				w.propose(i)
			case k < 6:
				w.sync(i)
			case k < 7:
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 900).Draw(t, "ms")) * time.Millisecond)
				for _, n := range w.nodes {
					n.r.Tick(w.now)
				}
				w.settle()
			case k < 8:
				w.learn(i, rapid.Bool().Draw(t, "all"))
			case k == 8 && len(w.asked) > 0:
				w.answer(rapid.IntRange(0, len(w.asked)-1).Draw(t, "wish"), rapid.IntRange(0, 3).Draw(t, "lost") == 0)
			case k == 9 && rapid.IntRange(0, 1).Draw(t, "rarely") == 0:
				w.elect(w.truth().Leader, rapid.Bool().Draw(t, "removed"))
			case k == 10 && rapid.IntRange(0, 2).Draw(t, "rarely") == 0:
				w.restart(i)
			case k == 11 && len(w.network) > 0:
				x := rapid.IntRange(0, len(w.network)-1).Draw(t, "lost message")
				w.network = slices.Delete(w.network, x, x+1)
			case k == 12 && len(w.network) > 0:
				w.deliver(rapid.IntRange(0, len(w.network)-1).Draw(t, "message"), true)
			case len(w.network) > 0:
				x := 0
				if rapid.IntRange(0, 5).Draw(t, "in order") == 0 {
					x = rapid.IntRange(0, len(w.network)-1).Draw(t, "message")
				}
				w.deliver(x, false)
				for range rapid.IntRange(0, 8).Draw(t, "more") {
					if len(w.network) > 0 {
						w.deliver(0, false)
					}
				}
			}
		}
		w.heal()
		w.finish()
	})
}

// finish checks that all replicas are the same, in sync, and have what was promised.
func (w *world) finish() {
	l := w.nodes[w.truth().Leader-1]
	if len(l.r.Assignment().InSync) != 3 {
		w.t.Fatalf("in-sync set is %v in the end", l.r.Assignment().InSync)
	}
	all := string(bytes.Join(toBytes(l.log.batches), nil))
	for _, n := range w.nodes {
		if n.r.HighWatermark() != l.log.end || string(bytes.Join(toBytes(n.log.batches), nil)) != all {
			w.t.Fatalf("node %d ends at %d with high watermark %d, the leader at %d", n.id, n.log.end, n.r.HighWatermark(), l.log.end)
		}
		for ticket, a := range n.acked {
			if v := w.promised[ticket]; v != "" && a.Timestamp < 0 && !bytes.Contains([]byte(all), []byte(v)) {
				w.t.Fatalf("record %s was acknowledged and is lost", v)
			}
		}
		a, _ := n.r.Snapshot()
		b, _ := l.r.Snapshot()
		if fmt.Sprintf("%+v", n.r.Producers()) != fmt.Sprintf("%+v", l.r.Producers()) || len(a) != len(b) {
			w.t.Fatalf("node %d knows other producers than the leader: %+v, %+v", n.id, n.r.Producers(), l.r.Producers())
		}
	}
}

func toBytes(batches []record.Batch) [][]byte {
	out := make([][]byte, 0, len(batches))
	for _, b := range batches {
		out = append(out, b)
	}
	return out
}

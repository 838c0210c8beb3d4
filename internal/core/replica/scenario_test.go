package replica

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// scenario is a conversation between replicas in a text file. Messages stay in
// a queue until they are told to move.
type scenario struct {
	now   time.Time
	nodes []*node
	queue []envelope
	late  []envelope
	held  map[kafka.NodeID]heldSync
	last  Assignment
}

// heldSync is an fsync that has begun and not yet been reported.
type heldSync struct {
	cuts uint64
	upTo kafka.Offset
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scenario{now: time.UnixMilli(1_000_000), held: map[kafka.NodeID]heldSync{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := s.run(t, d)
			if out = strings.TrimRight(out, "\n"); out == "" {
				out = "ok"
			}
			return out + "\n"
		})
	})
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	id := kafka.NodeID(intArg(d, "n", 0))
	switch d.Cmd {
	case "cluster":
		return s.cluster(d)
	case "assign":
		return s.assign(d)
	case "propose":
		s.propose(d, s.node(id))
	case "marker":
		s.node(id).r.WriteMarker(s.now, Ticket(intArg(d, "ticket", 0)), Marker{ProducerID: kafka.ProducerID(intArg(d, "pid", 0)),
			ProducerEpoch: kafka.ProducerEpoch(intArg(d, "pepoch", 0)), Commit: d.HasArg("commit"),
			CoordinatorEpoch: int32(intArg(d, "coordinator", 0)), TV2: d.HasArg("tv2")}, time.Time{})
	case "verify":
		g := s.node(id).r.BeginVerification(kafka.ProducerID(intArg(d, "pid", 0)), kafka.ProducerEpoch(intArg(d, "pepoch", 0)), d.HasArg("tv2"))
		return fmt.Sprintf("guard %d", g)
	case "sync":
		for _, n := range s.nodes {
			if !d.HasArg("n") || n.id == id {
				n.sync(s.now)
			}
		}
	case "begin-sync":
		n := s.node(id)
		s.held[id] = heldSync{n.r.Cuts(), n.r.End()}
		return fmt.Sprintf("up to %d", n.r.End())
	case "end-sync":
		h := s.held[id]
		s.node(id).r.Synced(s.now, h.cuts, h.upTo)
	case "deliver":
		s.deliver(d)
	case "drop":
		s.queue = slices.DeleteFunc(s.queue, func(e envelope) bool { return s.matches(d, e) })
	case "keep": // a copy that replay delivers later
		for _, e := range s.queue {
			if s.matches(d, e) {
				s.late = append(s.late, e)
			}
		}
	case "replay":
		for _, e := range s.late {
			s.node(e.m.To).r.Step(s.now, e.from, &e.m)
			s.node(e.m.To).run(s.now)
		}
		s.late = nil
	case "tick":
		s.now = s.now.Add(time.Duration(intArg(d, "ms", 0)) * time.Millisecond)
		for _, n := range s.nodes {
			if !d.HasArg("n") || n.id == id {
				n.r.Tick(s.now)
			}
		}
	case "restart":
		n := s.node(id)
		if d.HasArg("lose") {
			n.log.truncate(n.log.synced)
		}
		if d.HasArg("anew") { // the same process begins with an empty log
			n.log = fakeLog{}
		} else {
			n.incarn += 100
		}
		n.boot(s.now)
	case "save": // what is known of producers, for the next restart
		s.node(id).log.snapshot, _ = s.node(id).r.Snapshot()
	case "in-sync":
		n := s.node(id)
		c := n.changes[len(n.changes)-1]
		res := InSyncResult{Seq: c.Seq, LeaderEpoch: c.LeaderEpoch, PartitionEpoch: c.PartitionEpoch + 1}
		for _, m := range c.InSync {
			res.InSync = append(res.InSync, m.Node)
			if m.Epoch != s.node(m.Node).incarn { // KIP-903
				res.Code = kafka.ErrIneligibleReplica
			}
		}
		res.Code = kafka.ErrorCode(intArg(d, "code", int(res.Code)))
		n.r.InSyncResult(s.now, res)
	case "delete-records":
		s.node(id).r.DeleteRecords(s.now, Ticket(intArg(d, "ticket", 0)), kafka.Offset(intArg(d, "offset", 0)), s.now.Add(time.Minute))
	case "config":
		n := s.node(id)
		n.config.MinInSync = intArg(d, "min", n.config.MinInSync)
		n.r.Configure(s.now, n.config)
	case "fence":
		s.node(id).r.Fence(s.now, !d.HasArg("off"))
	case "disk":
		s.node(id).failed = kafka.None
		if d.HasArg("full") {
			s.node(id).failed = kafka.ErrKafkaStorageError
		}
	case "aborted":
		return fmt.Sprint(s.node(id).r.Aborted(kafka.Offset(intArg(d, "from", 0)), kafka.Offset(intArg(d, "to", 1000))))
	case "producers":
		return fmt.Sprintf("%+v", s.node(id).r.Producers())
	case "epoch-end":
		e, o := s.node(id).r.EpochEnd(kafka.LeaderEpoch(intArg(d, "epoch", 0)))
		return fmt.Sprintf("epoch %d ends at %d", e, o)
	case "status":
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	out := s.settle()
	if d.Cmd == "tick" { // who ticks when Wake says so must not be told to do it again at once
		for _, n := range s.nodes {
			if at := n.r.Wake(); (!d.HasArg("n") || n.id == id) && due(at, s.now) {
				t.Errorf("%s: node %d is to be ticked %v ago", d.Pos, n.id, s.now.Sub(at))
			}
		}
	}
	if d.Cmd == "status" {
		for _, n := range s.nodes {
			if !d.HasArg("n") || n.id == id {
				out += fmt.Sprintf("%d: %s\n", n.id, n.status())
			}
		}
	}
	return out
}

// settle lets all nodes act, and tells what they did.
func (s *scenario) settle() string {
	var b strings.Builder
	for _, n := range s.nodes {
		n.run(s.now)
		for _, e := range n.events {
			fmt.Fprintf(&b, "%d: %s\n", n.id, e)
		}
		n.events = nil
		s.queue = append(s.queue, n.sent...)
		n.sent = nil
	}
	return b.String()
}

func (s *scenario) node(id kafka.NodeID) *node { return s.nodes[id-1] }

func (s *scenario) cluster(d *datadriven.TestData) string {
	*s = scenario{now: s.now, held: s.held}
	for i := range intArg(d, "nodes", 1) {
		n := newNode(kafka.NodeID(i+1), Options{LagTimeMax: 10 * time.Second, InFlightAppendsMax: intArg(d, "window", 0), ReadBytesMax: intArg(d, "read", 0)},
			Config{MinInSync: intArg(d, "min", 1), Relaxed: d.HasArg("relaxed")})
		s.nodes = append(s.nodes, n)
	}
	// An input line "n: epoch@offset,..." gives a node a log of one-record batches.
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		id, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		var nodeID, epoch, end int
		_, _ = fmt.Sscan(id, &nodeID)
		l := &s.node(kafka.NodeID(nodeID)).log
		for _, word := range strings.Fields(rest) { // epoch up to end
			_, _ = fmt.Sscanf(word, "%d<%d", &epoch, &end)
			for l.end < kafka.Offset(end) {
				b := batch(1, nil, false, fmt.Sprint(epoch))
				record.Stamp(b, l.end, kafka.LeaderEpoch(epoch))
				l.append(b)
			}
		}
		l.synced = l.end
	}
	for _, n := range s.nodes {
		n.boot(s.now)
	}
	return s.settle()
}

func (s *scenario) assign(d *datadriven.TestData) string {
	a := s.last
	a.LeaderEpoch = kafka.LeaderEpoch(intArg(d, "epoch", int(a.LeaderEpoch)))
	a.PartitionEpoch = kafka.PartitionEpoch(intArg(d, "pepoch", int(a.PartitionEpoch)+1))
	a.Leader = kafka.NodeID(intArg(d, "leader", int(a.Leader)))
	if ids := idsArg(d, "replicas"); ids != nil || a.Replicas == nil {
		a.Replicas = ids
		if ids == nil {
			for _, n := range s.nodes {
				a.Replicas = append(a.Replicas, n.id)
			}
		}
	}
	if ids := idsArg(d, "isr"); ids != nil || a.InSync == nil {
		a.InSync = ids
		if ids == nil {
			a.InSync = a.Replicas
		}
	}
	down := idsArg(d, "fenced")
	a.Brokers = nil
	for _, id := range a.Replicas {
		a.Brokers = append(a.Brokers, Broker{id, s.node(id).incarn, !slices.Contains(down, id)})
	}
	s.last = a
	only := idsArg(d, "to")
	for _, n := range s.nodes {
		if only == nil || slices.Contains(only, n.id) {
			n.r.Assign(s.now, a)
		}
	}
	return s.settle()
}

func (s *scenario) propose(d *datadriven.TestData, n *node) {
	var producer *record.Producer
	if d.HasArg("pid") {
		producer = &record.Producer{ID: kafka.ProducerID(intArg(d, "pid", 0)), Epoch: kafka.ProducerEpoch(intArg(d, "pepoch", 0)), Sequence: int32(intArg(d, "seq", 0))}
	}
	p := Proposal{Ticket: Ticket(intArg(d, "ticket", 0)), Acks: int16(intArg(d, "acks", -1)),
		Batch: batch(intArg(d, "records", 1), producer, d.HasArg("txn"), "x"), Guard: uint64(intArg(d, "guard", 0))}
	if d.HasArg("timeout") {
		p.Deadline = s.now.Add(time.Duration(intArg(d, "timeout", 0)) * time.Millisecond)
	}
	n.r.Propose(s.now, p)
}

func (s *scenario) matches(d *datadriven.TestData, e envelope) bool {
	var kind string
	for _, a := range d.CmdArgs {
		if a.Key == "kind" {
			kind = a.Vals[0]
		}
	}
	return (kind == "" || kind == e.m.Kind.String()) &&
		(!d.HasArg("from") || e.from == kafka.NodeID(intArg(d, "from", 0))) &&
		(!d.HasArg("to") || e.m.To == kafka.NodeID(intArg(d, "to", 0)))
}

// deliver hands over what is in the queue; with "all" also what follows from it,
// with "sync" each node syncs after each message.
func (s *scenario) deliver(d *datadriven.TestData) {
	for round := 0; round < 50; round++ {
		var take, stay []envelope
		for _, e := range s.queue {
			if s.matches(d, e) {
				take = append(take, e)
			} else {
				stay = append(stay, e)
			}
		}
		s.queue = stay
		for _, e := range take {
			n := s.node(e.m.To)
			n.r.Step(s.now, e.from, &e.m)
			n.run(s.now)
			if d.HasArg("sync") {
				n.sync(s.now)
			}
		}
		for _, n := range s.nodes {
			s.queue = append(s.queue, n.sent...)
			n.sent = nil
			if d.HasArg("quiet") {
				n.events = nil
			}
		}
		if len(take) == 0 || !d.HasArg("all") {
			return
		}
	}
	s.nodes[0].event("messages do not come to an end")
}

func intArg(d *datadriven.TestData, key string, v int) int {
	for _, a := range d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			_, _ = fmt.Sscan(a.Vals[0], &v)
		}
	}
	return v
}

func idsArg(d *datadriven.TestData, key string) (ids []kafka.NodeID) {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			ids = []kafka.NodeID{}
			for _, v := range strings.Split(strings.Join(a.Vals, ","), ",") {
				var id int
				_, _ = fmt.Sscan(v, &id)
				ids = append(ids, kafka.NodeID(id))
			}
		}
	}
	return ids
}

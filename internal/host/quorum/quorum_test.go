package quorum

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/host/raftlog"
)

// group is a metadata quorum whose members run in turn.
type group struct {
	t       *testing.T
	fs      map[kafka.NodeID]*vfs.Mem
	nodes   map[kafka.NodeID]*Node
	logs    map[kafka.NodeID]*raftlog.Log
	applied map[kafka.NodeID][]string
	cut     map[kafka.NodeID]bool
	lossy   map[kafka.NodeID]bool // gets no snapshots, though they are sent
	now     time.Time
}

func newGroup(t *testing.T, voters ...kafka.NodeID) *group {
	g := &group{
		t: t, fs: map[kafka.NodeID]*vfs.Mem{}, nodes: map[kafka.NodeID]*Node{}, logs: map[kafka.NodeID]*raftlog.Log{},
		applied: map[kafka.NodeID][]string{}, cut: map[kafka.NodeID]bool{}, lossy: map[kafka.NodeID]bool{}, now: time.Unix(1000, 0),
	}
	for _, id := range voters {
		g.fs[id] = vfs.NewMem()
		if err := raftlog.Bootstrap(g.fs[id], "meta", voters, nil); err != nil {
			t.Fatal(err)
		}
		g.start(id)
	}
	return g
}

func (g *group) start(id kafka.NodeID) {
	g.t.Helper()
	log, _, err := raftlog.Open(g.fs[id], "meta", g.now)
	if err != nil {
		g.t.Fatal(err)
	}
	n, err := New(log, Options{Node: id, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		g.t.Fatal(err)
	}
	g.nodes[id], g.logs[id], g.applied[id] = n, log, nil
}

func (g *group) ids() []kafka.NodeID {
	var ids []kafka.NodeID
	for id := range g.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// settle runs all members until none has anything to do.
func (g *group) settle() {
	g.t.Helper()
	for busy := true; busy; {
		busy = false
		for _, id := range g.ids() {
			for g.nodes[id] != nil && g.nodes[id].HasReady() {
				busy = true
				out, _, err := g.nodes[id].Drain(g.now)
				if err != nil {
					g.t.Fatal(err)
				}
				if out.Snapshot != nil {
					g.applied[id] = []string{"snapshot " + string(out.Snapshot)}
				}
				for _, e := range out.Committed {
					if len(e.Data) > 0 {
						g.applied[id] = append(g.applied[id], string(e.Data))
					}
				}
				if n := g.nodes[id]; n.MembersChanged() {
					if err := n.Compact(g.now, n.State().Applied, []byte("all"), 5); err != nil {
						g.t.Fatal(err)
					}
				}
				for _, m := range out.Messages {
					if to := g.nodes[m.To]; to != nil && !g.cut[m.To] && !g.cut[id] && !(m.Snapshot && g.lossy[m.To]) {
						if err := to.Step(m.Data); err != nil {
							g.t.Fatal(err)
						}
					}
					if m.Snapshot {
						g.nodes[id].ReportSnapshot(m.To, true)
					}
				}
			}
		}
	}
}

// leader ticks until there is one that the others follow.
func (g *group) leader() kafka.NodeID {
	g.t.Helper()
	for range 200 {
		g.settle()
		for _, id := range g.ids() {
			if s := g.nodes[id].State(); s.Leading && !g.cut[id] {
				return id
			}
		}
		for _, id := range g.ids() {
			g.nodes[id].Tick()
		}
	}
	g.t.Fatal("no leader within 200 ticks")
	return kafka.NoNode
}

func (g *group) propose(id kafka.NodeID, values ...string) {
	g.t.Helper()
	for _, v := range values {
		offset, err := g.nodes[id].Propose([]byte(v))
		if err != nil {
			g.t.Fatal(err)
		}
		g.settle()
		if last, _ := g.logs[id].LastIndex(); kafka.Offset(last) != offset {
			g.t.Fatalf("the entry was promised offset %d and got %d", offset, last)
		}
	}
}

func TestASingleVoterLeadsAtOnceAndKeepsItsLogOverACrash(t *testing.T) {
	g := newGroup(t, 0) // node 0 is a valid Kafka id and no valid Raft id
	g.settle()
	if s := g.nodes[0].State(); !s.Leading || s.Leader != 0 {
		t.Fatalf("state %+v without a tick", s)
	}
	g.propose(0, "a", "b", "c")
	g.fs[0] = g.fs[0].Crash(rand.New(rand.NewPCG(1, 1)), 0)
	g.start(0)
	g.settle()
	if got := g.applied[0]; !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("after the crash %q are applied", got)
	}
}

func TestAFollowerThatWasAwayGetsASnapshotThenTheRest(t *testing.T) {
	g := newGroup(t, 1, 2, 3)
	lead := g.leader()
	away := lead%3 + 1
	g.cut[away] = true
	for i := range 50 {
		g.propose(lead, fmt.Sprint(i))
	}
	offset := g.nodes[lead].State().Applied
	if err := g.nodes[lead].Compact(g.now, offset, []byte("all so far"), 5); err != nil {
		t.Fatal(err)
	}
	g.propose(lead, "after")
	g.cut[away] = false
	for range 40 {
		for _, id := range g.ids() {
			g.nodes[id].Tick()
		}
		g.settle()
	}
	if got := g.applied[away]; !slices.Equal(got, []string{"snapshot all so far", "after"}) {
		t.Errorf("the follower applied %q", got)
	}
	// And it still has both after a restart.
	g.fs[away] = g.fs[away].Crash(rand.New(rand.NewPCG(1, 2)), 0)
	g.start(away)
	g.leader()
	g.propose(g.leader(), "again")
	for range 40 {
		for _, id := range g.ids() {
			g.nodes[id].Tick()
		}
		g.settle()
	}
	if got := g.applied[away]; !slices.Equal(got, []string{"after", "again"}) {
		t.Errorf("after its restart the follower applied %q", got)
	}
}

func TestEntriesOfADeposedLeaderThatWereNotCommittedAreReplaced(t *testing.T) {
	g := newGroup(t, 1, 2, 3)
	old := g.leader()
	g.propose(old, "kept")
	g.cut[old] = true
	g.propose(old, "lost 1", "lost 2")
	lead := g.leader()
	if lead == old {
		t.Fatal("the deposed leader still counts")
	}
	g.propose(lead, "new")
	g.cut[old] = false
	for range 40 {
		for _, id := range g.ids() {
			g.nodes[id].Tick()
		}
		g.settle()
	}
	for _, id := range g.ids() {
		if got := g.applied[id]; !slices.Equal(got, []string{"kept", "new"}) {
			t.Errorf("node %d applied %q", id, got)
		}
	}
}

func TestOnlyTheLeaderProposes(t *testing.T) {
	g := newGroup(t, 1, 2, 3)
	lead := g.leader()
	if _, err := g.nodes[lead%3+1].Propose([]byte("x")); err == nil {
		t.Error("a follower took a proposal")
	}
}

// A learner that was removed is not told, and Raft has it follow its last
// leader for ever.
func TestARemovedLearnerHearsNothingMore(t *testing.T) {
	g := newGroup(t, 1, 2, 3)
	leader := g.leader()
	out := kafka.NodeID(1)
	if leader == out {
		out = 2
	}
	for _, as := range []Membership{Learner, Gone} {
		if g.nodes[out].SilentTicks() > 5 {
			t.Fatalf("a member has not heard of its leader for %d ticks", g.nodes[out].SilentTicks())
		}
		if err := g.nodes[leader].Change(Change{Member: Member{Node: out}, As: as}); err != nil {
			t.Fatal(err)
		}
		g.settle()
		for range 3 {
			for _, id := range g.ids() {
				g.nodes[id].Tick()
			}
			g.settle()
		}
	}
	for range 20 {
		for _, id := range g.ids() {
			g.nodes[id].Tick()
		}
		g.settle()
	}
	if s, silent := g.nodes[out].State(), g.nodes[out].SilentTicks(); s.Leader != leader || silent < 20 {
		t.Errorf("the removed learner takes %d for its leader, silent for %d ticks; %d leads", s.Leader, silent, leader)
	}
	for _, id := range g.ids() {
		if silent := g.nodes[id].SilentTicks(); id != out && id != leader && silent > 2 {
			t.Errorf("voter %d has not heard of its leader for %d ticks", id, silent)
		}
	}
}

// While a voter is being replaced, the old majority may need it: it is sent a lost
// snapshot again, like any other.
func TestAVoterThatLeavesGetsALostSnapshotAgain(t *testing.T) {
	g := newGroup(t, 1, 2, 3)
	leader := g.leader()
	leaving, other := leader%3+1, (leader+1)%3+1
	ticks := func(n int) {
		for range n {
			for _, id := range g.ids() {
				g.nodes[id].Tick()
			}
			g.settle()
		}
	}
	change := func(changes ...Change) {
		t.Helper()
		if err := g.nodes[leader].Change(changes...); err != nil {
			t.Fatal(err)
		}
		g.settle()
	}
	g.fs[4] = vfs.NewMem()
	if err := raftlog.Bootstrap(g.fs[4], "meta", nil, nil); err != nil {
		t.Fatal(err)
	}
	g.start(4)
	change(Change{Member{Node: 4}, Learner})
	ticks(3)
	g.cut[leaving] = true
	ticks(25)
	g.propose(leader, "while it is away")
	change(Change{Member{Node: 4}, Voter}, Change{Member{Node: leaving}, Learner})
	if got := g.nodes[leader].Leaving(); !slices.Equal(got, []Member{{Node: leaving}}) {
		t.Fatalf("%v leave", got)
	}
	g.propose(leader, "while it leaves")
	if err := g.nodes[leader].Compact(g.now, g.nodes[leader].State().Applied, []byte("all"), 0); err != nil {
		t.Fatal(err)
	}
	// Now the other voter fails, and the one that leaves comes back.
	g.cut[other], g.cut[leaving], g.lossy[leaving] = true, false, true
	ticks(2)
	g.lossy[leaving] = false
	ticks(5)
	if !slices.ContainsFunc(g.nodes[leader].Peers(), func(p Progress) bool { return p.Node == leaving && p.Active }) {
		t.Errorf("its progress is not known")
	}
	if err := g.nodes[leader].EndChange(); err != nil {
		t.Fatal(err)
	}
	ticks(15)
	if s := g.nodes[leader].State(); !s.Leading || g.nodes[leader].Changing() || len(g.applied[leaving]) == 0 {
		t.Errorf("the change does not come to its end: %+v, the leaving voter applied %q", s, g.applied[leaving])
	}
}

// A controller counts on it that the leases which the one before has granted are
// so old.
func TestAVoterVotesAfterAnElectionTimeoutAtTheEarliest(t *testing.T) {
	g := newGroup(t, 1, 2, 3)
	soonest := 1000
	for range 60 {
		old := g.leader()
		for range 2 { // its sign goes to all, and then the time begins
			g.nodes[old].Tick()
			g.settle()
		}
		g.cut[old] = true
		ticks := 0
		for elected := false; !elected; ticks++ {
			if ticks > 1000 {
				t.Fatal("nobody is elected")
			}
			for _, id := range g.ids() {
				if id != old {
					g.nodes[id].Tick()
				}
			}
			g.settle()
			for _, id := range g.ids() {
				elected = elected || id != old && g.nodes[id].State().Leading
			}
		}
		// The first tick may have come at once after the leader's sign.
		if quiet := g.nodes[old].QuietTicks(); ticks-1 < quiet {
			t.Fatalf("a leader was elected %d whole ticks after the last sign of the one before, and %d are promised", ticks-1, quiet)
		}
		soonest = min(soonest, ticks)
		g.cut[old] = false
		g.nodes[old].Tick()
		g.settle()
	}
	if soonest > g.nodes[1].QuietTicks()+3 {
		t.Errorf("the soonest election took %d ticks: the promise says nothing", soonest)
	}
}

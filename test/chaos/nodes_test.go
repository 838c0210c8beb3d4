package chaos

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/harm"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// Producers with one request in flight, which never send one again, get an
// answer to every single one before its timeout: an acknowledgement, unless who
// leads has just changed, which nobody here has asked for, but a busy machine may.
func TestAcksAllIsAnsweredWithoutTimeouts(t *testing.T) {
	t.Parallel()
	const partitions = 6
	c := runThree(t, cluster.Options{}, partitions)
	var h history.History
	load := traffic.StartRaw(c.Addresses(), &h, traffic.LoadOptions{Topic: replicated, Partitions: partitions, Acks: -1})
	awaitAcks(t, &h, partitions, sized(int64(50), 20_000))
	load.Stop()
	sends, _ := h.Snapshot()
	const soon = 5 * time.Second // half of the timeout
	others := 0
	for _, s := range sends {
		if s.Outcome == history.Acked {
			continue
		}
		others++
		t.Logf("%v %v was not acknowledged, %v after it was sent", s.Place, s.ID, s.End.Sub(s.Begin))
		if s.End.Sub(s.Begin) > soon {
			t.Errorf("%v %v was not answered for %v", s.Place, s.ID, s.End.Sub(s.Begin))
		}
	}
	if others > len(sends)/10 {
		t.Errorf("%d of %d records were not acknowledged", others, len(sends))
	}
	verify(t, c, &h, map[string]int32{replicated: partitions}, once)
}

// P1: the leader of one partition after the other is killed, under load, and
// comes back.
func TestLeaderIsKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	const partitions = 3
	c := runThree(t, cluster.Options{}, partitions)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	last := 0
	for i := range int32(sized(3, 20)) {
		awaitInSync(t, c, partitions, 3)
		awaitAcks(t, &h, partitions, 20)
		p := i % partitions
		was, err := partitionAt(c.Nodes[0], replicated, p)
		if err != nil {
			t.Fatal(err)
		}
		victim := c.Node(was.Leader)
		if victim.ID == last { // one that led another partition, too
			victim = c.Nodes[victim.ID%3]
		}
		last = victim.ID
		other := c.Nodes[victim.ID%3]
		victim.Kill()
		now := await(t, other, p, "led by another", func(p traffic.Partition) bool { return p.Leader > 0 && p.Leader != victim.ID })
		if was.Leader == victim.ID && now.Epoch <= was.Epoch {
			t.Errorf("led by node %d at epoch %d, and then by %d at %d", was.Leader, was.Epoch, now.Leader, now.Epoch)
		}
		awaitAcks(t, &h, partitions, 20)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	stopLoad(t, c, &h, load, partitions)
}

// P3: all nodes at once, also with one that stays away.
func TestAllNodesAreKilledAtOnce(t *testing.T) {
	t.Parallel()
	const partitions = 3
	c := runThree(t, cluster.Options{}, partitions)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	for i := range sized(2, 20) {
		awaitAcks(t, &h, partitions, 50)
		for _, n := range c.Nodes {
			n.Kill()
		}
		late := c.Nodes[i%3]
		for _, n := range c.Nodes {
			if n != late {
				if err := n.Start(); err != nil {
					t.Fatal(err)
				}
			}
		}
		awaitAcks(t, &h, partitions, 50)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		awaitInSync(t, c, partitions, 3)
	}
	stopLoad(t, c, &h, load, partitions)
	checkFiles(t, c.Nodes, &h, partitions)
}

// P6: one node after the other is stopped and comes back, and no producer's
// application sees an error.
func TestRollingRestartShowsNoError(t *testing.T) {
	t.Parallel()
	const partitions = 3
	c := runThree(t, cluster.Options{}, partitions)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	for range sized(1, 10) {
		for _, n := range c.Nodes {
			awaitInSync(t, c, partitions, 3)
			awaitAcks(t, &h, partitions, 20)
			if _, err := n.Terminate(10 * time.Second); err != nil {
				t.Error(err)
			}
			restart(t, n)
		}
	}
	stopLoad(t, c, &h, load, partitions)
}

// P7: a node that is killed again and again while it starts, at any moment.
func TestCrashLoopLosesNothing(t *testing.T) {
	t.Parallel()
	const partitions = 3
	c := runThree(t, cluster.Options{}, partitions)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	awaitAcks(t, &h, partitions, 50)
	n := c.Nodes[1]
	n.Kill()
	for i := range 20 {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 8 * time.Millisecond)
		n.Kill()
	}
	restart(t, n)
	awaitInSync(t, c, partitions, 3)
	awaitAcks(t, &h, partitions, 20)
	stopLoad(t, c, &h, load, partitions)
	checkFiles(t, c.Nodes, &h, partitions)
}

// P4, P5: a paused leader loses its partitions, and what it acknowledges when it
// goes on is refused; a paused follower leaves the in-sync set and comes back.
func TestPausedNodeLeavesTheInSyncSetAndComesBack(t *testing.T) {
	t.Parallel()
	const partitions = 3
	c := runThree(t, cluster.Options{}, partitions)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	for i := range sized(2, 12) {
		awaitInSync(t, c, partitions, 3)
		n, other := c.Nodes[i%3], c.Nodes[(i+1)%3]
		if err := n.Pause(); err != nil {
			t.Fatal(err)
		}
		for p := range int32(partitions) {
			await(t, other, p, "in sync on the other two", func(p traffic.Partition) bool { return len(p.InSync) == 2 && p.Leader != n.ID })
		}
		// Clients wait for a node that is silent as long as they please; a new one
		// is served by the others.
		others := []string{other.Kafka, c.Nodes[(i+2)%3].Kafka}
		for p := range int32(partitions) {
			if _, err := traffic.FirstAck(others, &h, replicated, p, 10*time.Second); err != nil {
				t.Error(err)
			}
		}
		n.Resume()
	}
	awaitInSync(t, c, partitions, 3)
	stopLoad(t, c, &h, load, partitions)
	checkFiles(t, c.Nodes, &h, partitions)
}

// Two of three nodes are gone: writes that need two are refused, nothing is
// lost, and when they come back all goes on by itself.
func TestWithoutQuorumWritesAreRefused(t *testing.T) {
	t.Parallel()
	c := runThree(t, cluster.Options{}, 1)
	var h history.History
	was, err := partitionAt(c.Nodes[0], replicated, 0)
	if err != nil {
		t.Fatal(err)
	}
	leader := c.Node(was.Leader)
	write(t, leader, &h, replicated, 0, 100, 100)
	for _, n := range c.Nodes {
		if n != leader {
			n.Kill()
		}
	}
	// Its in-sync set cannot shrink without a quorum; and as soon as its lease has
	// lapsed it must take itself for replaced.
	conn := dial(t, leader)
	for range 3 {
		_, err := conn.Fill(&h, replicated, 0, 1, 100)
		if !errors.Is(err, kerr.NotLeaderForPartition) {
			t.Errorf("one node of three answered %v", err)
		}
	}
	if ready, says := leader.Ready(); ready || !strings.Contains(says, "no majority") {
		t.Errorf("one node of three is ready: %t, %s", ready, says)
	}
	load := startLoad(t, c, &h, 1)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	awaitAcks(t, &h, 1, 20)
	awaitInSync(t, c, 1, 3)
	stopLoad(t, c, &h, load, 1)
	checkFiles(t, c.Nodes, &h, 1)
}

// M3: the last replica in sync is gone; the other one, which lacks what it
// acknowledged, must not lead. When it is back, everything is there.
func TestOnlyACompleteReplicaLeads(t *testing.T) {
	t.Parallel()
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	if _, err := admin(t, c).CreateTopic(t.Context(), 1, 2, nil, replicated); err != nil {
		t.Fatal(err)
	}
	var h history.History
	was, err := partitionAt(c.Nodes[0], replicated, 0)
	if err != nil {
		t.Fatal(err)
	}
	leader, follower := c.Node(int(was.Replicas[0])), c.Node(int(was.Replicas[1]))
	third := c.Node(6 - leader.ID - follower.ID)
	write(t, leader, &h, replicated, 0, 20, 100)
	follower.Kill()
	await(t, leader, 0, "in sync on the leader alone", inSync(1))
	write(t, leader, &h, replicated, 0, 20, 100)
	leader.Kill()
	restart(t, follower)
	await(t, third, 0, "without a leader", func(p traffic.Partition) bool { return p.Leader == -1 && p.Brokers == 2 })
	for range 20 {
		await(t, third, 0, "without a leader", func(p traffic.Partition) bool {
			if p.Leader != -1 {
				t.Fatalf("node %d leads and lacks what was acknowledged", p.Leader)
			}
			return true
		})
	}
	restart(t, leader)
	await(t, third, 0, "in sync again", inSync(2))
	write(t, leader, &h, replicated, 0, 20, 100)
	verify(t, c, &h, map[string]int32{replicated: 1}, once)
}

// Topics made on node 1 are known to 2 and 3, survive node 1, and the restart
// of all.
func TestMetadataIsOnEveryNode(t *testing.T) {
	t.Parallel()
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	conn := dial(t, c.Nodes[0])
	known := func(when string, n *cluster.Node, count int) {
		t.Helper()
		for i := range count {
			if _, err := partitionAt(n, fmt.Sprintf("made-%d", i), 0); err != nil {
				t.Errorf("%s: node %d on made-%d: %v", when, n.ID, i, err)
			}
		}
	}
	const count = 5
	for i := range count {
		if err := conn.CreateTopic(fmt.Sprintf("made-%d", i), 2, nil); err != nil {
			t.Fatal(err)
		}
		known("as soon as it was answered", c.Nodes[1], i+1)
		known("as soon as it was answered", c.Nodes[2], i+1)
	}
	c.Nodes[0].Kill()
	known("without node 1", c.Nodes[1], count)
	known("without node 1", c.Nodes[2], count)
	for _, n := range c.Nodes {
		n.Kill()
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes {
		known("after a restart of all", n, count)
	}
}

// D13: a leader is lost with its disk. Nothing is missing, and it comes back
// as a replica that has everything.
func TestLeaderLostWithItsDisk(t *testing.T) {
	t.Parallel()
	const partitions = 3
	c := runThree(t, cluster.Options{}, partitions)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	for i := range sized(1, 9) {
		awaitInSync(t, c, partitions, 3)
		awaitVoters(t, c)
		awaitAcks(t, &h, partitions, 50)
		was, err := partitionAt(c.Nodes[0], replicated, int32(i%partitions))
		if err != nil {
			t.Fatal(err)
		}
		n := c.Node(was.Leader)
		n.Kill()
		if err := os.RemoveAll(n.DataDir); err != nil {
			t.Fatal(err)
		}
		awaitAcks(t, &h, partitions, 20)
		restart(t, n)
	}
	awaitInSync(t, c, partitions, 3)
	stopLoad(t, c, &h, load, partitions)
	checkFiles(t, c.Nodes, &h, partitions)
}

// After acks=all the bytes are on the disk of every node, not only in its
// memory: D1 and D2, loss of power on one node after the other and on all at
// once.
func TestAcknowledgedRecordsSurviveLossOfPower(t *testing.T) {
	t.Parallel()
	const partitions = 3
	var mounts []string
	var dirs []string
	for range 3 {
		mount := harm.FileSystem(t, 512<<20)
		mounts, dirs = append(mounts, mount), append(dirs, mount+"/data")
	}
	c := runThree(t, cluster.Options{DataDirs: dirs}, partitions)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	for round := range sized(2, 12) {
		awaitInSync(t, c, partitions, 3)
		awaitAcks(t, &h, partitions, 50)
		victims := c.Nodes
		if round%2 == 0 {
			victims = c.Nodes[round%3 : round%3+1]
		}
		for _, n := range victims {
			n.Kill()
		}
		for _, n := range victims {
			if err := harm.LosePower(mounts[n.ID-1]); err != nil {
				t.Fatal(err)
			}
		}
		sends, _ := h.Snapshot()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		awaitInSync(t, c, partitions, 3)
		verifyAcked(t, c, &h, sends, map[string]int32{replicated: partitions})
	}
	stopLoad(t, c, &h, load, partitions)
	checkFiles(t, c.Nodes, &h, partitions)
}

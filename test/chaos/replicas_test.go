package chaos

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// replicated is the topic of most of the tests with three nodes.
const replicated = "replicated"

// runThree runs three nodes and makes the topic, of which two replicas must be
// in sync.
func runThree(t *testing.T, opts cluster.Options, partitions int32) *cluster.Cluster {
	t.Helper()
	opts.Nodes = 3
	c := cluster.Run(t, opts)
	createTopic(t, c, replicated, partitions, map[string]string{"min.insync.replicas": "2"})
	return c
}

func startLoad(t *testing.T, c *cluster.Cluster, h *history.History, partitions int32) *traffic.Load {
	t.Helper()
	load, err := traffic.StartIdempotent(c.Addresses(), h, traffic.LoadOptions{Topic: replicated, Partitions: partitions, InFlightMax: 100, Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return load
}

// partitionAt is what one node says of a partition.
func partitionAt(n *cluster.Node, topic string, partition int32) (traffic.Partition, error) {
	c, err := traffic.Dial(n.Kafka, 5*time.Second)
	if err != nil {
		return traffic.Partition{}, err
	}
	defer c.Close()
	return c.Partition(topic, partition)
}

// await asks a node until a partition is as wanted, and returns it.
func await(t *testing.T, n *cluster.Node, partition int32, what string, wanted func(traffic.Partition) bool) traffic.Partition {
	t.Helper()
	const limit = 30 * time.Second
	var p traffic.Partition
	var err error
	for begin := time.Now(); time.Since(begin) < limit; time.Sleep(10 * time.Millisecond) {
		if p, err = partitionAt(n, replicated, partition); err == nil && wanted(p) {
			return p
		}
	}
	t.Fatalf("%s-%d as node %d has it: not %s within %v: %+v, %v", replicated, partition, n.ID, what, limit, p, err)
	return p
}

func inSync(count int) func(traffic.Partition) bool {
	return func(p traffic.Partition) bool { return len(p.InSync) == count && p.Leader > 0 }
}

// awaitInSync waits until all replicas of all partitions are in sync, as every
// node has it.
func awaitInSync(t *testing.T, c *cluster.Cluster, partitions int32, count int) {
	t.Helper()
	for _, n := range c.Nodes {
		for p := range partitions {
			await(t, n, p, fmt.Sprintf("in sync on %d nodes", count), inSync(count))
		}
	}
}

// awaitVoters waits until every node votes on the metadata, each with the disk
// that it has now: before that no other one may lose its own.
func awaitVoters(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	const limit = 30 * time.Second
	var voters, learners []int32
	for begin := time.Now(); time.Since(begin) < limit; time.Sleep(10 * time.Millisecond) {
		conn, err := traffic.Dial(c.Nodes[0].Kafka, time.Second)
		if err != nil {
			continue
		}
		voters, learners, err = conn.Quorum()
		conn.Close()
		if err == nil && len(learners) == 0 && slices.Equal(slices.Sorted(slices.Values(voters)), []int32{1, 2, 3}) {
			return
		}
	}
	t.Fatalf("after %v nodes %v vote, and %v follow", limit, voters, learners)
}

// awaitAcks waits until so many more records were acknowledged in each partition.
func awaitAcks(t *testing.T, h *history.History, partitions int32, more int64) {
	t.Helper()
	const limit = 30 * time.Second
	before := h.AckedIn()
	for p := range partitions {
		place := history.Place{Topic: replicated, Partition: p}
		for begin := time.Now(); h.AckedIn()[place] < before[place]+more; time.Sleep(10 * time.Millisecond) {
			if time.Since(begin) > limit {
				t.Fatalf("%v: nothing was acknowledged for %v", place, limit)
			}
		}
	}
}

// stopLoad ends a load whose application must not have seen an error, and
// checks the history of it.
func stopLoad(t *testing.T, c *cluster.Cluster, h *history.History, load *traffic.Load, partitions int32) {
	t.Helper()
	for _, err := range load.Stop() {
		t.Errorf("a client saw: %v", err)
	}
	for place, gap := range h.LongestGap() {
		t.Logf("%v: longest time without an acknowledgement %v", place, gap.Round(time.Millisecond))
	}
	verify(t, c, h, map[string]int32{replicated: partitions}, once)
}

// checkFiles demands that every node has the same batches on its disk, up to
// what was acknowledged at least.
func checkFiles(t *testing.T, nodes []*cluster.Node, h *history.History, partitions int32) {
	t.Helper()
	sends, _ := h.Snapshot()
	for p := range partitions {
		var first []string
		for _, n := range nodes {
			batches, err := n.Batches(replicated, p)
			if err != nil || len(batches) == 0 {
				t.Fatalf("node %d, %s-%d: %d batches, %v", n.ID, replicated, p, len(batches), err)
			}
			if first == nil {
				first = batches
			}
			if !slices.Equal(first, batches) {
				t.Errorf("%s-%d: node %d has other batches than node %d", replicated, p, n.ID, nodes[0].ID)
			}
		}
		var low, high int64
		if _, err := fmt.Sscanf(first[len(first)-1], "offsets %d to %d,", &low, &high); err != nil {
			t.Fatalf("%q: %v", first[len(first)-1], err)
		}
		for _, s := range sends {
			if s.Outcome == history.Acked && s.Partition == p && s.Offset > high {
				t.Fatalf("%s-%d: offset %d was acknowledged, the files end at %d", replicated, p, s.Offset, high)
			}
		}
	}
}

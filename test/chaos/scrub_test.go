package chaos

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// harmSegment does something to one of the first segments of a replica, of which
// there is another after it. Which says what.
func harmSegment(t *testing.T, rng *rand.Rand, segments []string, which int) string {
	t.Helper()
	path := segments[rng.IntN(len(segments)-1)]
	batches := batchesIn(t, path)
	b := batches[rng.IntN(len(batches))]
	what := ""
	switch which % 6 {
	case 0:
		what = "flipped a bit of a record"
		flipBit(t, path, b.position+61+rng.Int64N(b.size-61))
	case 1:
		what = "flipped a bit of a batch's header"
		flipBit(t, path, b.position+rng.Int64N(17))
	case 2:
		what = "flipped a bit of the segment's header"
		flipBit(t, path, rng.Int64N(segmentHeaderBytes))
	case 3:
		what = "removed the segment"
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	case 4:
		what = "cut the segment"
		if err := os.Truncate(path, b.position+b.size/2); err != nil {
			t.Fatal(err)
		}
	case 5:
		what = "put another segment's bytes in its place"
		data, err := os.ReadFile(segments[len(segments)-1])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%s: %s", filepath.Base(path), what)
}

// scrubNow runs chronik cluster scrub --now --wait until all is well.
func scrubNow(t *testing.T, n *cluster.Node) string {
	t.Helper()
	var output string
	for until := time.Now().Add(40 * time.Second); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
		code, out, err := cluster.RunToEnd(cluster.Binary(t), 30*time.Second, "cluster", "scrub", "--now", "--wait", "--http", n.HTTP)
		if output = out; err == nil && code == 0 {
			return output
		}
	}
	t.Fatalf("not all is well after 40 s:\n%s", output)
	return ""
}

func waitInSync(t *testing.T, c *cluster.Cluster, topic string) {
	t.Helper()
	client := admin(t, c)
	last := ""
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		topics, err := client.ListTopics(t.Context(), topic)
		if err != nil {
			last = err.Error()
			continue
		}
		whole := len(topics[topic].Partitions) > 0
		for _, p := range topics[topic].Partitions {
			whole = whole && len(p.ISR) == len(c.Nodes) && p.Leader >= 0
			last = fmt.Sprintf("partition %d: leader %d, in sync %v", p.Partition, p.Leader, p.ISR)
		}
		if whole {
			return
		}
	}
	t.Fatalf("not all replicas are in sync after 30 s: %s", last)
}

// logBytes are the batches of a replica on disk, one after the other.
func logBytes(t *testing.T, n *cluster.Node, topic string, partition int32) []byte {
	t.Helper()
	segments, err := n.Segments(topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(segments)
	var all []byte
	for _, path := range segments {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := segmentHeaderBytes; at+61 <= len(data); {
			size := 12 + int(binary.BigEndian.Uint32(data[at+8:]))
			if data[at+16] != 2 || size < 61 || at+size > len(data) {
				break
			}
			all = append(all, data[at:at+size]...)
			at += size
		}
	}
	return all
}

// One replica at a time is damaged, while its node runs and while it is down,
// under load: no reader gets anything but what was written, and in the end all
// replicas are whole again, and equal.
func TestDamagedReplicasAreRepairedFromPeers(t *testing.T) {
	const partitions = 2
	c := cluster.Run(t, cluster.Options{Nodes: 3, Flags: []string{"--scrub-bytes-per-second", "1073741824"}})
	createTopic(t, c, "bits", partitions, map[string]string{"segment.bytes": "1048576", "min.insync.replicas": "2"})
	var h history.History
	for partition := range int32(partitions) {
		write(t, c.Nodes[0], &h, "bits", partition, 1000, 4<<10)
	}
	waitInSync(t, c, "bits")
	load, err := traffic.StartIdempotent(c.Addresses(), &h, traffic.LoadOptions{Topic: "bits", Partitions: partitions, InFlightMax: 20})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, uint64(sized(1, time.Now().UnixNano()))))
	for i := range sized(6, 60) {
		n := c.Nodes[i%3]
		down := i/3%2 == 1
		if down {
			n.Kill()
		}
		for partition := range int32(partitions) {
			segments, err := n.Segments("bits", partition)
			if err != nil || len(segments) < 3 {
				t.Fatalf("segments %v (%v)", segments, err)
			}
			slices.Sort(segments)
			t.Logf("node %d, down %t: bits-%d %s", n.ID, down, partition, harmSegment(t, rng, segments, i*2+int(partition)))
		}
		if down {
			restart(t, n)
		}
		output := scrubNow(t, c.Nodes[(i+1)%3])
		waitInSync(t, c, "bits")
		if i == 0 {
			t.Logf("chronik cluster scrub:\n%s", output)
		}
		for _, other := range c.Nodes {
			if problem := strings.Count(other.Log(), "replicas differ"); problem > 0 {
				t.Errorf("node %d has found that sound replicas differ:\n%s", other.ID, other.Log())
			}
		}
	}
	for _, err := range load.Stop() {
		t.Errorf("a client saw: %v", err)
	}
	verify(t, c, &h, map[string]int32{"bits": partitions}, once)
	waitInSync(t, c, "bits")
	for partition := range int32(partitions) {
		want := logBytes(t, c.Nodes[0], "bits", partition)
		for _, n := range c.Nodes[1:] {
			if got := logBytes(t, n, "bits", partition); !bytes.Equal(got, want) {
				t.Errorf("bits-%d: node %d has %d bytes of batches, node 1 has %d, and they are not the same", partition, n.ID, len(got), len(want))
			}
		}
	}
}

// A node of three whose metadata were damaged while it was down comes back as
// another member of the quorum, and keeps its records.
func TestNodeWithDamagedMetadataComesBack(t *testing.T) {
	for i, what := range []string{"segment_*.wal", "snapshot", "vote"} {
		c := cluster.Run(t, cluster.Options{Nodes: 3})
		createTopic(t, c, "kept", 1, map[string]string{"min.insync.replicas": "2"})
		var h history.History
		write(t, c.Nodes[0], &h, "kept", 0, 200, 1000)
		waitInSync(t, c, "kept")
		n := c.Nodes[i]
		n.Kill()
		files, err := filepath.Glob(filepath.Join(n.DataDir, "wal", "__meta", what))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", what, err)
		}
		for _, path := range files {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			at := info.Size() / 2
			if strings.HasPrefix(what, "segment") {
				first := batchesIn(t, path)[0]
				at = first.position + first.size/2
			}
			flipBit(t, path, at)
		}
		restart(t, n)
		waitReplaced(t, c.Nodes[(i+1)%3])
		waitInSync(t, c, "kept")
		write(t, c.Nodes[0], &h, "kept", 0, 10, 1000)
		verify(t, c, &h, map[string]int32{"kept": 1}, once)
		if strings.Contains(n.Log(), "log reset") || strings.Contains(n.Log(), "it is copied anew") {
			t.Errorf("node %d threw its records away", n.ID)
		}
		for _, n := range c.Nodes {
			n.Kill()
		}
	}
}

// waitReplaced waits until a voter is replaced by another life of its node.
func waitReplaced(t *testing.T, n *cluster.Node) {
	t.Helper()
	events := ""
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		_, events, _ = cluster.RunToEnd(cluster.Binary(t), 10*time.Second, "cluster", "events", "--http", n.HTTP)
		if strings.Contains(events, "quorum voter replaced") && strings.Contains(events, "came back as another member") {
			return
		}
	}
	t.Fatalf("the voter was not replaced after 30 s:\n%s", events)
}

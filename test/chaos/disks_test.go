package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// partitionOf is what the cluster says of one partition.
func partitionOf(t *testing.T, client *kadm.Client, topic string, partition int32) kadm.PartitionDetail {
	t.Helper()
	topics, err := client.ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return topics[topic].Partitions[partition]
}

// until waits for a state of a partition.
func until(t *testing.T, client *kadm.Client, topic string, partition int32, what string, limit time.Duration, is func(p kadm.PartitionDetail) bool) time.Duration {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		p := partitionOf(t, client, topic, partition)
		if is(p) {
			return time.Since(begin).Round(time.Millisecond)
		}
		if time.Since(begin) > limit {
			t.Fatalf("not within %v: %s: leader %d, in sync %v, offline %v", limit, what, p.Leader, p.ISR, p.OfflineReplicas)
		}
	}
}

// A leader whose disk fails on one partition loses that one to a replica in
// sync; its other partitions go on, no record is lost, no client sees an error,
// and the replica comes back by itself.
func TestFailedDiskMovesLeadership(t *testing.T) {
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	topics := map[string]int32{"disk": 3}
	createTopic(t, c, "disk", 3, map[string]string{"min.insync.replicas": "2"})
	client := admin(t, c)
	all := func(p kadm.PartitionDetail) bool { return len(p.ISR) == 3 && p.Leader > 0 }
	until(t, client, "disk", 0, "all in sync", 30*time.Second, all)
	sick := partitionOf(t, client, "disk", 0).Leader
	n := c.Nodes[sick-1]
	var h history.History
	load, err := traffic.StartIdempotent(c.Addresses(), &h, traffic.LoadOptions{Topic: "disk", Partitions: 3, InFlightMax: 50})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	in := inject(t, n, activeSegment(t, n, "disk", 0), "fsync,fdatasync,sync_file_range", "error=EIO:when=1+")
	took := until(t, client, "disk", 0, "another leader", 30*time.Second, func(p kadm.PartitionDetail) bool {
		return p.Leader > 0 && p.Leader != sick && len(p.ISR) == 2 && slices.Contains(p.OfflineReplicas, sick)
	})
	t.Logf("another leader after %v", took)
	if in.Count() == 0 {
		t.Error("no sync was made to fail")
	}
	for _, partition := range []int32{1, 2} {
		if p := partitionOf(t, client, "disk", partition); !slices.Contains(p.ISR, sick) || len(p.OfflineReplicas) > 0 {
			t.Errorf("disk-%d: in sync %v, offline %v", partition, p.ISR, p.OfflineReplicas)
		}
	}
	// As long as its syncs fail, it cannot be opened again.
	_, status, err := cluster.RunToEnd(cluster.Binary(t), 30*time.Second, "cluster", "status", "--bootstrap", n.Kafka, "--http", n.HTTP)
	if err != nil || !strings.Contains(status, "input/output error") || !strings.Contains(status, "cannot use its replica (failed)") {
		t.Errorf("the status does not tell the cause: %v\n%s", err, status)
	}
	in.Stop()
	took = until(t, client, "disk", 0, "back in sync", 60*time.Second, all)
	t.Logf("back in sync after %v", took)
	for _, err := range load.Stop() {
		t.Errorf("a client saw: %v", err)
	}
	for place, gap := range h.LongestGap() {
		t.Logf("%v: longest time without an acknowledgement %v", place, gap.Round(time.Millisecond))
	}
	verify(t, c, &h, topics, once)
}

// A leader whose disk takes seconds gives the lead to one whose disk does not,
// and is in sync again when its disk has been quick for a while.
func TestSlowDiskShedsLeadership(t *testing.T) {
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	topics := map[string]int32{"disk": 2}
	createTopic(t, c, "disk", 2, map[string]string{"min.insync.replicas": "2"})
	client := admin(t, c)
	all := func(p kadm.PartitionDetail) bool { return len(p.ISR) == 3 && p.Leader > 0 }
	until(t, client, "disk", 0, "all in sync", 30*time.Second, all)
	sick := partitionOf(t, client, "disk", 0).Leader
	n := c.Nodes[sick-1]
	var h history.History
	load, err := traffic.StartIdempotent(c.Addresses(), &h, traffic.LoadOptions{Topic: "disk", Partitions: 2, InFlightMax: 50})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	in := inject(t, n, activeSegment(t, n, "disk", 0), "fdatasync", "delay_enter=3000000:when=1+")
	took := until(t, client, "disk", 0, "another leader", 30*time.Second, func(p kadm.PartitionDetail) bool {
		return p.Leader > 0 && p.Leader != sick && len(p.ISR) == 2
	})
	t.Logf("another leader after %v", took)
	if p := partitionOf(t, client, "disk", 1); !slices.Contains(p.ISR, sick) {
		t.Errorf("disk-1: in sync %v", p.ISR)
	}
	in.Stop()
	if sized(false, true) {
		until(t, client, "disk", 0, "back in sync", 60*time.Second, all)
	}
	for _, err := range load.Stop() {
		t.Errorf("a client saw: %v", err)
	}
	for place, gap := range h.LongestGap() {
		t.Logf("%v: longest time without an acknowledgement %v", place, gap.Round(time.Millisecond))
	}
	verify(t, c, &h, topics, once)
}

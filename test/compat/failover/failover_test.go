package failover

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/cluster"
)

const (
	rate       = 50 // records a second of each producer
	partitions = 3
)

// faults are what happens to the nodes, each of which leads a partition of
// every topic and coordinates groups.
var faults = []struct {
	name string
	do   func(t *testing.T, c *cluster.Cluster)
}{
	{"kill -9 of node 1", func(t *testing.T, c *cluster.Cluster) {
		c.Node(1).Kill()
		time.Sleep(3 * time.Second)
		restart(t, c.Node(1))
	}},
	{"SIGTERM of node 2", func(t *testing.T, c *cluster.Cluster) {
		if _, err := c.Node(2).Terminate(10 * time.Second); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		restart(t, c.Node(2))
	}},
	{"SIGSTOP of node 3 for 4 s", func(t *testing.T, c *cluster.Cluster) {
		if err := c.Node(3).Pause(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		c.Node(3).Resume()
	}},
}

func restart(t *testing.T, n *cluster.Node) {
	t.Helper()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.WaitReady(); err != nil {
		t.Fatal(err)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("CHRONIK_BINARY") == "" {
		fmt.Println("skip: CHRONIK_BINARY names no chronik; see doc.go")
		return
	}
	os.Exit(m.Run())
}

func TestClientsThroughFailovers(t *testing.T) {
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	bootstrap := strings.Join(c.Addresses(), ",")
	looker, err := kgo.NewClient(kgo.SeedBrokers(c.Addresses()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(looker.Close)
	admin := kadm.NewClient(looker)
	producers, consumers := clients(t)
	var topics []string
	for _, p := range producers {
		topics = append(topics, topicOf(p.name))
	}
	made, err := admin.CreateTopics(context.Background(), partitions, 3, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}, topics...)
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		t.Fatal(err)
	}

	stop := make(chan struct{})
	var feeding sync.WaitGroup
	var producing, consuming []*running
	for _, p := range producers {
		r := start(t, p.name, p.command, p.env, p.parse, "BOOTSTRAP", bootstrap, "TOPIC", topicOf(p.name))
		producing = append(producing, r)
		if !p.itself {
			feeding.Go(func() { r.feed(stop) })
		}
	}
	for _, p := range consumers {
		consuming = append(consuming, start(t, p.name, p.command, p.env, p.parse, "BOOTSTRAP", bootstrap, "TOPIC", topicOf(p.of), "GROUP", "g-"+p.name))
	}
	for i, r := range producing {
		if !producers[i].silent {
			within(t, 60*time.Second, r.name+" acknowledged", func() bool { return len(r.values("ok")) > 0 })
		}
	}
	for _, r := range consuming {
		within(t, 60*time.Second, r.name+" consumes", func() bool { return len(r.values("got")) > 0 })
	}
	begin := time.Now()
	for _, f := range faults {
		t.Logf("%5.1f s: %s", time.Since(begin).Seconds(), f.name)
		f.do(t, c)
		time.Sleep(3 * time.Second)
	}
	t.Logf("%5.1f s: no more faults", time.Since(begin).Seconds())
	close(stop)
	feeding.Wait()
	for i, r := range producing {
		if err := r.end(producers[i].itself, 60*time.Second); err != nil {
			t.Errorf("producer %v", err)
		}
	}
	logs := map[string]contents{}
	for i, r := range producing {
		logs[producers[i].name] = read(t, c.Addresses(), topicOf(producers[i].name))
		checkProducer(t, producers[i], r, logs[producers[i].name])
	}
	for i, r := range consuming {
		checkConsumer(t, consumers[i], r, logs[consumers[i].of])
	}
	for i, r := range consuming {
		if err := r.end(consumers[i].itself, 30*time.Second); err != nil {
			t.Errorf("consumer %v", err)
		}
	}
}

func topicOf(producer string) string { return "of-" + producer }

func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// contents is what a topic holds: each partition's values in order.
type contents [partitions][]string

func (c contents) count() map[string]int {
	out := map[string]int{}
	for _, list := range c {
		for _, v := range list {
			out[v]++
		}
	}
	return out
}

// read reads a topic from its start to its end.
func read(t *testing.T, addrs []string, topic string) (out contents) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(topic, err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	for left > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s: %d records left: %v", topic, left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			out[r.Partition] = append(out[r.Partition], string(r.Value))
			left--
		})
	}
	return out
}

func checkProducer(t *testing.T, p producer, r *running, log contents) {
	t.Helper()
	there, acked := log.count(), r.values("ok")
	if p.silent {
		for i := range r.sent {
			acked[fmt.Sprint(i)] = 1
		}
	}
	failed := r.values("failed")
	twice := 0
	for _, n := range there {
		if n > 1 {
			twice++
		}
	}
	t.Logf("producer %-12s %5d acknowledged, %d given up, %d in the log twice", p.name, len(acked), len(failed), twice)
	var lost []string
	for v := range acked {
		if there[v] == 0 {
			lost = append(lost, v)
		}
	}
	if len(lost) > 0 {
		sort.Strings(lost)
		t.Errorf("%s: %d acknowledged records lost: %.20v", p.name, len(lost), lost)
	}
	if len(acked) < 5*rate {
		t.Errorf("%s: only %d records were acknowledged", p.name, len(acked))
	}
	if len(failed) > 0 {
		t.Logf("    such as: %q", r.errors[:min(3, len(r.errors))])
	}
	if p.patient && len(failed) > 0 {
		t.Errorf("%s gave %d records up", p.name, len(failed))
	}
	if !p.idempotent {
		return
	}
	if twice > 0 {
		t.Errorf("%s is idempotent, and %d records are there twice", p.name, twice)
	}
	for number, values := range log {
		last := -1
		for _, v := range values {
			var n int
			if _, err := fmt.Sscan(v, &n); err != nil || n <= last {
				t.Errorf("%s: partition %d holds %s after %d", p.name, number, v, last)
				break
			}
			last = n
		}
	}
}

// checkConsumer waits until a consumer has had all that is in the log.
func checkConsumer(t *testing.T, p consumer, r *running, log contents) {
	t.Helper()
	there := log.count()
	begin := time.Now()
	missing := 0
	for time.Since(begin) < 60*time.Second {
		got := r.values("got")
		missing = 0
		for v := range there {
			if got[v] == 0 {
				missing++
			}
		}
		if missing == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	again := 0
	for v, n := range r.values("got") {
		if there[v] == 0 {
			t.Errorf("consumer %s got %q, which is not in the log", p.name, v)
		}
		if n > there[v] {
			again++
		}
	}
	t.Logf("consumer %-18s %5d values, %d of them again, all after %.1f s", p.name, len(there), again, time.Since(begin).Seconds())
	if missing > 0 {
		t.Errorf("consumer %s has not got %d of %d values", p.name, missing, len(there))
	}
}

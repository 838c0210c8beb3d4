package chaos

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

var long = flag.Bool("long", os.Getenv("CHRONIK_LONG") == "1", "run the long versions (also CHRONIK_LONG=1)")

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of the time these tests wait for nodes, not for a processor.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set("4") // it is a number
	}
	code := m.Run()
	cluster.RemoveBinary()
	os.Exit(code)
}

// sized returns the second value in long runs and the first otherwise.
func sized[T any](short, inLongRuns T) T {
	if *long {
		return inLongRuns
	}
	return short
}

func admin(t *testing.T, c *cluster.Cluster) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(traffic.ClientOptions(c.Addresses())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

func createTopic(t *testing.T, c *cluster.Cluster, topic string, partitions int32, configs map[string]string) {
	t.Helper()
	set := make(map[string]*string)
	for k, v := range configs {
		set[k] = &v
	}
	client, err := kgo.NewClient(traffic.ClientOptions(c.Addresses())...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	replicas := int16(min(3, len(c.Nodes)))
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, replicas, set, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

func dial(t *testing.T, n *cluster.Node) *traffic.Conn {
	t.Helper()
	c, err := traffic.Dial(n.Kafka, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// readAll reads from one node, from an offset to the partition's end.
func readAll(t *testing.T, n *cluster.Node, topic string, partition int32, from int64) ([]history.Record, error) {
	t.Helper()
	return traffic.Patiently(func() ([]history.Record, error) { return dial(t, n).ReadAll(topic, partition, from) })
}

// endOf asks one node where a partition ends, logStart where it begins.
func endOf(t *testing.T, n *cluster.Node, topic string, partition int32) (int64, error) {
	t.Helper()
	return traffic.Patiently(func() (int64, error) { return dial(t, n).End(topic, partition) })
}

func logStart(t *testing.T, n *cluster.Node, topic string, partition int32) (int64, error) {
	t.Helper()
	return traffic.Patiently(func() (int64, error) { return dial(t, n).LogStart(topic, partition) })
}

func restart(t *testing.T, n *cluster.Node) time.Duration {
	t.Helper()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	ready, err := n.WaitReady()
	if err != nil {
		t.Fatal(err)
	}
	return ready
}

// write appends count records of size bytes to a partition, with acks=all, and
// all of them are acknowledged.
func write(t *testing.T, n *cluster.Node, h *history.History, topic string, partition int32, count, size int) {
	t.Helper()
	if err := fill(n, h, topic, partition, count, size); err != nil {
		t.Fatal(err)
	}
}

func fill(n *cluster.Node, h *history.History, topic string, partition int32, count, size int) error {
	done := 0
	_, err := traffic.Patiently(func() (int, error) {
		c, err := traffic.DialLeader([]string{n.Kafka}, topic, partition, 10*time.Second)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		acked, err := c.Fill(h, topic, partition, count-done, size)
		done += acked
		return acked, err
	})
	if err != nil {
		return fmt.Errorf("write to %s-%d: %w", topic, partition, err)
	}
	return nil
}

// verify reads a topic to its end and checks the history of it.
func verify(t *testing.T, c *cluster.Cluster, h *history.History, topics map[string]int32, promise history.Promise) {
	t.Helper()
	final := make(map[history.Place][]history.Record)
	for topic, partitions := range topics {
		content, err := traffic.ReadTopic(c.Addresses(), topic, partitions)
		if err != nil {
			t.Error(err)
		}
		for place, records := range content {
			final[place] = records
		}
	}
	sends, reads := h.Snapshot()
	acked := h.AckedCount()
	if acked == 0 {
		t.Error("nothing was acknowledged, so nothing was tested")
	}
	t.Logf("%d records sent, %d acknowledged", len(sends), acked)
	for _, v := range history.Check(sends, reads, final, promise) {
		t.Error(v)
	}
}

// verifyAcked reads topics to their ends and checks that what sends say was
// acknowledged is there; what it read becomes part of the history.
func verifyAcked(t *testing.T, c *cluster.Cluster, h *history.History, sends []history.Send, topics map[string]int32) {
	t.Helper()
	all := make(map[history.Place][]history.Record)
	for topic, partitions := range topics {
		content, err := traffic.ReadTopic(c.Addresses(), topic, partitions)
		if err != nil {
			t.Error(err)
		}
		for place, records := range content {
			all[place] = records
			h.Saw(history.Read{Place: place, Records: records})
		}
	}
	for _, v := range history.CheckAcked(sends, all, nil) {
		t.Error(v)
	}
}

var once = history.Promise{Once: true, Ordered: true}

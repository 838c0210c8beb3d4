package chaos

import (
	"context"
	"errors"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// shape is what an administrator sees of the topics.
func shape(t *testing.T, client *kadm.Client) map[string]string {
	t.Helper()
	topics, err := client.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	for _, topic := range topics.Sorted() {
		seen[topic.Topic] = topic.ID.String()
		for _, p := range topic.Partitions.Sorted() {
			if p.Err != nil || p.Leader != 1 {
				t.Errorf("%s-%d: leader %d, %v", topic.Topic, p.Partition, p.Leader, p.Err)
			}
			seen[topic.Topic] += " p"
		}
	}
	configs, err := client.DescribeTopicConfigs(t.Context(), topics.Names()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range configs {
		for _, c := range r.Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				seen[r.Name+"/"+c.Key] = c.MaybeValue()
			}
		}
	}
	return seen
}

func TestTopicsAndConfigsSurviveKill9(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	client := admin(t, c)
	createTopic(t, c, "plain", 3, nil)
	createTopic(t, c, "set", 1, map[string]string{"cleanup.policy": "compact", "retention.ms": "1000"})
	createTopic(t, c, "deleted", 1, nil)
	for range sized(3, 30) {
		value := time.Now().UnixNano() % 1e9
		text := kadm.StringPtr(time.Duration(value).String()[:1] + "00000")
		if _, err := client.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "segment.ms", Value: text}}, "set"); err != nil {
			t.Fatal(err)
		}
		if _, err := client.DeleteTopic(t.Context(), "deleted"); err != nil {
			t.Fatal(err)
		}
		createTopic(t, c, "deleted", 2, nil) // another topic of the same name
		// With a client of its own each time: one that has asked for the topics a
		// moment ago answers from its cache.
		before := shape(t, admin(t, c))
		n.Kill()
		restart(t, n)
		if after := shape(t, admin(t, c)); !maps.Equal(before, after) {
			t.Errorf("before\n%v\nafter\n%v", before, after)
		}
	}
}

func TestProducerIDsAreNeverRepeated(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	seen := make(map[int64]bool)
	for round := range sized(4, 50) {
		conn := dial(t, n)
		for range 50 {
			r, err := traffic.Patiently(func() (*kmsg.InitProducerIDResponse, error) {
				req := kmsg.NewPtrInitProducerIDRequest()
				req.Version, req.TransactionTimeoutMillis = 3, 60000
				resp, err := conn.Request(req)
				if err != nil {
					return nil, err
				}
				r := resp.(*kmsg.InitProducerIDResponse)
				return r, kerr.ErrorForCode(r.ErrorCode)
			})
			if err != nil {
				t.Fatal(err)
			}
			if seen[r.ProducerID] {
				t.Fatalf("round %d: producer id %d was given twice", round, r.ProducerID)
			}
			seen[r.ProducerID] = true
		}
		n.Kill()
		restart(t, n)
	}
}

func TestGroupOffsetsSurviveKill9(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	createTopic(t, c, "read", 3, nil)
	client := admin(t, c)
	commit := func(offset int64) error {
		var offsets kadm.Offsets
		for p := range int32(3) {
			offsets.AddOffset("read", p, offset+int64(p), -1)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return client.CommitAllOffsets(ctx, "readers", offsets)
	}
	if err := commit(0); errors.Is(err, kerr.UnsupportedVersion) || errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Skipf("SKIP: no groups yet: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	for round := range int64(sized(4, 40)) {
		if err := commit(round * 100); err != nil {
			t.Fatal(err)
		}
		n.Kill()
		restart(t, n)
		got, err := client.FetchOffsets(t.Context(), "readers")
		if err != nil {
			t.Fatal(err)
		}
		for p := range int32(3) {
			if o, ok := got.Lookup("read", p); !ok || o.Err != nil || o.At != round*100+int64(p) {
				t.Errorf("round %d: committed %d for partition %d, read %+v", round, round*100+int64(p), p, o)
			}
		}
	}
}

func TestLogStartSurvivesKill9AndSpaceIsGivenBack(t *testing.T) {
	c := cluster.Run(t, cluster.Options{Flags: []string{"--log-retention-check-interval-ms", "200"}})
	n := c.Nodes[0]
	client := admin(t, c)
	quick := map[string]string{"segment.bytes": "1048576", "file.delete.delay.ms": "100"}
	createTopic(t, c, "records", 1, quick)
	createTopic(t, c, "gone", 1, quick)
	quick["retention.bytes"] = "2097152"
	createTopic(t, c, "retained", 1, quick)
	var h history.History
	const count, size = 3000, 4 << 10
	for _, topic := range []string{"records", "gone", "retained"} {
		write(t, n, &h, topic, 0, count, size)
	}
	if _, err := client.DeleteTopic(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	const start = 2500
	var upTo kadm.Offsets
	upTo.AddOffset("records", 0, start, -1)
	deleted, err := client.DeleteRecords(t.Context(), upTo)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := deleted.Lookup("records", 0); !ok || d.Err != nil || d.LowWatermark != start {
		t.Fatalf("DeleteRecords: %+v", d)
	}
	// records keeps 500 of 3000 records and a segment's rest, gone nothing,
	// retained 2 MiB and what its oldest segment has beyond.
	const fewest = 10 << 20
	retainedDone := func() bool {
		sum := int64(0) // of all segments but the oldest
		files, _ := n.Segments("retained", 0)
		for _, f := range files[min(1, len(files)):] {
			if info, err := os.Stat(f); err == nil {
				sum += info.Size()
			}
		}
		return sum < 2<<20
	}
	var use int64
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if use, err = cluster.DiskUse(n.DataDir); err != nil {
			t.Fatal(err)
		}
		if use < fewest && retainedDone() {
			t.Logf("%d MiB on the disk of %d MiB written, after %v", use>>20, 3*count*size>>20, time.Since(begin).Round(time.Millisecond))
			break
		}
		if time.Since(begin) > 30*time.Second {
			t.Errorf("%d MiB on the disk after 30 s, want less than %d MiB", use>>20, fewest>>20)
			break
		}
	}
	retained, err := logStart(t, n, "retained", 0)
	if err != nil || retained == 0 {
		t.Errorf("retained begins at %d, %v", retained, err)
	}
	promise := once
	promise.LogStart = map[history.Place]int64{{Topic: "records"}: start, {Topic: "retained"}: retained, {Topic: "gone"}: count}
	for range 2 {
		n.Kill()
		restart(t, n)
		if got, err := logStart(t, n, "records", 0); err != nil || got != start {
			t.Errorf("records begins at %d, %v; want %d", got, err, start)
		}
		if got, err := logStart(t, n, "retained", 0); err != nil || got < retained {
			t.Errorf("retained begins at %d, %v; it was %d", got, err, retained)
		}
		if _, err := readAll(t, n, "records", 0, 0); !errors.Is(err, kerr.OffsetOutOfRange) {
			t.Errorf("fetch below the log start: %v", err)
		}
		verify(t, c, &h, map[string]int32{"records": 1, "retained": 1}, promise)
	}
	if use, err = cluster.DiskUse(n.DataDir); err != nil || use > fewest {
		t.Errorf("%d MiB on the disk after restarts, %v", use>>20, err)
	}
}

// A producer that goes on over a kill with the state it had is neither refused
// nor written twice.
func TestIdempotentSequencesSurviveKill9(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	createTopic(t, c, "sequence", 1, nil)
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.AlwaysRetryEOF(), kgo.DefaultProduceTopic("sequence"),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.StopProducerOnDataLossDetected())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for i := range int64(sized(5, 50)) {
		// Nothing is in flight when it is killed: what counts is what it remembers.
		r, err := client.ProduceSync(t.Context(), kgo.StringRecord("x")).First()
		if err != nil {
			t.Fatal(err)
		}
		if r.Offset != i {
			t.Errorf("record %d stands at offset %d", i, r.Offset)
		}
		n.Kill()
		restart(t, n)
	}
}

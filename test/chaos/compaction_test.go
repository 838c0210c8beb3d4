package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/cluster"
)

var compactionKeys = flag.Int("compaction-keys", 60_000, "keys of the compacted topics in TestCompactionOfManyKeys; 10000000 takes minutes")

// Keys of 12 bytes and values of 32, written so often.
const (
	compactionRounds = 2
	compactionTopics = 2
	compactionKey    = 12
	compactionValue  = 32
	// What a record costs besides: five varints of a byte or two, attributes,
	// and its part of the batch's 61 bytes.
	compactionRecord = compactionKey + compactionValue + 8
)

// TestCompactionOfManyKeys kills a node again and again while it compacts
// several logs, with less memory than their keys take in one pass, and then
// reads every key's last value. With -compaction-keys 10000000 it is the proof
// that memory is bounded whatever the number of keys.
func TestCompactionOfManyKeys(t *testing.T) {
	keys := *compactionKeys / compactionTopics * compactionTopics
	// Room for a third of the keys of each log.
	memory := max(keys/compactionTopics/3*24*compactionTopics*5/4, 1<<20)
	c := cluster.Run(t, cluster.Options{Flags: []string{
		"--log-cleaner-backoff-ms", "100", "--log-cleaner-threads", strconv.Itoa(compactionTopics),
		"--log-cleaner-dedupe-buffer-size", strconv.Itoa(memory),
	}})
	n := c.Nodes[0]
	segment := max(keys*compactionRecord/8, 1<<20)
	for i := range compactionTopics {
		createTopic(t, c, fmt.Sprintf("c%d", i), 1, map[string]string{
			"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.bytes": strconv.Itoa(segment),
			"segment.ms": "1500",
		})
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addresses()...), kgo.AlwaysRetryEOF(), kgo.ProducerBatchMaxBytes(900<<10),
		kgo.MaxBufferedRecords(200_000), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	began := time.Now()
	var peak int64
	rss := func() {
		if now, err := n.RSS(); err == nil {
			peak = max(peak, now)
		}
	}
	kills := 0
	for round := range compactionRounds {
		for i := range keys {
			client.Produce(context.Background(), &kgo.Record{Topic: fmt.Sprintf("c%d", i%compactionTopics), Key: keyOf(i), Value: valueOf(i, round)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			if i%100_000 == 0 {
				rss()
			}
		}
		if err := client.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Kill it in the middle of compactions.
		for range min(1+keys/500_000, 3) {
			if !waitFor(30*time.Second, func() bool { rss(); return len(metric(n, "chronik_compaction_progress_ratio")) > 0 }) {
				break
			}
			n.Kill()
			kills++
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := n.WaitReady(); err != nil {
				t.Fatal(err)
			}
		}
	}
	produced := time.Since(began)
	// The last value of each key must be there when all is compacted.
	clean := func() bool {
		rss()
		dirty := metric(n, "chronik_compaction_logs_dirty")
		logs := metric(n, "chronik_compaction_logs")
		return len(dirty) == 1 && dirty[0] == 0 && len(metric(n, "chronik_compaction_progress_ratio")) == 0 && len(logs) == 1 && logs[0] == compactionTopics && segments(n) <= 4*compactionTopics+compactionTopics*(keys*compactionRecord/compactionTopics/segment+1)
	}
	if !waitFor(10*time.Minute, func() bool { return clean() && sizeOf(n) < int64(float64(keys*compactionRecord)*1.2) }) {
		t.Errorf("the logs have %d bytes in %d segments for %d bytes of live records; dirty logs: %v", sizeOf(n), segments(n), keys*compactionRecord, metric(n, "chronik_compaction_logs_dirty"))
	}
	if failed := metric(n, "chronik_compaction_failures_total"); len(failed) != 1 || failed[0] != 0 {
		t.Errorf("compactions failed: %v\n%s", failed, n.LogTail(20))
	}
	if got := metric(n, "chronik_compaction_memory_bytes_max"); len(got) != 1 || got[0] != float64(memory) {
		t.Errorf("compaction may take %v bytes, want %d", got, memory)
	}
	t.Logf("%d keys written %d times in %v, %d kills; compacted after %v: %d bytes, %.3f times the live records; %d bytes for keys, resident set %d MiB at most, %v passes",
		keys, compactionRounds, produced.Round(time.Second), kills, time.Since(began).Round(time.Second), sizeOf(n), float64(sizeOf(n))/float64(keys*compactionRecord), memory, peak>>20, metric(n, "chronik_compaction_passes_total"))
	readLast(t, c, keys)
}

func keyOf(i int) []byte { return fmt.Appendf(nil, "key-%08d", i) }

func valueOf(i, round int) []byte {
	v := make([]byte, compactionValue)
	binary.BigEndian.PutUint64(v, uint64(i))
	binary.BigEndian.PutUint64(v[8:], uint64(round))
	return v
}

// readLast reads all topics and checks the last value of every key.
func readLast(t *testing.T, c *cluster.Cluster, keys int) {
	t.Helper()
	topics := make([]string, compactionTopics)
	for i := range topics {
		topics[i] = fmt.Sprintf("c%d", i)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addresses()...), kgo.AlwaysRetryEOF(), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	last := make([]int8, keys) // the round of the last value, plus 1
	left, read := keys, 0
	for left > 0 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		fetches := client.PollFetches(ctx)
		cancel()
		if ctx.Err() != nil && fetches.Empty() {
			t.Fatalf("%d of %d keys have not their last value; %d records read", left, keys, read)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			read++
			i, round := int(binary.BigEndian.Uint64(r.Value)), int8(binary.BigEndian.Uint64(r.Value[8:]))+1
			switch {
			case i >= keys || !bytes.Equal(r.Key, keyOf(i)):
				t.Fatalf("key %q has the value of key %d", r.Key, i)
			case round < last[i]:
				t.Fatalf("key %q: round %d after %d", r.Key, round, last[i])
			case round > last[i] && round == compactionRounds:
				left--
			}
			last[i] = round
		})
	}
	t.Logf("%d records read for %d keys", read, keys)
}

func waitFor(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// metric lists the values of a metric on a node's /metrics.
func metric(n *cluster.Node, name string) (values []float64) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + n.HTTP + "/metrics")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok && (rest[0] == ' ' || rest[0] == '{') {
			if v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64); err == nil {
				values = append(values, v)
			}
		}
	}
	return values
}

func segments(n *cluster.Node) (count int) {
	for i := range compactionTopics {
		files, _ := n.Segments(fmt.Sprintf("c%d", i), 0)
		count += len(files)
	}
	return count
}

// sizeOf is the size of the compacted logs' segments.
func sizeOf(n *cluster.Node) (sum int64) {
	for i := range compactionTopics {
		files, _ := n.Segments(fmt.Sprintf("c%d", i), 0)
		for _, f := range files {
			if info, err := os.Stat(f); err == nil {
				sum += info.Size()
			}
		}
	}
	return sum
}

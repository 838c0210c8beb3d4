package groups

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/cluster"
)

// TestToolAndLag goes through the verbs of `chronik group`, and reads the lag
// off /metrics: of a topic with one replica, so that most leaders are other
// nodes than the coordinator.
func TestToolAndLag(t *testing.T) {
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	client := newClient(t, c, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	tool := func(want int, args ...string) string {
		t.Helper()
		code, out, err := cluster.RunToEnd(cluster.Binary(t), 30*time.Second, append([]string{"group"}, append(args, "-b", c.Addresses()[0])...)...)
		if err != nil || code != want {
			t.Fatalf("chronik group %s: exit %d, %v\n%s", strings.Join(args, " "), code, err, out)
		}
		return out
	}
	if code, out, err := cluster.RunToEnd(cluster.Binary(t), 30*time.Second, "topic", "create", "t", "-p", "6", "-r", "1", "-b", c.Addresses()[0]); err != nil || code != 0 {
		t.Fatalf("create: %v\n%s", err, out)
	}
	begin := time.Now()
	for p := range int32(6) {
		for range 10 {
			if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: p, Value: []byte("v")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	offsets := func(args ...string) map[int32]int64 {
		t.Helper()
		var plan struct {
			Offsets []struct {
				Partition int32 `json:"partition"`
				New       int64 `json:"new_offset"`
			} `json:"offsets"`
		}
		out := tool(0, append([]string{"reset-offsets", "g", "-o", "json"}, args...)...)
		if i := strings.LastIndex(out, "}"); i >= 0 {
			out = out[:i+1] // the hint of --dry-run follows
		}
		if err := json.Unmarshal([]byte(out), &plan); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		got := map[int32]int64{}
		for _, o := range plan.Offsets {
			got[o.Partition] = o.New
		}
		return got
	}
	expect := func(got map[int32]int64, want int64, partitions int) {
		t.Helper()
		if len(got) != partitions {
			t.Errorf("%d partitions, want %d", len(got), partitions)
		}
		for p, o := range got {
			if o != want {
				t.Errorf("partition %d goes to %d, want %d", p, o, want)
			}
		}
	}
	tool(1, "describe", "nobody")
	tool(2, "reset-offsets", "g")
	tool(2, "reset-offsets", "g", "--to-datetime", "yesterday")
	expect(offsets("--topic", "t", "--to-latest"), 10, 6)
	expect(offsets("--shift-by", "-4"), 6, 6)
	expect(offsets("--shift-by", "-100", "--dry-run"), 0, 6)
	expect(offsets("--to-datetime", begin.Add(-time.Hour).UTC().Format(time.RFC3339), "--dry-run"), 0, 6)
	expect(offsets("--to-datetime", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "--dry-run"), 10, 6)
	expect(offsets("--topic", "t:0,5", "--to-offset", "7"), 7, 2)
	expect(offsets("--topic", "t:1", "--to-latest"), 10, 1)
	if out := tool(0, "describe", "g"); !strings.Contains(out, "lag 18") {
		t.Errorf("describe: %s", out) // 3 + 0 + 4 + 4 + 4 + 3
	}
	if out := tool(0, "list"); !strings.Contains(out, "g ") || !strings.Contains(out, "classic") {
		t.Errorf("list: %s", out)
	}
	lag := map[string]float64{}
	for _, n := range c.Nodes {
		for k, v := range scrape(t, n) {
			if _, twice := lag[k]; twice {
				t.Errorf("%s is shown by two nodes", k)
			}
			lag[k] = v
		}
	}
	old := time.Since(begin).Seconds()
	for p, records := range []float64{3, 0, 4, 4, 4, 3} {
		labels := fmt.Sprintf(`{group="g",partition="%d",topic="t"}`, p)
		if got, ok := lag["chronik_group_lag_records"+labels]; !ok || got != records {
			t.Errorf("partition %d: lag %v, %v; want %v", p, got, ok, records)
		}
		seconds, ok := lag["chronik_group_lag_seconds"+labels]
		if !ok || (seconds > 0) != (records > 0) || seconds > old {
			t.Errorf("partition %d: %v seconds, %v; produced at most %v ago", p, seconds, ok, old)
		}
	}
	tool(0, "delete", "g")
	tool(1, "delete", "g")
	if out := tool(0, "list", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("list after delete: %s", out)
	}
}

// scrape reads the lag off a node.
func scrape(t *testing.T, n *cluster.Node) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		var v float64
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && strings.HasPrefix(name, "chronik_group_lag_") {
			if _, err := fmt.Sscan(value, &v); err != nil {
				t.Fatal(err)
			}
			out[name+"}"] = v
		}
	}
	return out
}

package chaos

import (
	"strings"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
)

// What is typed when two of three nodes are gone shows what is known, says what
// is not, and ends with the code that it should.
func TestCommandLineWithoutAQuorum(t *testing.T) {
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	createTopic(t, c, "orders", 3, nil)
	left := c.Nodes[0]
	tool := func(code int, line string, words ...string) {
		t.Helper()
		got, out, err := cluster.RunToEnd(cluster.Binary(t), 60*time.Second, append(strings.Fields(line), "-b", left.Kafka)...)
		if err != nil || got != code {
			t.Errorf("chronik %s: exit %d, want %d, %v\n%s", line, got, code, err, out)
		}
		for _, w := range append(words, "") {
			if !strings.Contains(out, w) {
				t.Errorf("chronik %s does not say %q\n%s", line, w, out)
			}
		}
		for _, raw := range []string{"shard error", "context ", "unable to dial"} {
			if strings.Contains(out, raw) {
				t.Errorf("chronik %s says %q\n%s", line, raw, out)
			}
		}
	}
	tool(0, "cluster status", "healthy")
	for _, n := range c.Nodes[1:] {
		n.Kill()
	}
	// A controller that is left alone knows it when its followers have been silent
	// for an election timeout.
	for deadline := time.Now().Add(30 * time.Second); ; {
		code, out, err := cluster.RunToEnd(cluster.Binary(t), 60*time.Second, "cluster", "status", "-b", left.Kafka)
		if err == nil && code == 1 && strings.Contains(out, "NO QUORUM") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no quorum, and nobody says so: exit %d, %v\n%s", code, err, out)
		}
	}
	tool(1, "cluster status", "NO QUORUM", "that do not: 2,3", "there is no quorum")
	tool(1, "cluster status -o json", `"quorum": false`)
	tool(1, "cluster add-node", "without one no node can be added")
	tool(0, "topic list", "orders")
	// In the 30 s that it has by default each part of it gives up for itself.
	tool(0, "topic describe orders", "PARTITION", "`chronik cluster status` shows whether there is a quorum")
	tool(1, "topic create new --timeout 3s", "`chronik cluster status` shows whether there is a quorum")
	tool(1, "consume -t orders -e --timeout 3s", "`chronik ")
}

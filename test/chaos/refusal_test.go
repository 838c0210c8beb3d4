package chaos

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// runRefused starts a second process that must end by itself with a code that
// is not 0 and a message that says each of the words.
func runRefused(t *testing.T, args []string, words ...string) {
	t.Helper()
	code, out, err := cluster.RunToEnd(cluster.Binary(t), 20*time.Second, args...)
	if err != nil {
		t.Fatalf("chronik %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if code == 0 {
		t.Errorf("it ended with code 0 and said\n%s", out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	last := lines[len(lines)-1]
	t.Logf("code %d: %s", code, last)
	for _, w := range words {
		if !strings.Contains(last, w) {
			t.Errorf("the last line does not say %q", w)
		}
	}
}

func startArgs(id, dir, kafka, http string) []string {
	return []string{"start", "--node-id", id, "--data-dir", dir, "--kafka", kafka, "--http", http}
}

func TestSecondProcessIsRefused(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	createTopic(t, c, "kept", 1, nil)
	var h history.History
	write(t, n, &h, "kept", 0, 100, 100)

	t.Run("on the same directory", func(t *testing.T) {
		runRefused(t, startArgs("1", n.DataDir, cluster.FreeAddress(t), cluster.FreeAddress(t)), n.DataDir, "in use")
	})
	for i, port := range []string{"kafka", "http"} {
		t.Run("on the same "+port+" port", func(t *testing.T) {
			addresses := []string{cluster.FreeAddress(t), cluster.FreeAddress(t)}
			addresses[i] = []string{n.Kafka, n.HTTP}[i]
			dir := filepath.Join(t.TempDir(), "data")
			runRefused(t, startArgs("1", dir, addresses[0], addresses[1]), addresses[i], "in use", "--"+port)
		})
	}
	// The first one has not noticed.
	if _, err := traffic.FirstAck(c.Addresses(), &h, "kept", 0, 20*time.Second); err != nil {
		t.Error(err)
	}
	n.Kill()
	t.Run("as another node", func(t *testing.T) {
		runRefused(t, startArgs("2", n.DataDir, n.Kafka, n.HTTP), n.DataDir, "node 1", "node 2")
	})
	t.Run("on a directory that may not be written", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		runRefused(t, startArgs("1", filepath.Join(file, "data"), n.Kafka, n.HTTP), file)
	})
	t.Run("on an address that is not this machine's", func(t *testing.T) {
		_, port, _ := net.SplitHostPort(n.Kafka)
		runRefused(t, startArgs("1", filepath.Join(t.TempDir(), "data"), "192.0.2.1:"+port, n.HTTP), "192.0.2.1:"+port)
	})
	restart(t, n)
	verify(t, c, &h, map[string]int32{"kept": 1}, once)
}

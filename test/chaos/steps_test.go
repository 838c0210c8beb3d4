package chaos

import (
	"fmt"
	"os/exec"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// Killed at exactly the Nth call of one of its threads that changes a file,
// for N = 1, 2, 3, …, from the first start on: what was acknowledged by then is
// there afterwards.
func TestKilledAtAnyStep(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("SKIP: no strace here")
	}
	calls := map[string]int{
		"fdatasync": sized(3, 60), "fsync": sized(2, 40), "renameat,rename,renameat2": sized(2, 20),
		"pwrite64,pwritev,write": sized(3, 80), "unlinkat,unlink": sized(1, 10),
	}
	for call, steps := range calls {
		t.Run(call, func(t *testing.T) {
			for step := range steps {
				// Long runs take every step, short ones spread theirs.
				when := 1 + step*sized(7, 1)
				if !killedAtStep(t, call, when) {
					t.Logf("%s: nothing was killed at step %d", call, when)
					break
				}
			}
		})
	}
}

func killedAtStep(t *testing.T, call string, when int) bool {
	t.Helper()
	c := cluster.New(t, cluster.Options{})
	n := c.Nodes[0]
	// -D keeps the node the process that was started, with strace beside it.
	err := n.StartUnder("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, when))
	if err != nil {
		t.Fatal(err)
	}
	var h history.History
	cutShort := true
	if _, err := n.WaitReady(); err == nil {
		cutShort = stepTraffic(n, &h) != nil
	}
	if cutShort {
		// The connection ends a little before the process is seen to have ended.
		select {
		case <-n.Exited():
		case <-time.After(10 * time.Second):
			t.Fatalf("the node refuses, but was not killed at %s number %d", call, when)
		}
	}
	killed := !n.Running()
	n.Kill()
	restart(t, n)
	if killed && h.AckedCount() == 0 {
		return true // killed before there was anything to lose: that it starts is all
	}
	verify(t, c, &h, map[string]int32{"steps": 1}, once)
	if t.Failed() {
		t.Fatalf("killed at %s number %d", call, when)
	}
	return killed
}

// stepTraffic makes a topic with small segments and writes to it until the
// node is gone or enough has been written. An error says that it was cut short.
func stepTraffic(n *cluster.Node, h *history.History) error {
	conn, err := traffic.Dial(n.Kafka, 15*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.CreateTopic("steps", 1, map[string]string{"segment.bytes": "1048576"}); err != nil {
		return err
	}
	for range 10 {
		if _, err := traffic.Patiently(func() (int, error) { return conn.Fill(h, "steps", 0, 100, 4<<10) }); err != nil {
			return err
		}
	}
	return nil
}

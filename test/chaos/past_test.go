package chaos

import (
	"sync"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// A leader that was stopped for so long that another was elected is asked by
// consumers, on connections that it has had for long, in the very moment in
// which it goes on: where the partition ends, and for records. It must not
// answer from the past (kafka-answers: Kafka does, for seconds).
func TestStoppedLeaderDoesNotAnswerFromThePast(t *testing.T) {
	t.Parallel()
	c := runThree(t, cluster.Options{}, 1)
	var h history.History
	var asked, refused, answered int
	for i := range sized(1, 20) {
		awaitInSync(t, c, 1, 3)
		was, err := partitionAt(c.Nodes[i%3], replicated, 0)
		if err != nil {
			t.Fatal(err)
		}
		leader := c.Node(was.Leader)
		write(t, leader, &h, replicated, 0, 20, 50)
		// Connections that are there, and have been answered.
		conns := make([]*traffic.Conn, 8)
		var before int64
		for i := range conns {
			conns[i] = dial(t, leader)
			if before, err = traffic.Patiently(func() (int64, error) { return conns[i].End(replicated, 0) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := leader.Pause(); err != nil {
			t.Fatal(err)
		}
		other := c.Nodes[leader.ID%3]
		now := await(t, other, 0, "led by another", func(p traffic.Partition) bool { return p.Leader != leader.ID && p.Leader > 0 })
		write(t, c.Node(now.Leader), &h, replicated, 0, 20, 50)
		after, err := endOf(t, c.Node(now.Leader), replicated, 0)
		if err != nil || after < before+20 {
			t.Fatalf("the new leader ends at %d, the old one at %d: %v", after, before, err)
		}
		var mu sync.Mutex
		var all sync.WaitGroup
		until := time.Now().Add(2 * time.Second)
		for i, conn := range conns {
			all.Go(func() {
				for time.Now().Before(until) {
					what := "ListOffsets"
					var end int64
					var err error
					if i%2 == 0 {
						end, err = conn.End(replicated, 0)
					} else {
						what = "Fetch"
						var f traffic.Fetched
						f, err = conn.Fetch(replicated, 0, before, 1<<20)
						if end = f.HighWatermark; err == nil {
							err = f.Err
						}
					}
					mu.Lock()
					asked++
					switch {
					case err != nil:
						refused++
					case end < after:
						t.Errorf("%s on node %d, which was stopped: the partition ends at %d; node %d had acknowledged up to %d before it went on", what, leader.ID, end, now.Leader, after)
					default:
						answered++
					}
					mu.Unlock()
					time.Sleep(2 * time.Millisecond)
				}
			})
		}
		time.Sleep(50 * time.Millisecond) // the questions are in its sockets
		leader.Resume()
		all.Wait()
	}
	t.Logf("%d questions, %d refused, %d answered rightly", asked, refused, answered)
	if asked < 16 || refused == 0 {
		t.Errorf("only %d questions, %d refused: nothing was tried", asked, refused)
	}
}

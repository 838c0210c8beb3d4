package chaos

import (
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// openConnections opens connections to a node that the test's end closes.
func openConnections(t *testing.T, n *cluster.Node, count int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, count)
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	var dialers sync.WaitGroup
	const parallel = 16
	for d := range parallel {
		dialers.Go(func() {
			for i := d; i < count; i += parallel {
				c, err := net.DialTimeout("tcp", n.Kafka, 10*time.Second)
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				conns[i] = c
			}
		})
	}
	dialers.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

func TestIdleAndSlowConnectionsCostLittle(t *testing.T) {
	count := sized(2000, 10000)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < uint64(count+500) {
		t.Skipf("SKIP: %d open files are allowed here, the test needs %d", limit.Max, count+500)
	}
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	createTopic(t, c, "busy", 4, nil)
	before, err := n.RSS()
	if err != nil {
		t.Fatal(err)
	}
	conns := openConnections(t, n, count)
	slow := conns[:count/10]
	done, finished := make(chan struct{}), make(chan struct{})
	go func() { // one byte a second each, of a request of 64 KiB
		defer close(finished)
		frame := append([]byte{0, 1, 0, 0, 0, 0, 0, 9}, make([]byte, 64)...)
		for i := 0; ; i++ {
			for _, c := range slow {
				_, _ = c.Write(frame[i%len(frame) : i%len(frame)+1]) // it may have been closed for being slow
			}
			select {
			case <-done:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	var h history.History
	load, err := traffic.StartIdempotent(c.Addresses(), &h, traffic.LoadOptions{Topic: "busy", Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	time.Sleep(sized(1500*time.Millisecond, 30*time.Second))
	rss, err := n.RSS()
	if err != nil {
		t.Error(err)
	}
	for _, err := range load.Stop() {
		t.Errorf("another client saw: %v", err)
	}
	close(done)
	<-finished
	perSecond := float64(h.AckedCount()) / time.Since(begin).Seconds()
	t.Logf("%d connections: RSS %d MiB, %d MiB before; another client's %.0f records/s acknowledged", count, rss>>20, before>>20, perSecond)
	if rss > 200<<20 {
		t.Errorf("RSS %d MiB", rss>>20)
	}
	if h.AckedCount() < 100 || *long && perSecond < 100 { // short runs share their machine
		t.Errorf("only %d records of another client, %.0f/s", h.AckedCount(), perSecond)
	}
	verify(t, c, &h, map[string]int32{"busy": 4}, once)
}

package chaos

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// startUp is how long a start took.
type startUp struct {
	ready, acked time.Duration
	read         int64 // bytes that the process had read by then
}

func (s startUp) String() string {
	return fmt.Sprintf("exec to ready %v, to first ack %v, %d KiB read",
		s.ready.Round(time.Millisecond/10), s.acked.Round(time.Millisecond/10), s.read>>10)
}

// measureStart starts a node and produces to probe-0 until it is acknowledged.
func measureStart(t *testing.T, c *cluster.Cluster, n *cluster.Node, h *history.History) startUp {
	t.Helper()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	var s startUp
	var probe sync.WaitGroup
	probe.Go(func() {
		at, err := traffic.FirstAck(c.Addresses(), h, "probe", 0, 20*time.Second)
		if err != nil {
			t.Error(err)
		}
		s.acked = at.Sub(n.Started())
	})
	ready, err := n.WaitReady()
	if err != nil {
		t.Error(err)
	}
	io, err := n.IO()
	if err != nil {
		t.Error(err)
	}
	probe.Wait()
	s.ready, s.read = ready, io.ReadChars
	if t.Failed() {
		t.FailNow()
	}
	return s
}

func TestAcknowledgedRecordsSurviveKill9(t *testing.T) {
	kills := sized(8, 100)
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	topics := map[string]int32{"idempotent": 4, "raw": 2, "probe": 1}
	for topic, partitions := range topics {
		createTopic(t, c, topic, partitions, nil)
	}
	n.Kill()
	var h history.History
	first := measureStart(t, c, n, &h)
	t.Logf("first: %v", first)

	idempotent, err := traffic.StartIdempotent(c.Addresses(), &h, traffic.LoadOptions{Topic: "idempotent", Partitions: 4, InFlightMax: 100})
	if err != nil {
		t.Fatal(err)
	}
	raw := traffic.StartRaw(c.Addresses(), &h, traffic.LoadOptions{Topic: "raw", Partitions: 2})
	var slowest startUp
	for i := range kills {
		time.Sleep(time.Duration(100+rand.IntN(200)) * time.Millisecond)
		n.Kill()
		sends, _ := h.Snapshot()
		s := measureStart(t, c, n, &h)
		if i%max(1, kills/8) == 0 {
			t.Logf("kill %d, %d acknowledged: %v", i+1, h.AckedCount(), s)
			verifyAcked(t, c, &h, sends, topics)
		}
		if s.acked > slowest.acked {
			slowest = s
		}
		if t.Failed() {
			break
		}
	}
	for _, err := range append(idempotent.Stop(), raw.Stop()...) {
		t.Errorf("a client saw: %v", err)
	}
	verify(t, c, &h, topics, once)
	t.Logf("slowest: %v", slowest)
	if bound := 3*first.acked + time.Second; *long && slowest.acked > bound {
		t.Errorf("a start took %v to the first ack, the first one %v", slowest.acked, first.acked)
	}
}

func TestStartIsFastAfterKill9WithBigLogs(t *testing.T) {
	partitions, bytes := sized(int32(20), int32(100)), sized(int64(256<<20), int64(10<<30))
	c := cluster.Run(t, cluster.Options{ReadyMax: time.Minute})
	n := c.Nodes[0]
	createTopic(t, c, "probe", 1, nil)
	createTopic(t, c, "big", partitions, map[string]string{"segment.bytes": "67108864"})
	var h, ignored history.History
	const size = 16 << 10
	each := int(bytes / int64(partitions) / size)
	var writers sync.WaitGroup
	const parallel = 4
	for w := range int32(parallel) {
		writers.Go(func() {
			for p := w; p < partitions && !t.Failed(); p += parallel {
				if err := fill(n, &ignored, "big", p, each, size); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	n.Kill()
	use, err := cluster.DiskUse(n.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	s := measureStart(t, c, n, &h)
	t.Logf("%d MiB in %d partitions: %v", use>>20, partitions, s)
	if use < bytes {
		t.Errorf("only %d bytes are on the disk", use)
	}
	if s.read > use/2 {
		t.Errorf("read %d of %d bytes to start", s.read, use)
	}
	if *long && s.ready > time.Second {
		t.Errorf("exec to ready took %v", s.ready)
	}
	for p := range partitions {
		if end, err := endOf(t, n, "big", p); err != nil || end != int64(each) {
			t.Errorf("big-%d ends at %d (%v), acknowledged were %d", p, end, err, each)
		}
	}
}

func TestSIGTERMStopsWithinASecondUnderLoad(t *testing.T) {
	rounds := sized(3, 30)
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	topics := map[string]int32{"idempotent": 4, "raw": 2}
	for topic, partitions := range topics {
		createTopic(t, c, topic, partitions, nil)
	}
	var h history.History
	idempotent, err := traffic.StartIdempotent(c.Addresses(), &h, traffic.LoadOptions{Topic: "idempotent", Partitions: 4, InFlightMax: 100})
	if err != nil {
		t.Fatal(err)
	}
	raw := traffic.StartRaw(c.Addresses(), &h, traffic.LoadOptions{Topic: "raw", Partitions: 2})
	for i := range rounds {
		time.Sleep(300 * time.Millisecond)
		took, err := n.Terminate(10 * time.Second)
		t.Logf("stopped after %v", took.Round(time.Millisecond))
		if err != nil {
			t.Errorf("SIGTERM: %v", err)
		}
		if *long && took > time.Second { // short runs share their machine
			t.Errorf("took %v to stop", took)
		}
		sends, _ := h.Snapshot()
		ready := restart(t, n)
		t.Logf("ready %v after a clean stop", ready.Round(time.Millisecond/10))
		if i%max(1, rounds/5) == 0 {
			verifyAcked(t, c, &h, sends, topics)
		}
	}
	for _, err := range append(idempotent.Stop(), raw.Stop()...) {
		t.Errorf("a client saw: %v", err)
	}
	verify(t, c, &h, topics, once)
}

// A process that is frozen and goes on must neither lose nor double anything.
func TestPauseAndResumeLosesNothing(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	topics := map[string]int32{"idempotent": 4}
	createTopic(t, c, "idempotent", 4, nil)
	var h history.History
	load, err := traffic.StartIdempotent(c.Addresses(), &h, traffic.LoadOptions{Topic: "idempotent", Partitions: 4})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if err := n.Pause(); err != nil {
		t.Fatal(err)
	}
	// Longer than a session: it must take itself for fenced and come back.
	time.Sleep(1500 * time.Millisecond)
	before := h.AckedCount()
	n.Resume()
	for begin := time.Now(); h.AckedCount() < before+100; time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatal("not 100 acknowledgements in the 30 s after it went on")
		}
	}
	for _, err := range load.Stop() {
		t.Errorf("a client saw: %v", err)
	}
	verify(t, c, &h, topics, once)
}

package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/harm"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// fillDisk takes all space of a file system but for leave bytes, and returns
// the file that holds it.
func fillDisk(t *testing.T, dir string, leave int64) string {
	t.Helper()
	ballast, err := harm.FillDisk(dir, leave)
	if err != nil {
		t.Fatal(err)
	}
	return ballast
}

// refusal produces single records until one is refused, and returns the error.
func refusal(t *testing.T, n *cluster.Node, h *history.History, topic string, partition int32, size int, tries int) error {
	t.Helper()
	c := dial(t, n)
	for range tries {
		if _, err := traffic.Patiently(func() (int, error) { return c.Fill(h, topic, partition, 1, size) }); err != nil {
			return err
		}
	}
	return nil
}

func wantStorageError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("the partition answered %v, want KAFKA_STORAGE_ERROR", err)
	}
}

func TestFullDiskRefusesAndComesBack(t *testing.T) {
	mount := harm.FileSystem(t, 192<<20)
	c := cluster.Run(t, cluster.Options{DataDirs: []string{filepath.Join(mount, "data")}})
	n := c.Nodes[0]
	createTopic(t, c, "full", 2, nil)
	createTopic(t, c, "doomed", 1, map[string]string{"file.delete.delay.ms": "100"})
	topics := map[string]int32{"full": 2}
	var h, doomed history.History
	write(t, n, &h, "full", 0, 200, 10<<10)
	write(t, n, &h, "full", 1, 200, 10<<10)
	write(t, n, &doomed, "doomed", 0, 800, 10<<10)

	ballast := fillDisk(t, mount, 1<<20)
	wantStorageError(t, refusal(t, n, &h, "full", 0, 100<<10, 1000))
	t.Run("consume", func(t *testing.T) {
		sends, _ := h.Snapshot()
		verifyAcked(t, c, &h, sends, topics)
	})
	t.Run("delete", func(t *testing.T) {
		if _, err := admin(t, c).DeleteTopic(t.Context(), "doomed"); err != nil {
			t.Errorf("delete a topic on a full disk: %v", err)
		}
	})
	t.Run("restart", func(t *testing.T) {
		fillDisk(t, mount, 0)
		n.Kill()
		sends, _ := h.Snapshot()
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := n.WaitReady(); err != nil {
			t.Errorf("start on a full disk: %v", err)
			return
		}
		verifyAcked(t, c, &h, sends, topics)
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if !n.Running() {
		restart(t, n)
	}
	freed := time.Now()
	for _, partition := range []int32{0, 1} {
		if _, err := traffic.FirstAck(c.Addresses(), &h, "full", partition, 15*time.Second); err != nil {
			t.Errorf("after space came back: %v", err)
		}
	}
	t.Logf("acknowledged again %v after space came back", time.Since(freed).Round(time.Millisecond))
	verify(t, c, &h, topics, once)
	n.Kill()
	restart(t, n)
	verify(t, c, &h, topics, once)
}

// A disk that fills up and empties under a running process: no restart.
func TestFullDiskComesBackWithoutRestart(t *testing.T) {
	mount := harm.FileSystem(t, 128<<20)
	c := cluster.Run(t, cluster.Options{DataDirs: []string{filepath.Join(mount, "data")}})
	n := c.Nodes[0]
	createTopic(t, c, "full", 1, nil)
	var h history.History
	for round := range sized(2, 10) {
		write(t, n, &h, "full", 0, 50, 10<<10)
		ballast := fillDisk(t, mount, 512<<10)
		wantStorageError(t, refusal(t, n, &h, "full", 0, 100<<10, 1000))
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		freed := time.Now()
		if _, err := traffic.FirstAck(c.Addresses(), &h, "full", 0, 15*time.Second); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		t.Logf("acknowledged again %v after space came back", time.Since(freed).Round(time.Millisecond))
	}
	verify(t, c, &h, map[string]int32{"full": 1}, once)
}

// inject makes system calls of a running node on one file fail, or skips the
// test.
func inject(t *testing.T, n *cluster.Node, path string, calls, fault string) *harm.Injection {
	t.Helper()
	in, err := harm.Inject(n.PID(), path, calls, fault)
	if errors.Is(err, harm.ErrNotPermitted) {
		t.Skipf("SKIP: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.Close)
	return in
}

func activeSegment(t *testing.T, n *cluster.Node, topic string, partition int32) string {
	t.Helper()
	segments, err := n.Segments(topic, partition)
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments of %s-%d in %s (%v)", topic, partition, n.PartitionDir(topic, partition), err)
	}
	return segments[len(segments)-1]
}

func TestFailedSyncRefusesUntilTheLogIsOpenedAgain(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	createTopic(t, c, "disk", 2, nil)
	topics := map[string]int32{"disk": 2}
	var h history.History
	write(t, n, &h, "disk", 0, 100, 1000)
	write(t, n, &h, "disk", 1, 100, 1000)

	in := inject(t, n, activeSegment(t, n, "disk", 0), "fsync,fdatasync,sync_file_range", "error=EIO:when=1+")
	wantStorageError(t, refusal(t, n, &h, "disk", 0, 1000, 20))
	if in.Count() == 0 {
		t.Fatal("no sync was made to fail")
	}
	in.Stop()
	// The disk works again, but nobody knows which pages it has dropped.
	wantStorageError(t, refusal(t, n, &h, "disk", 0, 1000, 3))
	write(t, n, &h, "disk", 1, 100, 1000)
	if records, err := readAll(t, n, "disk", 1, -1); err != nil || len(records) != 200 {
		t.Errorf("disk-1: %d records, %v", len(records), err)
	}
	if sized(false, true) {
		n.Kill()
		restart(t, n)
	}
	for _, partition := range []int32{0, 1} {
		if _, err := traffic.FirstAck(c.Addresses(), &h, "disk", partition, 20*time.Second); err != nil {
			t.Error(err)
		}
	}
	verify(t, c, &h, topics, once)
}

func TestFailedWriteRefusesAndOthersGoOn(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	createTopic(t, c, "disk", 2, nil)
	topics := map[string]int32{"disk": 2}
	var h history.History
	write(t, n, &h, "disk", 0, 100, 1000)
	in := inject(t, n, activeSegment(t, n, "disk", 0), "write,writev,pwrite64,pwritev,pwritev2", "error=EIO:when=1+")
	wantStorageError(t, refusal(t, n, &h, "disk", 0, 1000, 20))
	if in.Count() == 0 {
		t.Fatal("no write was made to fail")
	}
	write(t, n, &h, "disk", 1, 100, 1000)
	in.Stop()
	n.Kill()
	restart(t, n)
	for _, partition := range []int32{0, 1} {
		if _, err := traffic.FirstAck(c.Addresses(), &h, "disk", partition, 20*time.Second); err != nil {
			t.Error(err)
		}
	}
	verify(t, c, &h, topics, once)
}

func TestFailedReadIsAnErrorAndNeverOtherData(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	createTopic(t, c, "disk", 2, nil)
	var h history.History
	write(t, n, &h, "disk", 0, 2000, 1000)
	write(t, n, &h, "disk", 1, 100, 1000)
	in := inject(t, n, activeSegment(t, n, "disk", 0), "read,readv,pread64,preadv,preadv2,sendfile", "error=EIO:when=1+")
	records, err := readAll(t, n, "disk", 0, 0)
	var code *kerr.Error
	switch {
	case in.Count() == 0:
		t.Skipf("SKIP: nothing was read from the file; %d records came from memory", len(records))
	case !errors.As(err, &code):
		t.Errorf("a read that failed was answered with %d records and %v", len(records), err)
	default:
		t.Logf("answered %v", err)
	}
	if records, err := readAll(t, n, "disk", 1, 0); err != nil || len(records) != 100 {
		t.Errorf("disk-1: %d records, %v", len(records), err)
	}
	in.Stop()
	n.Kill()
	restart(t, n)
	verify(t, c, &h, map[string]int32{"disk": 2}, once)
}

package partition

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/replica"
	"chronik/internal/core/throttle"
	"chronik/internal/format/record"
)

func TestAcknowledgedMeansOnDisk(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.want("before any leader", n.produce(1, batchOf(nil, false, "x")).Code, kafka.ErrNotLeaderOrFollower)
	c.assign(1, 1, 1)
	c.auto = false
	a, b := n.produce(-1, batchOf(nil, false, "a", "b")), n.produce(1, batchOf(nil, false, "c"))
	z := n.produce(0, batchOf(nil, false, "d"))
	c.want("acks=0", z.Code, kafka.None)
	c.want("unsynced acks=all", a.Code, pendingCode)
	c.want("unsynced acks=1", b.Code, pendingCode)
	c.want("syncs for three batches", n.pending, 1)
	c.want("visible before", n.values(0, ReadUncommitted), "")
	n.p.RunSync(c.now)
	c.want("acks=all", *a, ProduceResult{BaseOffset: 0, LogAppendTime: -1})
	c.want("acks=1", *b, ProduceResult{BaseOffset: 2, LogAppendTime: -1})
	c.want("visible", n.values(0, ReadUncommitted), "abcd")
	c.want("from within a batch", n.values(1, ReadUncommitted), "bcd")
}

func TestAcknowledgedSurvivesPowerLoss(t *testing.T) {
	for seed := range uint64(20) {
		c := newCluster(t, 1, DefaultTopicConfig())
		n := c.node(1)
		c.assign(1, 1, 1)
		for range 10 {
			c.want("produce", n.produce(1, batchOf(nil, false, "a", "b")).Code, kafka.None)
		}
		c.auto = false
		n.produce(1, batchOf(nil, false, "?"))
		n.fs = n.fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(seed, 1)), 0.5)
		n.open()
		c.auto = true
		c.assign(1, 2, 1)
		c.run(10 * time.Millisecond)
		got := n.values(0, ReadUncommitted)
		if len(got) < 20 || got[:20] != "abababababababababab" {
			t.Fatalf("seed %d: got %q", seed, got)
		}
	}
}

func TestIdempotenceHoldsAcrossRestarts(t *testing.T) {
	for _, clean := range []bool{true, false} {
		c := newCluster(t, 1, DefaultTopicConfig())
		n := c.node(1)
		c.assign(1, 1, 1)
		for seq := range int32(7) {
			c.want("produce", n.produce(-1, batchOf(&record.Producer{ID: 5, Sequence: seq}, false, "x")).BaseOffset, seq)
		}
		if clean {
			if err := n.p.Close(c.now); err != nil {
				t.Fatal(err)
			}
		} else {
			n.fs = n.fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(1, 1)), 1)
		}
		n.open()
		c.assign(1, 2, 1)
		c.want("duplicate", *n.produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 4}, false, "x")), ProduceResult{BaseOffset: 4, LogAppendTime: 1_700_000_000_000})
		c.want("too old", n.produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 0}, false, "x")).Code, kafka.ErrOutOfOrderSequenceNumber)
		c.want("next", n.produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 7}, false, "x")).BaseOffset, 7)
	}
}

func TestIdempotenceHoldsWithoutTheRecords(t *testing.T) {
	for survival, lost := range []string{"power", "process"} {
		config := DefaultTopicConfig()
		config.SegmentBytes, config.RetentionBytes = 16<<10, 20<<10
		c := newCluster(t, 1, config)
		n := c.node(1)
		c.assign(1, 1, 1)
		sent := func(id kafka.ProducerID, seq int32) []byte {
			return batchOf(&record.Producer{ID: id, Sequence: seq}, false, string(make([]byte, 4000)))
		}
		for seq := range int32(3) {
			n.produce(-1, sent(5, seq))
		}
		for seq := range int32(20) {
			n.produce(-1, sent(6, seq))
		}
		n.p.ApplyRetention(c.now)
		c.want("trimmed", n.p.LogStart() > 8, true)
		n.fs = n.fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(1, 1)), float64(survival))
		n.open()
		c.assign(1, 2, 1)
		c.want("again after the "+lost, n.produce(-1, sent(5, 1)).BaseOffset, 1)
		c.want("gap", n.produce(-1, sent(5, 4)).Code, kafka.ErrOutOfOrderSequenceNumber)
		c.want("next", n.produce(-1, sent(5, 3)).BaseOffset, 23)
	}
}

func TestAReplicaThatBeginsAnewKnowsTheProducers(t *testing.T) {
	c := newCluster(t, 2, DefaultTopicConfig())
	c.assign(1, 1, 1)
	for seq := range int32(3) {
		c.node(1).produce(-1, batchOf(&record.Producer{ID: 5, Sequence: seq}, false, "x"))
	}
	c.node(1).p.DeleteRecords(c.now, -1, time.Second, func(DeleteRecordsResult) {})
	c.run(time.Second)
	n := c.node(2)
	c.want("log start", n.p.LogStart(), 3)
	n.fs = n.fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(1, 1)), 0)
	n.open()
	c.assign(2, 2, 2)
	c.want("again", n.produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 2}, false, "x")).BaseOffset, 2)
	c.want("gap", n.produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 4}, false, "x")).Code, kafka.ErrOutOfOrderSequenceNumber)
	c.want("next", n.produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 3}, false, "x")).BaseOffset, 3)
}

// On a full disk that is saved with the next record for which there is space.
func TestAReplicaThatBeginsAnewOnAFullDiskKnowsTheProducers(t *testing.T) {
	c := newCluster(t, 2, DefaultTopicConfig())
	c.assign(1, 1, 1)
	for seq := range int32(3) {
		c.node(1).produce(-1, batchOf(&record.Producer{ID: 5, Sequence: seq}, false, "x"))
	}
	c.node(1).p.DeleteRecords(c.now, -1, time.Second, func(DeleteRecordsResult) {})
	n := c.node(2)
	disk := n.fs.(*vfs.Mem)
	if err := n.p.Close(c.now); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.NewFaulty(disk)
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.Contains(op.Name, "state_") {
			return vfs.ErrNoSpace
		}
		return nil
	})
	n.fs = faulty
	n.open()
	c.assign(1, 2, 1)
	c.run(time.Second)
	c.want("log start", n.p.LogStart(), 3)
	faulty.SetHook(nil)
	c.node(1).produce(-1, batchOf(nil, false, "y"))
	c.run(time.Second)
	c.want("log end", n.p.LogEnd(), 4)
	n.fs = disk.Crash(rand.New(rand.NewPCG(1, 1)), 1)
	n.open()
	c.assign(2, 3, 2)
	c.want("again", n.produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 2}, false, "x")).BaseOffset, 2)
}

// Or when its process ends, with nothing appended since.
func TestAReplicaThatBeganAnewOnAFullDiskSavesTheProducersWhenItIsClosed(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	sent := func(seq int32) []byte { return batchOf(&record.Producer{ID: 5, Sequence: seq}, false, "x") }
	c.want("produce", n.produce(-1, sent(0)).BaseOffset, 0)
	state, _ := n.p.core.Snapshot()
	c.want("produce", n.produce(-1, sent(1)).BaseOffset, 1)
	if err := n.p.Close(c.now); err != nil {
		t.Fatal(err)
	}
	faulty := vfs.NewFaulty(n.fs.(*vfs.Mem))
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.Contains(op.Name, "state_") {
			return vfs.ErrNoSpace
		}
		return nil
	})
	n.fs = faulty
	n.open()
	n.told(2, replica.Message{Kind: replica.Reset, Offset: 1, Records: state})
	c.want("log start", n.p.LogStart(), 1)
	faulty.SetHook(nil)
	if err := n.p.Close(c.now); err != nil {
		t.Fatal(err)
	}
	n.open()
	c.assign(1, 3, 1)
	c.want("again", n.produce(-1, sent(0)).BaseOffset, 0)
}

// Its process may end at any point of it.
func TestAReplicaThatEndsWhileItBeginsAnewKnowsTheProducers(t *testing.T) {
	ended := errors.New("process ended")
	for nth := int64(1); ; nth++ {
		over := false
		for _, survival := range []float64{0, 0.5, 1} {
			c := newCluster(t, 2, DefaultTopicConfig())
			c.assign(1, 1, 1)
			for seq := range int32(3) {
				c.node(1).produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 2 * seq}, false, "x", "y"))
			}
			c.node(1).p.DeleteRecords(c.now, 6, time.Second, func(DeleteRecordsResult) {})
			if nth%2 == 0 { // the leader's log begins within a batch
				c.node(1).produce(-1, batchOf(&record.Producer{ID: 5, Sequence: 6}, false, "x", "y"))
				c.node(1).p.DeleteRecords(c.now, 7, time.Second, func(DeleteRecordsResult) {})
			}
			n := c.node(2)
			disk := n.fs.(*vfs.Mem)
			if err := n.p.Close(c.now); err != nil {
				t.Fatal(err)
			}
			faulty := vfs.NewFaulty(disk)
			n.fs = faulty
			n.open()
			faulty.FailNth((nth+1)/2, ended)
			before := faulty.Persisted()
			c.assign(1, 2, 1)
			c.run(time.Second)
			over = faulty.Persisted()-before < (nth+1)/2
			n.fs, n.failed, n.epoch = disk.Crash(rand.New(rand.NewPCG(uint64(nth), 1)), survival), nil, 2
			n.open()
			c.assign(1, 3, 1)
			c.run(5 * time.Second)
			c.want("log end", n.p.LogEnd(), c.node(1).p.LogEnd())
			if got, want := fmt.Sprint(n.p.Producers()), fmt.Sprint(c.node(1).p.Producers()); got != want {
				t.Errorf("call %d, survival %v: knows %s, the leader %s", nth, survival, got, want)
			}
		}
		if over && nth%2 == 1 {
			if nth < 15 {
				t.Errorf("over after %d", nth)
			}
			return
		}
	}
}

func TestDiskFullIsOvercome(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	var lines bytes.Buffer
	n.log = slog.New(slog.NewTextHandler(&lines, nil))
	n.open()
	c.assign(1, 1, 1)
	c.want("produce", n.produce(1, batchOf(nil, false, "a")).Code, kafka.None)
	mem := n.fs.(*vfs.Mem)
	mem.SetCapacity(mem.Used())
	big := make([]byte, 64<<10)
	for i := range big {
		big[i] = 'z'
	}
	c.want("full", n.produce(1, batchOf(nil, false, string(big))).Code, kafka.ErrKafkaStorageError)
	c.want("full, again", n.produce(1, batchOf(nil, false, string(big))).Code, kafka.ErrKafkaStorageError)
	c.want("still readable", n.values(0, ReadUncommitted), "a")
	mem.SetCapacity(0)
	c.want("space again", n.produce(1, batchOf(nil, false, "b")).BaseOffset, 1)
	c.want("all", n.values(0, ReadUncommitted), "ab")
	c.want("failed", n.failed, nil)
	c.want("lines on the full disk", strings.Count(lines.String(), "append failed"), 1)
	c.want("lines on space again", strings.Count(lines.String(), `"appends succeed again" topic=t partition=0 refused=2`), 1)
}

// What was deleted while the disk was full is gone once there is space.
func TestTrimIsMadeUpForWhenThereIsSpace(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	c.want("produce", n.produce(-1, batchOf(nil, false, "a", "b")).Code, kafka.None)
	mem := n.fs.(*vfs.Mem)
	mem.SetCapacity(mem.Used())
	n.p.DeleteRecords(c.now, -1, time.Second, func(DeleteRecordsResult) {})
	c.run(time.Second)
	c.want("failed", n.failed, nil)
	mem.SetCapacity(0)
	c.want("space again", n.produce(-1, batchOf(nil, false, "c")).BaseOffset, 2)
	c.want("log start", n.p.LogStart(), 2)
	n.fs = mem.Crash(rand.New(rand.NewPCG(1, 1)), 0)
	n.open()
	c.want("log start after a crash", n.p.LogStart(), 2)
}

// A full disk is when records get deleted to make space: that they are is not told
// before it is so.
func TestDeletionThatIsToldOnAFullDiskIsDurable(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	c.want("produce", n.produce(-1, batchOf(nil, false, "a", "b")).Code, kafka.None)
	mem := n.fs.(*vfs.Mem)
	mem.SetCapacity(mem.Used())
	var told []DeleteRecordsResult
	n.p.DeleteRecords(c.now, -1, time.Second, func(r DeleteRecordsResult) { told = append(told, r) })
	c.run(2 * time.Second)
	c.want("answers", len(told), 1)
	n.fs = mem.Crash(rand.New(rand.NewPCG(1, 1)), 0)
	n.open()
	if told[0].Code == kafka.None && n.p.LogStart() != 2 {
		t.Errorf("told %+v, and the log begins at %d after a loss of power", told[0], n.p.LogStart())
	}
}

// Nor where another file cannot be opened, as there are too many.
func TestDeletionThatIsToldWithoutFilesToOpenIsDurable(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	mem := vfs.NewMem()
	faulty := vfs.NewFaulty(mem)
	n.fs = faulty
	n.open()
	c.assign(1, 1, 1)
	c.want("produce", n.produce(-1, batchOf(nil, false, "a", "b")).Code, kafka.None)
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate {
			return syscall.EMFILE
		}
		return nil
	})
	var told []DeleteRecordsResult
	n.p.DeleteRecords(c.now, -1, time.Second, func(r DeleteRecordsResult) { told = append(told, r) })
	c.run(2 * time.Second)
	c.want("answers", len(told), 1)
	n.fs = mem.Crash(rand.New(rand.NewPCG(1, 1)), 0)
	n.open()
	if told[0].Code == kafka.None && n.p.LogStart() != 2 {
		t.Errorf("told %+v, and the log begins at %d after a loss of power", told[0], n.p.LogStart())
	}
}

// Nor does a follower tell its leader that it has deleted what it could not.
func TestADeletionThatFailsAFollowersLogIsNotTold(t *testing.T) {
	c := newCluster(t, 2, DefaultTopicConfig())
	leader, follower := c.node(1), c.node(2)
	faulty := vfs.NewFaulty(vfs.NewMem())
	follower.fs = faulty
	follower.open()
	c.assign(1, 1, 1, 2)
	res := leader.produce(-1, batchOf(nil, false, "a", "b"))
	c.run(time.Second)
	c.want("produce", res.Code, kafka.None)
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return errDisk
		}
		return nil
	})
	var told []DeleteRecordsResult
	leader.p.DeleteRecords(c.now, -1, 3*time.Second, func(r DeleteRecordsResult) { told = append(told, r) })
	c.run(time.Second)
	c.want("the follower", follower.failed != nil, true)
	c.want("answers", told, []DeleteRecordsResult(nil))
	c.run(3 * time.Second)
	c.want("at last", len(told) == 1 && told[0].Code == kafka.ErrRequestTimedOut, true)
}

// What is deleted there makes room for what is to be known of its producers; if
// it does not, that is saved with the next record.
func TestDeletionOnAFullDiskForgetsNoProducer(t *testing.T) {
	sent := func(seq int32) []byte {
		return batchOf(&record.Producer{ID: 5, Sequence: seq}, false, strings.Repeat("x", 3000))
	}
	for segments := 1; segments < 4; segments++ {
		config := DefaultTopicConfig()
		config.SegmentBytes = 16 << 10
		c := newCluster(t, 1, config)
		n := c.node(1)
		c.assign(1, 1, 1)
		next := int32(0)
		for ; ; next++ {
			if list, err := n.p.log.Segments(); err != nil || len(list) == segments && next > 1 {
				break
			}
			c.want("produce", n.produce(-1, sent(next)).Code, kafka.None)
		}
		mem := n.fs.(*vfs.Mem)
		mem.SetCapacity(mem.Used())
		n.p.DeleteRecords(c.now, -1, time.Second, func(DeleteRecordsResult) {})
		c.run(2 * time.Second)
		mem.SetCapacity(0)
		if segments == 1 {
			c.want("space again", n.produce(-1, sent(next)).BaseOffset, kafka.Offset(next))
			next++
		}
		n.fs = mem.Crash(rand.New(rand.NewPCG(1, 1)), 1)
		n.open()
		c.assign(1, 2, 1)
		c.want("again", n.produce(-1, sent(next-1)).BaseOffset, kafka.Offset(next-1))
		c.want("next", n.produce(-1, sent(next)).BaseOffset, kafka.Offset(next))
	}
}

// Appends may go on for long where a file of its own finds no space.
func TestStateThatCannotBeSavedDoesNotFillTheLog(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	var lines bytes.Buffer
	n.log = slog.New(slog.NewTextHandler(&lines, nil))
	faulty := vfs.NewFaulty(vfs.NewMem())
	n.fs = faulty
	n.open()
	c.assign(1, 1, 1)
	sent := func(seq int32) []byte { return batchOf(&record.Producer{ID: 5, Sequence: seq}, false, "x") }
	n.produce(-1, sent(0))
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.Contains(op.Name, "state_") {
			return vfs.ErrNoSpace
		}
		return nil
	})
	n.p.DeleteRecords(c.now, -1, time.Second, func(DeleteRecordsResult) {})
	for seq := range int32(20) {
		c.want("produce", n.produce(-1, sent(seq+1)).Code, kafka.None)
	}
	c.want("lines", strings.Count(lines.String(), "\n"), 1)
	faulty.SetHook(nil)
	c.want("space again", n.produce(-1, sent(21)).Code, kafka.None)
	if at, _, ok, _ := n.p.log.LoadState(1); !ok || at != 1 {
		t.Errorf("state at %d", at)
	}
}

// A truncation finds what was to be saved with a trim, though there was no space.
func TestATruncationKnowsTheProducersOfATrimThatCouldNotSaveThem(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	mem := n.fs.(*vfs.Mem)
	faulty := vfs.NewFaulty(mem)
	n.fs = faulty
	n.open()
	c.assign(1, 1, 1)
	sent := func(seq int32) []byte { return batchOf(&record.Producer{ID: 5, Sequence: seq}, false, "x") }
	for seq := range int32(3) {
		c.want("produce", n.produce(-1, sent(seq)).BaseOffset, kafka.Offset(seq))
	}
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.Contains(op.Name, "state_") {
			return vfs.ErrNoSpace
		}
		return nil
	})
	n.p.DeleteRecords(c.now, 2, time.Second, func(DeleteRecordsResult) {})
	c.want("log start", n.p.LogStart(), 2)
	n.told(2, replica.Message{Kind: replica.Truncate, Epoch: 1, Offset: 2})
	c.want("log end", n.p.LogEnd(), 2)
	faulty.SetHook(nil)
	n.told(3, replica.Message{Kind: replica.Probe},
		replica.Message{Kind: replica.Append, Offset: 2, Epoch: 1, Records: stamped(batchOf(nil, false, "y"), 2, 3), HighWatermark: 3})
	c.want("log end", n.p.LogEnd(), 3)
	n.fs = mem.Crash(rand.New(rand.NewPCG(1, 1)), 1)
	for _, again := range []bool{false, true} {
		if again {
			n.open()
		}
		c.assign(1, 4, 1)
		c.want("again", n.produce(-1, sent(1)).BaseOffset, 1)
	}
}

// What a state tells of deleted records is not forgotten where it cannot be read now.
func TestAStateThatCannotBeReadNowIsNotTakenForNone(t *testing.T) {
	for _, cut := range []bool{false, true} {
		c := newCluster(t, 1, DefaultTopicConfig())
		n := c.node(1)
		faulty := vfs.NewFaulty(n.fs)
		n.fs = faulty
		n.open()
		c.assign(1, 1, 1)
		sent := func(seq int32) []byte { return batchOf(&record.Producer{ID: 5, Sequence: seq}, false, "x") }
		for seq := range int32(3) {
			c.want("produce", n.produce(-1, sent(seq)).BaseOffset, kafka.Offset(seq))
		}
		n.p.DeleteRecords(c.now, 2, time.Second, func(DeleteRecordsResult) {})
		faulty.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpOpen && strings.Contains(op.Name, "state_") {
				return syscall.EMFILE
			}
			return nil
		})
		if cut {
			n.told(2, replica.Message{Kind: replica.Truncate, Epoch: 1, Offset: 2})
			c.want("failure", errors.Is(n.failed, syscall.EMFILE), true)
		}
		n.p.Abandon(c.now)
		_, _, err := n.tryOpen()
		c.want("error", errors.Is(err, syscall.EMFILE), true)
		faulty.SetHook(nil)
		n.open()
		c.assign(1, 3, 1)
		c.want("again", n.produce(-1, sent(1)).BaseOffset, 1)
	}
}

// unlearned is a node that was opened with damage in the second of three batches
// of one producer, which are returned with what makes one.
func unlearned(t *testing.T) (n *node, batches []record.Batch, sent func(seq int32) []byte) {
	t.Helper()
	sent = func(seq int32) []byte {
		return batchOf(&record.Producer{ID: 5, Sequence: seq}, false, strings.Repeat("x", 3000))
	}
	c := newCluster(t, 1, DefaultTopicConfig())
	n = c.node(1)
	c.assign(1, 1, 1)
	for seq := range int32(3) {
		c.want("produce", n.produce(-1, sent(seq)).BaseOffset, kafka.Offset(seq))
	}
	for rest, err := n.p.log.Read(0, 3, 1<<20, nil); len(rest) > 0; {
		if err != nil {
			t.Fatal(err)
		}
		b, next, err := record.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		batches, rest = append(batches, b), next
	}
	mem := n.fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(1, 1)), 1)
	n.fs = mem
	list, err := mem.List(n.p.log.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !strings.HasSuffix(e.Name, ".wal") {
			continue
		}
		f, err := mem.Open(filepath.Join(n.p.log.Dir(), e.Name), vfs.ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xff}, 4096+batches[0].Size()+16); err != nil { // its magic
			t.Fatal(err)
		}
	}
	n.open()
	return n, batches, sent
}

// repair mends the first segment.
func (n *node) repair(batches []record.Batch) {
	n.c.t.Helper()
	r, err := n.p.BeginRepair(0)
	if err != nil {
		n.c.t.Fatal(err)
	}
	for _, b := range batches {
		if err := r.Append(b); err != nil {
			n.c.t.Fatal(err)
		}
	}
	if err := r.Commit(); err != nil {
		n.c.t.Fatal(err)
	}
}

// What could not be read when a replica was opened is learned when it is repaired,
// and no state is saved before, which would be without it.
func TestARepairedReplicaKnowsTheProducers(t *testing.T) {
	n, batches, sent := unlearned(t)
	n.c.want("damage", n.p.unlearned(), true)
	n.c.want("saved", errors.Is(n.p.saveState(true), errUnlearned), true)
	n.repair(batches)
	if err := n.p.Relearn(n.c.now); err != nil {
		t.Fatal(err)
	}
	n.c.assign(1, 2, 1)
	n.c.want("again", n.produce(-1, sent(1)).BaseOffset, 1)
	n.c.want("next", n.produce(-1, sent(3)).BaseOffset, 3)
}

// Nor is a replica used whose producers could be learned in part only.
func TestAReplicaThatCannotLearnTheProducersIsNotUsed(t *testing.T) {
	n, batches, sent := unlearned(t)
	mem := n.fs.(*vfs.Mem)
	faulty := vfs.NewFaulty(mem)
	n.fs = faulty
	n.open()
	n.repair(batches)
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && strings.Contains(op.Name, ".wal") {
			return syscall.EIO
		}
		return nil
	})
	n.c.want("learned", errors.Is(n.p.Relearn(n.c.now), syscall.EIO), true)
	faulty.SetHook(nil)
	if err := n.p.Relearn(n.c.now); err != nil {
		t.Fatal(err)
	}
	if n.failed != nil {
		n.p.Abandon(n.c.now)
		n.open()
	}
	n.c.assign(1, 2, 1)
	n.c.want("again", n.produce(-1, sent(1)).BaseOffset, 1)
	n.c.want("next", n.produce(-1, sent(3)).BaseOffset, 3)
}

// What a repair does not find is told before the replica counts as repaired.
func TestDamageThatIsMetWhileLearningIsTold(t *testing.T) {
	n, _, _ := unlearned(t)
	n.damaged = nil
	if err := n.p.Relearn(n.c.now); err != nil {
		t.Fatal(err)
	}
	n.c.want("damages", len(n.damaged), 1)
}

// Batches that cannot be read, and were never repaired, are deleted: from then on
// all is known that can be.
func TestDamageThatIsDeletedKeepsNoStateFromBeingSaved(t *testing.T) {
	n, _, sent := unlearned(t)
	c := n.c
	c.assign(1, 2, 1)
	c.want("produce", n.produce(-1, sent(3)).BaseOffset, 3)
	n.p.DeleteRecords(c.now, -1, time.Second, func(DeleteRecordsResult) {})
	c.run(time.Second)
	c.want("log start", n.p.LogStart(), 4)
	n.fs = n.fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(1, 1)), 1)
	n.open()
	c.assign(1, 3, 1)
	c.want("again", n.produce(-1, sent(3)).BaseOffset, 3)
	c.want("next", n.produce(-1, sent(4)).BaseOffset, 4)
}

// A log that begins anew has nothing of what could not be read in the one before.
func TestALogThatBeginsAnewHasNoDamage(t *testing.T) {
	n, _, sent := unlearned(t)
	n.told(2,
		replica.Message{Kind: replica.Reset, Offset: 0},
		replica.Message{Kind: replica.Append, Offset: 0, Epoch: kafka.NoLeaderEpoch, Records: stamped(sent(0), 0, 2), HighWatermark: 1},
		replica.Message{Kind: replica.Append, Offset: 1, Epoch: 2, HighWatermark: 1, LogStart: 1, NeedsAck: true})
	n.c.want("log start", n.p.LogStart(), 1)
	if err := n.p.Relearn(n.c.now); err != nil {
		t.Fatal(err)
	}
	n.c.assign(1, 3, 1)
	n.c.want("again", n.produce(-1, sent(0)).BaseOffset, 0)
}

// A batch's header says who wrote it, and is read without its CRC.
func TestADamagedHeaderIsNotTakenForAnotherProducers(t *testing.T) {
	sent := func(seq int32) []byte { return batchOf(&record.Producer{ID: 5, Epoch: 1, Sequence: seq}, false, "x") }
	for bit := range 8 * (57 - 43) { // producer id, epoch, sequence
		c := newCluster(t, 1, DefaultTopicConfig())
		n := c.node(1)
		c.assign(1, 1, 1)
		var batches []record.Batch
		for seq := range int32(3) {
			c.want("produce", n.produce(-1, sent(seq)).BaseOffset, kafka.Offset(seq))
			batches = append(batches, stamped(sent(seq), kafka.Offset(seq), 1))
		}
		mem := n.fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(1, 1)), 1)
		n.fs = mem
		f, err := mem.Open(filepath.Join(n.p.log.Dir(), "segment_00000000000000000000.wal"), vfs.ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		at := 4096 + batches[0].Size() + batches[1].Size() + 43 + int64(bit/8)
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << (bit % 8)
		if _, err := f.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		n.open()
		n.repair(batches)
		if err := n.p.Relearn(c.now); err != nil {
			t.Fatal(err)
		}
		c.assign(1, 2, 1)
		c.want(fmt.Sprint("again, bit ", bit), n.produce(-1, sent(2)).BaseOffset, 2)
		c.want(fmt.Sprint("next, bit ", bit), n.produce(-1, sent(3)).BaseOffset, 3)
	}
}

func TestFailedSyncTakesThePartitionOffline(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	faulty := vfs.NewFaulty(vfs.NewMem())
	n.fs = faulty
	n.open()
	c.assign(1, 1, 1)
	c.want("produce", n.produce(1, batchOf(nil, false, "a")).Code, kafka.None)
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return errDisk
		}
		return nil
	})
	var woken int
	w := new(Waiter)
	if !n.p.Watch(w, 1, ReadUncommitted, func(time.Time) { woken++ }) {
		t.Fatal("not parked")
	}
	c.want("failed sync", n.produce(1, batchOf(nil, false, "b")).Code, kafka.ErrKafkaStorageError)
	if n.failed == nil {
		t.Error("not reported")
	}
	c.want("woken", woken, 1)
	faulty.SetHook(nil)
	c.want("later", n.produce(1, batchOf(nil, false, "c")).Code, kafka.ErrKafkaStorageError)
	c.want("read", n.values(0, ReadUncommitted), kafka.ErrKafkaStorageError)
	c.want("offline", n.p.Status().Offline, true)
}

// A full disk is waited for; one that is broken is not written to again, nor
// read from.
func TestBrokenDiskTakesThePartitionOffline(t *testing.T) {
	for name, kind := range map[string]vfs.OpKind{"write": vfs.OpWrite, "read": vfs.OpRead} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 1, DefaultTopicConfig())
			n := c.node(1)
			faulty := vfs.NewFaulty(vfs.NewMem())
			n.fs = faulty
			n.open()
			c.assign(1, 1, 1)
			c.want("produce", n.produce(1, batchOf(nil, false, "a")).Code, kafka.None)
			faulty.SetHook(func(op vfs.Op) error {
				if op.Kind == kind {
					return fmt.Errorf("%v: %w", kind, syscall.EIO)
				}
				return nil
			})
			if kind == vfs.OpWrite {
				c.want("broken", n.produce(1, batchOf(nil, false, "b")).Code, kafka.ErrKafkaStorageError)
			} else {
				c.want("broken", n.values(0, ReadUncommitted), kafka.ErrKafkaStorageError)
			}
			if n.failed == nil {
				t.Error("not reported")
			}
			faulty.SetHook(nil)
			c.want("later", n.produce(1, batchOf(nil, false, "c")).Code, kafka.ErrKafkaStorageError)
			c.want("offline", n.p.Status().Offline, true)
			n.p.Abandon(c.now)
			n.open()
			c.assign(1, 2, 1)
			c.want("opened again", n.values(0, ReadUncommitted), "a")
		})
	}
}

func TestLeaderTellsOfItsSlowDisk(t *testing.T) {
	c := newCluster(t, 2, DefaultTopicConfig())
	c.assign(1, 1, 1, 2)
	c.run(20 * time.Millisecond)
	l := c.node(1)
	c.auto = false
	begun := c.now
	l.produce(-1, batchOf(nil, false, "a"))
	c.run(time.Millisecond)
	c.node(2).p.RunSync(c.now)
	c.run(1900 * time.Millisecond)
	c.want("too soon", l.slow, time.Duration(0))
	c.run(200 * time.Millisecond)
	if l.slow < 2*time.Second {
		t.Errorf("told of %v", l.slow)
	}
	if d := l.p.SyncTime(c.now, c.now); d < 2*time.Second {
		t.Errorf("the sync takes %v", d)
	}
	run := l.p.BeginSync()
	l.p.EndSync(c.now, run)
	c.want("the last sync", l.p.SyncTime(c.now, begun), c.now.Sub(begun))
	c.want("none since", l.p.SyncTime(c.now, c.now), time.Duration(0))
}

func TestWaitersAreWokenByTheHighWatermark(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	c.auto = false
	var fired []string
	park := func(name string, offset kafka.Offset) *Waiter {
		w := new(Waiter)
		if !n.p.Watch(w, offset, ReadUncommitted, func(time.Time) { fired = append(fired, name) }) {
			fired = append(fired, name+" at once")
		}
		return w
	}
	park("0", 0)
	park("1", 1)
	taken := park("taken back", 0)
	c.want("unwatch", n.p.Unwatch(taken), true)
	c.want("unwatch twice", n.p.Unwatch(taken), false)
	n.produce(1, batchOf(nil, false, "a"))
	c.want("not committed", len(fired), 0)
	n.p.RunSync(c.now)
	c.want("committed", fired, []string{"0"})
	park("again", 0)
	c.want("there already", fired, []string{"0", "again at once"})
	c.assign(kafka.NoNode, 2)
	c.want("leadership gone", fired, []string{"0", "again at once", "1"})
}

func TestThreeReplicasFailOver(t *testing.T) {
	config := DefaultTopicConfig()
	config.MinInSync = 2
	c := newCluster(t, 3, config)
	c.assign(1, 1, 1, 2, 3)
	c.run(20 * time.Millisecond)
	l := c.node(1)
	a := l.produce(-1, batchOf(nil, false, "a"))
	c.run(20 * time.Millisecond)
	c.want("committed", a.Code, kafka.None)
	for _, n := range c.nodes {
		c.want("high watermark", n.p.HighWatermark(), 1)
	}
	c.want("from a follower", c.node(2).p.Read(c.now, ReadRequest{MaxBytes: 100, FromFollower: true, CurrentLeaderEpoch: 1, LastFetchedEpoch: -1, ReplicaID: -1}).Code, kafka.None)
	c.want("not asked for it", c.node(2).values(0, ReadUncommitted), kafka.ErrNotLeaderOrFollower)

	// The leader is cut off with a record that nobody else has.
	c.cut[1] = true
	lost := l.produce(-1, batchOf(nil, false, "lost"))
	c.run(5 * time.Millisecond)
	for _, id := range []kafka.NodeID{2, 3} {
		c.node(id).p.Assign(c.now, replica.Assignment{LeaderEpoch: 2, PartitionEpoch: 200, Leader: 2, Replicas: []kafka.NodeID{1, 2, 3}, InSync: []kafka.NodeID{2, 3},
			Brokers: []replica.Broker{{Node: 1, Epoch: 1, Active: true}, {Node: 2, Epoch: 1, Active: true}, {Node: 3, Epoch: 1, Active: true}}})
	}
	c.run(20 * time.Millisecond)
	b := c.node(2).produce(-1, batchOf(nil, false, "b"))
	c.run(20 * time.Millisecond)
	c.want("committed by two", b.Code, kafka.None)
	c.want("still open", lost.Code, pendingCode)
	delete(c.cut, 1)
	c.assign(2, 2, 2, 3)
	c.run(200 * time.Millisecond)
	c.want("lost", lost.Code, kafka.ErrNotLeaderOrFollower)
	c.want("back in the set", len(c.node(2).p.Status().InSync), 3)
	c.run(20 * time.Millisecond)
	for _, n := range c.nodes {
		res := n.p.Read(c.now, ReadRequest{MaxBytes: 1 << 20, FromFollower: true, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: -1})
		c.want("bytes", string(res.Records) == string(c.node(2).p.Read(c.now, ReadRequest{MaxBytes: 1 << 20, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: -1}).Records), true)
		c.want("end", n.p.LogEnd(), 2)
	}
	c.want("divergence", *c.node(2).p.Read(c.now, ReadRequest{Offset: 2, MaxBytes: 10, CurrentLeaderEpoch: 2, LastFetchedEpoch: 1, ReplicaID: 1}).Diverging, replica.EpochStart{Epoch: 1, Start: 1})
}

// Where everything was deleted there is no record left to tell how far an epoch
// went, and none that a reader who is at its beginning could lack.
func TestAnEmptyLogAgreesWithAnyReader(t *testing.T) {
	c := newCluster(t, 2, DefaultTopicConfig())
	c.assign(1, 3, 1, 2)
	read := func(o kafka.Offset) kafka.ErrorCode {
		res := c.node(2).p.Read(c.now, ReadRequest{Offset: o, MaxBytes: 10, FromFollower: true, CurrentLeaderEpoch: -1, LastFetchedEpoch: 2, ReplicaID: -1})
		c.want("divergence", res.Diverging == nil, true)
		return res.Code
	}
	c.want("at its beginning", read(0), kafka.None)
	c.want("elsewhere", read(1), kafka.ErrOffsetOutOfRange)
}

// A new leader may know of less that is committed than clients have seen; until
// its own epoch is, it says that it does not know (bad-input 5.4).
func TestOffsetsAreNotToldBeforeTheHighWatermarkIsKnown(t *testing.T) {
	c := newCluster(t, 3, DefaultTopicConfig())
	c.assign(1, 1, 1, 2, 3)
	c.run(20 * time.Millisecond)
	l := c.node(1)
	l.produce(-1, batchOf(nil, false, "a"))
	c.run(20 * time.Millisecond)
	// The others store a record, and do not hear any more that it is committed.
	b := l.produce(-1, batchOf(nil, false, "b"))
	for range 1000 {
		if c.node(2).p.LogEnd() == 2 && c.node(3).p.LogEnd() == 2 {
			break
		}
		c.run(100 * time.Microsecond)
	}
	c.cut[1], c.cut[3] = true, true
	c.want("stored", c.node(2).p.LogEnd(), 2)
	c.want("committed", c.node(2).p.HighWatermark() < 2 || b.Code != kafka.None, true)
	c.node(2).p.Assign(c.now, replica.Assignment{LeaderEpoch: 2, PartitionEpoch: 200, Leader: 2, Replicas: []kafka.NodeID{1, 2, 3}, InSync: []kafka.NodeID{2, 3},
		Brokers: []replica.Broker{{Node: 1, Epoch: 1, Active: true}, {Node: 2, Epoch: 1, Active: true}, {Node: 3, Epoch: 1, Active: true}}})
	c.run(5 * time.Millisecond)
	ask := func(ts int64, isolation Isolation) ListOffsetsResult {
		return c.node(2).p.ListOffsets(c.now, ListOffsetsRequest{Timestamp: ts, ReplicaID: -1, CurrentLeaderEpoch: -1, Isolation: isolation})
	}
	c.want("latest", ask(kafka.TimestampLatest, ReadUncommitted).Code, kafka.ErrOffsetNotAvailable)
	c.want("latest, committed", ask(kafka.TimestampLatest, ReadCommitted).Code, kafka.ErrOffsetNotAvailable)
	c.want("a time later than all", ask(1_800_000_000_000, ReadUncommitted).Code, kafka.ErrOffsetNotAvailable)
	c.want("earliest", ask(kafka.TimestampEarliest, ReadUncommitted).Code, kafka.None)
	delete(c.cut, 3)
	c.assign(2, 3, 2, 3)
	c.run(200 * time.Millisecond)
	c.want("known again", ask(kafka.TimestampLatest, ReadUncommitted), ListOffsetsResult{0, 2, -1, 3})
}

func TestLaggingFollowerIsFedFromTheLog(t *testing.T) {
	c := newCluster(t, 2, DefaultTopicConfig())
	c.assign(1, 1, 1)
	c.cut[2] = true
	value := make([]byte, 10_000)
	for range 300 { // more than a chunk
		c.node(1).produce(1, batchOf(nil, false, string(value)))
	}
	c.run(50 * time.Millisecond)
	delete(c.cut, 2)
	c.run(2 * time.Second)
	c.want("caught up", c.node(2).p.LogEnd(), 300)
	c.want("in sync", c.node(1).p.Status().InSync, []kafka.NodeID{1, 2})
	c.want("queue", len(c.queue), 0)
}

// A follower that catches up under a limit gets no more than that, over time;
// one in sync gets everything at once, and so do clients their acknowledgements.
func TestCatchingUpIsThrottled(t *testing.T) {
	config := DefaultTopicConfig()
	config.FollowerThrottled = "0:2"
	c := newCluster(t, 3, config)
	c.assign(1, 1, 1, 3)
	c.cut[2] = true
	l, behind := c.node(1), c.node(2)
	value := make([]byte, 10_000)
	for range 300 {
		l.produce(1, batchOf(nil, false, string(value)))
		c.run(time.Millisecond)
	}
	const rate = 200_000
	l.limit = new(throttle.Bucket)
	l.limit.SetRate(c.now, rate)
	delete(c.cut, 2)
	c.run(time.Second)
	for second := 2; second <= 8; second++ {
		begun := c.now
		got := l.produce(-1, batchOf(nil, false, "x"))
		c.run(30 * time.Millisecond)
		c.want("acknowledged by those in sync", got.Code, kafka.None)
		c.run(time.Second - c.now.Sub(begun))
		bytes := behind.p.Size()
		if most := int64(rate*second + rate + 1<<20); bytes > most || bytes < int64(rate*(second-1))-1<<20 {
			t.Fatalf("%d bytes after %d s at %d bytes/s", bytes, second, rate)
		}
	}
	c.want("in sync", l.p.Status().InSync, []kafka.NodeID{1, 3})
	config.FollowerThrottled = ""
	for _, n := range c.nodes {
		n.p.Configure(c.now, config)
	}
	c.run(500 * time.Millisecond)
	c.want("caught up", behind.p.LogEnd(), l.p.LogEnd())
	c.want("all in sync", l.p.Status().InSync, []kafka.NodeID{1, 2, 3})
	// In sync, nothing is held back, whatever the limit.
	config.FollowerThrottled, config.LeaderThrottled = "*", "*"
	for _, n := range c.nodes {
		n.p.Configure(c.now, config)
	}
	l.limit.SetRate(c.now, 0)
	got := l.produce(-1, batchOf(nil, false, string(value)))
	c.run(30 * time.Millisecond)
	c.want("acknowledged by all", got.Code, kafka.None)
	c.want("at once", behind.p.LogEnd(), l.p.LogEnd())
}

func TestTransactionsAreHiddenUntilTheirMarker(t *testing.T) { // traps 32, f
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	guard, needed := n.p.BeginVerification(9, 0, false)
	c.want("needed", needed, true)
	var got ProduceResult
	n.p.Produce(c.now, ProduceRequest{Records: batchOf(&record.Producer{ID: 9}, true, "t"), Acks: -1, TxnVerification: guard}, func(r ProduceResult) { got = r })
	c.want("in transaction", got.Code, kafka.None)
	n.produce(-1, batchOf(nil, false, "p"))
	c.want("uncommitted", n.values(0, ReadUncommitted), "tp")
	c.want("committed", n.values(0, ReadCommitted), "")
	c.want("latest", n.p.ListOffsets(c.now, ListOffsetsRequest{Timestamp: kafka.TimestampLatest, Isolation: ReadCommitted, ReplicaID: -1, CurrentLeaderEpoch: -1}).Offset, 0)
	code := pendingCode
	n.p.WriteTxnMarker(c.now, replica.Marker{ProducerID: 9, Commit: false}, time.Second, func(x kafka.ErrorCode) { code = x })
	c.want("marker", code, kafka.None)
	res := n.p.Read(c.now, ReadRequest{MaxBytes: 1000, Isolation: ReadCommitted, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: -1})
	c.want("aborted", res.Aborted, []replica.AbortedTxn{{ProducerID: 9, FirstOffset: 0, LastOffset: 2}})
	c.want("stable", res.LastStableOffset, 3)
}

// Trap 21: the list of aborted transactions holds those that reach into what is
// read, in the order of their first offsets, whichever ended first.
func TestAbortedTransactionsAreToldInOrder(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	write := func(id kafka.ProducerID, sequence int32) {
		guard, _ := n.p.BeginVerification(id, 0, false)
		records := batchOf(&record.Producer{ID: id, Sequence: sequence}, true, "t")
		n.p.Produce(c.now, ProduceRequest{Records: records, Acks: -1, TxnVerification: guard}, func(r ProduceResult) { c.want("produce", r.Code, kafka.None) })
	}
	end := func(id kafka.ProducerID, commit bool) {
		n.p.WriteTxnMarker(c.now, replica.Marker{ProducerID: id, Commit: commit}, time.Second, func(code kafka.ErrorCode) { c.want("marker", code, kafka.None) })
	}
	write(9, 0)    // 0
	write(10, 0)   // 1
	write(11, 0)   // 2
	end(10, false) // 3
	end(9, false)  // 4
	write(10, 1)   // 5
	end(11, true)  // 6
	end(10, false) // 7
	n.produce(-1, batchOf(nil, false, "p"))
	aborted := func(from kafka.Offset, isolation Isolation) []replica.AbortedTxn {
		return n.p.Read(c.now, ReadRequest{Offset: from, MaxBytes: 1 << 20, Isolation: isolation, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: -1}).Aborted
	}
	first, second, third := replica.AbortedTxn{ProducerID: 9, FirstOffset: 0, LastOffset: 4}, replica.AbortedTxn{ProducerID: 10, FirstOffset: 1, LastOffset: 3}, replica.AbortedTxn{ProducerID: 10, FirstOffset: 5, LastOffset: 7}
	c.want("all", aborted(0, ReadCommitted), []replica.AbortedTxn{first, second, third})
	c.want("from the first marker behind", aborted(4, ReadCommitted), []replica.AbortedTxn{first, third})
	c.want("the last", aborted(5, ReadCommitted), []replica.AbortedTxn{third})
	c.want("none", len(aborted(8, ReadCommitted)), 0)
	c.want("uncommitted", len(aborted(0, ReadUncommitted)), 0)
}

func TestOffsetsByTimeAndEpoch(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 3, 1)
	n.produce(1, batchOf(nil, false, "a", "b"))
	ask := func(ts int64, epoch kafka.LeaderEpoch) ListOffsetsResult {
		return n.p.ListOffsets(c.now, ListOffsetsRequest{Timestamp: ts, ReplicaID: -1, CurrentLeaderEpoch: epoch})
	}
	c.want("earliest", ask(kafka.TimestampEarliest, -1), ListOffsetsResult{0, 0, -1, 3})
	c.want("latest", ask(kafka.TimestampLatest, 3), ListOffsetsResult{0, 2, -1, 3})
	c.want("time", ask(1_700_000_000_000, -1), ListOffsetsResult{0, 0, 1_700_000_000_000, 3})
	c.want("too late", ask(1_700_000_000_001, -1), ListOffsetsResult{0, -1, -1, -1})
	c.want("max", ask(kafka.TimestampMax, -1).Offset, 0)
	c.want("old epoch", ask(kafka.TimestampLatest, 2).Code, kafka.ErrFencedLeaderEpoch)
	c.want("new epoch", ask(kafka.TimestampLatest, 4).Code, kafka.ErrUnknownLeaderEpoch)
	c.want("epoch -2", ask(kafka.TimestampLatest, -2).Code, kafka.ErrFencedLeaderEpoch)
	c.want("epoch end", n.p.EpochEnd(-1, 3), EpochEndResult{0, 3, 2})
	c.want("out of range", n.values(3, 0), kafka.ErrOffsetOutOfRange)
	var deleted DeleteRecordsResult
	n.p.DeleteRecords(c.now, 1, time.Second, func(r DeleteRecordsResult) { deleted = r })
	c.want("delete", deleted, DeleteRecordsResult{0, 1})
	c.want("below", n.values(0, 0), kafka.ErrOffsetOutOfRange)
	c.want("rest", n.values(1, 0), "b")
	config := DefaultTopicConfig()
	config.Compact, config.Delete = true, false
	n.p.Configure(c.now, config)
	n.p.DeleteRecords(c.now, 2, time.Second, func(r DeleteRecordsResult) { deleted = r })
	c.want("compacted", deleted.Code, kafka.ErrPolicyViolation)
}

func TestRelaxedFlushAcknowledgesFromThePageCache(t *testing.T) {
	config := DefaultTopicConfig()
	config.FlushMessages, config.FlushTime = 3, time.Second
	c := newCluster(t, 1, config)
	n := c.node(1)
	c.assign(1, 1, 1)
	c.auto = false
	c.want("at once", n.produce(-1, batchOf(nil, false, "a", "b")).Code, kafka.None)
	c.want("no sync", n.pending, 0)
	n.produce(-1, batchOf(nil, false, "c"))
	c.want("after three", n.pending, 1)
	n.p.RunSync(c.now)
	n.produce(-1, batchOf(nil, false, "d"))
	c.want("not yet", n.pending, 1)
	c.run(1100 * time.Millisecond)
	c.want("after a second", n.pending, 2)
}

func TestRetentionGivesUpOldSegments(t *testing.T) {
	config := DefaultTopicConfig()
	config.SegmentBytes, config.RetentionBytes = 16<<10, 40<<10
	c := newCluster(t, 2, config)
	c.assign(1, 1, 1, 2)
	c.run(20 * time.Millisecond)
	for range 40 {
		c.node(1).produce(-1, batchOf(nil, false, string(make([]byte, 4000))))
		c.run(2 * time.Millisecond)
	}
	c.node(1).p.ApplyRetention(c.now)
	c.run(300 * time.Millisecond)
	start := c.node(1).p.LogStart()
	if start == 0 || start > 35 {
		t.Errorf("log start is %d", start)
	}
	c.want("follower", c.node(2).p.LogStart(), start)
}

func TestCloseAnswersAll(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	c.auto = false
	res := n.produce(-1, batchOf(nil, false, "a"))
	if err := n.p.Close(c.now); err != nil {
		t.Fatal(err)
	}
	c.want("waiting", res.Code, kafka.ErrNotLeaderOrFollower)
	c.want("after", n.produce(-1, batchOf(nil, false, "a")).Code, kafka.ErrNotLeaderOrFollower)
	n.p.RunSync(c.now)
}

func TestBadBatchesAreRefused(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	broken := batchOf(nil, false, "a")
	broken[len(broken)-1] ^= 1
	c.want("crc", n.produce(1, broken).Code, kafka.ErrCorruptMessage)
	c.want("acks", n.produce(2, batchOf(nil, false, "a")).Code, kafka.ErrInvalidRequiredAcks)
	c.want("empty", n.produce(1, nil).Code, kafka.ErrInvalidRecord)
	c.want("large", n.produce(1, batchOf(nil, false, string(make([]byte, 2<<20)))).Code, kafka.ErrMessageTooLarge)
	c.want("nothing written", n.p.LogEnd(), 0)
}

func TestDeadlinesDoNotRingWithoutPause(t *testing.T) {
	config := DefaultTopicConfig()
	config.FlushMessages, config.FlushTime = 100, 10*time.Millisecond
	c := newCluster(t, 3, config)
	c.auto = false // no sync ever comes back
	c.assign(1, 1, 1, 2, 3)
	c.run(20 * time.Millisecond)
	c.node(1).produce(-1, batchOf(nil, false, "a"))
	c.run(15 * time.Second)
	if n := len(c.timer); n > 10 {
		t.Errorf("%d deadlines are pending", n)
	}
}

package broker

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
	"chronik/internal/host/peer"
	"chronik/internal/storage/wal"
)

var smallSegments = map[string]string{"segment.bytes": "1048576", "min.insync.replicas": "2"}

func TestScrubOfSoundReplicasFindsNothing(t *testing.T) {
	w := newWorld(t, 3)
	w.create(smallSegments, 60)
	want := w.contents(1)
	states := w.scrub()
	if c := total(states); c.Damages+c.Mismatches+c.Repairs+c.Failures+c.StartedOver != 0 || c.Compared < 2 || c.Uncompared != 0 {
		t.Errorf("counts %+v", c)
	}
	for _, s := range states {
		for _, r := range s.Replicas {
			if r.VerifiedAt.IsZero() || r.VerifiedTo < r.LogEnd || r.Bad != "" {
				t.Errorf("node %d: %+v", s.Node, r)
			}
		}
	}
	w.check(want)
}

// manySegments makes the topic with at least six of them.
func (w *world) manySegments() {
	w.t.Helper()
	w.create(map[string]string{"segment.ms": "200", "min.insync.replicas": "2"}, 2)
	for range 6 {
		w.now = w.now.Add(300 * time.Millisecond)
		w.produce(2)
	}
	w.until("in sync", w.whole)
	for _, n := range w.nodes {
		if segments := n.segments(); len(segments) < 6 {
			w.t.Fatalf("segments %v", segments)
		}
	}
}

// Whichever replica has it, and whether it is running or not: what was damaged
// is repaired from the others.
func TestDamagedSegmentsAreRepairedFromPeers(t *testing.T) {
	harm := map[string]func(n *worldNode, name string){
		"record":  func(n *worldNode, name string) { n.edit(name, flip(4096+700)) },
		"length":  func(n *worldNode, name string) { n.edit(name, flip(4096+9)) },
		"header":  func(n *worldNode, name string) { n.edit(name, flip(30)) },
		"epoch":   func(n *worldNode, name string) { n.edit(name, flip(4096+15)) },
		"zeros":   func(n *worldNode, name string) { n.edit(name, func(b []byte) { clear(b[4096:4800]) }) },
		"all":     func(n *worldNode, name string) { n.edit(name, func(b []byte) { clear(b) }) },
		"missing": func(n *worldNode, name string) { _ = n.fs.Remove(name) },
		"swapped": func(n *worldNode, name string) {
			other, err := vfs.ReadFile(n.fs, n.segments()[2])
			if err != nil {
				n.w.t.Fatal(err)
			}
			n.edit(name, func(b []byte) { copy(b, other) })
		},
	}
	run := func(t *testing.T, which int, leads, down bool, do func(n *worldNode, name string)) {
		w := newWorld(t, 3)
		w.manySegments()
		want := w.contents(1)
		victim := w.partition().Leader
		if !leads {
			victim = victim%3 + 1
		}
		n := w.nodes[victim]
		if down {
			n.kill()
			w.until("another leads", func() bool { p := w.partition(); return p.Leader != victim && p.Leader != kafka.NoNode })
		}
		segments := n.segments()
		if which < 0 {
			which += len(segments)
		}
		do(n, segments[which])
		if down {
			n.start()
			w.until("ready", func() bool { return n.ready })
		}
		c := total(w.scrub())
		if c.Damages != 1 || c.Failures != 0 || c.Repairs+c.StartedOver != 1 || !down && c.StartedOver > 0 {
			t.Errorf("counts %+v\n%s", c, w.log.String())
		}
		w.check(want)
	}
	for _, down := range []bool{false, true} {
		for _, leads := range []bool{false, true} {
			for _, which := range []int{0, 1, -1} {
				for what, do := range harm {
					t.Run(fmt.Sprintf("%s in segment %d, leader %t, down %t", what, which, leads, down), func(t *testing.T) {
						run(t, which, leads, down, do)
					})
				}
			}
		}
	}
}

// Records that are sound but not the ones that the others have.
func TestDivergentReplicaTakesTheOthersRecords(t *testing.T) {
	for _, leads := range []bool{false, true} {
		t.Run(fmt.Sprintf("leader %t", leads), func(t *testing.T) {
			w := newWorld(t, 3)
			w.create(smallSegments, 30)
			w.until("in sync", w.whole)
			want := w.contents(1)
			victim := w.partition().Leader
			if !leads {
				victim = victim%3 + 1
			}
			n := w.nodes[victim]
			n.edit(n.segments()[0], func(b []byte) {
				batch, _, err := record.Next(b[4096:])
				if err != nil {
					t.Fatal(err)
				}
				batch = slices.Clone(batch)
				batch[len(batch)-20] ^= 1
				crc := batch.ComputeCRC()
				batch[17], batch[18], batch[19], batch[20] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
				copy(b[4096:], batch)
			})
			if c := total(w.scrub()); c.Mismatches != 1 || c.Damages != 0 || c.Repairs != 1 {
				t.Errorf("counts %+v\n%s", c, w.log.String())
			}
			w.check(want)
		})
	}
}

// forge changes a record of the first batch in a file, and its checksum with it.
func forge(t *testing.T) func(b []byte) {
	return func(b []byte) {
		batch, _, err := record.Next(b[4096:])
		if err != nil {
			t.Fatal(err)
		}
		batch[len(batch)-20] ^= 1
		crc := batch.ComputeCRC()
		batch[17], batch[18], batch[19], batch[20] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
	}
}

// What a leader has compared may lie in several of a follower's segments: all of them
// are made anew.
func TestDivergenceOverSeveralSegmentsIsRepairedInAll(t *testing.T) {
	w := newWorld(t, 3)
	w.manySegments()
	want := w.contents(1)
	n := w.nodes[w.partition().Leader%3+1]
	for _, name := range n.segments()[1:4] {
		n.edit(name, forge(t))
	}
	r := w.replicaOf(n.id)
	n.b.diverged(r, r.LogStart(), r.LogEnd(), "its leader has other records")
	w.until("whole", w.whole)
	if c, _, _ := n.b.ScrubCounts(); c.Mismatches != 1 || c.Repairs < 4 || c.Failures != 0 {
		t.Errorf("counts %+v", c)
	}
	w.check(want)
}

// Others that are not in sync may have records that were never committed.
func TestRepairAsksFirstWhoHasWhatIsCommitted(t *testing.T) {
	w := newWorld(t, 5)
	w.create(smallSegments, 1)
	w.until("in sync", w.whole)
	state := *w.partition()
	state.Replicas, state.Leader, state.InSync = []kafka.NodeID{1, 2, 3, 4, 5}, 4, []kafka.NodeID{3, 4, 5}
	if got := w.nodes[5].b.repairSources(&state); !slices.Equal(got, []kafka.NodeID{4, 3, 1, 2}) {
		t.Errorf("asked are %v", got)
	}
}

// Records are deleted up to the middle of a batch: who has to begin anew after
// that gets the rest of it as another batch. Replicas that differ in that are
// sound, whoever leads.
func TestLogThatBeginsWithinABatchIsNoDivergence(t *testing.T) {
	w := newWorld(t, 3)
	w.create(smallSegments, 30)
	w.until("in sync", w.whole)
	old := w.partition().Leader
	deleted := false
	w.replicaOf(old).DeleteRecords(w.now, 16, time.Minute, func(r partition.DeleteRecordsResult) { deleted = r.Code == kafka.None })
	w.until("deleted", func() bool { return deleted })
	anew := old%3 + 1
	other := 6 - old - anew
	reassign := func(replicas ...kafka.NodeID) {
		w.nodes[1].b.Control(w.now, controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{
			{TopicPartition: kafka.TopicPartition{Topic: "t"}, Replicas: replicas}}}, 10*time.Second, func(controller.Response, kafka.ErrorCode) {})
		w.until("reassigned", func() bool {
			p := w.partition()
			return slices.Equal(p.Replicas, replicas) && len(p.InSync) == len(replicas) && len(p.Removing) == 0
		})
	}
	reassign(old, other)
	w.until("gone", func() bool { return w.replicaOf(anew) == nil })
	reassign(anew, old, other)
	elected := false
	w.nodes[1].b.Control(w.now, controller.ElectLeaders{}, 10*time.Second, func(controller.Response, kafka.ErrorCode) { elected = true })
	w.until("leads", func() bool { return elected && w.partition().Leader == anew && w.whole() })
	if a, b := w.contents(anew), w.contents(old); len(a) == len(b) {
		t.Fatal("both begin with the same batch")
	}
	if c := total(w.scrub()); c.Mismatches+c.Damages+c.Repairs != 0 || c.Compared < 2 {
		t.Errorf("counts %+v\n%s", c, w.log.String())
	}
	if strings.Contains(w.log.String(), "replicas differ") {
		t.Error("replicas are said to differ")
	}
}

// Without a good copy nothing is removed, and the rest of the log is served.
func TestWithoutAGoodCopyNothingIsRemoved(t *testing.T) {
	w := newWorld(t, 3)
	w.create(smallSegments, 30)
	w.until("in sync", w.whole)
	before := map[kafka.NodeID]int64{}
	for id, n := range w.nodes {
		n.edit(n.segments()[0], flip(4096+700))
		before[id] = n.fs.Used()
	}
	w.nodes[1].b.ScrubAll(w.now, ScrubRequest{Start: true}, 10*time.Second, func([]ScrubState) {})
	w.until("all found it", func() bool {
		for _, n := range w.nodes {
			if c, _, _ := n.b.ScrubCounts(); c.Failures == 0 {
				return false
			}
		}
		return true
	})
	for id := range w.nodes {
		if w.nodes[id].fs.Used() < before[id] {
			t.Errorf("node %d gave up bytes", id)
		}
		if b, err := w.replicaOf(id).ReadSound(0, 99, 1<<20, nil); err == nil && len(b) > 2000 {
			t.Errorf("node %d serves damage", id)
		}
	}
	if w.partition().Leader == kafka.NoNode {
		t.Error("nobody leads: what is sound is not served")
	}
}

// Bits flip on every replica, at different places: one good copy of each record
// is enough.
func TestDamageEverywhereIsMendedWhereOneCopyIsLeft(t *testing.T) {
	w := newWorld(t, 3)
	w.manySegments()
	want := w.contents(1)
	for id, n := range w.nodes {
		for i, name := range n.segments()[:6] {
			if i%3 != int(id)-1 {
				n.edit(name, flip(4096+200+i))
			}
		}
	}
	if c := total(w.scrub()); c.Damages != 12 || c.Repairs != 12 {
		t.Errorf("counts %+v\n%s", c, w.log.String())
	}
	w.check(want)
}

// Readers meet damage before the scrubber does.
func TestDamageThatAReaderMeetsIsRepaired(t *testing.T) {
	w := newWorld(t, 3)
	w.manySegments()
	want := w.contents(1)
	leader := w.partition().Leader
	n := w.nodes[leader]
	n.edit(n.segments()[1], flip(4096+100))
	r := w.replicaOf(leader)
	request := partition.ReadRequest{MaxBytes: 1 << 20, MinOneMessage: true, ReplicaID: partition.NoReplicaID,
		CurrentLeaderEpoch: kafka.NoLeaderEpoch, LastFetchedEpoch: kafka.NoLeaderEpoch}
	code := kafka.None
	for ; code == kafka.None && request.Offset < r.HighWatermark(); request.Offset++ {
		code = r.Read(w.now, request).Code
	}
	if code != kafka.ErrKafkaStorageError {
		t.Fatalf("a reader met %v", code)
	}
	w.until("another leads", func() bool { return w.partition().Leader != leader })
	w.until("repaired", w.whole)
	w.check(want)
}

// A process that ends in the midst of a repair leaves it to the next one.
func TestRepairGoesOnAfterARestart(t *testing.T) {
	w := newWorld(t, 3)
	w.manySegments()
	want := w.contents(1)
	leader := w.partition().Leader
	victim := leader%3 + 1
	n := w.nodes[victim]
	n.edit(n.segments()[1], flip(4096+100))
	w.nodes[leader].b.ScrubAll(w.now, ScrubRequest{Start: true}, 10*time.Second, func([]ScrubState) {})
	w.until("unfit", func() bool { return w.nodes[leader].b.Image().TopicByName("t").Partition(0).IsUnfit(victim) })
	n.kill()
	w.until("fenced", func() bool { return w.nodes[leader].b.Image().Broker(victim).Fenced })
	if !w.partition().IsUnfit(victim) {
		t.Fatal("came back before it was repaired")
	}
	n.start()
	w.until("whole", w.whole)
	if c, _, _ := n.b.ScrubCounts(); c.Repairs != 1 {
		t.Errorf("counts %+v", c)
	}
	w.check(want)
}

// A replica that is opened again, be it by another process, with damage in it is not
// called fit before it is repaired.
func TestReplicaThatIsOpenedWithDamageIsNotCalledFit(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t, 3)
		w.manySegments()
		leader := w.partition().Leader
		n := w.nodes[leader%3+1]
		unfit := func() bool { return w.nodes[leader].b.Image().TopicByName("t").Partition(0).IsUnfit(n.id) }
		w.lose = func(from, _ kafka.NodeID, frame []byte) bool {
			_, rest, err := peer.DecodeScrub(frame)
			return from == n.id && peer.IsScrub(frame) && err == nil && len(rest) == 0
		}
		n.edit(n.segments()[1], flip(30))
		if restart {
			n.b.Scrub(w.now, ScrubRequest{Start: true})
			w.until("unfit", unfit)
			n.kill()
			w.until("fenced", func() bool { return w.nodes[leader].b.Image().Broker(n.id).Fenced })
			n.start()
		} else {
			failed := false
			n.faults.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync && strings.Contains(op.Name, "t-0") && !failed {
					failed = true
					return syscall.EIO
				}
				return nil
			})
			bd := record.NewBuilder(record.BuilderOptions{})
			bd.Append(w.now.UnixMilli(), nil, []byte("x"))
			w.replicaOf(leader).Produce(w.now, partition.ProduceRequest{Records: bd.Build(), Acks: 1, Timeout: time.Minute}, func(partition.ProduceResult) {})
		}
		w.until("put off", func() bool { c, _, _ := n.b.ScrubCounts(); return n.ready && c.Failures > 0 })
		if strings.Contains(w.log.String(), "replica returned") || !unfit() {
			t.Errorf("restart %t: it was called fit\n%s", restart, w.log.String())
		}
		w.lose = nil
		w.until("whole", w.whole)
	}
}

// A log fails while its damage is repaired, and nothing is appended to it that
// would fail for that: it is opened again all the same.
func TestLogThatFailsInItsRepairIsOpenedAgain(t *testing.T) {
	w := newWorld(t, 3)
	w.manySegments()
	want := w.contents(1)
	victim := w.partition().Leader%3 + 1
	n := w.nodes[victim]
	failed := false
	n.faults.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSyncDir && strings.HasSuffix(op.Name, "t-0") && !failed {
			failed = true
			return syscall.EIO
		}
		return nil
	})
	n.edit(n.segments()[1], flip(4096+100))
	w.scrub()
	w.until("failed", func() bool { return failed })
	w.until("whole", w.whole)
	w.check(want)
}

// A leader that was cut off has records that its successor has not, and they are in
// a segment that is damaged, where the log cannot be cut: it is copied anew.
func TestLogThatCannotBeCutForDamageIsCopiedAnew(t *testing.T) {
	w := newWorld(t, 3)
	w.create(map[string]string{"min.insync.replicas": "2"}, 5)
	w.until("in sync", w.whole)
	old := w.partition().Leader
	n := w.nodes[old]
	w.lose = func(from, _ kafka.NodeID, _ []byte) bool { return from == old }
	bd := record.NewBuilder(record.BuilderOptions{})
	bd.Append(w.now.UnixMilli(), []byte("key"), []byte("value"))
	w.replicaOf(old).Produce(w.now, partition.ProduceRequest{Records: bd.Build(), Acks: -1, Timeout: time.Minute}, func(partition.ProduceResult) {})
	other := w.nodes[old%3+1]
	w.until("another leads", func() bool {
		leader := other.b.Image().TopicByName("t").Partition(0).Leader
		return leader != old && leader != kafka.NoNode
	})
	n.edit(n.segments()[0], func(b []byte) { clear(b[4096:]) })
	w.lose = func(from, _ kafka.NodeID, frame []byte) bool { return from == old && peer.IsScrub(frame) } // a repair comes too late
	w.until("copied anew", func() bool { c, _, _ := n.b.ScrubCounts(); return c.StartedOver == 1 })
	w.until("whole", w.whole)
	w.check(w.contents(other.id))
}

// All records are deleted while a replica with a damaged segment is away. There
// is nothing to be repaired then, and nothing is appended before it is back.
func TestDamageInWhatWasDeletedNeedsNoRepair(t *testing.T) {
	w := newWorld(t, 3)
	w.manySegments()
	leader := w.partition().Leader
	victim := leader%3 + 1
	n := w.nodes[victim]
	n.kill()
	w.until("fenced", func() bool { return w.nodes[leader].b.Image().Broker(victim).Fenced })
	n.edit(n.segments()[1], flip(30))
	r := w.replicaOf(leader)
	deleted := false
	r.DeleteRecords(w.now, r.HighWatermark(), time.Minute, func(r partition.DeleteRecordsResult) { deleted = r.Code == kafka.None })
	w.until("deleted", func() bool { return deleted })
	n.start()
	w.until("whole", w.whole)
	if c, _, _ := n.b.ScrubCounts(); c.Damages != 1 || c.Repairs != 0 || w.replicaOf(victim).LogStart() != r.LogEnd() {
		t.Errorf("counts %+v, log start %d, expected %d", c, w.replicaOf(victim).LogStart(), r.LogEnd())
	}
}

// Nor where others follow, and nobody has a good copy of it.
func TestDamageThatWasDeletedNeedsNoRepair(t *testing.T) {
	w := newWorld(t, 1)
	w.create(map[string]string{"segment.ms": "200"}, 2)
	for range 6 {
		w.now = w.now.Add(300 * time.Millisecond)
		w.produce(2)
	}
	n := w.nodes[1]
	n.kill()
	n.edit(n.segments()[1], flip(30))
	n.start()
	w.until("put off", func() bool {
		c, _, _ := n.b.ScrubCounts()
		return n.ready && c.Failures == 1
	})
	r := w.replicaOf(1)
	deleted := false
	r.DeleteRecords(w.now, r.HighWatermark()-3, time.Minute, func(r partition.DeleteRecordsResult) { deleted = r.Code == kafka.None })
	w.until("deleted", func() bool { return deleted })
	w.until("nothing to be repaired", func() bool { return len(n.b.scrub.repairs) == 0 })
	if c, _, _ := n.b.ScrubCounts(); c.Damages != 1 || c.Repairs != 0 {
		t.Errorf("counts %+v", c)
	}
}

// A process may end between making the directory for what is set aside and syncing
// its name: the next one must not lose in it what it sets aside.
func TestWhatIsSetAsideSurvivesPowerLoss(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[1]
	if err := n.fs.MkdirAll(n.b.asideDir()); err != nil {
		t.Fatal(err)
	}
	id := wal.Identity{TopicID: kafka.TopicID{9}}
	dir := n.b.partitionDir("old", 0)
	l, _, err := wal.Open(n.fs, dir, id, wal.Options{}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	bd := record.NewBuilder(record.BuilderOptions{})
	bd.Append(w.now.UnixMilli(), nil, []byte("x"))
	if err := l.Append(w.now, bd.Build()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(w.now); err != nil {
		t.Fatal(err)
	}
	n.b.setAside(dir, "old-0", id)
	if _, ok, err := wal.ReadIdentity(n.fs.Crash(nil, 0), path.Join(n.b.asideDir(), "old-0."+id.TopicID.String())); !ok || err != nil {
		t.Errorf("it is gone: %v", err)
	}
}

// A loss of power leaves the names of a new log and nothing in them, and its topic
// is deleted before the node is back.
func TestDirectoryOfWhichNothingIsLeftIsRemoved(t *testing.T) {
	w := newWorld(t, 1)
	n := w.nodes[1]
	newLog := func(name string, synced bool) string {
		t.Helper()
		dir := n.b.partitionDir(name, 0)
		l, _, err := wal.Open(n.fs, dir, wal.Identity{TopicID: kafka.TopicID{9}}, wal.Options{}, w.now)
		if err == nil && synced {
			bd := record.NewBuilder(record.BuilderOptions{})
			bd.Append(w.now.UnixMilli(), nil, []byte("x"))
			err = errors.Join(l.Append(w.now, bd.Build()), l.TruncateFrom(0)) // which its checkpoint tells of
		}
		if err = errors.Join(err, n.fs.SyncDir(dir), n.fs.SyncDir(n.b.partitionsDir())); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	empty, full := newLog("empty", false), newLog("full", true)
	dirs := n.b.partitionsDir()
	disk := n.fs
	n.kill()
	n.fs = disk.Crash(nil, 0)
	if list, err := n.fs.List(empty); err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	segment := path.Join(full, "segment_00000000000000000000.wal")
	f, err := n.fs.Open(segment, vfs.ReadWrite|vfs.Truncate) // damaged: it held something
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	n.start()
	w.until("ready", func() bool { return n.ready })
	if list, err := n.fs.List(dirs); err != nil || len(list) != 1 || list[0].Name != path.Base(full) {
		t.Errorf("left: %v, %v", list, err)
	}
	if got := strings.Count(w.log.String(), "not understood"); got != 1 {
		t.Errorf("%d are not understood", got)
	}
}

// A replica moves away while it is repaired, and comes back before that is tried
// again: as a new one, of which nothing is damaged.
func TestReplicaThatMovesAwayDuringItsRepairMayComeBack(t *testing.T) {
	w := newWorld(t, 3)
	w.manySegments()
	leader := w.partition().Leader
	victim := leader%3 + 1
	n := w.nodes[victim]
	key := partitionKey{w.replicaOf(victim).TopicID(), 0}
	reassign := func(replicas ...kafka.NodeID) {
		done := false
		w.nodes[leader].b.Control(w.now, controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{
			{TopicPartition: kafka.TopicPartition{Topic: "t"}, Replicas: replicas}}}, 10*time.Second, func(controller.Response, kafka.ErrorCode) { done = true })
		w.until("reassigned", func() bool { return done })
	}
	// No more than the question is lost: control frames may begin with the same byte.
	w.lose = func(from, _ kafka.NodeID, frame []byte) bool { return from == victim && asksBatches(frame) }
	n.edit(n.segments()[1], flip(30))
	n.b.Scrub(w.now, ScrubRequest{Start: true})
	w.until("a source is asked", func() bool { return len(n.b.scrub.questions.waiting) > 0 })
	reassign(leader, 6-leader-victim)
	w.until("gone", func() bool { return w.replicaOf(victim) == nil })
	w.until("put off", func() bool { return !n.b.scrub.repairing })
	w.lose = nil
	reassign(leader, 6-leader-victim, victim)
	w.until("whole", w.whole)
	if n.b.fitness.found[key] != nil || w.replicaOf(victim) == nil {
		t.Error("it is not in use")
	}
}

// asksBatches says whether a frame asks for batches to repair a log with.
func asksBatches(frame []byte) bool {
	if !peer.IsScrub(frame) {
		return false
	}
	m, rest, err := peer.DecodeScrub(frame)
	return err == nil && len(rest) == 0 && m.Kind == peer.AskBatches
}

// compactedName names a compacted segment of a node, if it has one.
func (w *world) compactedName(n *worldNode) string {
	for _, s := range n.segments() {
		if len(path.Base(s)) > len("segment_00000000000000000000.wal") {
			return s
		}
	}
	return ""
}

// compactedLogs makes the topic with a compacted segment on each node, and returns
// what names a node's.
func (w *world) compactedLogs() func(n *worldNode) string {
	w.t.Helper()
	w.create(map[string]string{"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000"}, 2)
	for range 20 {
		w.now = w.now.Add(300 * time.Millisecond)
		w.produce(2)
	}
	compacted := w.compactedName
	w.until("compacted", func() bool {
		return compacted(w.nodes[1]) != "" && compacted(w.nodes[2]) != "" && compacted(w.nodes[3]) != "" && w.whole()
	})
	return compacted
}

// What compaction has left on one replica cannot replace what it has left on
// another: the log is copied as a whole.
func TestCompactedLogIsCopiedAnew(t *testing.T) {
	for _, leads := range []bool{false, true} {
		w := newWorld(t, 3)
		compacted := w.compactedLogs()
		victim := w.partition().Leader
		if !leads {
			victim = victim%3 + 1
		}
		n := w.nodes[victim]
		n.edit(compacted(n), flip(4096+100))
		if c := total(w.scrub()); c.Damages != 1 || c.StartedOver != 1 || c.Mismatches != 0 {
			t.Errorf("leader %t: counts %+v\n%s", leads, c, w.log.String())
		}
		if len(w.contents(victim)) == 0 {
			t.Errorf("leader %t: nothing was copied", leads)
		}
		w.until("what was set aside is removed", func() bool {
			entries, err := n.fs.List("data/wal/aside")
			return err == nil && len(entries) == 0
		})
	}
}

// A log is set aside, and its leader does not hear of it from its node, by whose
// last word all is there. The replica is in sync when it is copied anew, and not before.
func TestLogThatIsSetAsideCountsWhenItsLeaderHasAskedAnew(t *testing.T) {
	w := newWorld(t, 3)
	compacted := w.compactedLogs()
	leader := w.partition().Leader
	victim := leader%3 + 1
	n := w.nodes[victim]
	w.lose = func(from, to kafka.NodeID, frame []byte) bool {
		_, _, _, _, err := peer.Decode(frame)
		return from == victim && to == leader && err == nil
	}
	n.edit(compacted(n), flip(4096+100))
	n.b.Scrub(w.now, ScrubRequest{Start: true})
	w.until("set aside", func() bool { c, _, _ := n.b.ScrubCounts(); return c.StartedOver == 1 })
	for end := w.now.Add(5 * time.Second); w.now.Before(end); w.step() {
		if has := w.replicaOf(victim).LogEnd(); w.partition().IsInSync(victim) && has < w.replicaOf(leader).HighWatermark() {
			t.Fatalf("it is in sync, and ends at %d", has)
		}
	}
	w.lose = nil
	w.until("copied anew", w.whole)
}

// No log can be made where the damaged one was, as on a full disk: what was set aside
// is one log, and goes when its copy is in sync.
func TestLogThatCannotBeBegunAnewIsSetAsideOnce(t *testing.T) {
	w := newWorld(t, 3)
	compacted := w.compactedLogs()
	n := w.nodes[w.partition().Leader%3+1]
	n.faults.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.Contains(op.Name, "partitions/t-0") {
			return vfs.ErrNoSpace
		}
		return nil
	})
	n.edit(compacted(n), flip(4096+100))
	n.b.Scrub(w.now, ScrubRequest{Start: true})
	w.until("set aside", func() bool { return w.replicaOf(n.id) == nil })
	for until := w.now.Add(2 * time.Minute); w.now.Before(until); w.step() {
	}
	aside := func() int {
		list, err := n.fs.List(n.b.asideDir())
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if got := aside(); got != 1 {
		t.Errorf("%d logs were set aside", got)
	}
	n.faults.SetHook(nil)
	w.until("whole", w.whole)
	w.until("what was set aside is removed", func() bool { return aside() == 0 })
}

// The controller has taken a damaged replica out, and the node does not come to know
// for it hears nothing of the metadata: that keeps no other repair waiting.
func TestRepairDoesNotWaitForMetadataWithoutEnd(t *testing.T) {
	w := newWorld(t, 3)
	w.create(smallSegments, 3)
	w.until("in sync", w.whole)
	c := w.nodes[w.nodes[1].b.Controller()]
	n := w.nodes[c.id%3+1]
	w.lose = func(_, to kafka.NodeID, frame []byte) bool { return to == n.id && frame[0] == frameRaft }
	r := &repair{key: partitionKey{w.replicaOf(n.id).TopicID(), 0}, topic: "t", why: "it was damaged"}
	answers, granted := 0, true
	n.b.tellDamaged(w.now, r, func(_ time.Time, ok bool) { answers, granted = answers+1, ok })
	w.until("unfit", func() bool { return c.b.Image().TopicByName("t").Partition(0).IsUnfit(n.id) })
	w.until("told", func() bool { return answers > 0 })
	if granted {
		t.Error("it acts on what it does not know")
	}
	w.lose = nil
	w.until("it knows", func() bool {
		return n.b.Image().TopicByName("t").Partition(0).Equal(c.b.Image().TopicByName("t").Partition(0))
	})
	w.until("whole", w.whole)
	if answers != 1 {
		t.Errorf("%d answers", answers)
	}
}

// Nothing says any more how far a log is synced and where it begins: it is said so,
// and all of it is verified before the replica counts again.
func TestLogWhoseCheckpointIsLostIsVerifiedAsAWhole(t *testing.T) {
	for _, lost := range []bool{false, true} {
		w := newWorld(t, 3)
		w.manySegments()
		want := w.contents(1)
		n := w.nodes[w.partition().Leader%3+1]
		n.kill()
		w.until("fenced", func() bool { return w.nodes[w.partition().Leader].b.Image().Broker(n.id).Fenced })
		name := "data/wal/partitions/t-0/checkpoint"
		if lost {
			_ = n.fs.Remove(name)
		} else {
			n.edit(name, func(b []byte) { b[20] ^= 1; b[512+20] ^= 1 })
		}
		n.edit(n.segments()[1], flip(4096+200)) // which nothing but that would find soon
		n.start()
		w.until("repaired", func() bool { c, _, _ := n.b.ScrubCounts(); return c.Repairs > 0 })
		w.until("whole", w.whole)
		if c, _, _ := n.b.ScrubCounts(); c.Damages != 2 || !strings.Contains(w.log.String(), "checkpoint of a log is lost") {
			t.Errorf("lost %t: counts %+v", lost, c)
		}
		w.check(want)
	}
}

// compactedOnTwo makes the topic with a leader and a follower n that has a compacted
// segment, in a world whose controller is another, and goes on without the two.
func compactedOnTwo(t *testing.T) (w *world, c *worldNode, state func() *metadata.Partition, leader kafka.NodeID, n *worldNode) {
	t.Helper()
	w = newWorld(t, 5)
	w.create(map[string]string{"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000"}, 2)
	for range 20 {
		w.now = w.now.Add(300 * time.Millisecond)
		w.produce(2)
	}
	c = w.nodes[w.nodes[1].b.Controller()]
	state = func() *metadata.Partition { return c.b.Image().TopicByName("t").Partition(0) }
	leader = c.id%5 + 1
	n = w.nodes[leader%5+1]
	w.nodes[1].b.Control(w.now, controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{
		{TopicPartition: kafka.TopicPartition{Topic: "t"}, Replicas: []kafka.NodeID{leader, n.id}}}}, 10*time.Second, func(controller.Response, kafka.ErrorCode) {})
	w.until("two replicas", func() bool { return len(state().Replicas) == 2 && len(state().InSync) == 2 && state().Leader == leader })
	w.until("compacted", func() bool { return w.compactedName(n) != "" })
	return w, c, state, leader, n
}

// A node does not hear that its replica is in sync, and then leads: it does not set
// the only copy of what is acknowledged aside by what it knew before.
func TestNodeThatDoesNotKnowThatItsReplicaCountsDoesNotSetItAside(t *testing.T) {
	w, _, state, leader, n := compactedOnTwo(t)
	n.kill()
	w.until("alone", func() bool { return slices.Equal(state().InSync, []kafka.NodeID{leader}) })
	w.lose = func(from, to kafka.NodeID, frame []byte) bool {
		_, _, _, _, err := peer.Decode(frame)
		return from == n.id && to == leader && err == nil
	}
	n.start()
	w.until("ready", func() bool { return n.ready })
	w.deaf, w.lose = n.id, nil
	w.until("in sync", func() bool { return len(state().InSync) == 2 })
	w.nodes[leader].kill()
	w.until("leads", func() bool { return state().Leader == n.id })
	end := w.replicaOf(n.id).LogEnd()
	n.edit(w.compactedName(n), flip(4096+100))
	n.b.Scrub(w.now, ScrubRequest{Start: true})
	for until := w.now.Add(20 * time.Second); w.now.Before(until); w.step() {
	}
	w.deaf = 0
	w.until("it knows", func() bool { _, leads := w.replicaOf(n.id).Leads(); return leads })
	if got := w.replicaOf(n.id).LogEnd(); got < end {
		t.Errorf("it leads with a log that ends at %d of %d", got, end)
	}
}

// The leader is lost before the log is copied, and the replica elected uncleanly: what
// was set aside may have more.
func TestWhatIsSetAsideStaysWhereNobodyHadIt(t *testing.T) {
	w, c, state, leader, n := compactedOnTwo(t)
	w.lose = func(from, to kafka.NodeID, frame []byte) bool {
		_, _, _, _, err := peer.Decode(frame)
		return from == leader && to == n.id && err == nil
	}
	n.edit(w.compactedName(n), flip(4096+100))
	n.b.Scrub(w.now, ScrubRequest{Start: true})
	w.until("set aside", func() bool { counts, _, _ := n.b.ScrubCounts(); return counts.StartedOver == 1 })
	w.nodes[leader].kill()
	w.until("nobody leads", func() bool { return state().Leader == kafka.NoNode })
	c.b.Control(w.now, controller.ElectLeaders{Unclean: true}, 10*time.Second, func(controller.Response, kafka.ErrorCode) {})
	w.until("leads", func() bool { return state().Leader == n.id })
	for until := w.now.Add(20 * time.Second); w.now.Before(until); w.step() {
	}
	if list, err := n.fs.List(n.b.asideDir()); err != nil || len(list) != 1 {
		t.Errorf("aside: %v, %v", list, err)
	}
}

// A copy needs room beside what is set aside: without it the disk would be full for
// all logs of the node.
func TestLogIsSetAsideWhereThereIsRoomForItsCopy(t *testing.T) {
	for _, opens := range []bool{true, false} {
		w := newWorld(t, 3)
		compacted := w.compactedLogs()
		w.produce(100)
		w.until("in sync", w.whole)
		n := w.nodes[w.partition().Leader%3+1]
		if opens {
			n.edit(compacted(n), flip(4096+100))
			n.fs.SetCapacity(n.fs.Used() + 60<<10)
			n.b.Scrub(w.now, ScrubRequest{Start: true})
		} else {
			n.kill()
			w.until("fenced", func() bool { return w.nodes[n.id%3+1].b.Image().Broker(n.id).Fenced })
			segments := n.segments()
			n.edit(segments[len(segments)-1], flip(30))
			n.fs.SetCapacity(n.fs.Used() + 60<<10)
			n.start()
		}
		w.until("put off", func() bool { c, _, _ := n.b.ScrubCounts(); return c.Failures > 0 })
		for until := w.now.Add(2 * time.Minute); w.now.Before(until); w.step() {
		}
		if c, _, _ := n.b.ScrubCounts(); c.StartedOver != 0 || c.Failures > 2 {
			t.Errorf("opens %t: counts %+v", opens, c)
		}
		n.fs.SetCapacity(0)
		w.until("whole", w.whole)
	}
}

// While it is the whole in-sync set, the leader of a compacted log is in use
// though it is damaged. It is copied anew once another has all of it.
func TestCompactedLogOfTheLastInSyncIsCopiedAnewLater(t *testing.T) {
	w := newWorld(t, 3)
	w.create(map[string]string{"cleanup.policy": "compact", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000"}, 2)
	for range 20 {
		w.now = w.now.Add(300 * time.Millisecond)
		w.produce(2)
	}
	n := w.nodes[w.partition().Leader]
	other := w.nodes[n.id%3+1]
	w.nodes[1].b.Control(w.now, controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{
		{TopicPartition: kafka.TopicPartition{Topic: "t"}, Replicas: []kafka.NodeID{n.id, other.id}}}}, 10*time.Second, func(controller.Response, kafka.ErrorCode) {})
	w.until("two replicas", func() bool { return len(w.partition().Replicas) == 2 && len(w.partition().InSync) == 2 })
	compacted := func() string {
		for _, s := range n.segments() {
			if len(path.Base(s)) > len("segment_00000000000000000000.wal") {
				return s
			}
		}
		return ""
	}
	w.until("compacted", func() bool { return compacted() != "" })
	other.kill()
	w.until("alone", func() bool { return len(w.partition().InSync) == 1 })
	n.edit(compacted(), flip(4096+100))
	n.b.Scrub(w.now, ScrubRequest{Start: true})
	w.until("found", func() bool { c, _, _ := n.b.ScrubCounts(); return c.Failures > 0 })
	other.start()
	w.until("copied anew", func() bool {
		p := w.partition()
		return len(p.InSync) == 2 && len(p.Unfit) == 0 && len(n.b.scrub.repairs) == 0
	})
	if c, _, _ := n.b.ScrubCounts(); c.StartedOver != 1 {
		t.Errorf("counts %+v", c)
	}
}

// Nobody else has a node's vote: what is in memory is written anew.
func TestDamagedMetadataFilesAreWrittenAnew(t *testing.T) {
	for _, harm := range []struct {
		what string
		lost bool
	}{{"segment_", false}, {"snapshot", false}, {"vote", false}, {"vote", true}, {"segment_", true}} {
		what := harm.what
		w := newWorld(t, 3)
		w.create(nil, 3)
		want := w.contents(1)
		n := w.nodes[w.nodes[1].b.Controller()]
		dir := "data/wal/__meta"
		entries, err := n.fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			switch {
			case !strings.HasPrefix(e.Name, what) || strings.HasSuffix(e.Name, "index"):
			case harm.lost:
				if err := n.fs.Remove(path.Join(dir, e.Name)); err != nil {
					t.Fatal(err)
				}
			default:
				size, _ := n.fs.Stat(path.Join(dir, e.Name))
				n.edit(path.Join(dir, e.Name), flip(int(size.Size)*2/3))
			}
		}
		if c := total(w.scrub()); c.Damages != 1 || c.Repairs != 1 {
			t.Errorf("%s: counts %+v\n%s", what, c, w.log.String())
		}
		if c := total(w.scrub()); c.Damages != 1 {
			t.Errorf("%s: damaged again: %+v\n%s", what, c, w.log.String())
		}
		n.kill()
		n.start()
		w.until("ready", func() bool { return n.ready })
		w.until("whole", w.whole)
		w.check(want)
	}
}

// A node that finds its metadata damaged when it starts comes back as another
// member of the quorum, with the records that it has.
func TestNodeWithDamagedMetadataComesBackAsAnotherMember(t *testing.T) {
	for _, harm := range []struct {
		what string
		lost bool
	}{{"segment_", false}, {"snapshot", false}, {"vote", false}, {"vote", true}, {"segment_", true}} {
		what := harm.what
		w := newWorld(t, 3)
		w.create(nil, 3)
		want := w.contents(1)
		victim := w.nodes[1].b.Controller()
		n := w.nodes[victim]
		n.kill()
		w.until("another controller", func() bool {
			c := w.nodes[victim%3+1].b.Controller()
			return c != victim && c != kafka.NoNode
		})
		dir := "data/wal/__meta"
		entries, err := n.fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			switch {
			case !strings.HasPrefix(e.Name, what) || strings.HasSuffix(e.Name, "index"):
			case harm.lost:
				if err := n.fs.Remove(path.Join(dir, e.Name)); err != nil {
					t.Fatal(err)
				}
			default:
				size, _ := n.fs.Stat(path.Join(dir, e.Name))
				n.edit(path.Join(dir, e.Name), flip(int(size.Size)*2/3))
			}
		}
		n.start()
		if n.b.identity.Incarnation == 0 {
			t.Fatalf("%+v: it takes itself for the member that it was", harm)
		}
		w.until("ready", func() bool { return n.ready })
		w.until("whole", w.whole)
		w.until("votes", func() bool {
			voters, learners := w.nodes[victim%3+1].b.quorum.Members()
			return len(voters) == 3 && len(learners) == 0 && slices.ContainsFunc(voters, n.b.quorum.Is)
		})
		w.check(want)
		if c := total(w.scrub()); c.StartedOver+c.Repairs+c.Damages != 0 {
			t.Errorf("%s: its logs were not of use: %+v", what, c)
		}
	}
}

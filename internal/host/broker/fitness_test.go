package broker

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/host/partition"
)

// unfitness is what the image says of a replica, Fit when nothing.
func (w *world) unfitness(n *worldNode) metadata.Fitness {
	for _, u := range w.partition().Unfit {
		if u.Node == n.id {
			return u.Fitness
		}
	}
	return metadata.Fit
}

// failSync has the next sync of a node's replica fail, and the cluster know.
func (w *world) failSync(n *worldNode, p *partition.Partition) {
	n.faults.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.Contains(op.Name, "t-0") {
			return syscall.EIO
		}
		return nil
	})
	w.produce(1)
	w.until("failed", func() bool { return p.Failure() != nil && w.unfitness(n) == metadata.Failed })
	n.faults.SetHook(nil)
}

// A disk is slow, and then it fails: its log is opened again all the same, and
// an operator is told which of the two it is.
func TestSlowReplicaThatFailsIsOpenedAgain(t *testing.T) {
	w := newWorld(t, 3)
	w.create(smallSegments, 5)
	w.until("in sync", w.whole)
	n := w.nodes[w.partition().Leader]
	p := w.replicaOf(n.id)
	n.b.noteSlow(w.now, p, 3*time.Second)
	w.until("slow", func() bool { return w.unfitness(n) == metadata.Slow && w.partition().Leader != n.id })
	w.failSync(n, p)
	want := w.contents(w.partition().Leader)
	w.until("back in sync", w.whole)
	w.check(want)
}

// A node that may open no more files leaves a new replica to the others, and
// takes it once it may.
func TestNodeWithoutFilesLeavesAReplicaToOthers(t *testing.T) {
	w := newWorld(t, 3)
	w.full = map[kafka.NodeID]error{2: errors.New("too many logs")}
	w.create(smallSegments, 0)
	n := w.nodes[2]
	w.until("unfit", func() bool { return w.unfitness(n) == metadata.Failed && w.partition().Leader != n.id })
	w.produce(5)
	for end := w.now.Add(time.Minute); w.now.Before(end); w.step() { // it is tried again and again
		if w.replicaOf(n.id) != nil {
			t.Fatal("the replica is open")
		}
	}
	w.full = nil
	want := w.contents(w.partition().Leader)
	w.until("in sync", w.whole)
	w.check(want)
}

// The files of a partition that could not be opened go with its topic, as those
// of any other.
func TestUnopenedPartitionIsDeletedWithItsTopic(t *testing.T) {
	w := newWorld(t, 3)
	w.create(smallSegments, 5)
	w.until("in sync", w.whole)
	n := w.nodes[2]
	n.kill()
	n.start()
	n.faults.SetHook(func(op vfs.Op) error {
		if (op.Kind == vfs.OpOpen || op.Kind == vfs.OpRead) && strings.Contains(op.Name, "t-0") {
			return syscall.EIO
		}
		return nil
	})
	w.until("failed", func() bool { return w.unfitness(n) == metadata.Failed && w.replicaOf(n.id) == nil })
	n.faults.SetHook(nil)
	name, deleted := "t", false
	w.nodes[1].b.Control(w.now, controller.DeleteTopics{Topics: []controller.TopicRef{{Name: name}}}, 10*time.Second,
		func(controller.Response, kafka.ErrorCode) { deleted = true })
	w.until("deleted", func() bool { return deleted && n.b.Image().TopicByName(name) == nil })
	for dir, what := range map[string]string{"data/wal/partitions": "a deleted partition", "data/wal/deleted": "what is to be removed"} {
		w.until(what+" is gone", func() bool {
			entries, err := n.fs.List(dir)
			return err == nil && len(entries) == 0
		})
	}
}

// A disk may fail just when a deleted partition is to be put away.
func TestDeletedPartitionGoesOnceTheDiskWorks(t *testing.T) {
	w := newWorld(t, 3)
	w.create(nil, 5)
	w.until("in sync", w.whole)
	n := w.nodes[2]
	failed := 0
	n.faults.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRename && strings.Contains(op.Name, "t-0") || op.Kind == vfs.OpMkdir && strings.Contains(op.Name, "deleted") {
			failed++
			return syscall.EIO
		}
		return nil
	})
	deleted := false
	w.nodes[1].b.Control(w.now, controller.DeleteTopics{Topics: []controller.TopicRef{{Name: "t"}}}, 10*time.Second,
		func(controller.Response, kafka.ErrorCode) { deleted = true })
	w.until("deleted", func() bool { return deleted && n.b.Image().TopicByName("t") == nil })
	w.until("tried again", func() bool { return failed > 1 })
	n.faults.SetHook(nil)
	for dir, what := range map[string]string{"data/wal/partitions": "a deleted partition", "data/wal/deleted": "what is to be removed"} {
		w.until(what+" is gone", func() bool {
			entries, err := n.fs.List(dir)
			return err == nil && len(entries) == 0
		})
	}
}

// Nobody can have taken the lead of a partition that is on one node only: its
// readers notice nothing of the question.
func TestOnlyReplicaAnswersWhileItReportsItself(t *testing.T) {
	w := newWorld(t, 1)
	w.create(nil, 5)
	n := w.nodes[1]
	p := w.replicaOf(n.id)
	n.b.offerLeads(w.now, []controller.ReplicaReport{{Topic: p.TopicID(), Partition: p.Number(), Fitness: metadata.Damaged}})
	res := p.ListOffsets(w.now, partition.ListOffsetsRequest{Timestamp: kafka.TimestampLatest, ReplicaID: partition.NoReplicaID, CurrentLeaderEpoch: kafka.NoLeaderEpoch})
	if res.Code != kafka.None {
		t.Errorf("while it is reported the only replica answers %v", res.Code)
	}
}

// A leader that asks to be rid of its lead may have lost it before it knows, to
// one that commits without it: until it knows it says nothing that may be over.
func TestLeaderWithASlowDiskAnswersNothingUntilItKnowsWhoLeads(t *testing.T) {
	for name, configs := range map[string]map[string]string{"granted": {}, "refused": {"min.insync.replicas": "3"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.create(configs, 5)
			w.until("in sync", w.whole)
			n := w.nodes[w.partition().Leader]
			p := w.replicaOf(n.id)
			end := func() kafka.ErrorCode {
				return p.ListOffsets(w.now, partition.ListOffsetsRequest{Timestamp: kafka.TimestampLatest, ReplicaID: partition.NoReplicaID, CurrentLeaderEpoch: kafka.NoLeaderEpoch}).Code
			}
			if code := end(); code != kafka.None {
				t.Fatalf("the leader answers %v", code)
			}
			n.b.noteSlow(w.now, p, 3*time.Second)
			want := kafka.ErrNotLeaderOrFollower
			if name == "refused" && n.b.Controller() == n.id {
				want = kafka.None // it has refused itself already
			}
			if code := end(); code != want {
				t.Errorf("while it is not known who leads the answer is %v, want %v", code, want)
			}
			w.until("decided", func() bool {
				return name == "refused" && end() == kafka.None || n.b.Image().TopicByName("t").Partition(0).Leader != n.id
			})
			if len(n.b.fitness.offered) != 0 {
				t.Errorf("it is decided, but still offered are %v", n.b.fitness.offered)
			}
		})
	}
}

// hangReopening has a node's replica fail, and returns what opens its log again
// in the background: it takes its time.
func (w *world) hangReopening(n *worldNode) (open func()) {
	w.t.Helper()
	p := w.replicaOf(n.id)
	key := partitionKey{p.TopicID(), 0}
	w.failSync(n, p)
	for end := w.now.Add(time.Minute); !n.b.reopens(key) && w.now.Before(end); {
		if len(w.queue) == 0 {
			w.step()
			continue
		}
		fn := w.queue[0]
		w.queue = w.queue[1:]
		fn()
	}
	if !n.b.reopens(key) {
		w.t.Fatal("is not opened again")
	}
	open = w.queue[len(w.queue)-1]
	w.queue = w.queue[:len(w.queue)-1]
	return open
}

func (w *world) deleteTopic() {
	w.t.Helper()
	deleted := false
	w.nodes[1].b.Control(w.now, controller.DeleteTopics{Topics: []controller.TopicRef{{Name: "t"}}}, 10*time.Second,
		func(controller.Response, kafka.ErrorCode) { deleted = true })
	w.until("deleted", func() bool { return deleted && w.partition() == nil })
}

// A failed log is opened again in the background while its topic is deleted: the
// directory that this makes anew goes, too.
func TestPartitionThatIsDeletedWhileItIsOpenedAgainLeavesNothing(t *testing.T) {
	w := newWorld(t, 3)
	w.create(smallSegments, 5)
	w.until("in sync", w.whole)
	n := w.nodes[w.partition().Leader%3+1]
	open := w.hangReopening(n)
	dir := n.b.partitionDir("t", 0)
	gone := func() bool {
		_, err := n.fs.Stat(dir)
		return errors.Is(err, vfs.ErrNotExist)
	}
	w.deleteTopic()
	w.until("gone", gone)
	w.queue = append(w.queue, open)
	w.step()
	w.step()
	if !gone() {
		t.Error("its files are there")
	}
}

// A failed log is opened again on a disk that hangs, and meanwhile its directory
// comes to hold another replica: that one is opened when the first has been given up.
func TestLogIsNotOpenedWhereOneIsBeingOpenedAgain(t *testing.T) {
	for name, replace := range map[string]func(w *world, n *worldNode){
		"moved away and back": func(w *world, n *worldNode) {
			others := slices.DeleteFunc([]kafka.NodeID{1, 2, 3}, func(id kafka.NodeID) bool { return id == n.id })
			w.move(others...)
			w.until("moved away", func() bool { return !w.partition().IsReplica(n.id) })
			w.move(append(others, n.id)...)
		},
		"deleted and made again": func(w *world, _ *worldNode) {
			w.deleteTopic()
			w.create(smallSegments, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.create(smallSegments, 5)
			w.until("in sync", w.whole)
			n := w.nodes[w.partition().Leader%3+1]
			open := w.hangReopening(n)
			replace(w, n)
			for end := w.now.Add(time.Minute); w.now.Before(end); w.step() {
				if w.replicaOf(n.id) != nil {
					t.Fatal("two logs have one directory")
				}
			}
			w.queue = append(w.queue, open)
			w.until("in sync", w.whole)
			w.check(w.contents(w.partition().Leader))
		})
	}
}

// endAt asks a replica for its end as a consumer does.
func (w *world) endAt(p *partition.Partition) kafka.ErrorCode {
	return p.ListOffsets(w.now, partition.ListOffsetsRequest{Timestamp: kafka.TimestampLatest, ReplicaID: partition.NoReplicaID, CurrentLeaderEpoch: kafka.NoLeaderEpoch}).Code
}

// loseReports has a node's reports not arrive.
func (w *world) loseReports(n *worldNode) {
	w.lose = func(from, _ kafka.NodeID, frame []byte) bool {
		return from == n.id && frame[0] == frameQuestion && bytes.Contains(frame, []byte("ReportReplicas"))
	}
}

// move has the partition moved to these nodes.
func (w *world) move(replicas ...kafka.NodeID) {
	w.t.Helper()
	to := controller.Reassignment{TopicPartition: kafka.TopicPartition{Topic: "t"}, Replicas: replicas}
	answered := false
	w.nodes[1].b.Control(w.now, controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{to}}, 10*time.Second, func(r controller.Response, code kafka.ErrorCode) {
		answered = true
		if code != kafka.None || r.(controller.AlterPartitionReassignmentsResult).Partitions[0].Error != kafka.None {
			w.t.Errorf("move: %v %+v", code, r)
		}
	})
	w.until("answered", func() bool { return answered })
}

// createOn makes the topic t with one partition on these nodes, and fills it.
func (w *world) createOn(replicas ...kafka.NodeID) {
	w.t.Helper()
	topic := controller.NewTopic{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignment: []controller.Assignment{{Replicas: replicas}}}
	w.nodes[1].b.Control(w.now, controller.CreateTopics{Topics: []controller.NewTopic{topic}}, 10*time.Second, func(r controller.Response, code kafka.ErrorCode) {
		if code != kafka.None || r.(controller.CreateTopicsResult).Topics[0].Error != kafka.None {
			w.t.Errorf("create: %v %+v", code, r)
		}
	})
	w.until("topic created", func() bool { return w.partition() != nil && w.replicaOf(replicas[0]) != nil })
	w.produce(3)
	w.until("in sync", w.whole)
}

// A leader that finds itself unfit, cannot tell the controller, and is fit again
// by then goes on. It stayed fenced, and its partition without an answer, until
// the next finding: there was nothing left to report.
func TestLeaderThatIsFitAgainBeforeItCouldReportGoesOn(t *testing.T) {
	w := newWorld(t, 3)
	n, controllerID := w.follower()
	w.createOn(n.id, controllerID, 6-n.id-controllerID)
	p := w.replicaOf(n.id)
	key := partitionKey{p.TopicID(), p.Number()}
	w.loseReports(n)
	n.b.findUnfit(w.now, key, metadata.Damaged, "a segment is bad")
	for range 100 {
		w.step()
	}
	n.b.findFit(w.now, key)
	if code := w.endAt(p); code != kafka.ErrNotLeaderOrFollower {
		t.Errorf("while it is not known who leads the answer is %v", code)
	}
	w.lose = nil
	w.until("it goes on", func() bool { return w.endAt(p) == kafka.None && len(n.b.fitness.offered) == 0 })
	if leader := w.partition().Leader; leader != n.id {
		t.Errorf("node %d leads, want %d", leader, n.id)
	}
}

// A replica that has reported itself is out of the in-sync set soon, and whoever
// leads then commits without it. When it is elected in between, it answers
// nothing until it knows what became of its report.
func TestReplicaThatComesToLeadWhileItReportsItselfAnswersNothing(t *testing.T) {
	w := newWorld(t, 3)
	n, controllerID := w.follower()
	leader := w.nodes[6-n.id-controllerID]
	w.createOn(leader.id, n.id, controllerID)
	p := w.replicaOf(n.id)
	key := partitionKey{p.TopicID(), p.Number()}
	w.loseReports(n)
	n.b.findUnfit(w.now, key, metadata.Damaged, "a segment is bad")
	leader.kill()
	w.until("it leads", func() bool { _, leads := p.Leads(); return leads })
	if code := w.endAt(p); code != kafka.ErrNotLeaderOrFollower {
		t.Errorf("while its report is on the way it answers %v", code)
	}
	w.lose = nil
	w.until("decided", func() bool { return w.unfitness(n) == metadata.Damaged && w.partition().Leader == controllerID })
	n.b.findFit(w.now, key)
	leader.start()
	w.until("in sync", w.whole)
}

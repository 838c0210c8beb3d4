package broker

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// created is what a client was answered.
type created struct {
	answers int
	code    kafka.ErrorCode
}

// createAt has a node create the topic t. The answer is there when it has come.
func (w *world) createAt(n *worldNode) *created {
	got := &created{}
	n.b.Control(w.now, controller.CreateTopics{Topics: []controller.NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 3}}}, 30*time.Second,
		func(r controller.Response, code kafka.ErrorCode) {
			if got.answers++; code == kafka.None {
				code = r.(controller.CreateTopicsResult).Topics[0].Error
			}
			got.code = code
		})
	return got
}

func (w *world) wantSoon(begin time.Time, got *created) {
	w.t.Helper()
	w.until("an answer", func() bool { return got.answers > 0 })
	for range 100 {
		w.step()
	}
	if got.code != kafka.None || got.answers != 1 {
		w.t.Errorf("%d answers, the last is %v", got.answers, got.code)
	}
	if took := w.now.Sub(begin); took > time.Second {
		w.t.Errorf("answered after %v", took)
	}
}

// What was on its way when a connection broke is lost. The question was asked
// again when the controller changed only: a client waited for its timeout.
func TestALostQuestionIsAskedAgainWithANewConnection(t *testing.T) {
	for name, lost := range map[string]struct {
		frame  byte // what is lost
		answer bool // it is lost on the way to the asker
	}{"question": {frameQuestion, false}, "answer": {frameAnswer, true}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			other, controllerID := w.follower()
			leader := w.nodes[controllerID]
			from, to := other, leader
			if lost.answer {
				from, to = leader, other
			}
			count := 0
			w.lose = func(f, t kafka.NodeID, frame []byte) bool {
				lose := f == from.id && t == to.id && frame[0] == lost.frame
				if lose {
					count++
				}
				return lose
			}
			begin := w.now
			got := w.createAt(other)
			for range 50 {
				w.step()
			}
			if count == 0 || got.answers > 0 {
				t.Fatalf("nothing was lost: %d frames, %d answers", count, got.answers)
			}
			w.lose = nil
			from.b.PeerDown(w.now, to.id, false)
			from.b.PeerUp(w.now, to.id)
			w.wantSoon(begin, got)
		})
	}
}

// What a node has applied is lost with its connection, and nothing more is to be
// applied: clients wait for it all the same.
func TestWhatIsAppliedIsToldAgainWithANewConnection(t *testing.T) {
	w := newWorld(t, 3)
	other, controllerID := w.follower()
	leader := w.nodes[controllerID]
	w.lose = func(f, _ kafka.NodeID, frame []byte) bool { return f == other.id && frame[0] == frameApplied }
	begin := w.now
	got := w.createAt(leader)
	for range 50 {
		w.step()
	}
	if got.answers > 0 {
		t.Fatal("nobody waits")
	}
	w.lose = nil
	other.b.PeerDown(w.now, leader.id, false)
	other.b.PeerUp(w.now, leader.id)
	w.wantSoon(begin, got)
}

// A node that was behind gets a snapshot of all, and nothing after it that it would
// tell of: clients wait for it all the same.
func TestWhatASnapshotHasIsToldToo(t *testing.T) {
	w := newWorld(t, 3)
	other, controllerID := w.follower()
	leader := w.nodes[controllerID]
	w.lose = func(_, to kafka.NodeID, frame []byte) bool { return to == other.id && frame[0] == frameRaft }
	begin := w.now
	got := w.createAt(leader)
	for range 20 {
		w.step()
	}
	image := leader.b.Image()
	if image.TopicByName("t") == nil || got.answers > 0 {
		t.Fatal("nobody waits")
	}
	if err := leader.b.quorum.Compact(w.now, image.Offset(), image.EncodeSnapshot(nil), 0); err != nil {
		t.Fatal(err)
	}
	w.lose = nil
	w.wantSoon(begin, got)
	if !strings.Contains(w.log.String(), "metadata snapshot installed") {
		t.Error("there was no snapshot")
	}
}

// The lead goes to another node and comes back before the asker hears of either.
// The answer was lost with a connection, and there was a new one when its
// receiver did not lead: the asker asks again.
func TestAQuestionIsAskedAgainOfTheSameNodeInALaterEpoch(t *testing.T) {
	w := newWorld(t, 3)
	other, controllerID := w.follower()
	leader := w.nodes[controllerID]
	third := w.nodes[6-other.id-leader.id]
	w.lose = func(_, to kafka.NodeID, _ []byte) bool { return to == other.id }
	begin := w.now
	got := w.createAt(other)
	w.step()
	epoch := other.b.quorumView.Load().Epoch
	lead := func(from, to *worldNode) {
		for _, m := range from.b.quorum.Peers() {
			if m.Node == to.id {
				from.b.quorum.TransferLeadership(m.Member)
			}
		}
		from.b.drain(w.now)
		w.until("leads", func() bool { return to.b.active != nil && to.b.active.begun })
	}
	lead(leader, third)
	leader.b.PeerDown(w.now, other.id, false)
	leader.b.PeerUp(w.now, other.id)
	lead(third, leader)
	if now := *other.b.quorumView.Load(); now.Leader != leader.id || now.Epoch != epoch {
		t.Fatalf("it knows of %+v", now)
	}
	w.lose = nil
	w.wantSoon(begin, got)
}

// Connections break while their frames are on the way, too: then the question
// comes twice, in any order, and is decided once.
func TestAQuestionThatComesTwiceIsDecidedOnce(t *testing.T) {
	w := newWorld(t, 3)
	other, controllerID := w.follower()
	leader := w.nodes[controllerID]
	var late []byte
	var answers [][]byte
	w.lose = func(f, t kafka.NodeID, frame []byte) bool {
		if f == other.id && frame[0] == frameQuestion && bytes.Contains(frame, []byte("CreateTopics")) && late == nil {
			late = frame
			return true
		}
		if t == other.id && frame[0] == frameAnswer && bytes.Contains(frame, []byte("CreateTopics")) {
			answers = append(answers, frame)
		}
		return false
	}
	begin := w.now
	got := w.createAt(other)
	w.step()
	if late == nil {
		t.Fatal("the question was not sent")
	}
	other.b.PeerUp(w.now, leader.id)
	other.b.PeerUp(w.now, leader.id)
	for range 3 {
		w.step()
	}
	for range 2 {
		if err := leader.b.HandleControl(w.now, other.id, late); err != nil {
			t.Fatal(err)
		}
		w.step()
	}
	w.wantSoon(begin, got)
	for _, a := range answers[1:] {
		if !bytes.Equal(a, answers[0]) {
			t.Errorf("two answers: %q and %q", answers[0], a)
		}
	}
	if len(answers) < 2 {
		t.Errorf("%d answers came", len(answers))
	}
}

// A question stays on its way while another controller decides it, and comes when
// its receiver has become the controller again: what it asks for is over.
func TestAQuestionThatComesInALaterEpochIsNotDecided(t *testing.T) {
	w := newWorld(t, 3)
	w.create(nil, 0)
	other, first := w.follower()
	var late []byte
	w.lose = func(f, t kafka.NodeID, frame []byte) bool {
		lose := f == other.id && t == first && frame[0] == frameQuestion && bytes.Contains(frame, []byte("IncrementalAlterConfigs"))
		if lose {
			late = frame
		}
		return lose
	}
	answered := w.ask(other, setConfig("retention.ms", "1000000"))
	w.until("asked", func() bool { return late != nil })
	w.nodes[first].kill()
	w.until("another decides", answered)
	w.lose = nil
	w.until("set anew", w.ask(other, setConfig("retention.ms", "2000000")))
	second := w.nodes[other.b.Controller()]
	delete(second.b.active.heard, other.id) // one that was not asked the same
	if err := second.b.HandleControl(w.now, other.id, late); err != nil {
		t.Fatal(err)
	}
	w.until("set once more", w.ask(other, setConfig("segment.bytes", "2000000")))
	if got := w.configAt(second.id, "retention.ms"); got != "2000000" {
		t.Errorf("retention.ms is %s", got)
	}
}

// A repetition whose answer is forgotten is left alone: deciding it anew would
// answer what is not so. The same number of another process is a new question.
func TestAForgottenAnswerIsNotMadeUp(t *testing.T) {
	w := newWorld(t, 3)
	other, controllerID := w.follower()
	leader := w.nodes[controllerID]
	got := w.createAt(other)
	w.until("an answer", func() bool { return got.answers > 0 })
	number := other.b.asked.next
	allocate := func(kind byte, number uint64) {
		frame := appendEnvelope(binary.BigEndian.AppendUint64([]byte{kind}, number), controller.AllocateProducerIDs{Node: other.id, Epoch: other.b.lifecycle.epoch}, 0)
		if err := leader.b.HandleControl(w.now, other.id, frame); err != nil {
			t.Fatal(err)
		}
		w.step()
	}
	decided := func() uint64 { return uint64(leader.b.active.next) }
	number++
	allocate(frameQuestion, number)
	w.until("decided", func() bool { return leader.b.active.heard[other.id].questions[number].answered })
	before := leader.b.active.heard[other.id]
	for until := w.now.Add(2 * heardFor); w.now.Before(until); w.step() {
	}
	allocate(frameQuestion, number+5) // has it look what is old
	if before.questions[number] != nil || before.forgotten < number {
		t.Fatalf("%d answers are kept after %v, the last forgotten one is %d", len(before.questions), 2*heardFor, before.forgotten)
	}
	is := decided()
	allocate(frameRepeat, number)
	if decided() != is {
		t.Error("a question whose answer is forgotten was decided anew")
	}
	allocate(frameRepeat, number+1)
	if decided() == is {
		t.Error("a question that was never heard was left alone")
	}
	is = decided()
	allocate(frameQuestion, number+1<<lifeShift)
	if decided() == is {
		t.Error("the question of a new process was taken for one of its predecessor")
	}
	for i := range uint64(2 * heardMax) {
		allocate(frameQuestion, number+1<<lifeShift+1+i)
	}
	w.until("all are decided", func() bool { return len(leader.b.active.tickets) == 0 })
	if n := len(leader.b.active.heard[other.id].questions); n > heardMax {
		t.Errorf("%d answers are kept", n)
	}
}

// A controller that has led for months has answered more heartbeats than it can
// count while leases run.
func TestAControllerThatLedForLongResignsAtOnce(t *testing.T) {
	w := newWorld(t, 3)
	_, controllerID := w.follower()
	leader := w.nodes[controllerID]
	leader.b.active.next = 1 << 60
	begin := w.now
	got := w.createAt(leader)
	w.step()
	leader.b.resign(w.now)
	w.wantSoon(begin, got)
}

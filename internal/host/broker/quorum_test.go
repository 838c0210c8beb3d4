package broker

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// A controller that has lost the majority leads on until it notices: it must not
// say meanwhile that there is a quorum.
func TestALostQuorumIsNotDescribed(t *testing.T) {
	w := newWorld(t, 3)
	_, id := w.follower()
	describe := func() (r controller.Response, code kafka.ErrorCode) {
		answered := false
		w.nodes[id].b.Control(w.now, controller.DescribeQuorum{}, 3*time.Second, func(res controller.Response, c kafka.ErrorCode) { answered, r, code = true, res, c })
		w.until("answer", func() bool { return answered })
		return r, code
	}
	if r, code := describe(); code != kafka.None || len(r.(controller.DescribeQuorumResult).Voters) != 3 {
		t.Fatalf("with all nodes: %v %v", code, r)
	}
	w.lose = func(from, to kafka.NodeID, _ []byte) bool { return from != id || to != id } // nobody is told that the others are gone
	if r, code := describe(); code != kafka.ErrRequestTimedOut {
		t.Errorf("alone: %v %v", code, r)
	}
}

// What is proposed is told of once, however long it takes to be committed.
func TestAMemberIsAddedOnce(t *testing.T) {
	w := newWorld(t, 3)
	_, id := w.follower()
	held := true
	w.lose = func(from, to kafka.NodeID, frame []byte) bool {
		var m raftpb.Message
		return held && from == id && frame[0] == frameRaft && proto.Unmarshal(frame[1:], &m) == nil && m.GetType() == raftpb.MsgApp
	}
	b := w.nodes[id].b
	if err := b.HandleControl(w.now, 7, append([]byte{frameJoin}, wish(5, "h:7")...)); err != nil {
		t.Fatal(err)
	}
	for end := w.now.Add(time.Second); w.now.Before(end); w.step() {
	}
	if !b.Quorum().Leading {
		t.Fatal("the controller has gone")
	}
	held = false
	added := func() (count int) {
		for _, e := range b.Image().Events(1000) {
			if e.Kind == "quorum member added" && e.Node == 7 {
				count++
			}
		}
		return count
	}
	w.until("event", func() bool { return added() > 0 })
	for end := w.now.Add(2 * time.Second); w.now.Before(end); w.step() {
	}
	if n := added(); n != 1 {
		t.Errorf("%d events", n)
	}
}

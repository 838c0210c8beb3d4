package broker

import (
	"slices"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/controller"
)

const foundersWait = 5 * time.Second

// found starts some of the nodes of a world with an empty cluster.
func found(t *testing.T, nodes int, started ...kafka.NodeID) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), nodes: map[kafka.NodeID]*worldNode{}, foundersWait: foundersWait}
	for i := range nodes {
		id := kafka.NodeID(i + 1)
		w.nodes[id] = &worldNode{w: w, id: id, fs: vfs.NewMem()}
	}
	for _, id := range started {
		w.nodes[id].start()
	}
	return w
}

// A client that comes early to a cluster that is being founded would be refused
// a topic with a replica on each node, and no group would have a coordinator:
// franz-go's tests asked for one once, and waited 30 s for it in vain.
func TestFoundersServeWhenAllHaveRegistered(t *testing.T) {
	w := found(t, 3, 1, 2)
	unfenced := func(id kafka.NodeID) bool { return !w.nodes[id].b.lifecycle.fenced }
	w.until("two nodes are unfenced", func() bool { return unfenced(1) && unfenced(2) })
	for until := w.now.Add(foundersWait / 2); w.now.Before(until); w.step() {
		if w.nodes[1].ready || w.nodes[2].ready {
			t.Fatal("a node serves, and node 3 has not registered")
		}
	}
	w.nodes[3].start()
	w.until("a node serves", func() bool {
		return slices.ContainsFunc([]kafka.NodeID{1, 2, 3}, func(id kafka.NodeID) bool { return w.nodes[id].ready })
	})
	var got kafka.ErrorCode = -1
	w.nodes[1].b.Control(w.now, controller.CreateTopics{Topics: []controller.NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 3}}}, time.Minute,
		func(r controller.Response, code kafka.ErrorCode) {
			if got = code; code == kafka.None {
				got = r.(controller.CreateTopicsResult).Topics[0].Error
			}
		})
	w.until("the topic is answered", func() bool { return got != -1 })
	if got != kafka.None {
		t.Errorf("a topic with three replicas, as soon as a node serves: %v", got)
	}
}

// A founder that does not come keeps a majority waiting for some seconds only,
// and only as long as the cluster is new.
func TestAMissingFounderIsWaitedForOnce(t *testing.T) {
	w := found(t, 3, 1, 2)
	begin := w.now
	w.until("two nodes serve", func() bool { return w.nodes[1].ready && w.nodes[2].ready })
	if waited := w.now.Sub(begin); waited < foundersWait || waited > foundersWait+2*time.Second {
		t.Errorf("they began to serve after %v", waited)
	}
	created := false
	w.nodes[1].b.Control(w.now, controller.CreateTopics{Topics: []controller.NewTopic{{Name: "t", Partitions: 1, ReplicationFactor: 2}}}, time.Minute,
		func(r controller.Response, code kafka.ErrorCode) { created = code == kafka.None })
	w.until("a topic is created", func() bool { return created })
	w.nodes[1].kill()
	w.nodes[1].start()
	begin = w.now
	w.until("node 1 serves again", func() bool { return w.nodes[1].ready })
	if waited := w.now.Sub(begin); waited >= foundersWait {
		t.Errorf("node 1 came back to a cluster with a topic, and began to serve after %v", waited)
	}
}

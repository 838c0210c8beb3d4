package api_test

import (
	"slices"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// Hundreds of logs are opened in the background, however long that takes: Raft
// and heartbeats go on, and the topic is told to be there when all of it is.
func TestManyPartitionsAreOpenedInTheBackground(t *testing.T) {
	const count = 500
	nodes := newCluster(t, 3, nil)
	w := nodes[0].world
	open := func() (n []int) {
		for _, node := range nodes {
			n = append(n, len(node.broker.Partitions()))
		}
		return n
	}
	w.hold = true
	answered := false
	nodes[1].broker.Control(w.now, controller.CreateTopics{Topics: []controller.NewTopic{{Name: "many", Partitions: count, ReplicationFactor: 3}}}, time.Minute,
		func(r controller.Response, code kafka.ErrorCode) {
			answered = true
			if res, ok := r.(controller.CreateTopicsResult); !ok || code != kafka.None || res.Topics[0].Error != kafka.None {
				t.Errorf("the topic was not created: %v, %v", code, r)
			}
			if got := open(); slices.Min(got) < count {
				t.Errorf("the topic was told to be there while the nodes had opened %v of %d partitions", got, count)
			}
		})
	w.advance(5 * time.Second)
	if answered || slices.Max(open()) > 0 {
		t.Errorf("answered %v, and the nodes have opened %v partitions, though the background stands still", answered, open())
	}
	for i, node := range nodes {
		if !node.broker.MayServe(w.now) || !node.broker.Ready() {
			t.Errorf("node %d does not serve while it opens logs", i+1)
		}
	}
	w.hold = false
	for range 100 {
		w.advance(10 * time.Millisecond)
	}
	if !answered {
		t.Errorf("no answer; the nodes have opened %v of %d partitions", open(), count)
	}
}

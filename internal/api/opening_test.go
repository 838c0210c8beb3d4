package api_test

import (
	"slices"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// Hundreds of logs are opened a few at a time, so that Raft and heartbeats have
// their turn in between; the topic is told to be there when all of it is.
func TestManyPartitionsAreOpenedInTurns(t *testing.T) {
	const count, most = 500, 64
	nodes := newCluster(t, 3, nil)
	w := nodes[0].world
	open := func() (n []int) {
		for _, node := range nodes {
			n = append(n, len(node.broker.Partitions()))
		}
		return n
	}
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
	between := 0 // calls that had their turn while logs were being opened
	for !answered {
		if len(w.posted) == 0 {
			t.Fatalf("nothing goes on, and the nodes have opened %v of %d partitions", open(), count)
		}
		fn := w.posted[0]
		w.posted = w.posted[1:]
		before := open()
		fn(w.now)
		after := open()
		for i := range nodes {
			if after[i]-before[i] > most {
				t.Fatalf("node %d opened %d logs in one call, at most %d are expected", i+1, after[i]-before[i], most)
			}
			if after[i] == before[i] && after[i] > 0 && after[i] < count {
				between++
			}
		}
	}
	if between < count/most {
		t.Errorf("%d calls had their turn while logs were opened", between)
	}
}

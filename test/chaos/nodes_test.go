package chaos

import (
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// Each node of three is killed in turn, under load, and comes back.
func TestThreeNodesSurviveKill9OfOne(t *testing.T) {
	rounds := sized(1, 30)
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	topics := map[string]int32{"replicated": 3}
	createTopic(t, c, "replicated", 3, map[string]string{"min.insync.replicas": "2"})
	var h history.History
	load, err := traffic.StartIdempotent(c.Addresses(), &h, traffic.LoadOptions{Topic: "replicated", Partitions: 3, InFlightMax: 100})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		time.Sleep(700 * time.Millisecond)
		c.Nodes[i%3].Kill()
		time.Sleep(1500 * time.Millisecond)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	for _, err := range load.Stop() {
		t.Errorf("a client saw: %v", err)
	}
	for place, gap := range h.LongestGap() {
		t.Logf("%v: longest time without an acknowledgement %v", place, gap.Round(time.Millisecond))
		if bound := sized(4*time.Second, 1500*time.Millisecond); gap > bound {
			t.Errorf("%v: longer than %v", place, bound)
		}
	}
	verify(t, c, &h, topics, once)
}

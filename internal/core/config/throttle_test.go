package config

import (
	"testing"

	"chronik/internal/base/kafka"
)

func TestThrottledReplicasAreNamedByPartitionAndNode(t *testing.T) {
	for _, c := range []struct {
		list      string
		partition int32
		node      kafka.NodeID
		want      bool
	}{
		{"", 0, 1, false},
		{"*", 7, 3, true},
		{"0:1,1:2", 0, 1, true},
		{"0:1,1:2", 1, 2, true},
		{"0:1,1:2", 1, 1, false},
		{"0:1, 10:2", 10, 2, true},
		{"00:01", 0, 1, true},
		{"10:1", 0, 1, false},
	} {
		if got := Throttles(c.list, c.partition, c.node); got != c.want {
			t.Errorf("%q names partition %d on node %d: %v", c.list, c.partition, c.node, got)
		}
	}
}

package config

import (
	"fmt"
	"strconv"
	"strings"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/core/throttle"
)

// Throttles says whether a value of leader.replication.throttled.replicas or
// follower.replication.throttled.replicas names the replica of a partition on
// a node (KIP-73).
func Throttles(list string, partition int32, node kafka.NodeID) bool {
	if list == "" || list == "*" {
		return list == "*"
	}
	want := fmt.Sprintf("%d:%d", partition, node)
	for rest := list; rest != ""; {
		var element string
		element, rest, _ = strings.Cut(rest, ",")
		if element = strings.TrimSpace(element); element == want || sameReplica(element, partition, node) {
			return true
		}
	}
	return false
}

// sameReplica knows numbers with leading zeros, too.
func sameReplica(element string, partition int32, node kafka.NodeID) bool {
	p, n, _ := strings.Cut(element, ":")
	a, errA := strconv.ParseInt(p, 10, 32)
	b, errB := strconv.ParseInt(n, 10, 32)
	return errA == nil && errB == nil && int32(a) == partition && kafka.NodeID(b) == node
}

// ReplicationRate is what was set for any broker, not only this node's, of
// leader.replication.throttled.rate or follower.replication.throttled.rate, in
// bytes per second; throttle.Unlimited when nothing was.
func ReplicationRate(m *metadata.Image, node kafka.NodeID, name string) int64 {
	for _, r := range []metadata.ConfigResource{brokerResource(node), {Type: metadata.ResourceBroker}} {
		if v, ok := m.Config(r)[name]; ok {
			return parseInt(v)
		}
	}
	return throttle.Unlimited
}

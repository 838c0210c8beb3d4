package controller

import (
	"fmt"
	"testing"

	"chronik/internal/base/kafka"
)

func BenchmarkPeerLost(b *testing.B) {
	w := newWorld(b, nil, 0)
	for n := kafka.NodeID(1); n <= 3; n++ {
		w.register(n, byte(n), byte(n), "", true)
		w.beat(n, false)
	}
	for i := range 30 {
		w.decide(CreateTopics{Topics: []NewTopic{{Name: fmt.Sprintf("t%d", i), Partitions: 100, ReplicationFactor: 3}}})
	}
	b.Run("partitions=3000", func(b *testing.B) {
		for b.Loop() {
			w.c.Decide(w.now, PeerLost{1, kafka.NoBrokerEpoch}, 1)
		}
	})
	b.Run("heartbeat", func(b *testing.B) {
		h := Heartbeat{Node: 2, Epoch: w.c.Image().Broker(2).Epoch, MetadataOffset: w.c.Image().Offset()}
		for b.Loop() {
			w.c.Decide(w.now, h, 1)
		}
	})
}

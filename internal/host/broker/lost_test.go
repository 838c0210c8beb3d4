package broker

import (
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// A follower hears nothing from another follower, so no frame tells it that one
// is back. It would take it for gone in the next election, and fence it if it
// became the controller.
func TestAPeerThatRegistersAnewIsNotTakenForLost(t *testing.T) {
	b := &Broker{
		opts: Options{Node: 1}, env: Env{Peers: func(map[kafka.NodeID]string) {}},
		lost:       map[kafka.NodeID]bool{2: true, 3: true},
		membership: membership{joiners: map[kafka.NodeID]joiner{}, removed: map[kafka.NodeID]bool{}},
	}
	b.image.Store(metadata.Empty())
	before := &metadata.Broker{ID: 2, Epoch: 5}
	fenced := *before
	fenced.Fenced = true
	b.noteBrokers(&metadata.Delta{Brokers: []metadata.BrokerDelta{{Node: 2, Old: before, New: &fenced}}})
	if !b.lost[2] {
		t.Error("a broker that was fenced counts as back")
	}
	back := fenced
	back.Epoch = 9
	b.noteBrokers(&metadata.Delta{Brokers: []metadata.BrokerDelta{{Node: 2, Old: &fenced, New: &back}}})
	if b.lost[2] || !b.lost[3] {
		t.Errorf("lost after node 2 has registered anew: %v, want node 3 alone", b.lost)
	}
}

package broker

import (
	"fmt"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
	"chronik/internal/core/throttle"
	"chronik/internal/host/partition"
)

// A follower's rate is shared by those who lead the partitions that it catches
// up with, by the number of these.
func TestFollowersRateIsShared(t *testing.T) {
	brokers := func(n kafka.NodeID) metadata.ConfigResource {
		return metadata.ConfigResource{Type: metadata.ResourceBroker, Name: fmt.Sprint(n)}
	}
	topic := kafka.TopicID{1}
	records := []metadata.Record{
		&metadata.TopicRecord{ID: topic, Name: "t"},
		&metadata.ConfigRecord{Resource: brokers(3), Key: followerRate, Value: "900"},
		&metadata.ConfigRecord{Resource: brokers(1), Key: leaderRate, Value: "5000"},
		&metadata.ConfigRecord{Resource: metadata.ConfigResource{Type: metadata.ResourceTopic, Name: "t"}, Key: "follower.replication.throttled.replicas", Value: "0:3,1:3,2:3,4:3"},
	}
	for n := kafka.NodeID(1); n <= 3; n++ {
		records = append(records, &metadata.BrokerRecord{State: &metadata.Broker{ID: n}})
	}
	// 3 is in sync with the fourth, and the last is not throttled.
	for i, leader := range []kafka.NodeID{1, 1, 2, 2, 2} {
		p := &metadata.Partition{Replicas: []kafka.NodeID{leader, 3}, InSync: []kafka.NodeID{leader}, Leader: leader, LastLeader: kafka.NoNode}
		if i == 4 {
			p.InSync = p.Replicas
		}
		records = append(records, &metadata.PartitionRecord{Topic: topic, Partition: int32(i), State: p})
	}
	image, _, err := metadata.Empty().Apply(1, records)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	for node, want := range map[kafka.NodeID]struct{ follower, leader int64 }{1: {600, 5000}, 2: {300, throttle.Unlimited}} {
		b := &Broker{opts: Options{Node: node}}
		if b.resolver, err = config.NewResolver(node, nil); err != nil {
			t.Fatal(err)
		}
		b.image.Store(image)
		b.reviewThrottles(now)
		if got := b.throttles.followers[3].Rate(); got != want.follower || len(b.throttles.followers) != 1 {
			t.Errorf("node %d gives follower 3 %d bytes/s, want %d", node, got, want.follower)
		}
		if got := b.throttles.leader.Rate(); got != want.leader {
			t.Errorf("node %d sends %d bytes/s, want %d", node, got, want.leader)
		}
		env := partitionEnv{b}
		limits := partition.Limits{Leader: true, Follower: true, To: 3}
		sent := 0
		begun := now
		for end := begun.Add(100 * time.Second); now.Before(end); {
			bytes, wait := env.Admit(now, limits, 1<<20)
			if wait > 0 {
				now = now.Add(wait)
				continue
			}
			env.Sent(now, limits, -bytes/2)
			sent += bytes - bytes/2
		}
		if most := int(want.follower)*101 + pieceMin; sent > most || sent < most*7/10 {
			t.Errorf("node %d: %d bytes in 100 s, most %d", node, sent, most)
		}
		if got := b.ThrottledBytes(); got != int64(sent) {
			t.Errorf("counted %d of %d bytes", got, sent)
		}
		now = begun
	}
}

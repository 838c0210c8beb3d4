package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
	"chronik/internal/core/throttle"
	"chronik/internal/host/partition"
)

// Limits on replication (KIP-73). Leaders push, so both limits are kept where
// the bytes come from: that of a leader on its own node, and that of a follower
// by all who lead partitions for which it catches up, each for its share of
// these partitions. They know the limit and the share from the metadata. Only
// replicas that are not in sync are held back, and only what they get counts.

const (
	leaderRate   = "leader.replication.throttled.rate"
	followerRate = "follower.replication.throttled.rate"
)

type throttles struct {
	bytes atomic.Int64 // sent under a limit

	mu        sync.Mutex
	leader    throttle.Bucket
	followers map[kafka.NodeID]*throttle.Bucket // of those that have a limit
}

// reviewThrottles takes over what the image says of limits.
func (b *Broker) reviewThrottles(now time.Time) {
	image := b.image.Load()
	rates := make(map[kafka.NodeID]int64)
	for _, br := range image.Brokers() {
		if rate := config.ReplicationRate(image, br.ID, followerRate); br.ID != b.opts.Node && rate != throttle.Unlimited {
			rates[br.ID] = rate
		}
	}
	if len(rates) > 0 {
		b.shareRates(image, rates)
	}
	t := &b.throttles
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leader.SetRate(now, b.resolver.BrokerInt(image, leaderRate))
	for node := range t.followers {
		if _, ok := rates[node]; !ok {
			delete(t.followers, node)
		}
	}
	for node, rate := range rates {
		if t.followers == nil {
			t.followers = make(map[kafka.NodeID]*throttle.Bucket)
		}
		if t.followers[node] == nil {
			t.followers[node] = new(throttle.Bucket)
		}
		t.followers[node].SetRate(now, rate)
	}
}

// shareRates makes of each follower's rate the share of this node.
func (b *Broker) shareRates(image *metadata.Image, rates map[kafka.NodeID]int64) {
	all, own := make(map[kafka.NodeID]int64), make(map[kafka.NodeID]int64)
	for _, t := range image.Topics() {
		list := b.resolver.Topic(image, t.Name).FollowerThrottled
		if list == "" {
			continue
		}
		for i, p := range t.Partitions {
			for _, n := range p.Replicas {
				if _, limited := rates[n]; !limited || p.Leader == kafka.NoNode || p.IsInSync(n) || !config.Throttles(list, int32(i), n) {
					continue
				}
				all[n]++
				if p.Leader == b.opts.Node {
					own[n]++
				}
			}
		}
	}
	for n, rate := range rates {
		if own[n] > 0 {
			rates[n] = max(rate/all[n]*own[n], min(rate, 1))
		}
	}
}

// Pieces are so small that several fit into a second, and the largest batch is
// not waited for in vain: who reads gets at least one whole.
const pieceMin = 16 << 10

// Admit implements partition.Env.
func (e partitionEnv) Admit(now time.Time, l partition.Limits, want int) (int, time.Duration) {
	t := &e.b.throttles
	t.mu.Lock()
	defer t.mu.Unlock()
	buckets := t.of(l)
	for _, bucket := range buckets {
		if wait := bucket.Wait(now); wait > 0 {
			return 0, wait
		}
	}
	for _, bucket := range buckets {
		want = int(min(int64(want), max(bucket.Rate()/4, pieceMin)))
	}
	for _, bucket := range buckets {
		bucket.Take(now, want)
	}
	t.bytes.Add(int64(want))
	return want, 0
}

// Sent implements partition.Env.
func (e partitionEnv) Sent(now time.Time, l partition.Limits, more int) {
	t := &e.b.throttles
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, bucket := range t.of(l) {
		bucket.Take(now, more)
	}
	t.bytes.Add(int64(more))
}

// ThrottledBytes is how much followers got that catch up under a limit.
func (b *Broker) ThrottledBytes() int64 { return b.throttles.bytes.Load() }

// of lists the buckets that the limits name. The lock is held.
func (t *throttles) of(l partition.Limits) []*throttle.Bucket {
	buckets := make([]*throttle.Bucket, 0, 2)
	if l.Leader {
		buckets = append(buckets, &t.leader)
	}
	if f := t.followers[l.To]; l.Follower && f != nil {
		buckets = append(buckets, f)
	}
	return buckets
}

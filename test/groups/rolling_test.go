package groups

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/chaos/cluster"
)

// owners notes who has each partition of one topic, and whom it was taken from.
type owners struct {
	mu    sync.Mutex
	t     *testing.T
	by    map[int32]string
	since map[int32]time.Time // without an owner
	moved int
	pause []time.Duration // of partitions that moved
	twice int
}

func (o *owners) take(member string, partitions []int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range partitions {
		if other := o.by[p]; other != "" {
			o.twice++
			o.t.Errorf("partition %d is given to %s while %s has it", p, member, other)
		}
		o.by[p] = member
		if at, ok := o.since[p]; ok {
			o.moved++
			o.pause = append(o.pause, time.Since(at))
			delete(o.since, p)
		}
	}
}

func (o *owners) drop(member string, partitions []int32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range partitions {
		if o.by[p] == member {
			delete(o.by, p)
			o.since[p] = time.Now()
		}
	}
}

func (o *owners) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.by)
}

// member is a member of a KIP-848 group that does nothing but own partitions.
type member struct {
	id     string
	client *kgo.Client
	owners *owners
	topic  [16]byte
	epoch  int32
	held   []int32
	leave  chan struct{}
	left   chan struct{}
	lost   *atomic.Int64 // times that it was fenced or forgotten
	asked  *atomic.Int64
	taken  *atomic.Int64 // partitions taken from it while it stayed
}

func (m *member) run(ctx context.Context) {
	defer close(m.left)
	full := true
	wait := time.Duration(0)
	for {
		select {
		case <-time.After(wait):
		case <-m.leave:
			m.owners.drop(m.id, m.held)
			m.epoch = -1
			for range 100 {
				if _, err := m.heartbeat(ctx, false); err == nil || ctx.Err() != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			return
		case <-ctx.Done():
			return
		}
		resp, err := m.heartbeat(ctx, full)
		wait = 20 * time.Millisecond
		if err != nil {
			continue // the coordinator is about to move
		}
		m.asked.Add(1)
		switch err := kerr.ErrorForCode(resp.ErrorCode); {
		case err == nil:
		case errors.Is(err, kerr.FencedMemberEpoch), errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.GroupIDNotFound):
			m.lost.Add(1)
			m.owners.drop(m.id, m.held)
			m.held, m.epoch, full = nil, 0, true
			continue
		default:
			continue
		}
		full = false
		m.epoch = resp.MemberEpoch
		wait = time.Duration(resp.HeartbeatIntervalMillis) * time.Millisecond
		if resp.Assignment != nil && m.reconcile(resp) {
			wait, full = 0, true // say at once what is held now
		}
	}
}

// reconcile takes over the assignment; it says whether that changed anything.
func (m *member) reconcile(resp *kmsg.ConsumerGroupHeartbeatResponse) bool {
	var now []int32
	for _, t := range resp.Assignment.Topics {
		now = append(now, t.Partitions...)
	}
	slices.Sort(now)
	var gone, got []int32
	for _, p := range m.held {
		if !slices.Contains(now, p) {
			gone = append(gone, p)
		}
	}
	for _, p := range now {
		if !slices.Contains(m.held, p) {
			got = append(got, p)
		}
	}
	m.taken.Add(int64(len(gone)))
	m.owners.drop(m.id, gone)
	m.owners.take(m.id, got)
	m.held = now
	return len(gone)+len(got) > 0
}

func (m *member) heartbeat(ctx context.Context, full bool) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = "g", m.id, m.epoch
	req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = -1, nil, nil
	if full || m.epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 60000, []string{"t"}
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if len(m.held) > 0 && m.epoch > 0 {
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: m.topic, Partitions: m.held})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	resp, err := m.client.Request(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp.(*kmsg.ConsumerGroupHeartbeatResponse), nil
}

// TestRollingRestartLeavesOthersAlone restarts each of the members of a KIP-848
// group. A partition changes hands because its member goes or a new one comes,
// and no other does; then the same with the coordinator killed meanwhile.
func TestRollingRestartLeavesOthersAlone(t *testing.T) {
	members, partitions := sized(40, 100), sized(120, 300)
	c := cluster.Run(t, cluster.Options{Nodes: 3, Flags: []string{"--group-consumer-heartbeat-interval-ms", "500"}})
	clients := []*kgo.Client{newClient(t, c), newClient(t, c), newClient(t, c), newClient(t, c)}
	topic := createTopic(t, clients[0], "t", int32(partitions))
	coordinator(t, clients[0], "g")
	o := &owners{t: t, by: map[int32]string{}, since: map[int32]time.Time{}}
	var lost, taken, asked atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	started := 0
	start := func() *member {
		started++
		m := &member{
			id: fmt.Sprintf("m%03d", started), client: clients[started%len(clients)], owners: o, topic: topic.ID,
			leave: make(chan struct{}), left: make(chan struct{}), lost: &lost, taken: &taken, asked: &asked,
		}
		go m.run(ctx)
		return m
	}
	var all []*member
	for range members {
		all = append(all, start())
	}
	settle := func(why string) {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); o.count() < partitions; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: only %d of %d partitions have an owner", why, o.count(), partitions)
			}
		}
		time.Sleep(1200 * time.Millisecond) // two heartbeats
		for end := time.Now().Add(60 * time.Second); o.count() < partitions && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		}
	}
	settle("the first assignment")
	roll := func(why string, kill bool) {
		t.Helper()
		o.mu.Lock()
		o.moved, o.pause = 0, nil
		o.mu.Unlock()
		before := taken.Load()
		for i := range all {
			close(all[i].leave)
			<-all[i].left
			all[i] = start()
			if kill && i == members/3 {
				n := c.Node(coordinator(t, clients[0], "g"))
				n.Kill()
				defer func() {
					if err := n.Start(); err != nil {
						t.Error(err)
					}
				}()
			}
			time.Sleep(100 * time.Millisecond)
		}
		settle(why)
		o.mu.Lock()
		defer o.mu.Unlock()
		t.Logf("%s: %d members over %d partitions; %d moves, without an owner for %v at the median and %v at most; %d partitions taken from members that stayed; %d heartbeats",
			why, members, partitions, o.moved, percentile(o.pause, .5), percentile(o.pause, 1), taken.Load()-before, asked.Load())
		// Each restart frees what the member had, and takes as many from others
		// for the new one: what is more was moved for nothing.
		if share := partitions / members; int(taken.Load()-before) > members*(share+1) {
			t.Errorf("%s: %d partitions were taken from members that stayed", why, taken.Load()-before)
		}
		if lost.Load() > 0 {
			t.Errorf("%s: members were fenced or forgotten %d times", why, lost.Load())
		}
	}
	roll("rolling restart", false)
	roll("rolling restart with a coordinator killed", true)
	stop()
	for _, m := range all {
		<-m.left
	}
}

package groups

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/chaos/cluster"
)

// ledger is what was acknowledged of one group.
type ledger struct {
	group string
	acked atomic.Int64
	next  int64
	reads atomic.Int64
}

// TestCommittedOffsetsNeverGoBack commits and reads without pause while the
// coordinators are killed, and stopped and continued: no answer of any node,
// whatever it takes itself for, is older than what was acknowledged before the
// question.
func TestCommittedOffsetsNeverGoBack(t *testing.T) {
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	client := newClient(t, c)
	createTopic(t, client, "t", 1)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var acks, reads, back atomic.Int64
	var groups []*ledger
	for i := range 12 {
		l := &ledger{group: fmt.Sprintf("group-%d", i)}
		l.acked.Store(-1)
		groups = append(groups, l)
	}
	for _, l := range groups {
		wg.Go(func() {
			for ctx.Err() == nil {
				if commit(ctx, client, l) {
					acks.Add(1)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	for _, n := range c.Nodes {
		direct := newDirect(t, n)
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l := groups[i%len(groups)]
				before := l.acked.Load()
				got, ok := fetch(ctx, direct, l.group)
				if !ok {
					time.Sleep(time.Millisecond)
					continue
				}
				reads.Add(1)
				l.reads.Add(1)
				if got < before {
					back.Add(1)
					t.Errorf("%s: node %d said %d, and %d was acknowledged before", l.group, n.ID, got, before)
				}
			}
		})
	}
	time.Sleep(2 * time.Second)
	for round := range sized(6, 40) {
		n := c.Node(coordinator(t, client, groups[round%len(groups)].group))
		before := acks.Load()
		if round%2 == 0 {
			n.Pause()
			time.Sleep(3 * time.Second)
			n.Resume()
		} else {
			n.Kill()
			time.Sleep(2 * time.Second)
			if err := n.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := n.WaitReady(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		if acks.Load() == before {
			t.Errorf("round %d: nothing was committed", round)
		}
	}
	stop()
	wg.Wait()
	for _, l := range groups {
		if l.reads.Load() == 0 {
			t.Errorf("%s was never read", l.group)
		}
	}
	t.Logf("%d commits acknowledged, %d reads, %d went back", acks.Load(), reads.Load(), back.Load())
}

// commit commits the next offset, again and again until it is known to be in.
func commit(ctx context.Context, client *kgo.Client, l *ledger) bool {
	l.next++
	for ctx.Err() == nil {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = l.group, -1
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = "t"
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Offset = l.next
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		resp, err := client.Request(one, req)
		cancel()
		if err == nil && resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode == 0 {
			l.acked.Store(l.next)
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// direct is a client that speaks with one node alone.
type direct struct {
	node *cluster.Node
	conn *kgo.Client
}

func newDirect(t *testing.T, n *cluster.Node) *direct {
	t.Helper()
	conn, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.RequestRetries(0), kgo.DialTimeout(time.Second), kgo.MaxVersions(byName()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &direct{n, conn}
}

// fetch asks the node for the group's offset; false when it does not answer with one.
func fetch(ctx context.Context, d *direct, group string) (int64, bool) {
	req := kmsg.NewPtrOffsetFetchRequest()
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	req.Groups = append(req.Groups, rg)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := d.conn.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return 0, false
	}
	g := resp.(*kmsg.OffsetFetchResponse).Groups
	if len(g) != 1 || g[0].ErrorCode != 0 {
		return 0, false
	}
	if len(g[0].Topics) == 0 {
		return -1, true
	}
	return g[0].Topics[0].Partitions[0].Offset, true
}

// TestManyGroupsMoveFast kills the node that coordinates a third of 10,000
// groups and measures how long their offsets cannot be read.
func TestManyGroupsMoveFast(t *testing.T) {
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	client := newClient(t, c)
	createTopic(t, client, "t", 1)
	const count = 10000
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1); i <= count; i = next.Add(1) {
				if !commit(t.Context(), client, &ledger{group: fmt.Sprintf("g%d", i)}) {
					return
				}
			}
		})
	}
	wg.Wait()
	victim := c.Node(coordinator(t, client, "g1"))
	var others []*direct
	for _, n := range c.Nodes {
		if n != victim {
			others = append(others, newDirect(t, n))
		}
	}
	// One group of each partition that the victim has, so as to know all.
	sample := map[string]bool{}
	victims := newDirect(t, victim)
	for i := 1; i <= 400; i++ {
		if _, ok := fetch(t.Context(), victims, fmt.Sprintf("g%d", i)); ok {
			sample[fmt.Sprintf("g%d", i)] = true
		}
	}
	killed := time.Now()
	victim.Kill()
	var loading, gone []time.Duration
	var mu sync.Mutex
	for _, d := range others {
		for g := range sample {
			wg.Go(func() {
				var began time.Time
				for time.Since(killed) < 20*time.Second {
					code, took := fetchCode(t.Context(), d, g)
					now := time.Now()
					if code == kerr.CoordinatorLoadInProgress.Code && began.IsZero() {
						began = now.Add(-took)
					}
					if code == 0 {
						mu.Lock()
						if !began.IsZero() {
							loading = append(loading, now.Sub(began))
						}
						gone = append(gone, now.Sub(killed))
						mu.Unlock()
						return
					}
					time.Sleep(2 * time.Millisecond)
					mu.Lock()
					done := len(gone) >= len(sample)
					mu.Unlock()
					if done {
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if len(gone) < len(sample) {
		t.Errorf("%d of %d groups were not readable within 20 s", len(sample)-len(gone), len(sample))
	}
	t.Logf("%d groups of the killed coordinator watched: unreadable for %v at the median, %v at most; %d saw COORDINATOR_LOAD_IN_PROGRESS, for %v at most",
		len(sample), percentile(gone, .5), percentile(gone, 1), len(loading), percentile(loading, 1))
	// The aim is 100 ms on a machine that has nothing else to do; short runs share theirs.
	if most := percentile(loading, 1); *long && most > 2*time.Second {
		t.Errorf("a coordinator took %v to load", most)
	}
	for _, n := range c.Nodes {
		if n == victim {
			continue
		}
		var slowest time.Duration
		for line := range strings.Lines(n.Log()) {
			if _, after, ok := strings.Cut(line, "duration="); ok && strings.Contains(line, "coordinator moved here") && strings.Contains(line, "epoch=1 ") {
				if d, err := time.ParseDuration(strings.Fields(after)[0]); err == nil {
					slowest = max(slowest, d)
				}
			}
		}
		t.Logf("node %d: the slowest partition took %v to load", n.ID, slowest)
	}
}

func fetchCode(ctx context.Context, d *direct, group string) (int16, time.Duration) {
	req := kmsg.NewPtrOffsetFetchRequest()
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	req.Groups = append(req.Groups, rg)
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := d.conn.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return -1, time.Since(began)
	}
	return resp.(*kmsg.OffsetFetchResponse).Groups[0].ErrorCode, time.Since(began)
}

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// group is a consumer group of three members, of which now and then one leaves
// and another one comes. Members commit what they have taken.
type group struct {
	r      *run
	name   string
	modern bool // KIP-848

	stop   context.CancelFunc
	wg     sync.WaitGroup
	joined atomic.Int64
	taken  atomic.Int64 // records, some of them more than once

	mu   sync.Mutex
	seen map[history.Place]map[int64]bool
	ids  map[history.Place]map[int64]history.ID
}

func newGroup(r *run, name string, modern bool) *group {
	return &group{r: r, name: name, modern: modern, seen: map[history.Place]map[int64]bool{}, ids: map[history.Place]map[int64]history.ID{}}
}

const members = 3

func (g *group) start() error {
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	for i := range members {
		rng := rand.New(rand.NewPCG(g.r.opts.seed, uint64(100+i)))
		g.wg.Go(func() {
			for ctx.Err() == nil {
				g.member(ctx, time.Duration(8+rng.IntN(40))*time.Second)
			}
		})
	}
	return nil
}

// member is one member from joining to leaving.
func (g *group) member(ctx context.Context, stay time.Duration) {
	if g.modern {
		ctx = context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true) //nolint:revive,staticcheck // the client wants it so
	}
	client, err := kgo.NewClient(append(traffic.ClientOptions(g.r.c.Addresses()), kgo.WithContext(ctx), kgo.ConsumerGroup(g.name),
		kgo.ConsumeTopics(g.r.load.names()...), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(300*time.Millisecond),
		kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.MetadataMaxAge(time.Second),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		g.r.violated("harness", "member of %s: %v", g.name, err)
		pause(ctx, time.Second)
		return
	}
	g.joined.Add(1)
	session, cancel := context.WithTimeout(ctx, stay)
	defer cancel()
	for session.Err() == nil {
		fetches := client.PollFetches(session)
		fetches.EachRecord(g.took)
		if !fetches.Empty() {
			commit, cancel := context.WithTimeout(ctx, 3*time.Second)
			_ = client.CommitUncommittedOffsets(commit) // what is not committed is read again
			cancel()
		}
		client.AllowRebalance()
	}
	closed := make(chan struct{})
	go func() {
		client.CloseAllowingRebalance()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(60 * time.Second):
		g.r.violated("client-hangs", "a member of %s could not leave within 60 s", g.name)
	}
}

func (g *group) took(rec *kgo.Record) {
	place := history.Place{Topic: rec.Topic, Partition: rec.Partition}
	id, err := traffic.Identify(rec.Value)
	if err != nil {
		g.r.violated("wrong-bytes", "%s: %v offset %d: %v", g.name, place, rec.Offset, err)
		return
	}
	g.taken.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.seen[place] == nil {
		g.seen[place], g.ids[place] = map[int64]bool{}, map[int64]history.ID{}
	}
	if was, ok := g.ids[place][rec.Offset]; ok && was != id {
		g.r.violated("inconsistent-offsets", "%s: %v offset %d was %v and is %v", g.name, place, rec.Offset, was, id)
	}
	g.seen[place][rec.Offset], g.ids[place][rec.Offset] = true, id
}

// drain waits until the group has got everything, and ends it.
func (g *group) drain(final map[history.Place][]history.Record, limit time.Duration) {
	begin := time.Now()
	for g.missing(final) > 0 && time.Since(begin) < limit {
		time.Sleep(50 * time.Millisecond)
	}
	g.r.say("%v; waited %v for its last records, %d are missing", g, time.Since(begin).Round(time.Millisecond), g.missing(final))
	g.stop()
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range history.CheckSeen("group "+g.name, final, g.seen) {
		g.r.violated(v.Kind, "%s", v.Detail)
	}
	at := make(map[history.Place]map[int64]history.ID, len(final))
	for place, records := range final {
		at[place] = make(map[int64]history.ID, len(records))
		for _, rec := range records {
			at[place][rec.Offset] = rec.ID
		}
	}
	for place, ids := range g.ids {
		for offset, id := range ids {
			if got, ok := at[place][offset]; !ok || got != id {
				g.r.violated("vanished-read", "group %s read %v at %v offset %d; in the end: %v", g.name, id, place, offset, got)
				return // one shows it
			}
		}
	}
}

func (g *group) missing(final map[history.Place][]history.Record) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	missing := 0
	for place, records := range final {
		missing += max(0, len(records)-len(g.seen[place]))
	}
	return missing
}

func (g *group) String() string {
	return fmt.Sprintf("group %s: %d records taken by %d members one after the other", g.name, g.taken.Load(), g.joined.Load())
}

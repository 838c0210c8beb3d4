package groups

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/cluster"
)

// received is which records have come to any consumer, and how often.
type received struct {
	mu    sync.Mutex
	times map[int]int
	by    map[string]int
}

func (r *received) note(who string, value []byte) {
	n, _ := strconv.Atoi(string(value))
	r.mu.Lock()
	r.times[n]++
	r.by[who]++
	r.mu.Unlock()
}

func (r *received) of(who string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[who]
}

// TestLiveGroupsChangeTheirProtocol lets a member of the consumer protocol join
// a classic group that reads, and leave it, under load: both protocols read
// side by side, and each record comes.
func TestLiveGroupsChangeTheirProtocol(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{"cooperative": kgo.CooperativeStickyBalancer(), "eager": kgo.RangeBalancer()} {
		t.Run(name, func(t *testing.T) { changeProtocol(t, balancer) })
	}
}

func changeProtocol(t *testing.T, balancer kgo.GroupBalancer) {
	c := cluster.Run(t, cluster.Options{Nodes: 3, Flags: []string{"--group-initial-rebalance-delay-ms", "100", "--group-consumer-heartbeat-interval-ms", "500"}})
	producer := newClient(t, c, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	createTopic(t, producer, "t", 6)
	r := &received{times: map[int]int{}, by: map[string]int{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	sent := 0
	var wg sync.WaitGroup
	halt := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-halt:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if err := producer.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte(strconv.Itoa(sent))}).FirstErr(); err != nil {
				t.Errorf("produce: %v", err)
				return
			}
			sent++
		}
	})
	read := func(who string, protocol ...kgo.Opt) (leave func()) {
		client, err := kgo.NewClient(append(protocol, kgo.SeedBrokers(c.Addresses()...), kgo.AlwaysRetryEOF(), kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g"),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(300*time.Millisecond), kgo.SessionTimeout(10*time.Second),
			kgo.AutoCommitInterval(200*time.Millisecond))...)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			for {
				fetches := client.PollFetches(ctx)
				if fetches.IsClientClosed() || ctx.Err() != nil {
					return
				}
				fetches.EachRecord(func(rec *kgo.Record) { r.note(who, rec.Value) })
			}
		})
		return func() { client.Close(); <-done }
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not within 60 s; read so far: %v", what, r.by)
			}
		}
	}
	grows := func(who string) func() bool {
		n := r.of(who)
		return func() bool { return r.of(who) > n+20 }
	}
	typeIs := func(kind string) func() bool {
		return func() bool {
			list, err := kadm.NewClient(producer).ListGroupsByType(t.Context(), []string{kind}, "Stable")
			_, ok := list["g"]
			return err == nil && ok
		}
	}
	leaveA, leaveB := read("classic a", kgo.Balancers(balancer)), read("classic b", kgo.Balancers(balancer))
	until("classic members read", grows("classic a"))
	until("classic members read", grows("classic b"))
	leaveC := read("consumer c", kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer())
	until("the group is one of the consumer protocol", typeIs("consumer"))
	for _, who := range []string{"consumer c", "classic a", "classic b"} {
		until(who+" reads in the mixed group", grows(who))
	}
	leaveB()
	until("the others go on", grows("classic a"))
	leaveC()
	until("the group is a classic one again", typeIs("classic"))
	until("classic a reads alone", grows("classic a"))
	close(halt)
	until("all is read", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.times) >= sent
	})
	leaveA()
	stop()
	wg.Wait()
	again := 0
	for _, n := range r.times {
		again += n - 1
	}
	t.Logf("%d records sent, each read; %d read again: %s", sent, again, fmt.Sprint(r.by))
}

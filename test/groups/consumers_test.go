package groups

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/chaos/cluster"
)

var (
	processes   = flag.Bool("processes", false, "TestConsumersThatStayAreNotPaused: each consumer is a process of its own")
	memberCount = flag.Int("members", 0, "the same: how many consumers; default 6, or 100 in long runs")
)

// memberEnv has the brokers' addresses for a process that is one consumer.
const memberEnv = "CHRONIK_TEST_MEMBER"

// consumed is what a consumer tells: that it was given a partition ('a'), that
// one was taken from it ('r'), or that it has read a record ('c').
type consumed struct {
	kind      byte
	partition int32
	offset    int64
	sent, at  int64 // microseconds since 1970; sent is when the leader appended the record
}

// consume is one consumer of the KIP-848 protocol, until ctx ends; then it
// leaves the group.
func consume(ctx context.Context, seeds []string, emit func(consumed)) error {
	tell := func(kind byte) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
			for _, list := range topics {
				for _, p := range list {
					emit(consumed{kind: kind, partition: p, at: time.Now().UnixMicro()})
				}
			}
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.AlwaysRetryEOF(), kgo.ConsumerGroup("consumers"), kgo.ConsumeTopics("p"), kgo.ServerSideBalancer(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(2*time.Second), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.DialTimeout(time.Second),
		kgo.OnPartitionsAssigned(tell('a')), kgo.OnPartitionsRevoked(tell('r')), kgo.OnPartitionsLost(tell('r')))
	if err != nil {
		return err
	}
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		now := time.Now().UnixMicro()
		fetches.EachRecord(func(r *kgo.Record) {
			emit(consumed{kind: 'c', partition: r.Partition, offset: r.Offset, sent: r.Timestamp.UnixMicro(), at: now})
		})
	}
	return nil
}

// consumerMain is the process of one consumer: it writes what it is told, a
// line each, until it is terminated.
func consumerMain(seeds string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	out := bufio.NewWriter(os.Stdout)
	var mu sync.Mutex
	go func() {
		for ; ; time.Sleep(50 * time.Millisecond) {
			mu.Lock()
			out.Flush()
			mu.Unlock()
		}
	}()
	err := consume(ctx, strings.Split(seeds, ","), func(c consumed) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, "%c %d %d %d %d\n", c.kind, c.partition, c.offset, c.sent, c.at)
	})
	mu.Lock()
	out.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startConsumer starts one, in this process or in one of its own. What stop
// returns is closed when it has left.
func startConsumer(t *testing.T, seeds []string, emit func(consumed)) (stop func() <-chan struct{}) {
	t.Helper()
	done := make(chan struct{})
	if !*processes {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			defer close(done)
			if err := consume(ctx, seeds, emit); err != nil {
				t.Error(err)
			}
		}()
		return func() <-chan struct{} { cancel(); return done }
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), memberEnv+"="+strings.Join(seeds, ","))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		readConsumed(out, emit)
		if err := cmd.Wait(); err != nil {
			t.Errorf("a consumer's process: %v", err)
		}
	}()
	return func() <-chan struct{} { _ = cmd.Process.Signal(syscall.SIGTERM); return done }
}

func readConsumed(out io.Reader, emit func(consumed)) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var c consumed
		if _, err := fmt.Sscanf(lines.Text(), "%c %d %d %d %d", &c.kind, &c.partition, &c.offset, &c.sent, &c.at); err == nil {
			emit(c)
		}
	}
}

// readings is what all consumers have told.
type readings struct {
	mu      sync.Mutex
	owner   map[int32]int   // by partition: the consumer that was given it last
	since   map[int32]int64 // since when
	owned   int
	next    map[int32]int64 // offset that was read last, plus 1
	skipped int
	phase   string
	delays  map[string]map[int32][]time.Duration // by phase and partition: of records sent while the reader had it
	moved   map[string]int
	outside map[string][]time.Duration // by phase: of a reader that is in no group
}

func (r *readings) take(member int) func(consumed) {
	return func(c consumed) {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch c.kind {
		case 'a':
			if _, ok := r.owner[c.partition]; ok {
				r.moved[r.phase]++
			} else {
				r.owned++
			}
			r.owner[c.partition], r.since[c.partition] = member, c.at
		case 'c':
			if next, ok := r.next[c.partition]; ok && c.offset > next {
				r.skipped++
			}
			r.next[c.partition] = max(r.next[c.partition], c.offset+1)
			if r.owner[c.partition] == member && c.sent > r.since[c.partition] {
				if r.delays[r.phase] == nil {
					r.delays[r.phase] = map[int32][]time.Duration{}
				}
				r.delays[r.phase][c.partition] = append(r.delays[r.phase][c.partition], time.Duration(c.at-c.sent)*time.Microsecond)
			}
		}
	}
}

func (r *readings) enter(phase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = phase
}

// report says how late records came that a consumer got which had the partition
// already when they were sent: what a rebalance of others does to it.
func (r *readings) report(t *testing.T, phase string, without map[int32]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all, most []time.Duration
	for p, list := range r.delays[phase] {
		if !without[p] {
			all = append(all, list...)
			most = append(most, percentile(list, 1))
		}
	}
	beside := r.outside[phase]
	t.Logf("%s: a reader outside of the group got %d records after %v (median), %v (p99), %v (p99.9), %v at most",
		phase, len(beside), percentile(beside, .5), percentile(beside, .99), percentile(beside, .999), percentile(beside, 1))
	t.Logf("%s: %d records of %d partitions that did not move meanwhile came after %v (median), %v (p99), %v (p99.9), %v at most; "+
		"the longest of each partition: %v at the median, %v at the 90th percentile; %d partitions changed hands",
		phase, len(all), len(most), percentile(all, .5), percentile(all, .99), percentile(all, .999), percentile(all, 1), percentile(most, .5), percentile(most, .9), r.moved[phase])
	if len(all) == 0 {
		t.Errorf("%s: nothing was read by consumers that stayed", phase)
	}
}

// TestConsumersThatStayAreNotPaused restarts every consumer of a KIP-848 group,
// one after the other, and reports how late records of the partitions came that
// stayed where they were, before and meanwhile; then the same with the
// coordinator killed. Every record must be read.
func TestConsumersThatStayAreNotPaused(t *testing.T) {
	members, partitions := sized(6, 100), sized(int32(18), 300)
	if *memberCount > 0 {
		members, partitions = *memberCount, int32(3**memberCount)
	}
	c := cluster.Run(t, cluster.Options{Nodes: 3, Flags: []string{"--group-consumer-heartbeat-interval-ms", "500"}})
	client := newClient(t, c, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	byBroker := "LogAppendTime"
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), partitions, 3, map[string]*string{"message.timestamp.type": &byBroker}, "p"); err != nil {
		t.Fatal(err)
	}
	coordinator(t, client, "consumers")
	r := &readings{owner: map[int32]int{}, since: map[int32]int64{}, next: map[int32]int64{}, phase: "start",
		delays: map[string]map[int32][]time.Duration{}, moved: map[string]int{}, outside: map[string][]time.Duration{}}
	var stops []func() <-chan struct{}
	started := 0
	start := func() func() <-chan struct{} {
		started++
		return startConsumer(t, c.Addresses(), r.take(started))
	}
	for range members {
		stops = append(stops, start())
	}
	ctx, stopProducing := context.WithCancel(t.Context())
	produced := make(chan []int64)
	go func() { produced <- produceSteadily(ctx, t, client, partitions) }()
	go readBeside(ctx, t, c.Addresses(), r)
	wait := func(why string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(90 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			r.mu.Lock()
			done := ok()
			r.mu.Unlock()
			if done {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: not so after 90 s", why)
			}
		}
	}
	wait("every partition has an owner", func() bool { return r.owned == int(partitions) })
	time.Sleep(sized(1500*time.Millisecond, 5*time.Second)) // until they are where they stay
	r.enter("at rest")
	time.Sleep(sized(time.Second, 10*time.Second))
	roll := func(phase string, meanwhile func(i int)) {
		r.enter(phase)
		for i := range stops {
			<-stops[i]()
			stops[i] = start()
			meanwhile(i)
			time.Sleep(sized(150*time.Millisecond, 250*time.Millisecond))
		}
		time.Sleep(time.Second)
	}
	roll("rolling restart", func(int) {})
	led := map[int32]bool{}
	roll("rolling restart with the coordinator killed", func(i int) {
		if i != members/3 {
			return
		}
		id := coordinator(t, client, "consumers")
		for p, leader := range leaders(t, client, "p") {
			led[p] = leader == int32(id)
		}
		c.Node(id).Kill()
		t.Cleanup(func() { _ = c.Node(id).Start() })
	})
	stopProducing()
	ends := <-produced
	wait("everything is read", func() bool {
		for p, end := range ends {
			if r.next[int32(p)] < end {
				return false
			}
		}
		return true
	})
	for _, stop := range stops {
		<-stop()
	}
	r.report(t, "at rest", nil)
	r.report(t, "rolling restart", nil)
	r.report(t, "rolling restart with the coordinator killed", led) // those that the killed node led are without a leader for a moment
	if r.skipped > 0 {
		t.Errorf("records were passed over %d times", r.skipped)
	}
}

// produceSteadily sends a record to each partition ten times a second, and
// returns where the partitions end.
func produceSteadily(ctx context.Context, t *testing.T, client *kgo.Client, partitions int32) []int64 {
	ends := make([]int64, partitions)
	var mu sync.Mutex
	ticker := time.NewTicker(100 * time.Millisecond / time.Duration(partitions))
	defer ticker.Stop()
	for p := int32(0); ctx.Err() == nil; p = (p + 1) % partitions {
		client.Produce(context.Background(), &kgo.Record{Topic: "p", Partition: p, Value: []byte("value")}, func(r *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
				return
			}
			mu.Lock()
			ends[r.Partition] = max(ends[r.Partition], r.Offset+1)
			mu.Unlock()
		})
		<-ticker.C
	}
	if err := client.Flush(context.Background()); err != nil {
		t.Error(err)
	}
	return ends
}

// readBeside reads all that comes without being in the group: what is late there
// is late for another reason than the group's.
func readBeside(ctx context.Context, t *testing.T, seeds []string, r *readings) {
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.AlwaysRetryEOF(), kgo.ConsumeTopics("p"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.MetadataMinAge(100*time.Millisecond), kgo.DialTimeout(time.Second))
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		now := time.Now()
		r.mu.Lock()
		fetches.EachRecord(func(rec *kgo.Record) { r.outside[r.phase] = append(r.outside[r.phase], now.Sub(rec.Timestamp)) })
		r.mu.Unlock()
	}
}

// leaders are the leaders of a topic's partitions.
func leaders(t *testing.T, client *kgo.Client, topic string) map[int32]int32 {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &topic
	req.Topics = append(req.Topics, mt)
	resp, err := req.RequestWith(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	out := map[int32]int32{}
	for _, p := range resp.Topics[0].Partitions {
		out[p.Partition] = p.Leader
	}
	return out
}

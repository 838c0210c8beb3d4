package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// failover is the options of `bench failover`.
type failover struct {
	partitions string
	faults     string
	victims    string
	trials     int
	dir        string
	output     string
	settings   []string
	verbose    bool
	client     string
}

// failoverResult is the figures of one kind of fault.
type failoverResult struct {
	Client     string  `json:"client"`
	Fault      string  `json:"fault"`
	Victim     string  `json:"victim"`
	Partitions int     `json:"partitions"`
	Trials     int     `json:"trials"`
	Interval   float64 `json:"record_interval_ms"` // between two records of a partition: a gap is no less
	P50        float64 `json:"gap_p50_ms"`
	P99        float64 `json:"gap_p99_ms"`
	Max        float64 `json:"gap_max_ms"`
	Acked      int     `json:"acked_records"`
	Failed     int     `json:"failed_records"`
	Lost       int     `json:"lost_records"`
	Duplicated int     `json:"duplicated_records"`
	Reordered  int     `json:"reordered_records"`
}

func newBenchFailover() *cobra.Command {
	f := &failover{}
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure how long a lost node is felt, on a cluster of its own",
		Long: `Start three nodes on this machine, write to all partitions with acks=all, take a node
away, and measure for every partition the time between the last acknowledgement
before and the first after, as a client with default settings sees it. Then read
everything back and look for lost, duplicated and reordered records.

Faults: kill (SIGKILL), stop (SIGSTOP), term (SIGTERM), cut (the node's connections
carry nothing any more). Victims: leader (of partitions, and not the controller),
controller (leads no partition; with one partition only), both.

The client is franz-go. With --client default it has its defaults, with which it
waits up to 20 s for an answer on a connection that is cut, and up to some seconds
before it asks again who leads; with --client quick these times are set to a
fraction of a second, so that the figures are the cluster's.`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.partitions, "partitions", "p", "1,100,1000", "how many partitions, with commas between several")
	flags.StringVar(&f.faults, "faults", "kill,stop,cut,term", "faults, with commas between them")
	flags.StringVar(&f.victims, "victims", "leader,controller,both", "victims, with commas between them")
	flags.IntVar(&f.trials, "trials", 5, "how often each fault is tried")
	flags.StringVar(&f.dir, "dir", "", "where the nodes keep their data; nothing: a temporary directory")
	flags.StringVarP(&f.output, "output", "o", "text", "text or json")
	flags.StringArrayVar(&f.settings, "setting", nil, "NAME=VALUE of a setting of the nodes; may be repeated")
	flags.StringVar(&f.client, "client", "quick", "quick or default: the client's timeouts")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "write each trial's figures to standard error")
	cmd.RunE = trying(func(cmd *cobra.Command, args []string) error { return f.run(cmd) })
	return cmd
}

func (f *failover) run(cmd *cobra.Command) error {
	var counts []int
	for _, text := range strings.Split(f.partitions, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 10_000 {
			return usage("flag --partitions: got %q, takes numbers from 1 to 10000", f.partitions)
		}
		counts = append(counts, n)
	}
	for flag, given := range map[string]string{"faults": f.faults, "victims": f.victims} {
		takes := map[string][]string{"faults": {"kill", "stop", "cut", "term"}, "victims": {"leader", "controller", "both"}}[flag]
		for _, text := range strings.Split(given, ",") {
			if err := oneOf(flag, text, takes...); err != nil {
				return err
			}
		}
	}
	settings, err := pairs("setting", f.settings)
	if err != nil {
		return err
	}
	if err := oneOf("output", f.output, "text", "json"); err != nil {
		return err
	}
	if err := oneOf("client", f.client, "quick", "default"); err != nil {
		return err
	}
	if f.trials < 1 {
		return usage("flag --trials: got %d, takes a number from 1 on", f.trials)
	}
	runtime.LockOSThread() // the nodes end with the thread that has started them
	flags := []string{"--log-level=error"}
	for _, s := range settings {
		flags = append(flags, "--"+strings.ReplaceAll(s[0], ".", "-")+"="+s[1])
	}
	var results []failoverResult
	for _, fault := range strings.Split(f.faults, ",") {
		for _, count := range counts {
			for _, victim := range strings.Split(f.victims, ",") {
				if victim == "controller" && count > 1 {
					continue // every node leads some: the same as both
				}
				r, err := f.measure(cmd.Context(), cmd.ErrOrStderr(), flags, fault, victim, count)
				if err != nil {
					return fmt.Errorf("%s of %s with %d partitions: %w", fault, victim, count, err)
				}
				results = append(results, *r)
			}
		}
	}
	if f.output == "json" {
		return writeJSON(cmd.OutOrStdout(), results)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tVICTIM\tPARTITIONS\tTRIALS\tINTERVAL\tGAP P50\tP99\tMAX\tACKED\tFAILED\tLOST\tDUPLICATED\tREORDERED")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.0f ms\t%.0f ms\t%.0f ms\t%.0f ms\t%d\t%d\t%d\t%d\t%d\n", r.Fault, r.Victim, r.Partitions, r.Trials, r.Interval, r.P50, r.P99, r.Max, r.Acked, r.Failed, r.Lost, r.Duplicated, r.Reordered)
	}
	return w.Flush()
}

const (
	failoverTopic = "failover"
	failoverWarm  = time.Second
	failoverWait  = 60 * time.Second
)

// failoverRun is one cluster and the load on it.
type failoverRun struct {
	cluster  *localCluster
	network  *network // nil unless nodes are cut off
	admin    *administrator
	client   *kgo.Client
	parts    []failoverPart
	interval time.Duration
	count    int
}

// failoverPart is what is known of one partition's records: their values count
// up from 0.
type failoverPart struct {
	mu     sync.Mutex
	next   uint64
	acked  []uint64
	failed int
	last   time.Time     // of the last ack
	gap    time.Duration // the longest between two acks since it was reset
	sent   time.Time     // when the last record acked was sent
}

func (f *failover) measure(ctx context.Context, log io.Writer, flags []string, fault, victim string, count int) (*failoverResult, error) {
	dir := f.dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "chronik-failover-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
	}
	r := &failoverRun{count: count, interval: max(2*time.Millisecond, time.Duration(count)*100*time.Microsecond), parts: make([]failoverPart, count)}
	defer r.close()
	if err := r.open(ctx, dir, log, flags, fault == "cut", f.client == "quick"); err != nil {
		return nil, err
	}
	if err := r.createTopic(ctx, victim); err != nil {
		return nil, err
	}
	var gaps []time.Duration
	for trial := range f.trials {
		got, err := r.trial(ctx, fault, victim)
		if err != nil {
			return nil, fmt.Errorf("trial %d: %w", trial+1, err)
		}
		if f.verbose {
			fmt.Fprintf(log, "%s of %s, %d partitions, trial %d: longest gap %v\n", fault, victim, count, trial+1, slices.Max(got).Round(time.Millisecond))
		}
		gaps = append(gaps, got...)
	}
	slices.Sort(gaps)
	at := func(p float64) float64 {
		i := min(len(gaps)-1, int(float64(len(gaps))*p))
		return float64(gaps[i].Microseconds()) / 1000
	}
	result := &failoverResult{Client: f.client, Fault: fault, Victim: victim, Partitions: count, Trials: f.trials, Interval: float64(r.interval.Microseconds()) / 1000,
		P50: at(.5), P99: at(.99), Max: at(1)}
	return result, r.verify(ctx, result)
}

func (r *failoverRun) open(ctx context.Context, dir string, log io.Writer, flags []string, network, quick bool) error {
	var err error
	if r.cluster, err = newLocalCluster(3, dir, "127.0.0.1:0", "127.0.0.1:0", "", flags, log); err != nil {
		return err
	}
	if network {
		r.network = newNetwork()
		for _, n := range r.cluster.nodes {
			if n.kafkaFront, err = r.network.front(n.id, n.kafka, false); err != nil {
				return err
			}
			if n.peerFront, err = r.network.front(n.id, n.peer, true); err != nil {
				return err
			}
		}
	}
	starting, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	if err := r.cluster.startAll(starting); err != nil {
		return err
	}
	seeds := strings.Split(r.cluster.bootstrap(), ",")
	options := []kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.DefaultProduceTopic(failoverTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(1_000_000),
	}
	if quick {
		options = append(options, kgo.MetadataMinAge(20*time.Millisecond), kgo.ProduceRequestTimeout(200*time.Millisecond),
			kgo.RequestTimeoutOverhead(200*time.Millisecond), kgo.DialTimeout(200*time.Millisecond),
			kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	}
	if r.client, err = kgo.NewClient(options...); err != nil {
		return err
	}
	raw, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	r.admin = &administrator{kadm.NewClient(raw), raw}
	return nil
}

func (r *failoverRun) close() {
	if r.client != nil {
		r.client.Close()
		r.admin.raw.Close()
	}
	if r.cluster != nil {
		r.cluster.stopAll(3 * time.Second)
	}
	if r.network != nil {
		r.network.close()
	}
}

// createTopic places the leaders so that the victims are what they are called.
func (r *failoverRun) createTopic(ctx context.Context, victim string) error {
	controller, err := r.controller(ctx)
	if err != nil {
		return err
	}
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = 30_000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = failoverTopic, -1, -1
	config := kmsg.NewCreateTopicsRequestTopicConfig()
	config.Name, config.Value = "min.insync.replicas", kmsg.StringPtr("2")
	topic.Configs = append(topic.Configs, config)
	for p := range r.count {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition = int32(p)
		for i := range int32(3) {
			a.Replicas = append(a.Replicas, 1+(int32(p)+i)%3)
		}
		if r.count == 1 && victim != "both" { // another than the controller leads
			first := controller%3 + 1
			a.Replicas = []int32{first, first%3 + 1, (first+1)%3 + 1}
		} else if r.count == 1 {
			a.Replicas = []int32{controller, controller%3 + 1, (controller+1)%3 + 1}
		}
		topic.ReplicaAssignment = append(topic.ReplicaAssignment, a)
	}
	request.Topics = append(request.Topics, topic)
	response, err := kmsgRequest[*kmsg.CreateTopicsResponse](ctx, r.admin, request)
	if err == nil {
		err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	}
	return err
}

// controller is the node that leads the metadata quorum.
func (r *failoverRun) controller(ctx context.Context) (int32, error) {
	ctx, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	for {
		s, err := readClusterStatus(ctx, r.admin, "")
		if err == nil && s.Controller > 0 {
			return s.Controller, nil
		}
		select {
		case <-ctx.Done():
			return -1, fmt.Errorf("there is no controller: %w", errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settle waits until all replicas are in sync, and has preferred leaders lead.
func (r *failoverRun) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	if err := r.cluster.ready(ctx, 0); err != nil {
		return err
	}
	for {
		preferred := true
		topics, err := r.admin.ListTopics(ctx, failoverTopic)
		whole := err == nil && len(topics[failoverTopic].Partitions) == r.count
		for _, p := range topics[failoverTopic].Partitions {
			whole = whole && p.Err == nil && len(p.ISR) == 3
			preferred = preferred && p.Leader == p.Replicas[0]
		}
		if whole && preferred {
			return nil
		}
		if whole {
			r.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil) //nolint:errcheck // asked again below
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the replicas are not in sync again after %v", failoverWait)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// trial takes one node away under load and returns the gap of each partition.
func (r *failoverRun) trial(ctx context.Context, fault, victim string) ([]time.Duration, error) {
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	controller, err := r.controller(ctx)
	if err != nil {
		return nil, err
	}
	id := controller
	if victim == "leader" {
		id = controller%3 + 1
		if r.count == 1 {
			topics, err := r.admin.ListTopics(ctx, failoverTopic)
			if err != nil {
				return nil, err
			}
			id = topics[failoverTopic].Partitions[0].Leader
		}
	}
	node := r.cluster.nodes[id-1]
	loading, stopLoad := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		r.load(loading)
	}()
	defer func() { stopLoad(); <-loaded }()
	if err := r.everyAckedSince(ctx, time.Now()); err != nil { // warm
		return nil, err
	}
	time.Sleep(failoverWarm)
	r.reset()
	struck := time.Now()
	if err := r.strike(node, fault); err != nil {
		return nil, err
	}
	if err := r.everyAckedSince(ctx, struck); err != nil {
		return nil, err
	}
	time.Sleep(500 * time.Millisecond) // the in-sync set may have been waited for later
	gaps := make([]time.Duration, r.count)
	for i := range r.parts {
		p := &r.parts[i]
		p.mu.Lock()
		gaps[i] = p.gap
		p.mu.Unlock()
	}
	if err := r.heal(node, fault); err != nil {
		return nil, err
	}
	stopLoad()
	<-loaded
	flushing, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	return gaps, r.client.Flush(flushing)
}

func (r *failoverRun) strike(n *localNode, fault string) error {
	switch fault {
	case "kill":
		return n.signal(syscall.SIGKILL)
	case "stop":
		return n.signal(syscall.SIGSTOP)
	case "term":
		return n.signal(syscall.SIGTERM)
	}
	r.network.set(n.id, true)
	return nil
}

func (r *failoverRun) heal(n *localNode, fault string) error {
	switch fault {
	case "stop":
		return n.signal(syscall.SIGCONT)
	case "cut":
		r.network.set(n.id, false)
		return nil
	}
	<-n.gone()
	return r.cluster.start(n)
}

// load sends a record to every partition once per interval.
func (r *failoverRun) load(ctx context.Context) {
	step := max(time.Millisecond, r.interval/time.Duration(r.count))
	begun := time.Now()
	sent := 0
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		due := int(int64(time.Since(begun)) * int64(r.count) / int64(r.interval))
		for ; sent < due; sent++ {
			r.send(sent % r.count)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *failoverRun) send(i int) {
	p := &r.parts[i]
	p.mu.Lock()
	seq := p.next
	p.next++
	p.mu.Unlock()
	now := time.Now()
	record := &kgo.Record{Partition: int32(i), Value: binary.BigEndian.AppendUint64(nil, seq)}
	r.client.TryProduce(context.Background(), record, func(_ *kgo.Record, err error) {
		acked := time.Now()
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			if !errors.Is(err, kgo.ErrMaxBuffered) {
				p.failed++
			}
			return
		}
		p.acked = append(p.acked, seq)
		if !p.last.IsZero() {
			p.gap = max(p.gap, acked.Sub(p.last))
		}
		p.last, p.sent = acked, now
	})
}

// reset forgets the gaps so far.
func (r *failoverRun) reset() {
	for i := range r.parts {
		p := &r.parts[i]
		p.mu.Lock()
		p.gap = 0
		p.mu.Unlock()
	}
}

// everyAckedSince waits until each partition has acknowledged what was sent
// after t.
func (r *failoverRun) everyAckedSince(ctx context.Context, t time.Time) error {
	deadline := time.Now().Add(failoverWait)
	for i := range r.parts {
		p := &r.parts[i]
		for {
			p.mu.Lock()
			acked := p.sent.After(t)
			p.mu.Unlock()
			if acked {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("partition %d acknowledged nothing within %v", i, failoverWait)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}

// verify reads everything back.
func (r *failoverRun) verify(ctx context.Context, result *failoverResult) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	ends, err := r.admin.ListEndOffsets(ctx, failoverTopic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(r.cluster.bootstrap(), ",")...), kgo.ConsumeTopics(failoverTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	left := r.count
	read := make([][]uint64, r.count)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset == 0 {
			left--
		}
	})
	ctx, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	for left > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("not everything could be read back within %v", failoverWait)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			read[record.Partition] = append(read[record.Partition], binary.BigEndian.Uint64(record.Value))
			if end, _ := ends.Lookup(failoverTopic, record.Partition); record.Offset == end.Offset-1 {
				left--
			}
		})
	}
	for i := range r.parts {
		p := &r.parts[i]
		result.Acked += len(p.acked)
		result.Failed += p.failed
		seen := make(map[uint64]bool, len(read[i]))
		for j, seq := range read[i] {
			if seen[seq] {
				result.Duplicated++
			} else if j > 0 && seq < read[i][j-1] {
				result.Reordered++
			}
			seen[seq] = true
		}
		for _, seq := range p.acked {
			if !seen[seq] {
				result.Lost++
			}
		}
	}
	return nil
}

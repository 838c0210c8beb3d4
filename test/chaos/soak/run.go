package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/harm"
	"chronik/test/chaos/history"
	"chronik/test/chaos/netns"
	"chronik/test/chaos/traffic"
)

// options of a run.
type options struct {
	seed   uint64
	length time.Duration
	faults []string // kinds; none stands for all
	nodes  int
	logDir string
}

// run is one run.
type run struct {
	t     *testing.T
	opts  options
	rng   *rand.Rand // of the schedule of faults alone
	c     *cluster.Cluster
	net   *netns.Network // nil where there are no namespaces
	disks []string       // mounts, one for each node; none where that is not permitted
	admin *kadm.Client
	h     history.History
	load  *workload
	began time.Time
	// flipped is the last damage of the schedule's: none is done to another node
	// before it is repaired.
	flipped flip

	mu         sync.Mutex
	events     []event
	violations []history.Violation
	expected   map[int]string // why a node may not be running
	held       map[int]hold   // by node: what keeps its process from ending
	quiet      bool
}

// hold is a fault during which a process does not end as it should, or not at
// all: of two faults at once, the other must not wait for that.
type hold int8

const (
	pausedHold hold = 1 + iota // it gets no signal but SIGKILL
	slowHold                   // it takes long to stop
	frozenHold                 // even SIGKILL waits for its disk, and so does a tracer
)

// event is one fault from its beginning to when it was taken back.
type event struct {
	kind, note string
	begin, end time.Time
}

func (r *run) violated(kind, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := history.Violation{Kind: kind, Detail: fmt.Sprintf(format, args...)}
	r.violations = append(r.violations, v)
	r.t.Errorf("%s VIOLATION %v", r.clock(), v)
}

// say prints one line of what happens.
func (r *run) say(format string, args ...any) { r.t.Logf(r.clock()+" "+format, args...) }

func (r *run) clock() string { return time.Now().Format("15:04:05.000") }

// setUp makes the network, the disks and the cluster.
func setUp(t *testing.T, o options) *run {
	t.Helper()
	r := &run{t: t, opts: o, rng: rand.New(rand.NewPCG(o.seed, 1)), expected: map[int]string{}, held: map[int]hold{}}
	var err error
	if r.net, err = netns.Make(o.nodes); err != nil {
		r.say("no network namespaces, so no faults of the network: %v", err)
	} else {
		t.Cleanup(r.net.Close)
	}
	copts := cluster.Options{Nodes: o.nodes, Network: r.net, LogDir: o.logDir, Flags: []string{
		"--leader-imbalance-check-interval-seconds", "5", "--replica-lag-time-max-ms", "3000",
		"--group-initial-rebalance-delay-ms", "300", "--offsets-topic-num-partitions", "6",
		"--scrub-bytes-per-second", "33554432", "--group-consumer-session-timeout-ms", "10000",
	}}
	for range o.nodes {
		mount, unmount, err := harm.MakeFileSystem(t.TempDir(), 3<<30)
		if err != nil {
			r.say("no file systems of their own, so no faults of disks: %v", err)
			r.disks, copts.DataDirs = nil, nil
			break
		}
		t.Cleanup(func() {
			_ = harm.Thaw(mount) // it is frozen only where the run was cut short
			if err := unmount(); err != nil {
				t.Error(err)
			}
		})
		r.disks = append(r.disks, mount)
		copts.DataDirs = append(copts.DataDirs, filepath.Join(mount, "data"))
	}
	r.c = cluster.Run(t, copts)
	client, err := kgo.NewClient(append(traffic.ClientOptions(r.c.Addresses()), kgo.MetadataMaxAge(time.Second))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	r.admin = kadm.NewClient(client)
	return r
}

// hold notes what the present fault does to a node, and returns what takes it
// back. Faults begin and end one after the other.
func (r *run) hold(n *cluster.Node, h hold, end func() error) func() error {
	before := r.held[n.ID]
	r.held[n.ID] = max(before, h)
	return func() error {
		r.held[n.ID] = before
		return end()
	}
}

// supervise notices processes that end by themselves.
func (r *run) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		for _, n := range r.c.Nodes {
			r.mu.Lock()
			why := r.expected[n.ID]
			r.mu.Unlock()
			if why != "" || n.Running() {
				continue
			}
			if log := n.LogTail(5); strings.Contains(log, "no space left on device") {
				// Its disk was full, and there is room again since before it was gone.
				r.say("node %d has ended on a full disk: %s", n.ID, log)
			} else {
				r.violated("process-ended", "node %d ended by itself: %v\n%s", n.ID, n.ExitError(), n.LogTail(30))
			}
			if err := n.Start(); err != nil {
				r.violated("not-started", "node %d: %v", n.ID, err)
			}
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// down says that a node is about not to run; up that it should again, and
// starts it where it does not.
func (r *run) down(n *cluster.Node, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expected[n.ID] = why
}

func (r *run) up(n *cluster.Node) error {
	var err error
	if !n.Running() {
		err = n.Start()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.expected, n.ID)
	return err
}

// rest is a period of peace: what was harmed must be well again before it ends.
func (r *run) rest(ctx context.Context, length time.Duration) {
	begin := time.Now()
	well := r.awaitWell(ctx, recoveryMax) // a node that is not back in the cluster need not know what was made since
	r.mu.Lock()
	r.quiet = well
	r.mu.Unlock()
	r.addEvent(event{kind: "recovery", begin: begin, end: time.Now()})
	peace := time.Now()
	pause(ctx, length)
	r.addEvent(event{kind: "peace", begin: peace, end: time.Now()})
	r.mu.Lock()
	r.quiet = false
	r.mu.Unlock()
}

// recoveryMax is how long a cluster may take, after the last fault was taken
// back, until every replica is in sync and every partition can be written.
const recoveryMax = 90 * time.Second

// awaitWell waits until every node is ready and every replica in sync.
func (r *run) awaitWell(ctx context.Context, limit time.Duration) bool {
	begin := time.Now()
	for ctx.Err() == nil {
		last := r.unwell()
		if last == "" {
			return true
		}
		if time.Since(begin) > limit {
			r.violated("not-healed", "%v after all faults were taken back: %s", limit, last)
			return false
		}
		pause(ctx, 100*time.Millisecond)
	}
	return false
}

// unwell says what is not as it should be: nothing where all is.
func (r *run) unwell() string {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	m, err := r.admin.Metadata(ctx)
	if err != nil {
		return err.Error()
	}
	if len(m.Brokers) < len(r.c.Nodes) {
		return fmt.Sprintf("%d of %d nodes are known", len(m.Brokers), len(r.c.Nodes))
	}
	if c, err := traffic.Dial(r.c.Nodes[0].Kafka, time.Second); err == nil {
		voters, learners, err := c.Quorum()
		c.Close()
		if err != nil || len(voters) != len(r.c.Nodes) || len(learners) > 0 {
			return fmt.Sprintf("nodes %v vote and %v follow, %v", voters, learners, err)
		}
	}
	for _, t := range m.Topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			if p.Err != nil || len(p.ISR) < len(p.Replicas) {
				return fmt.Sprintf("%s-%d: leader %d, replicas %v, in sync %v, %v", t.Topic, p.Partition, p.Leader, p.Replicas, p.ISR, p.Err)
			}
		}
	}
	return ""
}

func (r *run) addEvent(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// schedule draws faults until the time is over.
func (r *run) schedule(ctx context.Context) {
	kinds := r.kinds()
	var deck []kind
	for time.Since(r.began) < r.opts.length && ctx.Err() == nil {
		if r.rng.IntN(4) == 0 {
			r.rest(ctx, time.Duration(2000+r.rng.IntN(3000))*time.Millisecond)
			continue
		}
		if len(deck) == 0 {
			deck = slices.Clone(kinds)
			r.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		now := deck[:1]
		if len(deck) > 1 && r.rng.IntN(4) == 0 && !deck[0].alone && !deck[1].alone {
			now = deck[:2]
		}
		deck = deck[len(now):]
		r.strike(ctx, now)
		pause(ctx, time.Duration(r.rng.IntN(2500))*time.Millisecond)
	}
}

// strike lets one or two faults begin, holds them, and takes them back.
func (r *run) strike(ctx context.Context, kinds []kind) {
	begin := time.Now()
	var ends []func() error
	var names, notes []string
	for _, k := range kinds {
		if k.complete && (!r.awaitWell(ctx, recoveryMax) || r.flipped.there()) {
			continue
		}
		note, end, err := k.begin(r)
		if errors.Is(err, errNotNow) {
			continue
		}
		if err != nil {
			r.violated("harness", "%s: %v", k.name, err)
			continue
		}
		names, notes = append(names, k.name), append(notes, note)
		r.say("%s: %s", k.name, note)
		if end != nil {
			ends = append(ends, end)
		}
	}
	if len(names) == 0 {
		return
	}
	hold := time.Duration(300+r.rng.IntN(5000)) * time.Millisecond
	if !kinds[0].brief {
		pause(ctx, hold)
	}
	for _, end := range slices.Backward(ends) { // a disk that is frozen last is thawed first
		if err := end(); err != nil {
			r.violated("harness", "end of %s: %v", strings.Join(names, " and "), err)
		}
	}
	r.say("%s: over", strings.Join(names, " and "))
	r.addEvent(event{kind: strings.Join(names, " and "), note: strings.Join(notes, "; "), begin: begin, end: time.Now()})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// keepLogs makes a directory for the logs, which stays where the run failed.
func keepLogs(t *testing.T) string {
	dir, err := os.MkdirTemp("", "chronik-chaos-logs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || os.Getenv("CHAOS_KEEP") != "" {
			t.Logf("the nodes' logs are in %s", dir)
			return
		}
		os.RemoveAll(dir)
	})
	return dir
}

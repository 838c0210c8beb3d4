package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// workload is a name with a history: what it means never changes.
type workload struct {
	name       string
	kind       string
	partitions int32
	size       int
	flushEach  bool // Kafka too syncs before it acknowledges
	nodes      int  // of the cluster, and replicas of each partition
	clients    int  // in the client's process, each with its own connections
	note       string
}

var workloads = []workload{
	{"tp-6p-1k", "stream", 6, 1024, false, 1, 1, "acks=all, 10,000 records buffered; chronik syncs before each ack, Kafka does not sync"},
	{"consume-hot", "consume", 6, 1024, false, 1, 1, "what tp-6p-1k has just written, from the page cache"},
	{"sync1", "single", 1, 256, true, 1, 1, "one request in flight; both sync before each ack (Kafka: flush.messages=1)"},
	{"r3-6p-1k", "stream", 6, 1024, false, 3, 1, "tp-6p-1k on three nodes, three replicas, min.insync.replicas=2; chronik syncs on all three before each ack, Kafka on none"},
	{"r3-6p-1k-4c", "stream", 6, 1024, false, 3, 4, "r3-6p-1k with four clients"},
	{"r3-sync1", "single", 1, 256, false, 3, 1, "one request in flight, three replicas; chronik syncs on all three before each ack, Kafka on none"},
}

// sample is one line of the output.
type sample struct {
	Time      string  `json:"time"`
	Commit    string  `json:"commit"`
	Kernel    string  `json:"kernel"`
	Workload  string  `json:"workload"`
	Placement string  `json:"placement"`
	Pair      int     `json:"pair"`
	Arm       string  `json:"arm"`
	Brokers   string  `json:"brokers,omitempty"` // fresh or kept; none in samples from before there was a choice: kept
	Version   string  `json:"version"`
	PeakRSS   float64 `json:"broker_peak_rss_mib"`
	result
	MBs          float64 `json:"mb_per_s"`
	BrokerPerGB  float64 `json:"broker_cpu_s_per_gb"`
	ClientPerGB  float64 `json:"client_cpu_s_per_gb"`
	RecordsPerS  float64 `json:"records_per_s"`
	Quality      string  `json:"quality"` // quiet, ok or noisy, by foreign CPU
	WaitedForCPU float64 `json:"waited_s"`
}

type settings struct {
	pairs      int
	sample     time.Duration
	warm       time.Duration
	placements []string
	names      []string
	order      string
	brokers    string
	binary     string
	script     string
	dir        string
	out        string
	gate       time.Duration
}

func compare(args []string) (err error) {
	var s settings
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.IntVar(&s.pairs, "pairs", 5, "pairs of samples of each workload and placement")
	f.DurationVar(&s.sample, "sample", 5*time.Second, "time of a sample")
	f.DurationVar(&s.warm, "warm", 1500*time.Millisecond, "time of the workload before each sample")
	placements := f.String("placement", "free,pinned", "free: as the scheduler likes; pinned: broker on one processor, client on another")
	names := f.String("workloads", "tp-6p-1k,consume-hot,sync1", "which workloads")
	f.StringVar(&s.order, "order", "abab", "abab, or abba against drift")
	f.StringVar(&s.brokers, "brokers", "fresh", "fresh: started for each pair's sample, so that all have the same past; kept: one process for all samples of a placement")
	f.StringVar(&s.binary, "chronik", "", "chronik binary; default: built from this tree")
	f.StringVar(&s.script, "kafka", "", "script that starts Kafka; default: test/compat/kafka of this tree")
	f.StringVar(&s.dir, "dir", "", "directory for both brokers' data; default: a temporary one")
	f.StringVar(&s.out, "out", "bench.jsonl", "file that samples are appended to")
	f.DurationVar(&s.gate, "gate", 12*time.Second, "how long to wait before a sample for a machine that is quiet")
	if err := f.Parse(args); err != nil {
		return err
	}
	s.placements, s.names = strings.Split(*placements, ","), strings.Split(*names, ",")
	if s.brokers != "fresh" && s.brokers != "kept" {
		return fmt.Errorf("-brokers is fresh or kept, not %q", s.brokers)
	}
	for _, n := range s.names {
		if !slices.ContainsFunc(workloads, func(w workload) bool { return w.name == n }) {
			return fmt.Errorf("unknown workload %q", n)
		}
	}
	own := s.dir == ""
	if own {
		if s.dir, err = os.MkdirTemp("", "chronik-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(s.dir)
	}
	if err := s.find(); err != nil {
		return err
	}
	out, err := os.OpenFile(s.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var all []sample
	for _, placement := range s.placements {
		samples, err := s.run(placement, json.NewEncoder(out))
		all = append(all, samples...)
		if err != nil {
			return err
		}
	}
	report(os.Stdout, all)
	return nil
}

// find fills in what was not named.
func (s *settings) find() error {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil && (s.binary == "" || s.script == "") {
		return fmt.Errorf("find the module: %w", err)
	}
	module := strings.TrimSpace(string(root))
	if s.script == "" {
		s.script = filepath.Join(module, "test", "compat", "kafka")
	}
	if s.binary == "" {
		s.binary = filepath.Join(s.dir, "chronik")
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", s.binary, "./cmd/chronik")
		build.Dir, build.Env = module, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build chronik: %w\n%s", err, out)
		}
	}
	return nil
}

// run takes all samples of one placement.
func (s *settings) run(placement string, out *json.Encoder) (all []sample, err error) {
	brokerCPU, clientCPU := "", ""
	if placement == "pinned" {
		if runtime.NumCPU() < 2 {
			return nil, errors.New("pinned needs two processors")
		}
		brokerCPU, clientCPU = "0", "1"
	}
	var arms []func() (*arm, error)
	for _, nodes := range s.nodeCounts() {
		arms = append(arms,
			func() (*arm, error) { return startChronik(s.dir, s.binary, brokerCPU, nodes) },
			func() (*arm, error) { return startKafka(s.dir, s.script, brokerCPU, nodes) })
	}
	if s.brokers == "kept" {
		for i, start := range arms {
			a, err := start()
			if err != nil {
				return nil, err
			}
			defer a.stop()
			arms[i] = func() (*arm, error) { kept := *a; kept.stop = func() {}; return &kept, nil }
		}
	}
	for pair := range s.pairs {
		order := slices.Clone(arms)
		if s.order == "abba" && pair%2 == 1 {
			slices.Reverse(order)
		}
		for _, start := range order {
			samples, err := s.take(start, pair, placement, clientCPU)
			if err != nil {
				return all, err
			}
			for _, one := range samples {
				fmt.Fprintf(os.Stderr, "%-12s %-6s pair %d %-8s %8.1f MB/s  broker %5.2f client %5.2f CPU-s/GB  p50 %7.3f p99 %8.3f ms  foreign %.2f (%s)\n",
					one.Workload, placement, pair+1, one.Arm, one.MBs, one.BrokerPerGB, one.ClientPerGB, one.P50, one.P99, one.ForeignCPU, one.Quality)
				if err := out.Encode(one); err != nil {
					return all, err
				}
			}
			all = append(all, samples...)
		}
	}
	return all, nil
}

// nodeCounts lists the sizes of clusters that the workloads need.
func (s *settings) nodeCounts() []int {
	var counts []int
	for _, w := range workloads {
		if slices.Contains(s.names, w.name) && !slices.Contains(counts, w.nodes) {
			counts = append(counts, w.nodes)
		}
	}
	return counts
}

// take starts a broker, or takes the one that is kept, and visits it.
func (s *settings) take(start func() (*arm, error), pair int, placement, clientCPU string) ([]sample, error) {
	a, err := start()
	if err != nil {
		return nil, err
	}
	defer a.stop()
	samples, err := s.visit(a, pair, placement, clientCPU)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	return samples, nil
}

// visit takes one sample of each workload of one broker.
func (s *settings) visit(a *arm, pair int, placement, clientCPU string) (samples []sample, err error) {
	topics := make(map[string]string)
	defer func() {
		for _, topic := range topics {
			_, deleteErr := a.admin.DeleteTopic(context.Background(), topic)
			err = errors.Join(err, deleteErr)
		}
		time.Sleep(300 * time.Millisecond) // for the files to go
	}()
	var streamed int64
	for _, w := range workloads {
		wanted := slices.Contains(s.names, w.name) && w.nodes == a.nodes()
		// What is consumed must have been produced.
		if w.name == "tp-6p-1k" && slices.Contains(s.names, "consume-hot") && a.nodes() == 1 {
			wanted = true
		}
		if !wanted {
			continue
		}
		topic := topics["stream"]
		if w.kind != "consume" {
			topic = fmt.Sprintf("%s-%s-%d", w.name, placement, pair)
			if err := createTopic(a, w, topic); err != nil {
				return samples, err
			}
			if old := topics[w.kind]; old != "" {
				if _, err := a.admin.DeleteTopic(context.Background(), old); err != nil {
					return samples, err
				}
			}
			topics[w.kind] = topic
		}
		waited := s.waitForQuiet()
		r, err := s.runClient(clientCPU, "-kind", w.kind, "-broker", a.address, "-pid", a.pidList(), "-clients", strconv.Itoa(w.clients), "-topic", topic,
			"-size", strconv.Itoa(w.size), "-warm", s.warm.String(), "-sample", s.sample.String(), "-records", strconv.FormatInt(streamed, 10))
		if err != nil {
			return samples, fmt.Errorf("%s: %w", w.name, err)
		}
		if w.kind == "stream" {
			streamed = r.EndOffset
		}
		if slices.Contains(s.names, w.name) {
			samples = append(samples, s.describe(a, w, pair, placement, r, waited))
		}
	}
	return samples, nil
}

func createTopic(a *arm, w workload, topic string) error {
	configs := map[string]*string{"file.delete.delay.ms": kadm.StringPtr("100")}
	if w.flushEach && a.name == "kafka" {
		configs["flush.messages"] = kadm.StringPtr("1")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if w.nodes > 1 {
		configs["min.insync.replicas"] = kadm.StringPtr(strconv.Itoa(w.nodes - 1))
	}
	_, err := a.admin.CreateTopic(ctx, w.partitions, int16(w.nodes), configs, topic)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}

// runClient runs the client as a process of its own: the same program for both
// brokers, with a heap and processors of its own.
func (s *settings) runClient(cpu string, args ...string) (result, error) {
	own, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	argv := pinned(cpu, append([]string{own, "client"}, args...)...)
	cmd := exec.Command(argv[0], argv[1:]...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return result{}, fmt.Errorf("client: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var r result
	return r, json.Unmarshal(out.Bytes(), &r)
}

func (s *settings) describe(a *arm, w workload, pair int, placement string, r result, waited time.Duration) sample {
	gb := float64(r.Bytes) / 1e9
	one := sample{
		Time: time.Now().UTC().Format(time.RFC3339), Commit: commit(), Kernel: kernel(), Workload: w.name, Placement: placement,
		Pair: pair + 1, Arm: a.name, Brokers: s.brokers, Version: a.version(), PeakRSS: a.peakRSS(), result: r,
		MBs: float64(r.Bytes) / 1e6 / r.Seconds, BrokerPerGB: r.BrokerCPU / gb, ClientPerGB: r.ClientCPU / gb,
		RecordsPerS: float64(r.Records) / r.Seconds, WaitedForCPU: waited.Seconds(), Quality: "noisy",
	}
	switch share := r.ForeignCPU / float64(runtime.NumCPU()); {
	case share < 0.05:
		one.Quality = "quiet"
	case share < 0.15:
		one.Quality = "ok"
	}
	return one
}

// waitForQuiet waits until the machine was less than 12 % busy for 0.6 s.
func (s *settings) waitForQuiet() time.Duration {
	begin := time.Now()
	const window = 600 * time.Millisecond
	for time.Since(begin) < s.gate {
		from, err := machineCPU()
		if err != nil {
			break
		}
		time.Sleep(window)
		to, err := machineCPU()
		if err != nil || (to-from) < time.Duration(0.12*float64(window)*float64(runtime.NumCPU())) {
			break
		}
	}
	return time.Since(begin)
}

func commit() string {
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		return strings.TrimSpace(string(out))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

func kernel() string {
	data, _ := os.ReadFile("/proc/sys/kernel/osrelease") // empty where there is none
	return strings.TrimSpace(string(data))
}

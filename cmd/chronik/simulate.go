package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/sim"
)

// simulation is the flags of simulate.
type simulation struct {
	seed, seeds      uint64
	minutes          float64
	nodes            int
	partitions       int
	groups           int
	faults           []string
	trace            bool
	checkDeterminism bool
	notes            int
	verbose          bool
	workers          int
	sums             bool // for a process that this one has started
}

func newSimulate() *cobra.Command {
	s := &simulation{}
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Run a cluster in virtual time with faults, from a seed, and check its promises",
		Long: "Run a whole cluster in one goroutine and in virtual time: the code of real nodes on disks and networks that fail.\n" +
			"All chance comes from the seed, so a run that broke a promise can be seen again.\n\n" +
			"Kinds of faults: " + strings.Join(sim.FaultNames(), ", ") + ".",
		Args: noArguments,
		RunE: trying(func(cmd *cobra.Command, _ []string) error { return s.run(cmd) }),
	}
	flags := cmd.Flags()
	flags.Uint64Var(&s.seed, "seed", 1, "first seed")
	flags.Uint64Var(&s.seeds, "seeds", 1, "how many seeds to run")
	flags.Float64Var(&s.minutes, "minutes", 2, "virtual minutes with faults per seed")
	flags.IntVar(&s.nodes, "nodes", 0, "nodes of the cluster; 0: drawn from the seed")
	flags.IntVar(&s.partitions, "partitions", 0, "partitions of one topic; 0: drawn from the seed")
	flags.IntVar(&s.groups, "groups", 0, "consumer groups with members; 0: drawn from the seed")
	flags.StringSliceVar(&s.faults, "faults", nil, "only these kinds of faults; default: drawn from the seed")
	flags.BoolVar(&s.trace, "trace", false, "write every event")
	flags.BoolVar(&s.checkDeterminism, "check-determinism", false, "run each seed twice and compare the hashes over all events")
	flags.IntVar(&s.notes, "events", 1000, "how many of the last events to write of a run that failed, at most 1000")
	flags.IntVar(&s.workers, "workers", 0, "processes that share the seeds; 0: one for each processor")
	flags.BoolVar(&s.sums, "sums", false, "end with figures for the process that shares out the seeds")
	_ = flags.MarkHidden("sums")
	flags.BoolVarP(&s.verbose, "verbose", "v", false, "write a line for each seed")
	return cmd
}

func (s *simulation) run(cmd *cobra.Command) error {
	if s.minutes <= 0 || s.seeds == 0 {
		return usage("flags --minutes and --seeds: got 0 or less, takes more")
	}
	if s.nodes < 0 || s.nodes > 9 || s.partitions < 0 || s.groups < 0 {
		return usage("flags --nodes, --partitions and --groups: got less than 0, or more than 9 nodes")
	}
	switch {
	case s.notes < 0 || s.notes > 1000:
		return usage("flag --events: got %d, takes 0 to 1000", s.notes)
	case s.workers < 0:
		return usage("flag --workers: got %d, takes 0 or more", s.workers)
	}
	for _, f := range s.faults {
		if err := oneOf("faults", f, sim.FaultNames()...); err != nil {
			return err
		}
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // a run lives on garbage and holds little
	}
	out := cmd.OutOrStdout()
	began := time.Now()
	var sum figures
	var err error
	if s.workers == 0 {
		s.workers = runtime.NumCPU()
	}
	if s.workers == 1 || s.trace || s.sums || s.seeds < 2*shareSize {
		sum, err = s.each(cmd, out)
	} else {
		sum, err = s.share(cmd, out)
	}
	if err != nil {
		return err
	}
	if s.sums {
		return json.NewEncoder(out).Encode(sum)
	}
	took := time.Since(began)
	cpu := sum.CPU + cpuTime()
	fmt.Fprintf(out, "%d seeds, %d failed; %s of virtual time in %s, %s of processor time: %.1f hours per minute of it, %.0f events/s; hash of all %016x\n",
		sum.Ran, sum.Bad, sum.Virtual.Round(time.Second), took.Round(time.Millisecond), cpu.Round(time.Millisecond),
		sum.Virtual.Seconds()/cpu.Seconds()/60, float64(sum.Events)/took.Seconds(), sum.Hash)
	if sum.Bad > 0 {
		return failed("%d of %d seeds broke a promise", sum.Bad, sum.Ran)
	}
	return nil
}

// figures are the sums over some seeds.
type figures struct {
	Ran, Bad int
	Events   uint64
	Virtual  time.Duration
	CPU      time.Duration // of other processes
	Hash     uint64        // of all runs, whatever their order
}

func (f *figures) add(o figures) {
	f.Ran, f.Bad, f.Events, f.Virtual, f.CPU, f.Hash = f.Ran+o.Ran, f.Bad+o.Bad, f.Events+o.Events, f.Virtual+o.Virtual, f.CPU+o.CPU, f.Hash^o.Hash
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// shareSize is how many seeds a process gets at a time. Runs of the same
// process come one after the other, since they share its source of chance.
const shareSize = 20

// share has other processes run the seeds.
func (s *simulation) share(cmd *cobra.Command, out io.Writer) (figures, error) {
	self, err := os.Executable()
	if err != nil {
		return figures{}, fmt.Errorf("find this program: %w", err)
	}
	var mu sync.Mutex
	var sum figures
	var trouble error
	var next uint64
	var workers sync.WaitGroup
	for range s.workers {
		workers.Go(func() {
			for {
				mu.Lock()
				first := next
				next += shareSize
				over := first >= s.seeds || trouble != nil || cmd.Context().Err() != nil
				mu.Unlock()
				if over {
					return
				}
				text, got, err := s.worker(cmd.Context(), self, first)
				mu.Lock()
				_, _ = out.Write(text)
				sum.add(got)
				if err != nil && trouble == nil {
					trouble = err
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return sum, trouble
}

// worker runs a share of the seeds in a process of its own.
func (s *simulation) worker(ctx context.Context, self string, first uint64) (text []byte, sum figures, err error) {
	args := []string{"simulate", "--sums", "--workers=1", fmt.Sprintf("--seed=%d", s.seed+first), fmt.Sprintf("--seeds=%d", min(shareSize, s.seeds-first)),
		fmt.Sprintf("--minutes=%g", s.minutes), fmt.Sprintf("--nodes=%d", s.nodes), fmt.Sprintf("--partitions=%d", s.partitions), fmt.Sprintf("--groups=%d", s.groups),
		fmt.Sprintf("--check-determinism=%v", s.checkDeterminism), fmt.Sprintf("--events=%d", s.notes), fmt.Sprintf("--verbose=%v", s.verbose)}
	for _, f := range s.faults {
		args = append(args, "--faults="+f)
	}
	cmd := exec.CommandContext(ctx, self, args...) //nolint:gosec // this program itself
	cmd.Stderr = os.Stderr
	text, err = cmd.Output()
	if err != nil {
		return text, sum, fmt.Errorf("run seeds from %d on: %w", s.seed+first, err)
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	last := bytes.LastIndexByte(text, '\n') + 1
	if err := json.Unmarshal(text[last:], &sum); err != nil {
		return text, sum, fmt.Errorf("read the figures of seeds from %d on: %w", s.seed+first, err)
	}
	sum.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return text[:last], sum, nil
}

// each runs the seeds one after the other.
func (s *simulation) each(cmd *cobra.Command, out io.Writer) (sum figures, err error) {
	for i := uint64(0); i < s.seeds && cmd.Context().Err() == nil; i++ {
		r := sim.Run(s.options(s.seed+i, out))
		sum.add(figures{Ran: 1, Virtual: r.Virtual, Events: r.Events, Hash: r.Hash})
		if s.checkDeterminism && !r.Failed() {
			if again := sim.Run(s.options(s.seed+i, nil)); again.Hash != r.Hash {
				return sum, failed("seed %d: two runs differ: %016x and %016x", r.Seed, r.Hash, again.Hash)
			}
		}
		if r.Failed() {
			sum.Bad++
			if !s.trace {
				r.Report(out, s.notes)
			}
			fmt.Fprintln(out, r)
			fmt.Fprintf(out, "again: chronik simulate %s\n", s.again(r.Seed))
		} else if s.verbose || s.seeds == 1 {
			fmt.Fprintln(out, r)
		}
	}
	return sum, nil
}
func (s *simulation) options(seed uint64, out io.Writer) sim.Options {
	o := sim.Options{Seed: seed, Length: time.Duration(s.minutes * float64(time.Minute)), Nodes: s.nodes, Partitions: s.partitions, Groups: s.groups, Faults: s.faults}
	if s.trace {
		o.Trace = out
	}
	return o
}

// again are the flags that show a run again.
func (s *simulation) again(seed uint64) string {
	flags := fmt.Sprintf("--seed %d --minutes %g", seed, s.minutes)
	if s.nodes > 0 {
		flags += fmt.Sprintf(" --nodes %d", s.nodes)
	}
	if s.partitions > 0 {
		flags += fmt.Sprintf(" --partitions %d", s.partitions)
	}
	if s.groups > 0 {
		flags += fmt.Sprintf(" --groups %d", s.groups)
	}
	if len(s.faults) > 0 {
		flags += fmt.Sprintf(" --faults %q", strings.Join(s.faults, ","))
	}
	return flags
}

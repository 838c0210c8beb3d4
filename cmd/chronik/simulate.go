package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
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
}

func newSimulate() *cobra.Command {
	s := &simulation{}
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Run a cluster in virtual time with faults, from a seed, and check its promises",
		Long: "Run a whole cluster in one goroutine and in virtual time: the code of real nodes on disks and networks that fail.\n" +
			"All chance comes from the seed, so a run that broke a promise can be seen again.\n\n" +
			"Kinds of faults: " + strings.Join(sim.FaultNames(), ", ") + ".",
		Args: cobra.NoArgs,
		RunE: trying(func(cmd *cobra.Command, _ []string) error { return s.run(cmd) }),
	}
	flags := cmd.Flags()
	flags.Uint64Var(&s.seed, "seed", 1, "first seed")
	flags.Uint64Var(&s.seeds, "seeds", 1, "how many seeds to run, one after the other")
	flags.Float64Var(&s.minutes, "minutes", 2, "virtual minutes with faults per seed")
	flags.IntVar(&s.nodes, "nodes", 0, "nodes of the cluster; 0: drawn from the seed")
	flags.IntVar(&s.partitions, "partitions", 0, "partitions of one topic; 0: drawn from the seed")
	flags.IntVar(&s.groups, "groups", 0, "consumer groups with members; 0: drawn from the seed")
	flags.StringSliceVar(&s.faults, "faults", nil, "only these kinds of faults; default: drawn from the seed")
	flags.BoolVar(&s.trace, "trace", false, "write every event")
	flags.BoolVar(&s.checkDeterminism, "check-determinism", false, "run each seed twice and compare the hashes over all events")
	flags.IntVar(&s.notes, "events", 1000, "how many of the last events to write of a run that failed, at most 1000")
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
	var virtual time.Duration
	var events uint64
	bad, ran := 0, 0
	for i := range s.seeds {
		if cmd.Context().Err() != nil {
			break
		}
		r := sim.Run(s.options(s.seed+i, out))
		virtual += r.Virtual
		ran++
		events += r.Events
		if s.checkDeterminism && !r.Failed() {
			if again := sim.Run(s.options(s.seed+i, nil)); again.Hash != r.Hash {
				return failed("seed %d: two runs differ: %016x and %016x", r.Seed, r.Hash, again.Hash)
			}
		}
		if r.Failed() {
			bad++
			if !s.trace {
				r.Report(out, s.notes)
			}
			fmt.Fprintln(out, r)
			fmt.Fprintf(out, "again: chronik simulate %s\n", s.again(r.Seed))
		} else if s.verbose || s.seeds == 1 {
			fmt.Fprintln(out, r)
		}
	}
	took := time.Since(began)
	fmt.Fprintf(out, "%d seeds, %d failed; %s of virtual time in %s: %.0f times as fast, %.0f events/s\n",
		ran, bad, virtual.Round(time.Second), took.Round(time.Millisecond), virtual.Seconds()/took.Seconds(), float64(events)/took.Seconds())
	if bad > 0 {
		return failed("%d of %d seeds broke a promise", bad, ran)
	}
	return nil
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

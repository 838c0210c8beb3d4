package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/edge/config"
)

// failover is the options of `bench failover`.
type failover struct {
	partitions string
	faults     string
	victims    string
	trials     int
	rate       int
	dir        string
	output     string
	settings   []string
	verbose    bool
	client     string
}

// failoverResult is the figures of one kind of fault. All times are in ms.
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
	WaitP50    float64 `json:"wait_p50_ms"` // of each partition, the record that waited longest for its acknowledgement
	WaitP99    float64 `json:"wait_p99_ms"`
	Acked      int     `json:"acked_records"`
	Failed     int     `json:"failed_records"`
	Lost       int     `json:"lost_records"`
	Duplicated int     `json:"duplicated_records"`
	Reordered  int     `json:"reordered_records"`

	Phases failoverPhases `json:"phases_p50_ms"`
}

// failoverPhases is when, in ms after the fault, something had happened: the
// median of the trials. Null where it did not.
type failoverPhases struct {
	Noticed *float64 `json:"noticed"` // the first node said that the process is gone
	Elected *float64 `json:"elected"` // a node became the controller
	Decided *float64 `json:"decided"` // the controller's decision on the lost node was committed
	Led     *float64 `json:"led"`     // the last node led what it had been elected for
	Fresh   *float64 `json:"fresh"`   // a client that was made after the fault had an acknowledgement
	Half    *float64 `json:"half"`    // half of the partitions had acknowledged the record that waited longest
	All     *float64 `json:"all"`     // all of them had
	Stopped *float64 `json:"stopped"` // the process had ended, when it was asked to
}

func (p *failoverPhases) list() []*float64 {
	return []*float64{p.Noticed, p.Elected, p.Decided, p.Led, p.Fresh, p.Half, p.All, p.Stopped}
}

func newBenchFailover() *cobra.Command {
	f := &failover{}
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure how long a lost node is felt, on a cluster of its own",
		Long: `Start three nodes on this machine, write to all partitions with acks=all, take a node
away, and measure for every partition the time between the last acknowledgement
before and the first after, as a client sees it (GAP), and how long the record
that waited longest had to wait (WAIT). Then read everything back and look for
lost, duplicated and reordered records.

Faults: kill (SIGKILL), stop (SIGSTOP), term (SIGTERM), cut (the node's connections
carry nothing any more), none (nothing happens: what the load alone does on this
machine). Victims: leader (of partitions, and not the controller), controller (leads
no partition; with one partition only), both.

The second table says when things happened, in ms after the fault: NOTICED a node
said that the process is gone, ELECTED there was a new controller, DECIDED its
decision on the lost node was committed, LED the new leaders led, FRESH a client
that was made after the fault and knows the other nodes had an acknowledgement,
HALF, ALL so many partitions had acknowledged the record that waited longest,
STOPPED the process had ended that was asked to.

The client is franz-go. With --client default it has its defaults, with which it
waits up to 20 s for an answer on a connection that is cut or to a node that is
frozen, and up to 5 s before it asks again who leads; with --client quick these
times are set to a fraction of a second, and with stop and cut it asks no new
connection for versions, so that the figures are the cluster's.`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.partitions, "partitions", "p", "1,100,1000", "how many partitions, with commas between several")
	flags.StringVar(&f.faults, "faults", "kill,stop,cut,term", "faults, with commas between them")
	flags.StringVar(&f.victims, "victims", "leader,controller,both", "victims, with commas between them")
	flags.IntVar(&f.trials, "trials", 5, "how often each fault is tried")
	flags.IntVar(&f.rate, "rate", 10_000, "records a second, over all partitions; none gets more than 500")
	flags.StringVar(&f.dir, "dir", "", "where the nodes keep their data while they run; nothing: the system's temporary directory")
	flags.StringVarP(&f.output, "output", "o", "text", "text or json")
	flags.StringArrayVar(&f.settings, "setting", nil, "NAME=VALUE of a setting of the nodes; may be repeated")
	flags.StringVar(&f.client, "client", "quick", "quick or default: the client's timeouts")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "write each trial's figures to standard error")
	cmd.RunE = trying(func(cmd *cobra.Command, args []string) error { return f.run(cmd) })
	return cmd
}

// check returns how many partitions are wished for, and the nodes' flags.
func (f *failover) check() (counts []int, nodeFlags []string, err error) {
	for _, text := range strings.Split(f.partitions, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 10_000 {
			return nil, nil, usage("flag --partitions: got %q, takes numbers from 1 to 10000", f.partitions)
		}
		counts = append(counts, n)
	}
	for flag, given := range map[string]string{"faults": f.faults, "victims": f.victims} {
		takes := map[string][]string{"faults": {"kill", "stop", "cut", "term", "none"}, "victims": {"leader", "controller", "both"}}[flag]
		for _, text := range strings.Split(given, ",") {
			if err := oneOf(flag, text, takes...); err != nil {
				return nil, nil, err
			}
		}
	}
	settings, err := pairs("setting", f.settings)
	if err == nil {
		err = oneOf("output", f.output, "text", "json")
	}
	if err == nil {
		err = oneOf("client", f.client, "quick", "default")
	}
	switch {
	case err != nil:
		return nil, nil, err
	case f.trials < 1:
		return nil, nil, usage("flag --trials: got %d, takes a number from 1 on", f.trials)
	case f.rate < 1:
		return nil, nil, usage("flag --rate: got %d, takes a number from 1 on", f.rate)
	}
	nodeFlags = []string{"--log-level=info", "--log-format=json"} // the phases are read from the log
	given := map[string]string{}
	for _, s := range settings {
		given[strings.ReplaceAll(s[0], ".", "-")] = s[1]
	}
	if _, err := config.Load(config.Sources{Flags: given}); err != nil {
		return nil, nil, err
	}
	for _, s := range settings {
		nodeFlags = append(nodeFlags, "--"+strings.ReplaceAll(s[0], ".", "-")+"="+s[1])
	}
	return counts, nodeFlags, nil
}

func (f *failover) run(cmd *cobra.Command) error {
	counts, flags, err := f.check()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the nodes end with the thread that has started them
	var results []failoverResult
	for _, fault := range strings.Split(f.faults, ",") {
		for _, count := range counts {
			for i, victim := range strings.Split(f.victims, ",") {
				if fault == "none" && i > 0 || victim == "controller" && count > 1 && fault != "none" {
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
	return writeFailover(cmd.OutOrStdout(), results)
}

func writeFailover(out io.Writer, results []failoverResult) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tVICTIM\tPARTITIONS\tTRIALS\tINTERVAL\tGAP P50\tP99\tMAX\tWAIT P50\tP99\tACKED\tFAILED\tLOST\tDUPLICATED\tREORDERED")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.0f ms\t%.0f ms\t%.0f ms\t%.0f ms\t%.0f ms\t%.0f ms\t%d\t%d\t%d\t%d\t%d\n", r.Fault, r.Victim, r.Partitions, r.Trials,
			r.Interval, r.P50, r.P99, r.Max, r.WaitP50, r.WaitP99, r.Acked, r.Failed, r.Lost, r.Duplicated, r.Reordered)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nFAULT\tVICTIM\tPARTITIONS\tNOTICED\tELECTED\tDECIDED\tLED\tFRESH\tHALF\tALL\tSTOPPED")
	for _, r := range results {
		fmt.Fprintf(w, "%s\t%s\t%d", r.Fault, r.Victim, r.Partitions)
		for _, at := range r.Phases.list() {
			if at == nil {
				fmt.Fprint(w, "\t-")
			} else {
				fmt.Fprintf(w, "\t%.0f ms", *at)
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// measure tries one kind of fault on a cluster of its own.
func (f *failover) measure(ctx context.Context, log io.Writer, flags []string, fault, victim string, count int) (*failoverResult, error) {
	dir, err := os.MkdirTemp(f.dir, "chronik-failover-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	interval := max(2*time.Millisecond, time.Duration(count)*time.Second/time.Duration(f.rate))
	r := &failoverRun{count: count, interval: interval, parts: make([]failoverPart, count), seen: newTimeline(log), warm: failoverWarm}
	if f.client == "default" {
		r.warm = failoverWarmDefault
	}
	defer r.close()
	if err := r.open(ctx, dir, log, flags, fault, f.client == "quick"); err != nil {
		return nil, err
	}
	if err := r.createTopic(ctx, victim); err != nil {
		return nil, err
	}
	var gaps, waits []time.Duration
	var phases []failoverPhases
	for trial := range f.trials {
		got, err := r.trial(ctx, fault, victim)
		if err != nil {
			return nil, fmt.Errorf("trial %d: %w", trial+1, err)
		}
		if f.verbose {
			fmt.Fprintf(log, "%s of %s, %d partitions, trial %d: longest gap %v, longest wait %v\n", fault, victim, count, trial+1,
				slices.Max(got.gaps).Round(time.Millisecond), slices.Max(got.waits).Round(time.Millisecond))
		}
		gaps, waits, phases = append(gaps, got.gaps...), append(waits, got.waits...), append(phases, got.phases)
	}
	result := &failoverResult{Client: f.client, Fault: fault, Victim: victim, Partitions: count, Trials: f.trials, Interval: milliseconds(r.interval),
		P50: quantile(gaps, .5), P99: quantile(gaps, .99), Max: quantile(gaps, 1), WaitP50: quantile(waits, .5), WaitP99: quantile(waits, .99),
		Phases: medianPhases(phases)}
	return result, r.verify(ctx, result)
}

// quantile sorts the times and returns one of them in ms.
func quantile(times []time.Duration, p float64) float64 {
	slices.Sort(times)
	return milliseconds(times[min(len(times)-1, int(float64(len(times))*p))])
}

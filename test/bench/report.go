package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// reportFiles prints the table of samples taken earlier.
func reportFiles(names []string) error {
	var all []sample
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			var one sample
			if err := json.Unmarshal(s.Bytes(), &one); err != nil {
				f.Close()
				return fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, one)
		}
		f.Close()
	}
	report(os.Stdout, all)
	return nil
}

// metric is a column: the number of a sample, and whether less is better.
type metric struct {
	name string
	of   func(sample) float64
}

var metrics = []metric{
	{"MB/s", func(s sample) float64 { return s.MBs }},
	{"records/s", func(s sample) float64 { return s.RecordsPerS }},
	{"broker CPU-s/GB", func(s sample) float64 { return s.BrokerPerGB }},
	{"client CPU-s/GB", func(s sample) float64 { return s.ClientPerGB }},
	{"p50 ms", func(s sample) float64 { return s.P50 }},
	{"p99 ms", func(s sample) float64 { return s.P99 }},
	{"broker peak RSS MiB", func(s sample) float64 { return s.PeakRSS }},
}

type key struct{ workload, placement, brokers string }

// report prints, per workload and placement, each arm's median and the median
// of the ratios of adjacent samples, with the lowest and highest but one.
func report(w io.Writer, all []sample) {
	var keys []key
	groups := make(map[key][]sample)
	for _, s := range all {
		k := key{s.Workload, s.Placement, cmp.Or(s.Brokers, "kept")}
		if groups[k] == nil {
			keys = append(keys, k)
		}
		groups[k] = append(groups[k], s)
	}
	slices.SortStableFunc(keys, func(a, b key) int { return order(a) - order(b) })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "workload\tplacement\tbrokers\tmetric\tchronik\tkafka\tchronik : kafka\trange\tpairs\tquality")
	for _, k := range keys {
		chronik, kafka := pairs(groups[k])
		for _, m := range metrics {
			a, b, ratios := values(chronik, m), values(kafka, m), []float64{}
			if median(a) == 0 || len(chronik) == 0 {
				continue
			}
			for i := range chronik {
				ratios = append(ratios, m.of(chronik[i])/m.of(kafka[i]))
			}
			low, high := inner(ratios)
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.4g\t%.4g\t%.3f\t%.3f–%.3f\t%d\t%s\n", k.workload, k.placement, k.brokers, m.name,
				median(a), median(b), median(ratios), low, high, len(ratios), qualities(groups[k]))
		}
	}
	t.Flush()
	for _, load := range workloads {
		fmt.Fprintf(w, "%s: %s\n", load.name, load.note)
	}
}

func order(k key) int {
	return slices.IndexFunc(workloads, func(w workload) bool { return w.name == k.workload })
}

// pairs puts the n-th sample of one arm beside the n-th of the other.
func pairs(all []sample) (chronik, kafka []sample) {
	for _, s := range all {
		if s.Arm == "chronik" {
			chronik = append(chronik, s)
		} else {
			kafka = append(kafka, s)
		}
	}
	n := min(len(chronik), len(kafka))
	return chronik[:n], kafka[:n]
}

func values(samples []sample, m metric) []float64 {
	var v []float64
	for _, s := range samples {
		v = append(v, m.of(s))
	}
	return v
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// inner is the lowest and the highest but one; with few values the extremes.
func inner(v []float64) (low, high float64) {
	v = slices.Sorted(slices.Values(v))
	if len(v) >= 5 {
		v = v[1 : len(v)-1]
	}
	return v[0], v[len(v)-1]
}

func qualities(all []sample) string {
	count := make(map[string]int)
	for _, s := range all {
		count[s.Quality]++
	}
	return fmt.Sprintf("%d quiet, %d ok, %d noisy", count["quiet"], count["ok"], count["noisy"])
}

// Differ holds the same conversations with a real Apache Kafka and with
// Chronik, every API key at every version that both offer, and lists where the
// answers differ.
//
//	go run ./differ                      both, started by itself
//	go run ./differ -run '^03_'          only some: a regular expression over KEY_Name/case/vN
//	go run ./differ -meant           print the differences that are meant as well
//	go run ./differ -mode kafka -v       only Kafka; print its answers
//	go run ./differ -nodes 3             three nodes of each, and the cases of a cluster; the last of them without node 3
//	go run ./differ -mode self           Kafka against Kafka: whatever differs is the test's fault
//	go run ./differ -kafka ADDR -chronik ADDR    servers that run already
//
// It fails where a difference is not in differences.txt, where one that is
// there has gone, and where docs/differences.md does not explain one.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

type options struct {
	mode, pattern, kafka, chronik, module, binary, dir string
	verbose, slow, meant                               bool
	workers, nodes                                     int
}

func main() {
	var o options
	flag.StringVar(&o.mode, "mode", "compare", "compare, kafka or self")
	flag.StringVar(&o.pattern, "run", "", "run only cases that match")
	flag.StringVar(&o.kafka, "kafka", "", "address of a Kafka that runs already")
	flag.StringVar(&o.chronik, "chronik", "", "address of a Chronik that runs already")
	flag.StringVar(&o.module, "module", ".", "directory of test/compat")
	flag.StringVar(&o.binary, "binary", "", "a chronik that is built already")
	flag.StringVar(&o.dir, "dir", "", "keep data and logs in this directory instead of a temporary one")
	flag.BoolVar(&o.verbose, "v", false, "print all answers")
	flag.BoolVar(&o.meant, "meant", false, "print the differences that are meant as well")
	flag.BoolVar(&o.slow, "slow", false, "print how long the slowest cases took")
	flag.IntVar(&o.nodes, "nodes", 1, "1 or 3 nodes of each")
	flag.IntVar(&o.workers, "workers", 8, "cases at a time")
	flag.Parse()
	ok, err := differ(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "differ:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// running is a server that runs already, given by the addresses of its nodes.
func running(name, addresses string) *side {
	s := &side{name: name, nodes: map[int32]string{}, stop: func() {},
		kill: func(int32) error { return errors.New("a server that ran already is not killed") }}
	for i, addr := range strings.Split(addresses, ",") {
		s.nodes[int32(i+1)] = addr
	}
	s.addr = s.nodes[1]
	return s
}

// open starts the servers that the mode needs.
func open(o options, dir string) (sides []*side, err error) {
	starts := []func() (*side, error){func() (*side, error) {
		if o.kafka != "" {
			return running("kafka", o.kafka), nil
		}
		return startKafka(o.module, filepath.Join(dir, "kafka"), o.nodes)
	}}
	switch o.mode {
	case "kafka":
	case "self":
		starts = append(starts, func() (*side, error) {
			s, err := startKafka(o.module, filepath.Join(dir, "kafka2"), o.nodes)
			if err == nil {
				s.name = "again"
			}
			return s, err
		})
	case "compare":
		starts = append(starts, func() (*side, error) {
			if o.chronik != "" {
				return running("chronik", o.chronik), nil
			}
			return startChronik(o.module, o.binary, dir, o.nodes)
		})
	default:
		return nil, fmt.Errorf("no mode %q", o.mode)
	}
	started := make([]*side, len(starts))
	errs := make([]error, len(starts))
	var wait sync.WaitGroup
	for i, start := range starts {
		wait.Add(1)
		go func() { defer wait.Done(); started[i], errs[i] = start() }()
	}
	wait.Wait()
	for i, s := range started {
		if s != nil {
			sides = append(sides, s)
		}
		if errs[i] != nil {
			err = errs[i]
		}
	}
	return sides, err
}

func differ(o options) (ok bool, err error) {
	if o.module, err = filepath.Abs(o.module); err != nil {
		return false, err
	}
	pattern, err := regexp.Compile(o.pattern)
	if err != nil {
		return false, err
	}
	listed, err := readDeliberate(filepath.Join(o.module, "differ", "differences.txt"))
	if err != nil {
		return false, err
	}
	dir, err := filepath.Abs(o.dir)
	if o.dir == "" {
		dir, err = os.MkdirTemp("", "differ")
		defer func() { _ = os.RemoveAll(dir) }()
	} else if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return false, err
	}
	begin := time.Now()
	sides, err := open(o, dir)
	closeAll := sync.OnceFunc(func() {
		for _, s := range sides {
			s.stop()
		}
	})
	defer closeAll()
	if err != nil {
		return false, err
	}
	stopOnSignal(closeAll)
	for _, s := range sides {
		if err := s.learn(); err != nil {
			return false, err
		}
	}
	agree(sides...)
	for _, s := range sides {
		if err := s.wake(); err != nil {
			return false, err
		}
	}
	fmt.Printf("servers up after %.1f s\n", time.Since(begin).Seconds())

	plan := jobs(sides[0].common, o.nodes, func(j job) bool { return pattern.MatchString(j.String()) })
	var results []result
	part := func(list []job, workers int) {
		begun := len(results)
		run(list, sides, workers, func(r result) { results = append(results, r) })
		holdAgain(results[begun:], sides, func(r result) bool {
			return o.mode == "compare" && slices.ContainsFunc(r.differences, func(d difference) bool {
				return !slices.ContainsFunc(listed, func(l *deliberate) bool { return l.matches(d) })
			})
		})
	}
	part(plan.alone, 1)
	part(plan.together, o.workers)
	if len(plan.without) > 0 {
		if err := loseNode(plan.without, sides); err != nil {
			return false, err
		}
		for _, j := range plan.without { // of which the last changes what the others would see
			part([]job{j}, 1)
		}
	}
	fmt.Printf("%d conversations, %.1f s in all\n", len(results), time.Since(begin).Seconds())
	uncovered := uncovered(o, sides)
	for _, line := range uncovered {
		fmt.Println(line)
	}
	return report(o, sides, results, listed) && len(uncovered) == 0, nil
}

func stopOnSignal(stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		os.Exit(130)
	}()
}

func report(o options, sides []*side, results []result, listed []*deliberate) (ok bool) {
	sort.SliceStable(results, func(i, j int) bool {
		a, b := results[i].job, results[j].job
		if a.of != b.of {
			return a.of.Key < b.of.Key || a.of.Key == b.of.Key && a.of.Name < b.of.Name
		}
		return a.version < b.version
	})
	if o.slow {
		byTime := slices.Clone(results)
		sort.Slice(byTime, func(i, j int) bool { return byTime[i].took > byTime[j].took })
		for _, r := range byTime[:min(20, len(byTime))] {
			fmt.Printf("%6.2f s %s\n", r.took.Seconds(), r.job)
		}
	}
	var all []difference
	if len(sides) == 2 && o.pattern == "" {
		all = compareOffers(sides[0], sides[1])
	}
	skipped := map[int16]int{}
	for _, r := range results {
		if r.skipped >= 0 {
			skipped[r.skipped]++
		}
		if o.verbose {
			for i, s := range sides {
				fmt.Printf("--- %s: %s\n", r.job, s.name)
				for _, v := range r.values[i] {
					fmt.Printf("    %s = %s\n", v.path, short(v.text))
				}
			}
		}
		all = append(all, r.differences...)
	}
	for key, n := range skipped {
		fmt.Printf("%d conversations not held: they need %s, which one server does not offer\n", n, kmsg.NameForKey(key))
	}
	if len(sides) < 2 {
		return true
	}
	names := [2]string{sides[0].name, sides[1].name}
	var surprising, meant []difference
	for _, d := range all {
		at := slices.IndexFunc(listed, func(l *deliberate) bool { return l.matches(d) })
		if o.mode == "compare" && at >= 0 {
			listed[at].used = true
			meant = append(meant, d)
		} else {
			surprising = append(surprising, d)
		}
	}
	lines := digest(surprising, names)
	for _, line := range lines {
		fmt.Println(line)
	}
	if o.meant {
		for _, line := range digest(meant, names) {
			fmt.Println("meant:", line)
		}
	}
	ok = len(lines) == 0
	fmt.Printf("%d differences not meant, %d meant\n", len(lines), len(digest(meant, names)))
	if o.mode != "compare" {
		return ok
	}
	if o.pattern == "" {
		for _, l := range listed {
			// One about all cases of a key need not show in those of a cluster.
			if !l.used && (o.nodes == 1 || l.name != "*") && slices.ContainsFunc(results, func(r result) bool { return l.concerns(r.job) }) {
				fmt.Printf("differences.txt:%d: %s is a difference no more\n", l.line, l.id)
				ok = false
			}
		}
	}
	for _, id := range unexplained(listed, filepath.Join(o.module, "..", "..", "docs", "differences.md")) {
		fmt.Printf("docs/differences.md does not explain `%s`\n", id)
		ok = false
	}
	return ok
}

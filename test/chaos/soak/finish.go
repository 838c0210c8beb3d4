package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/netns"
	"chronik/test/chaos/traffic"
)

// finish heals everything, ends the clients, and checks all that was promised.
func (r *run) finish(ctx context.Context) {
	r.say("all faults are over; the last words of the clients")
	begin := time.Now()
	r.awaitWell(ctx, recoveryMax)
	r.say("well again after %v", time.Since(begin).Round(time.Millisecond))
	r.load.stop()
	for _, l := range r.load.loads {
		for _, err := range l.Stop() {
			r.violated("client-error", "a producer's application saw: %v", err)
		}
	}
	r.load.wg.Wait()
	three, cancel := context.WithTimeout(ctx, 30*time.Second)
	for err := r.load.admin.three(three); err != nil; err = r.load.admin.three(three) {
		if three.Err() != nil {
			r.violated("reassignment", "back to three replicas: %v", err)
			break
		}
		pause(three, 100*time.Millisecond)
	}
	cancel()
	r.awaitWell(ctx, recoveryMax)
	r.repair()
	r.awaitWell(ctx, recoveryMax)
	r.checkContent()
	r.load.admin.check()
	r.checkReplicas()
	r.checkLogs()
}

// repair has damage looked for and repaired, where there was any done.
func (r *run) repair() {
	if !slices.ContainsFunc(r.events, func(e event) bool { return e.kind == bitFlip }) {
		return
	}
	begin := time.Now()
	code, out, err := r.c.Nodes[0].Tool("cluster", "scrub", "--now", "--wait", "--timeout", "60s")
	for (err != nil || code != 0) && time.Since(begin) < recoveryMax { // on a busy machine a replica may be behind just then
		pause(context.Background(), time.Second)
		code, out, err = r.c.Nodes[0].Tool("cluster", "scrub", "--now", "--wait", "--timeout", "60s")
	}
	if err != nil || code != 0 {
		r.violated("damaged-log", "`cluster scrub` ended with code %d, %v:\n%s", code, err, out)
	}
	r.say("scrubbed within %v", time.Since(begin).Round(time.Millisecond))
}

// checkContent reads everything and judges the history by it.
func (r *run) checkContent() {
	sends, reads := r.h.Snapshot()
	all := map[history.Place][]history.Record{}
	watches := r.h.Watches()
	for _, t := range r.load.topics {
		final, err := traffic.ReadTopic(r.c.Addresses(), t.name, t.partitions)
		if err != nil {
			r.violated("unreadable", "%v", err)
			continue
		}
		mine := slices.DeleteFunc(slices.Clone(sends), func(s history.Send) bool { return s.Topic != t.name })
		if t.weak {
			for i := range mine {
				mine[i].Outcome = history.Unknown
			}
		}
		theirs := slices.DeleteFunc(slices.Clone(reads), func(read history.Read) bool { return read.Topic != t.name })
		for _, v := range history.Check(mine, theirs, final, t.promise()) {
			r.violated(v.Kind, "%s", v.Detail)
		}
		watches = append(watches, history.EndsOf(mine)...)
		for place, records := range final {
			all[place] = records
		}
	}
	for _, v := range history.CheckWatches(watches, 5) {
		r.violated(v.Kind, "%s", v.Detail)
	}
	r.say("everything is read; now the groups")
	for _, g := range r.load.groups {
		g.drain(all, 60*time.Second)
	}
}

// checkReplicas compares the batches that are in the files of all nodes.
func (r *run) checkReplicas() {
	for _, t := range r.load.topics {
		for p := range t.partitions {
			var first []string
			for _, n := range r.c.Nodes {
				batches, err := n.Batches(t.name, p)
				if err != nil {
					r.violated("damaged-log", "node %d, %s-%d: %v", n.ID, t.name, p, err)
					continue
				}
				if first == nil {
					first = batches
				}
				if !slices.Equal(first, batches) {
					r.violated("replicas-differ", "%s-%d: node %d has other batches on its disk than node %d", t.name, p, n.ID, r.c.Nodes[0].ID)
				}
			}
		}
	}
}

// checkLogs searches what the nodes wrote for what must never be there.
func (r *run) checkLogs() {
	for _, n := range r.c.Nodes {
		for line := range strings.Lines(n.Log()) {
			for _, bad := range []string{"panic", "invariant", "fatal error", "DATA RACE"} {
				if strings.Contains(line, bad) {
					r.violated("panic", "node %d: %s", n.ID, strings.TrimSpace(line))
				}
			}
		}
	}
}

// usage is what one process uses.
type usage struct {
	goroutines, files, replicas int
	rss                         int64
}

// filesPerReplica is how many files a replica may have open: the active segment,
// written past the cache too, its index, the checkpoint, and the last sealed
// segments that were read.
const filesPerReplica = 8

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d open files with %d replicas, %d MiB", u.goroutines, u.files, u.replicas, u.rss>>20)
}

// growth reads what each node uses.
func (r *run) growth() []usage {
	var all []usage
	replicas := make(map[int32]int)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m, err := r.admin.Metadata(ctx)
	if err != nil {
		r.violated("harness", "metadata: %v", err)
	}
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			for _, node := range p.Replicas {
				replicas[node]++
			}
		}
	}
	for _, n := range r.c.Nodes {
		u, err := usageOf(n)
		if err != nil {
			r.violated("metrics", "node %d: %v", n.ID, err)
		}
		u.replicas = replicas[int32(n.ID)]
		all = append(all, u)
	}
	return all
}

func usageOf(n *cluster.Node) (usage, error) {
	rss, err := n.RSS()
	if err != nil {
		return usage{}, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
	if err != nil {
		return usage{}, err
	}
	u := usage{files: len(files), rss: rss}
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: netns.DialContext}}
	resp, err := client.Get("http://" + n.HTTP + "/metrics")
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			u.goroutines, err = strconv.Atoi(strings.TrimSpace(value))
			return u, err
		}
	}
	return u, errors.New("no go_goroutines in /metrics")
}

// grown says what a node uses too much of at the end, without clients, by what it
// used at the beginning, with them.
func grown(before, after usage) bool {
	return after.goroutines > before.goroutines+50 || after.files > before.files+50+filesPerReplica*after.replicas || after.rss > before.rss+256<<20
}

// calmMax is how long a node may take to give back what it used for its last
// clients: the collector runs every two minutes where there is nothing to do.
const calmMax = 4 * time.Minute

// compareGrowth waits until no node uses too much.
func (r *run) compareGrowth(before []usage) {
	var after []usage
	for begin := time.Now(); ; pause(context.Background(), 5*time.Second) {
		after = r.growth()
		some := false
		for i := range before {
			some = some || grown(before[i], after[i])
		}
		if !some || time.Since(begin) > calmMax {
			break
		}
	}
	for i := range before {
		r.say("node %d: at first %v, in the end %v", i+1, before[i], after[i])
		if grown(before[i], after[i]) {
			r.violated("growth", "node %d: at first %v, in the end %v", i+1, before[i], after[i])
		}
	}
}

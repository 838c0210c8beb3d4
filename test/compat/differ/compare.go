package main

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// difference is one field of one answer in which the servers disagree.
type difference struct {
	key     int16
	name    string // of the case
	version int16
	path    string
	texts   [2]string
}

// job is one case at one version.
type job struct {
	of      *Case
	version int16
	again   int // how often it was held before
}

// again is how often a conversation is held once more that has shown a difference
// which is not meant. On a busy machine a replica of either server may fall
// behind, or a lead move, and then they differ once; what is really different
// differs each time.
const again = 2

func (j job) String() string {
	return fmt.Sprintf("%02d_%s/%s/v%d", j.of.Key, kmsg.NameForKey(j.of.Key), j.of.Name, j.version)
}

// plan is what is to be run, in its order.
type plan struct{ alone, together, without []job }

// jobs lists what can be run against servers which have common in common.
func jobs(common map[int16]span, nodes int, wanted func(job) bool) plan {
	var out plan
	for i := range cases {
		c := &cases[i]
		offered, ok := common[c.Key]
		if !ok || max(1, c.Nodes) != nodes {
			continue
		}
		for v := max(offered.min, c.From); v <= c.last(offered); v++ {
			j := job{of: c, version: v}
			switch {
			case !wanted(j):
			case c.Without:
				out.without = append(out.without, j)
			case c.Alone:
				out.alone = append(out.alone, j)
			default:
				out.together = append(out.together, j)
			}
		}
	}
	// What takes the node away for good comes last.
	sort.SliceStable(out.without, func(a, b int) bool { return out.without[a].of.Key != unregister && out.without[b].of.Key == unregister })
	return out
}

const unregister = int16(kmsg.UnregisterBroker)

// last is the last version of a case.
func (c *Case) last(offered span) int16 {
	if c.To == 0 {
		return offered.max
	}
	return min(offered.max, c.To)
}

// result is what came of one job.
type result struct {
	job         job
	values      [2][]value
	differences []difference
	skipped     int16 // the API key that a server lacks, or -1
	took        time.Duration
}

// hold runs one job with all sides at the same time.
func hold(j job, sides []*side) result {
	r := result{job: j, skipped: -1}
	begin := time.Now()
	var wait sync.WaitGroup
	var mu sync.Mutex
	for i, s := range sides {
		wait.Add(1)
		go func() {
			defer wait.Done()
			c := newConversation(s, j)
			answers, skipped := c.hold(j.of.Run)
			if skipped >= 0 {
				mu.Lock()
				r.skipped = skipped
				mu.Unlock()
			}
			n := newNormal(c.ids)
			for _, a := range answers {
				r.values[i] = append(r.values[i], a.normalise(n)...)
			}
		}()
	}
	wait.Wait()
	r.took = time.Since(begin)
	if len(sides) == 2 && r.skipped < 0 {
		r.differences = compare(j, r.values)
	}
	return r
}

// compare lists the values that differ. What is there on one side only, an
// answer or an element of an array, counts as one.
func compare(j job, values [2][]value) []difference {
	texts := map[string]*[2]string{}
	var order []string
	var heads [2]map[string]bool // of all paths: answers and elements that exist
	for side, list := range values {
		heads[side] = map[string]bool{}
		for _, v := range list {
			for _, h := range headsOf(v.path) {
				heads[side][h] = true
			}
			if texts[v.path] == nil {
				texts[v.path] = &[2]string{"absent", "absent"}
				order = append(order, v.path)
			}
			texts[v.path][side] = v.text
		}
	}
	// The names that a case makes up carry the version; versions that differ alike are shown as one.
	tag := j.tag()
	tidy := func(s string) string { return strings.ReplaceAll(s, tag, "~") }
	var out []difference
	told := map[string]bool{}
	// Who could not be set up has answered nothing; that is one difference, or none if neither could.
	if at := texts["setup:"]; at != nil {
		if at[0] == at[1] {
			at[1] += ", like the other"
		}
		return append(out, difference{j.of.Key, j.of.Name, j.version, "setup:", [2]string{tidy(at[0]), tidy(at[1])}})
	}
	for _, path := range order {
		t := *texts[path]
		if t[0] == t[1] {
			continue
		}
		for _, h := range headsOf(path) {
			if a, b := heads[0][h], heads[1][h]; a != b {
				path, t = h, [2]string{"absent", "present"}
				if a {
					t = [2]string{"present", "absent"}
				}
				break
			}
			// Closed and answered: the fields of the answer are no news.
			if at := texts[h]; at != nil && h != path && at[0] != at[1] {
				path, t = h, *at
				break
			}
		}
		if told[path] || slices.ContainsFunc(j.of.Ignore, func(g string) bool { return glob(g, path) }) {
			continue
		}
		told[path] = true
		out = append(out, difference{j.of.Key, j.of.Name, j.version, tidy(path), [2]string{tidy(t[0]), tidy(t[1])}})
	}
	return out
}

// headsOf lists the beginnings of a path at which something may be missing as
// a whole: "label:" and each "...[element]".
func headsOf(path string) []string {
	var out []string
	colon := strings.Index(path, ":")
	out = append(out, path[:colon+1])
	for i := colon + 1; i < len(path); i++ {
		if path[i] == ']' {
			out = append(out, path[:i+1])
		}
	}
	return out
}

// run holds all jobs, several at a time.
func run(list []job, sides []*side, workers int, done func(result)) {
	queue := make(chan job)
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for j := range queue {
				r := hold(j, sides)
				mu.Lock()
				done(r)
				mu.Unlock()
			}
		}()
	}
	for _, j := range list {
		queue <- j
	}
	close(queue)
	wait.Wait()
}

// holdAgain holds once more, one at a time, those of the last results that
// surprise, and puts what comes of it in their place.
func holdAgain(results []result, sides []*side, surprises func(result) bool) {
	for i := range results {
		for results[i].job.again < again && surprises(results[i]) {
			before, j := results[i], results[i].job
			j.again++
			time.Sleep(time.Duration(j.again) * 2 * time.Second) // for who has fallen behind
			results[i] = hold(j, sides)
			if !surprises(results[i]) {
				fmt.Printf("%s differed, and not when it was held again: %s\n", j,
					strings.Join(digest(before.differences, [2]string{sides[0].name, sides[1].name}), "; "))
			}
		}
	}
}

// compareOffers tells where the second server offers other versions: a key is
// missing, has extra versions, or fewer (other).
func compareOffers(a, b *side) []difference {
	keys := map[int16]bool{}
	for k := range a.offers {
		keys[k] = true
	}
	for k := range b.offers {
		keys[k] = true
	}
	text := func(s *side, k int16) string {
		if v, ok := s.offers[k]; ok {
			return v.String()
		}
		return "none"
	}
	var out []difference
	for k := range keys {
		if t := [2]string{text(a, k), text(b, k)}; t[0] != t[1] {
			how := "other"
			theirs, ok := a.offers[k]
			ours, served := b.offers[k]
			switch {
			case !served:
				how = "missing"
			case !ok || ours.min < theirs.min || ours.max > theirs.max:
				how = "extra"
			}
			out = append(out, difference{k, "offered", -1, how, t})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].key < out[j].key })
	return out
}

// digest writes differences one to a line; versions, answers and elements of
// arrays that differ alike are told together.
func digest(list []difference, names [2]string) []string {
	type group struct{ key, name, field, a, b string }
	type where struct {
		versions         []int16
		labels, elements []string
	}
	groups := map[group]*where{}
	var order []group
	for _, d := range list {
		label, field, _ := strings.Cut(d.path, ":")
		g := group{fmt.Sprintf("%02d %s", d.key, kmsg.NameForKey(d.key)), d.name, element.ReplaceAllString(field, "[]"), d.texts[0], d.texts[1]}
		w := groups[g]
		if w == nil {
			w = &where{}
			groups[g] = w
			order = append(order, g)
		}
		w.versions = append(w.versions, d.version)
		if !slices.Contains(w.labels, label) {
			w.labels = append(w.labels, label)
		}
		if all := element.FindAllString(field, -1); len(all) > 0 && !slices.Contains(w.elements, all[len(all)-1]) {
			w.elements = append(w.elements, all[len(all)-1])
		}
	}
	sort.SliceStable(order, func(i, j int) bool {
		if order[i].key != order[j].key {
			return order[i].key < order[j].key
		}
		return order[i].name < order[j].name
	})
	var out []string
	for _, g := range order {
		w := groups[g]
		out = append(out, fmt.Sprintf("%s %s %s %s: %s=%s %s=%s {%s} %s", g.key, g.name, ranges(w.versions),
			g.field, names[0], short(g.a), names[1], short(g.b), strings.Join(w.labels, " | "), strings.Join(w.elements, "")))
	}
	return out
}

var element = regexp.MustCompile(`\[[^\]]*\]`)

func short(s string) string {
	if len(s) > 160 {
		return s[:160] + "…"
	}
	return s
}

func ranges(versions []int16) string {
	slices.Sort(versions)
	versions = slices.Compact(versions)
	var parts []string
	for i := 0; i < len(versions); {
		j := i
		for j+1 < len(versions) && versions[j+1] == versions[j]+1 {
			j++
		}
		if versions[i] >= 0 {
			parts = append(parts, "v"+span{versions[i], versions[j]}.String())
		} else {
			parts = append(parts, "-")
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

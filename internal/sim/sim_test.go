package sim

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// check runs a seed and says how to see a failure again.
func check(t *testing.T, o Options) *Result {
	t.Helper()
	r := Run(o)
	if r.Failed() {
		var b strings.Builder
		r.Report(&b, 100)
		t.Errorf("%s\n%s\nagain: chronik simulate --seed %d --minutes %g", b.String(), r, o.Seed, o.Length.Minutes())
	}
	return r
}

func TestPromisesHoldUnderFaults(t *testing.T) {
	seeds, length := 24, time.Minute
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		if check(t, Options{Seed: uint64(seed) + 1000, Length: length}); t.Failed() {
			return
		}
	}
}

func TestRecordedSeedsStayFixed(t *testing.T) {
	f, err := os.Open("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		var o Options
		var minutes float64
		if _, err := fmt.Sscan(line, &o.Seed, &minutes); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		o.Length = time.Duration(minutes * float64(time.Minute))
		if _, rest, ok := strings.Cut(line, `--faults "`); ok {
			kinds, _, _ := strings.Cut(rest, `"`)
			o.Faults = strings.Split(kinds, ",")
		}
		if _, rest, ok := strings.Cut(line, "--groups "); ok {
			if _, err := fmt.Sscan(rest, &o.Groups); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
		}
		t.Run(fmt.Sprint(o.Seed), func(t *testing.T) { check(t, o) })
		count++
	}
	if count == 0 {
		t.Error("no seeds are recorded")
	}
}

func TestASeedGivesTheSameRunEachTime(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		o := Options{Seed: seed, Length: 30 * time.Second}
		a, b := check(t, o), check(t, o)
		if a.Hash != b.Hash || a.Events != b.Events {
			t.Errorf("seed %d: two runs differ: %v and %v", seed, a, b)
		}
		o.Seed += 100
		if c := check(t, o); c.Hash == a.Hash {
			t.Errorf("seeds %d and %d give the same run", seed, o.Seed)
		}
	}
}

// A run that does nothing finds nothing.
func TestRunsAreBusy(t *testing.T) {
	var acked, read, epochs, restarts int
	faults := map[string]int{}
	for seed := uint64(1); seed <= 20; seed++ {
		r := check(t, Options{Seed: seed, Length: 20 * time.Second})
		acked, read, epochs, restarts = acked+r.Acked, read+r.Read, epochs+r.Epochs, restarts+r.Restarts
		for k, n := range r.Faults {
			faults[k] += n
		}
	}
	if acked < 10_000 || read < 2000 || epochs < 150 || restarts < 80 {
		t.Errorf("20 runs of 20 s: %d records acknowledged, %d reads, %d leader epochs, %d starts", acked, read, epochs, restarts)
	}
	if len(faults) < len(allFaults)*3/4 {
		t.Errorf("only these faults came: %v", faults)
	}
}

func TestClockKeepsWallAndMonotonicTimeApart(t *testing.T) {
	c := clock{rate: 1.0005, wall: time.Hour}
	a := c.time(10 * second)
	c.wall -= 30 * time.Minute
	b := c.time(11 * second)
	if d := b.Sub(a); d < 1000*time.Millisecond || d > 1001*time.Millisecond {
		t.Errorf("a stepped wall clock moved the monotonic one by %v", d)
	}
	if d := b.UnixNano() - a.UnixNano(); d > -int64(29*time.Minute) {
		t.Errorf("the wall clock was stepped by %v", time.Duration(d))
	}
	for _, d := range []time.Duration{0, 1, 999, time.Second, time.Hour} {
		want := b.Add(d)
		at := c.when(11*second, want)
		if c.time(at).Before(want) || at > 11*second && !c.time(at-1).Before(want) {
			t.Errorf("after %v: %v is not the first moment", d, at)
		}
	}
}

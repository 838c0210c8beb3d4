package soak

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"chronik/test/chaos/history"
)

// report is the table that a run ends with.
func (r *run) report() string {
	var b strings.Builder
	sends, _ := r.h.Snapshot()
	taken := int64(0)
	for _, g := range r.load.groups {
		taken += g.taken.Load()
	}
	fmt.Fprintf(&b, "\nseed %d, %v\n", r.opts.seed, time.Since(r.began).Round(time.Second))
	fmt.Fprintf(&b, "operations: %d records sent, %d acknowledged, %d read, %d taken by groups, %d other requests\n",
		len(sends), r.h.AckedCount(), r.load.polled.Load(), taken, r.load.ops.Load())
	for _, g := range r.load.groups {
		fmt.Fprintf(&b, "  %v\n", g)
	}
	fmt.Fprintf(&b, "  administrator: %v\n", r.load.admin.done)
	fmt.Fprintf(&b, "longest time without an acknowledgement (acks=all), of the partitions with three replicas and of those that are moved:\n")
	fmt.Fprintf(&b, "  %-32s %5s %9s   %-32s %s\n", "fault", "times", "for", "three", "moved")
	type sum struct {
		times        int
		length       time.Duration
		three, moved gap
	}
	sums := map[string]*sum{}
	for _, e := range r.events {
		s := sums[e.kind]
		if s == nil {
			s = &sum{}
			sums[e.kind] = s
		}
		s.times++
		s.length += e.end.Sub(e.begin)
	}
	for _, g := range r.gaps(sends) {
		switch s := sums[r.causeOf(g)]; {
		case s == nil:
		case r.load.moves(g.place.Topic): // to two replicas as well, which both must be there
			s.moved = longer(s.moved, g)
		default:
			s.three = longer(s.three, g)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		s := sums[name]
		fmt.Fprintf(&b, "  %-32s %5d %9v   %-32v %v\n", name, s.times, s.length.Round(100*time.Millisecond), s.three, s.moved)
	}
	fmt.Fprintf(&b, "violations: %d\n", len(r.violations))
	for _, v := range r.violations {
		fmt.Fprintf(&b, "  %v\n", v)
	}
	return b.String()
}

// causeOf is the kind of the last fault that had begun when a partition fell
// silent, or shortly after.
func (r *run) causeOf(g gap) string {
	const late = 50 * time.Millisecond
	cause := ""
	var latest time.Time
	for _, e := range r.events {
		if e.begin.Before(g.begin.Add(late)) && e.begin.After(latest) {
			cause, latest = e.kind, e.begin
		}
	}
	return cause
}

// gap is a time in which a partition acknowledged nothing.
type gap struct {
	place      history.Place
	begin, end time.Time
}

func (g gap) length() time.Duration { return g.end.Sub(g.begin) }

func (g gap) String() string {
	if g.begin.IsZero() {
		return "under 100 ms"
	}
	return fmt.Sprintf("%v, %s-%d from %s", g.length().Round(time.Millisecond), g.place.Topic, g.place.Partition, g.begin.Format("15:04:05.0"))
}

func longer(a, b gap) gap {
	if b.length() > a.length() {
		return b
	}
	return a
}

// gaps are those of 100 ms and more.
func (r *run) gaps(sends []history.Send) []gap {
	ends := map[history.Place][]time.Time{}
	for i := range sends {
		if sends[i].Outcome == history.Acked && sends[i].Topic != "weak" {
			ends[sends[i].Place] = append(ends[sends[i].Place], sends[i].End)
		}
	}
	var all []gap
	for place, times := range ends {
		slices.SortFunc(times, time.Time.Compare)
		for i := 1; i < len(times); i++ {
			if times[i].Sub(times[i-1]) >= 100*time.Millisecond {
				all = append(all, gap{place, times[i-1], times[i]})
			}
		}
	}
	return all
}

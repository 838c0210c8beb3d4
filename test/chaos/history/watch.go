package history

import (
	"fmt"
	"slices"
	"time"
)

// Watch is one answer about a value that may only grow, such as the end of a
// partition or a group's committed offset.
type Watch struct {
	Kind string // the promise, such as high-watermark
	Key  string // whose value it is
	From string // who said it
	// When it was asked and answered.
	Begin, End time.Time
	Value      int64
}

// Watched adds an answer.
func (h *History) Watched(w Watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.grown = append(h.grown, w)
}

// Watches returns a copy of the answers so far.
func (h *History) Watches() []Watch {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.grown)
}

// EndsOf makes answers of acknowledgements with acks=all: each says that the
// partition's high watermark is above its record.
func EndsOf(sends []Send) []Watch {
	var ends []Watch
	for i := range sends {
		if s := &sends[i]; s.Outcome == Acked {
			ends = append(ends, Watch{Kind: HighWatermark, Key: fmt.Sprint(s.Place), From: "an acknowledgement",
				Begin: s.Begin, End: s.End, Value: s.Offset + 1})
		}
	}
	return ends
}

// Kinds of watches.
const (
	HighWatermark   = "high-watermark"
	CommittedOffset = "committed-offset"
)

// CheckWatches finds answers below another one that had been given before the
// question was asked.
func CheckWatches(watches []Watch, shownMax int) []Violation {
	c := &checker{promise: Promise{ShownMax: shownMax}, shown: make(map[string]int)}
	byKey := make(map[[2]string][]*Watch)
	for i := range watches {
		w := &watches[i]
		key := [2]string{w.Kind, w.Key}
		byKey[key] = append(byKey[key], w)
	}
	for key, answers := range byKey {
		byBegin := slices.Clone(answers)
		slices.SortFunc(byBegin, func(a, b *Watch) int { return a.Begin.Compare(b.Begin) })
		slices.SortFunc(answers, func(a, b *Watch) int { return a.End.Compare(b.End) })
		next := 0
		var known *Watch
		for _, w := range byBegin {
			for ; next < len(answers) && answers[next].End.Before(w.Begin); next++ {
				if known == nil || answers[next].Value > known.Value {
					known = answers[next]
				}
			}
			if known != nil && w.Value < known.Value {
				c.add(key[0]+"-went-back", "%s: %s said %d at %s, after %s had said %d at %s", key[1],
					w.From, w.Value, w.End.Format(clock), known.From, known.Value, known.End.Format(clock))
			}
		}
	}
	return c.found
}

const clock = "15:04:05.000"

// CheckSeen finds records of the final content that a group of readers, which
// had all the time it needed, never got: unseen.
func CheckSeen(group string, final map[Place][]Record, seen map[Place]map[int64]bool) []Violation {
	c := &checker{promise: Promise{ShownMax: 5}, shown: make(map[string]int)}
	for place, records := range final {
		for _, r := range records {
			if !seen[place][r.Offset] {
				c.add("unseen", "%s never got %v of %v offset %d", group, r.ID, place, r.Offset)
			}
		}
	}
	return c.found
}

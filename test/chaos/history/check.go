package history

import (
	"fmt"
	"slices"
	"time"
)

// Promise selects what Check demands beyond what always holds.
type Promise struct {
	// Once: no record is in the log twice. True for idempotent producers, and
	// for producers that never send a record again.
	Once bool
	// Ordered: each producer's records are in a partition in the order in
	// which it sent them.
	Ordered bool
	// LogStart is where logs begin now, because of DeleteRecords or retention;
	// what was acknowledged below may be gone.
	LogStart map[Place]int64
	// ShownMax limits the violations of one kind that are spelled out. Default 5.
	ShownMax int
}

// Violation is one broken promise.
type Violation struct {
	Kind   string // lost-write, inconsistent-offsets, duplicate, …
	Detail string
}

func (v Violation) String() string { return v.Kind + ": " + v.Detail }

// Check judges the history by the final content of the partitions, read to
// their ends when nothing was going on any more.
//
// The kinds are those of Jepsen's Kafka checker as far as they apply outside
// of transactions:
//
//	lost-write            acknowledged and not in the final content
//	inconsistent-offsets  two records at one offset, over all acks and reads
//	duplicate             one record at two offsets
//	refused-read          a record was read whose write was refused
//	vanished-read         a record was read that is not there in the end
//	foreign-read          a record was read that nobody sent
//	nonmonotonic-send     a producer's records are not in the order of sending
//	realtime-order        sent after another's ack, yet at a lower offset
//	nonmonotonic-poll     a reader's offsets went back
//	poll-skip             a reader passed over a record that is there
func Check(sends []Send, reads []Read, final map[Place][]Record, p Promise) []Violation {
	if p.ShownMax == 0 {
		p.ShownMax = 5
	}
	c := &checker{promise: p, final: final, shown: make(map[string]int), at: make(map[Place]map[int64]ID)}
	for place, records := range final {
		c.at[place] = make(map[int64]ID, len(records))
		c.checkOffsetsAscend(place, records, "final read")
		for _, r := range records {
			c.at[place][r.Offset] = r.ID
		}
	}
	c.checkSends(sends)
	c.checkReads(sends, reads)
	c.checkFinal(sends)
	c.checkRealtime(sends)
	for kind, n := range c.shown {
		if n > p.ShownMax {
			c.found = append(c.found, Violation{kind, fmt.Sprintf("%d more", n-p.ShownMax)})
		}
	}
	slices.SortFunc(c.found, func(a, b Violation) int {
		return slices.Compare([]string{a.Kind, a.Detail}, []string{b.Kind, b.Detail})
	})
	return c.found
}

type checker struct {
	promise Promise
	final   map[Place][]Record
	at      map[Place]map[int64]ID
	shown   map[string]int
	found   []Violation
}

func (c *checker) add(kind, format string, args ...any) {
	if c.shown[kind]++; c.shown[kind] <= c.promise.ShownMax {
		c.found = append(c.found, Violation{kind, fmt.Sprintf(format, args...)})
	}
}

// checkSends finds acknowledged records that are not where they were said to be.
func (c *checker) checkSends(sends []Send) {
	for i := range sends {
		s := &sends[i]
		if s.Outcome != Acked || s.Offset < c.promise.LogStart[s.Place] {
			continue
		}
		switch id, ok := c.at[s.Place][s.Offset]; {
		case !ok:
			c.add("lost-write", "%v offset %d: %v, acknowledged %s", s.Place, s.Offset, s.ID, s.End.Format("15:04:05.000"))
		case id != s.ID:
			c.add("inconsistent-offsets", "%v offset %d: acknowledged %v, in the end %v", s.Place, s.Offset, s.ID, id)
		}
	}
}

// checkReads compares what was read on the way with the final content.
func (c *checker) checkReads(sends []Send, reads []Read) {
	refused := make(map[ID]bool)
	for i := range sends {
		if sends[i].Outcome == Refused {
			refused[sends[i].ID] = true
		}
	}
	for place, records := range c.final {
		for _, r := range records {
			if refused[r.ID] {
				c.add("refused-read", "%v offset %d: %v", place, r.Offset, r.ID)
			}
		}
	}
	for _, read := range reads {
		c.checkOffsetsAscend(read.Place, read.Records, "poll")
		c.checkSkips(read)
		for _, r := range read.Records {
			if refused[r.ID] {
				c.add("refused-read", "%v offset %d: %v", read.Place, r.Offset, r.ID)
			}
			if r.Offset < c.promise.LogStart[read.Place] {
				continue
			}
			switch id, ok := c.at[read.Place][r.Offset]; {
			case !ok:
				c.add("vanished-read", "%v offset %d: %v was read and is gone", read.Place, r.Offset, r.ID)
			case id != r.ID:
				c.add("inconsistent-offsets", "%v offset %d: read %v, in the end %v", read.Place, r.Offset, r.ID, id)
			}
		}
	}
}

func (c *checker) checkOffsetsAscend(place Place, records []Record, what string) {
	for i := 1; i < len(records); i++ {
		if records[i].Offset <= records[i-1].Offset {
			c.add("nonmonotonic-poll", "%v %s: offset %d after %d", place, what, records[i].Offset, records[i-1].Offset)
		}
	}
}

// checkSkips finds records of the final content between two that were read one
// after the other. Gaps without records are legal.
func (c *checker) checkSkips(read Read) {
	final := c.final[read.Place]
	for i := 1; i < len(read.Records); i++ {
		low, high := read.Records[i-1].Offset+1, read.Records[i].Offset
		if low >= high {
			continue
		}
		at, _ := slices.BinarySearchFunc(final, low, func(r Record, o int64) int { return int(r.Offset - o) })
		if at < len(final) && final[at].Offset < high {
			c.add("poll-skip", "%v: read %d and then %d, but %d is there", read.Place, low-1, high, final[at].Offset)
		}
	}
}

// checkFinal finds records that are there twice, that nobody sent, or that
// stand in another order than they were sent in.
func (c *checker) checkFinal(sends []Send) {
	sent := make(map[ID]Place, len(sends))
	for i := range sends {
		sent[sends[i].ID] = sends[i].Place
	}
	seen := make(map[ID]int64)
	for place, records := range c.final {
		last := make(map[uint32]uint64)
		for _, r := range records {
			if to, ok := sent[r.ID]; !ok || to != place {
				c.add("foreign-read", "%v offset %d: %v was never sent there", place, r.Offset, r.ID)
			}
			if at, twice := seen[r.ID]; twice && c.promise.Once {
				c.add("duplicate", "%v: %v at offsets %d and %d", place, r.ID, at, r.Offset)
			}
			seen[r.ID] = r.Offset
			if was, ok := last[r.Producer]; ok && c.promise.Ordered && r.Seq < was {
				c.add("nonmonotonic-send", "%v offset %d: %v after seq %d", place, r.Offset, r.ID, was)
			}
			last[r.Producer] = r.Seq
		}
	}
}

// checkRealtime demands that a record sent after another was acknowledged has
// the higher offset of the two.
func (c *checker) checkRealtime(sends []Send) {
	byPlace := make(map[Place][]*Send)
	for i := range sends {
		if sends[i].Outcome == Acked {
			byPlace[sends[i].Place] = append(byPlace[sends[i].Place], &sends[i])
		}
	}
	for place, acked := range byPlace {
		byBegin := slices.Clone(acked)
		slices.SortFunc(byBegin, func(a, b *Send) int { return a.Begin.Compare(b.Begin) })
		slices.SortFunc(acked, func(a, b *Send) int { return a.End.Compare(b.End) })
		next, known := 0, int64(-1)
		for _, s := range byBegin {
			for next < len(acked) && acked[next].End.Before(s.Begin) {
				known = max(known, acked[next].Offset)
				next++
			}
			if s.Offset <= known {
				c.add("realtime-order", "%v: offset %d was given after %d had been acknowledged", place, s.Offset, known)
			}
		}
	}
}

func longestGaps(sends []Send) map[Place]time.Duration {
	ends := make(map[Place][]time.Time)
	for i := range sends {
		if sends[i].Outcome == Acked {
			ends[sends[i].Place] = append(ends[sends[i].Place], sends[i].End)
		}
	}
	gaps := make(map[Place]time.Duration)
	for place, times := range ends {
		slices.SortFunc(times, time.Time.Compare)
		for i := 1; i < len(times); i++ {
			gaps[place] = max(gaps[place], times[i].Sub(times[i-1]))
		}
	}
	return gaps
}

// CheckAcked finds acknowledged records that are missing from content, or
// stand elsewhere in it, while loads may still go on.
func CheckAcked(sends []Send, content map[Place][]Record, logStart map[Place]int64) []Violation {
	c := &checker{promise: Promise{LogStart: logStart, ShownMax: 5}, shown: make(map[string]int), at: make(map[Place]map[int64]ID)}
	for place, records := range content {
		c.at[place] = make(map[int64]ID, len(records))
		for _, r := range records {
			c.at[place][r.Offset] = r.ID
		}
	}
	c.checkSends(sends)
	return c.found
}

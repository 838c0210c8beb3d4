package replica

import (
	"time"

	"chronik/internal/base/kafka"
)

// waiting is a request that is answered when an offset is reached.
type waiting struct {
	ticket    Ticket
	upTo      kafka.Offset // answered when this much is reached
	offset    kafka.Offset // for the answer
	timestamp int64        // for the answer
	deadline  time.Time    // zero: never
}

// waitlist is a queue of waiting requests in the order of upTo.
type waitlist struct {
	entries []waiting
	head    int
}

func (w *waitlist) len() int { return len(w.entries) - w.head }

// push keeps the order: all but duplicates of idempotent producers go to the end.
func (w *waitlist) push(e waiting) {
	if w.head == len(w.entries) {
		w.entries, w.head = w.entries[:0], 0
	} else if w.head > 64 && w.head > len(w.entries)/2 {
		w.entries = append(w.entries[:0], w.entries[w.head:]...)
		w.head = 0
	}
	w.entries = append(w.entries, e)
	for i := len(w.entries) - 1; i > w.head && w.entries[i-1].upTo > e.upTo; i-- {
		w.entries[i], w.entries[i-1] = w.entries[i-1], e
	}
}

// pop takes the first entry out if reached is far enough for it.
func (w *waitlist) pop(reached kafka.Offset) (waiting, bool) {
	if w.head == len(w.entries) || w.entries[w.head].upTo > reached {
		return waiting{}, false
	}
	w.head++
	return w.entries[w.head-1], true
}

// expire takes out and gives to f what is due, and returns the earliest
// deadline that is left or the zero time.
func (w *waitlist) expire(now time.Time, f func(waiting)) time.Time {
	var next time.Time
	kept := w.entries[:0]
	for _, e := range w.entries[w.head:] {
		if !e.deadline.IsZero() && !e.deadline.After(now) {
			f(e)
			continue
		}
		kept = append(kept, e)
		next = earlier(next, e.deadline)
	}
	w.entries, w.head = kept, 0
	return next
}

// drain takes all entries out.
func (w *waitlist) drain(f func(waiting)) {
	for _, e := range w.entries[w.head:] {
		f(e)
	}
	w.entries, w.head = w.entries[:0], 0
}

// earlier is the earlier of two times of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// due says whether the time at, zero meaning never, has come.
func due(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

// Package history records what producers and readers saw, and checks it
// against what a log promises.
package history

import (
	"sync"
	"time"
)

// ID names one record: every record of a test has its own.
type ID struct {
	Producer uint32
	Seq      uint64 // ascends per producer
}

// Place is a partition.
type Place struct {
	Topic     string
	Partition int32
}

// Outcome is what a producer knows about a record it sent.
type Outcome int8

// What can have become of a record.
const (
	Unknown Outcome = iota // it may be in the log or not
	Acked                  // it is, at Offset
	Refused                // it is not and never will be
)

// Send is one record as its producer saw it.
type Send struct {
	ID
	Place
	Begin, End time.Time
	Outcome    Outcome
	Offset     int64 // where Acked
}

// Record is one record as a reader saw it.
type Record struct {
	Offset int64
	ID
}

// Read is what one reader saw of one partition, in the order of arrival.
type Read struct {
	Place
	Records []Record
}

// History collects sends and reads of any number of goroutines.
type History struct {
	mu    sync.Mutex
	sends []Send
	reads []Read
	grown []Watch
	acked int
}

// Sent adds a record whose outcome is known or never will be.
func (h *History) Sent(s Send) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sends = append(h.sends, s)
	if s.Outcome == Acked {
		h.acked++
	}
}

// Saw adds what one reader read of a partition, oldest first.
func (h *History) Saw(r Read) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, r)
}

// AckedCount is how many records have been acknowledged so far.
func (h *History) AckedCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked
}

// AckedIn returns, per partition, how many records have been acknowledged so far.
func (h *History) AckedIn() map[Place]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	count := make(map[Place]int64)
	for i := range h.sends {
		if h.sends[i].Outcome == Acked {
			count[h.sends[i].Place]++
		}
	}
	return count
}

// Snapshot returns a copy of what has been recorded so far.
func (h *History) Snapshot() (sends []Send, reads []Read) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Send(nil), h.sends...), append([]Read(nil), h.reads...)
}

// LongestGap is the longest time without an acknowledgement in a partition
// between the first and the last one of the whole history.
func (h *History) LongestGap() map[Place]time.Duration {
	sends, _ := h.Snapshot()
	return longestGaps(sends)
}

// Package deadline keeps the calls that a node has to make at a later time, in
// order of their time, for whoever owns the clock to run.
package deadline

import (
	"container/heap"
	"sync"
	"time"
)

// Queue is a set of deadlines. Any goroutine may use it.
type Queue struct {
	mu      sync.Mutex
	entries entryHeap
	seq     uint64
	wake    func(time.Time) // told of an earliest deadline that moved forward; may be nil
}

// Entry is one deadline in a Queue.
type Entry struct {
	queue *Queue
	at    time.Time
	seq   uint64
	fn    func(now time.Time)
	index int // place in the heap; -1 when not in it
}

// New makes an empty queue. Wake, when not nil, is called with the time of the
// earliest deadline each time one is added before all others; it must not
// block nor call the queue.
func New(wake func(time.Time)) *Queue { return &Queue{wake: wake} }

// At has fn called once, by Run, when at has come. Deadlines with the same
// time run in the order in which they were added.
func (q *Queue) At(at time.Time, fn func(now time.Time)) *Entry {
	q.mu.Lock()
	q.seq++
	e := &Entry{queue: q, at: at, seq: q.seq, fn: fn}
	heap.Push(&q.entries, e)
	first := e.index == 0
	q.mu.Unlock()
	if first && q.wake != nil {
		q.wake(at)
	}
	return e
}

// Cancel takes the deadline out and says whether it was still to come. A call
// that has begun is not stopped. Cancel of nil does nothing.
func (e *Entry) Cancel() bool {
	if e == nil {
		return false
	}
	e.queue.mu.Lock()
	defer e.queue.mu.Unlock()
	if e.index < 0 {
		return false
	}
	heap.Remove(&e.queue.entries, e.index)
	e.fn = nil
	return true
}

// Run calls what is due at now and returns the time of the earliest deadline
// left, or the zero time when there is none.
func (q *Queue) Run(now time.Time) time.Time {
	for {
		q.mu.Lock()
		if len(q.entries) == 0 {
			q.mu.Unlock()
			return time.Time{}
		}
		e := q.entries[0]
		if e.at.After(now) {
			q.mu.Unlock()
			return e.at
		}
		heap.Pop(&q.entries)
		fn := e.fn
		e.fn = nil
		q.mu.Unlock()
		fn(now)
	}
}

// Len is the number of deadlines to come.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
}

type entryHeap []*Entry

func (h entryHeap) Len() int { return len(h) }
func (h entryHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h entryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *entryHeap) Push(x any) {
	e := x.(*Entry)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *entryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}

// Package loop is the goroutines that a node runs on: a serial loop for the
// control plane, the clock that runs deadlines, and the workers that sync logs.
package loop

import (
	"sync"
	"time"

	"chronik/internal/host/deadline"
)

// Serial runs calls one at a time, in the order in which they were posted.
type Serial struct {
	mu     sync.Mutex
	queue  []func(now time.Time)
	wake   chan struct{}
	closed bool
	done   chan struct{}
	after  func()
}

// NewSerial starts the loop's goroutine. After, if not nil, runs on it after
// each call. Close ends it.
func NewSerial(after func()) *Serial {
	s := &Serial{wake: make(chan struct{}, 1), done: make(chan struct{}), after: after}
	go s.run()
	return s
}

// Post has fn called. It never blocks; the number of calls that wait is
// bounded by the requests and connections that the node admits. After Close it
// does nothing.
func (s *Serial) Post(fn func(now time.Time)) {
	s.mu.Lock()
	if !s.closed {
		s.queue = append(s.queue, fn)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Close waits until the calls that were posted before have run.
func (s *Serial) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	<-s.done
}

func (s *Serial) run() {
	defer close(s.done)
	var batch []func(now time.Time)
	for {
		s.mu.Lock()
		batch, s.queue = s.queue, batch[:0]
		closed := s.closed
		s.mu.Unlock()
		if len(batch) == 0 {
			if closed {
				return
			}
			<-s.wake
			continue
		}
		for i, fn := range batch {
			batch[i] = nil
			fn(time.Now())
			if s.after != nil {
				s.after()
			}
		}
	}
}

// Clock runs the deadlines of a queue when they have come.
type Clock struct {
	Deadlines *deadline.Queue
	wake      chan struct{}
	stop      chan struct{}
	done      chan struct{}
	after     func()
}

// NewClock starts the clock's goroutine. After, if not nil, runs on it after
// each round of deadlines. Close ends it.
func NewClock(after func()) *Clock {
	c := &Clock{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), after: after}
	c.Deadlines = deadline.New(func(time.Time) {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	})
	go c.run()
	return c
}

// Close ends the clock: deadlines that have not come never will.
func (c *Clock) Close() {
	close(c.stop)
	<-c.done
}

func (c *Clock) run() {
	defer close(c.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		next := c.Deadlines.Run(now)
		if c.after != nil {
			c.after()
		}
		wait := time.Hour
		if !next.IsZero() {
			wait = max(0, time.Until(next))
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-c.wake:
		case <-c.stop:
			return
		}
	}
}

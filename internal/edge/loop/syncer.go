package loop

import (
	"sync"
	"time"
)

// Syncable is a log that has something to sync.
type Syncable interface {
	comparable
	RunSync(now time.Time)
}

// Syncer has logs synced: by the goroutine that asked for it when nothing else
// waits, which saves a hand-off, and else by a bounded number of workers. What
// is scheduled while a log's sync runs is covered by that log's next one.
type Syncer[S Syncable] struct {
	mu      sync.Mutex
	cond    sync.Cond
	queue   []S
	state   map[S]syncState
	idle    int // workers that wait
	running int // syncs
	closed  bool
	after   func()
	workers sync.WaitGroup
}

type syncState uint8

const (
	queued  syncState = 1 + iota
	running           // its sync runs
	again             // its sync runs, and was scheduled once more since it began
)

// NewSyncer starts the workers. Eight to sixteen keep a disk busy; more only
// make the slowest wait longer. After, if not nil, runs after each sync, on the
// goroutine that did it.
func NewSyncer[S Syncable](workers int, after func()) *Syncer[S] {
	s := &Syncer[S]{state: make(map[S]syncState), after: after}
	s.cond.L = &s.mu
	for range workers {
		s.workers.Go(s.work)
	}
	return s
}

// Schedule notes that the log has something to sync. Whoever entered the node
// and so caused it must call Kick when it comes out.
func (s *Syncer[S]) Schedule(log S) {
	s.mu.Lock()
	switch s.state[log] {
	case 0:
		s.state[log] = queued
		s.queue = append(s.queue, log)
	case running:
		s.state[log] = again
	}
	s.mu.Unlock()
}

// Kick sees to it that what was scheduled is done. With inline the caller has
// nothing better to do: it may sync one log itself.
func (s *Syncer[S]) Kick(inline bool) {
	s.mu.Lock()
	if len(s.queue) == 0 {
		s.mu.Unlock()
		return
	}
	if !inline {
		s.wake()
		s.mu.Unlock()
		return
	}
	log := s.take()
	s.wake()
	s.mu.Unlock()
	s.sync(log)
}

// Busy says whether more syncs are under way than those of the caller, who does
// so many.
func (s *Syncer[S]) Busy(own int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running > own
}

// wake has as many workers as there is work for begin. The lock is held.
func (s *Syncer[S]) wake() {
	for range min(len(s.queue), s.idle) {
		s.cond.Signal()
	}
}

func (s *Syncer[S]) take() S {
	log := s.queue[0]
	n := copy(s.queue, s.queue[1:])
	var none S
	s.queue[n] = none
	s.queue = s.queue[:n]
	s.state[log] = running
	s.running++
	return log
}

func (s *Syncer[S]) sync(log S) {
	log.RunSync(time.Now())
	if s.after != nil {
		s.after()
	}
	s.mu.Lock()
	s.running--
	if s.state[log] == again {
		s.state[log] = queued
		s.queue = append(s.queue, log)
		s.wake()
	} else {
		delete(s.state, log)
	}
	s.mu.Unlock()
}

func (s *Syncer[S]) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.queue) == 0 {
			if s.closed {
				return
			}
			s.idle++
			s.cond.Wait()
			s.idle--
		}
		log := s.take()
		s.mu.Unlock()
		s.sync(log)
		s.mu.Lock()
	}
}

// Close waits until all that was scheduled is synced and the workers have ended.
func (s *Syncer[S]) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cond.Broadcast()
	s.workers.Wait()
}

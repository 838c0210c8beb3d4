package loop

import (
	"runtime"
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
//
// On a fast disk a sync costs more processor time than it waits, so that more
// at a time than there are processors gain nothing: then logs wait in the queue
// and each sync covers more. On a slow one all workers may wait.
type Syncer[S Syncable] struct {
	mu      sync.Mutex
	cond    sync.Cond
	queue   []S
	state   map[S]syncState
	idle    int           // workers that wait
	running int           // syncs
	few     int           // syncs at a time on a fast disk
	many    int           // on a slow one
	typical time.Duration // of a sync, in the recent past
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
	s := &Syncer[S]{state: make(map[S]syncState), after: after, many: workers}
	s.few = min(workers, max(fewMin, runtime.GOMAXPROCS(0)+1))
	s.cond.L = &s.mu
	for range workers {
		s.workers.Go(s.work)
	}
	return s
}

const (
	fewMin = 3
	// A sync that takes longer than this waits for the disk.
	slowSync = 2 * time.Millisecond
)

// limit is how many syncs may run at a time. The lock is held.
func (s *Syncer[S]) limit() int {
	if s.typical > slowSync {
		return s.many
	}
	return s.few
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
// nothing better to do: it may sync one log itself. On a slow disk it does not:
// the caller's next request may be for a log that is quick.
func (s *Syncer[S]) Kick(inline bool) {
	s.mu.Lock()
	if len(s.queue) == 0 {
		s.mu.Unlock()
		return
	}
	if !inline || s.typical > slowSync || s.running >= s.limit() {
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
	for range min(len(s.queue), s.idle, s.limit()-s.running) {
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
	begun := time.Now()
	log.RunSync(begun)
	took := time.Since(begun)
	if s.after != nil {
		s.after()
	}
	s.mu.Lock()
	s.running--
	s.typical += (took - s.typical) / 16
	if s.state[log] == again {
		s.state[log] = queued
		s.queue = append(s.queue, log)
	} else {
		delete(s.state, log)
	}
	s.wake()
	s.mu.Unlock()
}

func (s *Syncer[S]) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.queue) == 0 || s.running >= s.limit() {
			if s.closed && len(s.queue) == 0 {
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

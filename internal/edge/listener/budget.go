package listener

import (
	"sync"
	"sync/atomic"
)

// budget bounds the bytes that all connections together keep in memory. What
// has arrived is counted, never refused: a connection that finds the budget
// used up does not begin another request.
type budget struct {
	limit int64
	used  *atomic.Int64

	waiting atomic.Int64
	mu      sync.Mutex
	paused  []*conn
}

func (b *budget) take(n int) {
	b.used.Add(int64(n))
}

// give must not be called with a connection's lock held.
func (b *budget) give(n int) {
	if n == 0 {
		return
	}
	if used := b.used.Add(-int64(n)); used < b.limit && b.waiting.Load() > 0 {
		b.mu.Lock()
		paused := b.paused
		b.paused = nil
		b.waiting.Store(0)
		for _, c := range paused {
			c.paused = false
		}
		b.mu.Unlock()
		for _, c := range paused {
			c.mu.Lock()
			c.room.Signal()
			c.mu.Unlock()
		}
	}
}

func (b *budget) full() bool { return b.used.Load() >= b.limit }

// pause says whether the budget is used up; if so the connection's room is
// signalled when it no longer is.
func (b *budget) pause(c *conn) bool {
	if !b.full() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !c.paused {
		c.paused = true
		b.paused = append(b.paused, c)
		b.waiting.Store(int64(len(b.paused)))
	}
	// Bytes may have been given back before it could be seen that somebody
	// waits. The connection may stay in the list: a signal too many is harmless.
	return b.full()
}

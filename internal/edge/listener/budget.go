package listener

import (
	"sync"
	"sync/atomic"
)

// budget bounds the bytes that all connections together keep in memory. What
// has arrived is counted, never refused: a connection that finds the budget
// used up does not begin another request, and of those that are in the midst of
// a large one, one at a time goes on, so that requests come to their end.
type budget struct {
	limit int64
	used  *atomic.Int64

	waiting atomic.Int64
	mu      sync.Mutex
	paused  []*conn
	beyond  *conn // goes on though the budget is used up
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
		b.wake()
	}
}

// wake has all that wait look again. It is called with mu held and gives it up.
func (b *budget) wake() {
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

func (b *budget) full() bool { return b.used.Load() >= b.limit }

// pause says whether the budget is used up; if so the connection's room is
// signalled when it no longer is.
func (b *budget) pause(c *conn) bool {
	if !b.full() {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.await(c)
	// Bytes may have been given back before it could be seen that somebody
	// waits. The connection may stay in the list: a signal too many is harmless.
	return b.full()
}

// await has the connection's room signalled later. mu is held.
func (b *budget) await(c *conn) {
	if !c.paused {
		c.paused = true
		b.paused = append(b.paused, c)
		b.waiting.Store(int64(len(b.paused)))
	}
}

// goOn says whether the connection may read on in the midst of a request. If
// not, its room is signalled when it is to ask again.
func (b *budget) goOn(c *conn) bool {
	if !b.full() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.beyond == nil || b.beyond == c {
		b.beyond = c
		return true
	}
	b.await(c)
	return !b.full()
}

// came says that a request of the connection is whole, or will never be. It must
// not be called with a connection's lock held.
func (b *budget) came(c *conn) {
	b.mu.Lock()
	if b.beyond != c {
		b.mu.Unlock()
		return
	}
	b.beyond = nil
	b.wake()
}

package listener

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/invariant"
	"chronik/internal/format/wire"
)

// slot is the place of one request's answer in the order of the connection.
type slot struct {
	c       *conn
	size    int // of the request's frame
	begun   time.Time
	key     int16
	version int16
	state   atomic.Int32 // waiting, answered or abandoned

	// Guarded by c.mu.
	next   *slot
	buffer *buffer // nil: nothing to send
	done   bool
	close  bool
}

// States of a slot.
const (
	waiting = iota
	answered
	abandoned // its handler panicked; whether it would still answer is not known
)

// abandon takes an unanswered request out of the counts, once and for all.
func (s *slot) abandon() {
	if s.state.CompareAndSwap(waiting, abandoned) {
		s.c.l.count.Waiting.Add(-1)
		s.c.l.budget.give(s.size + 4)
	}
}

// answer is the slot's api.Reply.
func (s *slot) answer(a api.Answer) {
	if !s.state.CompareAndSwap(waiting, answered) {
		invariant.Check(s.state.Load() == abandoned, "answers a request twice")
		if a.Release != nil {
			a.Release()
		}
		return
	}
	c := s.c
	var b *buffer
	size := 0
	if a.Response != nil {
		b = encode(&a)
		size = b.size
		c.l.budget.take(size)
	}
	if a.Release != nil {
		a.Release()
	}
	if a.Err != nil {
		c.refused(a.Err)
	}
	if observe := c.l.options.Observe; observe != nil {
		observe(s.key, s.version, time.Since(s.begun), s.size+4, size)
	}
	c.l.count.Waiting.Add(-1)

	c.mu.Lock()
	c.held -= int64(s.size + 4)
	if c.dead {
		c.mu.Unlock()
		if b != nil {
			b.free()
		}
		c.l.budget.give(s.size + 4 + size)
		return
	}
	c.held += int64(size)
	s.buffer, s.close, s.done = b, a.Close, true
	write := false
	if c.first == s && !c.corked {
		write = c.startWriting()
	}
	if !write {
		c.room.Signal()
	}
	c.mu.Unlock()
	c.l.budget.give(s.size + 4)
	if write {
		c.send.run()
	}
}

// collect moves the answers that are next in order to ready. c.mu is held.
func (c *conn) collect() {
	for s := c.first; s != nil && s.done && !c.closing; s = c.first {
		c.first = s.next
		if c.first == nil {
			c.last = nil
		}
		c.inFlight--
		if s.buffer != nil {
			c.ready = append(c.ready, s.buffer)
			c.pending += int64(s.buffer.size)
			s.buffer = nil
		}
		c.closing = s.close
	}
}

// startWriting says whether the caller must run the sender, which it must do
// after it has given up c.mu, which is held.
func (c *conn) startWriting() bool {
	if c.writing || c.dead {
		return false
	}
	c.collect()
	if len(c.ready) == 0 {
		if c.closing {
			c.room.Signal()
			c.wakeToClose()
		}
		return false
	}
	c.writing = true
	return true
}

// wakeToClose has a reader that waits for bytes find out that the connection
// ends. c.mu is held.
func (c *conn) wakeToClose() {
	c.stopping.Store(true)
	c.socket.SetReadDeadline(longAgo)
}

// encode makes the bytes of a response. Records that are long stay where they
// are, and a.Release, which gives them back, goes to the buffer.
func encode(a *api.Answer) *buffer {
	fetch, ok := a.Response.(*kmsg.FetchResponse)
	if !ok {
		b := newBuffer(0)
		b.bytes = wire.AppendResponse(b.bytes[:0], a.CorrelationID, a.Response)
		b.size = len(b.bytes)
		return b
	}
	b := newBuffer(headHint(fetch))
	b.bytes, b.cuts = wire.AppendFetchResponse(b.bytes[:0], b.cuts[:0], a.CorrelationID, fetch, cutBytesMin)
	b.size = len(b.bytes)
	for i := range b.cuts {
		b.size += len(b.cuts[i].Records)
	}
	if len(b.cuts) > 0 {
		b.release, a.Release = a.Release, nil
	}
	return b
}

// headHint guesses how long the encoded part of the response will be, so that
// it is not copied while it grows.
func headHint(fetch *kmsg.FetchResponse) int {
	size := 64
	for i := range fetch.Topics {
		t := &fetch.Topics[i]
		size += 32 + len(t.Topic)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			size += 96 + 16*len(p.AbortedTransactions)
			if len(p.RecordBatches) < cutBytesMin {
				size += len(p.RecordBatches)
			}
		}
	}
	return size
}

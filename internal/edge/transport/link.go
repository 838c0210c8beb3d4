package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"chronik/internal/base/kafka"
)

// link is the connection to one peer for one class, dialled again whenever it
// is lost.
type link struct {
	t       *Transport
	peer    kafka.NodeID
	address string
	class   int
	ctx     context.Context
	cancel  context.CancelFunc
	nudged  chan struct{} // dial now

	mu        sync.Mutex
	cond      sync.Cond // signalled when the writer may have something to do, or ends
	queue     queue     // frames to send
	sending   queue     // owned by whoever writes
	flusher   flusher   // owned by whoever writes without being the writer
	unflushed bool      // Flush will look at this link
	writer    writer
	handed    bool // the writer is to go on with sending
	drainers  int
	connected bool
	closed    bool
	lostAt    time.Time // when the connection ended
}

// noticedMax is within how much time those who are told of an end act on it.
const noticedMax = 50 * time.Millisecond

func (l *link) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.connected {
		return ended(l.flusher.raw)
	}
	return !l.lostAt.IsZero() && time.Since(l.lostAt) < noticedMax
}

// writer says who writes to a link's connection.
type writer uint8

const (
	nobody   writer = iota
	flushing        // a caller of Flush
	running         // the link's own goroutine, or it is about to
)

func newLink(t *Transport, peer kafka.NodeID, address string, class int) *link {
	l := &link{t: t, peer: peer, address: address, class: class, nudged: make(chan struct{}, 1)}
	l.cond.L = &l.mu
	l.ctx, l.cancel = context.WithCancel(t.ctx)
	return l
}

// send queues a frame. Without a connection only a little is kept, so that
// what is sent in the moment before it stands is not lost.
func (l *link) send(frame [][]byte, now bool) bool {
	size := 0
	for _, piece := range frame {
		size += len(piece)
	}
	l.mu.Lock()
	limit := l.t.options.QueueBytesMax
	if !l.connected {
		limit = 1 << 20
	}
	if l.closed || l.queue.bytes > 0 && l.queue.bytes+size > limit {
		l.mu.Unlock()
		return false
	}
	l.queue.frame(frame, size)
	mark := !now && !l.unflushed
	if mark {
		l.unflushed = true
	}
	if now && l.writer == nobody {
		l.cond.Broadcast()
	}
	l.mu.Unlock()
	if mark {
		l.t.mustFlush(l)
	}
	return true
}

// flushBytesMax is how much a caller of Flush writes itself.
const flushBytesMax = 32 << 10

// flush writes what is queued, if it is to, if it is little and the connection
// takes it at once, and leaves it to the writer otherwise.
func (l *link) flush(inline bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unflushed = false
	if l.writer != nobody {
		return // who writes goes on until nothing is queued
	}
	for inline && l.connected && !l.closed && l.queue.bytes > 0 && l.queue.bytes <= flushBytesMax && l.flusher.raw != nil {
		l.writer = flushing
		l.queue, l.sending = l.sending, l.queue
		l.mu.Unlock()
		whole := l.flusher.try(&l.sending)
		l.mu.Lock()
		l.writer = nobody
		if !l.connected { // the connection's end waits for this
			l.cond.Broadcast()
			return
		}
		if !whole {
			l.writer, l.handed = running, true
			l.cond.Broadcast()
			return
		}
	}
	if l.queue.bytes > 0 || l.drainers > 0 {
		l.cond.Broadcast()
	}
}

// drain waits until all that was queued has been written.
func (l *link) drain(wait time.Duration) {
	over := false
	timer := time.AfterFunc(wait, func() {
		l.mu.Lock()
		over = true
		l.mu.Unlock()
		l.cond.Broadcast()
	})
	defer timer.Stop()
	l.flush(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drainers++
	for l.connected && (l.writer != nobody || l.queue.bytes > 0) && !over {
		l.cond.Wait()
	}
	l.drainers--
}

func (l *link) close() {
	l.cancel()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cond.Broadcast()
}

func (l *link) run() {
	backoff := l.t.redialMin
	refused := ""
	unreached := unreached{since: time.Now()}
	for l.ctx.Err() == nil {
		c, err := l.dial()
		if err != nil {
			if l.ctx.Err() != nil {
				return
			}
			if l.class == 0 {
				unreached.failed(l, err)
			}
			gone := errors.Is(err, syscall.ECONNREFUSED)
			l.mu.Lock()
			l.queue.clear()
			l.mu.Unlock()
			if gone {
				l.t.options.Down(l.peer, true)
			}
			var r refusal
			if errors.As(err, &r) && r.reason != refused {
				refused = r.reason
				l.t.options.Log.Error("peer refuses this node", "peer", l.peer, "address", l.address, "cause", refused)
				if l.t.options.Refused != nil {
					l.t.options.Refused(l.peer, r.reason, r.foreign)
				}
			}
			select {
			case <-time.After(backoff):
			case <-l.nudged:
				backoff = l.t.redialMin
			case <-l.ctx.Done():
			}
			backoff = min(2*backoff, l.t.redialMax)
			continue
		}
		backoff, refused = l.t.redialMin, ""
		if unreached.told != "" {
			l.t.options.Log.Info("peer is reached again", "peer", l.peer, "address", l.address)
		}
		l.serve(c)
		c.Close()
		unreached.since, unreached.told = time.Now(), ""
		if l.ctx.Err() == nil {
			l.t.options.Down(l.peer, false)
		}
	}
}

// unreached is a peer to which there is no connection.
type unreached struct {
	since time.Time
	told  string // why, as the log has it; "" while it says nothing
}

// failed tells why the peer is not reached, once that lasts, and when it changes.
func (u *unreached) failed(l *link, err error) {
	var r refusal
	why := err.Error()
	var op *net.OpError
	if errors.As(err, &op) { // the rest names a port that is another one each time
		why = op.Err.Error()
	}
	if why == u.told || errors.As(err, &r) || time.Since(u.since) < tellUnreached {
		return
	}
	u.told = why
	l.t.options.Log.Warn("peer cannot be reached: does its process run, is the address right, does a firewall let it through?",
		"peer", l.peer, "address", l.address, "cause", why)
}

func (l *link) dial() (net.Conn, error) {
	// The kernel gives up one that is at rest, too, when unheardMax is over: not
	// because a single probe was lost.
	d := net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second}}
	c, err := d.DialContext(l.ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	tune(c)
	c.SetDeadline(time.Now().Add(helloTimeout))
	if err := sayHello(c, hello{class: l.class, from: l.t.options.Node, to: l.peer, cluster: l.t.options.ClusterID()}); err != nil {
		c.Close()
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

// serve writes what is queued until the connection ends.
func (l *link) serve(c net.Conn) {
	l.mu.Lock()
	l.connected = true
	l.flusher.open(c)
	l.mu.Unlock()
	if l.t.options.Up != nil {
		l.t.options.Up(l.peer)
	}
	var lost atomic.Bool
	watched := make(chan struct{})
	go func() { // the peer never writes: whatever comes is the end
		defer close(watched)
		var b [1]byte
		c.Read(b[:]) //nolint:errcheck // so is an error
		lost.Store(true)
		l.mu.Lock()
		l.mu.Unlock() //nolint:staticcheck // the writer either sees lost or is in Wait
		l.cond.Broadcast()
	}()
	stop := context.AfterFunc(l.ctx, func() { c.Close() })
	l.write(c, &lost)
	stop()
	c.Close()
	<-watched
	l.mu.Lock()
	l.connected, l.lostAt = false, time.Now()
	for l.writer == flushing {
		l.cond.Wait()
	}
	l.writer, l.handed = nobody, false
	l.queue.clear()
	l.sending.clear()
	l.mu.Unlock()
	l.cond.Broadcast()
}

func (l *link) write(c net.Conn, lost *atomic.Bool) {
	for {
		l.mu.Lock()
		if l.writer == running {
			l.writer = nobody
		}
		if l.drainers > 0 {
			l.cond.Broadcast()
		}
		for !l.handed && (l.writer != nobody || l.queue.bytes == 0) && !lost.Load() && !l.closed {
			l.cond.Wait()
		}
		if lost.Load() || l.closed {
			l.mu.Unlock()
			return
		}
		l.writer = running
		if !l.handed {
			l.queue, l.sending = l.sending, l.queue
		}
		l.handed = false
		l.mu.Unlock()
		if l.sending.writeTo(c) != nil {
			return
		}
	}
}

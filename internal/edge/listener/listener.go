// Package listener accepts the connections of Kafka clients, cuts requests out
// of them and sends the answers back in the order of the requests.
//
// One goroutine reads a connection and calls the handler of each request; the
// handler may answer later, from any goroutine. Whoever completes the oldest
// unanswered request writes it and all that are ready behind it, in one call
// that never blocks; only when the client does not take the bytes fast enough
// does a goroutine go on writing. So an idle server answers without a
// hand-off, and a connection at rest costs a small stack and no buffer.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/api"
	"chronik/internal/format/wire"
)

// Handler answers one request, given as a frame without its length, as
// (*api.Server).Handle does: it must see to it that reply is called exactly
// once, at once or later. The frame lives until the handler returns. Handlers
// of one connection are called one after the other.
type Handler func(now time.Time, frame []byte, client *api.Client, reply api.Reply)

// Options are the limits and hooks of a Listener. A limit of 0 takes its default.
type Options struct {
	Name  string // told to handlers as api.Client.Listener; default "PLAINTEXT"
	Serve Handler
	Log   *slog.Logger

	// AfterRequest is called by a connection's reader after each handled
	// request; more says that the next request of this connection is already
	// in memory, or after a large one that some of it is. May be nil.
	AfterRequest func(more bool)
	// Observe is called once per answered request, before its response is
	// written, from any goroutine. The key may be any: clients choose it. May be nil.
	Observe func(key, version int16, took time.Duration, requestBytes, responseBytes int)

	ConnectionsMax      int // at a time; default 16384
	ConnectionsPerIPMax int // at a time from one address; default 12288
	// Limits gives ConnectionsMax and ConnectionsPerIPMax as they are at the
	// moment, for who can change them while the listener runs. May be nil.
	Limits              func() (total, perIP int)
	FrameBytesMax       int           // one request; default 100 MiB
	QueuedBytesMax      int64         // requests until their answers, and those, of all connections; default 512 MiB
	InFlightRequestsMax int           // unanswered requests of one connection; default 100
	InFlightBytesMax    int64         // requests and responses of one connection; default 64 MiB
	IdleMax             time.Duration // without a request or an answer; default 10 min
	RequestDeadline     time.Duration // for a request from its first byte, plus 1 s per 64 KiB; default 10 s
	ResponseDeadline    time.Duration // for a client that takes nothing; default 30 s
	ShutdownWait        time.Duration // for answers after Stop; default 1 s
}

func (o Options) withDefaults() Options {
	fill(&o.Name, "PLAINTEXT")
	fill(&o.ConnectionsMax, 16384)
	fill(&o.ConnectionsPerIPMax, 12288)
	fill(&o.FrameBytesMax, wire.FrameBytesMax)
	fill(&o.QueuedBytesMax, 512<<20)
	fill(&o.InFlightRequestsMax, 100)
	fill(&o.InFlightBytesMax, 64<<20)
	fill(&o.IdleMax, 10*time.Minute)
	fill(&o.RequestDeadline, 10*time.Second)
	fill(&o.ResponseDeadline, 30*time.Second)
	fill(&o.ShutdownWait, time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Counters are what a Listener counts; the names without a remark only rise.
type Counters struct {
	Open          atomic.Int64 // connections at present
	Waiting       atomic.Int64 // requests handled and not answered at present
	QueuedBytes   atomic.Int64 // requests and responses in memory at present
	Accepted      atomic.Int64
	RefusedTotal  atomic.Int64 // over ConnectionsMax
	RefusedPerIP  atomic.Int64 // over ConnectionsPerIPMax
	ClosedIdle    atomic.Int64 // over IdleMax
	ClosedSlow    atomic.Int64 // over RequestDeadline or ResponseDeadline
	ClosedInvalid atomic.Int64 // bytes that are no request
	Panics        atomic.Int64 // handlers that panicked
	BytesIn       atomic.Int64
	BytesOut      atomic.Int64
	Requests      atomic.Int64
	Paused        atomic.Int64 // times that a connection was not read because of a limit
}

// Listener is one listening address and its connections.
type Listener struct {
	options Options
	socket  net.Listener
	budget  budget
	count   Counters
	noise   noise
	lastID  atomic.Uint64

	mu       sync.Mutex
	conns    map[*conn]struct{}
	perIP    map[netip.Addr]int
	stopping bool
	readers  sync.WaitGroup
}

// Listen binds address; Serve accepts.
func Listen(address string, o Options) (*Listener, error) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for Kafka clients: %w", err)
	}
	return New(socket, o), nil
}

// New is Listen with a socket that is bound already.
func New(socket net.Listener, o Options) *Listener {
	o = o.withDefaults()
	l := &Listener{options: o, socket: socket, conns: map[*conn]struct{}{}, perIP: map[netip.Addr]int{}}
	l.budget.limit = o.QueuedBytesMax
	l.budget.used = &l.count.QueuedBytes
	l.noise.log = o.Log
	return l
}

// Addr is the address bound, with the port that was chosen for port 0.
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// Counters gives the counters, to be read at any time.
func (l *Listener) Counters() *Counters { return &l.count }

// Serve accepts connections until Stop, after which it returns nil, or until
// the socket fails.
func (l *Listener) Serve() error {
	pause := time.Duration(0)
	for {
		socket, err := l.socket.Accept()
		if err == nil {
			pause = 0
			l.accept(socket)
			continue
		}
		if l.isStopping() || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if !isPassing(err) {
			return fmt.Errorf("accept Kafka clients: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		l.noise.warn("accept", "connection not accepted", slog.Any("error", err))
		time.Sleep(pause)
	}
}

// ServeConn serves a connection that came another way than through Serve, and
// returns at once.
func (l *Listener) ServeConn(socket net.Conn) { l.accept(socket) }

func (l *Listener) accept(socket net.Conn) {
	l.count.Accepted.Add(1)
	ip := remoteIP(socket)
	totalMax, perIPMax := l.options.ConnectionsMax, l.options.ConnectionsPerIPMax
	if l.options.Limits != nil {
		totalMax, perIPMax = l.options.Limits()
	}
	l.mu.Lock()
	total, same := len(l.conns), l.perIP[ip]
	switch {
	case l.stopping:
		l.mu.Unlock()
		socket.Close()
		return
	case total >= totalMax:
		l.mu.Unlock()
		l.count.RefusedTotal.Add(1)
		socket.Close()
		l.noise.warn("total", "connection refused, max.connections reached", slog.Any("address", ip), slog.Int("connections", total))
		return
	case same >= perIPMax:
		l.mu.Unlock()
		l.count.RefusedPerIP.Add(1)
		socket.Close()
		l.noise.warn("per ip", "connection refused, max.connections.per.ip reached", slog.Any("address", ip), slog.Int("connections", same))
		return
	}
	calmLoopback(socket)
	c := newConn(l, socket, ip)
	l.conns[c] = struct{}{}
	l.perIP[ip]++
	l.readers.Add(1)
	l.mu.Unlock()
	l.count.Open.Add(1)
	go c.read()
}

// forget ends the count of a connection whose reader is done.
func (l *Listener) forget(c *conn) {
	l.mu.Lock()
	delete(l.conns, c)
	if l.perIP[c.ip]--; l.perIP[c.ip] == 0 {
		delete(l.perIP, c.ip)
	}
	l.mu.Unlock()
	l.count.Open.Add(-1)
	l.readers.Done()
}

// Stop accepts no more connections and reads no more requests, lets answers to
// those that were read go out for as long as ShutdownWait or ctx allows, closes
// every connection, and returns when all readers are gone.
func (l *Listener) Stop(ctx context.Context) {
	l.mu.Lock()
	l.stopping = true
	conns := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	l.socket.Close()
	for _, c := range conns {
		c.stop()
	}
	gone := make(chan struct{})
	go func() {
		l.readers.Wait()
		close(gone)
	}()
	wait := time.NewTimer(l.options.ShutdownWait)
	defer wait.Stop()
	select {
	case <-gone:
		return
	case <-wait.C:
	case <-ctx.Done():
	}
	for _, c := range conns {
		c.fail()
	}
	<-gone
}

func (l *Listener) isStopping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopping
}

func remoteIP(socket net.Conn) netip.Addr {
	if a, ok := socket.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

package listener

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"chronik/internal/api"
	"chronik/internal/base/invariant"
	"chronik/internal/format/wire"
)

const (
	// corkedBytesMax is how much of ready answers waits for those of further
	// requests that are in memory already.
	corkedBytesMax = 64 << 10
	// largeBytesMin is the least size of a request after which it is worth a
	// system call to know whether another one is on its way.
	largeBytesMin = 128 << 10
	// lingerMax is how long a closed connection is still read, so that the
	// client gets the last answer before the reset that unread bytes cause.
	lingerMax = time.Second
)

// longAgo is a deadline that wakes whoever reads.
var longAgo = time.Unix(1, 0)

// conn is one client's connection.
type conn struct {
	l      *Listener
	socket net.Conn
	ip     netip.Addr
	client api.Client

	// Owned by the reading goroutine.
	source source
	frames *wire.Reader // nil while the connection is at rest

	stopping atomic.Bool // set under mu

	mu       sync.Mutex
	room     sync.Cond // signalled when the reader may find that it can go on
	first    *slot     // requests without a sent answer, the oldest first
	last     *slot
	inFlight int       // requests from first to last
	held     int64     // bytes of their frames and of answers not yet sent
	ready    []*buffer // answers in the order to send, not yet being sent
	pending  int64     // bytes of ready
	answered time.Time // when the last answer was sent
	writing  bool      // somebody is sending
	corked   bool      // the reader will send what is ready
	closing  bool      // close when everything ready has been sent
	dead     bool      // closed: nothing is sent any more

	paused bool // guarded by budget.mu: waits for the budget

	send sender // owned by whoever set writing
}

func newConn(l *Listener, socket net.Conn, ip netip.Addr) *conn {
	c := &conn{l: l, socket: socket, ip: ip}
	c.room.L = &c.mu
	c.client = api.Client{ID: l.lastID.Add(1), Host: ip.String(), Listener: l.options.Name}
	var raw syscall.RawConn
	if s, ok := socket.(syscall.Conn); ok {
		raw, _ = s.SyscallConn()
	}
	c.source = source{c: c, raw: raw, active: time.Now()}
	c.send = sender{c: c, raw: raw}
	return c
}

// read is the connection's goroutine.
func (c *conn) read() {
	err := c.serve()
	if errors.Is(err, errQuiet) {
		// The stack has grown with the requests; a connection at rest goes on
		// with a small one.
		c.frames = nil
		go c.read()
		return
	}
	c.end(err)
}

// serve handles requests until one of the reasons to stop.
func (c *conn) serve() error {
	for {
		if !c.awaitRoom() {
			return nil
		}
		if c.frames == nil {
			if c.source.raw != nil {
				if err := c.source.awaitByte(); err != nil {
					return err
				}
			}
			c.frames = wire.NewReader(&c.source, wire.ReaderOptions{FrameBytesMax: c.l.options.FrameBytesMax})
		}
		frame, err := c.frames.Next()
		if err != nil {
			return err
		}
		if err := c.handle(frame); err != nil {
			return err
		}
	}
}

// awaitRoom waits until another request may be read, and says whether one may
// be read at all.
func (c *conn) awaitRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for waited := false; ; waited = true {
		if c.dead || c.closing || c.stopping.Load() {
			return false
		}
		if c.inFlight < c.l.options.InFlightRequestsMax && c.held < c.l.options.InFlightBytesMax && !c.l.budget.pause(c) {
			return true
		}
		if !waited {
			c.l.count.Paused.Add(1)
			c.corked = false
			if c.startWriting() {
				c.mu.Unlock()
				c.send.run()
				c.mu.Lock()
				continue
			}
		}
		c.room.Wait()
	}
}

// handle calls the handler of one request.
func (c *conn) handle(frame *wire.Frame) error {
	now := time.Now()
	size := len(frame.Bytes())
	c.source.took(now, size+4)
	c.l.count.Requests.Add(1)
	more := c.frames.Buffered()
	s := &slot{c: c, size: size, begun: now, key: -1, version: -1}
	if b := frame.Bytes(); len(b) >= 4 {
		s.key, s.version = int16(binary.BigEndian.Uint16(b)), int16(binary.BigEndian.Uint16(b[2:]))
	}
	c.push(s, more)
	handled := c.call(now, s, frame)
	if size >= partialFree {
		c.l.budget.came(c)
	}
	if !handled {
		return nil // closed already
	}
	c.mu.Lock()
	write := false
	if c.collect(); !more || c.pending >= corkedBytesMax {
		c.corked = false
		write = c.startWriting()
	}
	c.mu.Unlock()
	if write {
		c.send.run()
	}
	if c.l.options.AfterRequest != nil {
		c.l.options.AfterRequest(more || size >= largeBytesMin && c.source.pending())
	}
	return nil
}

func (c *conn) push(s *slot, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.first = s
	} else {
		c.last.next = s
	}
	c.last = s
	c.inFlight++
	c.held += int64(s.size + 4)
	c.corked = more
	c.l.count.Waiting.Add(1)
}

// call calls the handler and turns a panic into the end of the connection,
// except that of a broken invariant, after which nothing can be trusted. The
// frame is free when the handler returns, so that the next request is read into
// memory that is in the processor's cache; after a panic it is left to the
// garbage collector, since the handler may have handed it to somebody.
func (c *conn) call(now time.Time, s *slot, frame *wire.Frame) (ok bool) {
	defer func() {
		if ok {
			return
		}
		p := recover()
		if v, broken := p.(invariant.Violation); broken {
			panic(v)
		}
		c.l.count.Panics.Add(1)
		c.l.options.Log.Error("handler panicked, connection closed", slog.Any("client", c.ip),
			slog.Int("key", int(s.key)), slog.Int("version", int(s.version)), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		c.fail()
		s.abandon()
	}()
	c.l.options.Serve(now, frame.Bytes(), &c.client, s.answer)
	frame.Release()
	return true
}

// invalid closes the connection after bytes that are no request. Answers to
// earlier requests still go out.
func (c *conn) invalid(err error) {
	c.refused(err)
	s := &slot{c: c, done: true, close: true}
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return
	}
	if c.last == nil {
		c.first = s
	} else {
		c.last.next = s
	}
	c.last = s
	c.inFlight++
	c.corked = false
	write := c.startWriting()
	c.mu.Unlock()
	if write {
		c.send.run()
	}
}

// refused counts and logs bytes that are no request.
func (c *conn) refused(err error) {
	c.l.count.ClosedInvalid.Add(1)
	c.l.noise.warn("invalid", "connection closed, not a request", slog.Any("client", c.ip), slog.Any("error", err))
}

// end is what the reader does last: it waits for the answers that are still
// to be sent where that makes sense, and closes.
func (c *conn) end(err error) {
	invalid := false
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, errStopping):
	case errors.Is(err, errIdle):
		c.l.count.ClosedIdle.Add(1)
	case errors.Is(err, errSlow):
		c.l.count.ClosedSlow.Add(1)
		c.l.noise.warn("slow", "connection closed, request did not arrive in time", slog.Any("client", c.ip))
	case errors.Is(err, wire.ErrFrameLength), errors.Is(err, wire.ErrFrameTooLarge):
		invalid = true
		c.invalid(err)
	}
	switch {
	case err == nil, errors.Is(err, errStopping):
		c.awaitAnswers()
	case errors.Is(err, io.EOF), invalid:
		// The client may have closed its sending side only: answers that are
		// near still go out.
		late := time.AfterFunc(c.l.options.ShutdownWait, c.fail)
		c.awaitAnswers()
		late.Stop()
	}
	c.fail()
	rest := int(c.source.partial())
	c.source.consumed = c.source.arrived
	c.l.budget.give(rest)
	c.l.budget.came(c)
	c.l.forget(c)
}

// awaitAnswers returns when every request has been answered and sent, and has
// the client see them before the connection is closed.
func (c *conn) awaitAnswers() {
	c.mu.Lock()
	for !c.dead && !(c.closing && len(c.ready) == 0 && !c.writing) && (c.inFlight > 0 || c.writing || len(c.ready) > 0) {
		c.corked = false
		if c.startWriting() {
			c.mu.Unlock()
			c.send.run()
			c.mu.Lock()
			continue
		}
		c.room.Wait()
	}
	linger := c.closing && !c.dead
	c.mu.Unlock()
	if !linger {
		return
	}
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.socket.SetReadDeadline(time.Now().Add(lingerMax))
		io.CopyN(io.Discard, c.socket, int64(c.l.options.FrameBytesMax)) //nolint:errcheck // it ends when the client does
	}
}

// stop has the reader end as soon as it is between two requests.
func (c *conn) stop() {
	c.mu.Lock()
	c.stopping.Store(true)
	c.socket.SetReadDeadline(longAgo)
	c.room.Signal()
	c.mu.Unlock()
}

func (c *conn) isStopping() bool { return c.stopping.Load() }

// armRead sets the socket's read deadline, unless stop has had its say.
func (c *conn) armRead(t time.Time) {
	c.mu.Lock()
	if c.stopping.Load() {
		t = longAgo
	}
	c.socket.SetReadDeadline(t)
	c.mu.Unlock()
}

// lastActive says when the connection was last in use: now, while a request
// waits for its answer.
func (c *conn) lastActive(arrived, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.inFlight > 0 || c.writing:
		return now
	case c.answered.After(arrived):
		return c.answered
	}
	return arrived
}

// fail closes the connection at once. What is not sent is dropped.
func (c *conn) fail() {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return
	}
	c.dead = true
	dropped := c.ready
	c.ready, c.pending = nil, 0
	for s := c.first; s != nil; s = s.next {
		if s.done && s.buffer != nil {
			dropped = append(dropped, s.buffer)
			s.buffer = nil
		}
	}
	c.first, c.last, c.inFlight = nil, nil, 0
	c.room.Signal()
	c.mu.Unlock()
	c.socket.Close()
	bytes := 0
	for _, b := range dropped {
		bytes += b.size
		b.free()
	}
	c.l.budget.give(bytes)
}

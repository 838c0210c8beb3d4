package listener

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Reasons for which a connection is not read any further.
var (
	errIdle     = errors.New("connection idle for too long")
	errSlow     = errors.New("request did not arrive in time")
	errQuiet    = errors.New("nothing arrived for a while")
	errStopping = errors.New("listener stops")
)

const (
	// quietAfter is how long a connection that is at rest keeps its buffer.
	quietAfter = 5 * time.Second
	// frameBytesPerSecond is what a request must arrive with beyond its deadline.
	frameBytesPerSecond = 64 << 10
	// partialFree is how much of a request may come though memory is short.
	partialFree = 64 << 10
)

// source is the reader's side of a socket: it counts what arrives, and turns
// the one read deadline of the socket into those for idle connections, slow
// requests and buffers at rest. The deadline is moved once in a few seconds,
// not with each request, and means only that it is time to look.
type source struct {
	c   *conn
	raw syscall.RawConn // nil: not a socket of the kernel

	armed    time.Time // the socket's read deadline
	active   time.Time // when bytes last arrived
	begun    time.Time // when the first byte of the present frame arrived
	arrived  int64
	consumed int64 // of arrived, in frames that were handed out
}

// partial says how many bytes of a frame that is not complete have arrived.
func (s *source) partial() int64 { return s.arrived - s.consumed }

// took ends a frame of so many bytes.
func (s *source) took(now time.Time, n int) {
	s.consumed += int64(n)
	s.begun = now
}

// Read reads what has arrived. Its errors end the connection, except errQuiet.
func (s *source) Read(p []byte) (int, error) {
	for {
		if err := s.arm(time.Now(), s.raw != nil); err != nil {
			return 0, err
		}
		if s.partial() >= partialFree && s.c.l.budget.full() {
			if err := s.awaitTurn(); err != nil {
				return 0, err
			}
		}
		n, err := s.c.socket.Read(p)
		if n > 0 {
			now := time.Now()
			if s.partial() == 0 {
				s.begun = now
			}
			s.active = now
			s.arrived += int64(n)
			s.c.l.budget.take(n)
			s.c.l.count.BytesIn.Add(int64(n))
			return n, nil
		}
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			err = io.EOF
		}
		return 0, err
	}
}

// arm sees to it that the socket wakes the reader when something is overdue,
// or returns what is overdue already.
func (s *source) arm(now time.Time, quiet bool) error {
	if s.c.isStopping() {
		return errStopping
	}
	var due time.Time
	if s.partial() > 0 {
		due = s.due()
		if !now.Before(due) {
			return errSlow
		}
	} else {
		due = s.c.lastActive(s.active, now).Add(s.c.l.options.IdleMax)
		if !now.Before(due) {
			return errIdle
		}
		if quiet {
			rest := s.active.Add(quietAfter)
			if !now.Before(rest) {
				return errQuiet
			}
			due = rest
		}
	}
	// A deadline that comes too early costs one look, so a busy connection
	// keeps the one it has.
	if s.armed.IsZero() || !now.Before(s.armed) || s.armed.After(due) {
		s.armed = due
		s.c.armRead(due)
	}
	return nil
}

// due is when more of the present frame must have arrived.
func (s *source) due() time.Time {
	return s.begun.Add(s.c.l.options.RequestDeadline + time.Duration(s.partial())*time.Second/frameBytesPerSecond)
}

// awaitTurn waits until memory is there for more of the present frame, or it is
// this connection's turn to go on without; not for longer than the client has.
func (s *source) awaitTurn() error {
	c, due := s.c, s.due()
	timer := time.AfterFunc(time.Until(due), func() {
		c.mu.Lock()
		c.room.Signal()
		c.mu.Unlock()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for waited := false; ; waited = true {
		switch {
		case c.dead:
			return io.EOF
		case c.stopping.Load():
			return errStopping
		case c.l.budget.goOn(c):
			return nil
		case !time.Now().Before(due):
			return errSlow
		}
		if !waited {
			c.l.count.Paused.Add(1)
		}
		c.room.Wait()
	}
}

// awaitByte returns when there is something to read, without holding a buffer
// for it.
func (s *source) awaitByte() error {
	for {
		if err := s.arm(time.Now(), false); err != nil {
			return err
		}
		err := s.raw.Read(peek)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			if errors.Is(err, net.ErrClosed) {
				err = io.EOF
			}
			s.active = time.Now()
			return err
		}
	}
}

// pending says whether there is something to read.
func (s *source) pending() (some bool) {
	if s.raw != nil {
		_ = s.raw.Control(func(fd uintptr) { some = peek(fd) }) // closed: nothing
	}
	return some
}

// peek says whether a read of the socket would return at once.
func peek(fd uintptr) bool {
	var one [1]byte
	for {
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if err != unix.EINTR {
			return err != unix.EAGAIN
		}
	}
}

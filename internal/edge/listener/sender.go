package listener

import (
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	gatherBytesMax = 64 << 10  // answers up to this together are copied into one
	chunkBytesMax  = 256 << 10 // of one blocking write
	piecesMax      = 1024      // of one writev, the kernel's limit
	slowTick       = time.Second
)

// sender sends what is ready on a connection. Whoever found conn.writing unset
// and set it runs the sender, and owns it until it unsets writing.
type sender struct {
	c   *conn
	raw syscall.RawConn // nil: not a socket of the kernel

	out    []*buffer // being sent
	done   int       // bytes of out[0] that are sent
	pieces [][]byte  // of the write under way
	try    func(fd uintptr) bool
	n      int
	err    error
}

// run sends what is ready until nothing is, without blocking: the rest is left
// to a goroutine that may.
func (s *sender) run() {
	for s.take() {
		if s.raw == nil {
			go s.finish()
			return
		}
		if s.try == nil {
			s.try = s.tryOnce
		}
		s.n, s.err = 0, nil
		if err := s.raw.Write(s.try); err != nil {
			s.err = err
		}
		if s.err != nil && s.err != unix.EAGAIN {
			s.abandon()
			return
		}
		s.sent(s.n)
		if len(s.out) > 0 {
			go s.finish()
			return
		}
	}
}

// take fetches what has become ready; if there is nothing the sender is done.
func (s *sender) take() bool {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dead && !c.corked {
		c.collect()
	}
	if c.dead || len(c.ready) == 0 {
		c.writing = false
		c.answered = time.Now()
		if c.closing {
			c.wakeToClose()
		}
		c.room.Signal()
		return false
	}
	s.out, c.ready = c.ready, s.out[:0]
	c.pending = 0
	s.done = 0
	s.gather()
	return true
}

// gather copies small answers together, so that they go out as one piece.
func (s *sender) gather() {
	if len(s.out) < 2 {
		return
	}
	total := 0
	for _, b := range s.out {
		if total += b.size; total > gatherBytesMax || len(b.cuts) > 0 {
			return
		}
	}
	first := s.out[0]
	for i, b := range s.out[1:] {
		first.bytes = append(first.bytes, b.bytes...)
		first.size += b.size
		b.free()
		s.out[i+1] = nil
	}
	s.out = s.out[:1]
}

// tryOnce hands the kernel as much as it takes at once.
func (s *sender) tryOnce(fd uintptr) bool {
	s.pieces = s.pieces[:0]
	for i, b := range s.out {
		done := 0
		if i == 0 {
			done = s.done
		}
		if s.pieces = b.pieces(s.pieces, done); len(s.pieces) >= piecesMax {
			s.pieces = s.pieces[:piecesMax]
			break
		}
	}
	defer clear(s.pieces)
	for {
		var n int
		var err error
		if len(s.pieces) == 1 {
			n, err = unix.Write(int(fd), s.pieces[0])
		} else {
			n, err = unix.Writev(int(fd), s.pieces)
		}
		if err == unix.EINTR {
			continue
		}
		s.n, s.err = max(n, 0), err
		return true
	}
}

// sent counts bytes that the kernel has taken and frees what is through.
func (s *sender) sent(n int) {
	if n == 0 {
		return
	}
	c := s.c
	c.l.count.BytesOut.Add(int64(n))
	c.l.budget.give(n)
	c.mu.Lock()
	c.held -= int64(n)
	c.mu.Unlock()
	s.done += n
	through := 0
	for through < len(s.out) && s.done >= s.out[through].size {
		s.done -= s.out[through].size
		s.out[through].free()
		through++
	}
	rest := copy(s.out, s.out[through:])
	clear(s.out[rest:])
	s.out = s.out[:rest]
}

// finish is run by a goroutine of its own while the client is slower than the
// answers.
func (s *sender) finish() {
	for len(s.out) > 0 {
		if !s.block() {
			s.abandon()
			return
		}
	}
	s.c.socket.SetWriteDeadline(time.Time{})
	s.run()
}

// block writes the next chunk, and says whether the client took it. One that
// takes nothing is given up at the deadline, and at once if memory is short.
func (s *sender) block() bool {
	c := s.c
	deadline := c.l.options.ResponseDeadline
	s.pieces = s.out[0].pieces(s.pieces[:0], s.done)
	chunk := s.pieces[0]
	clear(s.pieces)
	chunk = chunk[:min(len(chunk), chunkBytesMax)]
	progress := time.Now()
	for len(chunk) > 0 {
		c.socket.SetWriteDeadline(time.Now().Add(min(slowTick, deadline)))
		n, err := c.socket.Write(chunk)
		chunk = chunk[n:]
		s.sent(n)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		now := time.Now()
		if n > 0 {
			progress = now
		}
		if err != nil && (now.Sub(progress) >= deadline || c.l.budget.full() && n < frameBytesPerSecond) {
			c.l.count.ClosedSlow.Add(1)
			c.l.noise.warn("unread", "connection closed, answers were not read", slog.Any("client", c.ip))
			return false
		}
	}
	return true
}

// abandon gives up on the connection and on what is being sent.
func (s *sender) abandon() {
	c := s.c
	bytes := -s.done
	for i, b := range s.out {
		bytes += b.size
		b.free()
		s.out[i] = nil
	}
	s.out = s.out[:0]
	c.l.budget.give(bytes)
	c.fail()
	c.mu.Lock()
	c.writing = false
	c.room.Signal()
	c.mu.Unlock()
}

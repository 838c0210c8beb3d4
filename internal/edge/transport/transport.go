// Package transport is the connections between the nodes of a cluster.
//
// A node dials every other one, once per class of traffic, and only sends on
// what it dialled; it only receives on what it accepted. Frames may be lost,
// with a connection or because its queue is full, but what arrives, arrives
// whole and in order.
//
//	hello, once, from the dialler: magic "CHRN" | version (1) | class (1) | from (4) | to (4) | length (1) and cluster id
//	answer: 0, or 1 (2: another cluster's) | length (2) and reason; the connection is closed after a reason
//	then frames: length (4) | bytes
//
// A node that is not yet part of a cluster asks with a hello of class 255, which
// may be for any node (-1): one frame with its question follows, one with the
// answer comes back, and the connection is closed.
package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"chronik/internal/base/kafka"
)

const (
	magic   = "CHRN"
	version = 1
	// Classes of traffic, each with connections of its own.
	classes = 2
	// The class of a connection that asks one question.
	classProbe = 255
	anyNode    = kafka.NodeID(-1)

	helloTimeout  = 2 * time.Second
	dialTimeout   = time.Second
	redialMin     = 2 * time.Millisecond
	redialMax     = time.Second
	frameBytesMax = 256 << 20
)

// Options of a Transport.
type Options struct {
	Node kafka.NodeID
	Log  *slog.Logger
	// ClusterID is asked at each hello: a node of another cluster is refused.
	// It may return "" while the cluster has none.
	ClusterID func() string
	// Receive takes a frame, on the connection's goroutine, one after the
	// other. The frame is valid during the call only. More says that the next
	// frame is in memory already. After an error the connection is closed.
	Receive func(from kafka.NodeID, class int, frame []byte, more bool) error
	// Down is told when the connection to a peer is lost; gone means that its
	// process has ended: a new connection was refused. It may be told more
	// than once.
	Down func(peer kafka.NodeID, gone bool)
	// Up is told when a peer has accepted a connection. It may be nil.
	Up func(peer kafka.NodeID)
	// Answer is asked what a probe asks. Nil: probes are refused.
	Answer func(from kafka.NodeID, question []byte) []byte
	// Refused is told when a peer does not take this node: the reason is for
	// humans, foreign says that the peer belongs to another cluster.
	Refused func(peer kafka.NodeID, reason string, foreign bool)
	// QueueBytesMax bounds what waits to be sent to one peer in one class;
	// frames beyond it are dropped. Default 64 MiB.
	QueueBytesMax int
}

// Transport is one node's connections with its peers.
type Transport struct {
	options Options
	socket  net.Listener
	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup

	mu       sync.Mutex
	links    map[kafka.NodeID]*[classes]*link
	accepted map[net.Conn]struct{}
	closed   bool

	redialMin, redialMax time.Duration // between two attempts to reach a peer

	unflushedMu sync.Mutex
	unflushed   []*link // have frames of Queue
	waiting     atomic.Int32

	// Dropped counts frames that were not sent because a queue was full or a
	// peer not connected.
	Dropped atomic.Int64
}

// New starts to accept peers on socket.
func New(socket net.Listener, o Options) *Transport {
	if o.QueueBytesMax == 0 {
		o.QueueBytesMax = 64 << 20
	}
	t := &Transport{options: o, socket: socket, links: make(map[kafka.NodeID]*[classes]*link), accepted: make(map[net.Conn]struct{}), redialMin: redialMin, redialMax: redialMax}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.tasks.Go(t.accept)
	return t
}

// SetPeers says which peers there are, by their addresses. Connections to
// others are closed; a peer with another address is dialled there.
func (t *Transport) SetPeers(peers map[kafka.NodeID]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	for id, links := range t.links {
		if address, ok := peers[id]; !ok || address != links[0].address {
			for _, l := range links {
				l.close()
			}
			delete(t.links, id)
		}
	}
	for id, address := range peers {
		if id == t.options.Node || t.links[id] != nil || address == "" {
			continue
		}
		var links [classes]*link
		for class := range links {
			l := newLink(t, id, address, class)
			links[class] = l
			t.tasks.Go(l.run)
		}
		t.links[id] = &links
	}
}

// Send queues a frame, which may be in pieces, for the peer and returns at once.
// The frame is copied.
func (t *Transport) Send(to kafka.NodeID, class int, frame ...[]byte) {
	if l := t.link(to, class); l == nil || !l.send(frame, true) {
		t.Dropped.Add(1)
	}
}

// Queue is Send for those who call Flush soon: what they queue until then goes
// out together, and where it is little without waking another goroutine.
func (t *Transport) Queue(to kafka.NodeID, class int, frame ...[]byte) {
	if l := t.link(to, class); l == nil || !l.send(frame, false) {
		t.Dropped.Add(1)
	}
}

// Broken says whether a connection with the peer has just ended, also where
// nobody has come round to noticing that yet: the kernel knows first.
func (t *Transport) Broken(peer kafka.NodeID) bool {
	for class := range classes {
		if l := t.link(peer, class); l != nil && l.broken() {
			return true
		}
	}
	return false
}

func (t *Transport) link(to kafka.NodeID, class int) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	links := t.links[to]
	if links == nil {
		return nil
	}
	return links[class]
}

// Unflushed says whether there is anything to Flush.
func (t *Transport) Unflushed() bool { return t.waiting.Load() > 0 }

// Flush sends what has been queued. It does not block: with inline it writes
// itself what is little and what the connection takes at once.
func (t *Transport) Flush(inline bool) {
	t.unflushedMu.Lock()
	links := t.unflushed
	t.unflushed = nil
	t.waiting.Store(0)
	t.unflushedMu.Unlock()
	for _, l := range links {
		l.flush(inline)
	}
}

// mustFlush has the next Flush look at the link.
func (t *Transport) mustFlush(l *link) {
	t.unflushedMu.Lock()
	t.unflushed = append(t.unflushed, l)
	t.waiting.Store(int32(len(t.unflushed)))
	t.unflushedMu.Unlock()
}

// Close closes all connections and waits until their goroutines have ended.
// What is queued is still sent if that takes no longer than wait.
func (t *Transport) Close(wait time.Duration) {
	t.mu.Lock()
	t.closed = true
	for _, links := range t.links {
		for _, l := range links {
			l.drain(wait)
		}
	}
	t.mu.Unlock()
	t.cancel()
	t.socket.Close()
	t.mu.Lock()
	for _, links := range t.links {
		for _, l := range links {
			l.close()
		}
	}
	for c := range t.accepted {
		c.Close()
	}
	t.mu.Unlock()
	t.tasks.Wait()
}

func (t *Transport) accept() {
	for {
		c, err := t.socket.Accept()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			t.options.Log.Warn("peer connection not accepted", "err", err)
			time.Sleep(10 * time.Millisecond) // out of file descriptors: let some close
			continue
		}
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			c.Close()
			return
		}
		t.accepted[c] = struct{}{}
		t.tasks.Go(func() {
			t.receive(c)
			c.Close()
			t.mu.Lock()
			delete(t.accepted, c)
			t.mu.Unlock()
		})
		t.mu.Unlock()
	}
}

func (t *Transport) receive(c net.Conn) {
	r := newFrameReader(c)
	c.SetReadDeadline(time.Now().Add(helloTimeout))
	from, class, err := t.greet(c, r)
	if err != nil {
		if !errors.Is(err, io.EOF) && t.ctx.Err() == nil {
			t.options.Log.Warn("peer refused", "address", c.RemoteAddr().String(), "cause", err)
		}
		return
	}
	if class == classProbe {
		t.answer(c, r, from)
		return
	}
	c.SetReadDeadline(time.Time{})
	t.nudge(from)
	for {
		frame, err := r.next()
		if err != nil {
			return
		}
		if err := t.options.Receive(from, class, frame, r.more()); err != nil {
			t.options.Log.Warn("peer connection closed", "peer", from, "address", c.RemoteAddr().String(), "cause", err)
			return
		}
	}
}

// nudge has the peer, which is there, dialled at once where it is not connected.
func (t *Transport) nudge(peer kafka.NodeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if links := t.links[peer]; links != nil {
		for _, l := range links {
			select {
			case l.nudged <- struct{}{}:
			default:
			}
		}
	}
}

// greet reads a hello and answers it.
func (t *Transport) greet(c net.Conn, r *frameReader) (kafka.NodeID, int, error) {
	h, err := r.hello()
	if err != nil {
		return 0, 0, err
	}
	var reason string
	code := byte(1)
	probe := h.class == classProbe && t.options.Answer != nil
	switch own := t.options.ClusterID(); {
	case h.version != version:
		reason = fmt.Sprintf("node %d speaks version %d of the peer protocol, this node version %d: run the same release", t.options.Node, version, h.version)
	case h.class >= classes && !probe:
		reason = fmt.Sprintf("unknown class %d", h.class)
	case h.to != t.options.Node && !(probe && h.to == anyNode):
		reason = fmt.Sprintf("this is node %d, not node %d: check --peers", t.options.Node, h.to)
	case h.from == t.options.Node && !probe:
		reason = fmt.Sprintf("two processes run as node %d: check --node-id", h.from)
	case own != "" && h.cluster != "" && own != h.cluster:
		code = 2
		reason = fmt.Sprintf("node %d belongs to cluster %s, node %d to cluster %s: one of them has another cluster's data directory or address", t.options.Node, own, h.from, h.cluster)
	}
	if reason != "" {
		answer := binary.BigEndian.AppendUint16([]byte{code}, uint16(len(reason)))
		c.SetWriteDeadline(time.Now().Add(helloTimeout))
		_, err := c.Write(append(answer, reason...))
		return 0, 0, errors.Join(errors.New(reason), err)
	}
	_, err = c.Write([]byte{0})
	return h.from, h.class, err
}

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
	deadline := time.Now().Add(wait)
	timer := time.AfterFunc(wait, l.cond.Broadcast)
	defer timer.Stop()
	l.flush(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drainers++
	for l.connected && (l.writer != nobody || l.queue.bytes > 0) && time.Now().Before(deadline) {
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
	for l.ctx.Err() == nil {
		c, err := l.dial()
		if err != nil {
			if l.ctx.Err() != nil {
				return
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
		if l.t.options.Up != nil {
			l.t.options.Up(l.peer)
		}
		l.serve(c)
		c.Close()
		if l.ctx.Err() == nil {
			l.t.options.Down(l.peer, false)
		}
	}
}

// refusal is why a peer does not take this node.
type refusal struct {
	reason  string
	foreign bool // the peer belongs to another cluster
}

func (r refusal) Error() string { return r.reason }

func (l *link) dial() (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 5 * time.Second}
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

// sayHello sends a hello and reads what the other says to it.
func sayHello(c net.Conn, h hello) error {
	out := append([]byte(magic), version, byte(h.class))
	out = binary.BigEndian.AppendUint32(out, uint32(h.from))
	out = binary.BigEndian.AppendUint32(out, uint32(h.to))
	out = append(append(out, byte(len(h.cluster))), h.cluster...)
	if _, err := c.Write(out); err != nil {
		return err
	}
	var answer [3]byte
	if _, err := io.ReadFull(c, answer[:1]); err != nil {
		return err
	}
	if answer[0] == 0 {
		return nil
	}
	if _, err := io.ReadFull(c, answer[1:]); err != nil {
		return err
	}
	reason := make([]byte, binary.BigEndian.Uint16(answer[1:]))
	if _, err := io.ReadFull(c, reason); err != nil {
		return err
	}
	return refusal{string(reason), answer[0] == 2}
}

// serve writes what is queued until the connection ends.
func (l *link) serve(c net.Conn) {
	l.mu.Lock()
	l.connected = true
	l.flusher.open(c)
	l.mu.Unlock()
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

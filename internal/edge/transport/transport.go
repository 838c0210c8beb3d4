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
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
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

	// What goes on for long is told once in so long.
	tellAgain = 10 * time.Second
	// A peer that is not reached for so long is told of: one that is started
	// again takes less.
	tellUnreached = 3 * time.Second
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
	var all []*link
	for _, links := range t.links {
		all = append(all, links[:]...)
	}
	t.mu.Unlock()
	var drained sync.WaitGroup
	for _, l := range all {
		drained.Go(func() { l.drain(wait) })
	}
	drained.Wait()
	t.cancel()
	t.socket.Close()
	for _, l := range all {
		l.close()
	}
	t.mu.Lock()
	for c := range t.accepted {
		c.Close()
	}
	t.mu.Unlock()
	t.tasks.Wait()
}

func (t *Transport) accept() {
	var told time.Time
	untold := 0
	for {
		c, err := t.socket.Accept()
		if err != nil {
			if t.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			if untold++; time.Since(told) >= tellAgain {
				t.options.Log.Warn("peer connection not accepted", "err", err, "times", untold)
				told, untold = time.Now(), 0
			}
			select { // out of file descriptors: let some close
			case <-time.After(10 * time.Millisecond):
			case <-t.ctx.Done():
			}
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

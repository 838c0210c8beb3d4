package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"chronik/internal/base/kafka"
)

type received struct {
	from  kafka.NodeID
	class int
	frame string
}

type node struct {
	t       *Transport
	address string
	in      chan received
	down    chan bool
}

func start(t *testing.T, id kafka.NodeID, cluster string) *node {
	t.Helper()
	return startAt(t, id, cluster, "127.0.0.1:0")
}

func startAt(t *testing.T, id kafka.NodeID, cluster, address string) *node {
	t.Helper()
	socket, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	socket = ClosedFirst(socket)
	n := &node{address: socket.Addr().String(), in: make(chan received, 10000), down: make(chan bool, 100)}
	n.t = New(socket, Options{
		Node: id, Log: slog.New(slog.DiscardHandler),
		ClusterID: func() string { return cluster },
		Receive: func(from kafka.NodeID, class int, frame []byte, more bool) error {
			n.in <- received{from, class, string(frame)}
			return nil
		},
		Down: func(_ kafka.NodeID, gone bool) {
			select {
			case n.down <- gone:
			default:
			}
		},
	})
	return n
}

func await[T any](t *testing.T, c chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

func TestFramesArriveWholeAndInOrder(t *testing.T) {
	a, b := start(t, 1, "c"), start(t, 2, "c")
	defer a.t.Close(0)
	defer b.t.Close(0)
	a.t.SetPeers(map[kafka.NodeID]string{1: a.address, 2: b.address})
	big := make([]byte, 300_000)
	for i := range 200 {
		a.t.Send(2, 0, fmt.Appendf(nil, "frame %d", i))
		if i == 100 {
			a.t.Send(2, 0, big)
		}
	}
	a.t.Send(2, 1, []byte("other class"))
	next, other := 0, false
	for range 202 {
		r := await(t, b.in, "frame")
		switch {
		case r.from != 1:
			t.Fatalf("frame from node %d", r.from)
		case r.class == 1:
			other = true
		case len(r.frame) == len(big):
			if next != 101 {
				t.Errorf("the big frame came after frame %d", next-1)
			}
		case r.frame != fmt.Sprintf("frame %d", next):
			t.Fatalf("got %q, want frame %d", r.frame, next)
		default:
			next++
		}
	}
	if !other {
		t.Error("the frame of the other class did not arrive")
	}
}

func TestALostProcessIsToldFromALostConnection(t *testing.T) {
	a, b := start(t, 1, "c"), start(t, 2, "c")
	defer a.t.Close(0)
	a.t.SetPeers(map[kafka.NodeID]string{2: b.address})
	a.t.Send(2, 0, []byte("hi"))
	await(t, b.in, "frame")
	b.t.Close(0) // the port refuses from here on
	for !await(t, a.down, "word of the lost peer") {
	}
}

func TestAPeerThatCameBackIsDialledWithoutWaiting(t *testing.T) {
	a, away := start(t, 1, "c"), start(t, 2, "c")
	defer a.t.Close(0)
	away.t.Close(0)
	a.t.redialMin, a.t.redialMax = 24*time.Hour, 24*time.Hour
	a.t.SetPeers(map[kafka.NodeID]string{2: away.address})
	for class := range classes { // each has found it away, and would look again tomorrow
		if !await(t, a.down, "word of the lost peer") {
			t.Fatalf("class %d: a peer that refuses is not gone", class)
		}
	}
	back := startAt(t, 2, "c", away.address)
	defer back.t.Close(0)
	a.t.Send(2, 0, []byte("hi"))
	back.t.SetPeers(map[kafka.NodeID]string{1: a.address})
	await(t, back.in, "frame")
}

func TestAPeerOfAnotherClusterIsRefused(t *testing.T) {
	a, b := start(t, 1, "one"), start(t, 2, "two")
	defer a.t.Close(0)
	defer b.t.Close(0)
	l := newLink(a.t, 2, b.address, 0)
	if _, err := l.dial(); err == nil || err.Error() == "" {
		t.Fatalf("dial = %v, want a refusal with its reason", err)
	}
	l = newLink(a.t, 3, b.address, 0)
	if _, err := l.dial(); err == nil {
		t.Fatal("a node that takes node 2 for node 3 was not refused")
	}
}

func TestBytesThatAreNoHelloCloseTheConnection(t *testing.T) {
	a := start(t, 1, "c")
	defer a.t.Close(0)
	for _, bytes := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x10aaaaaaaaaaaaaaaaaaaaaa", "CHRN\x01\x09\x00\x00\x00\x02\x00\x00\x00\x01\x00"} {
		c, err := net.Dial("tcp", a.address)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(bytes))
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadAll(c); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // the connection's own error
				t.Errorf("%q: the connection stays open", bytes)
			}
		}
		c.Close()
	}
}

func TestAHugeLengthAllocatesNothingBeforeItsBytesArrive(t *testing.T) {
	r, w := net.Pipe()
	defer r.Close()
	go func() {
		w.Write(binary.BigEndian.AppendUint32(nil, frameBytesMax))
		w.Write(make([]byte, 1000))
		w.Close()
	}()
	f := newFrameReader(r)
	if _, err := f.next(); err == nil {
		t.Fatal("a frame that never came was read")
	}
	if len(f.buf) > 1<<20 {
		t.Errorf("the buffer grew to %d bytes", len(f.buf))
	}
}

// Whoever reaches the port may ask, and needs to be no peer for it.
func TestAQuestionThatIsTooLongIsNotRead(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := New(socket, Options{Node: 1, Log: slog.New(slog.DiscardHandler), ClusterID: func() string { return "c" },
		Answer: func(kafka.NodeID, []byte) []byte { return nil }})
	defer a.Close(0)
	c, err := net.Dial("tcp", socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := sayHello(c, hello{class: classProbe, from: 2, to: anyNode}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	c.SetDeadline(begun.Add(10 * time.Second))
	c.Write(binary.BigEndian.AppendUint32(nil, probeBytesMax+1))
	if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(begun) >= helloTimeout {
		t.Errorf("the connection is closed after %v, when all of it should have come: %v", time.Since(begun), err)
	}
}

func TestALargeFrameIsNotHeldForGood(t *testing.T) {
	r, w := net.Pipe()
	defer r.Close()
	go func() {
		for _, n := range []int{20 << 20, 10, 2 << 20, 10} {
			w.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
			w.Write(make([]byte, n))
		}
		w.Close()
	}()
	f := newFrameReader(r)
	for _, want := range []int{20 << 20, 10, 2 << 20, 10} {
		frame, err := f.next()
		if err != nil || len(frame) != want {
			t.Fatalf("%d bytes, %v; want %d", len(frame), err, want)
		}
		if want < 20<<20 && len(f.buf) > 4<<20 {
			t.Errorf("the buffer has %d bytes after a frame of %d", len(f.buf), want)
		}
	}
	if len(f.buf) < 2<<20 {
		t.Errorf("the buffer has %d bytes: it is made anew for each frame of usual size", len(f.buf))
	}
}

func TestQueuedFramesKeepTheirOrder(t *testing.T) {
	a, b := start(t, 1, "c"), start(t, 2, "c")
	defer a.t.Close(0)
	defer b.t.Close(0)
	a.t.SetPeers(map[kafka.NodeID]string{2: b.address})
	a.t.Send(2, 0, []byte("first"))
	await(t, b.in, "frame") // the connection stands
	const count = 3000
	for i := range count {
		frame := binary.BigEndian.AppendUint32(nil, uint32(i))
		frame = append(frame, make([]byte, i*37%50_000)...)
		if i%7 == 0 {
			a.t.Send(2, 0, frame)
		} else {
			a.t.Queue(2, 0, frame)
		}
		if i%3 == 0 {
			a.t.Flush(i%2 == 0)
		}
		if i%40 == 39 {
			a.t.Flush(true)
			for j := i - 39; j <= i; j++ {
				r := await(t, b.in, "frame")
				if got := int(binary.BigEndian.Uint32([]byte(r.frame))); got != j || len(r.frame) != 4+j*37%50_000 {
					t.Fatalf("got frame %d of %d bytes, want frame %d", got, len(r.frame), j)
				}
			}
		}
	}
	if n := a.t.Dropped.Load(); n != 0 {
		t.Errorf("%d frames were dropped", n)
	}
}

func TestFramesOfManyGoroutinesArriveWhole(t *testing.T) {
	a, b := start(t, 1, "c"), start(t, 2, "c")
	defer a.t.Close(0)
	defer b.t.Close(0)
	a.t.SetPeers(map[kafka.NodeID]string{2: b.address})
	a.t.Send(2, 0, []byte{255})
	await(t, b.in, "frame")
	var senders sync.WaitGroup
	for g := range 4 {
		senders.Go(func() {
			for i := range 1000 {
				a.t.Queue(2, 0, append([]byte{byte(g)}, binary.BigEndian.AppendUint32(make([]byte, 0, 4000), uint32(i))...))
				a.t.Flush(i%5 != 0)
			}
		})
	}
	var next [4]int
	for range 4000 {
		r := await(t, b.in, "frame")
		g := r.frame[0]
		if got := int(binary.BigEndian.Uint32([]byte(r.frame[1:]))); got != next[g] {
			t.Fatalf("goroutine %d: got frame %d, want %d", g, got, next[g])
		}
		next[g]++
	}
	senders.Wait()
}

// Who is told of a connection says at once what the last one has lost.
func TestAPeerIsUpWhenItCanBeSentTo(t *testing.T) {
	b := start(t, 2, "c")
	defer b.t.Close(0)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan bool, 1)
	var a *Transport
	ready := make(chan struct{})
	a = New(socket, Options{
		Node: 1, Log: slog.New(slog.DiscardHandler), ClusterID: func() string { return "c" },
		Receive: func(kafka.NodeID, int, []byte, bool) error { return nil },
		Down:    func(kafka.NodeID, bool) {},
		Up: func(peer kafka.NodeID) {
			<-ready
			select {
			case said <- a.link(peer, 0).isConnected() || a.link(peer, 1).isConnected():
			default:
			}
		},
	})
	defer a.Close(0)
	a.SetPeers(map[kafka.NodeID]string{2: b.address})
	close(ready)
	if !await(t, said, "word of the peer") {
		t.Error("a peer was said to be up before it was connected")
	}
}

func (l *link) isConnected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.connected
}

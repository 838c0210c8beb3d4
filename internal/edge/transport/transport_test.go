package transport

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
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
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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

package transport

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chronik/internal/base/kafka"
)

// notes is a log of which the test reads the messages.
type notes struct {
	slog.Handler
	mu   sync.Mutex
	said []string
}

func (n *notes) Enabled(context.Context, slog.Level) bool { return true }

func (n *notes) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool { b.WriteString(" " + a.String()); return true })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.said = append(n.said, b.String())
	return nil
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.said...)
}

// poor is a socket for whose connections there are no file descriptors.
type poor struct {
	net.Listener
	left   int
	rich   chan struct{} // closed when none has been left for a while
	closed chan struct{}
}

func (p *poor) Accept() (net.Conn, error) {
	if p.left--; p.left >= 0 {
		return nil, syscall.EMFILE
	}
	close(p.rich)
	<-p.closed
	return nil, net.ErrClosed
}

func (p *poor) Close() error { close(p.closed); return nil }

func TestAWantOfDescriptorsIsToldOnce(t *testing.T) {
	log := &notes{}
	p := &poor{left: 20, rich: make(chan struct{}), closed: make(chan struct{})}
	tr := New(p, Options{Node: 1, Log: slog.New(log), ClusterID: func() string { return "" }})
	await(t, p.rich, "end of the want")
	tr.Close(0)
	if said := log.all(); len(said) != 1 {
		t.Errorf("%d lines: %s", len(said), strings.Join(said, "\n"))
	}
}

// deaf is a peer that takes connections and reads nothing but their hello.
func deaf(t *testing.T) (address string, stop func()) {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	go func() {
		for {
			c, err := socket.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			hello := make([]byte, 15)
			if _, err := io.ReadFull(c, hello); err == nil {
				c.Write([]byte{0}) //nolint:errcheck // then it is not connected
			}
		}
	}()
	return socket.Addr().String(), func() {
		socket.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			c.Close()
		}
	}
}

func TestLinksAreDrainedSideBySide(t *testing.T) {
	peers, stops := map[kafka.NodeID]string{}, []func(){}
	for id := range kafka.NodeID(3) {
		address, stop := deaf(t)
		peers[id+2] = address
		stops = append(stops, stop)
	}
	n := start(t, 1, "")
	n.t.SetPeers(peers)
	for id := range peers {
		for !n.t.link(id, 0).isConnected() {
			time.Sleep(time.Millisecond)
		}
		for range 20 {
			n.t.Send(id, 0, make([]byte, 1<<20)) // more than the kernel takes
		}
	}
	closed := make(chan struct{})
	go func() { n.t.Close(time.Hour); close(closed) }()
	sent := make(chan struct{})
	draining := func(l *link) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.drainers > 0
	}
	for id := range peers {
		for begun := time.Now(); !draining(n.t.links[id][0]); time.Sleep(time.Millisecond) {
			if time.Since(begun) > 10*time.Second {
				t.Fatalf("nobody waits for what is sent to node %d while others do not take theirs", id)
			}
		}
	}
	go func() { n.t.Send(2, 1, []byte("x")); close(sent) }()
	await(t, sent, "return of Send while the transport is closed")
	for _, stop := range stops {
		stop()
	}
	await(t, closed, "end of Close")
}

func TestAPeerThatIsNotReachedIsToldOfOnce(t *testing.T) {
	log := &notes{}
	tr := &Transport{options: Options{Log: slog.New(log)}, ctx: context.Background()}
	l := newLink(tr, 2, "peer:9192", 0)
	u := unreached{since: time.Now()}
	timeout := func(port int) error {
		return &net.OpError{Op: "read", Source: &net.TCPAddr{Port: port}, Err: syscall.ETIMEDOUT}
	}
	u.failed(l, timeout(1000))
	if said := log.all(); len(said) != 0 {
		t.Errorf("told at once: %q", said)
	}
	u.since = u.since.Add(-time.Minute)
	for port := range 10 {
		u.failed(l, timeout(port))
	}
	u.failed(l, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "peer"}})
	u.failed(l, refusal{reason: "told elsewhere"})
	said := log.all()
	if len(said) != 2 || !strings.Contains(said[0], "peer:9192 cause=connection timed out") || !strings.Contains(said[1], "no such host") {
		t.Errorf("%d lines: %s", len(said), strings.Join(said, "\n"))
	}
}

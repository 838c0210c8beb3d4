package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo listens in a node's namespace and sends back what comes.
func echo(t *testing.T, n *Network, node int) string {
	t.Helper()
	var l net.Listener
	err := within("/run/netns/"+n.namespace(node), func() error {
		var err error
		l, err = net.Listen("tcp", n.Host(node)+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c) //nolint:errcheck // the test's end closes it
		}
	}()
	return l.Addr().String()
}

func answered(c net.Conn, wait time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func TestPathsAreCutAndHealed(t *testing.T) {
	n := New(t, 2)
	address := echo(t, n, 1)
	dial := func() net.Conn {
		c, err := DialContext(context.Background(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := dial()
	must(answered(c, 5*time.Second))
	for _, p := range []path{{Clients, 1}, {1, Clients}} {
		must(n.Set(p.from, p.to, Drop))
		if err := answered(c, 200*time.Millisecond); !os.IsTimeout(err) {
			t.Errorf("%v cut: %v", p, err)
		}
		must(n.Heal())
		c = dial()
		must(answered(c, 5*time.Second))
	}
	must(n.Cut([]int{2}, []int{1, Clients}))
	must(answered(c, 5*time.Second)) // that is between others
	must(n.Set(Clients, 1, Reset))
	if err := answered(c, 5*time.Second); err == nil || os.IsTimeout(err) {
		t.Errorf("reset: %v", err)
	}
	must(n.Heal())
	c = dial() // which would give up when two of its packets in a row are lost
	must(n.Set(Clients, 1, Loss(20)))
	for i := range 20 {
		if err := answered(c, 20*time.Second); err != nil {
			t.Fatal(fmt.Errorf("packet %d, one in five lost: %w", i, err))
		}
	}
}

package cluster

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// The ports that tests listen on lie below the range from which the kernel takes
// ports for outgoing connections, so that a port is still free when a node comes
// back. `go test` runs several packages at a time, and a node that is down holds
// nothing: so each process takes a block of ports for itself, of which it holds
// the first as long as it lives, and gives out the others.
const (
	portsFirst = 20000
	portsEnd   = 32000
	blockPorts = 600
)

// portBlock gives out the ports of one block, in turn: one that is given back
// is not given again soon.
type portBlock struct {
	mu    sync.Mutex
	first int // 0: none is held yet
	last  int // the port that was given out last
	given map[int]bool
	held  net.Listener
}

var ports portBlock

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// hold takes a block that no other process holds.
func (b *portBlock) hold() error {
	const blocks = (portsEnd - portsFirst) / blockPorts
	var last error
	for _, i := range rand.Perm(blocks) {
		first := portsFirst + i*blockPorts
		l, err := net.Listen("tcp", loopback(first))
		if err != nil {
			last = err
			continue
		}
		b.first, b.last, b.held, b.given = first, first, l, make(map[int]bool)
		return nil
	}
	return last
}

// take gives out a port that nobody listens on.
func (b *portBlock) take() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first == 0 {
		if err := b.hold(); err != nil {
			return 0, err
		}
	}
	for range blockPorts - 1 {
		if b.last++; b.last == b.first+blockPorts {
			b.last = b.first + 1
		}
		if b.given[b.last] {
			continue
		}
		l, err := net.Listen("tcp", loopback(b.last))
		if err != nil {
			continue
		}
		l.Close()
		b.given[b.last] = true
		return b.last, nil
	}
	return 0, errors.New("all ports of the block are in use")
}

func (b *portBlock) giveBack(port int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.given, port)
}

// FreeAddress returns an address on 127.0.0.1 that nobody listens on, and that
// is the test's until it ends.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := ports.take()
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	t.Cleanup(func() { ports.giveBack(port) })
	return loopback(port)
}

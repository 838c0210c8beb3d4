package main

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// network is what lies between the nodes of a local cluster and before them,
// so that a node can be cut off: its packets vanish, no connection is closed.
type network struct {
	mu      sync.Mutex
	cond    sync.Cond
	cut     map[int]bool
	sockets []net.Listener
	conns   map[net.Conn]struct{}
}

func newNetwork() *network {
	n := &network{cut: map[int]bool{}, conns: map[net.Conn]struct{}{}}
	n.cond.L = &n.mu
	return n
}

// outside stands for a client, which is never cut off itself.
const outside = 0

// front takes connections for a node on a free port; peers tell who they are.
func (n *network) front(node int, target string, peers bool) (string, error) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	n.sockets = append(n.sockets, socket)
	go func() {
		for {
			c, err := socket.Accept()
			if err != nil {
				return
			}
			go n.connect(c, node, target, peers)
		}
	}()
	return socket.Addr().String(), nil
}

// connect carries one connection. A peer's begins with magic, version, class,
// and its node id.
func (n *network) connect(c net.Conn, node int, target string, peers bool) {
	defer c.Close()
	from, head := outside, []byte(nil)
	if peers {
		head = make([]byte, 10)
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		from = int(binary.BigEndian.Uint32(head[6:]))
	}
	if !n.pass(from, node) {
		return
	}
	t, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer t.Close()
	n.mu.Lock()
	n.conns[c], n.conns[t] = struct{}{}, struct{}{}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.conns, c)
		delete(n.conns, t)
		n.mu.Unlock()
	}()
	if _, err := t.Write(head); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { n.copy(t, c, from, node); t.Close(); c.Close() })
	both.Go(func() { n.copy(c, t, from, node); t.Close(); c.Close() })
	both.Wait()
}

func (n *network) copy(to, from net.Conn, a, b int) {
	buf := make([]byte, 64<<10)
	for {
		k, err := from.Read(buf)
		if !n.pass(a, b) || err != nil {
			return
		}
		if _, err := to.Write(buf[:k]); err != nil {
			return
		}
	}
}

// pass waits until both ends are connected to the network. It says no when the
// network is closed.
func (n *network) pass(a, b int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.cut != nil && (n.cut[a] || n.cut[b]) {
		n.cond.Wait()
	}
	return n.cut != nil
}

func (n *network) set(node int, cut bool) {
	n.mu.Lock()
	n.cut[node] = cut
	n.mu.Unlock()
	n.cond.Broadcast()
}

func (n *network) close() {
	for _, s := range n.sockets {
		s.Close()
	}
	n.mu.Lock()
	n.cut = nil
	for c := range n.conns {
		c.Close()
	}
	n.mu.Unlock()
	n.cond.Broadcast()
}

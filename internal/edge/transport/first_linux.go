package transport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Closed first. When a process ends, however it does, the kernel closes its
// descriptors one by one, from the highest number down, and among them are
// hundreds of logs and the connections of clients. A client that notices before
// the other nodes do asks one of them who leads now, and is told what will not
// be true in a moment. So the connections that other nodes have made to this
// one get numbers above all others, and the socket that accepts them the
// highest: when a connection has ended, a new one is refused.

const (
	// The kernel keeps 8 bytes for each number up to the highest that is used.
	firstMax = 1 << 15
	// Between the lowest of these numbers and that of the accepting socket.
	firstConns = 128
)

// firstTop is the highest number that is used.
func firstTop() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return -1
	}
	return int(min(limit.Cur, firstMax)) - 1
}

// raise gives a descriptor the lowest free number from one on. Where there is
// none, it keeps its own.
func raise(fd, from int) int {
	if raised, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, from); err == nil {
		unix.Close(fd) //nolint:errcheck // the socket lives on under the other number
		return raised
	}
	return fd
}

// ClosedFirst takes over a listening socket. It and the connections that it
// accepts are closed before all others of this process, should it be killed.
// Where that cannot be had, the socket stays as it is.
func ClosedFirst(socket net.Listener) net.Listener {
	t, ok := socket.(*net.TCPListener)
	top := firstTop()
	if !ok || top < 2*firstConns {
		return socket
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return socket
	}
	raised := -1
	if e := raw.Control(func(fd uintptr) { raised, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, top) }); e != nil || err != nil {
		return socket
	}
	address := socket.Addr()
	socket.Close() // it lives on under the other number
	return &firstListener{file: os.NewFile(uintptr(raised), "peers"), address: address, from: top - firstConns}
}

// firstListener is a listening socket under a number of its own.
type firstListener struct {
	file    *os.File
	address net.Addr
	from    int // numbers of the connections
	closed  atomic.Bool
}

func (l *firstListener) Addr() net.Addr { return l.address }

func (l *firstListener) Close() error {
	l.closed.Store(true)
	return l.file.Close()
}

func (l *firstListener) Accept() (net.Conn, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return nil, l.failed(err)
	}
	var fd int
	var from unix.Sockaddr
	var failure error
	err = raw.Read(func(socket uintptr) bool {
		for {
			fd, from, failure = unix.Accept4(int(socket), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if failure != unix.EINTR && failure != unix.ECONNABORTED {
				return failure != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(err, failure); err != nil {
		return nil, l.failed(err)
	}
	fd = raise(fd, l.from)
	// As the net package has it; else one whose peer is gone without a word stays for ever.
	for _, option := range [][3]int{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
	} {
		_ = unix.SetsockoptInt(fd, option[0], option[1], option[2])
	}
	return &firstConn{os.NewFile(uintptr(fd), "peer"), l.address, tcpAddr(from)}, nil
}

func (l *firstListener) failed(err error) error {
	if l.closed.Load() {
		err = net.ErrClosed
	}
	return fmt.Errorf("accept peer: %w", err)
}

func tcpAddr(a unix.Sockaddr) net.Addr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	}
	return &net.TCPAddr{}
}

// firstConn is a connection under a number of its own. The runtime's poller
// serves it like any other.
type firstConn struct {
	*os.File
	local, remote net.Addr
}

var _ net.Conn = (*firstConn)(nil)

func (c *firstConn) LocalAddr() net.Addr  { return c.local }
func (c *firstConn) RemoteAddr() net.Addr { return c.remote }

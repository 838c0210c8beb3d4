package transport

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tune prepares the socket of a connection between nodes. What paces itself by
// what it takes for the bandwidth of a path (bbr) is slow between nodes that are
// near, and slowest on one machine; cubic is the kernel's own default, and takes
// what there is. Where it is not to be had, the connection stays as it is. See
// unheardMax for the rest.
func tune(c net.Conn) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unheardMax.Milliseconds()))
	})
}

// unheardMax is for how long a peer may confirm nothing of what it was sent until
// the connection is given up. On a path that was cut the kernel tries again after
// ever longer times: when a minute's cut is over, up to a minute more would go by.
// A new connection is tried each second. To be cut for as long is to be fenced.
const unheardMax = 5 * time.Second

// ended says whether the other end of a connection, which never writes, is
// known to be gone.
func ended(raw syscall.RawConn) bool {
	if raw == nil {
		return false
	}
	gone := false
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = err != syscall.EAGAIN && err != syscall.EINTR //nolint:errorlint // it is an Errno
	})
	return gone || err != nil
}

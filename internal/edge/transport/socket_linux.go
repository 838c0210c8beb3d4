package transport

import (
	"net"

	"golang.org/x/sys/unix"
)

// tune prepares the socket of a connection between nodes. What paces itself by
// what it takes for the bandwidth of a path (bbr) is slow between nodes that are
// near, and slowest on one machine; cubic is the kernel's own default, and takes
// what there is. Where it is not to be had, the connection stays as it is.
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
	})
}

package listener

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// calmLoopback has answers to a client on this machine go out as they are
// ready. Congestion control that paces what it sends, BBR for one, costs twice
// the processor time on a link that has no congestion. Where the system has no
// cubic, all stays as it is.
func calmLoopback(socket net.Conn) {
	s, ok := socket.(syscall.Conn)
	remote, isTCP := socket.RemoteAddr().(*net.TCPAddr)
	if !ok || !isTCP || !remote.IP.IsLoopback() {
		return
	}
	if raw, err := s.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic")
		})
	}
}

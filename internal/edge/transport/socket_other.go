//go:build !linux

package transport

import (
	"net"
	"syscall"
)

func tune(net.Conn) {}

// ended says whether the other end of a connection is known to be gone; here
// that is known when the connection's reader has noticed.
func ended(syscall.RawConn) bool { return false }

// ClosedFirst has the connections of peers closed before all others when the
// process is killed, where that is known to be possible.
func ClosedFirst(socket net.Listener) net.Listener { return socket }

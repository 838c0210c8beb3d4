package transport

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// Nobody reads the connection: only the kernel knows that it has ended.
func TestAnEndIsSeenBeforeAnyoneReads(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if ended(raw) {
		t.Error("a connection that stands is taken for ended")
	}
	other.Close()
	for begun := time.Now(); !ended(raw); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the end is not seen")
		}
	}
	c.Close()
	if !ended(raw) {
		t.Error("a connection that was closed here is taken for one that stands")
	}
}

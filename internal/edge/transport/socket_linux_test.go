package transport

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// The kernel closes what a process has open from the highest number down.
func TestPeersHaveTheHighestDescriptors(t *testing.T) {
	descriptor := func(c any) (number int) {
		raw, err := c.(syscall.Conn).SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { number = int(fd) })
		}
		if err != nil {
			t.Fatal(err)
		}
		return number
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := plain.Addr().String()
	l := ClosedFirst(plain)
	defer l.Close()
	if got := l.Addr().String(); got != address {
		t.Errorf("listens on %s, was %s", got, address)
	}
	var before int
	for i := range 3 {
		dialled, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer dialled.Close()
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if got, want := peer.RemoteAddr().String(), dialled.LocalAddr().String(); got != want {
			t.Errorf("peer at %s, want %s", got, want)
		}
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		socket, conn, later := descriptor(l.(*firstListener).file), descriptor(peer), descriptor(file)
		if socket <= conn || conn <= later || conn <= before {
			t.Errorf("connection %d: the listening socket is descriptor %d, the peer %d, a file %d", i, socket, conn, later)
		}
		before = conn
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("the address still accepts")
	}
}

// With as few numbers as there may be, or all of them in use, it does without.
func TestPeersAreAcceptedWithoutHighDescriptors(t *testing.T) {
	var taken []*os.File
	for {
		null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		file := raise(null, firstTop()-firstConns)
		taken = append(taken, os.NewFile(uintptr(file), "taken"))
		if file < firstTop()-firstConns {
			break
		}
	}
	defer func() {
		for _, f := range taken {
			f.Close()
		}
	}()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := ClosedFirst(plain)
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	peer.Close()
}

// Without it the kernel tries a path that was cut again after ever longer times.
func TestAPeerThatConfirmsNothingIsGivenUp(t *testing.T) {
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
	tune(c)
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ms int
	if e := raw.Control(func(fd uintptr) { ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	if time.Duration(ms)*time.Millisecond != unheardMax {
		t.Errorf("given up after %d ms", ms)
	}
}

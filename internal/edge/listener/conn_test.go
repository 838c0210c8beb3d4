package listener

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"chronik/internal/api"
)

func TestAnswerIsAskedForOnlyOnce(t *testing.T) {
	panicked := make(chan bool, 1)
	l := start(t, Options{Serve: func(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
		a := answer(frame)
		reply(a)
		defer func() { panicked <- recover() != nil }()
		reply(a)
	}})
	c := dial(t, l)
	c.Write(request(1, 0))
	readAnswer(t, c)
	if !<-panicked {
		t.Fatal("a second answer was taken")
	}
}

func TestHandlerIsToldWhoAsks(t *testing.T) {
	clients := make(chan *api.Client, 2)
	l := start(t, Options{Name: "INTERNAL", Serve: func(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
		clients <- client
		reply(api.Answer{Close: true, Err: errors.New("nonsense")})
	}})
	for range 2 {
		c := dial(t, l)
		c.Write(request(1, 0))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatalf("%d bytes", n)
		}
	}
	a, b := <-clients, <-clients
	if a.ID == b.ID || a.Host != "127.0.0.1" || a.Listener != "INTERNAL" {
		t.Errorf("%+v, %+v", a, b)
	}
	wait(t, "both to be counted", func() bool { return l.count.ClosedInvalid.Load() == 2 })
}

func TestStopClosesConnectionsAtRest(t *testing.T) {
	l := start(t, Options{Serve: echo})
	c := dial(t, l)
	wait(t, "connection", func() bool { return l.count.Open.Load() == 1 })
	l.Stop(context.Background()) // which waits for as long as one is open
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	l := start(b, Options{Serve: echo})
	c := dial(b, l)
	frame := request(1, 100)
	c.SetDeadline(time.Time{})
	b.ReportAllocs()
	for b.Loop() {
		c.Write(frame)
		readAnswer(b, c)
	}
}

// BenchmarkRoundTripBare is the floor: an echo without any of the listener.
func BenchmarkRoundTripBare(b *testing.B) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer socket.Close()
	go func() {
		c, err := socket.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 200)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			c.Write(buf[:n])
		}
	}()
	c, err := net.Dial("tcp", socket.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	frame := request(1, 100)
	for b.Loop() {
		c.Write(frame)
		readAnswer(b, c)
	}
}

func BenchmarkPipelined(b *testing.B) {
	l := start(b, Options{Serve: echo})
	c := dial(b, l)
	c.SetDeadline(time.Time{})
	frames := bytes.Repeat(request(1, 100), 50)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(frames)
		for range 50 {
			readAnswer(b, c)
		}
	}
}

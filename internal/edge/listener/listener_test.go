package listener

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/invariant"
	"chronik/internal/format/wire"
)

// request is a frame with a correlation id and a body of so many bytes, under
// the key of ApiVersions.
func request(correlation int32, body int) []byte {
	b := make([]byte, 4+10+body)
	binary.BigEndian.PutUint32(b, uint32(10+body))
	binary.BigEndian.PutUint16(b[4:], 18)
	binary.BigEndian.PutUint32(b[8:], uint32(correlation))
	return b
}

func correlationOf(frame []byte) int32 { return int32(binary.BigEndian.Uint32(frame[4:])) }

// answer is a small response to the frame.
func answer(frame []byte) api.Answer {
	return api.Answer{CorrelationID: correlationOf(frame), Response: kmsg.NewPtrApiVersionsResponse()}
}

// bigAnswer is a response of a little more than size bytes.
func bigAnswer(correlation int32, size int) api.Answer {
	r := kmsg.NewPtrFetchResponse()
	r.Version = 4
	r.Topics = []kmsg.FetchResponseTopic{{Topic: "t", Partitions: []kmsg.FetchResponseTopicPartition{{RecordBatches: make([]byte, size)}}}}
	return api.Answer{CorrelationID: correlation, Response: r}
}

// readAnswer returns the correlation id of the next response.
func readAnswer(t testing.TB, r io.Reader) int32 {
	t.Helper()
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatalf("read answer: %v", err)
	}
	if _, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head[:]))-4); err != nil {
		t.Fatalf("read answer: %v", err)
	}
	return int32(binary.BigEndian.Uint32(head[4:]))
}

// echo answers at once.
func echo(now time.Time, frame []byte, client *api.Client, reply api.Reply) { reply(answer(frame)) }

// start serves on a loopback port until the test ends.
func start(t testing.TB, o Options) *Listener {
	t.Helper()
	l, err := Listen("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- l.Serve() }()
	t.Cleanup(func() {
		l.Stop(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
		if n := l.count.QueuedBytes.Load(); n != 0 {
			t.Errorf("%d bytes are still counted as queued", n)
		}
		if n := l.count.Open.Load(); n != 0 {
			t.Errorf("%d connections are still counted", n)
		}
	})
	return l
}

func dial(t testing.TB, l *Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// wait returns when done says so.
func wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// parking keeps requests until they are answered by correlation id.
type parking struct {
	mu     sync.Mutex
	parked map[int32]func()
	order  []int32
}

func (p *parking) serve(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
	id := correlationOf(frame)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parked == nil {
		p.parked = map[int32]func(){}
	}
	a := answer(frame)
	p.parked[id] = func() { reply(a) }
	p.order = append(p.order, id)
}

func (p *parking) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.order)
}

func (p *parking) answer(ids ...int32) {
	for _, id := range ids {
		p.mu.Lock()
		f := p.parked[id]
		p.mu.Unlock()
		f()
	}
}

func TestAnswersComeInTheOrderOfRequests(t *testing.T) { // trap 9
	var p parking
	l := start(t, Options{Serve: p.serve})
	c := dial(t, l)
	for id := int32(1); id <= 4; id++ {
		c.Write(request(id, 5))
	}
	wait(t, "four requests", func() bool { return p.count() == 4 })
	p.answer(3, 2, 4)
	c.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes before the first request was answered", n)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	p.answer(1)
	for id := int32(1); id <= 4; id++ {
		if got := readAnswer(t, c); got != id {
			t.Fatalf("answer to %d, want %d", got, id)
		}
	}
}

func TestAnswersFromManyGoroutinesKeepTheirOrder(t *testing.T) {
	for name, dial := range map[string]func(*Listener) net.Conn{
		"socket": func(l *Listener) net.Conn { return dial(t, l) },
		"pipe": func(l *Listener) net.Conn {
			client, server := net.Pipe()
			l.ServeConn(server)
			return client
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t, Options{InFlightRequestsMax: 20, Serve: func(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
				id := correlationOf(frame)
				switch {
				case id%3 == 0:
					go reply(answer(frame))
				case id%50 == 1:
					go func() { reply(bigAnswer(id, 300<<10)) }()
				default:
					reply(answer(frame))
				}
			}})
			c := dial(l)
			defer c.Close()
			const requests = 3000
			go func() {
				var all []byte
				for id := range int32(requests) {
					all = append(all, request(id, int(id)%700)...)
				}
				c.Write(all)
			}()
			for id := range int32(requests) {
				if got := readAnswer(t, c); got != id {
					t.Fatalf("answer to %d, want %d", got, id)
				}
			}
		})
	}
}

func TestRequestWithoutAnswerSendsNothing(t *testing.T) {
	l := start(t, Options{Serve: func(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
		if correlationOf(frame) == 1 {
			reply(api.Answer{})
			return
		}
		reply(answer(frame))
	}})
	c := dial(t, l)
	c.Write(append(request(1, 0), request(2, 0)...))
	if got := readAnswer(t, c); got != 2 {
		t.Fatalf("answer to %d, want 2", got)
	}
}

func TestCloseComesAfterWhatStandsBefore(t *testing.T) {
	var p parking
	l := start(t, Options{Serve: func(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
		if correlationOf(frame) == 2 {
			a := answer(frame)
			a.Close = true
			reply(a)
			return
		}
		p.serve(now, frame, client, reply)
	}})
	c := dial(t, l)
	c.Write(bytes.Join([][]byte{request(1, 0), request(2, 0), request(3, 0), make([]byte, 3)}, nil))
	wait(t, "requests", func() bool { return p.count() == 2 })
	p.answer(3, 1)
	if a, b := readAnswer(t, c), readAnswer(t, c); a != 1 || b != 2 {
		t.Fatalf("answers to %d and %d, want 1 and 2", a, b)
	}
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d bytes, %v after an answer that closes; want the end", n, err)
	}
}

func TestBytesThatAreNoRequestCloseTheConnection(t *testing.T) {
	for name, sent := range map[string][]byte{
		"negative length":       {0xff, 0xff, 0xff, 0xff},
		"longer than the limit": {0x7f, 0xff, 0xff, 0xff},
	} {
		l := start(t, Options{Serve: echo})
		c := dial(t, l)
		c.Write(append(request(1, 0), sent...))
		if got := readAnswer(t, c); got != 1 {
			t.Fatalf("%s: answer to %d, want 1", name, got)
		}
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %d bytes, %v; want the end", name, n, err)
		}
		if l.count.ClosedInvalid.Load() != 1 {
			t.Errorf("%s: not counted", name)
		}
	}
}

func TestPanicEndsOneConnectionOnly(t *testing.T) {
	var log bytes.Buffer
	l := start(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Serve: func(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
		if correlationOf(frame) == 13 {
			var m map[int]int
			m[0] = 1 //nolint:staticcheck // the panic is the point
		}
		reply(answer(frame))
	}})
	other, c := dial(t, l), dial(t, l)
	c.Write(request(13, 0))
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatalf("%d bytes after a panic", n)
	}
	other.Write(request(1, 0))
	readAnswer(t, other)
	wait(t, "the panic's connection to go", func() bool { return l.count.Open.Load() == 1 })
	if l.count.Panics.Load() != 1 || !bytes.Contains(log.Bytes(), []byte("listener_test.go")) {
		t.Errorf("%d panics counted; log: %s", l.count.Panics.Load(), log.String())
	}
	if n := l.count.Waiting.Load(); n != 0 {
		t.Errorf("%d requests are still counted", n)
	}
}

func TestBrokenInvariantIsNotCaught(t *testing.T) {
	l := New(noSocket{}, Options{Serve: func(time.Time, []byte, *api.Client, api.Reply) {
		invariant.Check(false, "does what it must not")
	}})
	client, server := net.Pipe()
	defer client.Close()
	c := newConn(l, server, remoteIP(server))
	c.frames = wire.NewReader(bytes.NewReader(request(1, 0)), wire.ReaderOptions{})
	frame, err := c.frames.Next()
	if err != nil {
		t.Fatal(err)
	}
	var caught any
	func() {
		defer func() { caught = recover() }()
		c.handle(frame)
	}()
	if _, ok := caught.(invariant.Violation); !ok {
		t.Fatalf("caught %v", caught)
	}
}

func TestLimitOfRequestsInFlightPausesReading(t *testing.T) {
	var p parking
	l := start(t, Options{Serve: p.serve, InFlightRequestsMax: 3})
	c := dial(t, l)
	for id := range int32(10) {
		c.Write(request(id, 0))
	}
	wait(t, "three requests", func() bool { return p.count() == 3 })
	time.Sleep(20 * time.Millisecond)
	if p.count() != 3 {
		t.Fatalf("%d requests handled, limit 3", p.count())
	}
	for id := range int32(10) {
		wait(t, "the next request", func() bool { return p.count() > int(id) })
		p.answer(id)
		if got := readAnswer(t, c); got != id {
			t.Fatalf("answer to %d, want %d", got, id)
		}
	}
}

func TestLimitOfBytesPausesReadingOfOneConnectionAndOfAll(t *testing.T) {
	var p parking
	l := start(t, Options{Serve: p.serve, InFlightBytesMax: 1000, QueuedBytesMax: 3000})
	c := dial(t, l)
	for id := range int32(3) {
		c.Write(request(id, 700))
	}
	wait(t, "two requests", func() bool { return p.count() == 2 })
	time.Sleep(20 * time.Millisecond)
	if p.count() != 2 {
		t.Fatalf("%d requests handled, want 2: the second goes over the limit", p.count())
	}
	// All together: the first connection holds 1428 bytes and has 714 read ahead.
	other := dial(t, l)
	other.Write(request(100, 2000))
	wait(t, "the other connection's request", func() bool { return p.count() == 3 })
	third := dial(t, l)
	third.Write(request(200, 0))
	time.Sleep(20 * time.Millisecond)
	if p.count() != 3 {
		t.Fatalf("%d requests handled over the limit of all connections", p.count())
	}
	p.answer(100)
	readAnswer(t, other)
	wait(t, "the third connection's request", func() bool { return p.count() == 4 })
	p.answer(200, 0, 1)
	readAnswer(t, third)
	wait(t, "the last request", func() bool { return p.count() == 5 })
	p.answer(2)
	for id := range int32(3) {
		if got := readAnswer(t, c); got != id {
			t.Fatalf("answer to %d, want %d", got, id)
		}
	}
}

// Requests that were begun while there was room do not all come in when there is
// none any more: that would be as many times the longest request as there are
// connections.
func TestLimitOfBytesHoldsForRequestsThatHaveBegun(t *testing.T) {
	const limit, size, clients = 1 << 20, 512 << 10, 20
	l := start(t, Options{Serve: echo, QueuedBytesMax: limit})
	var sending sync.WaitGroup
	var conns []net.Conn
	for i := range int32(clients) {
		c := dial(t, l)
		conns = append(conns, c)
		c.Write(request(i, size)[:4096])
	}
	wait(t, "all to have begun", func() bool { return l.count.QueuedBytes.Load() == clients*4096 })
	for i, c := range conns {
		sending.Go(func() { c.Write(request(int32(i), size)[4096 : size-4096]) }) // not the end
	}
	// One may go on, and what fits the limit may have come before it was reached.
	wait(t, "the others to pause", func() bool { return l.count.Paused.Load() >= clients-1-limit/size })
	if n := l.count.QueuedBytes.Load(); n > limit+size+clients*128<<10 {
		t.Errorf("%d bytes of requests are in memory, the limit is %d", n, limit)
	}
	for i, c := range conns {
		sending.Go(func() { c.Write(request(int32(i), size)[size-4096:]) })
	}
	sending.Wait()
	for i, c := range conns {
		if got := readAnswer(t, c); got != int32(i) {
			t.Errorf("answer to %d, want %d", got, i)
		}
	}
}

func TestAnswersNotReadPauseReading(t *testing.T) {
	var handled atomic.Int64
	l := start(t, Options{InFlightBytesMax: 8 << 20, Serve: func(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
		handled.Add(1)
		reply(bigAnswer(correlationOf(frame), 4<<20))
	}})
	c := dial(t, l)
	for id := range int32(50) {
		c.Write(request(id, 0))
	}
	time.Sleep(100 * time.Millisecond)
	if n := handled.Load(); n > 10 {
		t.Errorf("%d answers of 4 MiB were made for a client that reads none", n)
	}
	for id := range int32(50) {
		if got := readAnswer(t, c); got != id {
			t.Fatalf("answer to %d, want %d", got, id)
		}
	}
}

func TestConnectionsOverALimitAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"total":                {Serve: echo, ConnectionsMax: 2},
		"per ip":               {Serve: echo, ConnectionsPerIPMax: 2},
		"total at the moment":  {Serve: echo, ConnectionsMax: 9, Limits: func() (int, int) { return 2, 9 }},
		"per ip at the moment": {Serve: echo, ConnectionsMax: 9, Limits: func() (int, int) { return 9, 2 }},
	} {
		l := start(t, o)
		first, second := dial(t, l), dial(t, l)
		for _, c := range []net.Conn{first, second} {
			c.Write(request(1, 0))
			readAnswer(t, c)
		}
		third := dial(t, l)
		if _, err := third.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: a third connection was served", name)
		}
		first.Close()
		wait(t, "the first to go", func() bool { return l.count.Open.Load() == 1 })
		fourth := dial(t, l)
		fourth.Write(request(4, 0))
		readAnswer(t, fourth)
		if n := l.count.RefusedTotal.Load() + l.count.RefusedPerIP.Load(); n != 1 {
			t.Errorf("%s: %d refusals counted, want 1", name, n)
		}
	}
}

// pipes runs test with a connection in a bubble whose time is false.
func pipes(t *testing.T, o Options, test func(t *testing.T, l *Listener, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		l := New(noSocket{}, o)
		client, server := net.Pipe()
		l.ServeConn(server)
		test(t, l, client)
		client.Close()
		l.Stop(context.Background())
	})
}

type noSocket struct{ net.Listener }

func (noSocket) Close() error { return nil }

func TestIdleConnectionIsClosed(t *testing.T) {
	var p parking
	pipes(t, Options{Serve: p.serve, IdleMax: 10 * time.Minute}, func(t *testing.T, l *Listener, c net.Conn) {
		c.Write(request(1, 0))
		time.Sleep(time.Hour) // waiting for an answer is not idle
		p.answer(1)
		readAnswer(t, c)
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("read: %v", err)
		}
		if took := time.Since(began); took < 10*time.Minute || took > 21*time.Minute {
			t.Errorf("closed after %v", took)
		}
		synctest.Wait()
		if l.count.ClosedIdle.Load() != 1 {
			t.Error("not counted")
		}
	})
}

func TestRequestThatTricklesIsClosed(t *testing.T) {
	pipes(t, Options{Serve: echo}, func(t *testing.T, l *Listener, c net.Conn) {
		c.Write(request(1, 0))
		readAnswer(t, c)
		time.Sleep(time.Minute)
		began := time.Now()
		for _, b := range request(2, 100) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("closed after %v", took)
		}
		synctest.Wait()
		if l.count.ClosedSlow.Load() != 1 {
			t.Error("not counted")
		}
	})
}

func TestSlowHonestRequestIsServed(t *testing.T) {
	pipes(t, Options{Serve: echo}, func(t *testing.T, l *Listener, c net.Conn) {
		frame := request(1, 8<<20)
		for len(frame) > 0 { // 128 KiB/s: 64 s
			n := min(len(frame), 128<<10)
			if _, err := c.Write(frame[:n]); err != nil {
				t.Fatal(err)
			}
			frame = frame[n:]
			time.Sleep(time.Second)
		}
		readAnswer(t, c)
	})
}

func TestClientThatReadsNothingIsClosed(t *testing.T) {
	pipes(t, Options{Serve: echo, ResponseDeadline: 30 * time.Second}, func(t *testing.T, l *Listener, c net.Conn) {
		began := time.Now()
		c.Write(request(1, 0))
		for l.count.Open.Load() > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < 30*time.Second || took > 32*time.Second {
			t.Errorf("closed after %v", took)
		}
		if l.count.ClosedSlow.Load() != 1 || l.count.QueuedBytes.Load() != 0 {
			t.Errorf("%d counted, %d bytes left", l.count.ClosedSlow.Load(), l.count.QueuedBytes.Load())
		}
	})
}

func TestStopLetsAnswersOut(t *testing.T) {
	var p parking
	pipes(t, Options{Serve: p.serve}, func(t *testing.T, l *Listener, c net.Conn) {
		c.Write(request(1, 0))
		synctest.Wait()
		time.AfterFunc(500*time.Millisecond, func() { p.answer(1) })
		got := make(chan int32)
		go func() { got <- readAnswer(t, c) }()
		began := time.Now()
		go l.Stop(context.Background())
		if id := <-got; id != 1 {
			t.Errorf("answer to %d", id)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	var p parking
	pipes(t, Options{Serve: p.serve}, func(t *testing.T, l *Listener, c net.Conn) {
		c.Write(request(1, 0))
		synctest.Wait()
		began := time.Now()
		l.Stop(context.Background())
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		p.answer(1) // too late, and harmless
		if n := l.count.QueuedBytes.Load(); n != 0 {
			t.Errorf("%d bytes left", n)
		}
	})
}

func TestAfterRequestSaysWhetherMoreIsBuffered(t *testing.T) {
	var mu sync.Mutex
	var calls []bool
	l := start(t, Options{Serve: echo, AfterRequest: func(more bool) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, more)
	}})
	c := dial(t, l)
	c.Write(bytes.Join([][]byte{request(1, 0), request(2, 0), request(3, 0)}, nil))
	for range 3 {
		readAnswer(t, c)
	}
	wait(t, "three calls", func() bool { mu.Lock(); defer mu.Unlock(); return len(calls) == 3 })
	if !calls[0] || !calls[1] || calls[2] {
		t.Errorf("more: %v, want %v", calls, []bool{true, true, false})
	}
}

// After a large request, a part of the next one counts: it is not read ahead.
func TestAfterRequestSaysWhetherMoreIsOnItsWay(t *testing.T) {
	calls, sent := make(chan bool, 2), make(chan struct{})
	var l *Listener
	l = start(t, Options{
		Serve: func(now time.Time, frame []byte, client *api.Client, reply api.Reply) {
			<-sent
			if correlationOf(frame) == 1 {
				l.mu.Lock()
				for c := range l.conns {
					wait(t, "the next request's first bytes", c.source.pending)
				}
				l.mu.Unlock()
			}
			echo(now, frame, client, reply)
		},
		AfterRequest: func(more bool) { calls <- more },
	})
	c := dial(t, l)
	c.Write(request(1, largeBytesMin))
	next := request(2, largeBytesMin)
	c.Write(next[:10])
	close(sent)
	if more := <-calls; !more {
		t.Error("nothing more, though the next request has begun to arrive")
	}
	c.Write(next[10:])
	if more := <-calls; more {
		t.Error("more, though nothing was sent after the last request")
	}
}

func TestRequestsThatWaitHoldNoFrame(t *testing.T) {
	const requests, size = 30, 1 << 20
	var p parking
	l := start(t, Options{Serve: p.serve})
	c := dial(t, l)
	for id := int32(1); id <= requests; id++ {
		c.Write(request(id, size))
	}
	wait(t, "requests", func() bool { return p.count() == requests })
	runtime.GC()
	runtime.GC() // what is pooled goes with the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > requests*size/2 {
		t.Errorf("%d bytes in use for %d requests of %d bytes", m.HeapAlloc, requests, size)
	}
	if held := l.count.QueuedBytes.Load(); held < requests*size {
		t.Errorf("%d bytes are counted: what they have left in the log's memory is not", held)
	}
	for id := int32(1); id <= requests; id++ {
		p.answer(id)
		readAnswer(t, c)
	}
}

func TestIdleConnectionsAreCheap(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 2,000 connections")
	}
	const connections = 2000
	l := start(t, Options{Serve: echo})
	memory := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := memory()
	clients := make([]net.Conn, connections)
	for i := range clients {
		clients[i] = dial(t, l)
		if i%2 == 0 { // half have asked something and gone to rest
			clients[i].Write(request(1, 100))
			readAnswer(t, clients[i])
		}
	}
	wait(t, "connections", func() bool { return l.count.Open.Load() == connections })
	fresh := memory()
	time.Sleep(quietAfter + 2*time.Second)
	rest := memory()
	for range 20 { // a busy machine takes longer to have them all at rest
		if (rest-before)/connections <= 8<<10 {
			break
		}
		time.Sleep(time.Second)
		rest = memory()
	}
	runtime.KeepAlive(clients)
	t.Logf("per connection, both ends: %d bytes at first, %d at rest", (fresh-before)/connections, (rest-before)/connections)
	if each := (rest - before) / connections; each > 8<<10 {
		t.Errorf("%d bytes per connection at rest", each)
	}
	for i := range 10 { // and they still work
		clients[i].Write(request(7, 100))
		if got := readAnswer(t, clients[i]); got != 7 {
			t.Fatal(got)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// startNode runs a node of this binary within the test, and returns its
// address for Kafka clients and that of its HTTP port.
func startNode(t *testing.T) (kafka, http string) {
	t.Helper()
	var addresses []string
	for range 3 {
		socket, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		addresses = append(addresses, socket.Addr().String())
		socket.Close()
	}
	dir := t.TempDir() // removed when the node has ended
	ctx, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	var log lockedBuffer
	ended.Go(func() {
		if code := run(ctx, []string{"start", "--kafka", addresses[0], "--peer", addresses[1], "--http", addresses[2], "--data-dir", dir},
			nil, strings.NewReader(""), &log, &log); code != 0 {
			t.Errorf("the node ended with %d\n%s", code, log.String())
		}
	})
	t.Cleanup(func() { stop(); ended.Wait() })
	n := &localNode{id: 1, kafka: addresses[0], done: make(chan struct{})}
	ready, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.ready(ready, 1); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	return addresses[0], addresses[2]
}

// lockedBuffer may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await waits until the text has appeared.
func (l *lockedBuffer) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(l.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", text, l.String())
		}
	}
}

// with runs the command line against a node, with an input, and wants an exit code.
func with(t *testing.T, want int, stdin string, line ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if code := run(ctx, line, nil, strings.NewReader(stdin), &out, &errs); code != want {
		t.Fatalf("chronik %s: exit %d, want %d\n%s%s", strings.Join(line, " "), code, want, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

// Who asks for an offset that does not exist yet is told so at once, and gets
// nothing that comes before it.
func TestConsumeBeyondTheEndSaysSoAndWaitsForThatOffset(t *testing.T) {
	kafka, _ := startNode(t)
	with(t, 0, "", "topic", "create", "t", "-b", kafka)
	with(t, 0, lines(0, 10), "produce", "-t", "t", "-b", kafka)
	if _, errs := with(t, 1, "", "consume", "-t", "t", "-b", kafka, "--from", "15", "-e"); !strings.Contains(errs, "read t: there is nothing from offset 15 on: partition 0 ends at offset 10\n") {
		t.Errorf("with -e: %s", errs)
	}
	for i, group := range [][]string{nil, {"-g", "g"}} {
		end := 10 * (i + 1)
		var out, errs lockedBuffer
		code := make(chan int)
		go func() {
			code <- run(t.Context(), append([]string{"consume", "-t", "t", "-b", kafka, "--from", fmt.Sprint(end + 5), "-n", "2"}, group...), nil, strings.NewReader(""), &out, &errs)
		}()
		errs.await(t, fmt.Sprintf("chronik: read t: there is nothing from offset %d on yet: partition 0 ends at offset %d; waiting", end+5, end))
		with(t, 0, lines(end, end+4), "produce", "-t", "t", "-b", kafka)
		with(t, 0, lines(end+4, end+10), "produce", "-t", "t", "-b", kafka)
		if got := <-code; got != 0 || out.String() != lines(end+5, end+7) {
			t.Errorf("%v: exit %d, got %q, want what is at %d and after it\n%s", group, got, out.String(), end+5, errs.String())
		}
	}
}

func TestWhatIsDoneIsSaidInTextAndInJSON(t *testing.T) {
	kafka, _ := startNode(t)
	for _, c := range []struct {
		code      int
		line      string
		out, errs string
	}{
		{0, "topic create a b", "created a\ncreated b\n", ""},
		{1, "topic create a c", "created c\n", "chronik: create topic a: TOPIC_ALREADY_EXISTS"},
		{0, "topic create a --if-missing", "exists already: a\n", ""},
		{0, "topic alter a -c retention.ms=5000 -p 3", "altered a\n", ""},
		{1, "topic alter a b -p 2", "altered b\n", "add partitions to topic a: INVALID_PARTITIONS"},
		{1, "topic alter a -d retention.mss", "", "there is no config \"retention.mss\"; did you mean retention.ms?"},
		{0, "topic alter a -d retention.ms", "altered a\n", ""},
		{1, "topic describe a nope", "topic a", "describe topic nope: UNKNOWN_TOPIC_OR_PARTITION"},
		{1, "topic describe nope -o json", "[]\n", "UNKNOWN_TOPIC_OR_PARTITION"},
		{1, "topic delete c nope", "deleted c\n", "delete topic nope: UNKNOWN_TOPIC_OR_PARTITION"},
		{1, "topic delete nope nope2", "", "nope2: UNKNOWN_TOPIC_OR_PARTITION"},
		{0, "topic delete b -o json", `"deleted": true`, ""},
		{0, "topic create d e -o json", `"topic": "e"`, ""},
		{1, "produce -t a -p 9", "", "write to topic a: it has no partition 9, only 0 to 2"},
		{1, "bench consume -t nope", "", "there is no topic nope; `chronik bench produce -t nope`"},
		{0, "consume -t a -g g -e", "", ""},
		{1, "topic delete __consumer_offsets", "", "holds the offsets of all groups"},
		{0, "group reset-offsets g --topic a --to-latest", "TOPIC", ""},
		{1, "group describe nope g", "group g: ", "describe group nope: there is no such group"},
		{1, "group delete g nope -o json", `"group": "g"`, "delete group nope: there is no such group"},
		{0, "topic delete __consumer_offsets --internal", "deleted __consumer_offsets\n", ""},
	} {
		out, errs := with(t, c.code, "", append(strings.Fields(c.line), "-b", kafka)...)
		if !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) || c.errs == "" && errs != "" {
			t.Errorf("chronik %s: stdout\n%s\nwant %q; stderr\n%s\nwant %q", c.line, out, c.out, errs, c.errs)
		}
		if strings.Contains(c.line, "json") && !json.Valid([]byte(out)) {
			t.Errorf("chronik %s: not JSON\n%s", c.line, out)
		}
		for line := range strings.Lines(errs) {
			if !strings.HasPrefix(line, "chronik: ") {
				t.Errorf("chronik %s: who says %q?", c.line, line)
			}
		}
	}
	if out, _ := with(t, 0, "v\n", "produce", "-t", "a", "-b", kafka, "--acks", "0", "-v", "-p", "0"); out != "a 0 -\n" {
		t.Errorf("an offset that nobody has said: %q", out)
	}
}

// The last events of a topic may lie further back than the last events.
func TestEventsOfATopicAreItsLast(t *testing.T) {
	kafka, http := startNode(t)
	with(t, 0, "", "topic", "create", "old", "-b", kafka)
	with(t, 0, "", "topic", "create", "new", "-b", kafka)
	if out, _ := with(t, 0, "", "cluster", "events", "--http", http, "--topic", "old", "-n", "1"); !strings.Contains(out, "topic created") {
		t.Errorf("no event of topic old:\n%s", out)
	}
	if _, errs := with(t, 1, "", "cluster", "events", "--http", kafka); !strings.Contains(errs, "read events from "+kafka+": it closes the connection, as a node's other ports do; --http takes") {
		t.Errorf("the port for clients: %s", errs)
	}
	if _, errs := with(t, 1, "", "cluster", "scrub", "--http", "127.0.0.1:1"); !strings.Contains(errs, "from 127.0.0.1:1: connect: connection refused; --http takes") {
		t.Errorf("nobody there: %s", errs)
	}
}

// Another cluster's nodes answer at the ports of this one's: they are not this
// one's nodes.
func TestDevRefusesPortsThatAreTaken(t *testing.T) {
	kafka, http := startNode(t)
	for _, flags := range [][]string{{"--kafka", kafka, "--peer", "127.0.0.1:0", "--http", ""}, {"--kafka", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--http", http}} {
		out, errs := with(t, 1, "", append([]string{"dev", "--nodes", "1", "--data-dir", t.TempDir()}, flags...)...)
		if out != "" || !strings.Contains(errs, "address already in use") || !strings.Contains(errs, "is another cluster running here?") {
			t.Errorf("dev %s: %s%s", flags, out, errs)
		}
	}
}

func TestStartSaysWhichPortIsTakenAndHowToChooseAnother(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := map[string]string{"kafka": "127.0.0.1:0", "peer": "127.0.0.1:0", "http": "127.0.0.1:0"}
	for flag := range free {
		for address, hint := range map[string]string{
			taken.Addr().String(): "address already in use; is another process using the port? Choose another with --" + flag,
			"192.0.2.1:9999":      "is the address one of this machine's, and may this user listen there? Choose another with --" + flag,
		} {
			args := []string{"start", "--data-dir", t.TempDir()}
			for f, a := range free {
				if f == flag {
					a = address
				}
				args = append(args, "--"+f, a)
			}
			if out, errs := with(t, 1, "", args...); out != "" || !strings.Contains(errs, address) || !strings.Contains(errs, hint) {
				t.Errorf("%v: %s%s\nwant %q", args, out, errs, hint)
			}
		}
	}
}

func TestADirectoryWithoutALogIsNotDumpedInSilence(t *testing.T) {
	dir := t.TempDir()
	if _, errs := with(t, 1, "", "wal", "dump", dir); !strings.Contains(errs, "there is no log in "+dir+", nor below it") {
		t.Error(errs)
	}
}

// A topic may take less in a batch than others, or more.
func TestProduceFollowsWhatTheTopicTakes(t *testing.T) {
	kafka, _ := startNode(t)
	with(t, 0, "", "topic", "create", "small", "-b", kafka, "-c", "max.message.bytes=2000")
	with(t, 0, lines(0, 2000), "produce", "-t", "small", "-b", kafka)
	if out, _ := with(t, 0, "", "consume", "-t", "small", "-b", kafka, "-e"); out != lines(0, 2000) {
		t.Errorf("%d bytes came back", len(out))
	}
	with(t, 0, "", "topic", "create", "large", "-b", kafka, "-c", "max.message.bytes=5000000")
	with(t, 0, strings.Repeat("x", 4_000_000)+"\n", "produce", "-t", "large", "-b", kafka)
	_, errs := with(t, 1, strings.Repeat("x", 6_000_000)+"\n", "produce", "-t", "large", "-b", kafka)
	if !strings.Contains(errs, "max.message.bytes=N") {
		t.Errorf("too large: %s", errs)
	}
}

// A shift beyond all offsets is one to the end.
func TestAShiftBeyondAllOffsetsIsOneToTheEnd(t *testing.T) {
	kafka, _ := startNode(t)
	with(t, 0, "", "topic", "create", "t", "-b", kafka)
	with(t, 0, lines(0, 10), "produce", "-t", "t", "-b", kafka)
	with(t, 0, "", "consume", "-t", "t", "-g", "g", "-n", "5", "-b", kafka)
	for shift, want := range map[string]string{"9223372036854775807": "10", "-9223372036854775808": "0"} {
		out, _ := with(t, 0, "", "group", "reset-offsets", "g", "--shift-by", shift, "--dry-run", "-b", kafka, "-o", "json")
		if !strings.Contains(out, `"new_offset": `+want+",") {
			t.Errorf("%s: %s", shift, out)
		}
	}
}

// Who types may not write for long, or never again.
func TestAnInterruptDoesNotWaitForTheNextLine(t *testing.T) {
	kafka, _ := startNode(t)
	with(t, 0, "", "topic", "create", "t", "-b", kafka)
	typing, typed := io.Pipe()
	defer typed.Close()
	var out, errs lockedBuffer
	ctx, interrupt := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"produce", "-t", "t", "-b", kafka, "-v"}, nil, typing, &out, &errs) }()
	fmt.Fprintln(typed, "a line")
	out.await(t, "t 0 0")
	interrupt()
	select {
	case got := <-code:
		if got != 0 {
			t.Errorf("exit %d: %s", got, errs.String())
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits for the next line")
	}
}

// gate is an output that takes nothing before it is opened.
type gate struct {
	began, open chan struct{}
	once        sync.Once
}

func (g *gate) Write(b []byte) (int, error) {
	g.once.Do(func() { close(g.began) })
	<-g.open
	return len(b), nil
}

// What another member of the group has read is not waited for.
func TestWhoReadsToTheEndDoesNotWaitForWhatOthersRead(t *testing.T) {
	kafka, _ := startNode(t)
	with(t, 0, "", "topic", "create", "t", "-p", "2", "-b", kafka)
	for p := range 2 { // more than one fetch brings
		with(t, 0, strings.Repeat(strings.Repeat("x", 9999)+"\n", 400), "produce", "-t", "t", "-p", fmt.Sprint(p), "-b", kafka)
	}
	line := []string{"consume", "-t", "t", "-g", "g", "-b", kafka}
	slow, errs := &gate{began: make(chan struct{}), open: make(chan struct{})}, &lockedBuffer{}
	code := make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		code <- run(ctx, append([]string{"consume", "-e"}, line[1:]...), nil, strings.NewReader(""), slow, errs)
	}()
	<-slow.began
	if out, _ := with(t, 0, "", append(line, "-n", "400")...); len(out) != 400*10_000 { // a whole partition
		t.Errorf("the second member has read %d bytes", len(out))
	}
	close(slow.open)
	select {
	case got := <-code:
		if got != 0 {
			t.Errorf("exit %d: %s", got, errs.String())
		}
	case <-time.After(20 * time.Second):
		t.Error("the first member waits for what the second has read")
	}
}

package failover

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// running is one client's process and what it has said.
type running struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	ended chan struct{}

	mu     sync.Mutex
	said   map[string]map[string]int // word, value: how often
	first  time.Time                 // when it said ok or got for the first time
	sent   int
	errors []string
	exit   error
}

// start runs a command whose words BOOTSTRAP, TOPIC and GROUP are replaced.
func start(t *testing.T, name string, command, env []string, parse func(string) (string, string), words ...string) *running {
	t.Helper()
	replace := strings.NewReplacer(words...)
	args := make([]string, len(command))
	for i, a := range command {
		args[i] = replace.Replace(a)
	}
	r := &running{name: name, cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{}), said: map[string]map[string]int{}}
	r.cmd.Env = append(os.Environ(), env...)
	in, err := r.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	notes := &strings.Builder{}
	r.cmd.Stderr = notes
	r.in = in
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		defer close(r.ended)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			r.note(parse(lines.Text()))
			if strings.HasPrefix(lines.Text(), "failed ") || strings.Contains(lines.Text(), "producer_send_error") {
				r.mu.Lock()
				r.errors = append(r.errors, lines.Text())
				r.mu.Unlock()
			}
		}
		err := r.cmd.Wait()
		r.mu.Lock()
		if r.exit = err; err != nil {
			text := notes.String()
			r.exit = fmt.Errorf("%w: %s", err, text[max(0, len(text)-2000):])
		}
		r.mu.Unlock()
	}()
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.ended })
	return r
}

func (r *running) note(word, value string) {
	if word == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said[word] == nil {
		r.said[word] = map[string]int{}
	}
	r.said[word][value]++
	if r.first.IsZero() {
		r.first = time.Now()
	}
}

// values is what it has said with a word.
func (r *running) values(word string) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]int, len(r.said[word]))
	for v, n := range r.said[word] {
		out[v] = n
	}
	return out
}

// feed gives a producer its values, so many a second, until stop is closed.
func (r *running) feed(stop <-chan struct{}) {
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			_ = r.in.Close()
			return
		case <-r.ended:
			return
		case <-tick.C:
			if _, err := fmt.Fprintln(r.in, i); err != nil {
				return
			}
			r.mu.Lock()
			r.sent = i + 1
			r.mu.Unlock()
		}
	}
}

// end has it end by itself: by the end of its input or, where it is asked to
// with a signal, by that.
func (r *running) end(signal bool, limit time.Duration) error {
	_ = r.in.Close()
	if signal {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-r.ended:
	case <-time.After(limit):
		return fmt.Errorf("%s did not end within %v", r.name, limit)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if signal {
		return nil // its exit code tells of the signal
	}
	return r.exit
}

package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"chronik/test/chaos/netns"
)

// Node is one chronik process after the other on one directory and one set of
// ports.
type Node struct {
	ID      int
	DataDir string
	Kafka   string // HOST:PORT of each listener
	HTTP    string
	Peer    string

	binary   string
	wrapper  []string // what puts the process into its namespace
	flags    []string
	peers    string
	join     string // the peer address of a member, in place of peers
	logPath  string
	readyMax time.Duration

	mu      sync.Mutex
	cmd     *exec.Cmd
	started time.Time
	paused  bool
	exited  chan struct{} // closed when the process has been waited for
	exit    error
}

// Args is the command line of the node, without the binary.
func (n *Node) Args() []string {
	args := []string{"start", "--node-id", strconv.Itoa(n.ID), "--data-dir", n.DataDir,
		"--kafka", n.Kafka, "--http", n.HTTP, "--peer", n.Peer}
	switch {
	case n.join != "":
		args = append(args, "--join", n.join)
	case n.peers != "":
		args = append(args, "--peers", n.peers)
	}
	return append(args, n.flags...)
}

// Start starts the process and does not wait for it to become ready.
func (n *Node) Start() error { return n.StartUnder() }

// environ is this process's environment without what is meant for tests: a
// node takes every CHRONIK_… for one of its settings.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CHRONIK_") })
}

// StartUnder starts the process under another program, such as taskset or
// prlimit, which must become it by exec: signals go to the process started.
func (n *Node) StartUnder(wrapper ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return fmt.Errorf("node %d already runs", n.ID)
	}
	log, err := os.OpenFile(n.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	argv := slices.Concat(n.wrapper, wrapper, []string{n.binary}, n.Args())
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, environ()
	fmt.Fprintf(log, "--- %s %s\n", time.Now().Format("15:04:05.000"), strings.Join(argv, " "))
	n.started = time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node %d: %w", n.ID, err)
	}
	exited := make(chan struct{})
	n.cmd, n.exited, n.paused, n.exit = cmd, exited, false, nil
	go func() {
		err := cmd.Wait()
		n.mu.Lock()
		n.exit = err
		n.mu.Unlock()
		close(exited)
	}()
	return nil
}

// Started is when the present process was started.
func (n *Node) Started() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.started
}

func (n *Node) running() bool {
	if n.exited == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// Running says whether the process is there.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running()
}

// Exited is closed when the process last started has ended.
func (n *Node) Exited() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exited
}

// Ready asks /readyz, and returns what it says.
func (n *Node) Ready() (ready bool, says string) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: netns.DialContext}}
	r, err := client.Get("http://" + n.HTTP + "/readyz")
	if err != nil {
		return false, err.Error()
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	return r.StatusCode == http.StatusOK, fmt.Sprintf("%s: %s", r.Status, bytes.TrimSpace(body))
}

// WaitReady waits until /readyz says so, and returns how long after exec it did.
func (n *Node) WaitReady() (time.Duration, error) {
	exited, started := n.Exited(), n.Started()
	var last string
	for time.Since(started) < n.readyMax {
		var ready bool
		if ready, last = n.Ready(); ready {
			return time.Since(started), nil
		}
		select {
		case <-exited:
			return 0, fmt.Errorf("node %d ended before it was ready: %w\n%s", n.ID, n.ExitError(), n.LogTail(20))
		case <-time.After(2 * time.Millisecond):
		}
	}
	return 0, fmt.Errorf("node %d was not ready after %v: %s\n%s", n.ID, n.readyMax, last, n.LogTail(20))
}

// ExitError is how the last process ended; nil for exit code 0.
func (n *Node) ExitError() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exit
}

// Signal sends a signal to the process.
func (n *Node) Signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return fmt.Errorf("node %d does not run", n.ID)
	}
	return n.cmd.Process.Signal(s)
}

// Kill ends the process as kill -9 does and waits until it is gone. It does
// nothing where there is none.
func (n *Node) Kill() {
	if n.Signal(syscall.SIGKILL) == nil {
		<-n.Exited()
	}
}

// Terminate sends SIGTERM and returns how long the process took to end, and
// its exit as an error. One that is still there after limit is killed.
func (n *Node) Terminate(limit time.Duration) (time.Duration, error) {
	begin := time.Now()
	if err := n.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-n.Exited():
		return time.Since(begin), n.ExitError()
	case <-time.After(limit):
		n.Kill()
		return time.Since(begin), fmt.Errorf("node %d had not ended %v after SIGTERM", n.ID, limit)
	}
}

// Pause stops the process as a long scheduling gap would (SIGSTOP).
func (n *Node) Pause() error { return n.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (n *Node) Resume() { _ = n.Signal(syscall.SIGCONT) } // it may be gone

// RunToEnd runs `chronik` with the given arguments until it ends by itself or
// limit has passed, and returns its exit code and all it wrote.
func RunToEnd(binary string, limit time.Duration, args ...string) (code int, output string, err error) {
	var out bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, environ()
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-time.After(limit):
		_ = cmd.Process.Kill() // it may just have ended
		<-done
		return -1, out.String(), fmt.Errorf("still runs after %v", limit)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, out.String(), err
	}
	return cmd.ProcessState.ExitCode(), out.String(), nil
}

// LogTail returns the last lines of what the node's processes wrote.
func (n *Node) LogTail(lines int) string {
	data, err := os.ReadFile(n.logPath)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Log returns all that the node's processes wrote.
func (n *Node) Log() string {
	data, _ := os.ReadFile(n.logPath) // no log is an empty one
	return string(data)
}

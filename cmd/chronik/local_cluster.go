package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// localCluster is nodes on this machine, each a process of this binary.
type localCluster struct {
	nodes    []*localNode
	settings []string // flags for every node
	log      io.Writer
	watch    func(node int, line []byte) // takes what nodes write, in place of log; nil: nobody
}

// localNode is one of them.
type localNode struct {
	id                int
	kafka, peer, http string // addresses; http may be ""
	dir               string
	// What others use in place of kafka and peer; "" for these themselves.
	kafkaFront, peerFront string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	end  error
}

// newLocalCluster lays out count nodes: the first gets the addresses, the
// others the ports that follow; port 0 stands for any that are free.
func newLocalCluster(count int, dir, kafka, peer, http string, settings []string, log io.Writer) (*localCluster, error) {
	c := &localCluster{settings: settings, log: &lockedWriter{to: log}}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for i := range count {
		n := &localNode{id: i + 1, dir: filepath.Join(dir, fmt.Sprintf("node-%d", i+1))}
		for _, a := range []struct {
			to   *string
			from string
		}{{&n.kafka, kafka}, {&n.peer, peer}, {&n.http, http}} {
			if *a.to, err = nthAddress(a.from, i); err != nil {
				return nil, err
			}
		}
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

func nthAddress(address string, n int) (string, error) {
	if address == "" {
		return "", nil
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return "", err
	}
	if port != 0 {
		return net.JoinHostPort(host, strconv.Itoa(port+n)), nil
	}
	socket, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	defer socket.Close()
	return socket.Addr().String(), nil
}

// bootstrap is what clients are given.
func (c *localCluster) bootstrap() string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, cmp.Or(n.kafkaFront, n.kafka))
	}
	return strings.Join(all, ",")
}

// arguments is the command line of a node, without the program.
func (c *localCluster) arguments(n *localNode) []string {
	args := []string{"start", "--node-id", strconv.Itoa(n.id), "--kafka", n.kafka, "--peer", n.peer, "--http", n.http, "--data-dir", n.dir}
	if n.kafkaFront != "" {
		args = append(args, "--advertise-kafka", n.kafkaFront)
	}
	if len(c.nodes) > 1 {
		var peers []string
		for _, p := range c.nodes {
			peers = append(peers, fmt.Sprintf("%d@%s", p.id, cmp.Or(p.peerFront, p.peer)))
		}
		args = append(args, "--peers", strings.Join(peers, ","))
	}
	return append(args, c.settings...)
}

// start runs a node.
func (c *localCluster) start(n *localNode) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, c.arguments(n)...)
	cmd.SysProcAttr = childAttributes()
	out, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node %d: %w", n.id, err)
	}
	done := make(chan struct{})
	n.mu.Lock()
	n.cmd, n.done, n.end = cmd, done, nil
	n.mu.Unlock()
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if c.watch != nil {
				c.watch(n.id, lines.Bytes())
			} else {
				fmt.Fprintf(c.log, "node %d: %s\n", n.id, lines.Bytes())
			}
		}
		io.Copy(io.Discard, out) //nolint:errcheck // a line too long to show
		err := cmd.Wait()
		n.mu.Lock()
		n.end = err
		n.mu.Unlock()
		close(done)
	}()
	return nil
}

// lockedWriter lets whole lines of several goroutines through.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}

func (n *localNode) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd.Process.Pid
}

func (n *localNode) signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd.Process.Signal(s)
}

// ended says whether and how the process has ended.
func (n *localNode) ended() (ended bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.done:
		return true, n.end
	default:
		return false, nil
	}
}

// gone is closed when the process has ended.
func (n *localNode) gone() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done
}

// startAll runs all nodes and waits until every one of them knows all others.
func (c *localCluster) startAll(ctx context.Context) error {
	if err := c.freePorts(ctx); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := c.start(n); err != nil {
			return err
		}
	}
	return c.ready(ctx, 0)
}

// freePorts refuses ports that another process has: its node would be taken for
// one of this cluster's, while that ends for want of a port.
func (c *localCluster) freePorts(ctx context.Context) error {
	for _, n := range c.nodes {
		for _, a := range []string{n.kafka, n.peer, n.http} {
			if a == "" {
				continue
			}
			var config net.ListenConfig
			socket, err := config.Listen(ctx, "tcp", a)
			if err != nil {
				return fmt.Errorf("node %d: %w", n.id, err)
			}
			socket.Close()
		}
	}
	return nil
}

// ready waits until every node serves and knows at least so many brokers; 0
// stands for as many as there are nodes.
func (c *localCluster) ready(ctx context.Context, brokers int) error {
	if brokers == 0 {
		brokers = len(c.nodes)
	}
	for _, n := range c.nodes {
		if err := n.ready(ctx, brokers); err != nil {
			return err
		}
	}
	return nil
}

// ready waits until the node answers, and names so many brokers.
func (n *localNode) ready(ctx context.Context, brokers int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(n.kafka), kgo.RequestRetries(0), kgo.DialTimeout(time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		if ended, err := n.ended(); ended {
			return fmt.Errorf("node %d has ended: %w", n.id, cmpError(err))
		}
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		request := kmsg.NewPtrMetadataRequest()
		request.Topics = []kmsg.MetadataRequestTopic{}
		response, err := client.SeedBrokers()[0].Request(attempt, request)
		cancel()
		if err == nil && len(response.(*kmsg.MetadataResponse).Brokers) >= brokers {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %d is not ready: %w", n.id, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func cmpError(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}

// stopAll asks all nodes to end and waits for them; those that do not are
// killed.
func (c *localCluster) stopAll(wait time.Duration) {
	deadline := time.After(wait)
	running := slices.DeleteFunc(slices.Clone(c.nodes), func(n *localNode) bool { return n.cmd == nil })
	for _, n := range running {
		n.signal(syscall.SIGCONT) //nolint:errcheck // it may have ended
		n.signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	}
	for _, n := range running {
		select {
		case <-n.gone():
		case <-deadline:
			n.signal(syscall.SIGKILL) //nolint:errcheck // it may have ended
			<-n.gone()
		}
	}
}

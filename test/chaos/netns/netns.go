// Package netns makes networks of Linux network namespaces, so that a test can
// cut, break and thin out what nodes say to one another.
//
// Every node has a namespace of its own, joined to the others by a bridge; the
// clients, which live in the test's process, have one too and enter it for as
// long as it takes to open a socket. Nothing outside of these namespaces is
// touched. The kernel here has no netem: delays are not among the faults.
package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Clients is the number of the namespace of the test's own clients.
const Clients = 0

// Verdict is what becomes of the packets of one direction.
type Verdict string

// Verdicts. Reset breaks connections, and new ones as soon as something is said
// on them; the receiver is left with half-open ones, since only the sender is
// told. Refuse also answers for a process that nobody could connect to it.
const (
	Pass   Verdict = ""
	Drop   Verdict = "drop"
	Reset  Verdict = "tcp flags & (fin | syn | rst | ack) != syn reject with tcp reset"
	Refuse Verdict = "meta l4proto tcp reject with tcp reset"
)

// Loss drops so many packets of a hundred.
func Loss(percent int) Verdict {
	return Verdict(fmt.Sprintf("numgen random mod 100 < %d drop", percent))
}

type path struct{ from, to int }

// Network is nodes 1 to N and the clients, on one bridge.
type Network struct {
	subnet string // the first three numbers of every address
	prefix string // of the names of namespaces
	nodes  int

	mu    sync.Mutex
	rules map[path]Verdict
}

var networks struct {
	sync.Mutex
	bySubnet map[string]*Network
}

var made atomic.Int32

// New makes a network that ends with the test, or skips the test where that is
// not permitted.
func New(t testing.TB, nodes int) *Network {
	t.Helper()
	n, err := Make(nodes)
	if err != nil {
		t.Skipf("SKIP: no network namespaces here: %v", err)
	}
	t.Cleanup(n.Close)
	return n
}

// Make makes a network.
func Make(nodes int) (*Network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("that needs root")
	}
	for _, tool := range []string{"ip", "nft", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, err
		}
	}
	removeAbandoned()
	number := made.Add(1)
	n := &Network{subnet: fmt.Sprintf("10.99.%d", number%256), prefix: fmt.Sprintf("chaos-%d-%d-", os.Getpid(), number),
		nodes: nodes, rules: map[path]Verdict{}}
	if err := n.build(); err != nil {
		n.Close()
		return nil, err
	}
	networks.Lock()
	defer networks.Unlock()
	if networks.bySubnet == nil {
		networks.bySubnet = map[string]*Network{}
	}
	networks.bySubnet[n.subnet] = n
	return n, nil
}

const hub = "hub"

func (n *Network) namespace(node int) string { return n.prefix + strconv.Itoa(node) }

func (n *Network) build() error {
	if err := run("", "ip", "netns", "add", n.prefix+hub); err != nil {
		return err
	}
	lines := []string{"link add br0 type bridge", "link set br0 up", "link set lo up"}
	for i := range n.nodes + 1 {
		if err := run("", "ip", "netns", "add", n.namespace(i)); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("link add p%d type veth peer name eth0 netns %s", i, n.namespace(i)),
			fmt.Sprintf("link set p%d master br0 up", i))
	}
	if err := run(strings.Join(lines, "\n"), "ip", "-n", n.prefix+hub, "-batch", "-"); err != nil {
		return err
	}
	for i := range n.nodes + 1 {
		lines := fmt.Sprintf("link set lo up\naddr add %s/24 dev eth0\nlink set eth0 up", n.Host(i))
		if err := run(lines, "ip", "-n", n.namespace(i), "-batch", "-"); err != nil {
			return err
		}
		if err := n.apply(i); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the namespaces.
func (n *Network) Close() {
	networks.Lock()
	delete(networks.bySubnet, n.subnet)
	networks.Unlock()
	for i := range n.nodes + 1 {
		_ = run("", "ip", "netns", "del", n.namespace(i)) // it may not have come to be
	}
	_ = run("", "ip", "netns", "del", n.prefix+hub)
}

// removeAbandoned removes namespaces of test processes that were killed.
func removeAbandoned() {
	entries, _ := os.ReadDir("/run/netns") // there may be none yet
	for _, e := range entries {
		parts := strings.Split(e.Name(), "-")
		if len(parts) != 4 || parts[0] != "chaos" {
			continue
		}
		pid, err := strconv.Atoi(parts[1])
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = run("", "ip", "netns", "del", e.Name()) // another test may be doing the same
		}
	}
}

// Host is the address of a node, or of the clients.
func (n *Network) Host(node int) string { return fmt.Sprintf("%s.%d", n.subnet, node+1) }

// Wrapper is the command that becomes another one within a node's namespace.
func (n *Network) Wrapper(node int) []string {
	return []string{"nsenter", "--net=/run/netns/" + n.namespace(node), "--"}
}

// Set says what becomes of the packets from one to another from now on.
func (n *Network) Set(from, to int, v Verdict) error {
	return n.change(map[path]Verdict{{from, to}: v})
}

// Cut drops the packets of both directions between each of some and each of others.
func (n *Network) Cut(some, others []int) error { return n.Between(some, others, Drop) }

// Between sets a verdict for both directions between each of some and each of others.
func (n *Network) Between(some, others []int, v Verdict) error {
	rules := map[path]Verdict{}
	for _, a := range some {
		for _, b := range others {
			if a != b {
				rules[path{a, b}], rules[path{b, a}] = v, v
			}
		}
	}
	return n.change(rules)
}

// Heal lets all packets pass again.
func (n *Network) Heal() error {
	n.mu.Lock()
	rules := map[path]Verdict{}
	for p := range n.rules {
		rules[p] = Pass
	}
	n.mu.Unlock()
	return n.change(rules)
}

func (n *Network) change(rules map[path]Verdict) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	touched := map[int]bool{}
	for p, v := range rules {
		if n.rules[p] == v {
			continue
		}
		touched[p.to] = true
		if v == Pass {
			delete(n.rules, p)
		} else {
			n.rules[p] = v
		}
	}
	var failed error
	for to := range touched {
		failed = errors.Join(failed, n.apply(to))
	}
	return failed
}

// apply writes all rules of one receiver at once.
func (n *Network) apply(to int) error {
	var b strings.Builder
	fmt.Fprintln(&b, "add table ip chaos")
	fmt.Fprintln(&b, "add chain ip chaos in { type filter hook input priority 0 ; }")
	fmt.Fprintln(&b, "flush chain ip chaos in")
	for p, v := range n.rules {
		if p.to == to {
			fmt.Fprintf(&b, "add rule ip chaos in ip saddr %s %s\n", n.Host(p.from), v)
		}
	}
	w := n.Wrapper(to)
	return run(b.String(), w[0], append(w[1:], "nft", "-f", "-")...)
}

// Others are all nodes but some, without the clients.
func (n *Network) Others(some ...int) []int {
	var others []int
	for i := 1; i <= n.nodes; i++ {
		keep := true
		for _, s := range some {
			keep = keep && s != i
		}
		if keep {
			others = append(others, i)
		}
	}
	return others
}

func run(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// DialContext connects to any address; one of a Network is reached from the
// namespace of its clients. Hosts must be given as numbers.
func DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	const timeout = 2 * time.Second
	dialer := net.Dialer{Timeout: timeout}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	networks.Lock()
	n := networks.bySubnet[host[:max(0, strings.LastIndexByte(host, '.'))]]
	networks.Unlock()
	if n == nil {
		return dialer.DialContext(ctx, network, address)
	}
	var conn net.Conn
	err = within("/run/netns/"+n.namespace(Clients), func() error {
		var err error
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

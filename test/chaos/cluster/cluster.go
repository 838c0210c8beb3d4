// Package cluster runs chronik processes for tests that harm them.
//
// It knows the binary only from outside: flags, ports, signals, files and
// /proc. A Cluster has 1 to N nodes; each keeps its ports and its directory
// over restarts.
package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"chronik/test/chaos/netns"
)

// Options says how to run a cluster.
type Options struct {
	// Nodes is how many nodes found the cluster. Default 1.
	Nodes int
	// Flags are further flags of every node's `chronik start`.
	Flags []string
	// DataDirs are the nodes' directories, for tests that need a file system
	// of their own. Default: directories that end with the test.
	DataDirs []string
	// Network puts each node into a namespace of its own, so that its links can
	// be cut. It must have as many nodes.
	Network *netns.Network
	// LogDir is where the nodes' logs go. Default: a directory that ends with the test.
	LogDir string
	// ReadyMax is how long a node may take to become ready. Default 20 s.
	ReadyMax time.Duration
}

// Cluster is a set of nodes that found one cluster.
type Cluster struct {
	Nodes []*Node

	t    testing.TB
	opts Options
	logs string
}

var built struct {
	once sync.Once
	path string
	err  error
}

// Binary builds chronik once per test process and returns its path.
// CHRONIK_BINARY names one that is built already.
func Binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.path = os.Getenv("CHRONIK_BINARY"); built.path != "" {
			return
		}
		root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
		if err != nil {
			built.err = fmt.Errorf("find the module: %w", err)
			return
		}
		dir, err := os.MkdirTemp("", "chronik-chaos-bin-")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "chronik")
		build := exec.Command("go", "build", "-o", built.path, "./cmd/chronik")
		build.Dir = strings.TrimSpace(string(root))
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build chronik: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// RemoveBinary removes what Binary built, for TestMain.
func RemoveBinary() {
	if built.path != "" && os.Getenv("CHRONIK_BINARY") == "" {
		os.RemoveAll(filepath.Dir(built.path))
	}
}

// New lays out a cluster without starting it. Whatever still runs when the
// test ends is killed, and if the test failed the ends of the nodes' logs are
// shown.
func New(t testing.TB, opts Options) *Cluster {
	t.Helper()
	if opts.Nodes == 0 {
		opts.Nodes = 1
	}
	if opts.ReadyMax == 0 {
		opts.ReadyMax = 20 * time.Second
	}
	c := &Cluster{t: t, opts: opts}
	if c.logs = opts.LogDir; c.logs == "" {
		c.logs = t.TempDir()
	}
	for range opts.Nodes {
		c.layOut()
	}
	for _, n := range c.Nodes {
		n.peers = c.peers()
	}
	t.Cleanup(c.close)
	return c
}

// layOut adds a node.
func (c *Cluster) layOut() *Node {
	i := len(c.Nodes)
	n := &Node{ID: i + 1, binary: Binary(c.t), flags: c.opts.Flags, readyMax: c.opts.ReadyMax}
	if i < len(c.opts.DataDirs) {
		n.DataDir = c.opts.DataDirs[i]
	} else {
		n.DataDir = filepath.Join(c.t.TempDir(), "data")
	}
	if c.opts.Network == nil {
		n.Kafka, n.HTTP, n.Peer = FreeAddress(c.t), FreeAddress(c.t), FreeAddress(c.t)
	} else {
		host := c.opts.Network.Host(n.ID)
		n.Kafka, n.HTTP, n.Peer = host+":9092", host+":9644", host+":9192"
		n.wrapper = c.opts.Network.Wrapper(n.ID)
	}
	n.logPath = filepath.Join(c.logs, fmt.Sprintf("node%d.log", n.ID))
	c.Nodes = append(c.Nodes, n)
	return n
}

// Join lays out one more node, which joins by way of a member, without
// starting it.
func (c *Cluster) Join(member *Node) *Node {
	n := c.layOut()
	n.join = member.Peer
	return n
}

// Run is New and Start, and fails the test where they do.
func Run(t testing.TB, opts Options) *Cluster {
	t.Helper()
	c := New(t, opts)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Cluster) peers() string {
	if len(c.Nodes) < 2 {
		return ""
	}
	var list []string
	for _, n := range c.Nodes {
		list = append(list, fmt.Sprintf("%d@%s", n.ID, n.Peer))
	}
	return strings.Join(list, ",")
}

// Start starts all nodes that do not run, at once, and waits until they are ready.
func (c *Cluster) Start() error {
	var started []*Node
	for _, n := range c.Nodes {
		if n.Running() {
			continue
		}
		if err := n.Start(); err != nil {
			return err
		}
		started = append(started, n)
	}
	for _, n := range started {
		if _, err := n.WaitReady(); err != nil {
			return err
		}
	}
	return nil
}

// Node returns the node with an id.
func (c *Cluster) Node(id int) *Node { return c.Nodes[id-1] }

// Addresses are the Kafka addresses of all nodes.
func (c *Cluster) Addresses() []string {
	var list []string
	for _, n := range c.Nodes {
		list = append(list, n.Kafka)
	}
	return list
}

func (c *Cluster) close() {
	for _, n := range c.Nodes {
		n.Resume()
		n.Kill()
		if c.t.Failed() {
			c.t.Logf("end of the log of node %d:\n%s", n.ID, n.LogTail(60))
		}
	}
}

package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"chronik/test/chaos/cluster"
)

// kind is a kind of fault.
type kind struct {
	name  string
	begin func(r *run) (note string, end func() error, err error)
	// alone: never together with another. brief: over when begin returns.
	alone, brief bool
	// complete: only when every replica is in sync, because it destroys data of
	// one node, or is meant to meet a cluster with nothing to spare.
	complete       bool
	network, disks bool // what it needs
	onRequest      bool // only where it is asked for by name
}

// errNotNow says that a fault cannot be had at the moment.
var errNotNow = errors.New("not now")

// kinds are those of this run.
func (r *run) kinds() []kind {
	all := slices.Concat(processFaults, networkFaults, diskFaults)
	return slices.DeleteFunc(all, func(k kind) bool {
		named := slices.Contains(r.opts.faults, k.name)
		return k.network && r.net == nil || k.disks && r.disks == nil || !named && (len(r.opts.faults) > 0 || k.onRequest)
	})
}

// The numbers are those of the catalogue of faults, docs/chaos.md.
var processFaults = []kind{
	{name: "kill", begin: (*run).kill},                                      // P1
	{name: "kill all", begin: (*run).killAll, alone: true},                  // P3
	{name: "kill again", begin: (*run).killAgain, brief: true},              // P7
	{name: "stop", begin: (*run).stop},                                      // P6
	{name: "rolling restart", begin: (*run).roll, brief: true, alone: true}, // P6
	{name: "pause", begin: (*run).pause},                                    // P4, P5
	{name: "pause and kill", begin: (*run).pauseAndKill},                    // N10
}

// victim draws a node: one that leads a partition, the controller, or any.
func (r *run) victim() (*cluster.Node, string) {
	role := r.rng.IntN(3)
	any := r.c.Nodes[r.rng.IntN(len(r.c.Nodes))]
	topic, partition := r.load.topics[r.rng.IntN(len(r.load.topics))], int32(0)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if role < 2 {
		if m, err := r.admin.Metadata(ctx, topic.name); err == nil {
			id := m.Controller
			if role == 1 {
				id = m.Topics[topic.name].Partitions[partition].Leader
			}
			if id >= 1 && int(id) <= len(r.c.Nodes) {
				return r.c.Node(int(id)), []string{"the controller", "leader of " + topic.name + "-0"}[role]
			}
		}
	}
	return any, "any"
}

func (r *run) kill() (string, func() error, error) {
	n, role := r.victim()
	if r.held[n.ID] == frozenHold {
		return "", nil, errNotNow
	}
	r.down(n, "killed")
	n.Kill()
	return fmt.Sprintf("node %d (%s)", n.ID, role), func() error { return r.up(n) }, nil
}

func (r *run) killAll() (string, func() error, error) {
	order := slices.Clone(r.c.Nodes)
	r.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, n := range order {
		r.down(n, "killed")
		if err := n.Signal(syscall.SIGKILL); err != nil {
			return "", nil, err
		}
	}
	for _, n := range order {
		<-n.Exited()
	}
	missing := order[len(order)-1]
	late := r.rng.IntN(2) == 0
	return fmt.Sprintf("node %d comes back last, much later: %v", missing.ID, late), func() error {
		for _, n := range order {
			if n == missing && late {
				time.Sleep(3 * time.Second)
			}
			if err := r.up(n); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// killAgain kills a node again and again while it starts.
func (r *run) killAgain() (string, func() error, error) {
	n, role := r.victim()
	times := 3 + r.rng.IntN(8)
	if r.held[n.ID] == frozenHold {
		return "", nil, errNotNow
	}
	r.down(n, "killed")
	for range times {
		n.Kill()
		if err := n.Start(); err != nil {
			return "", nil, err
		}
		time.Sleep(time.Duration(r.rng.IntN(250)) * time.Millisecond)
	}
	return fmt.Sprintf("node %d (%s) %d times while it starts", n.ID, role, times), nil, r.up(n)
}

func (r *run) stop() (string, func() error, error) {
	n, role := r.victim()
	if !n.Running() || r.held[n.ID] != 0 { // another fault has it
		return "", nil, errNotNow
	}
	r.down(n, "stopped")
	took, err := n.Terminate(15 * time.Second)
	if err != nil {
		r.violated("not-stopped", "node %d: %v", n.ID, err)
	}
	return fmt.Sprintf("node %d (%s), which took %v", n.ID, role, took.Round(time.Millisecond)), func() error { return r.up(n) }, nil
}

func (r *run) roll() (string, func() error, error) {
	hard := r.rng.IntN(2) == 0
	for _, n := range r.c.Nodes {
		r.down(n, "restarts")
		if hard {
			n.Kill()
		} else if _, err := n.Terminate(15 * time.Second); err != nil {
			r.violated("not-stopped", "node %d: %v", n.ID, err)
		}
		if err := r.up(n); err != nil {
			return "", nil, err
		}
		if _, err := n.WaitReady(); err != nil {
			r.violated("not-ready", "node %d: %v", n.ID, err)
		}
	}
	return fmt.Sprintf("all nodes in turn, with kill -9: %v", hard), nil, nil
}

func (r *run) pause() (string, func() error, error) {
	n, role := r.victim()
	if err := n.Pause(); err != nil {
		return "", nil, errNotNow
	}
	return fmt.Sprintf("node %d (%s)", n.ID, role), r.hold(n, pausedHold, func() error { n.Resume(); return nil }), nil
}

// pauseAndKill pauses one node while the others go on, kills another, and lets
// the first go on without the one that knew what it missed.
func (r *run) pauseAndKill() (string, func() error, error) {
	a, _ := r.victim()
	b := r.c.Nodes[a.ID%len(r.c.Nodes)]
	if r.held[b.ID] == frozenHold || a.Pause() != nil {
		return "", nil, errNotNow
	}
	time.Sleep(time.Duration(500+r.rng.IntN(2000)) * time.Millisecond)
	r.down(b, "killed")
	b.Kill()
	a.Resume()
	return fmt.Sprintf("node %d paused, then %d killed, then %d goes on", a.ID, b.ID, a.ID), func() error { return r.up(b) }, nil
}

// wipe loses all data of a node (D13); here because it needs no disk of its own.
func (r *run) wipe() (string, func() error, error) {
	n, role := r.victim()
	r.down(n, "wiped")
	n.Kill()
	if err := os.RemoveAll(n.DataDir); err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("node %d (%s)", n.ID, role), func() error { return r.up(n) }, nil
}

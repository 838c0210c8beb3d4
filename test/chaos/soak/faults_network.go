package soak

import (
	"fmt"
	"time"

	"chronik/test/chaos/netns"
)

var networkFaults = []kind{
	{name: "isolate", begin: (*run).isolate, network: true},          // N1
	{name: "cut clients", begin: (*run).cutClients, network: true},   // N2
	{name: "one way", begin: (*run).oneWay, network: true},           // N3
	{name: "bridge", begin: (*run).bridge, network: true},            // N4
	{name: "shatter", begin: (*run).shatter, network: true},          // N5
	{name: "flap", begin: (*run).flap, network: true, brief: true},   // N6
	{name: "loss", begin: (*run).loss, network: true},                // N7
	{name: "reset", begin: (*run).reset, network: true, brief: true}, // N7
	// Others take a node that refuses connections for ended: see docs/chaos.md.
	{name: "refuse", begin: (*run).refuse, network: true, brief: true, onRequest: true},
	{name: "reset clients", begin: (*run).resetClients, network: true, brief: true},
}

// isolate cuts a node from all others; clients may still reach it.
func (r *run) isolate() (string, func() error, error) {
	n, role := r.victim()
	others := r.net.Others(n.ID)
	clients := r.rng.IntN(2) == 0
	if clients {
		others = append(others, netns.Clients)
	}
	return fmt.Sprintf("node %d (%s), from clients too: %v", n.ID, role, clients), r.net.Heal, r.net.Cut([]int{n.ID}, others)
}

func (r *run) cutClients() (string, func() error, error) {
	n, role := r.victim()
	switch r.rng.IntN(3) {
	case 0:
		return fmt.Sprintf("requests to node %d (%s)", n.ID, role), r.net.Heal, r.net.Set(netns.Clients, n.ID, netns.Drop)
	case 1:
		return fmt.Sprintf("answers of node %d (%s)", n.ID, role), r.net.Heal, r.net.Set(n.ID, netns.Clients, netns.Drop)
	}
	return fmt.Sprintf("from node %d (%s)", n.ID, role), r.net.Heal, r.net.Cut([]int{n.ID}, []int{netns.Clients})
}

// oneWay lets a node not hear the others, or not be heard.
func (r *run) oneWay() (string, func() error, error) {
	n, role := r.victim()
	deaf := r.rng.IntN(2) == 0
	for _, o := range r.net.Others(n.ID) {
		from, to := n.ID, o
		if deaf {
			from, to = o, n.ID
		}
		if err := r.net.Set(from, to, netns.Drop); err != nil {
			return "", nil, err
		}
	}
	return fmt.Sprintf("node %d (%s) cannot hear: %v, else cannot be heard", n.ID, role, deaf), r.net.Heal, nil
}

// bridge leaves one node that reaches all, and cuts the others from each other.
func (r *run) bridge() (string, func() error, error) {
	n, role := r.victim()
	ends := r.net.Others(n.ID)
	return fmt.Sprintf("only node %d (%s) reaches all others", n.ID, role), r.net.Heal, r.net.Cut(ends[:1], ends[1:])
}

// shatter cuts every node from every other: there is no quorum.
func (r *run) shatter() (string, func() error, error) {
	return "every node from every other", r.net.Heal, r.net.Cut(r.net.Others(), r.net.Others())
}

// flap cuts a node off and on in quick succession.
func (r *run) flap() (string, func() error, error) {
	n, role := r.victim()
	period := time.Duration(100+r.rng.IntN(900)) * time.Millisecond
	for begin := time.Now(); time.Since(begin) < 4*time.Second; {
		if err := r.net.Cut([]int{n.ID}, r.net.Others(n.ID)); err != nil {
			return "", nil, err
		}
		time.Sleep(period / 2)
		if err := r.net.Heal(); err != nil {
			return "", nil, err
		}
		time.Sleep(period / 2)
	}
	return fmt.Sprintf("node %d (%s) every %v for 4s", n.ID, role, period), nil, nil
}

func (r *run) loss() (string, func() error, error) {
	percent := 1 + r.rng.IntN(10)
	all := append(r.net.Others(), netns.Clients)
	return fmt.Sprintf("%d %% of all packets", percent), r.net.Heal, r.net.Between(all, all, netns.Loss(percent))
}

// reset breaks the connections to a node; it is not told.
func (r *run) reset() (string, func() error, error) { return r.answerFor(netns.Reset) }

// refuse is a firewall that answers in a node's place that it does not listen.
func (r *run) refuse() (string, func() error, error) { return r.answerFor(netns.Refuse) }

func (r *run) answerFor(v netns.Verdict) (string, func() error, error) {
	n, role := r.victim()
	for _, o := range r.net.Others(n.ID) {
		if err := r.net.Set(o, n.ID, v); err != nil {
			return "", nil, err
		}
	}
	time.Sleep(time.Duration(100+r.rng.IntN(400)) * time.Millisecond)
	return fmt.Sprintf("what others send to node %d (%s)", n.ID, role), nil, r.net.Heal()
}

func (r *run) resetClients() (string, func() error, error) {
	for _, n := range r.net.Others() {
		if err := r.net.Set(netns.Clients, n, netns.Reset); err != nil {
			return "", nil, err
		}
	}
	time.Sleep(time.Duration(50+r.rng.IntN(200)) * time.Millisecond)
	return "every connection of a client", nil, r.net.Heal()
}

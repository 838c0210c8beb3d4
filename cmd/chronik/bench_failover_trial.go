package main

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// trial takes one node away under load and says what was felt of it.
func (r *failoverRun) trial(ctx context.Context, fault, victim string) (*failoverTrial, error) {
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	controller, err := r.controller(ctx)
	if err == nil && r.count == 1 {
		err = r.arrange(ctx, r.first(victim, controller))
	}
	if err != nil {
		return nil, err
	}
	id := controller
	if victim == "leader" {
		id = controller%3 + 1
		if r.count == 1 {
			topics, err := r.admin.ListTopics(ctx, failoverTopic)
			if err != nil {
				return nil, err
			}
			id = topics[failoverTopic].Partitions[0].Leader
		}
	}
	node := r.cluster.nodes[id-1]
	loading, stopLoad := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		r.load(loading)
	}()
	defer func() { stopLoad(); <-loaded }()
	if err := r.everyAckedSince(ctx, time.Now()); err != nil { // warm
		return nil, err
	}
	time.Sleep(r.warm)
	r.reset()
	r.seen.reset()
	struck := time.Now()
	if err := r.strike(node, fault); err != nil {
		return nil, err
	}
	fresh := r.freshClients(ctx, node, struck)
	if err := r.everyAckedSince(ctx, struck); err != nil {
		return nil, err
	}
	time.Sleep(failoverAfter)
	out := r.felt(struck)
	out.phases.Fresh = fresh()
	r.logged(&out.phases, struck, fault)
	if err := r.heal(node, fault); err != nil {
		return nil, err
	}
	if fault == "term" {
		out.phases.Stopped = r.seen.after(struck, false, lineStopped)
	}
	stopLoad()
	<-loaded
	flushing, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	return out, r.client.Flush(flushing)
}

// failoverAfter is how long to look on when each partition has acknowledged
// something that was sent after the fault: the in-sync set may have been waited
// for later.
const failoverAfter = 500 * time.Millisecond

// failoverTrial is what one trial has shown.
type failoverTrial struct {
	gaps, waits []time.Duration // of each partition
	phases      failoverPhases
}

// felt reads what the client under load has felt.
func (r *failoverRun) felt(struck time.Time) *failoverTrial {
	out := &failoverTrial{gaps: make([]time.Duration, r.count), waits: make([]time.Duration, r.count)}
	ends := make([]time.Duration, r.count)
	for i := range r.parts {
		p := &r.parts[i]
		p.mu.Lock()
		out.gaps[i], out.waits[i], ends[i] = p.gap, p.wait, p.waitEnd.Sub(struck)
		p.mu.Unlock()
	}
	slices.Sort(ends)
	at := func(i int) *float64 { ms := milliseconds(ends[i]); return &ms }
	out.phases.Half, out.phases.All = at(len(ends)/2), at(len(ends)-1)
	return out
}

// logged reads what the nodes have logged.
func (r *failoverRun) logged(p *failoverPhases, struck time.Time, fault string) {
	p.Noticed = r.seen.after(struck, false, lineProcessEnded)
	p.Elected = r.seen.after(struck, false, lineController)
	p.Decided = r.seen.after(struck, false, lineFenced)
	p.Led = r.seen.after(struck, true, lineLed)
	if fault == "term" {
		p.Noticed, p.Decided = nil, r.seen.after(struck, false, lineShutdownBegan)
	}
}

const (
	freshEvery = 50 * time.Millisecond
	freshWait  = time.Second
)

// freshClients makes a client again and again, which knows the nodes but the
// lost one, until one of them has had a record acknowledged by a partition that
// the lost node led, if there is one. The function that it returns says when.
func (r *failoverRun) freshClients(ctx context.Context, lost *localNode, struck time.Time) func() *float64 {
	var seeds []string
	for _, n := range r.cluster.nodes {
		if n != lost {
			seeds = append(seeds, cmp.Or(n.kafkaFront, n.kafka))
		}
	}
	part := int32((lost.id - 1) % 3 % r.count) // see createTopic
	ctx, stop := context.WithCancel(ctx)
	var first atomic.Int64
	var attempts sync.WaitGroup
	attempts.Go(func() {
		for ctx.Err() == nil && first.Load() == 0 {
			attempts.Go(func() {
				if writeOnce(ctx, seeds, part) == nil {
					first.CompareAndSwap(0, int64(time.Since(struck)))
				}
			})
			select {
			case <-ctx.Done():
			case <-time.After(freshEvery):
			}
		}
	})
	return func() *float64 {
		stop()
		attempts.Wait()
		if d := first.Load(); d != 0 {
			ms := milliseconds(time.Duration(d))
			return &ms
		}
		return nil
	}
}

// writeOnce has a new client write one record that is not the load's.
func writeOnce(ctx context.Context, seeds []string, partition int32) error {
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	client, err := kgo.NewClient(append(quickClient(), kgo.SeedBrokers(seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.ProduceSync(ctx, &kgo.Record{Topic: failoverTopic, Partition: partition, Value: []byte{0}}).FirstErr()
}

func (r *failoverRun) strike(n *localNode, fault string) error {
	switch fault {
	case "kill":
		return n.signal(syscall.SIGKILL)
	case "stop":
		return n.signal(syscall.SIGSTOP)
	case "term":
		return n.signal(syscall.SIGTERM)
	case "none":
		time.Sleep(failoverWarm)
		return nil
	}
	r.network.set(n.id, true)
	return nil
}

func (r *failoverRun) heal(n *localNode, fault string) error {
	switch fault {
	case "stop":
		return n.signal(syscall.SIGCONT)
	case "cut":
		r.network.set(n.id, false)
		return nil
	case "none":
		return nil
	}
	<-n.gone()
	return r.cluster.start(n)
}

package broker

import (
	"time"

	"chronik/internal/base/mutant"
)

// The controller fences a broker whose session has passed without a heartbeat.
// A broker that was paused or cut off cannot know whether that has happened, so
// from the end of its last granted session on it takes itself for fenced: its
// partitions acknowledge nothing and answer nothing that could be out of date,
// until the controller has answered a heartbeat.
//
// The clocks of two nodes may each be off by 500 ppm, what NTP corrects at most:
// the lease is shorter than the session by what that comes to.
//
// The lease is kept as time since the node was made, so that it is measured by
// the monotonic clock: a wall clock that is stepped back must not make it longer.

// clockDrift is the part of a session by which two clocks may disagree about it.
const clockDrift = 1000

// renewLease notes a heartbeat that was sent at sent and granted.
func (b *Broker) renewLease(now, sent time.Time) {
	lease := b.opts.SessionTimeout - b.opts.SessionTimeout/clockDrift
	until := sent.Add(lease)
	if mutant.On(mutant.LeaseFromAnswer) {
		until = now.Add(lease)
	}
	b.leaseUntil.Store(int64(until.Sub(b.made)))
	if !now.Before(until) {
		return // granted too late to be of use: the next one is on its way
	}
	if b.lifecycle.lapsed {
		b.lifecycle.lapsed = false
		b.fencePartitions(now, false)
		b.env.Log.Info("lease renewed", "node", b.opts.Node)
	}
	if !b.lifecycle.leaseWatched {
		b.lifecycle.leaseWatched = true
		b.At(until, func(time.Time) { b.env.Post(b.watchLease) })
	}
}

// watchLease runs when the lease as it was some time ago would end.
func (b *Broker) watchLease(now time.Time) {
	b.lifecycle.leaseWatched = false
	if b.closed || b.lifecycle.lapsed {
		return
	}
	if b.MayServe(now) {
		b.lifecycle.leaseWatched = true
		b.At(b.made.Add(time.Duration(b.leaseUntil.Load())), func(time.Time) { b.env.Post(b.watchLease) })
		return
	}
	b.lifecycle.lapsed = true
	b.fencePartitions(now, true)
	if b.lifecycle.letGo {
		return // as it has asked for
	}
	b.env.Log.Warn("lease lapsed: this node acknowledges nothing until the controller has answered a heartbeat",
		"node", b.opts.Node, "controller", b.Controller())
}

// endLease is for a node that knows that it is fenced.
func (b *Broker) endLease() { b.leaseUntil.Store(0) }

func (b *Broker) fencePartitions(now time.Time, fenced bool) {
	for _, p := range b.Partitions() {
		p.SetFenced(now, fenced || b.fitness.offered[partitionKey{p.TopicID(), p.Number()}])
	}
}

package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/host/quorum"
)

// lifecycle is this node's standing with the controller:
//
//	starting ──register──▶ registered (fenced) ──heartbeat, caught up──▶ unfenced ──Stop──▶ shutting down
//	    ▲                                                                   │
//	    └───────────── the controller no longer knows this epoch ◀──────────┘
//
// It belongs to the control loop.
type lifecycle struct {
	incarnation  [16]byte
	epoch        kafka.BrokerEpoch // NoBrokerEpoch: not registered
	placed       bool              // partitions were opened from an image that holds the registration
	fenced       bool
	gathering    time.Time // since then this node could serve, and waits for the other founders to register; zero: not yet
	gathered     bool      // it waits no longer
	inFlight     bool      // a registration or heartbeat is unanswered
	sentAt       time.Time // of the last one
	beats        uint64    // registrations and heartbeats sent
	heard        uint64    // the last heartbeat that was answered
	lastError    kafka.ErrorCode
	rivalSince   time.Time           // another process holds this node's id since then; zero: none
	rivalTerm    kafka.LeaderEpoch   // of the controller that says so
	leaseWatched bool                // a deadline is set for the end of the lease
	lapsed       bool                // the lease has ended: partitions are fenced
	stopped      func(now time.Time) // set: shutting down; called when the controller lets go
	letGo        bool                // the controller has: nothing more is asked of it
}

// ErrRemoved is why a node ends that was unregistered while it ran.
var ErrRemoved = errors.New("was removed from the cluster")

func (l *lifecycle) init(b *Broker) {
	for i := 0; i < len(l.incarnation); i += 8 {
		for j, v := 0, b.env.Rand.Uint64(); j < 8; j, v = j+1, v>>8 {
			l.incarnation[i+j] = byte(v)
		}
	}
	l.epoch = kafka.NoBrokerEpoch
	l.fenced = true
}

// Start sets the node in motion: Raft's clock, registration, heartbeats.
func (b *Broker) Start() {
	b.env.Post(func(now time.Time) {
		b.tellPeers()
		b.drain(now)
		b.raftTick(now)
		b.heartbeatTick(now)
	})
}

func (b *Broker) raftTick(now time.Time) {
	if b.closed {
		return
	}
	b.quorum.Tick()
	b.wishToJoin(now)
	b.tellAddress(now)
	b.manageMembers(now)
	b.drain(now)
	b.At(now.Add(b.opts.RaftTick), func(time.Time) { b.env.Post(b.raftTick) })
}

func (b *Broker) heartbeatTick(now time.Time) {
	if b.closed {
		return
	}
	b.beat(now)
	b.At(now.Add(b.opts.HeartbeatInterval), func(time.Time) { b.env.Post(b.heartbeatTick) })
}

// beatAgain is the part of a session for which the answer to a heartbeat is
// waited for, before another is sent: the connection may have lost either.
const beatAgain = 4

// beat sends a registration or a heartbeat, unless one is on its way.
func (b *Broker) beat(now time.Time) {
	l := &b.lifecycle
	patience := b.opts.SessionTimeout
	if l.epoch != kafka.NoBrokerEpoch {
		patience /= beatAgain
	}
	if b.closed || l.letGo || l.inFlight && now.Sub(l.sentAt) < patience {
		return
	}
	l.inFlight, l.sentAt = true, now
	l.beats++
	number, sent := l.beats, now
	if l.epoch == kafka.NoBrokerEpoch {
		b.ask(now, b.registration(), b.opts.SessionTimeout, false, func(now time.Time, r controller.Response, code kafka.ErrorCode) {
			l.inFlight = false
			res, _ := r.(controller.RegisterBrokerResult)
			if code == kafka.None {
				code = res.Error
			}
			if code != kafka.None {
				b.noteRefusal(code, "registration", res.Message)
				b.giveUp(now, code, res.Message)
				return
			}
			l.rivalSince = time.Time{}
			l.epoch, l.lastError = res.Epoch, kafka.None
			b.env.Log.Info("registered", "node", b.opts.Node, "epoch", res.Epoch, "cluster", res.ClusterID)
			b.placeAll(now)
			b.beat(now)
		})
		return
	}
	epoch := l.epoch
	req := controller.Heartbeat{
		Node: b.opts.Node, Epoch: epoch, MetadataOffset: b.actsOn(),
		WantFence: !l.placed || l.fenced && b.unreported(), WantShutdown: l.stopped != nil,
	}
	b.ask(now, req, b.opts.SessionTimeout, true, func(now time.Time, r controller.Response, code kafka.ErrorCode) {
		l.inFlight = l.inFlight && number != l.beats
		if number < l.heard {
			return // a grant that waited while the next heartbeat was told that this node is fenced
		}
		if code == kafka.None {
			l.heard = number
		}
		res, _ := r.(controller.HeartbeatResult)
		if code == kafka.None {
			code = res.Error
		}
		b.heard(now, sent, epoch, res, code)
	})
}

func (b *Broker) registration() controller.RegisterBroker {
	return controller.RegisterBroker{
		Node: b.opts.Node, ClusterID: b.identity.ClusterID,
		Incarnation: b.lifecycle.incarnation, Directory: b.identity.Directory,
		Host: b.opts.AdvertiseHost, Port: b.opts.AdvertisePort, PeerAddress: b.opts.PeerAddress,
		Rack: b.opts.Rack, Version: Version, CleanShutdown: b.identity.clean,
		MinInSync: b.resolver.TopicWith(metadata.Empty(), nil).MinInSync, RecordsLevel: metadata.RecordsLevel,
	}
}

// heard takes the answer to a heartbeat that was sent at sent.
func (b *Broker) heard(now, sent time.Time, epoch kafka.BrokerEpoch, res controller.HeartbeatResult, code kafka.ErrorCode) {
	l := &b.lifecycle
	switch code {
	case kafka.None:
	case kafka.ErrBrokerIDNotRegistered:
		b.fail(fmt.Errorf("node %d %w; started again, it joins anew", b.opts.Node, ErrRemoved))
		return
	case kafka.ErrStaleBrokerEpoch:
		if l.epoch == epoch {
			b.env.Log.Warn("registration lost", "node", b.opts.Node, "epoch", epoch, "cause", code)
			l.epoch, l.fenced = kafka.NoBrokerEpoch, true
			b.setReady(false)
			b.endLease()
			b.beat(now)
		}
		return
	default:
		b.noteRefusal(code, "heartbeat", res.Message)
		return
	}
	l.lastError = kafka.None
	if l.fenced != res.Fenced {
		l.fenced = res.Fenced
		switch {
		case res.ShouldShutDown: // as it has asked for
		case res.Fenced:
			b.env.Log.Warn("fenced by the controller", "node", b.opts.Node, "epoch", epoch)
		default:
			b.env.Log.Info("unfenced: this node serves", "node", b.opts.Node, "epoch", epoch)
		}
	}
	if res.Fenced {
		b.endLease()
	} else {
		b.renewLease(now, sent)
	}
	b.reviewReady(now)
	if res.ShouldShutDown && l.stopped != nil {
		done := l.stopped
		l.stopped, l.letGo = nil, true
		done(now)
		return
	}
	if res.Fenced && !res.CaughtUp || l.fenced && l.placed || l.stopped != nil {
		// The controller waits for this node to have read its registration, has
		// not yet decided to unfence it, or not yet to let it go: tell it soon.
		b.At(now.Add(b.opts.HeartbeatInterval/10), func(time.Time) { b.env.Post(b.beat) })
	}
}

// reviewReady publishes whether this node serves. Of a cluster that has no
// topics yet the nodes do so when all founders have registered: a client that
// came earlier would be refused topics with as many replicas as there are
// nodes, and told that there are no coordinators.
func (b *Broker) reviewReady(now time.Time) {
	l := &b.lifecycle
	serves := !l.fenced && l.placed
	if serves && !l.gathered {
		image := b.image.Load()
		var missing []kafka.NodeID
		for _, n := range slices.Sorted(maps.Keys(b.opts.Voters)) {
			if image.Broker(n) == nil {
				missing = append(missing, n)
			}
		}
		switch {
		case len(missing) == 0 || image.TopicCount() > 0 || b.opts.FoundersWait == 0:
			l.gathered = true
		case l.gathering.IsZero():
			l.gathering = now
			b.env.Log.Info("new cluster: waiting for the other nodes of --peers to register before this one serves", "node", b.opts.Node, "missing", missing)
		case now.Sub(l.gathering) >= b.opts.FoundersWait:
			l.gathered = true
			b.env.Log.Warn("serving though not all nodes of --peers have registered: until they have, topics cannot have a replica on each, and groups no coordinator",
				"node", b.opts.Node, "missing", missing, "waited", b.opts.FoundersWait)
		}
	}
	b.setReady(serves && l.gathered)
}

// giveUp ends a process that the controller will not take, whatever it does.
func (b *Broker) giveUp(now time.Time, code kafka.ErrorCode, message string) {
	l := &b.lifecycle
	if code != kafka.ErrDuplicateBrokerRegistration {
		l.rivalSince = time.Time{} // a controller that was away does not say so all the time
	}
	switch code {
	case kafka.ErrInconsistentClusterID:
		b.fail(fmt.Errorf("the cluster refuses this node: %s Data directory %s is not of this cluster: start with the right --data-dir, or with an empty one", message, b.opts.DataDir))
	case kafka.ErrUnsupportedVersion:
		b.fail(fmt.Errorf("the cluster refuses this node: %s Upgrade it", message))
	case kafka.ErrDuplicateBrokerRegistration:
		// Each controller begins by taking all that are registered for alive. So
		// only one that says so for long has heard of the other process itself.
		if term := b.quorumView.Load().Epoch; l.rivalSince.IsZero() || l.rivalTerm != term {
			l.rivalSince, l.rivalTerm = now, term
		}
		if now.Sub(l.rivalSince) >= rivalGrace {
			b.fail(fmt.Errorf("the cluster refuses this node: %s Give this process another --node-id, or stop the other one", message))
		}
	}
}

// noteRefusal logs why the controller did not take this node, once per reason.
func (b *Broker) noteRefusal(code kafka.ErrorCode, what, message string) {
	l := &b.lifecycle
	if l.lastError == code || code == kafka.ErrRequestTimedOut && b.quorumView.Load().Leader == b.opts.Node {
		return
	}
	l.lastError = code
	b.env.Log.Warn(what+" refused", "node", b.opts.Node, "code", code, "cause", message) //nolint:sloglint // registration or heartbeat
}

// Stop hands over what this node leads and then calls done; when that takes
// longer than timeout, done is called all the same. The caller then calls Close.
func (b *Broker) Stop(timeout time.Duration, done func(now time.Time)) {
	b.stopping.Store(true)
	b.env.Post(func(now time.Time) {
		l := &b.lifecycle
		if l.epoch == kafka.NoBrokerEpoch || l.fenced || b.closed {
			done(now)
			return
		}
		called := false
		once := func(now time.Time) {
			if called {
				return
			}
			called = true
			if b.quorum.State().Leading {
				b.handOverQuorum(now)
				b.drain(now)
			}
			done(now)
		}
		l.stopped = once
		b.At(now.Add(timeout), func(time.Time) { b.env.Post(once) })
		l.inFlight = false
		b.beat(now)
	})
}

// Close syncs and closes all logs. The node does nothing more. It runs on the
// control loop, so call it through Env.Post or when the loop has ended.
func (b *Broker) Close(now time.Time) error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.setReady(false)
	b.leaseUntil.Store(0)
	b.reviewDoubts(now)
	b.coordinated.close(now)
	err := b.closePartitions(now)
	if b.quorum.State().Leading {
		b.handOverQuorum(now)
	}
	if e := b.raftLog.Close(now); err == nil {
		err = e
	}
	if err == nil {
		err = b.identity.markClean()
	}
	if e := b.identity.lock.Close(); err == nil {
		err = e
	}
	return err
}

// handOverQuorum gives the lead of the metadata quorum to the peer that is
// furthest on, so that the others need no election timeout.
func (b *Broker) handOverQuorum(now time.Time) {
	best := quorum.Member{Node: kafka.NoNode}
	var match kafka.Offset = -1
	for _, p := range b.quorum.Peers() {
		if p.Node != b.opts.Node && p.Active && !p.Learner && p.Match > match {
			best, match = p.Member, p.Match
		}
	}
	if best.Node == kafka.NoNode {
		return
	}
	b.quorum.TransferLeadership(best)
	if out, _, err := b.quorum.Drain(now); err == nil {
		for _, m := range out.Messages {
			b.sendRaft(m)
		}
	}
}

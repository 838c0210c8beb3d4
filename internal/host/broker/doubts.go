package broker

import (
	"slices"
	"sync"
	"time"

	"chronik/internal/base/kafka"
)

// Doubts are the peers whose processes seem to have ended and that the Image
// does not show as fenced yet: whoever is told now that they lead is told what
// will not be true in a moment. The set does not change; there is a new one
// when it or the Image does.
type Doubts struct {
	nodes []kafka.NodeID

	mu    sync.Mutex
	moved bool
	calls []func(now time.Time)
}

// Of says whether the node is one of them. Nil has none.
func (d *Doubts) Of(n kafka.NodeID) bool { return d != nil && slices.Contains(d.nodes, n) }

// Moved has fn called once, on any goroutine, when these doubts are over, other
// ones have come, or the Image has moved on; at once if that is so already.
func (d *Doubts) Moved(now time.Time, fn func(now time.Time)) {
	d.mu.Lock()
	if !d.moved {
		d.calls = append(d.calls, fn)
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	fn(now)
}

// Broken says whether a connection with a peer has just ended, of which the
// control loop may not know yet.
func (b *Broker) Broken(peer kafka.NodeID) bool {
	return peer != b.opts.Node && b.env.Broken != nil && b.env.Broken(peer)
}

// NoteBroken has the control loop know, and calls fn on it when the Doubts tell.
func (b *Broker) NoteBroken(peer kafka.NodeID, fn func(now time.Time)) {
	b.env.Post(func(now time.Time) {
		if !b.closed {
			b.depart(now, peer, false)
		}
		fn(now)
	})
}

func (d *Doubts) move(now time.Time) {
	d.mu.Lock()
	calls := d.calls
	d.moved, d.calls = true, nil
	d.mu.Unlock()
	for _, fn := range calls {
		fn(now)
	}
}

// Doubts are the present ones, nil when there are none. Read them before the
// Image: then they are told of each later one.
func (b *Broker) Doubts() *Doubts { return b.doubts.Load() }

// How long a node is doubted. Who waits for a decision on it has it after some
// milliseconds, or there is no quorum for one.
const (
	suspectedMax = 100 * time.Millisecond // when its connection was lost: it is connected again or refused much earlier
	lostMax      = 500 * time.Millisecond // when a new one was refused: an election or two
	suspectAgain = 5 * time.Second        // a process whose connections break all the time is not doubted all the time
)

// departure is what this node knows of the end of one process of a peer. It is
// kept, so that each is doubted for once.
type departure struct {
	epoch kafka.BrokerEpoch // that the process has registered with
	lost  bool              // a new connection was refused; else one was closed
	until time.Time         // the end of the doubt
	again time.Time         // not suspected before

	decided kafka.Offset // of the Image that showed the node as fenced first; 0: none has
}

// depart notes that a connection with a peer was lost, or refused.
func (b *Broker) depart(now time.Time, peer kafka.NodeID, gone bool) {
	br := b.image.Load().Broker(peer)
	if br == nil || br.Fenced {
		return
	}
	d := b.departures[peer]
	if d.epoch != br.Epoch {
		d = departure{epoch: br.Epoch}
	}
	switch {
	case d.lost:
		return
	case gone:
		d.lost, d.until = true, now.Add(lostMax)
	case now.Before(d.again):
		return
	default:
		d.until, d.again = now.Add(suspectedMax), now.Add(suspectAgain)
	}
	b.departures[peer] = d
	b.At(d.until, func(time.Time) { b.env.Post(b.reviewDoubts) })
	b.reviewDoubts(now)
}

// PeerUp says that a peer has accepted a connection: its process is there, and
// what the last connection has lost is said again. It runs on the control loop.
func (b *Broker) PeerUp(now time.Time, peer kafka.NodeID) {
	if d, ok := b.departures[peer]; ok && now.Before(d.until) {
		d.until = now
		b.departures[peer] = d
		b.reviewDoubts(now)
	}
	if b.active != nil && !b.closed {
		b.env.Send(peer, ClassControl, []byte{frameAgain})
	}
	b.asked.askAgain(b, peer)
	if !b.closed && b.quorumView.Load().Leader == peer {
		b.tellActsOn(now) // or answers would wait for the next change of the metadata
	}
}

// reviewDoubts publishes whom this node doubts, and has those called who wait
// for that, or for the Image, to move. The controller has the new Image before
// the others, and a client that is sent to a leader too early has to come
// again: there they wait until all act on it.
func (b *Broker) reviewDoubts(now time.Time) {
	image := b.image.Load()
	var nodes []kafka.NodeID
	for _, br := range image.Brokers() {
		d, ok := b.departures[br.ID]
		if !ok || d.epoch != br.Epoch || !now.Before(d.until) || b.closed {
			continue
		}
		if !br.Fenced {
			nodes = append(nodes, br.ID)
			continue
		}
		if d.decided == 0 {
			d.decided = image.Offset()
			b.departures[br.ID] = d
		}
		if b.active != nil && b.doubts.Load().Of(br.ID) && !b.appliedByAll(d.decided) {
			return
		}
	}
	var next *Doubts
	if len(nodes) > 0 {
		next = &Doubts{nodes: nodes}
	}
	if old := b.doubts.Swap(next); old != nil {
		old.move(now)
	}
}

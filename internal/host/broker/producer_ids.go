package broker

import (
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// producerIDs hands out this broker's blocks of producer ids.
type producerIDs struct {
	mu      sync.Mutex
	next    kafka.ProducerID
	left    int32
	waiting []func(id kafka.ProducerID, code kafka.ErrorCode)
	asking  bool
}

const producerIDTimeout = 10 * time.Second

// NewProducerID gives an id that no producer of this cluster ever had. The
// reply may come at once. Codes: COORDINATOR_LOAD_IN_PROGRESS while the
// controller cannot be reached, which clients retry.
func (b *Broker) NewProducerID(now time.Time, reply func(id kafka.ProducerID, code kafka.ErrorCode)) {
	p := &b.producerIDs
	p.mu.Lock()
	if p.left > 0 {
		id := p.next
		p.next++
		p.left--
		p.mu.Unlock()
		reply(id, kafka.None)
		return
	}
	p.waiting = append(p.waiting, reply)
	ask := !p.asking
	p.asking = true
	p.mu.Unlock()
	if ask {
		b.env.Post(b.askProducerIDs)
	}
}

func (b *Broker) askProducerIDs(now time.Time) {
	req := controller.AllocateProducerIDs{Node: b.opts.Node, Epoch: b.lifecycle.epoch}
	b.ask(now, req, producerIDTimeout, false, func(now time.Time, r controller.Response, code kafka.ErrorCode) {
		p := &b.producerIDs
		res, _ := r.(controller.AllocateProducerIDsResult)
		if code == kafka.None {
			code = res.Error
		}
		p.mu.Lock()
		p.asking = false
		waiting := p.waiting
		p.waiting = nil
		if code == kafka.None {
			p.next, p.left = res.First, res.Count
		}
		p.mu.Unlock()
		for _, reply := range waiting {
			if code != kafka.None {
				reply(kafka.NoProducerID, kafka.ErrCoordinatorLoadInProgress)
				continue
			}
			// More may wait than a block holds: they ask for the next one.
			b.NewProducerID(now, reply)
		}
	})
}

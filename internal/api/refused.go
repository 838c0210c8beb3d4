package api

import (
	"sync"
	"sync/atomic"

	"chronik/internal/base/kafka"
)

// refusedBatches remembers, per connection, which batch of an idempotent
// producer was refused last on which partition. Until that batch has been
// accepted, a producer of whom the partition knows nothing may not begin with
// a later one: its place in the sequence is open.
type refusedBatches struct {
	count atomic.Int32 // of batches; 0 spares the lock
	mu    sync.Mutex
	first map[producerOn]int32
}

// producerOn is one producer on one partition.
type producerOn struct {
	topic     kafka.TopicID
	partition int32
	producer  kafka.ProducerID
}

// refusedMax bounds what one connection remembers.
const refusedMax = 4096

// before says whether another batch than the one at sequence was refused.
func (r *refusedBatches) before(p producerOn, sequence int32) bool {
	if r.count.Load() == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	first, ok := r.first[p]
	return ok && first != sequence
}

// refuse notes that the batch at sequence was refused.
func (r *refusedBatches) refuse(p producerOn, sequence int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.first[p]; ok {
		return
	}
	if r.first == nil || len(r.first) >= refusedMax {
		r.first = map[producerOn]int32{}
	}
	r.first[p] = sequence
	r.count.Store(int32(len(r.first)))
}

// accept notes that a batch of the producer was accepted.
func (r *refusedBatches) accept(p producerOn) {
	if r.count.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.first, p)
	r.count.Store(int32(len(r.first)))
}

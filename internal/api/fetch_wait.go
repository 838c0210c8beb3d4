package api

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// clientWaitMax bounds the times in requests, which may be 24 days: a request
// whose client has gone away waits on, with the memory that it holds. Clients do
// not ask for more.
const clientWaitMax = 5 * time.Minute

// enough says whether there is reason to answer at once.
func (op *fetchOp) enough() bool {
	return op.urgent || op.bytes >= op.minBytes || mutant.On(mutant.MinBytesIgnored) && op.bytes > 0
}

// waits says whether anything can come that is worth waiting for.
func (op *fetchOp) waits() bool {
	for i := range op.slots {
		if op.takesMore(i) {
			return true
		}
	}
	return false
}

// takesMore says whether the response has room for more of a partition.
func (op *fetchOp) takesMore(i int) bool {
	slot := &op.slots[i]
	return slot.code == kafka.None && len(slot.records) < max(1, int(op.session.Partitions[i].MaxBytes))
}

// park has the request woken when there is more to read, or time is up.
func (op *fetchOp) park(until time.Time) {
	op.deadline = op.server.Broker.At(until, func(now time.Time) {
		op.mu.Lock()
		op.expired = true
		op.mu.Unlock()
		op.wake(now, -1)
	})
	for i := range op.slots {
		op.watch(i)
	}
}

// watch waits for more on one partition. If there is more already, the slot
// counts as woken.
func (op *fetchOp) watch(i int) {
	slot := &op.slots[i]
	if !op.takesMore(i) || mutant.On(mutant.WakeFirst) && i > 0 {
		return
	}
	slot.parked = slot.hosted.Watch(&slot.waiter, slot.next, op.isolation, func(now time.Time) { op.wake(now, i) })
	if slot.parked {
		return
	}
	if slot.idle {
		slot.misses++
		// There is more, but it did not fit: waiting changes nothing.
		op.urgent = op.urgent || op.bytes > 0 || slot.misses > missesMax
	}
	op.mu.Lock()
	op.woken = append(op.woken, i)
	op.mu.Unlock()
}

// missesMax bounds how often a partition is asked again at once.
const missesMax = 3

// wake notes that a partition has more to read, or with -1 that time is up,
// and sees to it that somebody acts on it.
func (op *fetchOp) wake(now time.Time, i int) {
	op.mu.Lock()
	if op.ended {
		op.mu.Unlock()
		return
	}
	if i >= 0 {
		op.woken = append(op.woken, i)
	}
	start := !op.running
	op.running = true
	op.mu.Unlock()
	switch {
	case !start:
	case op.server.Defer != nil && i >= 0:
		op.server.Defer(op.run)
	default:
		op.run(now)
	}
}

// run reads what was woken until there is enough to answer or nothing left to
// read. Only one goroutine runs it at a time.
func (op *fetchOp) run(now time.Time) {
	for {
		op.mu.Lock()
		woken, expired := op.woken, op.expired
		op.woken = nil
		if len(woken) == 0 && !expired {
			op.running = false
			op.mu.Unlock()
			return
		}
		op.mu.Unlock()
		for _, i := range woken {
			op.slots[i].parked = false
			op.read(now, i)
		}
		if expired || op.enough() || !op.waits() {
			op.finish(now)
			return
		}
		for _, i := range woken {
			op.watch(i)
		}
	}
}

package partition

import (
	"time"

	"chronik/internal/base/kafka"
)

// Waiter is a place in the list of those who wait for records. Its zero value
// is ready to be parked; once fired or taken back it may be parked again.
type Waiter struct {
	next, prev *Waiter
	parked     bool
	offset     kafka.Offset
	isolation  Isolation
	fn         func(now time.Time)
}

// waiterList is a list of parked waiters, in the order of parking.
type waiterList struct{ first, last *Waiter }

func (l *waiterList) add(w *Waiter) {
	w.parked, w.prev, w.next = true, l.last, nil
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
}

func (l *waiterList) remove(w *Waiter) {
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.parked, w.next, w.prev = false, nil, nil
}

// fire takes out those for whom there is something to read, or all.
func (l *waiterList) fire(hw, lso kafka.Offset, all bool, fx *effects) {
	for w := l.first; w != nil; {
		next := w.next
		bound := hw
		if w.isolation == ReadCommitted {
			bound = lso
		}
		if all || w.offset < bound {
			l.remove(w)
			fx.woken = append(fx.woken, w.fn)
			w.fn = nil
		}
		w = next
	}
}

// Watch has fn called once when there is something to read at offset, or the
// partition has changed hands, failed or been closed: Read then tells. It
// returns false, and parks nothing, if that is so already. w must not be
// parked; it belongs to the partition until fn is called or Unwatch returns.
func (p *Partition) Watch(w *Waiter, offset kafka.Offset, isolation Isolation, fn func(now time.Time)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	bound := p.core.HighWatermark()
	if isolation == ReadCommitted {
		bound = p.core.LastStableOffset()
	}
	if p.usable() != nil || offset < bound {
		return false
	}
	w.offset, w.isolation, w.fn = offset, isolation, fn
	p.waiters.add(w)
	return true
}

// Unwatch takes w back and says whether fn will not be called. It may be
// called at any time.
func (p *Partition) Unwatch(w *Waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.parked {
		return false
	}
	p.waiters.remove(w)
	w.fn = nil
	return true
}

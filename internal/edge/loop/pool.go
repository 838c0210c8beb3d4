package loop

import "sync"

// Pool is a few goroutines for work that may as well be left undone.
type Pool struct {
	mu     sync.Mutex
	closed bool
	work   chan func()
	ended  sync.WaitGroup
}

// NewPool starts so many workers, for which so much may wait.
func NewPool(workers, waiting int) *Pool {
	p := &Pool{work: make(chan func(), waiting)}
	for range workers {
		p.ended.Go(func() {
			for fn := range p.work {
				fn()
			}
		})
	}
	return p
}

// Try has fn called soon, unless too much is waiting already.
func (p *Pool) Try(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	select {
	case p.work <- fn:
	default:
	}
}

// Close does what was begun, and nothing more afterwards.
func (p *Pool) Close() {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if !closed {
		close(p.work)
	}
	p.ended.Wait()
}

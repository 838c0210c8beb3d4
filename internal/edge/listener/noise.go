package listener

import (
	"errors"
	"log/slog"
	"sync"
	"syscall"
	"time"
)

// noise keeps clients from filling the log: of each kind of line at most one
// in ten seconds is written, with the number of those left out.
type noise struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]*noiseKind
}

type noiseKind struct {
	quietUntil time.Time
	left       int
}

const noiseInterval = 10 * time.Second

func (n *noise) warn(kind, message string, attrs ...any) {
	now := time.Now()
	n.mu.Lock()
	if n.kinds == nil {
		n.kinds = map[string]*noiseKind{}
	}
	k := n.kinds[kind]
	if k == nil {
		k = &noiseKind{}
		n.kinds[kind] = k
	}
	if now.Before(k.quietUntil) {
		k.left++
		n.mu.Unlock()
		return
	}
	left := k.left
	k.quietUntil, k.left = now.Add(noiseInterval), 0
	n.mu.Unlock()
	if left > 0 {
		attrs = append(attrs, slog.Int("left_out", left))
	}
	n.log.Warn(message, attrs...) //nolint:sloglint // callers pass constants
}

// isPassing says whether accepting may work again: a client that went away, or
// a want of file descriptors or memory.
func isPassing(err error) bool {
	for _, e := range []error{
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EMFILE, syscall.ENFILE,
		syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR, syscall.EPROTO, syscall.EPERM,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

package partition

import (
	"log/slog"
	"sync"
	"time"
)

// complaint keeps failures that every request meets from filling the log: each
// is written once in a while, with how many lines were left out in between.
type complaint struct {
	mu    sync.Mutex
	until time.Time // end of the while
	seen  map[string]bool
	left  int
}

const (
	complaintInterval = 10 * time.Second
	complaintsMax     = 8 // different ones in an interval
)

func (c *complaint) write(now time.Time, log *slog.Logger, message string, err error, attrs ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	attrs = append(attrs, "error", err)
	if !now.Before(c.until) {
		if c.left > 0 {
			attrs = append(attrs, "left_out", c.left)
		}
		c.until, c.seen, c.left = now.Add(complaintInterval), map[string]bool{}, 0
	}
	what := err.Error()
	if c.seen[what] || len(c.seen) == complaintsMax {
		c.left++
		return
	}
	c.seen[what] = true
	log.Error(message, attrs...) //nolint:sloglint // callers pass constants
}

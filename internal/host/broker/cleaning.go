package broker

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/host/partition"
	"chronik/internal/storage/cleaner"
)

// cleaning compacts the logs of compacted topics, one at a time, the dirtiest
// first. Each piece of work is one call of Env.Background; there is never more
// than one.
type cleaning struct {
	mu     sync.Mutex
	status CleaningStatus
	failed map[cleanedLog]time.Time // when its compaction has failed
}

type cleanedLog struct {
	topic  kafka.TopicID
	number int32
}

// CleaningStatus says what compaction does on this node and has done since it
// started.
type CleaningStatus struct {
	Topic     string // that is being compacted, "" for none
	Partition int32

	Logs          int       // that are compacted topics'
	DirtyLogs     int       // of which there was something to compact when they were last looked at
	DirtyRatioMax float64   // the largest share of a log that was to be compacted then
	LookedAt      time.Time // zero: never
	FinishedAt    time.Time // of the last compaction
	Passes        int64
	Failures      int64
	BytesRead     int64
	BytesWritten  int64
	BytesFreed    int64
	Removed       int64 // records
	Last          cleaner.Result
}

const (
	cleaningStepBytes  = 8 << 20
	cleaningBackoffMin = 100 * time.Millisecond
	cleaningRetryAfter = time.Hour // after a compaction that has failed
)

// Cleaning says what compaction does on this node.
func (b *Broker) Cleaning() CleaningStatus {
	b.cleaning.mu.Lock()
	defer b.cleaning.mu.Unlock()
	return b.cleaning.status
}

func (c *cleaning) note(fn func(*CleaningStatus)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn(&c.status)
}

// scheduleCleaning looks for something to compact after log.cleaner.backoff.ms.
func (b *Broker) scheduleCleaning(now time.Time) {
	backoff := time.Duration(b.resolver.BrokerInt(b.image.Load(), "log.cleaner.backoff.ms")) * time.Millisecond
	b.At(now.Add(max(backoff, cleaningBackoffMin)), func(time.Time) { b.env.Background(b.clean) })
}

// clean begins to compact the log that needs it most, if any does.
func (b *Broker) clean(now time.Time) {
	p, dirt := b.dirtiest(now)
	if p == nil {
		b.scheduleCleaning(now)
		return
	}
	memory := b.resolver.BrokerInt(b.image.Load(), "log.cleaner.dedupe.buffer.size")
	run, err := p.Compact(now, dirt, cleaner.Options{DedupeBytes: memory})
	if err != nil {
		b.cleaningFailed(now, p, err)
	}
	if run == nil {
		b.scheduleCleaning(now)
		return
	}
	b.cleaning.note(func(s *CleaningStatus) { s.Topic, s.Partition = p.Topic(), p.Number() })
	b.cleanOn(now, run)
}

// dirtiest finds the log to compact: one that is overdue, else the one of
// which the largest share is dirty.
func (b *Broker) dirtiest(now time.Time) (best *partition.Partition, dirt partition.Dirt) {
	status := CleaningStatus{}
	for _, p := range b.Partitions() {
		if at := b.cleaningFailure(p); !at.IsZero() && now.Sub(at) < cleaningRetryAfter {
			continue
		}
		d, ok, err := p.Dirt(now)
		if err != nil {
			b.cleaningFailed(now, p, err)
		}
		if !ok {
			continue
		}
		status.Logs++
		status.DirtyRatioMax = max(status.DirtyRatioMax, d.Ratio())
		if d.DirtyBytes > 0 {
			status.DirtyLogs++
		}
		first := best == nil || d.Overdue && !dirt.Overdue || d.Overdue == dirt.Overdue && d.Ratio() > dirt.Ratio()
		if d.Due && first {
			best, dirt = p, d
		}
	}
	b.cleaning.note(func(s *CleaningStatus) {
		s.Logs, s.DirtyLogs, s.DirtyRatioMax, s.LookedAt = status.Logs, status.DirtyLogs, status.DirtyRatioMax, now
	})
	return best, dirt
}

// cleanOn does a piece of a compaction, and sees to the next one.
func (b *Broker) cleanOn(now time.Time, run *partition.Compaction) {
	rate := b.cleaningRate()
	budget := float64(cleaningStepBytes)
	if rate > 0 {
		budget = min(budget, max(rate/4, 64<<10))
	}
	done, used, err := run.Step(now, int64(budget))
	if err != nil {
		b.cleaningFailed(now, run.Partition(), err)
	}
	if done {
		b.cleaned(now, run, err == nil)
	}
	next := func(now time.Time) {
		if done {
			b.clean(now)
		} else {
			b.cleanOn(now, run)
		}
	}
	switch pause := cleaningPause(used, rate); {
	case pause > 0:
		b.At(now.Add(pause), func(time.Time) { b.env.Background(next) })
	case err != nil:
		b.scheduleCleaning(now)
	default:
		b.env.Background(next)
	}
}

// cleaningRate is the most that may be read and written in a second, 0 for no
// limit.
func (b *Broker) cleaningRate() float64 {
	v, _ := b.resolver.Broker(b.image.Load(), "log.cleaner.io.max.bytes.per.second")
	rate, err := strconv.ParseFloat(v, 64)
	if err != nil || rate <= 0 || rate >= 1<<50 {
		return 0
	}
	return rate
}

// cleaningPause is how long so many bytes take at most.
func cleaningPause(used int64, rate float64) time.Duration {
	if rate == 0 {
		return 0
	}
	return time.Duration(min(float64(used)/rate, 60) * float64(time.Second))
}

// cleaned takes in what a compaction has done.
func (b *Broker) cleaned(now time.Time, run *partition.Compaction, whole bool) {
	p, r := run.Partition(), run.Result()
	freed := r.SizeBefore - r.SizeAfter
	b.cleaning.note(func(s *CleaningStatus) {
		s.Topic, s.Partition = "", 0
		s.BytesRead += r.BytesRead
		s.BytesWritten += r.BytesWritten
		if whole {
			s.FinishedAt, s.Last = now, r
			s.Passes++
			s.BytesFreed += freed
			s.Removed += r.RecordsRemoved
		}
	})
	if whole && r.RecordsRemoved > 0 {
		b.env.Log.Debug("log compacted", "topic", p.Topic(), "partition", p.Number(), "from", r.From, "to", r.To,
			"bytes_before", r.SizeBefore, "bytes_after", r.SizeAfter, "removed", r.RecordsRemoved)
	}
}

// cleaningFailed sets a log aside for a while that could not be compacted.
func (b *Broker) cleaningFailed(now time.Time, p *partition.Partition, err error) {
	if errors.Is(err, cleaner.ErrInterrupted) {
		return
	}
	b.env.Log.Error("log could not be compacted", "topic", p.Topic(), "partition", p.Number(), "err", err)
	c := &b.cleaning
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Failures++
	if c.failed == nil {
		c.failed = make(map[cleanedLog]time.Time)
	}
	c.failed[cleanedLog{p.TopicID(), p.Number()}] = now
}

func (b *Broker) cleaningFailure(p *partition.Partition) time.Time {
	b.cleaning.mu.Lock()
	defer b.cleaning.mu.Unlock()
	return b.cleaning.failed[cleanedLog{p.TopicID(), p.Number()}]
}

package broker

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/host/partition"
	"chronik/internal/storage/cleaner"
)

// cleaning compacts the logs of compacted topics: log.cleaner.threads of them at
// a time, which share the memory of log.cleaner.dedupe.buffer.size. The dirtiest
// comes first, but none comes again before every other that is due has had its
// turn. Each piece of work is one call of Env.Background.
type cleaning struct {
	mu        sync.Mutex
	status    CleaningStatus
	running   map[*partition.Compaction]*CleaningRun // two of one log while the first does not yet know that the log was opened anew
	failed    map[cleanedLog]failedCleaning
	had       map[cleanedLog]bool // their turn, in the present round
	granted   int64               // memory of those that run
	scheduled bool                // a timer will look for more
	looking   bool                // somebody looks for more
	again     bool                // and is to look once more
}

type cleanedLog struct {
	topic  kafka.TopicID
	number int32
}

// failedCleaning is of a log as it was opened then: when it is opened anew, its
// disk may have had a mishap that is over.
type failedCleaning struct {
	Uncleanable
	of    *partition.Partition
	again time.Time // when it is tried again
}

// CleaningRun is a compaction that runs.
type CleaningRun struct {
	Topic     string
	Partition int32
	Progress  float64 // from 0 to 1
	Memory    int64   // bytes that its keys may take
	Since     time.Time
}

// Uncleanable is a log whose compaction has failed. It is tried again an hour
// later, soon if the disk was full, or when the log is opened anew.
type Uncleanable struct {
	Topic     string
	Partition int32
	Cause     string
	At        time.Time
}

// CleaningStatus says what compaction does on this node and has done since it
// started.
type CleaningStatus struct {
	Running     []CleaningRun // by topic and partition
	Uncleanable []Uncleanable // likewise
	MemoryMax   int64         // bytes for the keys of all that run

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
	cleaningMemoryMin  = 64 << 10 // less than this is not worth a pass
	cleaningBackoffMin = 100 * time.Millisecond
	cleaningRetryAfter = time.Hour        // after a compaction that has failed
	cleaningRetryFull  = 10 * time.Second // after one for which the disk was too full
)

// Cleaning says what compaction does on this node.
func (b *Broker) Cleaning() CleaningStatus {
	c := &b.cleaning
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.MemoryMax = b.resolver.BrokerInt(b.image.Load(), "log.cleaner.dedupe.buffer.size")
	for _, r := range c.running {
		s.Running = append(s.Running, *r)
	}
	for _, u := range c.failed {
		s.Uncleanable = append(s.Uncleanable, u.Uncleanable)
	}
	slices.SortFunc(s.Running, func(a, b CleaningRun) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), b.Since.Compare(a.Since))
	})
	s.Running = slices.CompactFunc(s.Running, func(a, b CleaningRun) bool { return a.Topic == b.Topic && a.Partition == b.Partition })
	slices.SortFunc(s.Uncleanable, func(a, b Uncleanable) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return s
}

func logOf(p *partition.Partition) cleanedLog { return cleanedLog{p.TopicID(), p.Number()} }

// scheduleCleaning looks for something to compact after log.cleaner.backoff.ms.
func (b *Broker) scheduleCleaning(now time.Time) {
	c := &b.cleaning
	c.mu.Lock()
	was := c.scheduled
	c.scheduled = true
	c.mu.Unlock()
	if was {
		return
	}
	backoff := time.Duration(b.resolver.BrokerInt(b.image.Load(), "log.cleaner.backoff.ms")) * time.Millisecond
	b.At(now.Add(max(backoff, cleaningBackoffMin)), func(time.Time) {
		b.env.Background(func(now time.Time) {
			c.mu.Lock()
			c.scheduled = false
			c.mu.Unlock()
			b.logMemory.Age()
			b.clean(now)
		})
	})
}

// clean begins to compact the logs that need it most, as many as may be
// compacted at a time. One caller does so for all.
func (b *Broker) clean(now time.Time) {
	c := &b.cleaning
	c.mu.Lock()
	if c.looking {
		c.again = true
		c.mu.Unlock()
		return
	}
	c.looking = true
	c.mu.Unlock()
	for more := true; more; {
		begun := b.cleanOne(now)
		c.mu.Lock()
		if more = begun || c.again; !more {
			c.looking = false
		}
		c.again = false
		c.mu.Unlock()
	}
	b.scheduleCleaning(now)
}

// cleanOne begins to compact one log. It says no when there is none that is
// due, or when as many are compacted as may be.
func (b *Broker) cleanOne(now time.Time) bool {
	p, dirt := b.dirtiest(now)
	if p == nil {
		return false
	}
	memory := b.cleaningMemory(dirt)
	if memory == 0 {
		return false
	}
	run, err := p.Compact(now, dirt, cleaner.Options{DedupeBytes: memory})
	if err != nil {
		b.cleaningFailed(now, p, err)
	}
	c := &b.cleaning
	c.mu.Lock()
	c.had[logOf(p)] = true
	if run != nil {
		c.running[run] = &CleaningRun{Topic: p.Topic(), Partition: p.Number(), Memory: memory, Since: now}
		c.granted += memory
	}
	c.mu.Unlock()
	if run == nil {
		return false
	}
	b.env.Background(func(now time.Time) { b.cleanOn(now, run) })
	return true
}

// cleaningMemory is what one more compaction may use: an equal share, less if
// there are fewer keys to come, 0 if as many run as may.
func (b *Broker) cleaningMemory(dirt partition.Dirt) int64 {
	image, c := b.image.Load(), &b.cleaning
	threads := max(b.resolver.BrokerInt(image, "log.cleaner.threads"), 1)
	total := b.resolver.BrokerInt(image, "log.cleaner.dedupe.buffer.size")
	c.mu.Lock()
	defer c.mu.Unlock()
	memory := min(total/threads, total-c.granted)
	if int64(len(c.running)) >= threads || memory < min(cleaningMemoryMin, total) {
		return 0
	}
	return min(memory, max(cleaner.MemoryFor(int64(dirt.To-dirt.From)), cleaningMemoryMin))
}

// dirtiest finds the log to compact: one that is overdue, else the one of
// which the largest share is dirty; of those that have not had their turn.
func (b *Broker) dirtiest(now time.Time) (best *partition.Partition, dirt partition.Dirt) {
	status, there := CleaningStatus{}, map[cleanedLog]bool{}
	var second *partition.Partition
	var secondDirt partition.Dirt
	for _, p := range b.Partitions() {
		there[logOf(p)] = true
		again, had := b.cleaningPast(p)
		if now.Before(again) {
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
		switch {
		case !d.Due:
		case had:
			if second == nil || dirtier(d, secondDirt) {
				second, secondDirt = p, d
			}
		case best == nil || dirtier(d, dirt):
			best, dirt = p, d
		}
	}
	b.cleaning.note(func(c *cleaning) {
		s := &c.status
		s.Logs, s.DirtyLogs, s.DirtyRatioMax, s.LookedAt = status.Logs, status.DirtyLogs, status.DirtyRatioMax, now
		if best == nil { // everybody has had a turn: another round
			c.had = map[cleanedLog]bool{}
		}
		maps.DeleteFunc(c.failed, func(l cleanedLog, _ failedCleaning) bool { return !there[l] })
	})
	if best == nil {
		return second, secondDirt
	}
	return best, dirt
}

// dirtier says whether a comes before b.
func dirtier(a, b partition.Dirt) bool {
	return a.Overdue && !b.Overdue || a.Overdue == b.Overdue && a.Ratio() > b.Ratio()
}

func (c *cleaning) note(fn func(*cleaning)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running, c.failed, c.had = map[*partition.Compaction]*CleaningRun{}, map[cleanedLog]failedCleaning{}, map[cleanedLog]bool{}
	}
	fn(c)
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
	} else {
		b.cleaning.note(func(c *cleaning) { c.running[run].Progress = run.Progress() })
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

// cleaningRate is the most that one compaction may read and write in a second,
// its share of what all may, 0 for no limit.
func (b *Broker) cleaningRate() float64 {
	v, _ := b.resolver.Broker(b.image.Load(), "log.cleaner.io.max.bytes.per.second")
	rate, err := strconv.ParseFloat(v, 64)
	if err != nil || rate <= 0 || rate >= 1<<50 {
		return 0
	}
	b.cleaning.mu.Lock()
	defer b.cleaning.mu.Unlock()
	return rate / float64(max(len(b.cleaning.running), 1))
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
	b.cleaning.note(func(c *cleaning) {
		s := &c.status
		c.granted -= c.running[run].Memory
		delete(c.running, run)
		s.BytesRead += r.BytesRead
		s.BytesWritten += r.BytesWritten
		if whole {
			delete(c.failed, logOf(p))
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
	after := cleaningRetryAfter
	if errors.Is(err, vfs.ErrNoSpace) { // nothing is wrong with the log
		after = cleaningRetryFull
	}
	b.env.Log.Error("log could not be compacted", "topic", p.Topic(), "partition", p.Number(), "err", err, "retry_after", after)
	b.cleaning.note(func(c *cleaning) {
		c.status.Failures++
		c.failed[logOf(p)] = failedCleaning{Uncleanable{p.Topic(), p.Number(), err.Error(), now}, p, now.Add(after)}
	})
}

// cleaningPast says when a log of which a compaction has failed since it was
// opened may be compacted again, and whether it has had its turn.
func (b *Broker) cleaningPast(p *partition.Partition) (again time.Time, had bool) {
	b.cleaning.mu.Lock()
	defer b.cleaning.mu.Unlock()
	if f := b.cleaning.failed[logOf(p)]; f.of == p {
		again = f.again
	} else {
		delete(b.cleaning.failed, logOf(p))
	}
	return again, b.cleaning.had[logOf(p)]
}

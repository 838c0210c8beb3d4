package partition

import (
	"errors"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/storage/cleaner"
	"chronik/internal/storage/wal"
)

// compacting is what is remembered from one compaction to the next.
type compacting struct {
	running   bool
	horizonMs int64     // the earliest delete horizon in what was compacted; 0: none
	again     time.Time // it is gone over again for that at the earliest
	unsaved   bool      // the last one has had transactions forgotten, and that is not saved
}

// Dirt says how much of the log is to be compacted.
type Dirt struct {
	cleaner.Dirt
	Due     bool // min.cleanable.dirty.ratio or something else says that it is time
	Overdue bool // max.compaction.lag.ms does
	again   bool // what was compacted before is to be gone over again
}

// Dirt looks at the log of a compacted topic, as leader or follower: each
// compacts its own. Before that it seals a segment that is old enough, though
// nothing more may be appended to it. Ok is false if there is nothing to
// compact here.
func (p *Partition) Dirt(now time.Time) (d Dirt, ok bool, err error) {
	c := p.settings.Load().config
	if v := p.view.Load(); !c.Compact || v.failed || v.closed || v.role == replica.Offline {
		return d, false, nil
	}
	if _, err = p.log.Roll(now.UnixMilli(), min(millis(c.SegmentTime), millis(c.MaxCompactionLag))); err == nil {
		d.Dirt, err = cleaner.Look(p.log, now, p.LastStableOffset(), c.MinCompactionLag)
	}
	if errors.Is(err, wal.ErrClosed) {
		return d, false, nil
	}
	if err != nil {
		if p.log.Err() != nil || vfs.Broken(err) {
			p.failLater(now, err)
		}
		return d, false, err
	}
	p.mu.Lock()
	k := p.compact
	p.mu.Unlock()
	lag := millis(c.MaxCompactionLag)
	d.Overdue = !mutant.On(mutant.OverdueIgnored) && d.DirtyBytes > 0 && now.UnixMilli()-d.SinceMs > lag
	d.again = k.horizonMs > 0 && now.UnixMilli() > k.horizonMs && !now.Before(k.again)
	d.Due = !k.running && (d.Overdue || d.Ratio() > c.MinDirtyRatio || d.again)
	return d, true, nil
}

// Compaction is a compaction of a partition that runs.
type Compaction struct {
	p    *Partition
	pass *cleaner.Pass
}

// Compact begins to compact what Dirt has found. It is nil if there is nothing
// to do after all. One runs at a time.
func (p *Partition) Compact(now time.Time, d Dirt, opts cleaner.Options) (*Compaction, error) {
	if err := p.saveForgotten(); err != nil {
		return nil, err
	}
	c := p.settings.Load().config
	task := cleaner.Task{
		MinLag: c.MinCompactionLag, DeleteRetention: c.DeleteRetentionTime,
		SegmentBytes: c.SegmentBytes, BatchBytesMax: c.MaxMessageBytes,
		Producers: map[kafka.ProducerID]cleaner.Producer{},
	}
	p.mu.Lock()
	if p.closed || p.failure != nil || p.compact.running {
		p.mu.Unlock()
		return nil, nil //nolint:nilerr // a partition that has failed is compacted no more
	}
	if task.Limit = p.core.LastStableOffset(); mutant.On(mutant.CompactUncommitted) {
		task.Limit = p.core.End()
	}
	for _, a := range p.core.Aborted(0, p.core.End()) {
		task.Aborted = append(task.Aborted, cleaner.Transaction{Producer: a.ProducerID, First: a.FirstOffset, Last: a.LastOffset})
	}
	for _, s := range p.core.Producers() {
		task.Producers[s.ProducerID] = cleaner.Producer{Epoch: s.ProducerEpoch, First: s.FirstOffset, Last: s.LastOffset, Before: p.core.LastCommitted(s.ProducerID)}
	}
	p.compact.running = true
	p.mu.Unlock()
	pass, err := cleaner.Begin(p.log, now, task, opts, d.again)
	if pass == nil || err != nil {
		p.endCompaction(func(k *compacting) { k.horizonMs = 0 })
		return nil, err
	}
	return &Compaction{p, pass}, nil
}

func (p *Partition) endCompaction(note func(*compacting)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.compact.running = false
	note(&p.compact)
}

// againMin is the shortest time between two compactions that are but for
// delete horizons.
const againMin = time.Hour

// Step compacts on until about so many bytes are read and written, and says
// how many were and whether that was all. It does its I/O in the caller's
// goroutine. After an error it is over; cleaner.ErrInterrupted is of no
// concern.
func (c *Compaction) Step(now time.Time, budget int64) (done bool, used int64, err error) {
	p := c.p
	done, used, err = c.pass.Step(now, budget)
	if err != nil {
		p.endCompaction(func(*compacting) {})
		if p.log.Err() != nil || vfs.Broken(err) {
			p.failLater(now, err)
		}
		return true, used, err
	}
	if done {
		p.forgetAborted(c.pass.ForgetAborted)
		retention := p.settings.Load().config.DeleteRetentionTime
		p.endCompaction(func(k *compacting) {
			k.horizonMs, k.again = c.pass.NextHorizonMs, now.Add(min(retention, againMin))
		})
	}
	return done, used, nil
}

// Result is what was done so far.
func (c *Compaction) Result() cleaner.Result { return c.pass.Result }

// Progress is about how much is done, from 0 to 1.
func (c *Compaction) Progress() float64 { return c.pass.Progress() }

// Abort gives up. What was compacted stays so.
func (c *Compaction) Abort() {
	c.pass.Abort()
	c.p.endCompaction(func(*compacting) {})
}

// Partition is the one that is compacted.
func (c *Compaction) Partition() *Partition { return c.p }

// forgetAborted forgets transactions without records, and sees to it that a
// restart does not bring them back: their markers are about to go.
func (p *Partition) forgetAborted(gone []cleaner.Transaction) {
	if len(gone) == 0 {
		return
	}
	list := make([]replica.AbortedTxn, 0, len(gone))
	for _, t := range gone {
		list = append(list, replica.AbortedTxn{ProducerID: t.Producer, FirstOffset: t.First, LastOffset: t.Last})
	}
	p.mu.Lock()
	p.core.ForgetAborted(list)
	p.compact.unsaved = true
	p.mu.Unlock()
	_ = p.saveForgotten() // the next compaction tries it again
}

// saveForgotten saves the state without what forgetAborted has had forgotten.
// Until that is done nothing more may be compacted: the markers would go, and a
// restart bring back transactions that never end for those who read them.
func (p *Partition) saveForgotten() error {
	p.mu.Lock()
	unsaved := p.compact.unsaved
	if unsaved {
		p.saved = kafka.NoOffset
	}
	p.mu.Unlock()
	if !unsaved {
		return nil
	}
	if err := p.saveState(true); err != nil {
		return err
	}
	p.mu.Lock()
	p.compact.unsaved = false
	p.mu.Unlock()
	return nil
}

// failLater takes the partition offline because its log has failed.
func (p *Partition) failLater(now time.Time, err error) {
	fx := p.enter()
	p.fail(err, fx)
	p.leave(now, fx)
}

// fromOffset is the batches in b without what is before an offset. A follower
// that was away ends where batches ended then; compaction has made larger ones
// of them since, which may begin before.
func fromOffset(b []byte, offset kafka.Offset) ([]byte, error) {
	batch, rest, err := record.Next(b)
	if err != nil || batch.BaseOffset() >= offset || batch.NextOffset() <= offset || batch.HasProducerID() {
		return b, nil //nolint:nilerr // what is wrong is found by who reads it
	}
	part, err := record.Split(batch, offset, nil)
	if err != nil {
		return nil, err
	}
	return append(part, rest...), nil
}

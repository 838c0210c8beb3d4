package partition

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/replica"
	"chronik/internal/storage/wal"
)

// ApplyRetention gives up segments that retention.ms and retention.bytes let
// go. Only a leader does; followers follow its log start.
func (p *Partition) ApplyRetention(now time.Time) {
	c := p.settings.Load().config
	v := p.view.Load()
	if v.role != replica.Leader || v.failed || v.closed || !c.Delete || c.RetentionTime < 0 && c.RetentionBytes < 0 {
		return
	}
	keep := wal.Retention{Ms: -1, Bytes: c.RetentionBytes}
	if c.RetentionTime >= 0 && c.RetentionTime < MaxDuration-time.Second {
		keep.Ms = c.RetentionTime.Milliseconds()
	}
	upTo := p.HighWatermark()
	if mutant.On(mutant.RetainUncommitted) {
		upTo = p.log.End()
	}
	start, err := p.log.RetainFrom(now, keep, upTo)
	if err != nil {
		p.slog.Warn("retention not applied", "topic", p.opts.Topic, "partition", p.opts.Partition, "error", err)
		return
	}
	if start <= p.log.Start() {
		return
	}
	fx := p.enter()
	if p.usable() == nil {
		p.core.AdvanceStart(now, start)
	}
	p.leave(now, fx)
}

// lookUp finds the first record at or after a timestamp, or for
// kafka.TimestampMax the one with the largest.
func (p *Partition) lookUp(ms int64) (kafka.Offset, int64, bool, error) {
	find := func() (wal.TimestampOffset, bool, error) { return p.log.OffsetForTimestamp(ms) }
	if ms == kafka.TimestampMax {
		find = p.log.MaxTimestamp
	}
	t, ok, err := find()
	return t.Offset, t.Timestamp, ok, err
}

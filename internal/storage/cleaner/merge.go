package cleaner

import (
	"math"
	"slices"

	"chronik/internal/format/record"
)

// merge makes one batch of small ones that follow one another. A single one
// stays as it is, unless it is of a transaction.
type merge struct {
	max     int          // bytes of a batch
	first   record.Batch // a copy, while it is the only one
	changed bool         // first is not what was in the log
	builder *record.Builder
	count   int64 // batches
}

// like says whether the batches may become one.
func like(a, b record.Batch) bool {
	return a.LeaderEpoch() == b.LeaderEpoch() && a.Codec() == b.Codec() && a.TimestampType() == b.TimestampType() &&
		(a.TimestampType() == record.CreateTime || a.MaxTimestamp() == b.MaxTimestamp()) &&
		int64(b.LastOffset()-a.BaseOffset()) < math.MaxInt32
}

// merge adds a batch to those that become one.
func (p *Pass) merge(b record.Batch, changed bool) error {
	m := &p.group.merge
	if m.count > 0 && (!like(m.first, b) || m.size()+len(b) > m.max) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if m.count == 0 {
		m.first, m.changed, m.count = append(m.first[:0], b...), changed, 1
		return nil
	}
	if m.count == 1 {
		if err := p.beginMerge(); err != nil {
			return err
		}
	}
	m.count++
	return p.addRecords(b)
}

// beginMerge begins a batch of no producer with the records of the first one.
func (p *Pass) beginMerge() error {
	m := &p.group.merge
	opts := record.BuilderOptions{BaseOffset: m.first.BaseOffset(), LeaderEpoch: m.first.LeaderEpoch(), Codec: m.first.Codec()}
	if m.first.TimestampType() == record.LogAppendTime {
		opts.LogAppendTime = m.first.MaxTimestamp()
	}
	if m.builder == nil {
		m.builder = record.NewBuilder(opts)
	} else {
		m.builder.Reset(opts)
	}
	return p.addRecords(m.first)
}

func (m *merge) size() int {
	if m.count == 1 {
		return len(m.first)
	}
	return m.builder.Size()
}

func (p *Pass) addRecords(b record.Batch) error {
	m := &p.group.merge
	base := m.first.BaseOffset()
	it := b.Records(&p.scratch)
	for it.Next() {
		r := it.Record()
		m.builder.AppendAt(int32(r.Offset-base), r.Timestamp, r.Key, r.Value, r.Headers...)
	}
	return it.Err()
}

// flush writes what is being merged.
func (p *Pass) flush() error {
	m := &p.group.merge
	count := m.count
	m.count = 0
	switch count {
	case 0:
		return nil
	case 1:
		if m.first.IsTransactional() {
			// It is committed. So its marker may go.
			if err := p.beginMerge(); err != nil {
				return err
			}
			return p.write(m.builder.Build(), true)
		}
		return p.write(slices.Clip(m.first), m.changed)
	}
	p.BatchesMerged += count
	return p.write(m.builder.Build(), true)
}

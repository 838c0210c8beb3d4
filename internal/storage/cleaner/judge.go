package cleaner

import (
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

// judge writes what is to be kept of a batch.
func (p *Pass) judge(now time.Time, b record.Batch) error {
	known := b.LastOffset() < p.To // else it is for the next pass, but for keys that come again
	p.RecordsRead += int64(b.Count())
	switch {
	case b.IsControl() && !known:
		delete(p.kept, b.ProducerID())
		return p.pass(b)
	case b.IsControl():
		return p.judgeMarker(now, b)
	case known && p.isAborted(b):
		p.RecordsRemoved += int64(b.Count())
		return p.empty(b)
	case b.Count() == 0:
		if !known {
			return p.pass(b)
		}
		return p.empty(b)
	}
	removed, tombstones, err := p.mark(now, b, known)
	if err != nil {
		return err
	}
	p.RecordsRemoved += int64(removed)
	p.TombstonesKept += int64(tombstones)
	if removed == int(b.Count()) {
		return p.empty(b)
	}
	opts := record.FilterOptions{}
	if tombstones > 0 && known {
		opts.SetDeleteHorizon, opts.DeleteHorizon = true, p.horizon(now)
	}
	out := b
	if removed > 0 || opts.SetDeleteHorizon && !b.HasDeleteHorizon() {
		i := -1
		out, err = record.Filter(b, &p.scratch, opts, func(*record.Record) bool {
			i++
			return !p.drop[i]
		})
		if err != nil {
			return err
		}
	}
	changed := len(out) == 0 || &out[0] != &b[0]
	if tombstones > 0 && out.HasDeleteHorizon() {
		p.noteHorizon(out.DeleteHorizon())
	}
	if known && tombstones == 0 && p.anonymous(b) && len(out) <= p.group.merge.max/4 {
		return p.merge(out, changed)
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.write(out, changed)
}

// mark finds which records of a batch go. It returns how many, and how many
// tombstones stay.
func (p *Pass) mark(now time.Time, b record.Batch, known bool) (removed, tombstones int, err error) {
	over := b.HasDeleteHorizon() && now.UnixMilli() > b.DeleteHorizon()
	p.drop = p.drop[:0]
	it := b.Records(&p.scratch)
	for it.Next() {
		r := it.Record()
		drop := false
		switch {
		case r.Key == nil:
			if drop = known; drop {
				p.RecordsKeyless++
			}
		case p.keys.after(digestOf(r.Key), r.Offset):
			drop = true
		case r.Value == nil:
			if drop = known && over; !drop {
				tombstones++
			}
		}
		if drop {
			removed++
		}
		p.drop = append(p.drop, drop)
	}
	return removed, tombstones, it.Err()
}

// pass writes a batch as it is.
func (p *Pass) pass(b record.Batch) error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.write(b, false)
}

// empty drops a batch, or leaves its header when its producer may still send it
// again: it must be known by its sequence numbers after a restart, and on a new
// replica, too.
func (p *Pass) empty(b record.Batch) error {
	if b.Count() == 0 && b.NextOffset() == p.group.end {
		return p.pass(b) // it stands in for the end
	}
	pr, ok := p.task.Producers[b.ProducerID()]
	remembered := pr.Last != kafka.NoOffset && b.LastOffset() >= pr.First && b.LastOffset() <= pr.Last && b.ProducerEpoch() == pr.Epoch
	if ok && (remembered || b.LastOffset() == pr.Before) {
		return p.keepHeader(b)
	}
	return p.leaveOut(b)
}

// leaveOut drops a batch, but for the header of that with which a leader epoch
// begins: a new replica learns from it where, and may have to tell it one day to
// another that has more of the epoch before, and must cut that off.
func (p *Pass) leaveOut(b record.Batch) error {
	begins := wal.EpochStart{Epoch: b.LeaderEpoch(), Start: b.BaseOffset()}
	switch {
	case !slices.Contains(p.epochs, begins) || mutant.On(mutant.CompactEpochStarts):
		p.group.changed = true
		return nil
	case b.Count() == 0 && !b.HasProducerID():
		return p.pass(b)
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.write(p.withoutRecords(b.LeaderEpoch(), b.BaseOffset(), record.NoTimestamp), true) // nor a producer
}

func (p *Pass) keepHeader(b record.Batch) error {
	out, err := record.Filter(b, &p.scratch, record.FilterOptions{}, func(*record.Record) bool { return false })
	if err != nil {
		return err
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.write(out, &out[0] != &b[0])
}

// anonymous says whether nobody asks any more which producer sent the batch.
// It is of no transaction or of a committed one.
func (p *Pass) anonymous(b record.Batch) bool {
	pr, ok := p.task.Producers[b.ProducerID()]
	return !ok || b.LastOffset() != pr.Before && (pr.Epoch != b.ProducerEpoch() || pr.First == kafka.NoOffset || b.LastOffset() < pr.First)
}

// judgeMarker keeps a marker as long as anything of its transaction is there,
// and delete.retention.ms beyond.
func (p *Pass) judgeMarker(now time.Time, b record.Batch) error {
	id := b.ProducerID()
	if b.Count() == 0 {
		return p.leaveOut(b)
	}
	m, ok, err := record.ParseMarker(b, &p.scratch)
	if err != nil {
		return err
	}
	if err := p.flush(); err != nil { // it may keep a batch of the transaction
		return err
	}
	kept := p.kept[id]
	delete(p.kept, id)
	if !ok || kept || p.isLastMarker(b) {
		return p.write(b, false)
	}
	if b.HasDeleteHorizon() && now.UnixMilli() > b.DeleteHorizon() {
		t, listed := p.listed(id, b.BaseOffset())
		if m.Commit || !listed {
			p.RecordsRemoved += int64(b.Count())
			return p.leaveOut(b)
		}
		// A reader who is told of the transaction must find its marker.
		p.ForgetAborted = append(p.ForgetAborted, t)
		p.noteHorizon(b.DeleteHorizon())
		return p.write(b, false)
	}
	out, err := record.Filter(b, &p.scratch, record.FilterOptions{SetDeleteHorizon: true, DeleteHorizon: p.horizon(now)},
		func(*record.Record) bool { return true })
	if err != nil {
		return err
	}
	p.noteHorizon(out.DeleteHorizon())
	return p.write(out, &out[0] != &b[0])
}

// listed finds the aborted transaction that ends with the marker at an offset.
func (p *Pass) listed(id kafka.ProducerID, marker kafka.Offset) (Transaction, bool) {
	list := p.aborted[id]
	i := slices.IndexFunc(list, func(t Transaction) bool { return t.Last == marker })
	if i < 0 {
		return Transaction{}, false
	}
	return list[i], true
}

// isLastMarker says whether the marker is all that tells of its producer's
// epoch.
func (p *Pass) isLastMarker(b record.Batch) bool {
	pr, ok := p.task.Producers[b.ProducerID()]
	return ok && pr.Last == kafka.NoOffset && pr.Epoch == b.ProducerEpoch() && p.markers[b.ProducerID()] <= b.LastOffset()
}

package broker

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// openAtOnce is how many logs are opened in one call on the control loop.
// Thousands take seconds, in which Raft and heartbeats must go on: then they
// are opened so many at a time, and other calls have their turn in between.
const openAtOnce = 64

// opening is the replicas of this node that are still to be opened. It belongs
// to the control loop.
type opening struct {
	queue  []partitionKey
	queued map[partitionKey]bool
	since  kafka.Offset // of the image that placed the first of them
	first  bool         // they are all that this process found placed here when it registered
	posted bool         // openSome will be called
}

// openLater has a partition opened in its turn.
func (b *Broker) openLater(key partitionKey) {
	o := &b.opening
	if o.queued[key] {
		return
	}
	if len(o.queue) == 0 {
		o.since = b.image.Load().Offset()
	}
	if o.queued == nil {
		o.queued = make(map[partitionKey]bool)
	}
	o.queue, o.queued[key] = append(o.queue, key), true
}

// openSome opens the next few partitions that the image, as it is now, places
// here, and tells them their part.
func (b *Broker) openSome(now time.Time) {
	o := &b.opening
	o.posted = false
	if b.closed {
		return
	}
	image := b.image.Load()
	edit := b.editPartitions()
	var here []placed
	for len(o.queue) > 0 && len(here) < openAtOnce {
		key := o.queue[0]
		o.queue = o.queue[1:]
		delete(o.queued, key)
		t := image.Topic(key.topic)
		if t == nil || edit.open[key] != nil || b.fitness.found[key] != nil {
			continue
		}
		if state := t.Partition(key.partition); state != nil && state.IsReplica(b.opts.Node) {
			here = append(here, placed{t, key.partition, state})
		}
	}
	b.openAll(now, edit, here)
	for _, p := range here {
		b.markFitness(partitionKey{p.topic.ID, p.number}, p.state)
		b.place(now, edit, p.topic, p.number, p.state)
	}
	b.publish(edit)
	b.noteSuspects(now, here)
	b.reviewFitness(now)
	b.goOnOpening()
	if len(o.queue) == 0 {
		b.allOpen(now)
	}
}

// goOnOpening sees to it that what is queued gets its turn.
func (b *Broker) goOnOpening() {
	if o := &b.opening; len(o.queue) > 0 && !o.posted {
		o.posted = true
		b.env.Post(b.openSome)
	}
}

// allOpen goes on when nothing is left to be opened.
func (b *Broker) allOpen(now time.Time) {
	if b.opening.first {
		b.opening.first = false
		b.lifecycle.placed = true
		b.reviewFitness(now)
		b.env.Log.Info("partitions opened", "count", len(b.partitions.Load().open))
		b.scheduleRetention(now)
		b.scheduleCleaning(now)
		b.scheduleScrub(now)
	}
	b.settleGone()
	b.coordinated.imageChanged(now, nil)
	b.tellActsOn(now)
}

// actsOn is the offset of the newest image all of whose partitions here are
// open: what others may rely on.
func (b *Broker) actsOn() kafka.Offset {
	if o := &b.opening; len(o.queue) > 0 {
		return o.since - 1
	}
	return b.image.Load().Offset()
}

// tellActsOn tells the controller.
func (b *Broker) tellActsOn(now time.Time) {
	if offset := b.actsOn(); b.active != nil {
		b.noteApplied(now, b.opts.Node, offset)
	} else {
		b.tellApplied(offset)
	}
}

// openNew opens the partitions of new topics, several at a time; many are left
// to openSome. Where a topic of the same name may have just gone, place sees to
// each in its turn.
func (b *Broker) openNew(now time.Time, d *metadata.Delta) *partitionEdit {
	var here []placed
	for _, p := range d.Partitions {
		if p.New != nil && p.New.IsReplica(b.opts.Node) && b.Partition(p.Topic, p.Partition) == nil && b.fitness.found[partitionKey{p.Topic, p.Partition}] == nil {
			here = append(here, placed{d.To.Topic(p.Topic), p.Partition, p.New})
		}
	}
	if len(here) == 0 {
		return nil
	}
	if len(b.opening.queue) > 0 || len(here) > openAtOnce {
		for _, h := range here {
			b.openLater(partitionKey{h.topic.ID, h.number})
		}
		return nil
	}
	for _, t := range d.Topics {
		if t.New == nil {
			return nil
		}
	}
	edit := b.editPartitions()
	b.openAll(now, edit, here)
	return edit
}

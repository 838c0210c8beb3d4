package broker

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/host/partition"
	"chronik/internal/storage/wal"
)

// Opening a log takes several syncs, and thousands take seconds, in which the
// control loop must go on with Raft and heartbeats. More than a few
// (Options.OpenInline) are opened in the background, so many times that at a time.
const openAtOnce = 8

// opening is the replicas of this node that are still to be opened. It belongs
// to the control loop.
type opening struct {
	queue   []partitionKey
	waits   map[partitionKey]bool // those of the queue, and of the batch under way; false: its directory was discarded since
	since   kafka.Offset          // of the image that placed the first of them
	first   bool                  // they are all that this process found placed here when it registered
	running bool                  // a batch is under way
}

// openLater has a partition opened in its turn.
func (b *Broker) openLater(key partitionKey) {
	o := &b.opening
	if _, waits := o.waits[key]; waits {
		return
	}
	if len(o.waits) == 0 {
		o.since = b.image.Load().Offset()
	}
	if o.waits == nil {
		o.waits = make(map[partitionKey]bool)
	}
	o.queue, o.waits[key] = append(o.queue, key), true
}

// openSome opens the next few partitions that the image, as it is now, places
// here.
func (b *Broker) openSome(now time.Time) {
	o := &b.opening
	if o.running || b.closed {
		return
	}
	image := b.image.Load()
	var here []placed
	for len(o.queue) > 0 && len(here) < openAtOnce*b.opts.OpenInline {
		key := o.queue[0]
		o.queue = o.queue[1:]
		if t, state := b.wanted(image, key); state != nil && b.fitness.found[key] == nil {
			o.waits[key] = true
			here = append(here, placed{t, key.partition, state})
		} else {
			delete(o.waits, key)
		}
	}
	o.running = true
	if len(here) <= b.opts.OpenInline {
		b.opened(now, image, here, b.openThem(now, here, b.partitionOptions))
		return
	}
	epoch := b.lifecycle.epoch
	options := func(t *metadata.Topic, number int32) partition.Options { return b.optionsAt(image, epoch, t, number) }
	b.env.Background(func(now time.Time) {
		all := b.openThem(now, here, options)
		b.env.Post(func(now time.Time) { b.opened(now, image, here, all) })
	})
}

// wanted is the partition's topic and state if the image places it here.
func (b *Broker) wanted(image *metadata.Image, key partitionKey) (*metadata.Topic, *metadata.Partition) {
	if t := image.Topic(key.topic); t != nil {
		if state := t.Partition(key.partition); state != nil && state.IsReplica(b.opts.Node) {
			return t, state
		}
	}
	return nil, nil
}

// openedLog is a partition that was opened, nil if it could not be, and what
// was found in it.
type openedLog struct {
	p   *partition.Partition
	rec partition.Recovery
}

// openThem opens partitions, several at a time. One that cannot be opened is
// left to place, which says why.
func (b *Broker) openThem(now time.Time, here []placed, options func(*metadata.Topic, int32) partition.Options) []openedLog {
	all := make([]openedLog, len(here))
	b.env.Each(len(here), func(i int) {
		h := here[i]
		all[i].p, all[i].rec, _ = b.openLog(now, b.partitionDir(h.topic.Name, h.number), options(h.topic, h.number)) //nolint:errcheck // see above
	})
	return all
}

// opened tells partitions that were opened, with the settings of an image, their
// part in the present one.
func (b *Broker) opened(now time.Time, as *metadata.Image, here []placed, all []openedLog) {
	o := &b.opening
	o.running = false
	if b.closed {
		return // the process ends; nothing was written
	}
	image := b.image.Load()
	edit := b.editPartitions()
	var placedNow []placed
	for i, h := range here {
		key := partitionKey{h.topic.ID, h.number}
		p, kept := all[i].p, o.waits[key]
		delete(o.waits, key)
		t, state := b.wanted(image, key)
		if state == nil || !kept { // deleted or moved away meanwhile
			if p != nil {
				p.Abandon(now)
				p, all[i].p = nil, nil
			}
			b.discard(b.partitionDir(h.topic.Name, h.number), wal.Identity{TopicID: key.topic, Partition: key.partition})
		}
		if state == nil {
			continue
		}
		if p != nil {
			p.SetBrokerEpoch(now, b.lifecycle.epoch)
			p.SetFenced(now, b.lifecycle.lapsed)
			if image != as {
				p.Configure(now, b.topicConfig(image, t.Name))
			}
			edit.open[key] = p
		}
		b.markFitness(key, state)
		b.place(now, edit, t, key.partition, state)
		placedNow = append(placedNow, placed{t, key.partition, state})
	}
	b.publish(edit)
	for i, h := range here {
		if p := all[i].p; p != nil && edit.open[partitionKey{h.topic.ID, h.number}] == p {
			b.noteFound(p, all[i].rec)
		}
	}
	b.noteSuspects(now, placedNow)
	b.reviewFitness(now)
	if len(o.queue) == 0 {
		b.allOpen(now)
	}
	b.goOnOpening()
}

// goOnOpening sees to it that what is queued gets its turn.
func (b *Broker) goOnOpening() {
	if o := &b.opening; len(o.queue) > 0 && !o.running {
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
	if o := &b.opening; len(o.waits) > 0 {
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
		key := partitionKey{p.Topic, p.Partition}
		if p.New != nil && p.New.IsReplica(b.opts.Node) && b.Partition(p.Topic, p.Partition) == nil && b.fitness.found[key] == nil && !b.reopens(key) {
			here = append(here, placed{d.To.Topic(p.Topic), p.Partition, p.New})
		}
	}
	if len(here) == 0 {
		return nil
	}
	if len(b.opening.waits) > 0 || len(here) > b.opts.OpenInline {
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
	for i, l := range b.openThem(now, here, b.partitionOptions) {
		if p := l.p; p != nil {
			b.noteFound(p, l.rec)
			p.SetFenced(now, b.lifecycle.lapsed)
			edit.open[partitionKey{here[i].topic.ID, here[i].number}] = p
		}
	}
	return edit
}

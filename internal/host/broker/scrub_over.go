package broker

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/host/partition"
)

// startOver sets the log aside and begins an empty one, which replication
// fills. That is for logs of which a part cannot be replaced, and only where
// another replica leads and this one counts for nothing. It runs on the control
// loop.
func (b *Broker) startOver(now time.Time, r *repair) {
	if b.closed || !b.mayStartOver(now, r) {
		return
	}
	// What this node knows may be old. When it has the answer, it acts on the image
	// in which this replica is unfit.
	b.tellDamaged(now, r, func(now time.Time, granted bool) {
		switch {
		case b.closed:
		case !granted:
			b.repairPaused(now, r, "the controller has not said that others can do without it")
		case b.mayStartOver(now, r):
			b.beginAnew(now, r)
		}
	})
}

// mayStartOver says whether another replica leads, and this one counts for
// nothing, as far as this node knows. Else it ends the run.
func (b *Broker) mayStartOver(now time.Time, r *repair) bool {
	state := b.image.Load().Topic(r.key.topic).Partition(r.key.partition)
	own := b.opts.Node
	switch {
	case state == nil || !state.IsReplica(own):
		b.scrub.mu.Lock()
		r.ranges, r.whole = nil, false
		b.scrub.mu.Unlock()
		b.repairEnded(now, r)
	case b.reopens(r.key):
		b.repairPaused(now, r, "")
	case state.Leader == kafka.NoNode || state.Leader == own || state.IsInSync(own) || slices.Contains(state.EligibleLeader, own):
		b.tellDamaged(now, r, func(time.Time, bool) {})
		b.repairPaused(now, r, "no other replica leads the partition and has all of it")
	case r.aside == "" && !b.roomBeside(b.partitionDir(r.topic, r.key.partition)):
		b.repairPaused(now, r, "the disk has no room for a copy beside what is set aside")
	default:
		return true
	}
	return false
}

// roomBeside says whether what is in a directory has room on the disk twice.
func (b *Broker) roomBeside(dir string) bool {
	entries, err := b.env.FS.List(dir)
	if err != nil {
		return true // setting it aside says more
	}
	size := int64(0)
	for _, e := range entries {
		if info, err := b.env.FS.Stat(path.Join(dir, e.Name)); err == nil {
			size += info.Size
		}
	}
	_, free, err := b.env.FS.Space(dir)
	return err != nil || size <= free
}

func (b *Broker) beginAnew(now time.Time, r *repair) {
	t := b.image.Load().Topic(r.key.topic)
	state := t.Partition(r.key.partition)
	edit := b.editPartitions()
	if p := edit.open[r.key]; p != nil {
		delete(edit.open, r.key)
		p.Abandon(now)
	}
	dir := b.partitionDir(t.Name, r.key.partition)
	var err error
	if r.aside == "" { // else what is there now is what could not be begun
		r.aside, err = b.putAside(dir, t.ID)
	}
	var p *partition.Partition
	if err == nil {
		p, err = b.openPartition(now, dir, b.partitionOptions(t, r.key.partition))
	}
	if err != nil {
		b.publish(edit)
		b.repairPaused(now, r, err.Error())
		return
	}
	edit.open[r.key] = p
	b.publish(edit)
	delete(b.fitness.found, r.key) // that was of the log before
	p.SetFenced(now, b.lifecycle.lapsed)
	p.Assign(now, b.assignment(state))
	s := &b.scrub
	s.mu.Lock()
	s.counts.StartedOver++
	delete(s.replicas, r.key)
	known := s.replica(r.key)
	known.repairs++
	known.repairedAt = now
	r.ranges, r.whole, r.over = nil, false, false
	s.mu.Unlock()
	b.env.Log.Warn("damaged log was set aside; it is copied anew from the leader", "topic", t.Name, "partition", r.key.partition,
		"node", b.opts.Node, "leader", state.Leader, "damage", r.why, "moved_to", r.aside)
	b.forgetAside(now, r.key, r.aside)
	r.aside = ""
	b.repairEnded(now, r)
}

// tellDamaged has the controller know that what this replica had acknowledged is
// lost, so that it is not taken for one that has it, and says whether it is so now.
// It is not heard where no other is in sync. Done is called once: a node that hears of
// no metadata may wait for long until it acts on the answer.
func (b *Broker) tellDamaged(now time.Time, r *repair, done func(now time.Time, granted bool)) {
	req := controller.ReportReplicas{Node: b.opts.Node, Epoch: b.lifecycle.epoch, Replicas: []controller.ReplicaReport{
		{Topic: r.key.topic, Partition: r.key.partition, Fitness: metadata.Damaged, Cause: r.why}}}
	over := false
	end := func(now time.Time, granted bool) {
		if !over {
			over = true
			done(now, granted)
		}
	}
	timer := b.At(now.Add(repairReportMax), func(time.Time) { b.env.Post(func(now time.Time) { end(now, false) }) })
	b.ask(now, req, fitnessTimeout, false, func(now time.Time, answer controller.Response, code kafka.ErrorCode) {
		timer.Cancel()
		res, _ := answer.(controller.ReportReplicasResult)
		end(now, code == kafka.None && res.Error == kafka.None && len(res.Replicas) == 1 && res.Replicas[0].Error == kafka.None)
	})
}

// putAside moves a log that cannot be used out of the way.
func (b *Broker) putAside(dir string, topic kafka.TopicID) (string, error) {
	base := path.Join(b.asideDir(), fmt.Sprintf("%s.%s.damaged", path.Base(dir), topic))
	to := base
	for i := 1; ; i++ {
		if _, err := b.env.FS.Stat(to); errors.Is(err, vfs.ErrNotExist) {
			break
		}
		to = fmt.Sprintf("%s.%d", base, i)
	}
	if err := b.move(dir, to); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return "", fmt.Errorf("set damaged log aside: %w", err)
	}
	return to, nil
}

const asidePoll = 5 * time.Second

// forgetAside removes a log that was set aside once its replacement is in sync with
// another that leads. After a restart it stays.
func (b *Broker) forgetAside(now time.Time, key partitionKey, dir string) {
	b.At(now.Add(asidePoll), func(time.Time) {
		b.env.Post(func(now time.Time) {
			state := b.image.Load().Topic(key.topic).Partition(key.partition)
			switch {
			case b.closed || state == nil || !state.IsReplica(b.opts.Node):
			case !state.IsInSync(b.opts.Node) || state.Leader == b.opts.Node: // it may have been elected uncleanly
				b.forgetAside(now, key, dir)
			default:
				b.env.Background(func(time.Time) {
					if err := b.env.FS.RemoveAll(dir); err != nil {
						b.env.Log.Error("damaged log that was set aside still takes space", "dir", dir, "err", err)
						return
					}
					b.env.Log.Info("damaged log that was set aside was removed: its copy is in sync", "dir", dir)
				})
			}
		})
	})
}

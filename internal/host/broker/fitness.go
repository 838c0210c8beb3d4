package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/host/partition"
	"chronik/internal/storage/wal"
)

// A replica that this node cannot use, because its log has failed or is
// damaged, leaves the in-sync set, and leadership goes to another: the
// controller is told, and keeps it out until it is told otherwise (KIP-112 has
// that for log directories). The rest of the node is not touched.
//
//	usable ──findUnfit──▶ found ──reported, granted──▶ marked in the image
//	   ▲                                                 │ its log is opened again,
//	   └──────reported as fit◀──found no more ◀──────────┘ now and then
//
// What is reported follows from what is found here and what the image says, so
// a report that is lost is made again, and a new process need not know what an
// earlier one has reported.

// finding is what is wrong with a replica of this node.
type finding struct {
	fitness metadata.Fitness
	cause   string
	tries   int       // to open its log again
	again   time.Time // the next, or the next look at a slow one; zero: not planned
}

// slowness is what is remembered of a replica that was slow, so that it does
// not come and go.
type slowness struct {
	times int
	last  time.Time
}

// fitness belongs to the control loop.
type fitness struct {
	found  map[partitionKey]*finding
	marked map[partitionKey]metadata.Fitness // replicas of this node that the image calls unfit
	slow   map[partitionKey]slowness
	// reopening are the partitions in whose directory a log is being opened again.
	// On a disk that hangs that may outlast what it was for.
	reopening map[kafka.TopicPartition]bool
	// offered are the partitions whose lead this node asks to be rid of. Another
	// may have it before this node knows, so meanwhile it takes itself for fenced.
	offered map[partitionKey]bool
	asking  bool
	asked   []controller.ReplicaReport // of the question, while asking
	retry   bool                       // a deadline for the next review is set
}

const (
	fitnessTimeout  = 2 * time.Second
	fitnessRetry    = 200 * time.Millisecond
	reopenMin       = 5 * time.Second
	reopenMax       = 5 * time.Minute
	fitnessBatchMax = 1000
	// A replica that was slow stays out of the in-sync set for this long, and
	// for longer when that comes again soon.
	slowHoldMin = 10 * time.Second
	slowHoldMax = 40 * time.Second
	slowForget  = 10 * time.Minute
	slowSync    = 500 * time.Millisecond // a sync that takes longer is not yet quick
)

// findUnfit notes that a replica of this node cannot be used. It may be called
// again with another cause.
func (b *Broker) findUnfit(now time.Time, key partitionKey, f metadata.Fitness, cause string) {
	if old := b.fitness.found[key]; old != nil {
		if old.fitness != f {
			old.again = time.Time{} // what was planned was for the other
		}
		old.fitness, old.cause = f, cause
	} else {
		if b.fitness.found == nil {
			b.fitness.found = make(map[partitionKey]*finding)
		}
		b.fitness.found[key] = &finding{fitness: f, cause: cause}
	}
	b.reviewFitness(now)
}

// findFit notes that a replica can be used again, unless something is left in it
// to be repaired.
func (b *Broker) findFit(now time.Time, key partitionKey) {
	delete(b.fitness.found, key)
	if r := b.repairOf(key); r != nil {
		b.findUnfit(now, key, metadata.Damaged, r.why)
		return
	}
	b.reviewFitness(now)
}

// markFitness notes what the image says of a partition of this node; state is
// nil when it has none any more.
func (b *Broker) markFitness(key partitionKey, state *metadata.Partition) {
	f := &b.fitness
	if state == nil || !state.IsReplica(b.opts.Node) {
		delete(f.found, key)
		delete(f.marked, key)
		delete(f.slow, key)
		return
	}
	if found := f.found[key]; found != nil && found.fitness == metadata.Slow && f.marked[key] == metadata.Slow && b.lacksReplicas(key, state) {
		delete(f.found, key) // better slow than none
	}
	i := slices.IndexFunc(state.Unfit, func(u metadata.Unfit) bool { return u.Node == b.opts.Node })
	if i < 0 {
		delete(f.marked, key)
		return
	}
	if f.marked == nil {
		f.marked = make(map[partitionKey]metadata.Fitness)
	}
	f.marked[key] = state.Unfit[i].Fitness
}

// news says whether the controller has to be told what was found, given what the
// image says: all, or that it is worse. A slow disk may fail; and a log that had
// failed be opened and be damaged, which has to be in use all the same where
// there is no other.
func (f *finding) news(marked metadata.Fitness) bool {
	return marked == metadata.Fit || marked == metadata.Slow && f.fitness != metadata.Slow || marked == metadata.Failed && f.fitness == metadata.Damaged
}

// lacksReplicas says whether a partition cannot be written with acks=all.
func (b *Broker) lacksReplicas(key partitionKey, state *metadata.Partition) bool {
	image := b.image.Load()
	t := image.Topic(key.topic)
	if t == nil {
		return false
	}
	c := b.resolver.Topic(image, t.Name)
	return state.Leader == kafka.NoNode || len(state.InSync) < min(int(c.MinInSync), len(state.Replicas))
}

// fitnessReports is what the controller does not know yet.
func (b *Broker) fitnessReports() []controller.ReplicaReport {
	f := &b.fitness
	var reports []controller.ReplicaReport
	for key, found := range f.found {
		if found.news(f.marked[key]) {
			reports = append(reports, controller.ReplicaReport{Topic: key.topic, Partition: key.partition, Fitness: found.fitness, Cause: found.cause})
		}
	}
	for key := range f.marked {
		if p := b.Partition(key.topic, key.partition); f.found[key] == nil && p != nil && p.Failure() == nil && !b.justDamaged(key) {
			reports = append(reports, controller.ReplicaReport{Topic: key.topic, Partition: key.partition, Fitness: metadata.Fit, Cause: "it can be used"})
		}
	}
	// Whether a report was decided that was not answered is not known before the
	// answer to a later one.
	for key := range f.offered {
		if f.found[key] == nil && f.marked[key] == metadata.Fit && b.Partition(key.topic, key.partition) != nil {
			reports = append(reports, controller.ReplicaReport{Topic: key.topic, Partition: key.partition, Fitness: metadata.Fit, Cause: "it can be used"})
		}
	}
	slices.SortFunc(reports, func(x, y controller.ReplicaReport) int {
		return partitionKey{x.Topic, x.Partition}.compare(partitionKey{y.Topic, y.Partition})
	})
	return reports[:min(len(reports), fitnessBatchMax)]
}

// reviewFitness reports what the controller does not know, and plans to open
// again what has failed.
func (b *Broker) reviewFitness(now time.Time) {
	f := &b.fitness
	if b.closed || len(f.found) == 0 && len(f.marked) == 0 && len(f.offered) == 0 {
		return
	}
	b.planReopening(now)
	if f.asking { // some of those may have come to lead since
		b.offerLeads(now, f.asked)
		return
	}
	if b.lifecycle.epoch == kafka.NoBrokerEpoch || !b.lifecycle.placed {
		return
	}
	reports := b.fitnessReports()
	b.offerLeads(now, reports)
	if len(reports) == 0 {
		return
	}
	f.asking, f.asked = true, reports
	req := controller.ReportReplicas{Node: b.opts.Node, Epoch: b.lifecycle.epoch, Replicas: reports}
	b.ask(now, req, fitnessTimeout, false, func(now time.Time, r controller.Response, code kafka.ErrorCode) {
		f.asking, f.asked = false, nil
		res, _ := r.(controller.ReportReplicasResult)
		if code == kafka.None {
			code = res.Error
		}
		if code == kafka.None { // and this node acts on what was decided
			b.offerLeads(now, nil)
			b.fitnessAnswered(now, reports, res.Replicas)
		}
		b.reviewFitnessLater(now)
	})
}

// offerLeads has those of the reported partitions that this node leads answer
// and acknowledge nothing, and all others that were offered go on. The lead of a
// partition that is nowhere else cannot go: its readers are served throughout.
func (b *Broker) offerLeads(now time.Time, reports []controller.ReplicaReport) {
	before := b.fitness.offered
	b.fitness.offered = nil
	for _, r := range reports {
		key := partitionKey{r.Topic, r.Partition}
		p := b.Partition(key.topic, key.partition)
		if p == nil || r.Fitness == metadata.Fit && !before[key] {
			continue
		}
		if _, leads := p.Leads(); !leads && !before[key] || len(p.Status().Replicas) == 1 {
			continue
		}
		if b.fitness.offered == nil {
			b.fitness.offered = make(map[partitionKey]bool)
		}
		b.fitness.offered[key] = true
		p.SetFenced(now, true)
	}
	for _, key := range slices.SortedFunc(maps.Keys(before), partitionKey.compare) {
		if p := b.Partition(key.topic, key.partition); p != nil && !b.fitness.offered[key] {
			p.SetFenced(now, b.lifecycle.lapsed)
		}
	}
}

// fitnessAnswered takes the controller's word on each report: of one that it
// refuses, which the partition cannot do without, nothing more is asked.
func (b *Broker) fitnessAnswered(now time.Time, reports []controller.ReplicaReport, answers []controller.ReportedReplica) {
	for i, a := range answers {
		if i >= len(reports) || a.Error != kafka.ErrNotEnoughReplicas {
			continue
		}
		key := partitionKey{reports[i].Topic, reports[i].Partition}
		if found := b.fitness.found[key]; found != nil && found.fitness == reports[i].Fitness {
			delete(b.fitness.found, key)
			b.env.Log.Warn("unfit replica stays in use: the partition cannot do without it", "topic_id", key.topic.String(), "partition", key.partition,
				"err", reports[i].Cause, "cause", a.Message)
		}
	}
}

// reviewFitnessLater reviews once more, if there is something left to report.
func (b *Broker) reviewFitnessLater(now time.Time) {
	b.planReopening(now)
	if b.fitness.retry || len(b.fitnessReports()) == 0 {
		return
	}
	b.fitness.retry = true
	b.At(now.Add(fitnessRetry), func(time.Time) {
		b.env.Post(func(now time.Time) {
			b.fitness.retry = false
			b.reviewFitness(now)
			b.drain(now)
		})
	})
}

// unreported says whether the controller has still to learn of a replica that
// this node cannot use. Before, the node must not be counted on.
func (b *Broker) unreported() bool {
	for key, found := range b.fitness.found {
		if found.fitness == metadata.Failed && found.news(b.fitness.marked[key]) {
			return true
		}
	}
	return false
}

// planReopening has the logs opened again that have failed and that the
// controller no longer counts on: only then may they come back with less than
// was in them.
func (b *Broker) planReopening(now time.Time) {
	keys := slices.SortedFunc(maps.Keys(b.fitness.found), partitionKey.compare)
	for _, key := range keys {
		found := b.fitness.found[key]
		if b.fitness.marked[key] == metadata.Fit || b.reopens(key) || !found.again.IsZero() {
			continue
		}
		if found.fitness == metadata.Slow {
			b.planReturn(now, key, found)
			continue
		}
		if found.fitness != metadata.Failed {
			continue
		}
		found.again = now.Add(min(reopenMin<<min(found.tries, 10), reopenMax))
		b.At(found.again, func(time.Time) {
			b.env.Post(func(now time.Time) { b.reopen(now, key, found) })
		})
	}
}

// reopens says whether a log is being opened again in a partition's directory,
// be it that of a replica which is not here any more.
func (b *Broker) reopens(key partitionKey) bool {
	t := b.image.Load().Topic(key.topic)
	return t != nil && b.fitness.reopening[kafka.TopicPartition{Topic: t.Name, Partition: key.partition}]
}

// reopen opens a failed log afresh, with recovery from what the disk really
// has. The files are read in the background.
func (b *Broker) reopen(now time.Time, key partitionKey, found *finding) {
	found.again = time.Time{}
	t := b.image.Load().Topic(key.topic)
	if b.closed || b.fitness.found[key] != found || b.reopens(key) || t.Partition(key.partition) == nil {
		return
	}
	if b.fitness.marked[key] == metadata.Fit {
		b.reviewFitness(now)
		return
	}
	if b.fitness.reopening == nil {
		b.fitness.reopening = make(map[kafka.TopicPartition]bool)
	}
	tp := kafka.TopicPartition{Topic: t.Name, Partition: key.partition}
	b.fitness.reopening[tp] = true
	found.tries++
	old := b.Partition(key.topic, key.partition)
	dir, opts := b.partitionDir(t.Name, key.partition), b.partitionOptions(t, key.partition)
	b.env.Background(func(now time.Time) {
		if old != nil {
			old.Abandon(now)
		}
		var p *partition.Partition
		var rec partition.Recovery
		err := b.mayOpen()
		if err == nil {
			p, rec, err = partition.Open(now, b.env.FS, dir, opts, partitionEnv{b})
		}
		b.env.Post(func(now time.Time) {
			delete(b.fitness.reopening, tp)
			b.reopened(now, key, t.Name, found, p, rec, err)
			b.drain(now)
		})
	})
}

func (b *Broker) reopened(now time.Time, key partitionKey, topic string, found *finding, p *partition.Partition, rec partition.Recovery, err error) {
	t := b.image.Load().Topic(key.topic)
	state := t.Partition(key.partition)
	if b.closed || b.fitness.found[key] != found || state == nil || !state.IsReplica(b.opts.Node) {
		if err == nil {
			p.Abandon(now)
		}
		if b.closed {
			return
		}
		if !b.replicaHere(key) { // deleted or moved away meanwhile: what was opened may be a directory made anew
			b.discardUnopened(topic, key)
			b.settleGone()
		}
		b.planReopening(now) // of what has waited for this
		return
	}
	if err != nil {
		if found.cause != err.Error() && !errors.Is(err, wal.ErrClosed) {
			found.cause = err.Error()
			b.env.Log.Error("partition could not be opened again", "topic", t.Name, "partition", key.partition, "tries", found.tries, "err", err)
		}
		b.noteUnopened(now, key, t.Name, err)
		b.planReopening(now)
		return
	}
	b.logRecovery(t.Name, key.partition, rec)
	b.env.Log.Info("partition opened again", "topic", t.Name, "partition", key.partition, "tries", found.tries, "end", int64(p.LogEnd()), "failure", found.cause)
	edit := b.editPartitions()
	edit.open[key] = p
	b.publish(edit)
	p.Configure(now, b.topicConfig(b.image.Load(), t.Name))
	p.SetBrokerEpoch(now, b.lifecycle.epoch)
	p.SetFenced(now, b.lifecycle.lapsed)
	p.Assign(now, b.assignment(state))
	b.noteFound(p, rec)
	b.findFit(now, key)
}

// noteSlow takes the word of a partition that this node leads that its disk is
// slow and another's is not. When it was slow shortly before, it is out for longer.
func (b *Broker) noteSlow(now time.Time, p *partition.Partition, since time.Duration) {
	key := partitionKey{p.TopicID(), p.Number()}
	if b.closed || b.Partition(key.topic, key.partition) != p || b.fitness.found[key] != nil {
		return
	}
	b.env.Log.Warn("disk is slow: leadership is offered to a replica in sync", "topic", p.Topic(), "partition", p.Number(), "sync", since)
	b.findUnfit(now, key, metadata.Slow, fmt.Sprintf("its disk has not synced in %v what others in sync have", since.Round(100*time.Millisecond)))
	b.drain(now)
}

// planReturn lets a slow replica back after a while, if its disk is quick then.
func (b *Broker) planReturn(now time.Time, key partitionKey, found *finding) {
	s := b.fitness.slow[key]
	if now.Sub(s.last) > slowForget {
		s.times = 0
	}
	hold := min(slowHoldMin<<min(s.times, 10), slowHoldMax)
	if b.fitness.slow == nil {
		b.fitness.slow = make(map[partitionKey]slowness)
	}
	b.fitness.slow[key] = slowness{s.times + 1, now}
	b.lookLater(now, hold, key, found)
}

func (b *Broker) lookLater(now time.Time, after time.Duration, key partitionKey, found *finding) {
	found.again = now.Add(after)
	b.At(found.again, func(time.Time) {
		b.env.Post(func(then time.Time) {
			if b.closed || b.fitness.found[key] != found || found.fitness != metadata.Slow {
				return
			}
			if p := b.Partition(key.topic, key.partition); p != nil && p.SyncTime(then, now) > slowSync {
				b.lookLater(then, slowHoldMin, key, found)
				return
			}
			b.findFit(then, key)
			b.drain(then)
		})
	})
}

// noteFailure takes a partition's word that its log has failed.
func (b *Broker) noteFailure(now time.Time, p *partition.Partition, err error) {
	key := partitionKey{p.TopicID(), p.Number()}
	if b.closed || b.Partition(key.topic, key.partition) != p {
		return
	}
	if isCorrupt(err) { // it is damaged where it is to be cut, and opened again it would be
		b.noteUnopened(now, key, p.Topic(), err)
	}
	b.findUnfit(now, key, metadata.Failed, err.Error())
	b.drain(now)
}

package broker

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
	"chronik/internal/host/peer"
	"chronik/internal/storage/wal"
)

// repair is what is done about a replica of this node of which something is
// not as it should be. One runs at a time.
//
//	segments are bad ──▶ unfit ──▶ each is made anew from another replica's batches ──▶ fit
//	                                │ compacted, or another history
//	the log cannot be opened ───────┴──▶ set aside as a whole, copied anew by replication ──▶ fit
//
// Nothing is removed before what replaces it is on the disk. The scrubber's
// lock guards it.
type repair struct {
	key    partitionKey
	topic  string
	why    string
	ranges []offsetRange // each begins in a bad segment
	whole  bool          // the whole log is to be verified first, from next on
	next   kafka.Offset
	over   bool   // the log is to be set aside
	aside  string // where it was; the control loop's
	since  time.Time
	again  time.Time // the next attempt; zero: now
	tries  int
	stuck  string // why the last attempt was in vain
}

type offsetRange struct{ from, to kafka.Offset }

const (
	repairChunkMax  = 1 << 20
	repairAnswerMax = 5 * time.Second
	repairReportMax = 5 * time.Second // how long the controller has to take the replica out
	repairPoll      = 50 * time.Millisecond
	repairRetryMin  = time.Second
	repairRetryMax  = 30 * time.Second
	repairVerify    = 4 << 20
)

func (b *Broker) replicaHere(key partitionKey) bool {
	state := b.image.Load().Topic(key.topic).Partition(key.partition)
	return state != nil && state.IsReplica(b.opts.Node)
}

func isCorrupt(err error) bool { return errors.Is(err, wal.ErrCorrupt) }

// Damaged implements partition.Env.
func (e partitionEnv) Damaged(p *partition.Partition, d *wal.CorruptError) { e.b.noteDamage(p, d) }

// noteDamage has a segment repaired that a reader, or the scrubber, has met as
// damaged. Any goroutine may call it, as often as it likes.
func (b *Broker) noteDamage(p *partition.Partition, d *wal.CorruptError) {
	base, ok := d.Segment()
	if !ok {
		base = d.Offset
	}
	if b.noteBad(p, d.Error(), base, base+1) {
		s := &b.scrub
		s.mu.Lock()
		s.counts.Damages++
		if mutant.On(mutant.ScrubMiscounts) {
			s.counts.Damages++
		}
		s.replica(partitionKey{p.TopicID(), p.Number()}).damages++
		s.mu.Unlock()
		b.env.Log.Error("log is damaged", "topic", p.Topic(), "partition", p.Number(), "node", b.opts.Node, "err", d)
	}
}

// noteBad has the segments repaired that hold the offsets. It says whether that
// is news.
func (b *Broker) noteBad(p *partition.Partition, why string, from, to kafka.Offset) bool {
	key := partitionKey{p.TopicID(), p.Number()}
	s := &b.scrub
	s.mu.Lock()
	r := s.repairs[key]
	news := r == nil
	if news {
		r = b.newRepair(key, p.Topic(), why)
	}
	known := slices.ContainsFunc(r.ranges, func(o offsetRange) bool { return o.from <= from && to <= o.to })
	if !known {
		r.ranges = append(r.ranges, offsetRange{from, to})
	}
	s.mu.Unlock()
	if news {
		b.env.Post(func(now time.Time) { b.beginRepair(now, r) })
	}
	return !known
}

// newRepair is called with the lock held.
func (b *Broker) newRepair(key partitionKey, topic, why string) *repair {
	r := &repair{key: key, topic: topic, why: why}
	if b.scrub.repairs == nil {
		b.scrub.repairs = make(map[partitionKey]*repair)
	}
	b.scrub.repairs[key] = r
	return r
}

// noteUnopened has a log set aside that cannot be opened, or cut, because of what
// is on the disk. The controller is told. It runs on the control loop.
func (b *Broker) noteUnopened(now time.Time, key partitionKey, topic string, err error) {
	if !errors.Is(err, wal.ErrCorrupt) && !errors.Is(err, wal.ErrForeign) {
		return
	}
	s := &b.scrub
	s.mu.Lock()
	r := s.repairs[key]
	news := r == nil
	if news {
		r = b.newRepair(key, topic, err.Error())
		r.since = now
		s.counts.Damages++
		s.replica(key).damages++
	}
	r.over = true
	s.mu.Unlock()
	if news {
		b.wakeRepair(now)
	}
}

// noteFound takes in what opening a log has met.
func (b *Broker) noteFound(p *partition.Partition, rec partition.Recovery) {
	for _, d := range rec.Found {
		b.noteDamage(p, d)
	}
	if rec.CheckpointLost {
		b.noteCheckpointLost(p)
	}
}

// noteCheckpointLost has a log verified as a whole of which nothing says any more how
// far it was synced: what it could not read at its end was taken for what never was.
// Nor does anything say where it begins, which it learns from its leader.
func (b *Broker) noteCheckpointLost(p *partition.Partition) {
	key := partitionKey{p.TopicID(), p.Number()}
	b.env.Log.Error("checkpoint of a log is lost: all of the log is verified before it is in use again", "topic", p.Topic(), "partition", p.Number(),
		"node", b.opts.Node, "start", int64(p.LogStart()), "end", int64(p.LogEnd()))
	s := &b.scrub
	s.mu.Lock()
	r := s.repairs[key]
	news := r == nil
	if news {
		r = b.newRepair(key, p.Topic(), "its checkpoint is lost")
	}
	r.whole = true
	s.counts.Damages++
	s.replica(key).damages++
	s.mu.Unlock()
	if news {
		b.env.Post(func(now time.Time) { b.beginRepair(now, r) })
	}
}

// noteSuspects has logs verified as a whole before they are used: the image
// says that an earlier process of this node has found them damaged.
func (b *Broker) noteSuspects(now time.Time, here []placed) {
	for _, h := range here {
		for _, u := range h.state.Unfit {
			if p := b.Partition(h.topic.ID, h.number); u.Node == b.opts.Node && u.Fitness == metadata.Damaged && p != nil {
				b.noteSuspect(now, p, u.Cause)
			}
		}
	}
}

func (b *Broker) noteSuspect(now time.Time, p *partition.Partition, cause string) {
	key := partitionKey{p.TopicID(), p.Number()}
	s := &b.scrub
	s.mu.Lock()
	r := s.repairs[key]
	news := r == nil
	if news {
		r = b.newRepair(key, p.Topic(), cause)
	}
	r.whole = true
	s.mu.Unlock()
	if news {
		b.beginRepair(now, r)
	}
}

// beginRepair tells the controller first: the replica may not lead, nor count.
// It runs on the control loop.
func (b *Broker) beginRepair(now time.Time, r *repair) {
	if b.closed {
		return
	}
	b.scrub.mu.Lock()
	r.since = now
	b.scrub.mu.Unlock()
	b.findDamaged(now, r)
	b.awaitUnfit(now, r)
}

// findDamaged says that the replica is damaged, unless its log has failed, and
// is opened again first. One that has moved away may come back and be opened as
// a new one, which nothing found before may prevent.
func (b *Broker) findDamaged(now time.Time, r *repair) {
	b.scrub.mu.Lock()
	over := r.over
	b.scrub.mu.Unlock()
	here := b.replicaHere(r.key) && (over || b.Partition(r.key.topic, r.key.partition) != nil)
	if b.closed || !here || b.repairOf(r.key) != r || b.fitness.found[r.key] != nil {
		return
	}
	b.findUnfit(now, r.key, metadata.Damaged, r.why)
	b.drain(now)
}

// awaitUnfit goes on when the replica is out, or may not go. A controller that
// does not answer stops nothing: what is put in the place of bad records is right
// whoever leads.
func (b *Broker) awaitUnfit(now time.Time, r *repair) {
	waits := b.fitness.found[r.key] != nil && b.fitness.marked[r.key] == metadata.Fit && now.Sub(r.since) < repairReportMax
	if b.closed {
		return
	}
	if waits {
		b.At(now.Add(repairPoll), func(time.Time) { b.env.Post(func(now time.Time) { b.awaitUnfit(now, r) }) })
		return
	}
	b.wakeRepair(now)
}

// wakeRepair runs the repair that is due, if none runs, or sees to it that it is
// run later.
func (b *Broker) wakeRepair(now time.Time) {
	s := &b.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repairing || b.stopping.Load() {
		return
	}
	var next *repair
	for _, r := range s.repairs {
		if r.since.IsZero() {
			continue // has not begun
		}
		earlier := next == nil || r.again.Before(next.again) || r.again.Equal(next.again) && r.key.compare(next.key) < 0
		if earlier {
			next = r
		}
	}
	switch {
	case next == nil:
	case next.again.After(now):
		at := next.again
		b.At(at, b.wakeRepair)
	default:
		s.repairing = true
		b.env.Background(func(now time.Time) { b.runRepair(now, next) })
	}
}

// repairPaused ends a run; the repair goes on later, or is done.
func (b *Broker) repairPaused(now time.Time, r *repair, why string) {
	s := &b.scrub
	s.mu.Lock()
	s.repairing = false
	r.tries++
	r.again = now.Add(min(repairRetryMin<<min(r.tries-1, 10), repairRetryMax))
	news := why != "" && why != r.stuck
	r.stuck = why
	if news {
		s.counts.Failures++
	}
	s.mu.Unlock()
	if news {
		b.env.Log.Error("damaged replica cannot be repaired now; nothing was removed", "topic", r.topic, "partition", r.key.partition,
			"node", b.opts.Node, "damage", r.why, "cause", why)
	}
	if p := b.Partition(r.key.topic, r.key.partition); p != nil {
		p.CheckLog(now)
	}
	b.env.Post(func(now time.Time) { b.findDamaged(now, r) }) // the partition may do without it by now
	b.wakeRepair(now)
}

// repairEnded forgets a repair that is done, or of a replica that has gone.
func (b *Broker) repairEnded(now time.Time, r *repair) {
	s := &b.scrub
	s.mu.Lock()
	s.repairing = false
	if len(r.ranges) > 0 || r.whole { // more was found meanwhile
		s.mu.Unlock()
		b.wakeRepair(now)
		return
	}
	delete(s.repairs, r.key)
	s.mu.Unlock()
	b.env.Post(func(now time.Time) {
		if f := b.fitness.found[r.key]; !b.closed && b.repairOf(r.key) == nil && (f == nil || f.fitness == metadata.Damaged) {
			b.findFit(now, r.key)
			b.drain(now)
		}
	})
	b.wakeRepair(now)
}

func (b *Broker) repairOf(key partitionKey) *repair {
	b.scrub.mu.Lock()
	defer b.scrub.mu.Unlock()
	return b.scrub.repairs[key]
}

// justDamaged says whether damage was met of which the control loop has still to
// learn: the replica is not fit, whatever else it finds.
func (b *Broker) justDamaged(key partitionKey) bool {
	b.scrub.mu.Lock()
	defer b.scrub.mu.Unlock()
	r := b.scrub.repairs[key]
	return r != nil && r.since.IsZero()
}

// runRepair does the next thing about a replica.
func (b *Broker) runRepair(now time.Time, r *repair) {
	s := &b.scrub
	s.mu.Lock()
	over, whole := r.over, r.whole
	var bad offsetRange
	if len(r.ranges) > 0 {
		bad = r.ranges[0]
	}
	s.mu.Unlock()
	if over {
		b.env.Post(func(now time.Time) { b.startOver(now, r); b.drain(now) })
		return
	}
	p := b.Partition(r.key.topic, r.key.partition)
	switch {
	case b.stopping.Load():
		b.repairPaused(now, r, "")
	case p != nil && p.Failure() != nil || p == nil && b.replicaHere(r.key): // until it is opened again
		b.repairPaused(now, r, "")
	case p == nil:
		s.mu.Lock()
		r.ranges, r.whole = nil, false
		s.mu.Unlock()
		b.repairEnded(now, r)
	case whole:
		b.verifyWhole(now, r, p)
	case bad == offsetRange{}:
		if err := p.Relearn(now); err != nil {
			b.repairPaused(now, r, err.Error())
			return
		}
		b.repairEnded(now, r)
	default:
		b.repairSegment(now, r, p, bad)
	}
}

// verifyWhole goes over the log of a replica that is suspect. What it finds is
// added to the repair.
func (b *Broker) verifyWhole(now time.Time, r *repair, p *partition.Partition) {
	s := &b.scrub
	start, _, end := p.Durable()
	from := max(r.next, start)
	piece := wal.Piece{To: from}
	var err error
	if from < end {
		piece, err = p.Verify(from, end, repairVerify, 0)
	}
	if err != nil {
		b.repairPaused(now, r, err.Error())
		return
	}
	if piece.To > from {
		b.tookPiece(now, p, r.key, piece)
	}
	s.mu.Lock()
	s.counts.Bytes += piece.Bytes
	r.next = piece.To
	r.whole = piece.To > from && piece.To < end
	s.mu.Unlock()
	b.env.Background(func(now time.Time) { b.runRepair(now, r) })
}

// mending is the repair of one segment.
type mending struct {
	r       *repair
	p       *partition.Partition
	bad     offsetRange
	segment *wal.Repair
	sources []kafka.NodeID
	leader  kafka.NodeID
	bytes   int64
	why     string // the last source gave nothing
	other   bool   // the leader has another history
}

func (b *Broker) repairSegment(now time.Time, r *repair, p *partition.Partition, bad offsetRange) {
	state := b.image.Load().Topic(r.key.topic).Partition(r.key.partition)
	if state == nil || max(bad.from, p.LogStart()) >= p.LogEnd() || bad.to <= p.LogBase() { // all of it was truncated, or deleted
		b.rangeDone(now, r, bad, bad.to)
		return
	}
	m := &mending{r: r, p: p, bad: bad, sources: b.repairSources(state), leader: state.Leader, why: "there is no other replica"}
	if len(state.Replicas) > 1 {
		m.why = "no other replica is up"
	}
	b.mendFromNext(now, m)
}

// rangeDone takes a range off the list, or its begin up to where it is mended.
func (b *Broker) rangeDone(now time.Time, r *repair, bad offsetRange, upTo kafka.Offset) {
	s := &b.scrub
	s.mu.Lock()
	i := slices.Index(r.ranges, bad)
	switch {
	case i < 0:
	case upTo < bad.to:
		r.ranges[i].from = upTo
	default:
		r.ranges = slices.Delete(r.ranges, i, i+1)
	}
	r.tries = 0
	s.mu.Unlock()
	b.env.Background(func(now time.Time) { b.runRepair(now, r) })
}

// mendFromNext begins to copy the segment from the first source left.
func (b *Broker) mendFromNext(now time.Time, m *mending) {
	if len(m.sources) == 0 {
		if m.other {
			b.mustStartOver(now, m.r)
			return
		}
		b.repairPaused(now, m.r, m.why)
		return
	}
	var err error
	m.segment, err = m.p.BeginRepair(max(m.bad.from, m.p.LogStart()))
	switch {
	case errors.Is(err, wal.ErrCompacted):
		b.mustStartOver(now, m.r)
	case err != nil:
		b.repairPaused(now, m.r, err.Error())
	default:
		b.fetchOn(now, m)
	}
}

func (b *Broker) mustStartOver(now time.Time, r *repair) {
	b.scrub.mu.Lock()
	r.over = true
	b.scrub.mu.Unlock()
	b.env.Background(func(now time.Time) { b.runRepair(now, r) })
}

// fetchOn asks the source for the next batches of the segment.
func (b *Broker) fetchOn(now time.Time, m *mending) {
	q := peer.Scrub{Kind: peer.AskBatches, Topic: m.r.key.topic, Partition: m.r.key.partition,
		From: m.segment.Next(), To: m.segment.To(), Max: repairChunkMax}
	b.askScrub(now, m.sources[0], q, repairAnswerMax, func(_ time.Time, answer *peer.Scrub) {
		var a peer.Scrub
		if answer != nil {
			a = *answer
			a.Data = slices.Clone(a.Data)
		}
		b.env.Background(func(now time.Time) { b.fetched(now, m, &a) })
	})
}

func (b *Broker) fetched(now time.Time, m *mending, a *peer.Scrub) {
	source := m.sources[0]
	err := b.takeBatches(m, a)
	switch {
	case err == nil && m.segment.Next() < m.segment.To():
		b.fetchOn(now, m)
		return
	case err == nil:
		err = m.segment.Commit()
	default:
		m.segment.Abort()
	}
	if err == nil {
		b.mended(now, m)
		return
	}
	m.why = fmt.Sprintf("node %d: %v", source, err)
	m.other = m.other || source == m.leader && errors.Is(err, wal.ErrOrder)
	m.sources = m.sources[1:]
	b.mendFromNext(now, m)
}

// takeBatches puts what a source has sent into the new segment.
func (b *Broker) takeBatches(m *mending, a *peer.Scrub) error {
	switch {
	case a.Kind == 0:
		return fmt.Errorf("no answer within %v", repairAnswerMax)
	case a.Status != peer.ScrubOK:
		return errors.New(a.Status.String())
	}
	for rest := a.Data; len(rest) > 0; {
		batch, next, err := record.Next(rest)
		if err != nil {
			return err
		}
		if err := m.segment.Append(batch); err != nil {
			return err
		}
		m.bytes += int64(len(batch))
		rest = next
	}
	return nil
}

func (b *Broker) mended(now time.Time, m *mending) {
	s := &b.scrub
	s.mu.Lock()
	s.counts.Repairs++
	known := s.replica(m.r.key)
	known.repairs++
	known.repairedAt = now
	s.mu.Unlock()
	b.env.Log.Info("segment repaired", "topic", m.r.topic, "partition", m.r.key.partition, "node", b.opts.Node,
		"from", int64(m.segment.From()), "to", int64(m.segment.To()), "source", m.sources[0], "bytes", m.bytes)
	if mutant.On(mutant.FitTooEarly) {
		b.env.Post(func(now time.Time) {
			delete(b.fitness.found, m.r.key)
			b.reviewFitness(now)
			b.drain(now)
		})
	}
	b.rangeDone(now, m.r, m.bad, m.segment.To())
}

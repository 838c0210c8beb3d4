package replica

import (
	"slices"
	"time"

	"chronik/internal/base/invariant"
	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
)

// leading is what only a leader has.
type leading struct {
	epochStart kafka.Offset
	followers  []*follower // in the order of Replicas
	onSync     waitlist    // acks=1
	onCommit   waitlist    // acks=all
	onStart    waitlist    // DeleteRecords: upTo is a low watermark
	expiry     time.Time   // of the first ticket that may expire
	refuseAt   time.Time   // when those who wait are told that the node is fenced
	change     pendingChange
	changeAt   time.Time // no wish for another in-sync set before
	changeSeq  uint64
	disk       ownDisk
}

// lead begins a leader epoch. Its start must be durable before anything of it
// is (KIP-101), so it stands before all else in Ready.
func (r *Replica) lead(now time.Time, again bool) {
	l := &r.leader
	l.epochStart = r.end
	l.change, l.changeAt = pendingChange{}, time.Time{}
	if !again {
		l.onSync, l.onCommit, l.onStart, l.expiry = waitlist{}, waitlist{}, waitlist{}, time.Time{}
	}
	if !mutant.On(mutant.EpochStartUnnoted) && r.epochs.assign(r.assignment.LeaderEpoch, r.end) {
		r.out.Epoch = &EpochStart{r.assignment.LeaderEpoch, r.end}
	}
	r.session = max(r.session, uint64(max(0, now.UnixMicro())))
	l.followers = nil
	r.updateFollowers(now)
}

// resign answers all who wait: this node can no longer tell what becomes of
// their records.
func (r *Replica) resign() {
	l := &r.leader
	refuse := func(w waiting) { r.refuse(w.ticket, kafka.ErrNotLeaderOrFollower) }
	if mutant.On(mutant.AckAfterStepDown) {
		refuse = func(w waiting) { r.ack(w.ticket, w.offset, w.timestamp) }
	}
	r.refuseWaiting(refuse)
	clear(r.producers.guards)
	*l = leading{changeSeq: l.changeSeq}
}

// refuseWaiting answers all who wait for a record to be safe, or for a log to
// begin elsewhere.
func (r *Replica) refuseWaiting(refuse func(waiting)) {
	l := &r.leader
	l.onSync.drain(refuse)
	l.onCommit.drain(refuse)
	l.onStart.drain(refuse)
	l.expiry = time.Time{}
}

// updateFollowers makes the list of followers fit the assignment.
func (r *Replica) updateFollowers(now time.Time) {
	old := r.leader.followers
	r.leader.followers = make([]*follower, 0, len(r.assignment.Replicas))
	for _, node := range r.assignment.Replicas {
		if node == r.opts.Node {
			continue
		}
		i := slices.IndexFunc(old, func(f *follower) bool { return f.node == node })
		if i >= 0 {
			r.leader.followers = append(r.leader.followers, old[i])
			continue
		}
		f := &follower{node: node, epoch: kafka.NoBrokerEpoch, seenEpoch: kafka.NoBrokerEpoch}
		for _, b := range r.assignment.Brokers {
			if b.Node == node {
				f.seenEpoch, f.active = b.Epoch, b.Active
			}
		}
		if slices.Contains(r.assignment.InSync, node) {
			f.caughtUpAt = now
		}
		r.leader.followers = append(r.leader.followers, f)
		r.ask(now, f, Probe, 0, 0)
	}
	r.updateBrokers(now, r.assignment.Brokers)
}

func (r *Replica) updateBrokers(now time.Time, brokers []Broker) {
	r.assignment.Brokers = slices.Clone(brokers)
	if r.role != Leader {
		return
	}
	for _, f := range r.leader.followers {
		was := f.active
		f.active, f.epoch = false, kafka.NoBrokerEpoch
		for _, b := range brokers {
			if b.Node == f.node {
				f.active, f.epoch = b.Active, b.Epoch
			}
		}
		// Its log may have failed meanwhile, or been set aside, and its word of that
		// be lost: what it has told before counts no more.
		if f.active && !was {
			r.ask(now, f, Probe, 0, 0)
		}
	}
	r.markInSync()
	r.advance(now)
}

// Propose asks for a batch to be appended. What becomes of it comes with Acked
// or Refused, maybe at once.
func (r *Replica) Propose(now time.Time, p Proposal) {
	invariant.Check(!r.writing.active, "proposes while a write is under way")
	b := record.Batch(p.Batch)
	var code kafka.ErrorCode
	switch {
	case r.role != Leader || r.fenced:
		code = kafka.ErrNotLeaderOrFollower
	case p.Acks == -1 && len(r.assignment.InSync) < r.minInSync():
		code = kafka.ErrNotEnoughReplicas
	}
	if code != kafka.None {
		r.producers.noteRefused(now, b)
		r.refuse(p.Ticket, code)
		return
	}
	if b.HasProducerID() && !b.IsControl() {
		duplicate, code := r.producers.check(now, b, &p)
		if code != kafka.None {
			r.refuse(p.Ticket, code)
			return
		}
		if duplicate != nil {
			if mutant.On(mutant.DuplicateAcked) {
				p.Acks = 0
			}
			r.wait(&p, waiting{ticket: p.Ticket, upTo: duplicate.lastOffset + 1, deadline: p.Deadline,
				offset: duplicate.lastOffset - kafka.Offset(duplicate.offsetDelta), timestamp: duplicate.timestamp})
			return
		}
	}
	r.write(p, b)
}

func (r *Replica) write(p Proposal, b record.Batch) {
	record.Stamp(b, r.end, r.assignment.LeaderEpoch)
	r.writing = write{active: true, records: b, end: b.NextOffset(), proposal: p, base: r.end}
	r.out.Write = b
}

// WriteMarker asks for the end of a transaction to be appended, as by a
// Proposal with acks=all.
func (r *Replica) WriteMarker(now time.Time, t Ticket, m Marker, deadline time.Time) {
	invariant.Check(!r.writing.active, "proposes while a write is under way")
	var code kafka.ErrorCode
	switch {
	case r.role != Leader || r.fenced:
		code = kafka.ErrNotLeaderOrFollower
	case len(r.assignment.InSync) < r.minInSync():
		code = kafka.ErrNotEnoughReplicas
	default:
		code = r.producers.checkMarker(m)
	}
	if code != kafka.None {
		r.refuse(t, code)
		return
	}
	b := record.Marker{ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch,
		CoordinatorEpoch: m.CoordinatorEpoch, Commit: m.Commit, Timestamp: now.UnixMilli()}.Batch()
	r.write(Proposal{Ticket: t, Batch: b, Acks: -1, Deadline: deadline}, b)
}

// appended goes on after the leader's write.
func (r *Replica) appended(now time.Time, w *write, base kafka.Offset) {
	for _, f := range r.leader.followers {
		if f.synced >= base && f.streaming {
			f.caughtUpAt = now // it had all until just now
		}
		if mutant.On(mutant.ShipByTimer) {
			continue
		}
		if f.streaming && f.next == base && !f.reading && f.room(&r.opts) && !r.throttled(f) {
			r.stream(now, f, w.records, w.end)
		} else {
			r.fill(now, f)
		}
	}
	p := &w.proposal
	r.wait(p, waiting{ticket: p.Ticket, upTo: w.end, offset: base, timestamp: record.NoTimestamp, deadline: p.Deadline})
	if r.config.Relaxed {
		r.advance(now)
	} else if r.leader.disk.markAt.IsZero() {
		r.reviewOwnDisk(now)
	}
}

// wait answers the proposal or puts it into the list for its acks.
func (r *Replica) wait(p *Proposal, w waiting) {
	l := &r.leader
	reached, list := r.end, &l.onSync
	switch p.Acks {
	case 1:
		if reached = r.durable(); mutant.On(mutant.AckOneUnsynced) {
			reached = r.end
		}
	case -1:
		reached, list = r.highWatermark, &l.onCommit
	}
	if w.upTo <= reached {
		r.ack(w.ticket, w.offset, w.timestamp)
		return
	}
	if w.ticket == NoTicket {
		return
	}
	list.push(w)
	l.expiry = earlier(l.expiry, w.deadline)
}

// minInSync is the effective min.insync.replicas: no more than there are replicas.
func (r *Replica) minInSync() int {
	if mutant.On(mutant.MinInSyncIgnored) {
		return 1
	}
	return max(1, min(r.config.MinInSync, len(r.assignment.Replicas)))
}

// MinInSync is the effective min.insync.replicas.
func (r *Replica) MinInSync() int { return r.minInSync() }

// advance moves the high watermark as far as the in-sync set allows, answers
// who waited for it, and looks after the in-sync set.
func (r *Replica) advance(now time.Time) {
	reached := r.durable()
	if mutant.On(mutant.UnsyncedLeader) {
		reached = r.end
	}
	for _, f := range r.leader.followers {
		granted := f.inSync || f.wanted && !mutant.On(mutant.CommitOnCurrentSet)
		f.holding = !granted && !mutant.On(mutant.CommitOnCurrentSet) && f.synced < reached && f.holds(now, r.opts.JoinWindow)
		if granted || f.holding {
			reached = min(reached, f.synced)
		}
	}
	if reached > r.highWatermark && len(r.assignment.InSync) >= r.minInSync() {
		r.highWatermark = reached
		r.producers.committed(reached)
		r.note(now)
	}
	r.adoptStart(now)
	if !mutant.On(mutant.AckByTimer) {
		r.release()
	}
	if !mutant.On(mutant.DeletedByTimer) {
		r.releaseStart()
	}
	r.reviewOwnDisk(now)
	r.reviewInSync(now)
	r.unthrottle(now)
}

// release answers those whose offset has been reached.
func (r *Replica) release() {
	if r.fenced {
		return
	}
	l := &r.leader
	for {
		w, ok := l.onSync.pop(r.durable())
		if !ok {
			break
		}
		r.ack(w.ticket, w.offset, w.timestamp)
	}
	for {
		w, ok := l.onCommit.pop(r.highWatermark)
		if !ok {
			break
		}
		if len(r.assignment.InSync) < r.minInSync() {
			r.refuse(w.ticket, kafka.ErrNotEnoughReplicasAfterAppend)
			continue
		}
		r.ack(w.ticket, w.offset, w.timestamp)
	}
}

// DeleteRecords makes the log begin at offset, or at the high watermark for
// -1. It is answered with the low watermark when all live replicas have
// followed, and as many are in sync as the topic asks for.
func (r *Replica) DeleteRecords(now time.Time, t Ticket, offset kafka.Offset, deadline time.Time) {
	if r.role != Leader || r.fenced {
		r.refuse(t, kafka.ErrNotLeaderOrFollower)
		return
	}
	if offset == -1 {
		offset = r.highWatermark
	}
	if offset < 0 || offset > r.highWatermark {
		r.refuse(t, kafka.ErrOffsetOutOfRange)
		return
	}
	r.AdvanceStart(now, offset)
	r.leader.onStart.push(waiting{ticket: t, upTo: offset, deadline: deadline})
	r.leader.expiry = earlier(r.leader.expiry, deadline)
	r.releaseStart()
}

// AdvanceStart makes the log begin at offset, at most at the high watermark.
// Only a leader does so by itself; followers follow it.
func (r *Replica) AdvanceStart(now time.Time, offset kafka.Offset) {
	if !mutant.On(mutant.RetainUncommitted) {
		offset = min(offset, r.highWatermark)
	}
	if r.role != Leader || offset <= r.start {
		return
	}
	r.moveStart(offset)
	r.note(now)
}

// adoptStart makes the log begin where a follower's does that begins later: a
// leader before this one has deleted those records, and could not tell all.
// Nobody else would, and the replicas' logs would differ for good.
func (r *Replica) adoptStart(now time.Time) {
	for _, f := range r.leader.followers {
		if f.streaming && !mutant.On(mutant.StartNotAdopted) {
			r.AdvanceStart(now, f.logStart)
		}
	}
}

// lowWatermark is the lowest log start over the live replicas.
func (r *Replica) lowWatermark() kafka.Offset {
	low := r.start
	for _, f := range r.leader.followers {
		if f.active {
			low = min(low, f.logStart)
		}
	}
	return low
}

// releaseStart answers those whose deletion all have followed. With fewer in sync
// than the minimum one that is not may lead next, and not know of it.
func (r *Replica) releaseStart() {
	if r.leader.onStart.len() == 0 || len(r.assignment.InSync) < r.minInSync() && !mutant.On(mutant.DeleteBelowMinimum) {
		return
	}
	low := r.lowWatermark()
	for {
		w, ok := r.leader.onStart.pop(low)
		if !ok {
			return
		}
		r.ack(w.ticket, low, record.NoTimestamp)
	}
}

func (r *Replica) tickLeader(now time.Time) {
	l := &r.leader
	if due(l.expiry, now) {
		refuse := func(w waiting) { r.refuse(w.ticket, kafka.ErrRequestTimedOut) }
		l.expiry = earlier(earlier(l.onSync.expire(now, refuse), l.onCommit.expire(now, refuse)), l.onStart.expire(now, refuse))
	}
	if due(l.refuseAt, now) {
		l.refuseAt = time.Time{}
		r.refuseWaiting(func(w waiting) { r.refuse(w.ticket, kafka.ErrNotLeaderOrFollower) })
	}
	for _, f := range l.followers {
		r.tickFollower(now, f)
	}
	r.advance(now)
	if mutant.On(mutant.AckByTimer) || mutant.On(mutant.DeletedByTimer) {
		r.release()
		r.releaseStart()
	}
}

func (r *Replica) wakeLeader() time.Time {
	l := &r.leader
	at := earlier(l.expiry, l.refuseAt)
	for _, f := range l.followers {
		at = earlier(at, f.wake(r))
	}
	return earlier(earlier(at, r.wakeOwnDisk()), r.wakeInSync())
}

// Followers lists a leader's view of its followers.
func (r *Replica) Followers() []FollowerStatus {
	if r.role != Leader {
		return nil
	}
	list := make([]FollowerStatus, 0, len(r.leader.followers))
	for _, f := range r.leader.followers {
		list = append(list, FollowerStatus{f.node, f.streaming, f.next, f.written, f.synced, f.logStart, f.caughtUpAt})
	}
	return list
}

package broker

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/host/coordinator"
	"chronik/internal/host/quorum"
)

// snapshotBytes have the metadata log compacted too, as Options.SnapshotEntries do.
const snapshotBytes = 32 << 20

// activeController is what the node that leads the metadata quorum has beside
// the others. It is thrown away when leadership is lost.
type activeController struct {
	core    *controller.Controller
	epoch   kafka.LeaderEpoch
	begun   bool   // all entries of earlier leaders are applied: core exists
	started uint64 // number of the entry that marks the beginning
	tickets map[controller.Ticket]*question
	heard   map[kafka.NodeID]*heard // questions of the others
	next    controller.Ticket
	pending []proposal
	wake    time.Time
	applied map[kafka.NodeID]kafka.Offset // what each node has told that it has applied
	usable  []usableWait

	confirming confirming
}

// led is a node that led the quorum, and when.
type led struct {
	node  kafka.NodeID
	epoch kafka.LeaderEpoch
}

// proposal is a batch of records on its way through Raft.
type proposal struct {
	id      uint64
	replies []controller.Reply
	events  []controller.Event
}

// usableWait is a response that waits for all live nodes to have applied an offset.
type usableWait struct {
	offset   kafka.Offset
	question *question
	response controller.Response
	until    time.Time
}

// usableTimeout bounds how long an answer waits for a live node that does not
// tell that it has applied the change: one that is silent is fenced much
// earlier, one that opens thousands of logs is not.
const usableTimeout = 10 * time.Second

// entryHeader stands before the records in an entry of the metadata log.
//
//	offset | size | field
//	0      | 1    | version, 1
//	1      | 8    | number of the proposal, so that its proposer knows it again
const (
	entryVersion    = 1
	entryHeaderSize = 9
)

// drain does what the quorum has to do, until there is no more. Call it after
// anything that may have moved the quorum. What an entry brings about may call it
// too: that is left to the call under way, for the entries that came with the
// first one are to be applied before what follows from it.
func (b *Broker) drain(now time.Time) {
	if b.draining {
		return
	}
	b.draining = true
	defer func() { b.draining = false }()
	for !b.closed {
		out, more, err := b.quorum.Drain(now)
		if err != nil {
			b.fail(err)
			return
		}
		for _, m := range out.Messages {
			b.sendRaft(m)
		}
		if out.Snapshot != nil {
			b.installSnapshot(now, out)
		}
		for _, e := range out.Committed {
			b.applyEntry(now, e)
		}
		if len(out.Committed) > 0 {
			b.applied(now)
		}
		if b.doubts.Load() != nil && (out.Snapshot != nil || len(out.Committed) > 0) {
			b.reviewDoubts(now)
		}
		b.noteLeadership(now)
		b.confirmed(now, out.Confirmed)
		if !more && !b.quorum.HasReady() {
			return
		}
	}
}

func (b *Broker) installSnapshot(now time.Time, out quorum.Output) {
	image, err := metadata.DecodeSnapshot(out.Snapshot)
	if err != nil {
		b.fail(err)
		return
	}
	b.env.Log.Info("metadata snapshot installed", "offset", out.At)
	old := b.image.Load()
	b.publishImage(image)
	b.follow(now, metadata.Diff(old, image))
	b.tellActsOn(now)
	b.asked.imageMoved(now, image.Offset())
}

// publishImage has requests see the image. Groups have its topics before: what a
// request has found and committed is not of a topic that is gone, however long
// it then takes to act on the image.
func (b *Broker) publishImage(image *metadata.Image) {
	b.coordinated.groups.SetTopics(coordinator.TopicsOf(image))
	b.image.Store(image)
}

// applyEntry folds one committed entry into the image and acts on it.
func (b *Broker) applyEntry(now time.Time, e quorum.Entry) {
	var records []metadata.Record
	var id uint64
	if len(e.Data) > 0 {
		var err error
		if id, records, err = decodeEntry(e.Data); err != nil {
			b.fail(err)
			return
		}
	}
	image, delta, err := b.image.Load().Apply(e.Offset, records)
	if err != nil {
		b.fail(err)
		return
	}
	b.publishImage(image)
	if delta != nil {
		b.follow(now, delta)
	}
	if id != 0 {
		b.committed(now, id, e.Offset)
	}
}

// applied comes after a run of entries: it tells the controller how far this
// node is and keeps the log short.
func (b *Broker) applied(now time.Time) {
	offset := b.image.Load().Offset()
	b.tellActsOn(now)
	b.asked.imageMoved(now, offset)
	if entries, bytes := b.quorum.LogLength(); entries >= b.opts.SnapshotEntries || bytes >= snapshotBytes || b.quorum.MembersChanged() {
		if err := b.quorum.Compact(now, offset, b.image.Load().EncodeSnapshot(nil), b.opts.SnapshotEntries/20); err != nil {
			b.fail(err)
		}
	}
}

// noteLeadership publishes the quorum's state and takes up or lays down the
// part of the active controller.
func (b *Broker) noteLeadership(now time.Time) {
	state := b.quorum.State()
	old := b.quorumView.Load()
	if *old != state {
		b.quorumView.Store(&state)
		if old.Leader != kafka.NoNode && old.Leader != state.Leader {
			b.lastLeader = led{old.Leader, old.Epoch}
		}
	}
	changed := old.Leader != state.Leader || old.Epoch != state.Epoch
	if changed && state.Leader != kafka.NoNode {
		b.env.Log.Info("controller changed", "controller", state.Leader, "epoch", state.Epoch)
	}
	switch {
	case b.active != nil && (!state.Leading || b.active.epoch != state.Epoch):
		b.resign(now)
		if state.Leading {
			b.takeUp(now, state)
		}
	case b.active == nil && state.Leading:
		b.takeUp(now, state)
	}
	if changed { // after it has resigned: else the controller that this node was would decide once more
		b.asked.leaderChanged(b, now)
	}
}

// takeUp begins the part of the active controller: an empty proposal of its
// own goes first, and when that is applied, so is all that earlier leaders
// have committed.
func (b *Broker) takeUp(now time.Time, state quorum.State) {
	a := &activeController{
		epoch:   state.Epoch,
		tickets: make(map[controller.Ticket]*question),
		heard:   make(map[kafka.NodeID]*heard),
		applied: make(map[kafka.NodeID]kafka.Offset),
	}
	id := b.newProposalID()
	a.started = id
	a.confirming.round = max(uint64(state.Epoch)<<32, b.lastRound) // no round of before is taken for one of now
	a.confirming.done = a.confirming.round
	b.active = a
	if _, err := b.quorum.Propose(encodeEntry(id, nil)); err != nil {
		b.resign(now)
	}
}

// resign lays down the part of the active controller. What was decided but is
// not committed may still be; its askers ask again. What is committed, and only
// not known to all live nodes, they are told, so that they ask no more than that
// of the next one.
func (b *Broker) resign(now time.Time) {
	a := b.active
	b.active, b.lastRound = nil, a.confirming.round
	for _, t := range slices.Sorted(maps.Keys(a.tickets)) { // not all that there ever were: those are millions
		a.tickets[t].answer(now, nil, kafka.ErrNotController, 0)
	}
	a.confirming.refuse(now)
	for _, w := range a.usable {
		w.question.answer(now, w.response, kafka.ErrNotController, w.offset)
	}
}

// committed is called for each proposal that was committed, whoever made it.
func (b *Broker) committed(now time.Time, id uint64, offset kafka.Offset) {
	a := b.active
	if a == nil {
		return
	}
	if id == a.started && !a.begun {
		a.begun = true
		a.core = controller.New(now, b.image.Load(), controller.Options{
			SessionTimeout:  b.opts.SessionTimeout,
			Configs:         b.resolver,
			ExpectedBrokers: len(b.opts.Voters),
			Silent:          b.silence(),
		}, b.env.Rand)
		b.env.Log.Info("became active controller", "epoch", a.epoch, "offset", offset)
		b.carryOut(now, a.core.Tick(now))
		for _, peer := range slices.Sorted(maps.Keys(b.lost)) {
			if b.active == a {
				b.tellLost(now, peer)
			}
		}
		b.asked.leaderChanged(b, now)
		return
	}
	if len(a.pending) == 0 || a.pending[0].id != id {
		return
	}
	p := a.pending[0]
	a.pending = a.pending[1:]
	b.logEvents(p.events, offset)
	b.release(now, p.replies, offset)
}

// silence is for how long, at the least, nobody has confirmed the controller
// before this one, and so its lease: no voter votes earlier. Of a controller in
// between, which this node has not heard of, the one that it knows may have got
// a lease since: then nothing is known.
func (b *Broker) silence() map[kafka.NodeID]time.Duration {
	last := b.lastLeader
	if last.node == kafka.NoNode || last.node == b.opts.Node || last.epoch+1 != b.active.epoch {
		return nil
	}
	return map[kafka.NodeID]time.Duration{last.node: time.Duration(b.quorum.QuietTicks()) * b.opts.RaftTick}
}

// decide has the active controller answer a request.
func (b *Broker) decide(now time.Time, req controller.Request, q *question) {
	a := b.active
	if a == nil || !a.begun {
		q.answer(now, nil, kafka.ErrNotController, 0)
		return
	}
	if _, ok := req.(controller.DescribeQuorum); ok {
		b.confirm(q, b.members(now), 0) // that there is a quorum is part of the answer
		return
	}
	a.next++
	a.tickets[a.next] = q
	b.carryOut(now, a.core.Decide(now, req, a.next))
}

// carryOut does what the controller has decided.
func (b *Broker) carryOut(now time.Time, d controller.Decision) {
	a := b.active
	if len(d.Records) > 0 {
		id := b.newProposalID()
		d.Records = withEvents(now, d.Records, d.Events)
		offset, err := b.quorum.Propose(encodeEntry(id, d.Records))
		if err != nil {
			b.env.Log.Warn("controller resigned", "cause", err)
			b.resign(now)
			return
		}
		a.core.Apply(offset, d.Records)
		a.pending = append(a.pending, proposal{id, d.Replies, d.Events})
	} else {
		b.logEvents(d.Events, b.image.Load().Offset())
		if n := len(a.pending); n > 0 {
			a.pending[n-1].replies = append(a.pending[n-1].replies, d.Replies...)
		} else {
			b.release(now, d.Replies, b.image.Load().Offset())
		}
	}
	if !d.Wake.IsZero() && (a.wake.IsZero() || d.Wake.Before(a.wake)) {
		a.wake = d.Wake
		b.At(d.Wake, func(time.Time) {
			b.env.Post(func(now time.Time) { b.tickController(now, a) })
		})
	}
}

func (b *Broker) tickController(now time.Time, a *activeController) {
	if b.active != a || a.core == nil || b.closed {
		return
	}
	if now.Before(a.wake) {
		return
	}
	a.wake = time.Time{}
	b.carryOut(now, a.core.Tick(now))
	b.drain(now)
}

// release answers requests whose records are committed at offset. Changes that
// clients expect to see everywhere wait until all live nodes have applied them.
func (b *Broker) release(now time.Time, replies []controller.Reply, offset kafka.Offset) {
	a := b.active
	for _, r := range replies {
		if b.active != a {
			return // what an answer led to could not be proposed: it has resigned, and told the others so
		}
		q := a.tickets[r.Ticket]
		delete(a.tickets, r.Ticket)
		if q == nil {
			continue
		}
		if grants(r.Response) {
			b.confirm(q, r.Response, offset)
			continue
		}
		if !seenByClients(r.Response) || b.appliedByAll(offset) || mutant.On(mutant.AnswerUnapplied) {
			q.answer(now, r.Response, kafka.None, offset)
			continue
		}
		until := now.Add(usableTimeout)
		a.usable = append(a.usable, usableWait{offset, q, r.Response, until})
		b.At(until, func(time.Time) { b.env.Post(func(now time.Time) { b.releaseUsable(now) }) })
	}
}

// seenByClients says whether a response tells a client of a change that it
// will rely on at any node.
func seenByClients(r controller.Response) bool {
	switch r.(type) {
	case controller.CreateTopicsResult, controller.DeleteTopicsResult, controller.CreatePartitionsResult,
		controller.AlterConfigsResult, controller.ElectLeadersResult, controller.AlterPartitionReassignmentsResult:
		return true
	}
	return false
}

func (b *Broker) appliedByAll(offset kafka.Offset) bool {
	for _, br := range b.image.Load().Brokers() {
		if !br.Fenced && b.active.applied[br.ID] < offset {
			return false
		}
	}
	return true
}

func (b *Broker) releaseUsable(now time.Time) {
	a := b.active
	if a == nil {
		return
	}
	kept := a.usable[:0]
	var due []usableWait
	for _, w := range a.usable {
		if b.appliedByAll(w.offset) || !now.Before(w.until) {
			due = append(due, w)
		} else {
			kept = append(kept, w)
		}
	}
	a.usable = kept
	for _, w := range due {
		w.question.answer(now, w.response, kafka.None, w.offset)
	}
}

// noteApplied takes a node's word on how far it has applied the metadata.
func (b *Broker) noteApplied(now time.Time, from kafka.NodeID, offset kafka.Offset) {
	if b.active == nil || b.active.applied[from] >= offset {
		return
	}
	b.active.applied[from] = offset
	if b.active.core != nil {
		b.active.core.NoteApplied(from, offset)
	}
	b.releaseUsable(now)
	if b.doubts.Load() != nil {
		b.reviewDoubts(now)
	}
}

func (b *Broker) newProposalID() uint64 {
	for {
		if id := b.env.Rand.Uint64(); id != 0 {
			return id
		}
	}
}

func encodeEntry(id uint64, records []metadata.Record) []byte {
	out := make([]byte, entryHeaderSize, entryHeaderSize+64*len(records))
	out[0] = entryVersion
	binary.BigEndian.PutUint64(out[1:], id)
	return metadata.EncodeBatch(out, records)
}

func decodeEntry(data []byte) (id uint64, records []metadata.Record, err error) {
	if len(data) < entryHeaderSize || data[0] != entryVersion {
		return 0, nil, fmt.Errorf("decode metadata entry: %w", metadata.ErrNewer)
	}
	id = binary.BigEndian.Uint64(data[1:])
	records, err = metadata.DecodeBatch(data[entryHeaderSize:])
	return id, records, err
}

package coordinator

import (
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/group"
	"chronik/internal/format/record"
)

// shardState is what this node does for a partition.
//
//	                 lead                 all of the log is applied
//	idle ──────────────────────▶ loading ──────────────────────────▶ active
//	  ▲                            ▲  │                                 │
//	  │                            └──┼─────────────────────────────────┤
//	  │          resign               │     an append failed            │
//	  └───────────────────────────────┴─────────────────────────────────┘
type shardState int8

const (
	stateIdle shardState = iota
	stateLoading
	stateActive
)

// inFlightMax is the number of appends of a partition that are under way at a
// time; what comes in between shares the next one.
const inFlightMax = 4

// batchBytesMax ends the collecting of decisions for one batch.
const batchBytesMax = 256 << 10

// retryAfter is the pause before a partition is loaded again that failed.
const retryAfter = 100 * time.Millisecond

// shard is the coordinator of one partition.
type shard struct {
	partition int32
	groups    *Groups
	log       *slog.Logger

	mu       sync.Mutex
	state    shardState
	epoch    kafka.LeaderEpoch
	gen      uint64 // counts beginnings and ends; what belongs to another is dropped
	file     Log
	core     *group.Shard
	load     load
	deleted  []string // topics that were deleted while this loads
	ticket   group.Ticket
	waiting  map[group.Ticket]waiter
	queue    []*entry // decided, not appended
	inFlight []*entry // appended, not committed; in the order of the log
	flushing bool     // somebody appends
	wakeAt   time.Time
	now      time.Time // the latest that was seen

	builder *record.Builder // of who is flushing
	key     []byte
	value   []byte
}

// waiter is a request that has not been answered.
type waiter struct {
	req   group.Request
	reply func(group.Response)
}

// entry is what one or several decisions append together, and the replies
// that wait for it.
type entry struct {
	records []group.Record
	replies []group.Reply
	at      time.Time // of the append; zero when not known
	done    bool      // committed
}

// outcome is what is done when the lock is not held any more.
type outcome struct {
	replies []func()
	events  []group.Event
	at      time.Time
	fn      func(now time.Time)
	load    func(now time.Time) // to be run in the background
}

// finish does what could not be done under the lock.
func (s *shard) finish(out *outcome) {
	if out.fn != nil {
		s.groups.opts.At(out.at, out.fn)
	}
	if out.load != nil {
		s.groups.background(out.load)
	}
	s.logEvents(out.events)
	for _, reply := range out.replies {
		reply()
	}
}

func (s *shard) leads() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != stateIdle
}

func (s *shard) setOptions(o group.Options) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core != nil {
		s.core.SetOptions(o)
	}
}

// handle decides over one request.
func (s *shard) handle(now time.Time, req group.Request, reply func(group.Response)) {
	var out outcome
	s.mu.Lock()
	s.see(now)
	s.checkOverdue(now, &out)
	switch s.state {
	case stateIdle:
		s.mu.Unlock()
		s.finish(&out)
		reply(req.Refuse(kafka.ErrNotCoordinator))
		return
	case stateLoading:
		if d, ok := req.(*group.TopicsDeleted); ok {
			s.deleted = append(s.deleted, d.Topics...)
		}
		s.mu.Unlock()
		s.finish(&out)
		reply(req.Refuse(kafka.ErrCoordinatorLoadInProgress))
		return
	}
	s.ticket++
	s.waiting[s.ticket] = waiter{req, reply}
	s.seeTopics()
	s.take(s.core.Decide(now, req, s.ticket), &out)
	s.mu.Unlock()
	s.finish(&out)
	s.flush(true)
}

// seeTopics has the core decide with the present view of topics. It is looked up
// under the lock, or one that another has decided with would be followed by an
// older one, which still has a topic whose offsets are removed already. It says
// whether there is one.
func (s *shard) seeTopics() bool {
	view := s.groups.view()
	if view != nil {
		s.core.SetTopics(view)
	}
	return view != nil
}

func (s *shard) see(now time.Time) {
	if now.After(s.now) {
		s.now = now
	}
}

// take applies a decision and queues it. Its replies go out with the last of
// what is not committed yet.
func (s *shard) take(d group.Decision, out *outcome) {
	for _, r := range d.Records {
		s.core.Apply(r)
	}
	out.events = append(out.events, d.Events...)
	s.wake(d.Wake, out)
	if len(d.Records) > 0 {
		s.queue = append(s.queue, &entry{records: d.Records})
	}
	switch {
	case mutant.On(mutant.AnswerUncommitted):
		s.release(d.Replies, out)
	case len(s.queue) > 0:
		e := s.queue[len(s.queue)-1]
		e.replies = append(e.replies, d.Replies...)
	case len(s.inFlight) > 0:
		e := s.inFlight[len(s.inFlight)-1]
		e.replies = append(e.replies, d.Replies...)
	default:
		s.release(d.Replies, out)
	}
}

func (s *shard) release(replies []group.Reply, out *outcome) {
	for _, r := range replies {
		if w, ok := s.waiting[r.Ticket]; ok {
			delete(s.waiting, r.Ticket)
			response := r.Response
			out.replies = append(out.replies, func() { w.reply(response) })
		}
	}
}

// wake has tick called at the time, unless it will be called before anyway.
func (s *shard) wake(at time.Time, out *outcome) {
	if at.IsZero() || !s.wakeAt.IsZero() && !at.Before(s.wakeAt) {
		return
	}
	gen := s.gen
	s.wakeAt = at
	out.at, out.fn = at, func(now time.Time) { s.tick(now, gen, at) }
}

// tick acts on the deadlines that have passed. While the lease does not hold
// nobody's time runs out.
func (s *shard) tick(now time.Time, gen uint64, at time.Time) {
	serves := s.groups.opts.MayServe(now)
	var out outcome
	s.mu.Lock()
	if s.gen != gen || s.state != stateActive || !s.wakeAt.Equal(at) {
		s.mu.Unlock()
		return
	}
	s.see(now)
	s.wakeAt = time.Time{}
	s.checkOverdue(now, &out)
	switch {
	case s.state != stateActive:
	case !serves:
		s.wake(now.Add(retryAfter), &out)
	default:
		s.seeTopics()
		s.take(s.core.Tick(now), &out)
	}
	s.watchAppends(&out)
	s.mu.Unlock()
	s.finish(&out)
	s.flush(true)
}

// flush appends what is queued, unless somebody else is about to, or enough is
// under way. Fresh says whether the time that was seen last is the present one.
func (s *shard) flush(fresh bool) {
	for {
		s.mu.Lock()
		if s.flushing || len(s.queue) == 0 || len(s.inFlight) >= inFlightMax {
			s.mu.Unlock()
			return
		}
		s.flushing = true
		e := s.collect()
		if fresh {
			e.at = s.now
		}
		s.inFlight = append(s.inFlight, e)
		var out outcome
		s.watchAppends(&out)
		gen, now, file := s.gen, s.now, s.file
		s.mu.Unlock()
		s.finish(&out)
		done := func(code kafka.ErrorCode) { s.committed(gen, e, code) }
		if r := e.records[0]; r.Marker != group.NoMarker {
			file.AppendMarker(now, markerOf(r, now), r.Producer.TV2, done)
		} else {
			file.Append(now, s.encode(e.records, now), done)
		}
		s.mu.Lock()
		s.flushing = false
		s.mu.Unlock()
	}
}

// collect takes the next entry off the queue, and those behind it that fit
// into the same batch: what belongs to transactions goes by itself.
func (s *shard) collect() *entry {
	e := s.queue[0]
	n := 1
	for size := len(e.records); n < len(s.queue); n++ {
		next := s.queue[n]
		if size += len(next.records); e.records[0].Producer != nil || next.records[0].Producer != nil || size*128 > batchBytesMax {
			break
		}
		e.records = append(e.records, next.records...)
		e.replies = append(e.replies, next.replies...)
	}
	s.queue = append(s.queue[:0:0], s.queue[n:]...)
	return e
}

// committed takes note that an entry is in the log for good, or cannot be.
func (s *shard) committed(gen uint64, e *entry, code kafka.ErrorCode) {
	var out outcome
	s.mu.Lock()
	if s.gen != gen {
		s.mu.Unlock()
		return
	}
	if code != kafka.None {
		s.fail(code, &out)
		s.mu.Unlock()
		s.finish(&out)
		return
	}
	e.done = true
	for len(s.inFlight) > 0 && s.inFlight[0].done {
		s.release(s.inFlight[0].replies, &out)
		s.inFlight = s.inFlight[1:]
	}
	s.mu.Unlock()
	s.finish(&out)
	s.flush(false)
}

// checkOverdue gives up on an append that is not committed for too long.
func (s *shard) checkOverdue(now time.Time, out *outcome) {
	if s.state != stateActive || len(s.inFlight) == 0 {
		return
	}
	switch e := s.inFlight[0]; {
	case e.at.IsZero():
		e.at = now
	case now.Sub(e.at) >= s.groups.opts.CommitTimeout:
		s.fail(kafka.ErrRequestTimedOut, out)
	}
}

// watchAppends has tick called when the oldest append will have taken too long:
// nobody may ask anything until then.
func (s *shard) watchAppends(out *outcome) {
	if s.state != stateActive || len(s.inFlight) == 0 {
		return
	}
	at := s.inFlight[0].at
	if at.IsZero() {
		at = s.now
	}
	s.wake(at.Add(s.groups.opts.CommitTimeout), out)
}

// fail throws the shard away, because what it decided may not be in the log,
// and has it loaded again.
func (s *shard) fail(code kafka.ErrorCode, out *outcome) {
	s.log.Warn("group coordinator lost its appends", keyEpoch, s.epoch, keyError, code.String())
	for _, t := range slices.Sorted(maps.Keys(s.waiting)) {
		if d, ok := s.waiting[t].req.(*group.TopicsDeleted); ok { // nobody asks for that again
			s.deleted = append(s.deleted, d.Topics...)
		}
	}
	s.drop(refusalFor(code), out)
	s.begin(out, retryAfter)
}

// refusalFor is what those who wait are told: ask again, or ask who the
// coordinator is.
func refusalFor(code kafka.ErrorCode) kafka.ErrorCode {
	switch code {
	case kafka.ErrNotEnoughReplicas, kafka.ErrNotEnoughReplicasAfterAppend, kafka.ErrRequestTimedOut:
		return kafka.ErrCoordinatorNotAvailable
	}
	return kafka.ErrNotCoordinator
}

// drop forgets the shard and refuses all who wait.
func (s *shard) drop(code kafka.ErrorCode, out *outcome) {
	for _, t := range slices.Sorted(maps.Keys(s.waiting)) {
		w := s.waiting[t]
		out.replies = append(out.replies, func() { w.reply(w.req.Refuse(code)) })
	}
	s.gen++
	s.state, s.core, s.load = stateIdle, nil, load{}
	s.queue, s.inFlight, s.wakeAt = nil, nil, time.Time{}
	s.waiting = map[group.Ticket]waiter{}
}

func (s *shard) resign(now time.Time) {
	var out outcome
	s.mu.Lock()
	s.see(now)
	was, groups := s.state, 0
	if was == stateActive {
		s.core.EachGroup(func(group.GroupStats) { groups++ })
	}
	s.drop(kafka.ErrNotCoordinator, &out)
	s.file, s.deleted = nil, nil
	s.mu.Unlock()
	s.finish(&out)
	switch {
	case was == stateIdle:
	case groups > 0:
		s.log.Info("group coordinator moved away", keyEpoch, s.epoch, keyGroups, groups)
	default:
		s.log.Debug("group coordinator moved away", keyEpoch, s.epoch)
	}
}

// offsets lists the committed offsets, for metrics.
func (s *shard) offsets() (list []group.CommittedOffset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateActive {
		s.core.EachOffset(func(o group.CommittedOffset) { list = append(list, o) })
	}
	return list
}

// stats lists the groups, for metrics.
func (s *shard) stats() (list []group.GroupStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateActive {
		s.core.EachGroup(func(st group.GroupStats) { list = append(list, st) })
	}
	return list
}

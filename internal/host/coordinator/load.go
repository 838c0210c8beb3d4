package coordinator

import (
	"errors"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/group"
	"chronik/internal/format/offsets"
	"chronik/internal/format/record"
)

// load is how far a partition has been read.
type load struct {
	told    kafka.ErrorCode // of the last read that failed, which was logged
	core    *group.Shard
	next    kafka.Offset // to read
	target  kafka.Offset // the log's end when this began: all before it may yet be committed
	begun   time.Time
	records int
	scratch record.Scratch
}

// pollAfter is the pause before looking again whether more is committed.
const pollAfter = 5 * time.Millisecond

// lead begins to load, unless the epoch is an old one.
func (s *shard) lead(now time.Time, epoch kafka.LeaderEpoch, file Log) {
	var out outcome
	s.mu.Lock()
	s.see(now)
	if s.state != stateIdle && epoch <= s.epoch {
		s.mu.Unlock()
		return
	}
	s.drop(kafka.ErrNotCoordinator, &out)
	s.epoch, s.file, s.deleted = epoch, file, nil
	s.begin(&out, 0)
	load := out.load
	if s.groups.opts.Background == nil {
		out.load = nil
	}
	s.mu.Unlock()
	s.finish(&out)
	if out.load == nil {
		load(now)
	}
}

// begin enters the state loading.
func (s *shard) begin(out *outcome, after time.Duration) {
	s.state = stateLoading
	s.load = load{next: -1}
	s.loadLater(out, after)
}

// loadLater has the next step of loading run after a pause, in the background.
func (s *shard) loadLater(out *outcome, after time.Duration) {
	gen := s.gen
	step := func(now time.Time) { s.loadStep(now, gen) }
	switch {
	case after > 0 && s.groups.opts.Background != nil:
		out.at, out.fn = s.now.Add(after), func(time.Time) { s.groups.background(step) }
	case after > 0:
		out.at, out.fn = s.now.Add(after), step
	default:
		out.load = step
	}
}

// loadStep reads and applies the next part of the log, and comes back for
// more. One step runs at a time, and while loading nobody else uses the core.
func (s *shard) loadStep(now time.Time, gen uint64) {
	s.mu.Lock()
	s.see(now)
	if s.gen != gen || s.state != stateLoading {
		s.mu.Unlock()
		return
	}
	if s.load.core == nil && s.flushing {
		// What was decided before is being appended still: it would be in the log,
		// behind what is loaded, and come up with the next coordinator only.
		var out outcome
		s.loadLater(&out, pollAfter)
		s.mu.Unlock()
		s.finish(&out)
		return
	}
	l, file := s.load, s.file
	s.mu.Unlock()

	start, committed, end := file.Bounds()
	if l.core == nil {
		l = load{core: s.groups.newCore(), next: start, target: end, begun: now}
		if mutant.On(mutant.ServeUnloaded) {
			l.target = start
		}
		if mutant.On(mutant.LoadCommitted) {
			l.target = committed
		}
	}
	pause := time.Duration(0)
	if l.next < l.target {
		records, code := file.Read(now, l.next, s.groups.opts.LoadBytes)
		switch {
		case code == kafka.ErrOffsetOutOfRange && l.next < start:
			l.next = start
		case code != kafka.None:
			if code != l.told { // it is tried again ten times a second
				s.log.Warn("group coordinator could not read its log", keyOffset, l.next, keyError, code.String())
			}
			l.told, pause = code, retryAfter
		case len(records) == 0 && l.next >= committed:
			pause = pollAfter
		case len(records) == 0: // nothing is left of what was there
			l.next = min(committed, l.target)
		}
		if mutant.On(mutant.LoadAtOnce) && l.records > 0 && len(records) > 0 {
			if first, _, err := record.Next(records); err == nil {
				l.next = first.NextOffset()
			}
		}
		s.applyAll(&l, records)
	}

	var out outcome
	s.mu.Lock()
	if s.gen != gen {
		s.mu.Unlock()
		return
	}
	if s.load = l; l.next < l.target {
		s.loadLater(&out, pause)
		s.mu.Unlock()
		s.finish(&out)
		return
	}
	s.load = load{}
	s.core, s.state = l.core, stateActive
	s.core.SetOptions(s.groups.groupOptions())
	s.take(s.core.Start(now), &out)
	s.forgetDeleted(now, &out)
	tell := s.loadedEvent(now, &l)
	s.mu.Unlock()
	s.finish(&out)
	tell()
	s.flush(true)
}

// forgetDeleted removes the offsets of topics that were deleted while this
// loaded, and of those that are not there, or are others of the same name: the
// coordinator before could perhaps not do so. All that was loaded was committed
// before: a topic that has a deleted one's name is another. The caller holds the lock.
func (s *shard) forgetDeleted(now time.Time, out *outcome) {
	known := s.seeTopics()
	req := &group.TopicsDeleted{Topics: s.deleted, Unknown: known}
	s.deleted = nil
	s.ticket++
	s.waiting[s.ticket] = waiter{req, func(group.Response) {}}
	s.take(s.core.Decide(now, req, s.ticket), out)
}

// applyAll applies whole batches.
func (s *shard) applyAll(l *load, b []byte) {
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			s.log.Error("group coordinator found a broken batch", keyOffset, l.next, keyError, err.Error())
			l.next = l.target
			return
		}
		if mutant.On(mutant.LoadToGap) && batch.BaseOffset() > l.next {
			l.next = l.target
		}
		if batch.NextOffset() > l.next && !(mutant.On(mutant.OffsetsLost) && batch.NextOffset() == l.target) {
			if err := applyBatch(l, batch); err != nil {
				s.log.Error("group coordinator skipped records", keyOffset, batch.BaseOffset(), keyError, err.Error())
			}
			l.next = batch.NextOffset()
		}
		b = rest
	}
}

// applyBatch applies the records of one batch. Records of kinds that are not
// known are passed over.
func applyBatch(l *load, batch record.Batch) error {
	if batch.IsControl() {
		m, ok, err := record.ParseMarker(batch, &l.scratch)
		if err != nil || !ok {
			return err
		}
		kind := group.AbortMarker
		if m.Commit {
			kind = group.CommitMarker
		}
		l.core.Apply(group.Record{Marker: kind, Producer: &group.Producer{
			ID: m.ProducerID, Epoch: m.ProducerEpoch, CoordinatorEpoch: m.CoordinatorEpoch,
		}})
		l.records++
		return nil
	}
	var producer *group.Producer
	if batch.IsTransactional() {
		producer = &group.Producer{ID: batch.ProducerID(), Epoch: batch.ProducerEpoch()}
	}
	var broken error
	it := batch.Records(&l.scratch)
	for it.Next() {
		r := it.Record()
		data, err := offsets.Decode(r.Key, r.Value)
		switch {
		case errors.Is(err, offsets.ErrUnknownKind):
		case err != nil:
			broken = err
		default:
			if _, ok := data.(offsets.OffsetCommit); data.IsTombstone() && (ok && mutant.On(mutant.OffsetsComeBack) || !ok && mutant.On(mutant.GroupsComeBack)) {
				break
			}
			l.core.Apply(group.Record{Data: data, Producer: producer})
			l.records++
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	return broken
}

// encode makes one batch of the records.
func (s *shard) encode(records []group.Record, now time.Time) []byte {
	var opts record.BuilderOptions
	if p := records[0].Producer; p != nil {
		opts.Producer = &record.Producer{ID: p.ID, Epoch: p.Epoch, Sequence: record.NoSequence}
		opts.Transactional = true
	}
	if s.builder == nil {
		s.builder = record.NewBuilder(opts)
	} else {
		s.builder.Reset(opts)
	}
	for _, r := range records {
		s.key = r.Data.AppendKey(s.key[:0])
		if r.Data.IsTombstone() {
			s.builder.Append(now.UnixMilli(), s.key, nil)
			continue
		}
		s.value = r.Data.AppendValue(s.value[:0])
		s.builder.Append(now.UnixMilli(), s.key, s.value)
	}
	return s.builder.Build()
}

func markerOf(r group.Record, now time.Time) record.Marker {
	return record.Marker{
		ProducerID: r.Producer.ID, ProducerEpoch: r.Producer.Epoch, CoordinatorEpoch: r.Producer.CoordinatorEpoch,
		Commit: r.Marker == group.CommitMarker, Timestamp: now.UnixMilli(),
	}
}

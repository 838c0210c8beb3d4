package wal

import (
	"errors"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// TimestampOffset is a record that was looked up by time.
type TimestampOffset struct {
	Offset    kafka.Offset
	Timestamp int64 // ms
	Epoch     kafka.LeaderEpoch
}

// OffsetForTimestamp returns the first record whose timestamp is at or after
// ms, at or above the log start offset. Timestamps need not be in order.
func (l *Log) OffsetForTimestamp(ms int64) (TimestampOffset, bool, error) {
	return l.search(func(s *segment) (entry, bool) {
		if s.maxTs.ms < ms {
			return entry{}, false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return floorTime(s.index, s.base, ms), true
	}, func(ts int64) bool { return ts > ms || ts == ms && !mutant.On(mutant.TimeAfter) })
}

// MaxTimestamp returns the first of the records with the largest timestamp
// (KIP-734). There is none in an empty log or one without timestamps.
func (l *Log) MaxTimestamp() (TimestampOffset, bool, error) {
	for {
		most := noTimestamp
		var unread *segment
		before := l.cutsNow()
		cuts, err := l.eachStats(func(s *segment) {
			if s.maxTs == unknownTimestamp {
				unread = s
			}
			if s.maxTs.ms > most.ms {
				most = s.maxTs
			}
		})
		if err == nil && cuts != before {
			continue
		}
		if err == nil && unread != nil {
			err = &CorruptError{unread.path, 0, unread.base, "some of it could not be read, so its largest timestamp is not known"}
		}
		if err != nil || most.ms < 0 {
			return TimestampOffset{}, false, err
		}
		r, ok, err := l.OffsetForTimestamp(most.ms)
		if err != nil || ok || l.cutsNow() != cuts {
			if err == nil && !ok {
				continue
			}
			return r, ok, err
		}
		// The record is below the log start offset, in a segment that is not.
		r, ok, err = l.maxFromStart()
		if l.cutsNow() == cuts {
			return r, ok, err
		}
	}
}

// maxFromStart is MaxTimestamp by looking at each batch from the log start
// offset on in the first segment.
func (l *Log) maxFromStart() (TimestampOffset, bool, error) {
	most := record.NoTimestamp
	first := true
	_, err := l.eachStats(func(s *segment) {
		if !first {
			most = max(most, s.maxTs.ms)
		}
		first = false
	})
	if err != nil {
		return TimestampOffset{}, false, err
	}
	l.mu.Lock()
	start := l.Start()
	s, size, end, last := l.segments[0], l.segments[0].size, l.End(), len(l.segments) == 1
	if !last {
		end = l.segments[1].base
	}
	l.mu.Unlock()
	f, err := l.use(s, size, end, last)
	if err != nil {
		return TimestampOffset{}, false, err
	}
	defer s.release()
	at, err := l.locate(s, f, size, start)
	if err != nil {
		return TimestampOffset{}, false, err
	}
	sc := &scanner{file: f, pos: at.pos, to: size, next: at.offset, gaps: s.gaps.Load(), chunk: lookupChunk}
	for {
		b, _, err := sc.header()
		if err == nil && b.BaseOffset() < start {
			if b, err = sc.batch(true); err == nil {
				it := b.Records(nil)
				for it.Next() {
					if r := it.Record(); r.Offset >= start {
						most = max(most, r.Timestamp)
					}
				}
			}
		} else if err == nil && b.Count() > 0 {
			most = max(most, b.MaxTimestamp())
		}
		if err == errEnd {
			break
		}
		if err != nil {
			return TimestampOffset{}, false, inSegment(err, s)
		}
		sc.skip(b)
	}
	if most < 0 {
		return TimestampOffset{}, false, nil
	}
	return l.OffsetForTimestamp(most)
}

func (l *Log) cutsNow() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts
}

// eachStats calls fn, with mu held, for each segment with its largest
// timestamp learned.
func (l *Log) eachStats(fn func(*segment)) (cuts uint64, err error) {
	for i := 0; ; i++ {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return 0, ErrClosed
		}
		if i >= len(l.segments) {
			cuts = l.cuts
			l.mu.Unlock()
			return cuts, nil
		}
		s, cuts := l.segments[i], l.cuts
		known := s.statsKnown
		if known {
			fn(s)
		}
		l.mu.Unlock()
		if known {
			continue
		}
		if err := l.learnStats(s); err != nil && l.cutsNow() == cuts {
			return 0, err
		}
		i-- // look again
	}
}

// learnStats finds the largest timestamp of a sealed segment.
func (l *Log) learnStats(s *segment) error {
	l.mu.Lock()
	i := -1
	for j := range l.segments {
		if l.segments[j] == s {
			i = j
		}
	}
	if i < 0 || s.statsKnown {
		l.mu.Unlock()
		return nil
	}
	size, end, cuts := s.size, l.segments[i+1].base, l.cuts
	l.mu.Unlock()
	learn := func(most timestampAt) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.cuts == cuts { // else it may be the active segment, and another one's business
			s.maxTs, s.statsKnown = most, true
		}
	}
	// The last index entry has it; do not load them all for that.
	if e, ok := readSeal(l.fs, s, size, end); ok {
		learn(e.maxTs)
		return nil
	}
	if _, err := l.use(s, size, end, false); errors.Is(err, ErrCorrupt) { // nothing of it can be read
		learn(unknownTimestamp)
		return nil
	} else if err != nil {
		return err
	}
	defer s.release()
	s.mu.Lock()
	most := unknownTimestamp // an index without an end is of batches that cannot be read to the end
	if n := len(s.index); n > 0 && s.index[n-1].pos == size && s.index[n-1].offset == end {
		most = s.index[n-1].maxTs
	}
	s.mu.Unlock()
	learn(most)
	return nil
}

// readSeal reads the last entry of a sealed segment's index, if it is the one
// that seals it.
func readSeal(fs vfs.FS, s *segment, size int64, end kafka.Offset) (entry, bool) {
	f, err := fs.Open(s.indexPath, vfs.ReadOnly)
	if err != nil {
		return entry{}, false
	}
	defer f.Close()
	n, err := f.Size()
	if err != nil || n < entrySize {
		return entry{}, false
	}
	var b [entrySize]byte
	if _, err := readFull(f, b[:], n/entrySize*entrySize-entrySize); err != nil {
		return entry{}, false
	}
	e := decodeIndex(b[:], s.base)
	if len(e) != 1 || e[0].pos != size || e[0].offset != end {
		return entry{}, false
	}
	return e[0], true
}

// search returns the first record whose timestamp matches, from where begin
// says in each segment that it says may have one. Matching must be monotonic:
// what matches a timestamp matches all above it.
func (l *Log) search(begin func(*segment) (entry, bool), match func(ms int64) bool) (TimestampOffset, bool, error) {
	for from := kafka.NoOffset; ; {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return TimestampOffset{}, false, ErrClosed
		}
		i := 0
		for i < len(l.segments) && l.segments[i].base <= from {
			i++
		}
		if i == len(l.segments) {
			l.mu.Unlock()
			return TimestampOffset{}, false, nil
		}
		s, size, cuts, end, last := l.segments[i], l.segments[i].size, l.cuts, l.End(), i == len(l.segments)-1
		if !last {
			end = l.segments[i+1].base
		}
		known := s.statsKnown
		l.mu.Unlock()
		var r TimestampOffset
		var found bool
		var err error
		if !known {
			err = l.learnStats(s)
		}
		if err == nil {
			r, found, err = l.searchSegment(s, size, end, last, begin, match)
		}
		switch {
		case l.cutsNow() != cuts:
			from = kafka.NoOffset
		case err != nil || found || last: // what came meanwhile may be in it as well as behind it
			return r, found, err
		default:
			from = s.base
		}
	}
}

func (l *Log) searchSegment(s *segment, size int64, end kafka.Offset, active bool, begin func(*segment) (entry, bool), match func(int64) bool) (out TimestampOffset, found bool, err error) {
	l.mu.Lock()
	may := size > headerSize && s.maxTs.ms >= 0 && match(s.maxTs.ms)
	l.mu.Unlock()
	if !may {
		return out, false, nil
	}
	f, err := l.use(s, size, end, active)
	if err != nil {
		return out, false, err
	}
	defer s.release()
	l.mu.Lock()
	e, may := begin(s)
	l.mu.Unlock()
	if !may {
		return out, false, nil
	}
	start := l.Start()
	sc := &scanner{file: f, pos: e.pos, to: size, next: e.offset, gaps: s.gaps.Load(), chunk: lookupChunk}
	var scratch record.Scratch
	for {
		h, _, err := sc.header()
		if err == errEnd {
			return out, false, nil
		}
		if err == nil && h.LastOffset() >= start {
			// Only one that is as it was written is passed over for its time.
			if h, err = sc.batch(true); err == nil && match(h.MaxTimestamp()) {
				if out, found, err = firstMatch(h, start, &scratch, match); err == nil && found {
					return out, true, nil
				}
				if err != nil {
					err = sc.bad("%v", err)
				}
			}
		}
		if err != nil {
			return out, false, inSegment(err, s)
		}
		sc.skip(h)
	}
}

func firstMatch(b record.Batch, start kafka.Offset, scratch *record.Scratch, match func(int64) bool) (TimestampOffset, bool, error) {
	it := b.Records(scratch)
	for it.Next() {
		if r := it.Record(); r.Offset >= start && match(r.Timestamp) {
			return TimestampOffset{r.Offset, r.Timestamp, b.LeaderEpoch()}, true, nil
		}
	}
	return TimestampOffset{}, false, it.Err()
}

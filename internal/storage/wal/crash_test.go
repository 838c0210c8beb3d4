package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// model is what a log must hold: batches in order, and what a crash may not
// take.
type model struct {
	batches []record.Batch
	start   kafka.Offset
	end     kafka.Offset
	synced  kafka.Offset
	thinned bool // epochs may have lost their batches
	stated  bool // there is a state of the start
}

func (m *model) clone() *model {
	c := *m
	c.batches = slices.Clone(m.batches)
	return &c
}

func (m *model) append(b record.Batch) {
	m.batches = append(m.batches, b)
	m.end = b.NextOffset()
}

func (m *model) truncate(o kafka.Offset) {
	for n := len(m.batches); n > 0 && m.batches[n-1].LastOffset() >= o; n-- {
		m.end = m.batches[n-1].BaseOffset()
		m.batches = m.batches[:n-1]
	}
	m.synced = min(m.synced, m.end)
}

func (m *model) trim(o kafka.Offset) {
	m.start, m.stated = o, false
	m.batches = slices.DeleteFunc(m.batches, func(b record.Batch) bool { return b.LastOffset() < o })
}

// allows says why the recovered log is not what the model may have become.
func (m *model) allows(l *Log) error {
	b := l.Bounds()
	if b.Start != m.start {
		return fmt.Errorf("starts at %d, want %d", b.Start, m.start)
	}
	if b.End < m.synced || b.End > m.end || b.Synced != b.End {
		return fmt.Errorf("bounds %+v, want an end from %d to %d", b, m.synced, m.end)
	}
	o, s, ok, _ := l.LoadState(b.End + 1000)
	if m.stated && (!ok || o < m.start) {
		return fmt.Errorf("the state that came with the start at %d is not there, but that of %d", m.start, o)
	}
	if ok && (o > b.End || !bytes.Equal(s, state(o))) {
		return fmt.Errorf("state of offset %d is %q, the log ends at %d", o, s, b.End)
	}
	var want []record.Batch
	for _, x := range m.batches {
		if x.LastOffset() < b.End {
			want = append(want, x)
		}
	}
	var got []record.Batch
	for from := b.Start; from < b.End; {
		buf, err := l.Read(from, b.End, 3000, nil)
		if err != nil {
			return fmt.Errorf("read at %d: %w", from, err)
		}
		if len(buf) == 0 {
			break
		}
		for len(buf) > 0 {
			var x record.Batch
			if x, buf, err = record.Next(buf); err != nil {
				return err
			}
			got = append(got, x)
			from = x.NextOffset()
		}
	}
	if !slices.EqualFunc(got, want, func(a, b record.Batch) bool { return bytes.Equal(a, b) }) {
		return fmt.Errorf("%d batches, want %d up to offset %d", len(got), len(want), b.End)
	}
	epochs := kafka.NoLeaderEpoch
	for _, x := range want {
		if e := x.LeaderEpoch(); e != epochs {
			epochs = e
			if l.EpochAt(x.BaseOffset()) != e && x.BaseOffset() >= b.Start {
				return fmt.Errorf("epoch at %d is %d, want %d", x.BaseOffset(), l.EpochAt(x.BaseOffset()), e)
			}
		}
	}
	if last := l.LastEpoch(); last != epochs && (last < epochs || !m.thinned) && len(want) > 0 {
		return fmt.Errorf("last epoch is %d, want %d", l.LastEpoch(), epochs)
	}
	return nil
}

// workload drives a log and keeps a model of what it must be, before and after
// the step that runs.
type workload struct {
	opts          Options
	l             *Log
	before, after *model
	epoch         kafka.LeaderEpoch
}

func (w *workload) step(do func(m *model), call func() error) error {
	w.after = w.before.clone()
	do(w.after)
	// What the step is allowed to have done, half of it included, begins at
	// what both keep.
	if err := call(); err != nil {
		return err
	}
	w.before = w.after.clone()
	return nil
}

func (w *workload) append(n, records, size int) error {
	var batches []record.Batch
	return w.step(func(m *model) {
		for range n {
			o := m.end
			b := batchOf(o, records, w.epoch, int64(o)*10, size)
			batches = append(batches, b)
			m.append(b)
		}
	}, func() error { return w.l.Append(testNow, batches...) })
}

func (w *workload) sync() error {
	if err := w.l.Sync(); err != nil {
		return err
	}
	w.before.synced = w.before.end
	w.after = w.before.clone()
	return nil
}

func (w *workload) truncate(o kafka.Offset) error {
	err := w.step(func(m *model) {
		m.truncate(o)
		m.synced = m.last() // a gap before the cut may stay or not
	}, func() error { return w.l.TruncateFrom(o) })
	if err == nil {
		w.before.end = w.l.End()
		w.before.synced = w.before.end
		w.after = w.before.clone()
	}
	return err
}

func (w *workload) trim(o kafka.Offset) error {
	return w.step(func(m *model) { m.trim(o); m.synced, m.stated = m.end, true }, func() error { return w.l.Trim(o, state(o)) })
}

func (w *workload) reset(o kafka.Offset) error {
	return w.step(func(m *model) { *m = model{start: o, end: o, synced: o, stated: true} },
		func() error { return w.l.Reset(o, state(o)) })
}

// last is the end of the last batch.
func (m *model) last() kafka.Offset {
	if n := len(m.batches); n > 0 {
		return m.batches[n-1].NextOffset()
	}
	return m.start
}

// thin drops every second batch between two offsets but the last, as
// compaction might.
func (m *model) thin(from, to kafka.Offset) {
	n := 0
	var kept []record.Batch
	for i, b := range m.batches {
		in := b.BaseOffset() >= from && b.BaseOffset() < to
		if in {
			n++
		}
		last := i+1 == len(m.batches) || m.batches[i+1].BaseOffset() >= to
		if !in || n%2 == 1 || last {
			kept = append(kept, b)
		}
	}
	m.batches, m.thinned = kept, true
}

// rewrite thins the n sealed segments from the i-th on.
func (w *workload) rewrite(i, n int) error {
	segments, err := w.l.Segments()
	if err != nil {
		return err
	}
	from, to := segments[i].Base, segments[i+n].Base
	return w.step(func(m *model) { m.thin(from, to) }, func() error {
		r, err := w.l.Rewrite(from, to)
		if err != nil {
			return err
		}
		for _, b := range w.after.batches {
			if b.BaseOffset() >= from && b.BaseOffset() < to {
				if err := r.Append(b); err != nil {
					r.Abort()
					return err
				}
			}
		}
		return r.Commit()
	})
}

// state is what is kept for an offset.
func state(o kafka.Offset) []byte { return fmt.Appendf(nil, "state at %d", o) }

func (w *workload) script(fs vfs.FS) (err error) {
	do := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	open := func() error {
		w.l, _, err = Open(fs, testDir, testID, w.opts, testNow)
		return err
	}
	appendN := func(times, n, records, size int) {
		for range times {
			do(func() error { return w.append(n, records, size) })
		}
	}
	do(open)
	appendN(2, 2, 1, 100)
	do(w.sync)
	appendN(3, 1, 3, 700)
	appendN(3, 3, 2, 300) // rolls
	do(w.sync)
	do(func() error { return w.rewrite(0, 1) })
	w.epoch++
	appendN(4, 2, 2, 500)
	do(w.sync)
	do(func() error { return w.rewrite(0, 2) })
	do(func() error { return w.l.SaveCleaned(w.before.end, w.l.Truncations()) })
	do(func() error { return w.l.SaveState(w.before.end, state(w.before.end), w.l.Truncations()) })
	note := func() {
		do(func() error { return w.l.NoteState(w.before.end, state(w.before.end), w.l.Truncations()) })
	}
	note()
	do(func() error { return w.truncate(w.before.end - 3) })
	w.epoch++
	appendN(3, 4, 2, 400)
	note()
	do(w.sync)
	note()
	appendN(1, 1, 1, 6000)
	note()
	appendN(1, 1, 1, 6000)
	note()
	do(w.sync)
	do(func() error { return w.rewrite(0, 3) })
	do(func() error { return w.truncate(20) }) // over segments, into one that was rewritten
	appendN(4, 3, 2, 400)
	note()
	do(func() error { return w.trim(25) })
	note()
	appendN(2, 3, 2, 400)
	do(func() error { return w.l.Close(testNow) })
	if err == nil {
		w.before.synced = w.before.end
		w.after = w.before.clone()
	}
	do(open)
	w.epoch++
	appendN(3, 2, 1, 900)
	do(w.sync)
	do(func() error { return w.rewrite(0, 1) })
	do(func() error { return w.trim(w.before.end) })
	appendN(2, 1, 1, 100)
	do(func() error { return w.reset(10) })
	w.epoch++
	appendN(5, 2, 2, 600)
	do(w.sync)
	do(func() error { return w.reset(1000) })
	appendN(5, 2, 2, 600)
	do(w.sync)
	do(func() error { return w.l.Close(testNow) })
	return err
}

// exhaustive says that a test meets every call or every bit, in one goroutine:
// -short, with which the race detector runs, has nothing to find in it.
func exhaustive(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: every case is tried without it")
	}
}

// ways are those to write: through the page cache, past it, and in turns.
func ways(t *testing.T, test func(t *testing.T, opts Options)) {
	t.Helper()
	exhaustive(t)
	for name, least := range map[string]int64{"cached": -1, "direct": 1, "in turns": 1000} {
		t.Run(name, func(t *testing.T) {
			opts := small
			opts.DirectBytesMin = least
			test(t, opts)
		})
	}
}

var errPower = errors.New("power is gone")

// powerLoss runs the script until the n-th persistence call, and returns the
// disk at that moment.
func powerLoss(t *testing.T, opts Options, n int64) (w *workload, disk *vfs.Mem, over bool) {
	t.Helper()
	disk = vfs.NewMem()
	must(t, vfs.MkdirAllSync(disk, "data"))
	faulty := vfs.NewFaulty(disk)
	faulty.FailNth(n, errPower)
	w = &workload{opts: opts, before: &model{}, after: &model{}}
	err := w.script(faulty)
	if err == nil && faulty.Persisted() < n {
		return w, disk, true
	}
	return w, disk, false
}

// check says whether the recovered log is one that the step that ran when the
// power went may have left.
func (w *workload) check(l *Log) error {
	before, after := *w.before, *w.after
	if after.synced < before.synced && after.start == before.start {
		before.synced = after.synced // a truncation that may be done or not
	}
	if after.synced > before.synced && after.end >= before.end && after.start == before.start {
		after.synced = before.synced
	}
	// Trim syncs first, but may not have got to it.
	after.synced = min(after.synced, max(before.synced, after.start))
	err1 := before.allows(l)
	if err1 == nil {
		return nil
	}
	err2 := after.allows(l)
	if err2 == nil {
		return nil
	}
	return fmt.Errorf("neither as before the step (%w) nor as after it (%w)", err1, err2)
}

func TestSyncedRecordsSurviveACrashAtAnyMoment(t *testing.T) {
	ways(t, syncedRecordsSurviveACrashAtAnyMoment)
}

func syncedRecordsSurviveACrashAtAnyMoment(t *testing.T, opts Options) {
	for n := int64(1); ; n++ {
		w, disk, over := powerLoss(t, opts, n)
		for _, c := range []struct {
			survival float64
			seeds    uint64
		}{{0, 1}, {0.5, 6}, {0.9, 2}, {1, 1}} {
			for seed := range c.seeds {
				rng := rand.New(rand.NewPCG(uint64(n), seed))
				after := disk.Crash(rng, c.survival)
				l, r, err := Open(after, testDir, testID, opts, testNow)
				if err == nil {
					err = w.check(l)
				}
				if err != nil {
					t.Fatalf("crash at call %d, survival %v, seed %d: %v\nrecovery %+v", n, c.survival, seed, err, r)
				}
				// It goes on as a log does.
				end := l.End()
				if err := errors.Join(l.Append(testNow, batchOf(end, 2, 90, 0, 50)), l.Sync()); err != nil {
					t.Fatal(err)
				}
				l, _, err = Open(after.Crash(rng, 0), testDir, testID, opts, testNow)
				if err != nil || l.End() != end+2 {
					t.Fatalf("crash at call %d, survival %v, seed %d, then appended: %v", n, c.survival, seed, err)
				}
			}
		}
		if over {
			if n < 100 {
				t.Fatalf("the script has only %d persistence calls", n)
			}
			return
		}
	}
}

// After a kill the page cache is there, and what is in it is not synced. What
// was to be written past the cache may be lost, unless it was synced.
func TestAKilledProcessLosesNothing(t *testing.T) { ways(t, aKilledProcessLosesNothing) }

func aKilledProcessLosesNothing(t *testing.T, opts Options) {
	for n := int64(1); ; n++ {
		w, disk, over := powerLoss(t, opts, n)
		if over {
			return
		}
		l, r, err := Open(disk, testDir, testID, opts, testNow)
		if err == nil {
			err = w.check(l)
		}
		if err != nil {
			t.Fatalf("killed at call %d: %v\nrecovery %+v", n, err, r)
		}
		if opts.DirectBytesMin < 0 && len(w.before.batches) > 0 && l.End() < min(w.before.end, w.after.end) && l.End() < min(w.before.last(), w.after.last()) {
			t.Fatalf("killed at call %d: ends at %d, %d was written", n, l.End(), w.before.end)
		}
		b := l.Bounds()
		if n%2 == 0 {
			must(t, errors.Join(l.Append(testNow, batchOf(b.End, 2, 90, 0, 50)), l.Sync()))
			b.End += 2
		} else if b.End == b.Start {
			continue // nothing that could be lost
		}
		l, r, err = Open(disk.Crash(nil, 0), testDir, testID, opts, testNow)
		if err != nil || l.Start() != b.Start || l.End() != b.End {
			t.Fatalf("killed at call %d, then crashed: %v, want %+v\nrecovery %+v", n, err, b, r)
		}
	}
}

func TestACrashDuringRecoveryLosesNothing(t *testing.T) { ways(t, aCrashDuringRecoveryLosesNothing) }

func aCrashDuringRecoveryLosesNothing(t *testing.T, opts Options) {
	for n := int64(3); ; n += 3 {
		w, disk, over := powerLoss(t, opts, n)
		if over {
			return
		}
		for m := int64(1); ; m++ {
			rng := rand.New(rand.NewPCG(uint64(n), uint64(m)))
			first := disk.Crash(rng, 0.5)
			faulty := vfs.NewFaulty(first)
			faulty.FailNth(m, errPower)
			_, _, err := Open(faulty, testDir, testID, opts, testNow)
			if err != nil && !errors.Is(err, errPower) {
				t.Fatalf("crash at call %d, in recovery at %d: %v", n, m, err)
			}
			l, r, oerr := Open(first.Crash(rng, 0.5), testDir, testID, opts, testNow)
			if oerr == nil {
				oerr = w.check(l)
			}
			if oerr != nil {
				t.Fatalf("crash at call %d, in recovery at %d: %v\nrecovery %+v", n, m, oerr, r)
			}
			if err == nil && faulty.Persisted() < m {
				break
			}
		}
	}
}

// Every operation may fail once; what was synced stays, and the log either
// goes on or says that it has failed.
func TestSyncedRecordsSurviveAnErrorAtAnyMoment(t *testing.T) {
	ways(t, syncedRecordsSurviveAnErrorAtAnyMoment)
}

func syncedRecordsSurviveAnErrorAtAnyMoment(t *testing.T, opts Options) {
	eio := errors.New("input/output error")
	for n := int64(1); ; n++ {
		disk := vfs.NewMem()
		must(t, vfs.MkdirAllSync(disk, "data"))
		faulty := vfs.NewFaulty(disk)
		count := int64(0)
		faulty.SetHook(func(op vfs.Op) error {
			if op.Kind != vfs.OpClose {
				if count++; count == n {
					return eio
				}
			}
			return nil
		})
		w := &workload{opts: opts, before: &model{}, after: &model{}}
		err := w.script(faulty)
		if err != nil && !errors.Is(err, eio) {
			t.Fatalf("error at operation %d: %v", n, err)
		}
		for seed := range uint64(3) {
			l, r, oerr := Open(disk.Crash(rand.New(rand.NewPCG(uint64(n), seed)), float64(seed)/2), testDir, testID, opts, testNow)
			if oerr == nil {
				oerr = w.check(l)
			}
			if oerr != nil {
				t.Fatalf("error at operation %d, seed %d: %v\nrecovery %+v", n, seed, oerr, r)
			}
		}
		if count < n {
			return
		}
	}
}

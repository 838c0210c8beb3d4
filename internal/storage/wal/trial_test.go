package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// trial is a log whose disk fails syncs now and then, whose process is killed,
// and which loses its power, all by chance.
type trial struct {
	*workload
	rng   *rand.Rand
	disk  *loseSync // n is drawn for the next one to be lost
	every int
	trace []string
}

func TestNothingSyncedIsLostWhateverHappens(t *testing.T) {
	for seed := range uint64(80) {
		rng := rand.New(rand.NewPCG(seed, 7))
		opts := small
		opts.DirectBytesMin = []int64{-1, 1, 1000}[rng.IntN(3)]
		tr := trial{rng: rng, every: []int{10, 30, 100}[rng.IntN(3)], disk: &loseSync{Mem: vfs.NewMem()},
			workload: &workload{opts: opts, before: &model{}, after: &model{}}}
		must(t, vfs.MkdirAllSync(tr.disk, "data"))
		err := tr.reopen()
		for range 120 {
			if err == nil {
				err = tr.step()
			}
		}
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(tr.trace[max(0, len(tr.trace)-25):], "\n"))
		}
	}
}

func (tr *trial) note(format string, args ...any) {
	tr.trace = append(tr.trace, fmt.Sprintf(format, args...))
}

// losePower leaves what a disk holds then.
func (tr *trial) losePower(survival float64) {
	tr.note("power is lost, %.2f survives", survival)
	tr.disk.Mem = tr.disk.Crash(tr.rng, survival)
}

// reopen opens the log, however often that takes, and goes on from what is there.
func (tr *trial) reopen() error {
	tr.epoch++
	for {
		tr.disk.n = tr.disk.count + 1 + tr.rng.IntN(2*tr.every)
		l, r, err := Open(tr.disk, testDir, testID, tr.opts, testNow)
		if vfs.Broken(err) {
			if tr.rng.IntN(3) == 0 {
				tr.losePower(tr.rng.Float64())
			}
			continue
		}
		if err == nil {
			err = tr.check(l)
		}
		if err != nil {
			return fmt.Errorf("opened: %w\nrecovery %+v", err, r)
		}
		tr.l = l
		m := tr.before.clone()
		m.synced = min(m.synced, l.End()) // what was to be truncated may be gone
		if m.allows(l) != nil {
			m = tr.after.clone()
		}
		m.batches = slices.DeleteFunc(m.batches, func(b record.Batch) bool { return b.LastOffset() >= l.End() })
		m.end, m.synced = l.End(), l.End()
		tr.before, tr.after = m, m.clone()
		tr.note("open: %+v", l.Bounds())
		return nil
	}
}

// step does one thing; when a sync fails the log is opened again.
func (tr *trial) step() error {
	if tr.disk.count > tr.disk.n {
		tr.disk.n = tr.disk.count + 1 + tr.rng.IntN(2*tr.every)
	}
	what, err := tr.something()
	tr.note("%s: %v, ends at %d", what, err, tr.before.end)
	switch {
	case what == "kill", vfs.Broken(err):
		return tr.reopen()
	case errors.Is(err, ErrStale), errors.Is(err, ErrBadBatch): // a rewrite that may not be
		tr.after = tr.before.clone()
		return nil
	}
	return err
}

func (tr *trial) something() (what string, err error) {
	rng, m := tr.rng, tr.before
	switch k := rng.IntN(24); {
	case k < 9:
		return "append", tr.append(1+rng.IntN(3), 1+rng.IntN(3), 50+rng.IntN(900))
	case k < 13:
		return "sync", tr.sync()
	case k == 13:
		o := max(m.start, m.end-kafka.Offset(rng.IntN(6)))
		if rng.IntN(2) == 0 {
			o = tr.somewhere()
		}
		if len(m.batches) == 0 || o >= m.end || o <= m.batches[0].LastOffset() {
			return "nothing", nil
		}
		tr.epoch++
		return fmt.Sprintf("truncate from %d", o), tr.truncate(o)
	case k == 14:
		o := tr.somewhere()
		if o <= m.start {
			return "nothing", nil
		}
		return fmt.Sprintf("trim to %d", o), tr.trim(o)
	case k == 15 && rng.IntN(3) == 0:
		o := kafka.Offset(rng.IntN(int(m.end) + 30))
		tr.epoch++
		return fmt.Sprintf("reset to %d", o), tr.reset(o)
	case k < 18:
		s, err := tr.l.Segments()
		if err != nil || len(s) < 3 {
			return "nothing", err
		}
		i := rng.IntN(len(s) - 1)
		n := 1 + rng.IntN(min(3, len(s)-1-i))
		return fmt.Sprintf("rewrite %d to %d", s[i].Base, s[i+n].Base), tr.rewrite(i, n)
	case k == 18:
		return "save a state", tr.l.SaveState(m.end, state(m.end), tr.l.Truncations())
	case k == 19:
		return "note a state", tr.l.NoteState(m.end, state(m.end), tr.l.Truncations())
	case k == 20:
		if err = tr.l.Close(testNow); err == nil {
			m.synced = m.end
			tr.after = m.clone()
		}
		return "kill", err
	case k == 21:
		tr.losePower(min(rng.Float64()*1.5, 0.99))
	}
	return "kill", nil
}

func (tr *trial) somewhere() kafka.Offset {
	return tr.before.start + kafka.Offset(tr.rng.Int64N(int64(tr.before.end-tr.before.start)+1))
}

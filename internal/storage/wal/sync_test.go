package wal

import (
	"errors"
	"fmt"
	"testing"

	"chronik/internal/base/vfs"
)

// loseSync has the n-th sync of a file lose what it was to write: the page
// cache has it, and takes it for clean. The next one says that all is well.
type loseSync struct {
	*vfs.Mem
	n, count int
}

func (d *loseSync) Open(name string, flags vfs.Flags) (vfs.File, error) {
	f, err := d.Mem.Open(name, flags)
	if err != nil {
		return nil, err
	}
	return loseSyncFile{f, d}, nil
}

type loseSyncFile struct {
	vfs.File
	d *loseSync
}

func (f loseSyncFile) Sync() error {
	if f.d.count++; f.d.count == f.d.n {
		return f.File.(interface{ FailSync() error }).FailSync()
	}
	return f.File.Sync()
}

func TestNothingOfAFailedSyncIsTakenForSynced(t *testing.T) {
	ways(t, func(t *testing.T, opts Options) {
		for n := 1; ; n++ {
			for m := 0; ; m++ { // the m-th sync of the next Open fails too; none at all
				disk := &loseSync{Mem: vfs.NewMem(), n: n}
				must(t, vfs.MkdirAllSync(disk, "data"))
				w := &workload{opts: opts, before: &model{}, after: &model{}}
				if err := w.script(disk); err != nil && !vfs.Broken(err) {
					t.Fatalf("sync %d fails: %v", n, err)
				}
				if disk.count < n {
					return
				}
				disk.n, disk.count = m, 0
				_, r, err := Open(disk, testDir, testID, opts, testNow)
				if err != nil && !vfs.Broken(err) {
					t.Fatalf("sync %d fails, and %d when opened: %v\nrecovery %+v", n, m, err, r)
				}
				opened := disk.count
				if err := w.goesOn(disk.Mem, m == 0); err != nil {
					t.Fatalf("sync %d fails, and %d when opened: %v", n, m, err)
				}
				if m > opened {
					break
				}
			}
		}
	})
}

// goesOn opens what a failed sync has left, appends, and opens it after a loss
// of power: first with one batch, then with so many that there are new segments.
func (w *workload) goesOn(disk *vfs.Mem, long bool) error {
	l, r, err := Open(disk, testDir, testID, w.opts, testNow)
	if err == nil {
		err = w.check(l)
	}
	if err != nil {
		return fmt.Errorf("opened again: %w\nrecovery %+v", err, r)
	}
	for _, n := range []int{1, 14} {
		if n > 1 && !long {
			break
		}
		for range n {
			err = errors.Join(err, l.Append(testNow, batchOf(l.End(), 2, 90, 0, 600)))
		}
		end := l.End()
		if err = errors.Join(err, l.Sync()); err != nil {
			return fmt.Errorf("appended: %w", err)
		}
		after := disk.Crash(nil, 0)
		l, r, err := Open(after, testDir, testID, w.opts, testNow)
		if err != nil || l.End() != end {
			return fmt.Errorf("after a loss of power: %w, want an end of %d\nrecovery %+v", err, end, r)
		}
		for from := l.Start(); from < end; {
			p, err := l.Verify(from, end, 1<<20, 0)
			if err != nil || p.Damage != nil || p.To <= from {
				return fmt.Errorf("verified after a loss of power from %d on: %+v, %w", from, p, err)
			}
			from = p.To
		}
	}
	return nil
}

// What is kept beside the log is synced at once, the log when it is.
func TestWhatIsKeptOfLostRecordsGoesWithThem(t *testing.T) {
	for _, synced := range []int{0, 2} {
		disk := vfs.NewMem()
		must(t, vfs.MkdirAllSync(disk, "data"))
		l, _ := mustOpen(t, disk, small)
		fill(t, l, synced, 0)
		if synced > 0 {
			must(t, l.Sync())
		}
		end := l.End()
		fill(t, l, 3, 0)
		must(t, disk.SyncDir("data"))
		must(t, l.SaveState(l.End(), state(l.End()), l.Truncations()))
		must(t, l.SaveCleaned(l.End(), l.Truncations()))
		l, _ = mustOpen(t, disk.Crash(nil, 0), small)
		if l.End() != end {
			t.Fatalf("%d batches synced: ends at %d", synced, l.End())
		}
		fill(t, l, 5, 1)
		if o, _, ok, _ := l.LoadState(l.End()); ok {
			t.Errorf("%d batches synced: there is a state of %d, where others have been written since", synced, o)
		}
		if o := l.Cleaned(); o > end {
			t.Errorf("%d batches synced: looked at up to %d, where others have been written since", synced, o)
		}
	}
}

// The header of a new log may survive a loss of power, and its checkpoint not.
func TestLogWithoutACheckpointGetsOneBeforeItHasASecondSegment(t *testing.T) {
	disk := vfs.NewMem()
	must(t, vfs.MkdirAllSync(disk, "data"))
	mustOpen(t, disk, small)
	edit(t, disk, testDir+"/"+checkpointName, func(b []byte) []byte { clear(b); return b })
	l, _ := mustOpen(t, disk, small)
	must(t, l.Sync())
	end := l.End()
	fill(t, l, 40, 0)
	if s, err := l.Segments(); err != nil || len(s) < 2 {
		t.Fatalf("%d segments, %v", len(s), err)
	}
	must(t, disk.SyncDir(testDir))
	if l, _ = mustOpen(t, disk.Crash(nil, 0), small); l.End() < end {
		t.Errorf("ends at %d", l.End())
	}
}

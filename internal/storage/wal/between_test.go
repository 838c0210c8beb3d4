package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
)

// What others do between two steps of a call.

// A truncation keeps the index of the segment that it makes the active one,
// also if readers of other segments have had it closed meanwhile: the leader
// epochs that begin in it are known from there.
func TestTruncateKeepsTheIndexOfASegmentThatReadersCloseMeanwhile(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	opts := small
	opts.OpenSegmentsMax = 1
	l, _ := mustOpen(t, faulty, opts)
	for epoch := range kafka.LeaderEpoch(3) {
		fill(t, l, 5, epoch)
	}
	fill(t, l, 60, 3)
	must(t, l.Sync())
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && filepath.Base(op.Name) == checkpointName {
			for _, s := range l.segments[1 : len(l.segments)-1] {
				if _, err := l.Read(s.base, l.End(), 1, nil); err != nil {
					t.Error(err)
				}
			}
		}
		return nil
	})
	must(t, l.TruncateFrom(26))
	faulty.SetHook(nil)
	fill(t, l, 2, 7)
	must(t, l.Close(testNow))
	l, _ = mustOpen(t, faulty, opts)
	want := []EpochStart{{0, 0}, {1, 10}, {2, 20}, {7, 26}}
	if got := l.Epochs(); !slices.Equal(got, want) {
		t.Errorf("leader epochs %v, want %v", got, want)
	}
}

// Whoever looks up a time learns of a sealed segment what its index says. If it
// is truncated meanwhile, that is not true any more.
func TestTimesLearnedOfASegmentThatIsTruncatedMeanwhile(t *testing.T) {
	for _, sealed := range []bool{true, false} { // the index says it, or the batches do
		faulty := vfs.NewFaulty(vfs.NewMem())
		l, _ := mustOpen(t, faulty, small)
		fill(t, l, 80, 0)
		must(t, l.Close(testNow))
		l, _ = mustOpen(t, faulty, small)
		first := l.segments[0]
		if !sealed {
			must(t, faulty.Remove(first.indexPath))
		}
		faulty.SetHook(func(op vfs.Op) error {
			if op.Name == first.indexPath && (op.Kind == vfs.OpClose || !sealed && op.Kind == vfs.OpOpen) {
				faulty.SetHook(nil)
				if err := l.TruncateFrom(10); err != nil {
					t.Error(err)
				}
				if err := l.Append(testNow, batchOf(10, 1, 1, 1_000_000, 10)); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
		r, ok, err := l.OffsetForTimestamp(500_000)
		faulty.SetHook(nil)
		if err != nil || !ok || r.Offset != 10 {
			t.Errorf("sealed %v: found %+v, %v, %v; the record at offset 10 is that young", sealed, r, ok, err)
		}
		if r, ok, err := l.MaxTimestamp(); err != nil || !ok || r.Timestamp != 1_000_000 {
			t.Errorf("sealed %v: largest timestamp %+v, %v, %v", sealed, r, ok, err)
		}
		must(t, l.Close(testNow))
	}
}

// A reader that has found its segment when the log is closed opens no file any
// more, and writes none: the directory may be another Log's by then.
func TestReadersOfAClosedLogLeaveItsDirectoryAlone(t *testing.T) {
	fs := &countingFS{FS: vfs.NewMem()}
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 80, 0)
	must(t, l.Close(testNow))
	l, _ = mustOpen(t, fs, small)
	first := l.segments[0]
	r, err := l.beginRead(0, l.End())
	must(t, err)
	must(t, l.Close(testNow))
	must(t, fs.Remove(first.indexPath))
	if _, err := l.readSegment(&r, 0, 1, nil); err == nil {
		t.Error("read from a closed log")
	}
	if !l.endRead(&r, false) {
		t.Error("the reader does not learn that the log was closed")
	}
	if _, err := fs.Stat(first.indexPath); !errors.Is(err, vfs.ErrNotExist) {
		t.Errorf("an index was written: %v", err)
	}
	if open := fs.open.Load(); open != 0 {
		t.Errorf("%d files are open", open)
	}
}

// A log that has failed and was closed is closed: its directory may be another
// Log's.
func TestClosedLogsThatFailedStayClosed(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, small)
	fill(t, l, 5, 0)
	must(t, l.Sync())
	fill(t, l, 5, 0)
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, segmentSuffix) {
			return fmt.Errorf("sync: %w", vfs.ErrBroken)
		}
		return nil
	})
	if err := l.Sync(); !errors.Is(err, ErrFailed) {
		t.Fatalf("sync: %v", err)
	}
	faulty.SetHook(nil)
	if err := l.Close(testNow); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v", err)
	}
	again, _ := mustOpen(t, faulty, small)
	if err := l.Close(testNow); err != nil {
		t.Errorf("close again: %v", err)
	}
	if err := l.Delete(); !errors.Is(err, ErrClosed) {
		t.Errorf("delete: %v", err)
	}
	if got := len(readAll(t, again, 1<<20)); got < 5 {
		t.Errorf("%d batches are left", got)
	}
	must(t, again.Close(testNow))
	if _, err := faulty.Stat(testDir); err != nil {
		t.Error(err)
	}
}

// What is appended to a segment while it is searched may be found or not, but what
// follows it in the next one is not found in its stead.
func TestTimesAreNotFoundBehindWhatIsAppendedMeanwhile(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, small)
	must(t, l.Append(testNow, batchOf(0, 2, 0, 1000, 10), batchOf(2, 2, 0, 10, 10)))
	must(t, l.Trim(2, nil)) // the segment's largest timestamp is below it
	meanwhile := true
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && op.Name == l.segments[0].path && meanwhile {
			meanwhile = false
			must(t, l.Append(testNow, batchOf(4, 1, 0, 600, 10)))
			_, err := l.Roll(testNow.UnixMilli()+1, -1)
			must(t, err)
			must(t, l.Append(testNow, batchOf(5, 1, 0, 700, 10)))
		}
		return nil
	})
	if r, ok, err := l.OffsetForTimestamp(500); err != nil || ok && r.Offset != 4 || meanwhile {
		t.Errorf("found %+v, %t, %v", r, ok, err)
	}
	if r, ok, err := l.OffsetForTimestamp(500); err != nil || !ok || r.Offset != 4 {
		t.Errorf("found %+v, %t, %v afterwards", r, ok, err)
	}
}

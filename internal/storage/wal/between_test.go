package wal

import (
	"path/filepath"
	"slices"
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

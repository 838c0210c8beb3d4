package wal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// verifyAll goes over a log in small pieces.
func verifyAll(t testing.TB, l *Log) (damaged []Piece, rebuilt int, sum uint32) {
	t.Helper()
	for from, end := l.Start(), l.End(); from < end; {
		p, err := l.Verify(from, end, 2000, sum)
		must(t, err)
		if p.To <= from {
			t.Fatalf("no progress at %d: %+v", from, p)
		}
		if p.Damage != nil {
			damaged = append(damaged, p)
		}
		if p.IndexRebuilt {
			rebuilt++
		}
		from, sum = p.To, p.Sum
	}
	return damaged, rebuilt, sum
}

// verifiable is a log of several segments and epochs, and what is in it.
func verifiable(t testing.TB, fs vfs.FS) (*Log, []record.Batch) {
	t.Helper()
	l, _ := mustOpen(t, fs, small)
	for e := range 4 {
		fill(t, l, 20, kafka.LeaderEpoch(e))
	}
	must(t, l.Sync())
	return l, readAll(t, l, 4000)
}

// mend repairs the segment with the offset from batches of another replica.
func mend(l *Log, offset kafka.Offset, from []record.Batch) error {
	r, err := l.Repair(offset)
	if err != nil {
		return err
	}
	for _, b := range from {
		if b.BaseOffset() >= r.From() && b.BaseOffset() < r.To() {
			if err := r.Append(b); err != nil {
				r.Abort()
				return err
			}
		}
	}
	return r.Commit()
}

func same(a, b []record.Batch) bool {
	return slices.EqualFunc(a, b, func(a, b record.Batch) bool { return bytes.Equal(a, b) })
}

func TestVerifyFindsFlippedBitsAndRepairMendsThem(t *testing.T) {
	count := 0
	fresh, _ := verifiable(t, vfs.NewMem())
	_, _, want := verifyAll(t, fresh)
	for step := 3; ; step += 149 {
		fs := vfs.NewMem()
		l, batches := verifiable(t, fs)
		entries, err := fs.List(testDir)
		must(t, err)
		at, flipped, was := step, "", []byte(nil)
		for _, e := range entries {
			b, err := vfs.ReadFile(fs, testDir+"/"+e.Name)
			must(t, err)
			isIndex := strings.HasSuffix(e.Name, indexSuffix)
			if !isIndex && !strings.HasSuffix(e.Name, segmentSuffix) || isIndex && strings.HasSuffix(l.active().indexPath, e.Name) {
				continue
			}
			if at < len(b) {
				flipped, was = e.Name, b
				edit(t, fs, testDir+"/"+e.Name, func(b []byte) []byte { b[at] ^= 1 << (step % 8); return b })
				break
			}
			at -= len(b)
		}
		if flipped == "" {
			break
		}
		count++
		damaged, _, _ := verifyAll(t, l)
		if strings.HasSuffix(flipped, indexSuffix) {
			now, err := vfs.ReadFile(fs, testDir+"/"+flipped)
			if len(damaged) != 0 || err != nil || !bytes.Equal(now, was) {
				t.Fatalf("byte %d of %s: damage %v, and the index is not as it was (%v)", at, flipped, damaged, err)
			}
		} else if len(damaged) != 1 || !strings.HasSuffix(damaged[0].Damage.File, flipped) {
			t.Fatalf("byte %d of %s: found %+v", at, flipped, damaged)
		} else if err := mend(l, damaged[0].SegmentBase, batches); err != nil {
			t.Fatalf("byte %d of %s: %v", at, flipped, err)
		}
		if damaged, rebuilt, sum := verifyAll(t, l); len(damaged) != 0 || rebuilt != 0 || sum != want {
			t.Fatalf("byte %d of %s, mended: damage %+v, %d indices made anew, sum %08x want %08x", at, flipped, damaged, rebuilt, sum, want)
		}
		if !same(readAll(t, l, 4000), batches) {
			t.Fatalf("byte %d of %s: other batches", at, flipped)
		}
		fill(t, l, 3, 5)
		must(t, l.Close(testNow))
		l, r := mustOpen(t, fs, small)
		if got := readAll(t, l, 4000); !same(got[:len(batches)], batches) || len(got) != len(batches)+3 || r.Damage != nil {
			t.Fatalf("byte %d of %s: other batches after a restart: %+v", at, flipped, r)
		}
	}
	if count < 120 {
		t.Fatalf("%d places only", count)
	}
}

func TestVerifyMeetsMissingFilesAndBadSectors(t *testing.T) {
	errSector := errors.New("input/output error")
	harm := map[string]func(fs *vfs.Faulty, l *Log, name string){
		"missing": func(fs *vfs.Faulty, l *Log, name string) {
			must(t, fs.Remove(name))
			l.segments[1].evict()
		},
		"bad sector": func(fs *vfs.Faulty, _ *Log, name string) {
			fs.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpRead && op.Name == name && op.Off >= headerSize {
					return errSector
				}
				return nil
			})
		},
		"cut short": func(fs *vfs.Faulty, _ *Log, name string) {
			edit(t, fs, name, func(b []byte) []byte { return b[:headerSize+1000] })
		},
		"another segment's bytes": func(fs *vfs.Faulty, l *Log, name string) {
			other, err := vfs.ReadFile(fs, l.segments[2].path)
			must(t, err)
			edit(t, fs, name, func([]byte) []byte { return other })
		},
	}
	for what, do := range harm {
		t.Run(what, func(t *testing.T) {
			fs := vfs.NewFaulty(vfs.NewMem())
			l, batches := verifiable(t, fs)
			base := l.segments[1].base
			do(fs, l, l.segments[1].path)
			damaged, _, _ := verifyAll(t, l)
			if len(damaged) != 1 || damaged[0].SegmentBase != base {
				t.Fatalf("found %+v", damaged)
			}
			must(t, mend(l, base, batches))
			if damaged, _, _ := verifyAll(t, l); len(damaged) != 0 || !same(readAll(t, l, 4000), batches) {
				t.Fatalf("mended, and found %+v", damaged)
			}
		})
	}
}

func TestRepairTakesOnlyWhatBelongsThere(t *testing.T) {
	l, batches := verifiable(t, vfs.NewMem())
	base := l.segments[1].base
	i := slices.IndexFunc(batches, func(b record.Batch) bool { return b.BaseOffset() == base })
	flipped := slices.Clone(batches[i])
	flipped[len(flipped)-1] ^= 1
	epoch := slices.Clone(batches[i])
	epoch.SetLeaderEpoch(77)
	for what, b := range map[string]record.Batch{"damaged": flipped, "of another epoch": epoch, "too early": batches[i-1], "too late": batches[i+1]} {
		r, err := l.Repair(base)
		must(t, err)
		if err := r.Append(b); !errors.Is(err, ErrBadBatch) && !errors.Is(err, ErrOrder) {
			t.Errorf("takes a batch that is %s: %v", what, err)
		}
		r.Abort()
	}
	r, err := l.Repair(base)
	must(t, err)
	must(t, r.Append(batches[i]))
	if err := r.Commit(); !errors.Is(err, ErrOrder) {
		t.Errorf("half a segment replaces a whole one: %v", err)
	}
	if damaged, _, _ := verifyAll(t, l); len(damaged) != 0 || !same(readAll(t, l, 4000), batches) {
		t.Errorf("the log has changed: %+v", damaged)
	}
	if _, err := l.Repair(l.End()); !errors.Is(err, ErrStale) {
		t.Errorf("repairs what is not there: %v", err)
	}
}

func TestCompactedSegmentsAreNotRepaired(t *testing.T) {
	l, batches := verifiable(t, vfs.NewMem())
	from, to := l.segments[0].base, l.segments[1].base
	w, err := l.Rewrite(from, to)
	must(t, err)
	must(t, w.Append(batches[1]))
	must(t, w.Commit())
	if p, err := l.Verify(from, to, 1<<20, 0); err != nil || !p.Compacted || p.Damage != nil || p.To != to {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := l.Repair(from); !errors.Is(err, ErrCompacted) {
		t.Errorf("a compacted segment: %v", err)
	}
}

// A crash during a repair leaves the damaged segment or the good one.
func TestACrashDuringARepairLosesNothing(t *testing.T) {
	for n := int64(1); ; n++ {
		disk := vfs.NewMem()
		must(t, vfs.MkdirAllSync(disk, "data"))
		faulty := vfs.NewFaulty(disk)
		l, batches := verifiable(t, faulty)
		which := len(l.segments) - 2
		if n%2 == 0 {
			which++ // the active one
		}
		s := l.segments[which]
		edit(t, faulty, s.path, func(b []byte) []byte { b[headerSize+700] ^= 4; return b })
		faulty.FailNth((n+1)/2, errPower)
		err := mend(l, s.base, batches)
		over := err == nil && faulty.Persisted() < (n+1)/2
		faulty.SetHook(nil)
		for _, survival := range []float64{0, 0.5, 1} {
			rng := rand.New(rand.NewPCG(uint64(n), 5))
			after := disk.Crash(rng, survival)
			l, _ := mustOpen(t, after, small)
			if l.End() != batches[len(batches)-1].NextOffset() {
				t.Fatalf("call %d, survival %v: log ends at %d", n, survival, l.End())
			}
			damaged, _, _ := verifyAll(t, l)
			if len(damaged) > 1 || len(damaged) == 1 && err == nil {
				t.Fatalf("call %d, survival %v, repair %v: %+v", n, survival, err, damaged)
			}
			if len(damaged) == 1 {
				must(t, mend(l, damaged[0].Damage.Offset, batches))
			}
			if !same(readAll(t, l, 4000), batches) {
				t.Fatalf("call %d, survival %v: other batches", n, survival)
			}
		}
		if over || n > 200 {
			if n < 20 {
				t.Fatalf("a repair has only %d persistence calls", n/2)
			}
			return
		}
	}
}

// Of a sealed segment that is not what it should be nothing is read after Open;
// what is around it is, and it can be repaired.
func TestOpenKeepsWhatIsAroundDamagedSegments(t *testing.T) {
	whole := func(change func(b []byte) []byte) func(fs vfs.FS, names []string, i int) int {
		return func(fs vfs.FS, names []string, i int) int { edit(t, fs, names[i], change); return 1 }
	}
	harm := map[string]func(fs vfs.FS, names []string, i int) (damaged int){
		"header":         whole(func(b []byte) []byte { b[50] ^= 2; return b }),
		"cut short":      whole(func(b []byte) []byte { return b[:len(b)-700] }),
		"cut to nothing": whole(func([]byte) []byte { return nil }),
		"longer":         whole(func(b []byte) []byte { return append(b, 1, 2, 3) }),
		"missing":        func(fs vfs.FS, names []string, i int) int { must(t, fs.Remove(names[i])); return 1 },
		"another's": func(fs vfs.FS, names []string, i int) int {
			b, err := vfs.ReadFile(fs, names[i+1])
			must(t, err)
			edit(t, fs, names[i], func([]byte) []byte { return b })
			return 1
		},
		"two headers": func(fs vfs.FS, names []string, i int) int {
			for _, name := range names[i : i+2] {
				edit(t, fs, name, func(b []byte) []byte { b[50] ^= 2; return b })
			}
			return 2
		},
	}
	for what, do := range harm {
		for _, repaired := range []bool{false, true} {
			for _, i := range []int{0, 1, 2} {
				fs := vfs.NewMem()
				l, batches := verifiable(t, fs)
				if repaired {
					must(t, mend(l, l.segments[i].base, batches))
				}
				must(t, l.Close(testNow))
				names := segmentFiles(t, fs)
				count := do(fs, names, i)
				l, r := mustOpen(t, fs, small)
				if what == "longer" {
					count = 0 // that was a write that failed
				}
				if len(r.Damages) != count {
					t.Fatalf("%s, segment %d, repaired %t: found %v", what, i, repaired, r.Damages)
				}
				if b := l.Bounds(); b.Start != 0 || b.End != batches[len(batches)-1].NextOffset() {
					t.Fatalf("%s, segment %d: bounds %+v", what, i, b)
				}
				for _, want := range batches {
					bad := slices.ContainsFunc(r.Damages, func(d *CorruptError) bool {
						s := l.segments[l.find(d.Offset)]
						return want.BaseOffset() >= s.base && l.segments[l.find(want.BaseOffset())] == s
					})
					got, err := l.Read(want.BaseOffset(), want.NextOffset(), 1, nil)
					if bad && !errors.Is(err, ErrCorrupt) || !bad && (err != nil || !bytes.Equal(got, want)) {
						t.Fatalf("%s, segment %d, offset %d, bad %t: %d bytes, %v", what, i, want.BaseOffset(), bad, len(got), err)
					}
				}
				damaged, _, _ := verifyAll(t, l)
				if len(damaged) != count {
					t.Fatalf("%s, segment %d: %+v", what, i, damaged)
				}
				for _, d := range damaged {
					must(t, mend(l, d.SegmentBase, batches))
				}
				fill(t, l, 2, 7)
				must(t, l.Close(testNow))
				l, r = mustOpen(t, fs, small)
				if got := readAll(t, l, 4000); len(r.Damages) != 0 || len(got) != len(batches)+2 || !same(got[:len(batches)], batches) {
					t.Fatalf("%s, segment %d, mended: %d batches, %+v", what, i, len(got), r)
				}
			}
		}
	}
}

// Nobody may have any more what is before the log start offset.
func TestSegmentWithTheLogStartIsRepairedFromThere(t *testing.T) {
	fs := vfs.NewMem()
	l, batches := verifiable(t, fs)
	start := batches[5].BaseOffset() + 1
	must(t, l.Trim(start, nil))
	edit(t, fs, l.segments[0].path, func(b []byte) []byte { b[headerSize+2500] ^= 1; return b })
	damaged, _, _ := verifyAll(t, l)
	if len(damaged) != 1 || damaged[0].SegmentBase >= start {
		t.Fatalf("found %+v, log begins at %d", damaged, start)
	}
	r, err := l.Repair(start)
	must(t, err)
	if r.Next() != start {
		t.Fatalf("wants %d first, log begins at %d", r.Next(), start)
	}
	for _, b := range batches {
		if b.LastOffset() >= r.Next() && b.BaseOffset() < r.To() {
			must(t, r.Append(b))
		}
	}
	must(t, r.Commit())
	for range 2 {
		if damaged, _, _ := verifyAll(t, l); len(damaged) != 0 || l.Start() != start {
			t.Fatalf("found %+v, log begins at %d", damaged, l.Start())
		}
		want := batches[5:]
		if got := readAll(t, l, 4000); !same(got, want) {
			t.Fatalf("%d batches, want %d", len(got), len(want))
		}
		must(t, l.Close(testNow))
		l, _ = mustOpen(t, fs, small)
	}
}

// The index of a segment that a truncation has made the active one meanwhile is
// the writer's.
func TestVerifyLeavesTheIndexOfASegmentThatIsWrittenAgain(t *testing.T) {
	l, _ := mustOpen(t, vfs.NewMem(), small)
	fill(t, l, 60, 0)
	must(t, l.Sync())
	r, err := l.beginRead(0, l.End())
	must(t, err)
	must(t, l.TruncateFrom(r.segmentEnd-4))
	fill(t, l, 2, 1)
	want := len(r.segment.index)
	if rebuilt, err := l.verifyIndex(&r); rebuilt || err != nil || len(r.segment.index) != want || !r.segment.loaded {
		t.Errorf("rebuilt %t, %v, %d entries of %d", rebuilt, err, len(r.segment.index), want)
	}
}

// An index is made of the batches: one that cannot be read is made again, and
// the batches are as good as they were.
func TestAnIndexThatCannotBeReadIsNoDamage(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.EMFILE} {
		faulty := vfs.NewFaulty(vfs.NewMem())
		l, want := verifiable(t, faulty)
		must(t, l.Close(testNow))
		l, _ = mustOpen(t, faulty, small)
		refused := 0
		faulty.SetHook(func(op vfs.Op) error {
			if strings.HasSuffix(op.Name, indexSuffix) && (op.Kind == vfs.OpOpen || op.Kind == vfs.OpRead) {
				refused++
				return cause
			}
			return nil
		})
		if damaged, _, _ := verifyAll(t, l); len(damaged) > 0 {
			t.Errorf("%v: %d pieces are damaged, the first: %v", cause, len(damaged), damaged[0].Damage)
		}
		if got := readAll(t, l, 4000); len(got) != len(want) {
			t.Errorf("%v: %d batches can be read, want %d", cause, len(got), len(want))
		}
		if refused == 0 {
			t.Error("no index was read")
		}
		faulty.SetHook(nil)
		must(t, l.Close(testNow))
		l, r := mustOpen(t, faulty, small)
		if damaged, rebuilt, _ := verifyAll(t, l); len(damaged) > 0 || rebuilt > 0 {
			t.Errorf("%v: opened again: %d damaged, %d indices made again: %+v", cause, len(damaged), rebuilt, r)
		}
	}
}

// A repair may begin while compaction is writing the same segment anew: the one
// that is done first counts, and the other leaves it alone.
func TestTwoMayRewriteOneSegment(t *testing.T) {
	for _, first := range []string{"rewrite", "repair"} {
		fs := vfs.NewMem()
		l, batches := verifiable(t, fs)
		s, to := l.segments[1], l.segments[2].base
		w, err := l.Rewrite(s.base, to)
		must(t, err)
		var here int
		for i, b := range batches {
			if b.BaseOffset() >= s.base && b.BaseOffset() < to {
				must(t, w.Append(b))
				here = i
			}
		}
		must(t, w.flush())
		r, err := l.Repair(s.base)
		must(t, err)
		for _, b := range batches[:here+1] {
			if b.BaseOffset() >= s.base {
				must(t, r.Append(b))
			}
		}
		one, other := w.Commit, r.Commit
		if first == "repair" {
			one, other = other, one
		}
		must(t, one())
		if got, err := l.Read(s.base, to, 1<<20, nil); err != nil || len(got) == 0 {
			t.Errorf("%s first: read %d bytes, %v", first, len(got), err)
		}
		if err := other(); !errors.Is(err, ErrStale) || l.Err() != nil {
			t.Errorf("%s first, then the other: %v, %v", first, err, l.Err())
		}
		if _, err := fs.Stat(l.segments[1].indexPath); err != nil {
			t.Errorf("%s first: its index: %v", first, err)
		}
		if got := readAll(t, l, 1<<20); !same(got, batches) {
			t.Errorf("%s first: %d batches", first, len(got))
		}
		must(t, l.Close(testNow))
		l, _ = mustOpen(t, fs, small)
		if got := readAll(t, l, 1<<20); !same(got, batches) {
			t.Errorf("%s first, opened again: %d batches", first, len(got))
		}
	}
}

// Damage below the log start offset is nobody's: the index of its segment is made
// anew once, not each time.
func TestIndexOfWhatIsDeletedIsMadeAnewOnce(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 100, 1)
	must(t, l.Trim(10, nil))
	must(t, l.Close(testNow))
	first := segmentFiles(t, fs)[0]
	edit(t, fs, first, func(b []byte) []byte { b[headerSize+200] ^= 1; return b })
	must(t, fs.Remove(strings.TrimSuffix(first, segmentSuffix)+indexSuffix))
	l, _ = mustOpen(t, fs, small)
	rebuilt := 0
	for range 3 {
		for from := l.Start(); from < l.End(); {
			piece, err := l.Verify(from, l.End(), 1<<20, 0)
			if err != nil || piece.Damage != nil || piece.To == from {
				t.Fatalf("at %d: %+v, %v", from, piece, err)
			}
			if piece.IndexRebuilt {
				rebuilt++
			}
			from = piece.To
		}
	}
	if rebuilt > 1 {
		t.Errorf("made anew %d times", rebuilt)
	}
}

package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
	"chronik/internal/storage/statefile"
)

// damaged makes a log of 100 batches, crashes it, and flips a bit of one of
// them. It returns the log opened again, where it opens, and the batches.
func damaged(t *testing.T, gap kafka.Offset, at int, bit int) (l *Log, batches []record.Batch) {
	t.Helper()
	return damagedAndMore(t, 1, gap, at, bit, func(vfs.FS) {})
}

// damagedAndMore is damaged with fewer index entries and where more happens to
// the files.
func damagedAndMore(t *testing.T, interval int64, gap kafka.Offset, at int, bit int, more func(vfs.FS)) (l *Log, batches []record.Batch) {
	t.Helper()
	fs := vfs.NewMem()
	opts := small
	opts.IndexIntervalBytes = interval
	l, _ = mustOpen(t, fs, opts)
	next := kafka.Offset(0)
	for i := range 100 {
		b := batchOf(next, 2, kafka.LeaderEpoch(i/30), int64(i)*10, 200)
		must(t, l.Append(testNow, b))
		batches = append(batches, b)
		next = b.NextOffset() + gap
	}
	must(t, l.Sync())
	fs = fs.Crash(nil, 1)
	found := false
	for _, name := range segmentFiles(t, fs) {
		b, err := vfs.ReadFile(fs, name)
		must(t, err)
		if pos := bytes.Index(b, batches[at]); pos >= 0 {
			found = true
			edit(t, fs, name, func(b []byte) []byte { b[pos+bit/8] ^= 1 << (bit % 8); return b })
		}
	}
	if !found {
		t.Fatal("batch is in no segment")
	}
	more(fs)
	l, r := mustOpen(t, fs, opts)
	if r.CutBytes != 0 || l.End() != batches[99].NextOffset() {
		t.Fatalf("%d bytes were cut off, the log ends at %d", r.CutBytes, l.End())
	}
	return l, batches
}

// Any bit of a batch's header that is not what was written is an error at its
// offsets, and nowhere else: no reader gets a wrong batch, waits for one that
// is there, or misses one silently.
func TestEveryFlippedBitOfAHeaderIsMetByItsReaders(t *testing.T) {
	exhaustive(t)
	for _, gap := range []kafka.Offset{0, 1} {
		for _, at := range []int{40, 98, 99} { // in a sealed segment, in the active one, the last
			step := 1
			if gap > 0 || at > 90 {
				step = 7
			}
			for bit := 0; bit < record.HeaderSize*8; bit += step {
				if at == 99 && bit/8 >= 12 && bit/8 < 16 {
					continue // nothing but the last batch itself tells of its leader epoch
				}
				if at > 90 && gap > 0 && bit == 7*8 {
					continue // it moves the batch by one, into the gap, and is not in the index yet
				}
				name := fmt.Sprintf("gap %d, batch %d, byte %d, bit %d", gap, at, bit/8, bit%8)
				l, batches := damaged(t, gap, at, bit)
				from := kafka.Offset(0)
				for i, want := range batches {
					got, err := l.Read(from, l.End(), 1, nil)
					if i == at {
						if !errors.Is(err, ErrCorrupt) {
							t.Errorf("%s: read %d bytes, %v", name, len(got), err)
						}
					} else if err != nil || !bytes.Equal(got, want) {
						if i > at && at > 90 && errors.Is(err, ErrCorrupt) { // it was not in the index before the crash
							from = want.NextOffset()
							continue
						}
						if gap > 0 && i == at-1 && errors.Is(err, ErrCorrupt) { // which of the two is wrong is not known
							from = batches[at].BaseOffset()
							continue
						}
						t.Fatalf("%s: batch %d: %d bytes, %v", name, i, len(got), err)
					}
					from = want.NextOffset()
					if i == at {
						from += gap
					}
				}
				from = l.End()
				more := batchOf(from+gap, 2, 3, 0, 200)
				must(t, l.Append(testNow, more))
				if got, err := l.Read(from, l.End(), 1, nil); err != nil || !bytes.Equal(got, more) {
					t.Fatalf("%s: a batch that was appended behind it: %d bytes, %v", name, len(got), err)
				}
				got, err := l.Read(0, l.End(), 1<<20, nil)
				if err != nil || len(got) == 0 || !bytes.HasPrefix(bytes.Join(toBytes(batches), nil), got) {
					t.Errorf("%s: large read: %d bytes, %v", name, len(got), err)
				}
				must(t, l.Close(testNow))
			}
		}
	}
}

func toBytes(batches []record.Batch) (out [][]byte) {
	for _, b := range batches {
		out = append(out, b)
	}
	return out
}

func TestHeadersAreVisitedAroundDamage(t *testing.T) {
	for bit := range record.HeaderSize * 8 {
		l, batches := damaged(t, 0, 40, bit)
		seen, damage := map[kafka.Offset]bool{}, 0
		err := l.Headers(0, l.End(), HeaderVisitor{
			Batch: func(h record.Batch, whole func() (record.Batch, error)) error {
				base := h.BaseOffset()
				if base%7 == 0 {
					if b, err := whole(); err != nil || !b.VerifyCRC() {
						return err
					}
				}
				seen[base] = true
				return nil
			},
			Damaged: func(*CorruptError) { damage++ },
		})
		must(t, err)
		for i, b := range batches {
			if i != 40 && !seen[b.BaseOffset()] && (i != 41 || damage == 0) {
				t.Errorf("byte %d, bit %d: batch %d was not visited; damage in %d places", bit/8, bit%8, i, damage)
			}
		}
		must(t, l.Close(testNow))
	}
}

// The newest record of what cannot be read is not known: a time is not looked up
// past it, nor is a segment too old because of what is left of it.
func TestTimesAreNotLookedUpPastDamage(t *testing.T) {
	exhaustive(t)
	dropIndices := func(fs vfs.FS) {
		for _, name := range segmentFiles(t, fs) {
			if err := fs.Remove(strings.TrimSuffix(name, segmentSuffix) + indexSuffix); err != nil && !errors.Is(err, vfs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	for what, more := range map[string]func(vfs.FS){"index kept": func(vfs.FS) {}, "index lost": dropIndices} {
		for _, at := range []int{40, 70, 98, 99} { // in sealed segments, in the active one, the last
			for bit := 0; bit < (record.HeaderSize+100)*8; bit += 3 {
				name := fmt.Sprintf("%s, batch %d, byte %d, bit %d", what, at, bit/8, bit%8)
				if bit/8 >= 12 && bit/8 < 16 {
					continue // the leader epoch says nothing of times
				}
				l, batches := damagedAndMore(t, int64(1+bit%2*2000), 0, at, bit, more)
				met := 0
				for i, b := range batches {
					got, ok, err := l.OffsetForTimestamp(int64(i) * 10)
					if errors.Is(err, ErrCorrupt) {
						met++
					} else if err != nil || !ok || got.Offset != b.BaseOffset() || got.Timestamp != int64(i)*10 {
						t.Fatalf("%s: batch %d at %d by time: %+v, %t, %v", name, i, b.BaseOffset(), got, ok, err)
					}
				}
				if met == 0 {
					t.Errorf("%s: nobody met it", name)
				}
				if got, ok, err := l.MaxTimestamp(); !errors.Is(err, ErrCorrupt) && (err != nil || !ok || got.Timestamp != 991) {
					t.Errorf("%s: the largest timestamp is that of %+v, %t, %v", name, got, ok, err)
				}
				start, err := l.RetainFrom(time.UnixMilli(int64(at)*10+1), Retention{Ms: 0, Bytes: -1}, l.End())
				if err != nil && !errors.Is(err, ErrCorrupt) || start > batches[at].BaseOffset() {
					t.Errorf("%s: retention lets all below %d go, %v", name, start, err)
				}
				// Where nothing better is known, it is as old as its last append.
				if start, err := l.RetainFrom(testNow.Add(time.Hour), Retention{Ms: 1000, Bytes: -1}, l.End()); err != nil || start != l.End() {
					t.Errorf("%s: retention lets all below %d go, %v, but all is old", name, start, err)
				}
				must(t, l.Close(testNow))
			}
		}
	}
}

// What a segment was thought to be while it could not be read is forgotten when
// it is found to be sound.
func TestTimesAreLearnedAnewOnceTheDamageIsGone(t *testing.T) {
	for _, at := range []int{40, 98} {
		var fs vfs.FS
		l, batches := damagedAndMore(t, 600, 0, at, 16*8, func(on vfs.FS) {
			fs = on
			for _, name := range segmentFiles(t, fs) {
				_ = fs.Remove(strings.TrimSuffix(name, segmentSuffix) + indexSuffix)
			}
		})
		if _, _, err := l.MaxTimestamp(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("batch %d: found the largest timestamp: %v", at, err)
		}
		must(t, l.sealAt(l.End()-1))
		s := l.segments[l.find(batches[at].BaseOffset())]
		edit(t, fs, s.path, func(b []byte) []byte {
			pos := bytes.Index(b, batches[at][17:])
			copy(b[pos-17:], batches[at])
			return b
		})
		if damaged, _, _ := verifyAll(t, l); len(damaged) != 0 {
			t.Errorf("batch %d: %d damages", at, len(damaged))
		}
		if got, ok, err := l.MaxTimestamp(); err != nil || !ok || got.Timestamp != 991 {
			t.Errorf("batch %d: the largest timestamp is that of %+v, %t, %v", at, got, ok, err)
		}
		must(t, l.Close(testNow))
	}
}

func TestHeadersOfLargeBatchesAreAllThatIsRead(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, Options{IndexIntervalBytes: 1 << 20})
	for i := range 64 {
		must(t, l.Append(testNow, batchOf(kafka.Offset(i), 1, 0, 1, 32<<10)))
	}
	must(t, l.Sync())
	l, r := mustOpen(t, fs.Crash(nil, 1), Options{IndexIntervalBytes: 1 << 20})
	if r.ScannedBytes > 512<<10 {
		t.Errorf("Open read %d bytes", r.ScannedBytes)
	}
	n := 0
	must(t, l.Headers(10, 60, HeaderVisitor{Batch: func(record.Batch, func() (record.Batch, error)) error { n++; return nil }}))
	if n != 50 {
		t.Errorf("%d headers", n)
	}
}

func TestNotedStateOutlivesTheProcess(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	check := func(fs vfs.FS, want kafka.Offset) {
		t.Helper()
		l, _ := mustOpen(t, fs, small)
		o, b, ok, _ := l.LoadState(l.End())
		if !ok || o != want || string(b) != fmt.Sprint(want) {
			t.Errorf("state of %d: %q, %t; want %d", o, b, ok, want)
		}
		must(t, l.Close(testNow))
	}
	for i := range 20 {
		fill(t, l, 10, 0)
		must(t, l.Sync())
		if i == 3 {
			must(t, l.SaveState(l.End(), fmt.Append(nil, l.End()), l.Truncations()))
		} else {
			must(t, l.NoteState(l.End(), fmt.Append(nil, l.End()), l.Truncations()))
		}
	}
	if n := len(l.states); n != 1 || l.noted != [2]kafka.Offset{400, 380} {
		t.Errorf("%d states and notes %v are kept", n, l.noted)
	}
	// A note that was being written when the process was killed.
	half := fs.Crash(nil, 1)
	edit(t, half, l.notedPath(0), func(b []byte) []byte { return b[:len(b)-1] })
	check(half, 380)
	check(fs.Crash(nil, 1), 400)
	check(fs.Crash(rand.New(rand.NewPCG(1, 1)), 0), 80) // nothing that was not synced is left
}

// Of the active segment nobody knows after a crash when it was last appended to.
// Where a damaged batch hides its largest timestamp, it does not count as being
// as old as its file.
func TestRetentionSparesTheActiveSegmentWhoseTimesAreDamaged(t *testing.T) {
	for _, at := range []int{8, 16, record.HeaderSize + 40} { // of the batch: its length, its CRC's, a record
		fs, opts := vfs.NewMem(), small
		opts.SegmentBytes, opts.CheckpointBytes, opts.IndexIntervalBytes = 1<<20, 1, 2000
		l, _ := mustOpen(t, fs, opts)
		must(t, l.Append(testNow, batchOf(0, 2, 0, testNow.UnixMilli(), 200))) // makes the file
		now := testNow.Add(2 * time.Hour)
		var damaged record.Batch
		for i := range 10 {
			b := batchOf(l.End(), 2, 0, now.UnixMilli(), 200)
			must(t, l.Append(now, b))
			if i == 8 {
				damaged = b
			}
		}
		must(t, l.Sync())
		fs = fs.Crash(nil, 1)
		name := segmentFiles(t, fs)[0]
		edit(t, fs, name, func(b []byte) []byte { b[bytes.Index(b, damaged)+at] ^= 4; return b })
		now = now.Add(time.Minute)
		l, _, err := Open(fs, testDir, testID, opts, now)
		must(t, err)
		hour := Retention{Ms: time.Hour.Milliseconds(), Bytes: -1}
		for _, then := range []time.Time{now, now.Add(50 * time.Minute)} {
			if start, err := l.RetainFrom(then, hour, l.End()); err != nil || start != 0 {
				t.Errorf("byte %d: after %v all below %d goes, %v", at, then.Sub(now), start, err)
			}
		}
		if start, err := l.RetainFrom(now.Add(2*time.Hour), hour, l.End()); err != nil || start != l.End() {
			t.Errorf("byte %d: two hours later all below %d goes, %v", at, start, err)
		}
		must(t, l.Close(now))
	}
}

// Nor is it when a truncation makes a sealed segment the active one.
func TestRetentionSparesASegmentThatIsActiveAgain(t *testing.T) {
	l, _ := mustOpen(t, vfs.NewMem(), small)
	must(t, l.Append(testNow, batchOf(0, 1, 0, record.NoTimestamp, 200)))
	now := testNow.Add(2 * time.Hour)
	for len(l.segments) < 2 {
		must(t, l.Append(now, batchOf(l.End(), 1, 0, record.NoTimestamp, 200)))
	}
	must(t, l.Sync())
	must(t, l.Close(now))
	l, _, err := Open(l.fs, testDir, testID, small, now)
	must(t, err)
	must(t, l.TruncateFrom(4))
	if start, err := l.RetainFrom(now, Retention{Ms: time.Hour.Milliseconds(), Bytes: -1}, l.End()); err != nil || start != 0 {
		t.Errorf("all below %d goes, %v", start, err)
	}
	must(t, l.Close(now))
}

// When the segment was made that follows one without timestamps is in its header.
// If that is damaged or gone, the records before it are not taken for old.
func TestRetentionSparesWhatADamagedHeaderFollows(t *testing.T) {
	for what, damage := range map[string]func(fs vfs.FS, name string){
		"damaged": func(fs vfs.FS, name string) { edit(t, fs, name, func(b []byte) []byte { b[30] ^= 1; return b }) },
		"gone":    func(fs vfs.FS, name string) { must(t, fs.Remove(name)) },
	} {
		l, _ := mustOpen(t, vfs.NewMem(), small)
		for len(l.segments) < 4 {
			must(t, l.Append(testNow, batchOf(l.End(), 1, 0, record.NoTimestamp, 200)))
		}
		batches := readAll(t, l, 1<<20)
		must(t, l.Sync())
		must(t, l.Close(testNow))
		damage(l.fs, segmentFiles(t, l.fs)[1])
		now := testNow.Add(time.Minute)
		l, r, err := Open(l.fs, testDir, testID, small, now)
		must(t, err)
		if len(r.Damages) != 1 {
			t.Fatalf("%s: damages %v", what, r.Damages)
		}
		hour := Retention{Ms: time.Hour.Milliseconds(), Bytes: -1}
		check := func(when string) {
			t.Helper()
			if start, err := l.RetainFrom(now, hour, l.End()); err != nil && !errors.Is(err, ErrCorrupt) || start != 0 {
				t.Errorf("%s, %s: all below %d goes, %v", what, when, start, err)
			}
		}
		check("damaged")
		w, err := l.Repair(r.Damages[0].Offset)
		must(t, err)
		for _, b := range batches {
			if b.BaseOffset() >= w.From() && b.BaseOffset() < w.To() {
				must(t, w.Append(b))
			}
		}
		must(t, w.Commit())
		check("repaired")
		must(t, l.Close(now))
		l, _, err = Open(l.fs, testDir, testID, small, now)
		must(t, err)
		check("opened again")
		if start, err := l.RetainFrom(now.Add(2*time.Hour), hour, l.End()); err != nil || start != l.End() {
			t.Errorf("%s: two hours later all below %d goes, %v", what, start, err)
		}
		must(t, l.Close(now))
	}
}

// A segment of which nothing is left, its index neither, keeps retention from
// nothing, and those around it from being known.
func TestRetentionGoesOnAroundAMissingSegment(t *testing.T) {
	l, _ := mustOpen(t, vfs.NewMem(), small)
	fill(t, l, 100, 1)
	must(t, l.Sync())
	must(t, l.Close(testNow))
	for _, name := range segmentFiles(t, l.fs)[1:2] {
		must(t, l.fs.Remove(name))
		must(t, l.fs.Remove(name[:len(name)-len(segmentSuffix)]+indexSuffix))
	}
	l, r := mustOpen(t, l.fs, small)
	if len(r.Damages) != 1 {
		t.Fatalf("damages %v", r.Damages)
	}
	if start, err := l.RetainFrom(testNow, Retention{Ms: -1, Bytes: 1}, l.End()); err != nil || start != l.active().base {
		t.Errorf("by size all below %d goes, %v", start, err)
	}
	if start, err := l.RetainFrom(testNow.Add(2*time.Hour), Retention{Ms: time.Hour.Milliseconds(), Bytes: -1}, l.End()); err != nil || start != l.End() {
		t.Errorf("by age all below %d goes, %v", start, err)
	}
	if _, _, err := l.OffsetForTimestamp(1 << 50); !errors.Is(err, ErrCorrupt) {
		t.Errorf("looked up a time that the missing segment may have: %v", err)
	}
}

// The header of a segment that nothing was written to yet is damaged: nothing is
// lost, and the log is as it was, whenever a crash comes then.
func TestDamagedHeaderOfAnEmptySegmentLosesNothing(t *testing.T) {
	for _, closed := range []bool{false, true} {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		fill(t, l, 100, 1)
		must(t, l.Sync())
		if rolled, err := l.Roll(testNow.UnixMilli()+1000, 1); !rolled || err != nil {
			t.Fatal(rolled, err)
		}
		want := readAll(t, l, 1)
		if closed {
			must(t, l.Close(testNow))
		}
		fs = fs.Crash(nil, 1)
		files := segmentFiles(t, fs)
		edit(t, fs, files[len(files)-1], func(b []byte) []byte { b[30] ^= 1; return b })

		var crashes []*vfs.Mem
		faulty := vfs.NewFaulty(fs)
		faulty.SetHook(func(vfs.Op) error {
			crashes = append(crashes, fs.Crash(nil, 0), fs.Crash(nil, 1))
			return nil
		})
		l, r := mustOpen(t, faulty, small)
		if l.End() != 200 || len(readAll(t, l, 1)) != len(want) || r.Damage != nil {
			t.Fatalf("closed %t: %+v", closed, r)
		}
		fill(t, l, 20, 2)
		must(t, l.Sync())
		for i, fs := range crashes {
			l, _, err := Open(fs, testDir, testID, small, testNow)
			if err != nil || l.End() < 200 || len(readAll(t, l, 1)) < len(want) {
				t.Fatalf("closed %t, after crash %d of %d: %v", closed, i, len(crashes), err)
			}
			must(t, l.Close(testNow))
		}
		if l, _ := mustOpen(t, fs.Crash(nil, 0), small); l.End() != 240 || l.LastEpoch() != 2 {
			t.Errorf("closed %t: it ends at %d in epoch %d", closed, l.End(), l.LastEpoch())
		}
	}
}

// The header is damaged of a segment in which something is that the last checkpoint
// on the disk does not tell of: it is not taken for what was never synced.
func TestDamagedHeaderBeforeSyncedRecordsRemovesNothing(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		fs := vfs.NewMem()
		opts := small
		opts.CheckpointBytes = 1 << 30
		l, _ := mustOpen(t, fs, opts)
		fill(t, l, 20, 1)
		must(t, l.Sync())
		if sealed {
			if rolled, err := l.Roll(testNow.UnixMilli()+1000, 1); !rolled || err != nil {
				t.Fatal(rolled, err)
			}
		} else {
			must(t, l.Trim(40, nil))
		}
		fill(t, l, 3, 1)
		must(t, l.Sync())
		fs = fs.Crash(nil, 0)
		files := segmentFiles(t, fs)
		last := files[len(files)-1]
		edit(t, fs, last, func(b []byte) []byte { b[30] ^= 1; return b })
		before, _ := fs.Stat(last)
		_, _, err := Open(fs, testDir, testID, opts, testNow)
		after, serr := fs.Stat(last)
		if !errors.Is(err, ErrCorrupt) || serr != nil || after.Size != before.Size {
			t.Errorf("sealed %t: %v; the file has %d bytes, had %d", sealed, err, after.Size, before.Size)
		}
	}
}

// Who opens a log that is damaged has it copied anew: that holds for one whose
// reset was interrupted, too.
func TestTheStateOfAResetIsDamaged(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 10, 1)
	must(t, l.Sync())
	must(t, statefile.Save(fs, l.resetState(), []byte("producers")))
	must(t, l.checkpoint.save(checkpoint{flags: flagResetting | flagHasState, start: 50, point: position{50, headerSize, 50}}))
	name := l.resetState()
	l.Abandon()
	b, err := vfs.ReadFile(fs, name)
	must(t, err)
	f, err := fs.Open(name, vfs.ReadWrite)
	must(t, err)
	_, err = f.WriteAt([]byte{b[len(b)-1] ^ 1}, int64(len(b)-1))
	must(t, err)
	must(t, f.Close())
	var damage *CorruptError
	if _, _, err := Open(fs, testDir, testID, small, testNow); !errors.As(err, &damage) || damage.Offset != 50 {
		t.Errorf("opened: %v", err)
	}
}

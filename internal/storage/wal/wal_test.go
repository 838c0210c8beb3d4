package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

var (
	testID  = Identity{TopicID: kafka.TopicID{1, 2, 3}, Partition: 7}
	testNow = time.UnixMilli(1_700_000_000_000)
	testDir = "data/orders-7"
)

// small options make segments, index entries and checkpoints frequent.
var small = Options{SegmentBytes: 8 << 10, IndexIntervalBytes: 600, CheckpointBytes: 4 << 10, OpenSegmentsMax: 2}

func batchOf(base kafka.Offset, records int, epoch kafka.LeaderEpoch, ms int64, valueBytes int) record.Batch {
	bd := record.NewBuilder(record.BuilderOptions{BaseOffset: base, LeaderEpoch: epoch})
	for i := range records {
		v := bytes.Repeat([]byte{byte(base) + byte(i)*31 + byte(epoch)}, valueBytes)
		bd.Append(ms+int64(i), []byte("k"), v)
	}
	return bd.Build()
}

func mustOpen(t testing.TB, fs vfs.FS, opts Options) (*Log, Recovery) {
	t.Helper()
	l, r, err := Open(fs, testDir, testID, opts, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return l, r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill appends n batches of two records from the end on.
func fill(t testing.TB, l *Log, n int, epoch kafka.LeaderEpoch) {
	t.Helper()
	for range n {
		o := l.End()
		must(t, l.Append(testNow, batchOf(o, 2, epoch, int64(o)*10, 200)))
	}
}

// readAll reads everything from the log start offset on.
func readAll(t testing.TB, l *Log, maxBytes int) []record.Batch {
	t.Helper()
	var out []record.Batch
	b := l.Bounds()
	for from := b.Start; from < b.End; {
		buf, err := l.Read(from, b.End, maxBytes, nil)
		if err != nil {
			t.Fatalf("read at %d of %+v: %v", from, b, err)
		}
		if len(buf) == 0 {
			break
		}
		for len(buf) > 0 {
			var batch record.Batch
			batch, buf, err = record.Next(buf)
			must(t, err)
			out = append(out, batch)
			from = batch.NextOffset()
		}
	}
	return out
}

func TestReadReturnsWhatWasAppended(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		fs := vfs.NewMem()
		l, r := mustOpen(t, fs, small)
		if !r.Created {
			t.Error("recovery does not say that the log is new")
		}
		fill(t, l, 200, 1)
		if reopen {
			must(t, l.Close(testNow))
			l, r = mustOpen(t, fs, small)
			if !r.Clean || r.ScannedBytes != 0 || r.CutBytes != 0 {
				t.Errorf("recovery after Close: %+v", r)
			}
		}
		for _, maxBytes := range []int{1, 1000, 5000, 1 << 20} {
			got := readAll(t, l, maxBytes)
			if len(got) != 200 {
				t.Fatalf("read %d batches", len(got))
			}
			for i, b := range got {
				want := batchOf(kafka.Offset(2*i), 2, 1, int64(2*i)*10, 200)
				if !bytes.Equal(b, want) {
					t.Fatalf("batch %d differs", i)
				}
			}
		}
		if s, err := l.Segments(); err != nil || len(s) < 5 {
			t.Errorf("%d segments, %v", len(s), err)
		}
	}
}

func TestReadBeginsWithTheBatchThatContainsTheOffset(t *testing.T) {
	l, _ := mustOpen(t, vfs.NewMem(), small)
	fill(t, l, 100, 0)
	for _, from := range []kafka.Offset{0, 1, 2, 55, 99, 150, 198, 199} {
		buf, err := l.Read(from, l.End(), 1, []byte("before"))
		must(t, err)
		if string(buf[:6]) != "before" {
			t.Fatal("the buffer was not appended to")
		}
		b, rest, err := record.Next(buf[6:])
		must(t, err)
		if len(rest) != 0 || b.BaseOffset() > from || b.LastOffset() < from {
			t.Errorf("read at %d: offsets %d to %d, %d bytes more", from, b.BaseOffset(), b.LastOffset(), len(rest))
		}
	}
	if _, err := l.Read(201, 300, 1, nil); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("above the end: %v", err)
	}
	if b, err := l.Read(200, 300, 1, nil); err != nil || len(b) != 0 {
		t.Errorf("at the end: %d bytes, %v", len(b), err)
	}
	// A batch that reaches to the limit is not read, one below it is.
	if b, err := l.Read(10, 11, 1<<20, nil); err != nil || len(b) != 0 {
		t.Errorf("limit within a batch: %d bytes, %v", len(b), err)
	}
	b, err := l.Read(10, 13, 1<<20, nil)
	must(t, err)
	if batch, rest, err := record.Next(b); err != nil || batch.BaseOffset() != 10 || len(rest) != 0 {
		t.Errorf("limit in the next batch: %v, %d bytes more", err, len(rest))
	}
}

func TestGapsInOffsetsAreReadOver(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	for i := range 100 {
		must(t, l.Append(testNow, batchOf(kafka.Offset(i*10), 2, 0, 0, 200)))
	}
	for range 2 {
		for from := kafka.Offset(0); from < 992; from++ {
			b, err := l.Read(from, l.End(), 1, nil)
			must(t, err)
			want := from / 10 * 10
			if from%10 > 1 {
				want += 10
			}
			if got := record.Batch(b).BaseOffset(); got != want {
				t.Fatalf("read at %d begins at %d, want %d", from, got, want)
			}
		}
		must(t, l.Close(testNow))
		l, _ = mustOpen(t, fs, small)
	}
}

func TestAppendRefusesWhatIsOutOfOrder(t *testing.T) {
	l, _ := mustOpen(t, vfs.NewMem(), small)
	fill(t, l, 5, 3)
	for name, b := range map[string]record.Batch{
		"offset":   batchOf(9, 1, 3, 0, 1),
		"epoch":    batchOf(10, 1, 2, 0, 1),
		"no batch": make([]byte, 61),
		"too long": append(batchOf(10, 1, 3, 0, 1), 0),
	} {
		if err := l.Append(testNow, b); !errors.Is(err, ErrOrder) && !errors.Is(err, ErrBadBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l.End() != 10 {
		t.Errorf("end is %d", l.End())
	}
}

func TestTruncateDropsTheBatchWithTheOffsetAndAllAfter(t *testing.T) {
	for offset := kafka.Offset(0); offset <= 101; offset += 3 {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		fill(t, l, 25, 1)
		fill(t, l, 25, 2)
		must(t, l.SaveState(40, []byte("forty"), l.Truncations()))
		must(t, l.SaveState(80, []byte("eighty"), l.Truncations()))
		must(t, l.TruncateFrom(offset))
		want := min(offset/2*2, 100)
		check := func() {
			t.Helper()
			if b := l.Bounds(); b.End != want || offset < 100 && b.Synced != want {
				t.Fatalf("truncated from %d: %+v", offset, b)
			}
			if got := len(readAll(t, l, 4000)); got != int(want)/2 {
				t.Fatalf("truncated from %d: %d batches", offset, got)
			}
			epoch := kafka.LeaderEpoch(2)
			if want <= 50 {
				epoch = 1
			}
			if want == 0 {
				epoch = kafka.NoLeaderEpoch
			}
			if got := l.LastEpoch(); got != epoch {
				t.Fatalf("truncated from %d: last epoch %d", offset, got)
			}
			o, _, ok, _ := l.LoadState(1000)
			if ok != (want >= 40) || ok && o != map[bool]kafka.Offset{true: 80, false: 40}[want >= 80] {
				t.Fatalf("truncated from %d: state at %d, %t", offset, o, ok)
			}
		}
		check()
		must(t, l.Close(testNow))
		l, _ = mustOpen(t, fs, small)
		check()
		fill(t, l, 30, 3)
		if got := len(readAll(t, l, 4000)); got != int(want)/2+30 {
			t.Fatalf("%d batches after appending", got)
		}
		ts, ok, err := l.OffsetForTimestamp(int64(want) * 10)
		if err != nil || !ok || ts.Offset != want {
			t.Fatalf("time of the first offset appended: %+v %t %v", ts, ok, err)
		}
	}
}

func TestTrimMovesTheStartAndGivesSpaceBack(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 50, 1)
	fill(t, l, 50, 2)
	before := l.Size()
	must(t, l.Trim(121, nil))
	if l.Start() != 121 || l.Size() >= before {
		t.Errorf("start %d, size %d of %d", l.Start(), l.Size(), before)
	}
	if got := l.Epochs(); len(got) != 1 || got[0] != (EpochStart{2, 121}) {
		t.Errorf("epochs %v", got)
	}
	if _, err := l.Read(120, 200, 1, nil); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("read below the start: %v", err)
	}
	if _, err := l.Read(121, 200, 1, nil); err != nil {
		t.Errorf("read at the start: %v", err)
	}
	if err := l.Trim(201, nil); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("trim above the end: %v", err)
	}
	// No Close: the start is durable.
	l, _ = mustOpen(t, fs.Crash(rand.New(rand.NewPCG(1, 1)), 0), small)
	if l.Bounds() != (Bounds{121, 200, 200}) {
		t.Errorf("after a crash: %+v", l.Bounds())
	}
	must(t, l.Trim(200, nil))
	if s, err := l.Segments(); err != nil || len(s) != 1 || s[0].Base != 200 {
		t.Errorf("segments after trimming all: %+v %v", s, err)
	}
	fill(t, l, 1, 3)
	if got := len(readAll(t, l, 1)); got != 1 {
		t.Errorf("%d batches", got)
	}
}

func TestResetEmptiesTheLog(t *testing.T) {
	for _, start := range []kafka.Offset{0, 50, 200, 1000} {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		fill(t, l, 100, 1)
		must(t, l.SaveState(20, nil, l.Truncations()))
		must(t, l.Reset(start, nil))
		if l.Bounds() != (Bounds{start, start, start}) || l.LastEpoch() != kafka.NoLeaderEpoch {
			t.Errorf("%+v, epoch %d", l.Bounds(), l.LastEpoch())
		}
		fill(t, l, 20, 2)
		must(t, l.Sync())
		l, _ = mustOpen(t, fs.Crash(rand.New(rand.NewPCG(1, 1)), 0), small)
		if l.Bounds() != (Bounds{start, start + 40, start + 40}) || len(readAll(t, l, 1)) != 20 {
			t.Errorf("after a crash: %+v", l.Bounds())
		}
		if _, _, ok, _ := l.LoadState(1000); ok {
			t.Error("a state is left")
		}
	}
}

// A node with thousands of logs that nobody has written to stops at once, and
// whatever of them a power loss leaves behind can be opened.
func TestClosingALogThatWasNeverWrittenSyncsNothing(t *testing.T) {
	for seed := range uint64(100) {
		disk := vfs.NewMem()
		must(t, vfs.MkdirAllSync(disk, "data"))
		faulty := vfs.NewFaulty(disk)
		l, _ := mustOpen(t, faulty, small)
		for range seed % 3 { // closed before, too
			must(t, l.Close(testNow))
			l, _ = mustOpen(t, faulty, small)
		}
		faulty.SetHook(func(op vfs.Op) error {
			if op.Kind.Persists() {
				t.Errorf("%v %s", op.Kind, op.Name)
			}
			return nil
		})
		must(t, l.Close(testNow))
		rng := rand.New(rand.NewPCG(seed, 1))
		for _, fs := range []vfs.FS{disk, disk.Crash(rng, rng.Float64())} {
			l, _ := mustOpen(t, fs, small)
			fill(t, l, 3, 1)
			must(t, l.Sync())
			must(t, l.Close(testNow))
			if l, rec := mustOpen(t, fs, small); l.End() != 6 || !rec.Clean {
				t.Errorf("seed %d: end %d, clean %v", seed, l.End(), rec.Clean)
			}
		}
	}
}

func TestDeleteLeavesNothing(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 100, 1)
	must(t, l.Sync())
	must(t, l.Delete())
	fs = fs.Crash(rand.New(rand.NewPCG(1, 1)), 0)
	if _, err := CleanDeleted(fs, "data"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat(testDir); !errors.Is(err, vfs.ErrNotExist) {
		t.Errorf("the directory is back: %v", err)
	}
	if err := l.Append(testNow, batchOf(0, 1, 0, 0, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("append: %v", err)
	}
}

// What may be removed though nobody knows whose it was.
func TestOnlyALogOfWhichNothingIsLeftHoldsNothing(t *testing.T) {
	emptied := func(fs *vfs.Mem) {
		for _, name := range segmentFiles(t, fs) {
			edit(t, fs, name, func([]byte) []byte { return nil })
		}
	}
	for what, c := range map[string]struct {
		use  func(l *Log) error
		harm func(fs *vfs.Mem)
		want bool
	}{
		"as it was made":   {want: true},
		"appended to":      {use: func(l *Log) error { return l.Append(testNow, batchOf(0, 2, 0, 0, 200)) }, want: true},
		"synced":           {use: func(l *Log) error { return errors.Join(l.Append(testNow, batchOf(0, 2, 0, 0, 200)), l.Sync()) }},
		"synced and empty": {use: func(l *Log) error { return l.Sync() }},
		"reset":            {use: func(l *Log) error { return l.Reset(10, nil) }, harm: emptied},
		"truncated":        {use: func(l *Log) error { fill(t, l, 1, 0); return l.TruncateFrom(0) }, harm: emptied},
		"more segments":    {use: func(l *Log) error { fill(t, l, 100, 0); return l.Sync() }, harm: emptied},
		"a state":          {use: func(l *Log) error { return l.SaveState(0, state(0), l.Truncations()) }},
		"something else": {harm: func(fs *vfs.Mem) {
			f, err := fs.Open(filepath.Join(testDir, "README"), vfs.ReadWrite|vfs.Create)
			must(t, errors.Join(err, f.Close()))
		}},
		"a damaged checkpoint": {harm: func(fs *vfs.Mem) {
			f, err := fs.Open(filepath.Join(testDir, checkpointName), vfs.ReadWrite|vfs.Create)
			must(t, err)
			_, err = f.WriteAt([]byte("?"), 600)
			must(t, errors.Join(err, f.Close()))
		}},
	} {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		if c.use != nil {
			must(t, c.use(l))
		}
		must(t, errors.Join(fs.SyncDir(testDir), fs.SyncDir(filepath.Dir(testDir))))
		if nothing, err := HoldsNothing(fs, testDir); nothing || err != nil {
			t.Errorf("%s, before the loss of power: %v, %v", what, nothing, err)
		}
		fs = fs.Crash(nil, 0)
		if c.harm != nil {
			c.harm(fs)
		}
		if nothing, err := HoldsNothing(fs, testDir); nothing != c.want || err != nil {
			t.Errorf("%s: %v, %v", what, nothing, err)
		}
	}
}

func TestEpochEndsAreKnown(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	if e, o := l.EpochEnd(3); e != kafka.NoLeaderEpoch || o != kafka.NoOffset {
		t.Errorf("empty log: %d %d", e, o)
	}
	l.AssignEpoch(1, 0)
	fill(t, l, 40, 1)
	fill(t, l, 3, 4)
	fill(t, l, 60, 6)
	check := func() {
		t.Helper()
		for _, c := range []struct {
			ask, epoch kafka.LeaderEpoch
			end        kafka.Offset
		}{{0, 0, 0}, {1, 1, 80}, {2, 1, 80}, {4, 4, 86}, {5, 4, 86}, {6, 6, 206}, {9, 6, 206}} {
			if e, o := l.EpochEnd(c.ask); e != c.epoch || o != c.end {
				t.Errorf("end of epoch %d: %d %d, want %d %d", c.ask, e, o, c.epoch, c.end)
			}
		}
		if l.EpochAt(79) != 1 || l.EpochAt(80) != 4 || l.EpochAt(86) != 6 {
			t.Error("epochs of offsets are wrong")
		}
	}
	check()
	must(t, l.Sync())
	l, _ = mustOpen(t, fs.Crash(rand.New(rand.NewPCG(1, 1)), 0), small)
	check()
	must(t, l.Close(testNow))
	l, _ = mustOpen(t, fs.Crash(rand.New(rand.NewPCG(1, 1)), 0), small)
	check()
	l.AssignEpoch(8, 206)
	if e, o := l.EpochEnd(6); e != 6 || o != 206 {
		t.Errorf("%d %d", e, o)
	}
	// An epoch without batches gives way to another leader's.
	must(t, l.Append(testNow, batchOf(206, 1, 7, 0, 1)))
	if l.LastEpoch() != 7 {
		t.Errorf("last epoch %d", l.LastEpoch())
	}
	// So it does where the batch that follows is not at once there: it was compacted.
	end := l.End()
	l.AssignEpoch(9, end)
	must(t, l.Append(testNow, batchOf(end+5, 1, 7, 0, 1)))
	if e, o := l.EpochEnd(7); e != 7 || o != l.End() {
		t.Errorf("behind a gap epoch %d ends at %d, the log at %d", e, o, l.End())
	}
	end = l.End()
	l.AssignEpoch(9, end)
	must(t, l.Append(testNow, batchOf(end+5, 1, 10, 0, 1)))
	if e, o := l.EpochEnd(9); e != 7 || o != end+5 {
		t.Errorf("behind a gap epoch 9 is taken for %d and ends at %d, want 7 and %d", e, o, end+5)
	}
}

func TestTimestampsAreFound(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	// Timestamps go up and down: record i of batch n has n*100 or, every
	// seventh batch, a large one.
	ms := func(n int) int64 {
		if n%7 == 6 {
			return int64(n)*100 + 1000
		}
		return int64(n) * 100
	}
	for n := range 200 {
		must(t, l.Append(testNow, batchOf(l.End(), 3, 0, ms(n), 150)))
	}
	check := func() {
		t.Helper()
		for want := int64(0); want < 22_000; want += 37 {
			o, found := kafka.Offset(-1), false
			for n := 0; n < 200 && !found; n++ {
				for i := range 3 {
					off := kafka.Offset(3*n + i)
					if ms(n)+int64(i) >= want && off >= l.Start() {
						o, found = off, true
						break
					}
				}
			}
			got, ok, err := l.OffsetForTimestamp(want)
			must(t, err)
			if ok != found || ok && got.Offset != o {
				t.Fatalf("timestamp %d: %+v %t, want %d %t", want, got, ok, o, found)
			}
		}
	}
	check()
	got, ok, err := l.MaxTimestamp()
	if want := ms(195) + 2; err != nil || !ok || got.Timestamp != want || got.Offset != 195*3+2 {
		t.Errorf("max timestamp %+v %t %v, want %d", got, ok, err, want)
	}
	must(t, l.Close(testNow))
	l, _ = mustOpen(t, fs, small)
	check()
	must(t, l.Trim(301, nil))
	check()
	must(t, l.Trim(596, nil))
	if got, ok, err := l.MaxTimestamp(); err != nil || !ok || got.Timestamp != ms(199)+2 {
		t.Errorf("max timestamp above 596: %+v %t %v", got, ok, err)
	}
}

func TestSegmentsRollByTime(t *testing.T) {
	opts := small
	opts.SegmentMs = 1000
	l, _ := mustOpen(t, vfs.NewMem(), opts)
	for i := range 10 {
		must(t, l.Append(testNow, batchOf(l.End(), 1, 0, int64(i)*400, 10)))
	}
	s, err := l.Segments()
	must(t, err)
	if len(s) != 4 || s[0].End != 3 || s[3].MaxTimestamp != 3600 {
		t.Errorf("%+v", s)
	}
}

func TestRetentionFreesWholeSegments(t *testing.T) {
	l, _ := mustOpen(t, vfs.NewMem(), small)
	fill(t, l, 100, 0)
	s, err := l.Segments()
	must(t, err)
	none := Retention{Ms: -1, Bytes: -1}
	now := func(ms int64) time.Time { return time.UnixMilli(ms) }
	for _, c := range []struct {
		name string
		now  int64
		keep Retention
		upTo kafka.Offset
		want kafka.Offset
	}{
		{"nothing asked", 1 << 40, none, 200, 0},
		{"all too old", 1 << 40, Retention{Ms: 10, Bytes: -1}, 200, 200},
		{"all too old, high watermark", 1 << 40, Retention{Ms: 10, Bytes: -1}, s[2].End + 1, s[2].End},
		{"first too old", s[0].MaxTimestamp + 11, Retention{Ms: 10, Bytes: -1}, 200, s[0].End},
		{"none too old", s[0].MaxTimestamp + 10, Retention{Ms: 10, Bytes: -1}, 200, 0},
		{"size", 0, Retention{Ms: -1, Bytes: l.Size() - s[0].Bytes - s[1].Bytes}, 200, s[1].End},
		{"size 0 spares the active one", 0, Retention{Ms: -1, Bytes: 0}, 200, s[len(s)-1].Base},
	} {
		if got, err := l.RetainFrom(now(c.now), c.keep, c.upTo); err != nil || got != c.want {
			t.Errorf("%s: %d, %v, want %d", c.name, got, err, c.want)
		}
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 100, 0)
	must(t, l.Close(testNow))
	if _, _, err := Open(fs, testDir, Identity{Partition: 1}, small, testNow); !errors.Is(err, ErrForeign) {
		t.Errorf("other partition: %v", err)
	}
	s, err := l.Segments()
	if !errors.Is(err, ErrClosed) {
		t.Errorf("segments of a closed log: %v %v", s, err)
	}
	// Two segments of the same log change places.
	names := segmentFiles(t, fs)
	must(t, fs.Rename(names[1], "x"))
	must(t, fs.Rename(names[2], names[1]))
	must(t, fs.Rename("x", names[2]))
	l, r, err := Open(fs, testDir, testID, small, testNow)
	if err != nil || len(r.Damages) != 2 {
		t.Fatalf("swapped segments: %v, %+v", err, r)
	}
	for _, s := range l.segments[1:3] {
		if b, err := l.Read(s.base, l.End(), 1, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a swapped segment was read: %d bytes, %v", len(b), err)
		}
	}
}

func segmentFiles(t testing.TB, fs vfs.FS) []string {
	t.Helper()
	entries, err := fs.List(testDir)
	must(t, err)
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name, segmentSuffix) {
			out = append(out, filepath.Join(testDir, e.Name))
		}
	}
	return out
}

// edit changes the bytes of a file.
func edit(t testing.TB, fs vfs.FS, name string, change func(b []byte) []byte) {
	t.Helper()
	b, err := vfs.ReadFile(fs, name)
	if !errors.Is(err, vfs.ErrNotExist) {
		must(t, err)
	}
	b = change(b)
	f, err := fs.Open(name, vfs.ReadWrite|vfs.Create|vfs.Truncate)
	must(t, err)
	_, err = f.WriteAt(b, 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func TestCorruptionBelowTheRecoveryPointIsNeverCutOff(t *testing.T) {
	changes := map[string]func(b []byte) []byte{
		"flip in a record":      func(b []byte) []byte { b[headerSize+900] ^= 1; return b },
		"flip in a length":      func(b []byte) []byte { b[headerSize+9] ^= 1; return b },
		"flip in the header":    func(b []byte) []byte { b[40] ^= 1; return b },
		"file cut within batch": func(b []byte) []byte { return b[:len(b)-100] },
		"file cut to header":    func(b []byte) []byte { return b[:headerSize] },
		"file cut to nothing":   func(b []byte) []byte { return nil },
	}
	for _, closed := range []bool{false, true} {
		for _, which := range []string{"first", "middle", "last"} {
			for name, change := range changes {
				fs := vfs.NewMem()
				l, _ := mustOpen(t, fs, small)
				fill(t, l, 100, 0)
				must(t, l.Sync())
				if closed {
					must(t, l.Close(testNow))
				}
				fs = fs.Crash(nil, 1)
				files := segmentFiles(t, fs)
				file := map[string]string{"first": files[0], "middle": files[2], "last": files[len(files)-1]}[which]
				edit(t, fs, file, change)
				before := fs.Used()
				err := openAndReadAll(fs)
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s, %s, closed %t: %v", name, which, closed, err)
				}
				if fs.Used() < before {
					t.Errorf("%s, %s, closed %t: something was cut off", name, which, closed)
				}
			}
			fs := vfs.NewMem()
			l, _ := mustOpen(t, fs, small)
			fill(t, l, 100, 0)
			must(t, l.Sync())
			files := segmentFiles(t, fs)
			must(t, fs.Remove(map[string]string{"first": files[0], "middle": files[2], "last": files[len(files)-1]}[which]))
			if err := openAndReadAll(fs.Crash(nil, 1)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s segment removed: %v", which, err)
			}
		}
	}
}

func openAndReadAll(fs vfs.FS) error {
	l, _, err := Open(fs, testDir, testID, small, testNow)
	if err != nil {
		return err
	}
	var buf []byte
	for from := l.Start(); from < l.End(); {
		if buf, err = l.Read(from, l.End(), 1000, buf[:0]); err != nil {
			return err
		}
		for rest := buf; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return err
			}
			from = b.NextOffset()
		}
	}
	return nil
}

func TestReadSaysWhereTheLogIsCorrupt(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, Options{})
	fill(t, l, 100, 0)
	must(t, l.Sync())
	size := int64(len(batchOf(0, 2, 0, 0, 200)))
	edit(t, fs, segmentFiles(t, fs)[0], func(b []byte) []byte { b[headerSize+50*size+80] ^= 4; return b })
	got, err := l.Read(90, 200, 1<<20, nil)
	if err != nil || int64(len(got)) != 5*size {
		t.Errorf("the good batches before it: %d bytes, %v", len(got), err)
	}
	_, err = l.Read(100, 200, 1<<20, nil)
	var c *CorruptError
	if !errors.As(err, &c) || c.Pos != headerSize+50*size || c.Offset != 100 {
		t.Errorf("%v", err)
	}
	if got, err := l.Read(102, 200, 1, nil); err != nil || len(got) == 0 {
		t.Errorf("the good batch behind it: %v", err)
	}
}

func TestOnlyTheUnsyncedTailIsCutOff(t *testing.T) {
	fs := vfs.NewMem()
	opts := Options{}
	l, _ := mustOpen(t, fs, opts)
	fill(t, l, 50, 0)
	must(t, l.Sync())
	fill(t, l, 50, 0)
	size := len(batchOf(0, 2, 0, 0, 200))
	fs = fs.Crash(nil, 1)
	edit(t, fs, segmentFiles(t, fs)[0], func(b []byte) []byte { b[headerSize+70*size+80] ^= 4; return b })
	l, r := mustOpen(t, fs, opts)
	if l.Bounds() != (Bounds{0, 140, 140}) || r.CutBytes != int64(30*size) || r.CutFrom != 140 || r.CutResumed != 142 || r.SyncedBefore != 100 {
		t.Errorf("%+v %+v", l.Bounds(), r)
	}
	if got := len(readAll(t, l, 1<<20)); got != 70 {
		t.Errorf("%d batches", got)
	}
	fill(t, l, 1, 1)
	must(t, l.Close(testNow))
	l, r = mustOpen(t, fs, opts)
	if !r.Clean || l.End() != 142 {
		t.Errorf("%+v", r)
	}
}

func TestZerosAtTheEndAreCutOff(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, Options{})
	fill(t, l, 10, 0)
	must(t, l.Sync())
	fs = fs.Crash(nil, 1)
	edit(t, fs, segmentFiles(t, fs)[0], func(b []byte) []byte { return append(b, make([]byte, 100_000)...) })
	l, r := mustOpen(t, fs, Options{})
	if l.End() != 20 || r.CutBytes != 100_000 || r.CutResumed != kafka.NoOffset {
		t.Errorf("%+v", r)
	}
}

func TestLostIndexIsRebuilt(t *testing.T) {
	damage := map[string]func(b []byte) []byte{
		"empty":     func(b []byte) []byte { return nil },
		"zeros":     func(b []byte) []byte { return make([]byte, len(b)) },
		"flip":      func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":       func(b []byte) []byte { return b[:len(b)-50] },
		"too long":  func(b []byte) []byte { return append(b, b...) },
		"last flip": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
	}
	for name, change := range damage {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		fill(t, l, 60, 1)
		fill(t, l, 60, 2)
		must(t, l.Close(testNow))
		for _, f := range segmentFiles(t, fs) {
			edit(t, fs, strings.TrimSuffix(f, segmentSuffix)+indexSuffix, change)
		}
		for range 2 {
			l, _ = mustOpen(t, fs, small)
			if got := len(readAll(t, l, 1)); got != 120 {
				t.Fatalf("%s: %d batches", name, got)
			}
			if e, o := l.EpochEnd(1); e != 1 || o != 120 {
				t.Errorf("%s: epoch 1 ends at %d", name, o)
			}
			if got, ok, err := l.OffsetForTimestamp(1000); err != nil || !ok || got.Offset != 100 {
				t.Errorf("%s: %+v %t %v", name, got, ok, err)
			}
			must(t, l.Close(testNow))
		}
	}
}

func TestLostCheckpointIsGuessed(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 100, 1)
	must(t, l.Close(testNow))
	must(t, fs.Remove(filepath.Join(testDir, checkpointName)))
	l, r := mustOpen(t, fs, small)
	if !r.CheckpointLost || l.End() != 200 || len(readAll(t, l, 1)) != 100 {
		t.Errorf("%+v", r)
	}
}

// Without a checkpoint what a segment's header says is synced is not cut off.
func TestWithoutACheckpointNothingIsCutOffThatAHeaderSaysIsSynced(t *testing.T) {
	for _, lost := range []bool{false, true} {
		l, _ := mustOpen(t, vfs.NewMem(), small)
		for len(l.segments) < 2 {
			fill(t, l, 1, 1)
		}
		fill(t, l, 2, 1)
		must(t, l.Sync()) // the header of the third says so
		for len(l.segments) < 3 {
			fill(t, l, 1, 1)
		}
		must(t, l.Sync())
		fs := l.fs.(*vfs.Mem).Crash(nil, 1)
		if lost {
			must(t, fs.Remove(filepath.Join(testDir, checkpointName)))
		} else {
			edit(t, fs, filepath.Join(testDir, checkpointName), func(b []byte) []byte { b[9] ^= 1; b[9+slotSize] ^= 1; return b })
		}
		edit(t, fs, segmentFiles(t, fs)[1], func(b []byte) []byte { b[headerSize+record.HeaderSize+100] ^= 1; return b })
		_, r, err := Open(fs, testDir, testID, small, testNow)
		if !errors.Is(err, ErrCorrupt) || len(segmentFiles(t, fs)) < 3 {
			t.Errorf("checkpoint lost %t: %v, %+v, %d segments are left", lost, err, r, len(segmentFiles(t, fs)))
		}
	}
}

func TestFullDiskFailsAppendsUntilThereIsSpace(t *testing.T) {
	for room := int64(0); room < 20_000; room += 487 {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		fill(t, l, 10, 0)
		must(t, l.Sync())
		fs.SetCapacity(fs.Used() + room)
		var err error
		for err == nil {
			o := l.End()
			err = l.Append(testNow, batchOf(o, 2, 0, int64(o)*10, 200), batchOf(o+2, 2, 0, int64(o+2)*10, 200))
			if err == nil {
				err = l.Sync()
			}
		}
		if !errors.Is(err, vfs.ErrNoSpace) || l.Err() != nil {
			t.Fatalf("room %d: %v, %v", room, err, l.Err())
		}
		end := l.End()
		n := len(readAll(t, l, 5000))
		if n != int(end)/2 {
			t.Fatalf("%d batches up to offset %d", n, end)
		}
		if room%2 == 0 {
			l, _ = mustOpen(t, fs.Crash(nil, 1), small) // opens on the full disk
			if l.End() != end {
				t.Fatalf("end %d, want %d", l.End(), end)
			}
			l.fs.(*vfs.Mem).SetCapacity(0)
		}
		fs.SetCapacity(0)
		fill(t, l, 50, 0)
		must(t, l.Sync())
		must(t, l.Close(testNow))
		if n := len(readAllAt(t, l.fs)); n != int(end)/2+50 {
			t.Fatalf("%d batches", n)
		}
	}
}

// A follower must be able to cut off what its leader does not have.
func TestTruncatesOnAFullDisk(t *testing.T) {
	for _, n := range []int{5, 40, 100} {
		for _, cleaned := range []bool{false, true} {
			fs := vfs.NewMem()
			opts := small
			opts.IndexIntervalBytes = 1
			l, _ := mustOpen(t, fs, opts)
			fill(t, l, n, 1)
			must(t, l.Sync())
			if cleaned {
				must(t, l.SaveCleaned(l.End(), l.Truncations()))
			}
			fs.SetCapacity(fs.Used())
			to := l.active().base + (l.End()-l.active().base)/4*2
			if err := l.TruncateFrom(to); err != nil || l.End() != to || l.Cleaned() > to {
				t.Errorf("%d batches, cleaned %t: %v, ends at %d and not %d", n, cleaned, err, l.End(), to)
			}
		}
	}
}

func readAllAt(t testing.TB, fs vfs.FS) []record.Batch {
	t.Helper()
	l, _ := mustOpen(t, fs, small)
	return readAll(t, l, 5000)
}

func TestFailedSyncIsFatal(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, small)
	fill(t, l, 10, 0)
	must(t, l.Sync())
	fill(t, l, 1, 0)
	eio := errors.New("input/output error")
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return eio
		}
		return nil
	})
	if err := l.Sync(); !errors.Is(err, ErrFailed) || !errors.Is(err, eio) {
		t.Errorf("sync: %v", err)
	}
	faulty.SetHook(nil)
	if err := l.Sync(); !errors.Is(err, ErrFailed) || !errors.Is(err, eio) {
		t.Errorf("second sync: %v", err)
	}
	if err := l.Append(testNow, batchOf(22, 1, 0, 0, 1)); !errors.Is(err, ErrFailed) {
		t.Errorf("append: %v", err)
	}
	if err := l.TruncateFrom(2); !errors.Is(err, ErrFailed) {
		t.Errorf("truncate: %v", err)
	}
	if l.Synced() != 20 {
		t.Errorf("synced %d", l.Synced())
	}
	if got := len(readAll(t, l, 1)); got != 11 {
		t.Errorf("read %d batches", got)
	}
	if err := l.Close(testNow); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v", err)
	}
}

func TestReadErrorIsNoCorruption(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, small)
	fill(t, l, 100, 0)
	must(t, l.Close(testNow))
	eio := errors.New("input/output error")
	for n := range 30 {
		count := 0
		faulty.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead {
				if count++; count == n+1 {
					return eio
				}
			}
			return nil
		})
		if err := openAndReadAll(faulty); err != nil && (!errors.Is(err, eio) || errors.Is(err, ErrCorrupt)) {
			t.Errorf("%d-th read: %v", n, err)
		}
	}
	faulty.SetHook(nil)
	must(t, openAndReadAll(faulty))
}

func TestStatesAreKeptAndPruned(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 100, 0)
	for _, o := range []kafka.Offset{20, 40, 60, 80, 100} {
		must(t, l.SaveState(o, []byte(fmt.Sprint(o)), l.Truncations()))
	}
	must(t, l.Close(testNow))
	l, _ = mustOpen(t, fs, small)
	for _, c := range []struct{ atMost, want kafka.Offset }{{1000, 100}, {99, 80}, {79, 60}} {
		if o, b, ok, _ := l.LoadState(c.atMost); !ok || o != c.want || string(b) != fmt.Sprint(c.want) {
			t.Errorf("at most %d: %d %q %t", c.atMost, o, b, ok)
		}
	}
	if _, _, ok, _ := l.LoadState(59); ok {
		t.Error("more than three states are kept")
	}
	edit(t, fs, l.statePath(100), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	if o, _, ok, _ := l.LoadState(1000); !ok || o != 80 {
		t.Errorf("with the newest damaged: %d %t", o, ok)
	}
	must(t, l.Trim(150, nil))
	if o, _, _, _ := l.LoadState(1000); o == 80 || len(l.states) != 1 {
		t.Errorf("after Trim: %v", l.states)
	}
}

// What was known at the log start cannot be made again from what is left, which
// a truncation may come close to.
func TestTheStateAtTheLogStartIsKept(t *testing.T) {
	for _, after := range []bool{true, false} {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		fill(t, l, 100, 0)
		save := func(offsets ...kafka.Offset) {
			for _, o := range offsets {
				must(t, l.SaveState(o, []byte(fmt.Sprint(o)), l.Truncations()))
			}
		}
		if !after {
			save(60, 80, 100)
		}
		must(t, l.Trim(20, []byte("20")))
		save(40, 70, 90, 110)
		must(t, l.Close(testNow))
		l, _ = mustOpen(t, fs, small)
		must(t, l.TruncateFrom(30))
		if o, b, ok, _ := l.LoadState(l.End()); !ok || o != 20 || string(b) != "20" {
			t.Errorf("saved later ones: %v: found %d %q %t", after, o, b, ok)
		}
	}
}

// Others save later ones all the time.
func TestTheStateOfATrimIsKeptWhateverElseIsSaved(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 200, 0)
	done := make(chan error)
	stop := make(chan struct{})
	go func() {
		for o := kafka.Offset(201); ; o++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
				if err := l.SaveState(o, state(o), l.Truncations()); err != nil {
					done <- err
					return
				}
				o = 200 + o%200
			}
		}
	}()
	for start := kafka.Offset(2); start < 200; start += 2 {
		must(t, l.Trim(start, state(start)))
		if o, b, ok, _ := l.LoadState(start); !ok || o != start || !bytes.Equal(b, state(o)) {
			t.Fatalf("trimmed to %d: found %d %q %t", start, o, b, ok)
		}
	}
	close(stop)
	must(t, <-done)
}

// On a full disk the state is saved when the segments are gone, or when Trim is
// called again.
func TestTrimOnAFullDiskSavesItsStateLater(t *testing.T) {
	for _, start := range []kafka.Offset{10, 200} {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		fill(t, l, 100, 0)
		must(t, l.Sync())
		fs.SetCapacity(fs.Used())
		late := start == 10 // no segment goes
		if err := l.Trim(start, state(start)); errors.Is(err, vfs.ErrNoSpace) != late || l.Start() != start {
			t.Errorf("trim to %d: %v, the log begins at %d", start, err, l.Start())
		}
		fs.SetCapacity(0)
		if late {
			if _, _, ok, _ := l.LoadState(1000); ok {
				t.Error("there is a state")
			}
			must(t, l.Trim(start, state(start)))
		}
		l, _ = mustOpen(t, fs.Crash(rand.New(rand.NewPCG(1, 1)), 0), small)
		if o, b, ok, _ := l.LoadState(1000); !ok || o != start || !bytes.Equal(b, state(o)) || l.Start() != start {
			t.Errorf("trimmed to %d: found %d %q %t, the log begins at %d", start, o, b, ok, l.Start())
		}
	}
}

// A disk that fails is fatal, as everywhere.
func TestTrimFailsTheLogWhenItsStateMeetsABrokenDisk(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, small)
	fill(t, l, 100, 0)
	must(t, l.Sync())
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.Contains(op.Name, statePrefix) {
			return syscall.EIO
		}
		return nil
	})
	if err := l.Trim(100, state(100)); !errors.Is(err, ErrFailed) || l.Err() == nil || l.Start() != 0 {
		t.Errorf("%v, the log begins at %d", err, l.Start())
	}
}

// So is one that fails in a Sync meanwhile: nothing was trimmed.
func TestTrimTellsThatTheLogHasFailedMeanwhile(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, small)
	fill(t, l, 100, 0)
	faulty.SetHook(func(op vfs.Op) error {
		switch {
		case op.Kind == vfs.OpCreate && strings.Contains(op.Name, statePrefix):
			if err := l.Sync(); !errors.Is(err, syscall.EIO) {
				t.Errorf("synced: %v", err)
			}
		case op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, segmentSuffix):
			return syscall.EIO
		}
		return nil
	})
	if err := l.Trim(100, state(100)); !errors.Is(err, ErrFailed) || l.Start() != 0 {
		t.Errorf("%v, the log begins at %d", err, l.Start())
	}
}

// A full disk keeps the index of what is left from being written; it is in memory.
func TestTruncationOnAFullDiskDoesNotFailTheLog(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, Options{IndexIntervalBytes: 1})
	fill(t, l, 20, 0)
	must(t, l.Sync())
	fs.SetCapacity(fs.Used())
	must(t, l.TruncateFrom(20))
	fs.SetCapacity(0)
	fill(t, l, 5, 1)
	must(t, l.Sync())
	for _, survival := range []float64{0, 1} {
		l, _ := mustOpen(t, fs.Crash(rand.New(rand.NewPCG(1, 1)), survival), small)
		if damaged, _, _ := verifyAll(t, l); l.End() != 30 || len(damaged) > 0 {
			t.Errorf("it ends at %d, damaged %v", l.End(), damaged)
		}
	}
}

func TestDumpTellsWhatIsThere(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 50, 5)
	must(t, l.SaveState(100, []byte("x"), l.Truncations()))
	must(t, l.Close(testNow))
	var out bytes.Buffer
	must(t, Dump(&out, fs, "data", DumpOptions{Batches: true, Index: true}))
	for _, want := range []string{"partition 7", "closed in order", "offsets 98 to 99, epoch 5, 2 records", "crc ok", "index: ", "state state_", "to 99, leader epochs 5 from "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	edit(t, fs, segmentFiles(t, fs)[1], func(b []byte) []byte { b[headerSize+100] ^= 1; return b })
	out.Reset()
	if err := Dump(&out, fs, "data", DumpOptions{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(out.String(), "CRC does not match") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestPartialAppendIsNotSeen(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, Options{})
	fill(t, l, 3, 0)
	a, b, c := batchOf(6, 2, 0, 1, 100), batchOf(8, 2, 0, 2, 100), batchOf(10, 2, 0, 3, 100)
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			return &vfs.Partial{Done: len(a) + len(b) + 10}
		}
		return nil
	})
	if err := l.Append(testNow, a, b, c); err == nil {
		t.Fatal("no error")
	}
	faulty.SetHook(nil)
	// The same length, so that what was left of b would follow.
	other := slices.Clone(batchOf(6, 2, 1, 9, 100))
	must(t, l.Append(testNow, other))
	must(t, l.Sync())
	l, _ = mustOpen(t, faulty, Options{})
	got := readAll(t, l, 1<<20)
	if len(got) != 4 || !bytes.Equal(got[3], other) {
		t.Errorf("%d batches", len(got))
	}
}

func TestRollSealsAnIdleSegment(t *testing.T) {
	l, _ := mustOpen(t, vfs.NewMem(), small)
	if did, err := l.Roll(testNow.UnixMilli()+1e6, 10); did || err != nil {
		t.Errorf("rolled an empty segment: %v", err)
	}
	fill(t, l, 2, 1)
	if did, err := l.Roll(testNow.UnixMilli()+10, 10); did || err != nil {
		t.Errorf("rolled too early: %v", err)
	}
	if did, err := l.Roll(testNow.UnixMilli()+11, 10); !did || err != nil {
		t.Errorf("did not roll: %v", err)
	}
	fill(t, l, 2, 1)
	if s, err := l.Segments(); err != nil || len(s) != 2 || s[1].Base != 4 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestRewriteIsRefusedWhenItsSegmentsHaveChanged(t *testing.T) {
	for _, change := range []string{"none", "trim", "truncate and append", "reset", "active"} {
		fs := vfs.NewMem()
		l, _ := mustOpen(t, fs, small)
		fill(t, l, 150, 1)
		must(t, l.Sync())
		s, err := l.Segments()
		must(t, err)
		if _, err := l.Rewrite(s[0].Base, l.End()); !errors.Is(err, ErrStale) {
			t.Fatalf("rewrites the active segment: %v", err)
		}
		w, err := l.Rewrite(s[1].Base, s[3].Base)
		must(t, err)
		must(t, w.Append(batchOf(s[1].Base, 2, 1, 5, 10)))
		if err := w.Append(batchOf(s[1].Base, 2, 1, 5, 10)); !errors.Is(err, ErrOrder) {
			t.Fatalf("takes a batch twice: %v", err)
		}
		if err := w.Append(batchOf(s[3].Base-1, 2, 1, 5, 10)); !errors.Is(err, ErrOrder) {
			t.Fatalf("takes a batch beyond the end: %v", err)
		}
		want := ErrStale
		switch change {
		case "none", "active":
			want = nil
		case "trim":
			must(t, l.Trim(s[2].Base, nil))
		case "truncate and append":
			must(t, l.TruncateFrom(s[2].Base))
			for l.End() < s[4].Base {
				fill(t, l, 1, 2)
			}
		case "reset":
			must(t, l.Reset(0, nil))
			fill(t, l, 150, 2)
		}
		if err := w.Commit(); !errors.Is(err, want) {
			t.Fatalf("%s: %v", change, err)
		}
		must(t, l.Close(testNow))
		names, err := fs.List(testDir)
		must(t, err)
		for _, e := range names {
			if strings.HasSuffix(e.Name, tempSuffix) {
				t.Errorf("%s: %s is left", change, e.Name)
			}
		}
		l, _ = mustOpen(t, fs, small)
		readAll(t, l, 1000)
		if want == nil {
			var out strings.Builder
			must(t, Dump(&out, fs, testDir, DumpOptions{Batches: true, Index: true}))
			if !strings.Contains(out.String(), "generation 1") || !strings.Contains(out.String(), "written as a whole") {
				t.Error(out.String())
			}
		}
	}
}

func TestCleanedGoesBackWithATruncation(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 50, 1)
	must(t, l.SaveCleaned(60, l.Truncations()))
	must(t, l.TruncateFrom(40))
	fill(t, l, 50, 2)
	if l.Cleaned() != 40 {
		t.Errorf("cleaned to %d", l.Cleaned())
	}
	must(t, l.Close(testNow))
	l, _ = mustOpen(t, fs, small)
	if l.Cleaned() != 40 {
		t.Errorf("cleaned to %d after a restart", l.Cleaned())
	}
	must(t, l.Reset(0, nil))
	fill(t, l, 50, 2)
	if l.Cleaned() != 0 {
		t.Errorf("cleaned to %d after a reset", l.Cleaned())
	}
}

// A note that could not be written may still be the one that it was to replace.
func TestNoteThatIsNotReplacedGoesWithATruncation(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, small)
	fill(t, l, 30, 0)
	for _, o := range []kafka.Offset{40, 50} {
		must(t, l.NoteState(o, fmt.Append(nil, o), l.Truncations()))
	}
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate || op.Kind == vfs.OpRemove {
			return errors.New("too many open files")
		}
		return nil
	})
	if err := l.NoteState(60, []byte("60"), l.Truncations()); err == nil {
		t.Fatal("noted")
	}
	if o, _, ok, _ := l.LoadState(60); !ok || o != 50 {
		t.Errorf("after a failed note: %d %t", o, ok)
	}
	faulty.SetHook(nil)
	must(t, l.TruncateFrom(20))
	fill(t, l, 30, 0)
	must(t, l.Sync())
	l, _ = mustOpen(t, faulty, small)
	if o, _, ok, _ := l.LoadState(l.End()); ok {
		t.Errorf("state at %d is of records that were truncated", o)
	}
	must(t, l.NoteState(80, []byte("80"), l.Truncations()))
	if o, _, ok, _ := l.LoadState(l.End()); !ok || o != 80 {
		t.Errorf("after another note: %d %t", o, ok)
	}
}

// Whoever makes a state does so while the log may be truncated and grow again.
func TestStateOfRecordsThatAreGoneIsNotKept(t *testing.T) {
	l, _ := mustOpen(t, vfs.NewMem(), small)
	fill(t, l, 30, 0)
	at, before := l.End(), l.Truncations()
	must(t, l.TruncateFrom(20))
	fill(t, l, 30, 1)
	for _, keep := range []func(kafka.Offset, []byte, uint64) error{l.NoteState, l.SaveState} {
		if err := keep(at, []byte("state"), before); !errors.Is(err, ErrStale) {
			t.Errorf("kept: %v", err)
		}
	}
	if o, _, ok, _ := l.LoadState(l.End()); ok {
		t.Errorf("state at %d", o)
	}
}

// A state that is saved where another was noted takes its place.
func TestSavedStateCountsMoreThanANotedOne(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, small)
	fill(t, l, 30, 0)
	must(t, l.NoteState(60, []byte("noted"), l.Truncations()))
	must(t, l.SaveState(60, []byte("saved"), l.Truncations()))
	for range 2 {
		if o, b, ok, _ := l.LoadState(60); !ok || o != 60 || string(b) != "saved" {
			t.Errorf("%d %q %t", o, b, ok)
		}
		must(t, l.Close(testNow))
		l, _ = mustOpen(t, fs, small)
	}
	edit(t, fs, l.statePath(60), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	if o, b, ok, _ := l.LoadState(60); !ok || o != 60 || string(b) != "noted" {
		t.Errorf("with the saved one damaged: %d %q %t", o, b, ok)
	}
}

// The state that Reset is given is of another log. A process that ends in the midst
// of it leaves the old log with its own, or the new one with that.
func TestResetLeavesNoLogWithAnothersState(t *testing.T) {
	for _, own := range []bool{false, true} {
		fs := vfs.NewMem()
		faulty := vfs.NewFaulty(fs)
		l, _ := mustOpen(t, faulty, small)
		fill(t, l, 100, 1)
		must(t, l.Sync())
		if own {
			must(t, l.SaveState(100, []byte("own"), l.Truncations()))
		}
		var crashes []*vfs.Mem
		faulty.SetHook(func(vfs.Op) error {
			crashes = append(crashes, fs.Crash(nil, 0), fs.Crash(nil, 1))
			return nil
		})
		must(t, l.Reset(100, []byte("theirs")))
		faulty.SetHook(nil)
		for i, fs := range append(crashes, fs.Crash(nil, 0)) {
			l, _ := mustOpen(t, fs, small)
			want := map[bool]string{true: "own"}[own]
			if l.Start() == 100 {
				want = "theirs"
			}
			if _, got, _, err := l.LoadState(l.End()); string(got) != want || err != nil {
				t.Fatalf("own %t, crash %d of %d: a log from %d to %d has the state %q, not %q: %v", own, i, len(crashes), l.Start(), l.End(), got, want, err)
			}
			must(t, l.Close(testNow))
		}
	}
}

package wal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

func fileSize(t testing.TB, fs vfs.FS, name string) int64 {
	t.Helper()
	info, err := fs.Stat(name)
	must(t, err)
	return info.Size
}

// What fills up the last block is no tail that did not survive.
func TestFilledUpBlockIsNotCutOff(t *testing.T) {
	fs := vfs.NewMem()
	opts := Options{DirectBytesMin: 1}
	l, _ := mustOpen(t, fs, opts)
	fill(t, l, 30, 0)
	must(t, l.Sync())
	file := segmentFiles(t, fs)[0]
	if size := fileSize(t, fs, file); size%blockSize != 0 || size == l.active().size {
		t.Fatalf("the file has %d bytes", size)
	}
	var out bytes.Buffer
	if err := Dump(&out, fs, "data", DumpOptions{}); err != nil || !strings.Contains(out.String(), "zeros fill up the last block") {
		t.Errorf("%v\n%s", err, out.String())
	}
	for i := range 3 { // opened, written either way and killed again
		fs = fs.Crash(nil, 1)
		opts.DirectBytesMin = int64(1 - 2*(i%2))
		var r Recovery
		l, r = mustOpen(t, fs, opts)
		if want := kafka.Offset(60 + 2*i); r.CutBytes != 0 || r.CutReason != "" || l.End() != want || len(readAll(t, l, 5000)) != int(want)/2 {
			t.Fatalf("killed %d times: %+v", i+1, r)
		}
		fill(t, l, 1, 0)
		must(t, l.Sync())
	}
	must(t, l.Close(testNow))
	if size := fileSize(t, fs, file); size != l.active().size {
		t.Errorf("closed: the file has %d bytes, the log %d", size, l.active().size)
	}
	if _, r := mustOpen(t, fs, opts); !r.Clean {
		t.Errorf("%+v", r)
	}
}

// A write of the block in which synced records end has failed: what they are
// now is not known.
func TestFailedDirectWriteIsFatal(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, Options{DirectBytesMin: 1})
	fill(t, l, 3, 0)
	must(t, l.Sync())
	fail := func(err error) func(vfs.Op) error {
		return func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, segmentSuffix) {
				return err
			}
			return nil
		}
	}
	faulty.SetHook(fail(errors.New("input/output error")))
	must(t, l.Append(testNow, batchOf(6, 2, 0, 1, 100)))
	if err := l.Sync(); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	faulty.SetHook(nil)
	if err := l.Append(testNow, batchOf(8, 2, 0, 1, 100)); !errors.Is(err, ErrFailed) || l.Synced() != 6 {
		t.Errorf("%v, synced up to %d", err, l.Synced())
	}
	if n := len(readAll(t, l, 1000)); n != 4 {
		t.Errorf("%d batches can be read", n)
	}
}

// A disk that is full refuses an append, not the sync of one that it has taken.
func TestFullDiskRefusesLargeAppends(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, Options{DirectBytesMin: 1})
	fill(t, l, 3, 0)
	must(t, l.Sync())
	l.active().preallocated = l.active().size // nothing is left of what was reserved
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpPreallocate || op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, segmentSuffix) {
			return vfs.ErrNoSpace
		}
		return nil
	})
	if err := l.Append(testNow, batchOf(6, 2, 0, 1, 5000)); !errors.Is(err, vfs.ErrNoSpace) || l.Err() != nil {
		t.Fatalf("disk full: %v, %v", err, l.Err())
	}
	faulty.SetHook(nil)
	must(t, errors.Join(l.Append(testNow, batchOf(6, 2, 0, 1, 5000)), l.Sync()))
	if n := len(readAll(t, l, 1000)); n != 4 {
		t.Errorf("%d batches", n)
	}
}

// Where space cannot be reserved, nothing is left to a Sync that may find the
// disk full; nor is it asked for again and again.
func TestWithoutReservedSpaceAppendsAreWrittenAtOnce(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, Options{DirectBytesMin: 1})
	asked := 0
	faulty.SetHook(func(op vfs.Op) error {
		switch {
		case op.Kind == vfs.OpPreallocate:
			asked++
			return fmt.Errorf("fallocate: %w", syscall.EOPNOTSUPP)
		case op.Kind == vfs.OpWrite && op.Off > 20_000:
			return vfs.ErrNoSpace
		}
		return nil
	})
	for range 20 {
		o := l.End()
		err := l.Append(testNow, batchOf(o, 2, 0, 1, 1000))
		if err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			t.Fatal(err)
		}
		must(t, l.Sync())
	}
	if end := l.End(); end < 10 || end > 30 || len(readAll(t, l, 10_000)) != int(end)/2 || asked != 1 {
		t.Errorf("the log ends at %d, space was asked for %d times", end, asked)
	}
}

// A file system without direct access is written through the cache.
type cachedOnly struct{ vfs.FS }

type cachedFile struct{ vfs.File }

func (c cachedOnly) Open(name string, flags vfs.Flags) (vfs.File, error) {
	f, err := c.FS.Open(name, flags)
	return cachedFile{f}, err
}

func (cachedFile) ReadDirectAt([]byte, int64) (int, error)  { return 0, vfs.ErrNotDirect }
func (cachedFile) WriteDirectAt([]byte, int64) (int, error) { return 0, vfs.ErrNotDirect }

func TestFileSystemWithoutDirectAccessWillDo(t *testing.T) {
	l, _ := mustOpen(t, cachedOnly{vfs.NewMem()}, Options{DirectBytesMin: 1, CacheBytes: 1})
	fill(t, l, 50, 0)
	must(t, l.Sync())
	if n := len(readAll(t, l, 3000)); n != 50 {
		t.Errorf("%d batches", n)
	}
}

// On the real disk: the block in which the log ends is written again and again
// past the cache, while it is read through it and past it.
func TestReadersSeeWhatIsWrittenPastTheCache(t *testing.T) {
	for name, opts := range map[string]Options{
		"past the cache": {DirectBytesMin: 1, CacheBytes: 1},
		"in turns":       {DirectBytesMin: 3000, CacheBytes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, _, err := Open(vfs.Disk{}, filepath.Join(t.TempDir(), "log"), testID, opts, testNow)
			must(t, err)
			defer l.Close(testNow)
			const end = 1500
			var readers sync.WaitGroup
			for _, most := range []int{1, 10_000, 400_000} {
				readers.Go(func() {
					for from := kafka.Offset(0); from < end; {
						b, err := l.Read(from, l.End(), most, nil)
						if err != nil {
							t.Errorf("read at %d: %v", from, err)
							return
						}
						for len(b) > 0 {
							var one record.Batch
							if one, b, err = record.Next(b); err != nil {
								t.Errorf("read at %d: %v", from, err)
								return
							}
							if want := batchOf(from, 1, 0, 0, int(from)*7919%9000); !bytes.Equal(one, want) {
								t.Errorf("another batch at %d", from)
								return
							}
							from = one.NextOffset()
						}
					}
				})
			}
			for o := kafka.Offset(0); o < end; o++ {
				must(t, l.Append(testNow, batchOf(o, 1, 0, 0, int(o)*7919%9000)))
				if o%100 == 0 {
					must(t, l.Sync())
				}
			}
			readers.Wait()
		})
	}
}

// Who has waited for a Sync that failed must not go on where it has stopped:
// what it could not write is in memory only, and would be dropped.
func TestNothingIsWrittenBehindAFailedWrite(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem())
	l, _ := mustOpen(t, faulty, Options{DirectBytesMin: 1})
	must(t, errors.Join(l.Append(testNow, batchOf(0, 2, 0, 1, 100)), l.Sync()))
	must(t, l.Append(testNow, batchOf(2, 2, 0, 1, 9000)))
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, segmentSuffix) {
			return errors.New("input/output error")
		}
		return nil
	})
	if err := l.Sync(); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpPreallocate {
			return vfs.ErrNoSpace
		}
		return nil
	})
	// As Append does that has found the log to be usable before.
	if err := l.settleFirst(); !errors.Is(err, ErrFailed) {
		t.Errorf("segment ended after a failed write: %v", err)
	}
	l.active().preallocated = 0
	if _, err := l.write([]record.Batch{batchOf(4, 2, 0, 1, 100)}, 100); !errors.Is(err, ErrFailed) || l.End() != 4 {
		t.Errorf("appended after a failed write: %v, end %d", err, l.End())
	}
	if n := len(readAll(t, l, 10_000)); n != 2 {
		t.Errorf("%d batches", n)
	}
}

// What may be acknowledged without a sync is to outlive the process, also what
// was left in memory before that was so.
func TestNothingStaysInMemoryWithoutDirectWrites(t *testing.T) {
	fs := vfs.NewMem()
	l, _ := mustOpen(t, fs, Options{DirectBytesMin: 1})
	must(t, l.Append(testNow, batchOf(0, 2, 0, 1, 9000)))
	must(t, l.SetOptions(Options{DirectBytesMin: -1}))
	must(t, l.Append(testNow, batchOf(2, 2, 0, 1, 9000)))
	l, _ = mustOpen(t, fs.Crash(nil, 1), Options{})
	if n := len(readAll(t, l, 10_000)); n != 2 {
		t.Errorf("killed: %d batches are left of 2", n)
	}
}

// Appends to many logs leave no more in memory than they may together, and
// whatever becomes of a log gives back what it had.
func TestWhatManyLogsLeaveInMemoryIsBounded(t *testing.T) {
	const most = 14
	memory := NewMemory(most * directChunk)
	opts := Options{DirectBytesMin: 1, Memory: memory}
	faulty := vfs.NewFaulty(vfs.NewMem())
	logs := make([]*Log, 20)
	for i := range logs {
		var err error
		logs[i], _, err = Open(faulty, filepath.Join("logs", string(rune('a'+i))), testID, opts, testNow)
		must(t, err)
	}
	for o := kafka.Offset(0); o < 6; o += 2 {
		for _, l := range logs {
			must(t, l.Append(testNow, batchOf(o, 2, 0, 1, 200<<10)))
		}
		if held := memory.Held(); held > (most+1)*directChunk || o == 0 && held != most*directChunk {
			t.Fatalf("%d bytes are held", held)
		}
	}
	for i, l := range logs {
		if n := len(readAll(t, l, 1<<20)); n != 3 {
			t.Errorf("log %d: %d batches", i, n)
		}
	}
	if logs = slices.DeleteFunc(logs, func(l *Log) bool { return !l.active().behind.some() }); len(logs) < 6 {
		t.Fatalf("%d logs have something in memory", len(logs))
	}
	faulty.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && strings.HasPrefix(op.Name, logs[0].Dir()) {
			return errors.New("input/output error")
		}
		return nil
	})
	if err := logs[0].Sync(); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	_ = logs[0].Close(testNow)
	faulty.SetHook(nil)
	for i, l := range logs[1:] {
		switch i % 5 {
		case 0:
			must(t, l.Sync())
		case 1:
			must(t, l.Close(testNow))
		case 2:
			must(t, l.Reset(3, nil))
		case 3:
			must(t, l.Delete())
		case 4:
			l.Abandon()
		}
	}
	if held := memory.Held(); held != 0 {
		t.Errorf("%d bytes are still held", held)
	}
}

// directReadsFS counts the reads past the cache.
type directReadsFS struct {
	vfs.FS
	reads *int
}

type directReadsFile struct {
	vfs.File
	reads *int
}

func (d directReadsFS) Open(name string, flags vfs.Flags) (vfs.File, error) {
	f, err := d.FS.Open(name, flags)
	return directReadsFile{f, d.reads}, err
}

func (d directReadsFile) ReadDirectAt(b []byte, off int64) (int, error) {
	*d.reads++
	return d.File.ReadDirectAt(b, off)
}

func TestNothingIsReadPastTheCacheWhenItIsOff(t *testing.T) {
	for _, c := range []struct {
		direct, cache int64
		want          bool
	}{{1, 1, true}, {-1, 1, false}, {1, -1, false}, {-1, 0, false}, {0, -1, false}} {
		reads := 0
		opts := small
		opts.DirectBytesMin, opts.CacheBytes = c.direct, c.cache
		l, _ := mustOpen(t, directReadsFS{vfs.NewMem(), &reads}, opts)
		fill(t, l, 100, 0)
		must(t, l.Sync())
		if n := len(readAll(t, l, 3000)); n != 100 || (reads > 0) != c.want {
			t.Errorf("%+v: %d batches, %d reads past the cache", c, n, reads)
		}
	}
}

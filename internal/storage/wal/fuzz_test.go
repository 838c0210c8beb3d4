package wal

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// Whatever is in a segment: Open and Read say so or return whole batches in
// order, and the log can be appended to.
func FuzzSegment(f *testing.F) {
	var page []byte
	page = append(page, (&segmentHeader{id: testID, prev: kafka.NoOffset, end: kafka.NoOffset}).encode()...)
	good := bytes.Clone(page)
	for i := range 3 {
		good = append(good, batchOf(kafka.Offset(2*i), 2, 1, 0, 20)...)
	}
	f.Add(good[headerSize:])
	f.Add(good[headerSize : len(good)-5])
	f.Add(append(bytes.Clone(good[headerSize:]), make([]byte, 100)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, batches []byte) {
		fs := vfs.NewMem()
		must(t, fs.MkdirAll(testDir))
		edit(t, fs, filepath.Join(testDir, offsetName(segmentPrefix, 0, segmentSuffix)), func([]byte) []byte {
			return append(bytes.Clone(page), batches...)
		})
		checkAnyLog(t, fs)
	})
}

// Whatever is in the index of a log, it is read as it is without one, or the
// index is said to be wrong.
func FuzzIndex(f *testing.F) {
	fs := vfs.NewMem()
	l, _ := mustOpen(f, fs, small)
	fill(f, l, 10, 1)
	must(f, l.Close(testNow))
	name := filepath.Join(testDir, offsetName(segmentPrefix, 0, indexSuffix))
	index, err := vfs.ReadFile(fs, name)
	must(f, err)
	f.Add(index)
	f.Add(index[:70])
	f.Fuzz(func(t *testing.T, index []byte) {
		after := fs.Crash(nil, 1)
		edit(t, after, name, func([]byte) []byte { return index })
		l, _ := mustOpen(t, after, small)
		if n := len(readAll(t, l, 700)); n != 10 {
			t.Fatalf("%d batches", n)
		}
	})
}

// Whatever is in the checkpoint and in a header, nothing panics.
func FuzzCheckpointAndHeader(f *testing.F) {
	fs := vfs.NewMem()
	l, _ := mustOpen(f, fs, small)
	fill(f, l, 50, 1)
	must(f, l.Sync())
	cp, err := vfs.ReadFile(fs, filepath.Join(testDir, checkpointName))
	must(f, err)
	name := segmentFiles(f, fs)[1]
	seg, err := vfs.ReadFile(fs, name)
	must(f, err)
	f.Add(cp, seg[:headerSize])
	f.Add(cp[:slotSize], seg[:100])
	f.Fuzz(func(t *testing.T, cp, header []byte) {
		after := fs.Crash(nil, 1)
		edit(t, after, filepath.Join(testDir, checkpointName), func([]byte) []byte { return cp })
		edit(t, after, name, func(b []byte) []byte { return append(bytes.Clone(header), b[min(headerSize, len(b)):]...) })
		checkAnyLog(t, after)
	})
}

func checkAnyLog(t *testing.T, fs vfs.FS) {
	t.Helper()
	_ = Dump(io.Discard, fs, "data", DumpOptions{Batches: true, Index: true})
	l, _, err := Open(fs, testDir, testID, small, testNow)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrForeign) {
			t.Fatal(err)
		}
		return
	}
	next := l.Start()
	for next < l.End() {
		buf, err := l.Read(next, l.End(), 500, nil)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			break
		}
		if len(buf) == 0 {
			break
		}
		for len(buf) > 0 {
			var b record.Batch
			if b, buf, err = record.Next(buf); err != nil {
				t.Fatal(err)
			}
			if b.LastOffset() < next || !b.VerifyCRC() {
				t.Fatalf("batch %d to %d at %d", b.BaseOffset(), b.LastOffset(), next)
			}
			next = b.NextOffset()
		}
	}
	if _, _, err := l.OffsetForTimestamp(5); err != nil && !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
	if err := l.Append(testNow, batchOf(l.End(), 1, 1<<30, 0, 1)); err != nil && !errors.Is(err, ErrOrder) {
		t.Fatal(err)
	}
}

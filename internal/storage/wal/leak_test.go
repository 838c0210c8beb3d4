package wal

import (
	"errors"
	"sync/atomic"
	"testing"

	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// countingFS counts the files that are open.
type countingFS struct {
	vfs.FS
	open atomic.Int64
}

type countedFile struct {
	vfs.File
	fs     *countingFS
	closed atomic.Bool
}

func (c *countingFS) Open(name string, flags vfs.Flags) (vfs.File, error) {
	f, err := c.FS.Open(name, flags)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &countedFile{File: f, fs: c}, nil
}

func (f *countedFile) Close() error {
	if f.closed.CompareAndSwap(false, true) {
		f.fs.open.Add(-1)
	}
	return f.File.Close()
}

// A log that fails, at whatever step, is opened again and again: it must leave
// no file open and no buffer in use.
func TestFailedLogsLeaveNothingOpen(t *testing.T) {
	for least, stride := range map[int64]int64{-1: 1, 1: 3} {
		steps := int64(0)
		for n := int64(1); ; n += stride {
			faulty := vfs.NewFaulty(vfs.NewMem())
			fs := &countingFS{FS: faulty}
			opts := small
			opts.DirectBytesMin, opts.Memory = least, NewMemory(1<<30)
			l, _, err := Open(fs, testDir, testID, opts, testNow)
			must(t, err)
			fill(t, l, 60, 0)
			must(t, l.Sync())
			fill(t, l, 60, 0)
			torn := l.active().path
			l.Abandon()
			edit(t, fs, torn, func(b []byte) []byte { return append(b, "torn"...) })
			faulty.FailNth(n, errors.New("input/output error"))
			err = useLog(fs, opts)
			if err == nil {
				steps = n
			}
			if open, held := fs.open.Load(), opts.Memory.Held(); open != 0 || held != 0 {
				t.Fatalf("direct from %d, step %d fails (%v): %d files are open, %d bytes in use", least, n, err, open, held)
			}
			if err == nil {
				break
			}
		}
		if steps < 50 {
			t.Errorf("only %d steps could fail", steps)
		}
	}
}

// useLog opens a log, does all kinds of things with it, and closes it.
func useLog(fs vfs.FS, opts Options) error {
	l, _, err := Open(fs, testDir, testID, opts, testNow)
	if err != nil {
		return err
	}
	try := func(do func() error) {
		if err == nil {
			err = do()
		}
	}
	for range 60 {
		try(func() error { o := l.End(); return l.Append(testNow, batchOf(o, 2, 0, int64(o)*10, 200)) })
	}
	try(func() error { return l.NoteState(l.End(), []byte("state"), l.Truncations()) })
	try(l.Sync)
	try(func() error { return l.SaveState(l.End(), []byte("state"), l.Truncations()) })
	try(func() error { _, err := l.Read(l.Start(), l.End(), 100_000, nil); return err })
	try(func() error { return l.TruncateFrom(l.End() - 70) })
	for range 60 {
		try(func() error { o := l.End(); return l.Append(testNow, batchOf(o, 2, 0, int64(o)*10, 200)) })
	}
	try(func() error { return l.Trim(l.Start()+60, nil) })
	try(func() error { return rewriteSecond(l) })
	try(func() error { return l.Reset(1000, nil) })
	return errors.Join(err, l.Close(testNow))
}

// rewriteSecond writes the second segment again as it is.
func rewriteSecond(l *Log) error {
	segments, err := l.Segments()
	if err != nil {
		return err
	}
	s := segments[1]
	w, err := l.Rewrite(s.Base, s.End)
	if err != nil {
		return err
	}
	b, err := l.Read(s.Base, s.End, int(s.Bytes), nil)
	for len(b) > 0 && err == nil {
		var one record.Batch
		if one, b, err = record.Next(b); err == nil {
			err = w.Append(one)
		}
	}
	if err != nil {
		w.Abort()
		return err
	}
	return w.Commit()
}

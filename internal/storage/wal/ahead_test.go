package wal

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// endOf is the offset that follows the batches, or from if there are none.
func endOf(batches []byte, from kafka.Offset) kafka.Offset {
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			break
		}
		from, batches = b.NextOffset(), rest
	}
	return from
}

// readerBehind is a log of a little over so many chunks, with batches of 100 KB
// and an offset each, and how to see what is read of its files.
type readerBehind struct {
	*Log
	t      *testing.T
	fs     *vfs.Faulty
	reads  atomic.Int64 // of files of segments, but those that find a batch
	before atomic.Pointer[func(op vfs.Op) error]
}

func newReaderBehind(t *testing.T, chunks int, memory *Memory) *readerBehind {
	r := &readerBehind{t: t, fs: vfs.NewFaulty(vfs.NewMem())}
	r.Log, _ = mustOpen(t, r.fs, Options{CacheBytes: 1, Memory: memory})
	for size := 0; size < chunks*directChunk+200_000; size += 100_000 {
		must(t, r.Append(testNow, batchOf(r.End(), 1, 0, 1, 100_000)))
	}
	must(t, r.Sync())
	r.fs.SetHook(func(op vfs.Op) error {
		if op.Kind != vfs.OpRead || !strings.HasSuffix(op.Name, segmentSuffix) {
			return nil
		}
		if op.Length > lookupChunk {
			r.reads.Add(1)
		}
		if before := r.before.Load(); before != nil {
			return (*before)(op)
		}
		return nil
	})
	return r
}

// read reads about half a chunk and returns where it has come to.
func (r *readerBehind) read(from kafka.Offset) ([]byte, kafka.Offset) {
	r.t.Helper()
	b, err := r.Read(from, r.End(), directChunk/2, nil)
	if err != nil {
		r.t.Fatalf("from %d: %v", from, err)
	}
	return b, endOf(b, from)
}

// However many are behind, only so many have a chunk of memory for it at a time.
func TestReadsPastTheCacheAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReaderBehind(t, 2, NewMemory(0)) // nothing is left for what is read ahead
		r.read(0)
		var reading, most atomic.Int64
		goOn := make(chan struct{})
		before := func(op vfs.Op) error {
			if op.Length >= directReadMin {
				most.Store(max(most.Load(), reading.Add(1)))
				<-goOn
				reading.Add(-1)
			}
			return nil
		}
		r.before.Store(&before)
		var readers sync.WaitGroup
		for range 3 * directReadsMax {
			readers.Go(func() { r.read(0) })
		}
		synctest.Wait()
		if n := reading.Load(); n != directReadsMax {
			t.Errorf("%d read at a time, want %d", n, directReadsMax)
		}
		close(goOn)
		readers.Wait()
		if n := most.Load(); n != directReadsMax {
			t.Errorf("at most %d have read at a time", n)
		}
	})
}

func TestWhatSeveralReadIsReadOnce(t *testing.T) {
	r := newReaderBehind(t, 6, NewMemory(256<<20))
	_, at := r.read(0)
	r.ReadAhead(at, r.End(), 2*directChunk)
	var all [8][]byte
	var readers sync.WaitGroup
	for i := range all {
		readers.Go(func() {
			for o := kafka.Offset(0); o < at+36; {
				var b []byte
				b, o = r.read(o)
				all[i] = append(all[i], b...)
			}
		})
	}
	readers.Wait()
	if n, most := r.reads.Load(), len(all[0])/directChunk+2; n > int64(most) {
		t.Errorf("read %d pieces, %d bytes", n, len(all[0]))
	}
	want, err := r.Read(0, r.End(), len(all[0]), nil)
	for i := range all {
		if err != nil || !bytes.Equal(all[i], want) {
			t.Errorf("reader %d got something else: %v", i, err)
		}
	}
}

// Two who read ahead at the same time read each piece once, and a Read waits
// for a piece that somebody else is reading.
func TestWhatIsBeingReadAheadIsWaitedFor(t *testing.T) {
	r := newReaderBehind(t, 4, NewMemory(256<<20))
	_, at := r.read(0)
	_, at = r.read(at) // almost to the end of the first chunk
	started, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hold := func(vfs.Op) error { once.Do(func() { close(started) }); <-goOn; return nil }
	r.before.Store(&hold)
	var others sync.WaitGroup
	others.Go(func() { r.ReadAhead(at, r.End(), directChunk/3) })
	<-started
	before := r.reads.Load()
	r.ReadAhead(at, r.End(), directChunk/3) // it is being done
	others.Go(func() { r.read(at) })
	close(goOn)
	others.Wait()
	if n := r.reads.Load() - before; n != 0 {
		t.Errorf("read %d times more", n)
	}
}

// Neither what was read ahead before a truncation nor what is being read during
// one is taken for what is in the log afterwards.
func TestWhatWasReadAheadGoesWithATruncation(t *testing.T) {
	for _, when := range []string{"before", "during"} {
		t.Run(when, func(t *testing.T) {
			r := newReaderBehind(t, 4, NewMemory(256<<20))
			_, at := r.read(0)
			truncate := func() {
				must(t, r.TruncateFrom(at))
				for range 40 {
					must(t, r.Append(testNow, batchOf(r.End(), 1, 7, 2, 100_000)))
				}
				must(t, r.Sync())
			}
			if when == "during" {
				var begun atomic.Bool
				during := func(vfs.Op) error {
					if begun.CompareAndSwap(false, true) { // it reads, too
						truncate()
					}
					return nil
				}
				r.before.Store(&during)
			}
			r.ReadAhead(at, r.End(), 3*directChunk)
			if when == "before" {
				truncate()
			}
			b, _ := r.read(at)
			if e := record.Batch(b).LeaderEpoch(); e != 7 {
				t.Errorf("read what was truncated, of leader epoch %d", e)
			}
		})
	}
}

// What has changed in memory is read again from the disk; what is damaged there
// is never returned.
func TestWhatWasReadAheadIsChecked(t *testing.T) {
	m := NewMemory(256 << 20)
	r := newReaderBehind(t, 4, m)
	_, at := r.read(0)
	want, _ := r.read(at)
	spoil := func() {
		r.read(0)
		r.ReadAhead(at, r.End(), 2*directChunk)
		if len(m.ahead.pieces) == 0 {
			t.Fatal("nothing was read ahead")
		}
		for _, p := range m.ahead.pieces {
			for i := 1000; i < p.n; i += 50_000 {
				p.buf.bytes[i] ^= 1
			}
		}
	}
	spoil()
	if got, _ := r.read(at); !bytes.Equal(got, want) {
		t.Error("read something else")
	}
	spoil()
	broken := func(vfs.Op) error { return errors.New("input/output error") }
	r.before.Store(&broken)
	if b, err := r.Read(at, r.End(), directChunk/2, nil); err == nil || len(b) > 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// Pieces that nobody has come for stay, but not for ever; appends have
// precedence; and nothing is left over.
func TestReadAheadIsBounded(t *testing.T) {
	m := NewMemory(3 * directChunk)
	r := newReaderBehind(t, 12, m)
	_, at := r.read(0)
	r.ReadAhead(at, r.End(), 9*directChunk)
	if n := len(m.ahead.pieces); n != 3 {
		t.Fatalf("%d pieces", n)
	}
	far := at + 60
	r.read(far - 6)
	_, far = r.read(far)
	r.ReadAhead(far, r.End(), directChunk/2)
	before := r.reads.Load()
	if r.read(at); r.reads.Load() != before {
		t.Error("what was to be read was thrown away")
	}
	for range 2 * aheadRounds * aheadBytesMax / directChunk {
		r.ReadAhead(far, r.End(), directChunk/2)
	}
	before = r.reads.Load()
	if r.read(far); r.reads.Load() != before {
		t.Error("what nobody has come for stays")
	}
	m.take(3 * directChunk)
	r.read(0)
	r.ReadAhead(at, r.End(), directChunk/2)
	if n := len(m.ahead.pieces); n > 0 {
		t.Errorf("%d pieces though appends need the memory", n)
	}
	m.take(-3 * directChunk)
	r.ReadAhead(at, r.End(), 3*directChunk)
	if m.Age(); len(m.ahead.pieces) != 3 {
		t.Errorf("%d pieces, all of them new", len(m.ahead.pieces))
	}
	r.read(at)
	if m.Age(); len(m.ahead.pieces) != 1 {
		t.Errorf("%d pieces, one of which was used", len(m.ahead.pieces))
	}
	r.ReadAhead(at, r.End(), directChunk)
	must(t, r.Close(testNow))
	if n := m.ahead.order.Len(); n > 0 {
		t.Errorf("%d pieces of a closed log", n)
	}
}

// What is read ahead of a segment that was closed meanwhile opens it again, as
// one of those that are kept open.
func TestReadingAheadKeepsFewFilesOpen(t *testing.T) {
	fs := &countingFS{FS: vfs.NewMem()}
	opts := small
	opts.OpenSegmentsMax, opts.CacheBytes, opts.DirectBytesMin, opts.Memory = 1, 1, 1, NewMemory(256<<20)
	l, _ := mustOpen(t, fs, opts)
	fill(t, l, 80, 0)
	must(t, l.Sync())
	var next []kafka.Offset
	for _, s := range l.segments[:len(l.segments)-1] {
		b, err := l.Read(s.base, l.End(), 1, nil)
		must(t, err)
		next = append(next, endOf(b, s.base))
	}
	before := fs.open.Load()
	for _, from := range next {
		l.ReadAhead(from, l.End(), 4096)
	}
	if n := fs.open.Load() - before; n != 0 || len(next) < 3 {
		t.Errorf("%d more files of %d segments are open", n, len(next))
	}
	must(t, l.Close(testNow))
}

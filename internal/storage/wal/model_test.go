package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

func TestLogDoesWhatANaiveOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var fs vfs.FS = vfs.NewMem()
		opts := Options{
			SegmentBytes:       rapid.Int64Range(8<<10, 20<<10).Draw(t, "segment bytes"),
			IndexIntervalBytes: rapid.Int64Range(1, 2000).Draw(t, "index interval"),
			CheckpointBytes:    rapid.Int64Range(1, 20_000).Draw(t, "checkpoint bytes"),
			UnsyncedBytesMax:   rapid.Int64Range(1, 50_000).Draw(t, "unsynced bytes"),
			OpenSegmentsMax:    1,
			DirectBytesMin:     rapid.SampledFrom([]int64{-1, 1, 2000}).Draw(t, "direct bytes"),
			CacheBytes:         rapid.SampledFrom([]int64{1, 3000, 1 << 20}).Draw(t, "cache bytes"),
			Memory:             NewMemory(8 << 20),
		}
		l, _, err := Open(fs, testDir, testID, opts, testNow)
		if err != nil {
			t.Fatal(err)
		}
		m := &model{}
		epoch := kafka.LeaderEpoch(0)
		offset := func(label string) kafka.Offset {
			return kafka.Offset(rapid.Int64Range(int64(m.start), int64(max(m.start, m.end))).Draw(t, label))
		}
		fail := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var batches []record.Batch
				for range rapid.IntRange(1, 5).Draw(t, "batches") {
					gap := rapid.SampledFrom([]kafka.Offset{0, 0, 0, 1, 5}).Draw(t, "gap")
					b := batchOf(max(m.end, m.start)+gap, rapid.IntRange(1, 4).Draw(t, "records"), epoch, int64(rapid.IntRange(0, 1000).Draw(t, "ms")), rapid.IntRange(0, 1500).Draw(t, "bytes"))
					batches = append(batches, b)
					m.append(b)
				}
				fail(l.Append(testNow, batches...))
			},
			"epoch": func(*rapid.T) { epoch++ },
			"sync":  func(*rapid.T) { fail(l.Sync()) },
			"ahead": func(t *rapid.T) {
				from, n := offset("offset"), rapid.IntRange(1, 5000).Draw(t, "bytes")
				buf, err := l.Read(from, m.end, n, nil)
				fail(err)
				l.ReadAhead(endOf(buf, from), m.end, n)
			},
			"truncate": func(t *rapid.T) {
				o := offset("offset")
				fail(l.TruncateFrom(o))
				if o >= m.end {
					return
				}
				m.truncate(o)
				m.end = l.End() // a gap at the end may stay or not
				m.start = min(m.start, m.end)
				if n := len(m.batches); m.end > o || n > 0 && m.end < m.batches[n-1].NextOffset() {
					t.Fatalf("truncated from %d: ends at %d", o, m.end)
				}
			},
			"trim": func(t *rapid.T) {
				o := offset("offset")
				fail(l.Trim(o, nil))
				m.trim(o)
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "do") == 0 {
					o := kafka.Offset(rapid.Int64Range(0, 300).Draw(t, "offset"))
					fail(l.Reset(o, nil))
					*m = model{start: o, end: o}
				}
			},
			"rewrite": func(t *rapid.T) {
				segments, err := l.Segments()
				fail(err)
				if len(segments) < 2 || l.Bounds().Synced != l.End() {
					return
				}
				i := rapid.IntRange(0, len(segments)-2).Draw(t, "first segment")
				j := rapid.IntRange(i+1, len(segments)-1).Draw(t, "last segment")
				from, to := segments[i].Base, segments[j].Base
				kept := m.clone()
				kept.thin(from, to)
				r, err := l.Rewrite(from, to)
				fail(err)
				for _, b := range kept.batches {
					if b.BaseOffset() >= from && b.BaseOffset() < to {
						fail(r.Append(b))
					}
				}
				if err := r.Commit(); err != nil {
					if r.Size() > headerSize || !errors.Is(err, ErrBadBatch) {
						t.Fatal(err)
					}
					return
				}
				m = kept
			},
			"reopen": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "close") {
					fail(l.Close(testNow))
				} else if opts.DirectBytesMin > 0 { // what is not written yet does not outlive the process
					fail(l.Sync())
				}
				l, _, err = Open(fs, testDir, testID, opts, testNow)
				fail(err)
			},
			"crash": func(t *rapid.T) {
				fail(l.Sync())
				seed := rapid.Uint64().Draw(t, "seed")
				fs = fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(seed, 0)), 0.5)
				l, _, err = Open(fs, testDir, testID, opts, testNow)
				fail(err)
			},
			"time": func(t *rapid.T) {
				ms := int64(rapid.IntRange(0, 1010).Draw(t, "ms"))
				want := TimestampOffset{Offset: -1}
				for _, b := range m.batches {
					for it := b.Records(nil); want.Offset < 0 && it.Next(); {
						if r := it.Record(); r.Timestamp >= ms && r.Offset >= m.start {
							want = TimestampOffset{r.Offset, r.Timestamp, b.LeaderEpoch()}
						}
					}
				}
				got, ok, err := l.OffsetForTimestamp(ms)
				fail(err)
				if ok != (want.Offset >= 0) || ok && got != want {
					t.Fatalf("timestamp %d: %+v %t, want %+v", ms, got, ok, want)
				}
			},
			"": func(t *rapid.T) {
				m.synced = m.end
				b := l.Bounds()
				if b.Start != m.start || b.End != max(m.end, m.start) {
					t.Fatalf("%+v, want %d to %d", b, m.start, m.end)
				}
				c := m.clone()
				c.synced, c.end = b.Start, max(m.end, m.start)
				if b.Synced == b.End {
					fail(c.allows(l))
				}
				if len(m.batches) > 0 {
					fail(m.checkRead(t, l))
				}
			},
		})
	})
}

// checkRead reads from a random offset with a random limit.
func (m *model) checkRead(t *rapid.T, l *Log) error {
	from := kafka.Offset(rapid.Int64Range(int64(m.start), int64(m.end)).Draw(t, "from"))
	limit := kafka.Offset(rapid.Int64Range(int64(from), int64(m.end)).Draw(t, "limit"))
	buf, err := l.Read(from, limit, rapid.IntRange(0, 10_000).Draw(t, "max bytes"), nil)
	if err != nil {
		return err
	}
	i := 0
	for i < len(m.batches) && m.batches[i].LastOffset() < from {
		i++
	}
	if len(buf) == 0 && i < len(m.batches) && m.batches[i].LastOffset() < limit {
		return fmt.Errorf("nothing read from %d to %d", from, limit)
	}
	for ; len(buf) > 0; i++ {
		var b record.Batch
		if b, buf, err = record.Next(buf); err != nil {
			return err
		}
		if string(b) != string(m.batches[i]) || b.LastOffset() >= limit {
			return fmt.Errorf("read from %d to %d: batch %d to %d", from, limit, b.BaseOffset(), b.LastOffset())
		}
	}
	return nil
}

func TestReadersSyncersAndAWriterMayRunAtOnce(t *testing.T) {
	opts := small
	opts.OpenSegmentsMax = 1
	l, _ := mustOpen(t, vfs.NewMem(), opts)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := f(); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for i := range 3 {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		run(func() error {
			b := l.Bounds()
			from := b.Start
			if b.End > b.Start {
				from += kafka.Offset(rng.Int64N(int64(b.End - b.Start)))
			}
			buf, err := l.Read(from, b.End, 2000, nil)
			if errors.Is(err, ErrOutOfRange) {
				return nil
			}
			if err != nil {
				return err
			}
			for len(buf) > 0 {
				var x record.Batch
				if x, buf, err = record.Next(buf); err != nil {
					return err
				}
				if want := batchOf(x.BaseOffset(), 2, x.LeaderEpoch(), int64(x.BaseOffset())*10, 200); string(x) != string(want) {
					return fmt.Errorf("read at %d: batch at %d is not what was appended", from, x.BaseOffset())
				}
			}
			return nil
		})
	}
	run(l.Sync)
	run(func() error {
		_, _, err := l.OffsetForTimestamp(int64(l.Start()) * 10)
		if err == nil {
			_, err = l.Segments()
		}
		return err
	})
	for epoch := range kafka.LeaderEpoch(60) {
		fill(t, l, 30, epoch)
		switch b := l.Bounds(); epoch % 4 {
		case 1:
			must(t, l.TruncateFrom((b.End-41)/2*2))
		case 2:
			must(t, l.Trim(b.Start+(b.End-b.Start)/2/2*2, nil))
		case 3:
			if epoch%20 == 19 {
				must(t, l.Reset(b.End+10, nil))
			}
		}
	}
	close(stop)
	wg.Wait()
	must(t, l.Close(testNow))
}

func TestAppendAndReadDoNotAllocate(t *testing.T) {
	dir := t.TempDir() + "/log"
	l, _, err := Open(vfs.Disk{}, dir, testID, Options{}, testNow)
	must(t, err)
	defer l.Close(testNow)
	b := batchOf(0, 1, 0, 0, 1000)
	allocs := testing.AllocsPerRun(1000, func() {
		record.Stamp(b, l.End(), 1)
		if err := l.Append(testNow, b); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0.2 { // the index grows
		t.Errorf("Append allocates %v times", allocs)
	}
	buf := make([]byte, 0, 1<<20)
	from := kafka.Offset(0)
	allocs = testing.AllocsPerRun(500, func() {
		got, err := l.Read(from, l.End(), 1, buf)
		if err != nil || len(got) == 0 {
			t.Fatal(err)
		}
		from++
	})
	if allocs > 0 {
		t.Errorf("Read allocates %v times", allocs)
	}
}

package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// damaged makes a log of 100 batches, crashes it, and flips a bit of one of
// them. It returns the log opened again, where it opens, and the batches.
func damaged(t *testing.T, gap kafka.Offset, at int, bit int) (l *Log, batches []record.Batch) {
	t.Helper()
	fs := vfs.NewMem()
	opts := small
	opts.IndexIntervalBytes = 1
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
		o, b, ok := l.LoadState(l.End())
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

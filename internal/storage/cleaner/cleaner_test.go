package cleaner

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

var (
	testID  = wal.Identity{TopicID: kafka.TopicID{9}, Partition: 1}
	testDir = "data/t-1"
	small   = wal.Options{SegmentBytes: 8 << 10, IndexIntervalBytes: 700, CheckpointBytes: 4 << 10}
)

// topic is a log and what must be read from it.
type topic struct {
	t    testing.TB
	fs   vfs.FS
	log  *wal.Log
	now  time.Time
	task Task
	opts Options

	written []written // every record of users that was ever committed, by offset
	byKey   map[string]int
	open    map[kafka.ProducerID]*txn
	epoch   kafka.LeaderEpoch
}

type written struct {
	offset     kafka.Offset
	ms         int64
	key, value []byte
}

type txn struct {
	first   kafka.Offset
	pending []written
}

func newTopic(t testing.TB, fs vfs.FS) *topic {
	tp := &topic{t: t, fs: fs, now: time.UnixMilli(1_700_000_000_000), byKey: map[string]int{}, open: map[kafka.ProducerID]*txn{}, epoch: 3}
	tp.task = Task{SegmentBytes: 16 << 10, DeleteRetention: time.Hour, Producers: map[kafka.ProducerID]Producer{}}
	tp.reopen()
	return tp
}

func (tp *topic) must(err error) {
	tp.t.Helper()
	if err != nil {
		tp.t.Fatal(err)
	}
}

func (tp *topic) reopen() {
	l, _, err := wal.Open(tp.fs, testDir, testID, small, tp.now)
	tp.must(err)
	tp.log = l
}

type kv struct {
	key   string
	value []byte // nil: tombstone
}

// send appends one batch; p is nil for a producer without an id.
func (tp *topic) send(p *record.Producer, transactional bool, codec record.Codec, records ...kv) {
	tp.t.Helper()
	bd := record.NewBuilder(record.BuilderOptions{BaseOffset: tp.log.End(), LeaderEpoch: tp.epoch, Producer: p, Transactional: transactional, Codec: codec})
	base := tp.log.End()
	var all []written
	for i, r := range records {
		ms := tp.now.UnixMilli() + int64(i)
		bd.Append(ms, []byte(r.key), r.value, record.Header{Key: []byte("h"), Value: []byte(r.key)})
		all = append(all, written{offset: base + kafka.Offset(i), ms: ms, key: []byte(r.key), value: r.value})
	}
	b := bd.Build()
	tp.must(tp.log.Append(tp.now, b))
	if p != nil && p.Sequence >= 0 {
		pr := Producer{Epoch: p.Epoch, First: b.LastOffset(), Last: b.LastOffset(), Before: kafka.NoOffset}
		tp.task.Producers[p.ID] = pr
	}
	if !transactional {
		tp.commit(all)
		return
	}
	x := tp.open[p.ID]
	if x == nil {
		x = &txn{first: base}
		tp.open[p.ID] = x
	}
	x.pending = append(x.pending, all...)
}

func (tp *topic) commit(all []written) {
	for _, w := range all {
		if i, ok := tp.byKey[string(w.key)]; !ok || tp.written[i].offset < w.offset {
			tp.byKey[string(w.key)] = len(tp.written)
		}
		tp.written = append(tp.written, w)
	}
}

func (tp *topic) end(id kafka.ProducerID, epoch kafka.ProducerEpoch, commit bool) {
	tp.t.Helper()
	b := record.Marker{ProducerID: id, ProducerEpoch: epoch, Commit: commit, Timestamp: tp.now.UnixMilli()}.Batch()
	record.Stamp(b, tp.log.End(), tp.epoch)
	tp.must(tp.log.Append(tp.now, b))
	x := tp.open[id]
	delete(tp.open, id)
	if x == nil {
		return
	}
	if commit {
		tp.commit(x.pending)
	} else {
		tp.task.Aborted = append(tp.task.Aborted, Transaction{id, x.first, b.LastOffset()})
	}
}

func (tp *topic) limit() kafka.Offset {
	limit := tp.log.End()
	for _, x := range tp.open {
		limit = min(limit, x.first)
	}
	return limit
}

// compact runs a pass in steps of so many bytes.
func (tp *topic) compact(budget int64, again bool) (Result, error) {
	tp.t.Helper()
	if err := tp.log.Sync(); err != nil {
		return Result{}, err
	}
	tp.task.Limit = tp.limit()
	p, err := Begin(tp.log, tp.now, tp.task, tp.opts, again)
	if p == nil || err != nil {
		return Result{}, err
	}
	for {
		done, _, err := p.Step(tp.now, budget)
		if err != nil {
			return p.Result, err
		}
		if done {
			break
		}
	}
	for _, f := range p.ForgetAborted {
		for i, a := range tp.task.Aborted {
			if a == f {
				tp.task.Aborted = append(tp.task.Aborted[:i:i], tp.task.Aborted[i+1:]...)
				break
			}
		}
	}
	return p.Result, nil
}

// all reads the log from its start as a client does, to the very end.
func (tp *topic) all() (batches []record.Batch) {
	tp.t.Helper()
	b := tp.log.Bounds()
	from := b.Start
	for from < b.End {
		buf, err := tp.log.Read(from, b.End, 4000, nil)
		tp.must(err)
		if len(buf) == 0 {
			tp.t.Fatalf("nothing to read at %d, log ends at %d", from, b.End)
		}
		for len(buf) > 0 {
			x, rest, err := record.Next(buf)
			tp.must(err)
			batches = append(batches, x)
			from, buf = x.NextOffset(), rest
		}
	}
	return batches
}

// check reads the log as read_committed does and compares.
func (tp *topic) check() {
	tp.t.Helper()
	last := map[string][]byte{}
	aborting := map[kafka.ProducerID]bool{}
	at := map[kafka.Offset]written{}
	for _, w := range tp.written {
		at[w.offset] = w
	}
	i := 0
	for _, b := range tp.all() {
		for _, a := range tp.task.Aborted {
			if b.IsTransactional() && a.Producer == b.ProducerID() && a.First <= b.LastOffset() && a.Last >= b.LastOffset() {
				aborting[a.Producer] = true
			}
		}
		i++
		if b.IsControl() {
			delete(aborting, b.ProducerID())
			continue
		}
		if b.IsTransactional() && (aborting[b.ProducerID()] || tp.pendingAt(b.BaseOffset())) {
			continue
		}
		it := b.Records(nil)
		for it.Next() {
			r := it.Record()
			if r.Key == nil {
				continue
			}
			w, ok := at[r.Offset]
			if !ok {
				tp.t.Fatalf("record at %d was never committed", r.Offset)
			}
			if !bytes.Equal(w.key, r.Key) || !bytes.Equal(w.value, r.Value) || (w.value == nil) != (r.Value == nil) || w.ms != r.Timestamp ||
				len(r.Headers) != 1 || !bytes.Equal(r.Headers[0].Value, r.Key) {
				tp.t.Fatalf("record at %d is not what was written", r.Offset)
			}
			last[string(r.Key)] = bytes.Clone(r.Value)
		}
		tp.must(it.Err())
	}
	for key, i := range tp.byKey {
		w := tp.written[i]
		if w.offset < tp.log.Start() {
			continue
		}
		got, ok := last[key]
		if w.value == nil {
			if ok && got != nil {
				tp.t.Fatalf("key %q is %q, but was deleted at %d", key, got, w.offset)
			}
			continue
		}
		if !ok || !bytes.Equal(got, w.value) {
			tp.t.Fatalf("key %q is %q %v, want that of offset %d", key, got, ok, w.offset)
		}
	}
}

func (tp *topic) pendingAt(o kafka.Offset) bool {
	for _, x := range tp.open {
		for _, w := range x.pending {
			if w.offset == o {
				return true
			}
		}
	}
	return false
}

// count is how many records there are below an offset, per key at most.
func (tp *topic) perKeyMax(below kafka.Offset) int {
	seen, most := map[string]int{}, 0
	for _, b := range tp.all() {
		if b.IsControl() || b.LastOffset() >= below {
			continue
		}
		it := b.Records(nil)
		for it.Next() {
			k := string(it.Record().Key)
			seen[k]++
			most = max(most, seen[k])
		}
	}
	return most
}

func value(n int, rng *rand.Rand) []byte {
	v := make([]byte, n)
	for i := range v {
		v[i] = byte(rng.Uint32())
	}
	return v
}

func TestCompactionKeepsTheLastValueOfEachKey(t *testing.T) {
	tp := newTopic(t, vfs.NewMem())
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 600 {
		var records []kv
		for j := range 1 + rng.IntN(4) {
			records = append(records, kv{fmt.Sprintf("k%d", rng.IntN(40)), value(20+j, rng)})
		}
		tp.send(nil, false, record.Codec(i%5), records...)
	}
	before := tp.log.Size()
	r, err := tp.compact(1<<20, false)
	tp.must(err)
	tp.check()
	if r.To != tp.log.Cleaned() || r.To == 0 {
		t.Errorf("cleaned to %d, pass says %d", tp.log.Cleaned(), r.To)
	}
	if n := tp.perKeyMax(r.To); n > 1 {
		t.Errorf("a key is there %d times", n)
	}
	if tp.log.Size() > before/3 {
		t.Errorf("size %d, was %d", tp.log.Size(), before)
	}
	if p, err := Begin(tp.log, tp.now, tp.task, tp.opts, false); p != nil || err != nil {
		t.Errorf("a clean log is to be compacted: %v", err)
	}
	// Gone over again, nothing changes.
	r, err = tp.compact(1<<20, true)
	tp.must(err)
	if r.RecordsRemoved != 0 {
		t.Errorf("a clean log shrinks: %+v", r)
	}
	tp.must(tp.log.Close(tp.now))
	tp.reopen()
	tp.check()
}

func TestAMapThatIsTooSmallTakesSeveralPasses(t *testing.T) {
	tp := newTopic(t, vfs.NewMem())
	tp.opts.DedupeBytes = 30 * slotBytes
	rng := rand.New(rand.NewPCG(2, 1))
	for range 300 {
		tp.send(nil, false, record.None, kv{fmt.Sprintf("k%d", rng.IntN(200)), value(100, rng)}, kv{fmt.Sprintf("k%d", rng.IntN(200)), value(100, rng)})
	}
	passes := 0
	for ; ; passes++ {
		r, err := tp.compact(10_000, false)
		tp.must(err)
		tp.check()
		if r.To == 0 {
			break
		}
		if r.Keys > 30 {
			t.Fatalf("%d keys in a map for 30", r.Keys)
		}
	}
	if passes < 5 {
		t.Errorf("only %d passes", passes)
	}
	if n := tp.perKeyMax(tp.log.Cleaned()); n > 1 {
		t.Errorf("a key is there %d times", n)
	}
}

func TestTombstonesGoAfterTheirHorizon(t *testing.T) {
	tp := newTopic(t, vfs.NewMem())
	rng := rand.New(rand.NewPCG(3, 1))
	fill := func() {
		for i := range 60 {
			tp.send(nil, false, record.None, kv{fmt.Sprintf("other%d", i), value(200, rng)})
		}
	}
	tp.send(nil, false, record.None, kv{"a", []byte("1")}, kv{"b", []byte("1")})
	fill()
	tp.send(nil, false, record.None, kv{"a", nil}, kv{"c", []byte("1")})
	fill()
	has := func() (tombstone, value bool) {
		for _, b := range tp.all() {
			it := b.Records(nil)
			for it.Next() {
				if r := it.Record(); string(r.Key) == "a" {
					tombstone = tombstone || r.Value == nil
					value = value || r.Value != nil
				}
			}
		}
		return tombstone, value
	}
	r, err := tp.compact(1<<20, false)
	tp.must(err)
	if tomb, val := has(); !tomb || val {
		t.Fatalf("after the first pass: tombstone %v, value %v", tomb, val)
	}
	if r.NextHorizonMs != tp.now.Add(time.Hour).UnixMilli() {
		t.Fatalf("next horizon %d", r.NextHorizonMs)
	}
	tp.now = tp.now.Add(59 * time.Minute)
	_, err = tp.compact(1<<20, true)
	tp.must(err)
	if tomb, _ := has(); !tomb {
		t.Fatal("tombstone went too early")
	}
	tp.now = tp.now.Add(2 * time.Minute)
	_, err = tp.compact(1<<20, true)
	tp.must(err)
	if tomb, val := has(); tomb || val {
		t.Fatalf("after the horizon: tombstone %v, value %v", tomb, val)
	}
	tp.check()
}

func TestTransactions(t *testing.T) {
	tp := newTopic(t, vfs.NewMem())
	rng := rand.New(rand.NewPCG(4, 1))
	fill := func() {
		for i := range 60 {
			tp.send(nil, false, record.None, kv{fmt.Sprintf("other%d", i), value(200, rng)})
		}
	}
	p := func(id kafka.ProducerID, seq int32) *record.Producer { return &record.Producer{ID: id, Sequence: seq} }
	tp.send(nil, false, record.None, kv{"a", []byte("old")}, kv{"b", []byte("old")}, kv{"c", []byte("old")})
	tp.send(p(1, 0), true, record.None, kv{"a", []byte("aborted")})
	tp.send(p(2, 0), true, record.None, kv{"b", []byte("committed")})
	tp.end(1, 0, false)
	tp.end(2, 0, true)
	fill()
	tp.send(p(3, 0), true, record.None, kv{"c", []byte("open")})
	fill()
	markers := func() (commit, abort int) {
		for _, b := range tp.all() {
			if m, ok, _ := record.ParseMarker(b, nil); ok && m.Commit {
				commit++
			} else if ok {
				abort++
			}
		}
		return commit, abort
	}
	_, err := tp.compact(1<<20, false)
	tp.must(err)
	tp.check()
	if tp.log.Cleaned() > tp.open[3].first {
		t.Fatalf("compacted up to %d, a transaction is open from %d", tp.log.Cleaned(), tp.open[3].first)
	}
	// The last batch of producer 1 stays, without its record, and so its marker.
	found := false
	for _, b := range tp.all() {
		if b.ProducerID() == 1 && !b.IsControl() {
			found = b.Count() == 0 && b.LastSequence() == 0
		}
	}
	if c, a := markers(); !found || a != 1 || c == 0 {
		t.Fatalf("last batch of the aborted transaction's producer %v, %d commit and %d abort markers", found, c, a)
	}
	// Producers that are not known any more leave nothing.
	delete(tp.task.Producers, 1)
	delete(tp.task.Producers, 2)
	for i := range 6 {
		tp.now = tp.now.Add(2 * time.Hour)
		_, err = tp.compact(1<<20, true)
		tp.must(err)
		tp.check()
		if c, a := markers(); i == 0 && (c != 1 || a != 1) {
			t.Fatalf("markers go with the data: %d %d", c, a)
		}
	}
	if c, a := markers(); c != 0 || a != 0 {
		t.Errorf("%d commit and %d abort markers are left", c, a)
	}
	if len(tp.task.Aborted) != 0 {
		t.Errorf("aborted transactions are never forgotten: %v", tp.task.Aborted)
	}
	tp.end(3, 0, true)
	fill()
	_, err = tp.compact(1<<20, false)
	tp.must(err)
	tp.check()
}

func TestARandomLogReadsAsANaiveOne(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.FS(vfs.NewMem())
		tp := newTopic(t, fs)
		tp.opts.DedupeBytes = slotBytes * rapid.Int64Range(2, 60).Draw(rt, "slots")
		tp.opts.ReadBytes = rapid.IntRange(1, 10_000).Draw(rt, "read bytes")
		tp.opts.MergeBytes = rapid.SampledFrom([]int{-1, 500, 8000}).Draw(rt, "merge bytes")
		tp.task.SegmentBytes = rapid.Int64Range(8<<10, 40<<10).Draw(rt, "segment bytes")
		tp.task.DeleteRetention = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "delete retention")
		seq := map[kafka.ProducerID]int32{}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		steps := rapid.IntRange(20, 150).Draw(rt, "steps")
		for range steps {
			tp.now = tp.now.Add(time.Duration(rng.IntN(int(10 * time.Minute))))
			switch n := rng.IntN(20); {
			case n < 12:
				var records []kv
				for range 1 + rng.IntN(6) {
					r := kv{fmt.Sprintf("k%d", rng.IntN(30)), nil}
					if rng.IntN(4) > 0 {
						r.value = value(rng.IntN(300), rng)
					}
					records = append(records, r)
				}
				id := kafka.ProducerID(rng.IntN(4))
				transactional := id >= 2
				var p *record.Producer
				if id > 0 {
					p = &record.Producer{ID: id, Sequence: seq[id]}
					seq[id] += int32(len(records))
				}
				tp.send(p, transactional, record.Codec(rng.IntN(5)), records...)
			case n < 15:
				id := kafka.ProducerID(2 + rng.IntN(2))
				if tp.open[id] != nil {
					tp.end(id, 0, rng.IntN(2) == 0)
				}
			case n < 18:
				_, err := tp.compact(int64(1+rng.IntN(30_000)), rng.IntN(2) == 0)
				tp.must(err)
				tp.check()
			case n == 18:
				tp.must(tp.log.Close(tp.now))
				tp.reopen()
			default:
				_, err := tp.log.Roll(tp.now.UnixMilli(), 0)
				tp.must(err)
			}
		}
		tp.check()
		for id := range tp.task.Producers {
			last := kafka.NoOffset
			for _, b := range tp.all() {
				if b.ProducerID() == id && !b.IsControl() {
					last = b.LastOffset()
					if b.LastOffset() == tp.task.Producers[id].Last && b.LastSequence() != seq[id]-1 {
						rt.Fatalf("sequence of producer %d is %d, want %d", id, b.LastSequence(), seq[id]-1)
					}
				}
			}
			if last != tp.task.Producers[id].Last {
				rt.Fatalf("last batch of producer %d is at %d, want %d", id, last, tp.task.Producers[id].Last)
			}
		}
	})
}

var errPower = errors.New("power is gone")

func TestACrashAtAnyMomentLosesNothing(t *testing.T) {
	script := func(tp *topic, faulty *vfs.Faulty) error {
		rng := rand.New(rand.NewPCG(5, 1))
		for i := range 150 {
			tp.send(nil, false, record.None, kv{fmt.Sprintf("k%d", rng.IntN(30)), value(100, rng)}, kv{fmt.Sprintf("k%d", rng.IntN(30)), value(100, rng)})
			if i == 80 {
				if _, err := tp.compact(1<<20, false); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for n := int64(1); ; n++ {
		disk := vfs.NewMem()
		if err := vfs.MkdirAllSync(disk, "data"); err != nil {
			t.Fatal(err)
		}
		faulty := vfs.NewFaulty(disk)
		tp := newTopic(t, faulty)
		tp.task.SegmentBytes = 24 << 10
		if err := script(tp, faulty); err != nil {
			t.Fatal(err)
		}
		if err := tp.log.Sync(); err != nil {
			t.Fatal(err)
		}
		faulty.FailNth(n, errPower)
		before := faulty.Persisted()
		_, err := tp.compact(1<<20, false)
		over := err == nil && faulty.Persisted()-before < n
		for _, survival := range []float64{0, 0.5, 0.5, 0.5, 1} {
			after := *tp
			after.t, after.fs = t, disk.Crash(rand.New(rand.NewPCG(uint64(n), 1)), survival)
			after.reopen()
			if after.log.End() != tp.log.End() {
				t.Fatalf("call %d, survival %v: log ends at %d, want %d", n, survival, after.log.End(), tp.log.End())
			}
			after.check()
			if _, err := after.compact(1<<20, false); err != nil {
				t.Fatalf("call %d, survival %v: compact after it: %v", n, survival, err)
			}
			after.check()
		}
		if over {
			if n < 15 {
				t.Fatalf("only %d persistence calls", n)
			}
			return
		}
	}
}

func TestReadersMayReadWhileItRuns(t *testing.T) {
	tp := newTopic(t, vfs.NewMem())
	rng := rand.New(rand.NewPCG(6, 1))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	l := tp.log
	for i := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			own := rand.New(rand.NewPCG(7, uint64(i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				b := l.Bounds()
				if b.End == 0 {
					continue
				}
				from := kafka.Offset(own.Int64N(int64(b.End)))
				for from < b.End {
					buf, err := l.Read(from, b.End, 2000, nil)
					if err == nil && len(buf) == 0 && l.End() > b.End {
						b = l.Bounds() // a batch may reach beyond what was the end
						continue
					}
					if err != nil || len(buf) == 0 {
						t.Errorf("read at %d of %+v: %d bytes, %v", from, b, len(buf), err)
						return
					}
					for len(buf) > 0 {
						x, rest, err := record.Next(buf)
						if err != nil || x.LastOffset() < from {
							t.Errorf("read at %d: batch up to %d, %v", from, x.LastOffset(), err)
							return
						}
						from, buf = x.NextOffset(), rest
					}
				}
				if _, _, err := l.OffsetForTimestamp(tp.now.UnixMilli()); err != nil {
					t.Error(err)
				}
				if _, ok, err := l.MaxTimestamp(); err != nil || !ok {
					t.Error(ok, err)
				}
			}
		}()
	}
	for range 25 {
		for range 40 {
			tp.send(nil, false, record.None, kv{fmt.Sprintf("k%d", rng.IntN(50)), value(300, rng)})
		}
		_, err := tp.compact(5000, false)
		tp.must(err)
	}
	close(stop)
	wg.Wait()
	tp.check()
}

func TestATrimOrATruncationInterruptsIt(t *testing.T) {
	for _, cut := range []string{"trim", "truncate", "close", "reset"} {
		tp := newTopic(t, vfs.NewMem())
		tp.opts.ReadBytes = 1000
		rng := rand.New(rand.NewPCG(8, 1))
		for range 200 {
			tp.send(nil, false, record.None, kv{fmt.Sprintf("k%d", rng.IntN(20)), value(300, rng)})
		}
		tp.must(tp.log.Sync())
		tp.task.Limit = tp.log.End()
		p, err := Begin(tp.log, tp.now, tp.task, tp.opts, false)
		tp.must(err)
		for !p.group.active || p.next == 0 {
			_, _, err = p.Step(tp.now, 1)
			tp.must(err)
		}
		switch cut {
		case "trim":
			tp.must(tp.log.Trim(100, nil))
		case "truncate":
			tp.must(tp.log.TruncateFrom(10))
		case "close":
			tp.must(tp.log.Close(tp.now))
		case "reset":
			tp.must(tp.log.Reset(0, nil))
		}
		for range 1000 {
			var done bool
			if done, _, err = p.Step(tp.now, 1); done || err != nil {
				break
			}
		}
		if !errors.Is(err, ErrInterrupted) {
			t.Errorf("%s: %v", cut, err)
		}
		if cut == "close" {
			tp.reopen()
		}
		if entries, _ := tp.fs.List(testDir); len(entries) > 0 {
			for _, e := range entries {
				if bytes.HasSuffix([]byte(e.Name), []byte(".tmp")) {
					t.Errorf("%s: %s is left", cut, e.Name)
				}
			}
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	keys, dedupe, limit, segment := 300_000, int64(1<<20), uint64(64<<20), int64(8<<20)
	if os.Getenv("CHRONIK_LONG") != "" {
		keys, dedupe, limit = 10_000_000, 64<<20, 256<<20
		segment = 256 << 20
	}
	if testing.Short() {
		keys = 50_000
	}
	dir := t.TempDir() + "/log"
	l, _, err := wal.Open(vfs.Disk{}, dir, testID, wal.Options{SegmentBytes: segment, UnsyncedBytesMax: 1 << 30, CheckpointBytes: 1 << 30}, time.UnixMilli(1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(time.UnixMilli(2))
	rng := rand.New(rand.NewPCG(9, 9))
	key := func(i uint32) []byte { return fmt.Appendf(nil, "key-%09d", i) }
	val := make([]byte, 100)
	last := make([]int32, keys)
	// Each key once, and half as many again.
	for i := 0; i < keys*3/2; {
		bd := record.NewBuilder(record.BuilderOptions{BaseOffset: l.End(), LeaderEpoch: 1})
		for range 50 {
			k := uint32(i)
			if i >= keys {
				k = rng.Uint32N(uint32(keys))
			}
			copy(val, fmt.Appendf(nil, "%09d", i))
			last[k] = int32(i)
			bd.Append(int64(i), key(k), val)
			i++
		}
		if err := l.Append(time.UnixMilli(1), bd.Build()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Roll(1_000_000_000_000, 0); err != nil {
		t.Fatal(err)
	}
	live := int64(keys) * int64(13+100+10)
	passes, heap := 0, uint64(0)
	for ; ; passes++ {
		p, err := Begin(l, time.UnixMilli(1), Task{Limit: l.End(), SegmentBytes: segment}, Options{DedupeBytes: dedupe}, false)
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			break
		}
		for done := false; !done; {
			if done, _, err = p.Step(time.UnixMilli(1), 32<<20); err != nil {
				t.Fatal(err)
			}
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = max(heap, m.HeapInuse)
		if passes > 100 {
			t.Fatal("it does not come to an end")
		}
	}
	t.Logf("%d keys, %d passes, heap %d MiB, log %d bytes for %d live", keys, passes, heap>>20, l.Size(), live)
	if heap > limit {
		t.Errorf("heap in use: %d MiB", heap>>20)
	}
	if l.Size() > live*12/10 {
		t.Errorf("log of %d bytes for %d of live data", l.Size(), live)
	}
	seen := 0
	buf := make([]byte, 0, 1<<20)
	for from := l.Start(); from < l.End(); {
		buf, err = l.Read(from, l.End(), 1<<20, buf[:0])
		if err != nil || len(buf) == 0 {
			t.Fatal(err)
		}
		for rest := buf; len(rest) > 0; {
			b, next, err := record.Next(rest)
			if err != nil {
				t.Fatal(err)
			}
			it := b.Records(nil)
			for it.Next() {
				r := it.Record()
				var k, v int
				fmt.Sscanf(string(r.Key), "key-%d", &k)
				fmt.Sscanf(string(r.Value[:9]), "%d", &v)
				if int32(v) != last[k] {
					t.Fatalf("key %d is %d, want %d", k, v, last[k])
				}
				seen++
			}
			from, rest = b.NextOffset(), next
		}
	}
	if seen != keys {
		t.Errorf("%d records, want %d", seen, keys)
	}
}

func TestSmallBatchesAreMerged(t *testing.T) {
	tp := newTopic(t, vfs.NewMem())
	tp.task.SegmentBytes = 1 << 20
	live := 0
	for i := range 2000 {
		tp.send(&record.Producer{ID: 5, Sequence: int32(i)}, false, record.None, kv{fmt.Sprintf("k%04d", i%1000), []byte("0123456789")})
		if i >= 1000 {
			live += 10 + 5 + 14
		}
	}
	_, err := tp.log.Roll(tp.now.UnixMilli()+1, 0)
	tp.must(err)
	for range 3 {
		_, err = tp.compact(1<<20, true)
		tp.must(err)
	}
	tp.check()
	if size := tp.log.Size() - 2*4096; size > int64(live)*12/10 {
		t.Errorf("%d bytes for %d of live records", size, live)
	}
}

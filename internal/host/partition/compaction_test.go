package partition

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/storage/cleaner"
)

func compactConfig() TopicConfig {
	config := DefaultTopicConfig()
	config.Compact, config.Delete, config.SegmentBytes, config.MinDirtyRatio = true, false, 16<<10, 0
	return config
}

func keyed(p *record.Producer, transactional bool, pairs ...string) []byte {
	bd := record.NewBuilder(record.BuilderOptions{Producer: p, Transactional: transactional})
	for i := 0; i < len(pairs); i += 2 {
		bd.Append(1_700_000_000_000, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	return bd.Build()
}

// compact runs one compaction to its end.
func (n *node) compact() cleaner.Result {
	n.c.t.Helper()
	d, ok, err := n.p.Dirt(n.c.now)
	if err != nil || !ok {
		n.c.t.Fatal("no dirt: ", ok, err)
	}
	c, err := n.p.Compact(n.c.now, d, cleaner.Options{})
	if err != nil || c == nil {
		n.c.t.Fatal("no compaction: ", d, err)
	}
	for {
		done, _, err := c.Step(n.c.now, 10_000)
		if err != nil {
			n.c.t.Fatal(err)
		}
		if done {
			return c.Result()
		}
	}
}

// last is the last value of each key that a consumer reads.
func (n *node) last(isolation Isolation) map[string]string {
	n.c.t.Helper()
	out := map[string]string{}
	aborting := map[kafka.ProducerID]bool{}
	end := n.p.HighWatermark()
	if isolation == ReadCommitted {
		end = n.p.LastStableOffset()
	}
	for from := n.p.LogStart(); from < end; {
		res := n.p.Read(n.c.now, ReadRequest{Offset: from, MaxBytes: 100, MinOneMessage: true, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: NoReplicaID, Isolation: isolation})
		if res.Code != kafka.None || len(res.Records) == 0 {
			n.c.t.Fatalf("node %d at %d of %d: %v, %d bytes", n.id, from, end, res.Code, len(res.Records))
		}
		for rest := res.Records; len(rest) > 0; {
			b, next, err := record.Next(rest)
			if err != nil {
				n.c.t.Fatal(err)
			}
			for _, a := range res.Aborted {
				if a.FirstOffset <= b.LastOffset() {
					aborting[a.ProducerID] = true
				}
			}
			if b.IsControl() {
				delete(aborting, b.ProducerID())
			}
			for it := b.Records(nil); !b.IsControl() && !(b.IsTransactional() && aborting[b.ProducerID()]) && it.Next(); {
				out[string(it.Record().Key)] = strings.Clone(string(it.Record().Value))
			}
			from, rest = b.NextOffset(), next
		}
	}
	return out
}

func TestReplicasCompactAndAFollowerThatWasAwayCatchesUp(t *testing.T) {
	c := newCluster(t, 3, compactConfig())
	c.assign(1, 1, 1, 2, 3)
	c.run(20 * time.Millisecond)
	want := map[string]string{}
	count := 0
	write := func(n int) {
		for range n {
			k, v := fmt.Sprint("key", count%250), fmt.Sprint(count, strings.Repeat("x", 300))
			count++
			want[k] = v
			c.node(1).produce(-1, keyed(nil, false, k, v))
			c.run(2 * time.Millisecond)
		}
	}
	write(112)
	// Node 3 is away, and its end is soon in the middle of a batch.
	c.cut[3] = true
	write(200)
	c.run(40 * time.Second) // it leaves the in-sync set
	at := c.node(3).p.LogEnd()
	for _, id := range []kafka.NodeID{1, 2} {
		c.node(id).compact()
	}
	inside := false
	for from := kafka.Offset(0); from < c.node(1).p.LogEnd(); {
		b, err := c.node(1).p.log.Read(from, c.node(1).p.LogEnd(), 1, nil)
		if err != nil || len(b) == 0 {
			t.Fatal(err, len(b))
		}
		x := record.Batch(b)
		inside = inside || x.BaseOffset() < at && x.NextOffset() > at
		from = x.NextOffset()
	}
	if !inside {
		t.Fatalf("no batch reaches over offset %d", at)
	}
	c.cut[3] = false
	c.run(5 * time.Second)
	c.want("end of node 3", c.node(3).p.LogEnd(), c.node(1).p.LogEnd())
	for i, id := range []kafka.NodeID{1, 2, 3} {
		c.assign(id, kafka.LeaderEpoch(2+i), 1, 2, 3)
		c.run(time.Second)
		if got := c.node(id).last(ReadUncommitted); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("node %d has %d keys, want %d", id, len(got), len(want))
		}
	}
}

func TestCompactionKeepsWhatIsKnownOfProducers(t *testing.T) {
	c := newCluster(t, 1, compactConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	p := func(id kafka.ProducerID, seq int32) *record.Producer { return &record.Producer{ID: id, Sequence: seq} }
	filler := strings.Repeat("x", 400)
	fill := func() {
		for i := range 60 {
			c.want("fill", n.produce(-1, keyed(nil, false, fmt.Sprint("f", i), filler)).Code, kafka.None)
		}
	}
	marker := func(id kafka.ProducerID, commit bool) {
		n.p.WriteTxnMarker(c.now, replica.Marker{ProducerID: id, Commit: commit}, time.Second, func(code kafka.ErrorCode) { c.want("marker", code, kafka.None) })
	}
	txn := func(id kafka.ProducerID, seq int32, key, value string) {
		guard, _ := n.p.BeginVerification(id, 0, false)
		res := &ProduceResult{Code: pendingCode}
		n.p.Produce(c.now, ProduceRequest{Records: keyed(p(id, seq), true, key, value), Acks: -1, Timeout: time.Second, TxnVerification: guard}, func(r ProduceResult) { *res = r })
		c.want("transaction", res.Code, kafka.None)
	}
	n.produce(-1, keyed(p(7, 0), false, "a", "old", "b", "old"))
	txn(8, 0, "a", "aborted")
	marker(8, false)
	txn(9, 0, "b", "committed")
	marker(9, true)
	n.produce(-1, keyed(nil, false, "a", "new"))
	fill()
	fill()
	before := fmt.Sprint(n.p.Producers())
	n.compact()
	for i := range 3 {
		c.now = c.now.Add(2 * time.Hour)
		if i > 0 { // what is known of producers comes from the log alone
			if err := n.p.Close(c.now); err != nil {
				t.Fatal(err)
			}
			files, _ := n.fs.List(filepath.Join("wal", "partitions", "t-0"))
			for _, f := range files {
				if strings.HasPrefix(f.Name, "state_") {
					_ = n.fs.Remove(filepath.Join("wal", "partitions", "t-0", f.Name))
				}
			}
			n.open()
			c.assign(1, kafka.LeaderEpoch(1+i), 1)
		}
		after := n.p.Producers()
		strip := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if i > 0 {
			for j := range after {
				after[j].LastTimestamp = n.p.Producers()[j].LastTimestamp
			}
		}
		if got := fmt.Sprint(after); strip(got) != strip(before) {
			t.Errorf("producers are\n%s\nwere\n%s", got, before)
		}
		got := n.last(ReadCommitted)
		c.want("a", got["a"], "new")
		c.want("b", got["b"], "committed")
		c.want("stable", n.p.LastStableOffset(), n.p.LogEnd())
		fill()
		fill()
		n.compact()
	}
	c.want("in order", n.produce(-1, keyed(p(7, 2), false, "a", "2")).Code, kafka.None)
	c.want("out of order", n.produce(-1, keyed(p(7, 9), false, "a", "2")).Code, kafka.ErrOutOfOrderSequenceNumber)
}

// What may be cut off again, or aborted, must not have cost any record its life.
func TestOnlyCommittedRecordsSupersedeOthers(t *testing.T) {
	filler := strings.Repeat("x", 300)
	t.Run("above the high watermark", func(t *testing.T) {
		c := newCluster(t, 3, compactConfig())
		c.assign(1, 1, 1, 2, 3)
		c.run(20 * time.Millisecond)
		want := map[string]string{}
		for i := range 112 {
			k, v := fmt.Sprint("key", i), fmt.Sprint(i, filler)
			want[k] = v
			c.node(1).produce(-1, keyed(nil, false, k, v))
			c.run(2 * time.Millisecond)
		}
		c.run(time.Second)
		c.want("committed", c.node(1).p.HighWatermark(), 112)
		c.cut[1] = true
		for i := range 250 {
			c.node(1).produce(1, keyed(nil, false, fmt.Sprint("key", i%112), fmt.Sprint("lost", filler)))
		}
		c.want("committed", c.node(1).p.HighWatermark(), 112)
		c.node(1).compact()
		c.assign(2, 2, 2, 3)
		c.run(time.Second)
		c.cut[1] = false
		c.run(3 * time.Second)
		c.want("end of node 1", c.node(1).p.LogEnd(), 112)
		c.assign(1, 3, 1, 2, 3)
		c.run(time.Second)
		if got := c.node(1).last(ReadUncommitted); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("node 1 has %d keys, want %d", len(got), len(want))
		}
	})
	t.Run("of an open transaction", func(t *testing.T) {
		c := newCluster(t, 1, compactConfig())
		n := c.node(1)
		c.assign(1, 1, 1)
		fill := func() {
			for i := range 60 {
				c.want("fill", n.produce(-1, keyed(nil, false, fmt.Sprint("f", i), filler)).Code, kafka.None)
			}
		}
		n.produce(-1, keyed(nil, false, "a", "old"))
		fill()
		guard, _ := n.p.BeginVerification(8, 0, false)
		n.p.Produce(c.now, ProduceRequest{Records: keyed(&record.Producer{ID: 8}, true, "a", "aborted"), Acks: -1, Timeout: time.Second, TxnVerification: guard},
			func(r ProduceResult) { c.want("transaction", r.Code, kafka.None) })
		fill()
		fill()
		n.compact()
		n.p.WriteTxnMarker(c.now, replica.Marker{ProducerID: 8}, time.Second, func(code kafka.ErrorCode) { c.want("marker", code, kafka.None) })
		c.want("a", n.last(ReadCommitted)["a"], "old")
	})
}

// Traps 22 and 23: whatever offset a consumer is at, an answer takes it further,
// up to the end: through emptied batches, and past the markers of transactions
// of which nothing else is left.
func TestConsumersPassEveryOffsetOfACompactedLog(t *testing.T) {
	c := newCluster(t, 1, compactConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	filler := strings.Repeat("x", 300)
	for id := range kafka.ProducerID(3) {
		guard, _ := n.p.BeginVerification(id, 0, false)
		res := &ProduceResult{Code: pendingCode}
		records := keyed(&record.Producer{ID: id}, true, "a", filler, "b", filler, "c", filler)
		n.p.Produce(c.now, ProduceRequest{Records: records, Acks: -1, Timeout: time.Second, TxnVerification: guard}, func(r ProduceResult) { *res = r })
		c.want("transaction", res.Code, kafka.None)
		n.p.WriteTxnMarker(c.now, replica.Marker{ProducerID: id, Commit: id != 1}, time.Second, func(code kafka.ErrorCode) { c.want("marker", code, kafka.None) })
	}
	for i := range 200 { // all of one key: most batches are emptied
		c.want("produce", n.produce(-1, keyed(nil, false, "k", fmt.Sprint(i, filler))).Code, kafka.None)
	}
	for range 3 {
		end := n.p.LogEnd()
		n.compact()
		c.now = c.now.Add(48 * time.Hour) // tombstones and markers that may go, go
		for at := kafka.Offset(0); at < end; at++ {
			for _, isolation := range []Isolation{ReadUncommitted, ReadCommitted} {
				res := n.p.Read(c.now, ReadRequest{Offset: at, MaxBytes: 1, MinOneMessage: true, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: NoReplicaID, Isolation: isolation})
				b, _, err := record.Next(res.Records)
				if res.Code != kafka.None || err != nil || b.NextOffset() <= at {
					t.Fatalf("at %d of %d, isolation %d: %v, %v, %d bytes", at, end, isolation, res.Code, err, len(res.Records))
				}
			}
		}
		c.want("end", n.p.LogEnd(), end)
		n.produce(-1, keyed(nil, false, "k", filler))
		for range 60 {
			n.produce(-1, keyed(nil, false, "z", filler))
		}
	}
}

func TestAnIdleSegmentIsSealedAndCompacted(t *testing.T) {
	config := compactConfig()
	config.SegmentBytes, config.SegmentTime = 1<<20, time.Hour
	c := newCluster(t, 1, config)
	n := c.node(1)
	c.assign(1, 1, 1)
	for i := range 20 {
		n.produce(-1, keyed(nil, false, "k", fmt.Sprint(i)))
	}
	d, ok, err := n.p.Dirt(c.now)
	if err != nil || !ok || d.Due {
		t.Fatal("the active segment is to be compacted", d, err)
	}
	c.now = c.now.Add(61 * time.Minute)
	if r := n.compact(); r.RecordsRemoved != 19 {
		t.Errorf("%+v", r)
	}
	c.want("value", n.last(ReadUncommitted)["k"], "19")
	if d, _, _ := n.p.Dirt(c.now); d.Due || d.Ratio() != 0 {
		t.Errorf("still dirty: %+v", d)
	}
	// An offset within the gap leads to what follows.
	res := n.p.Read(c.now, ReadRequest{Offset: 3, MaxBytes: 1 << 20, MinOneMessage: true, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: NoReplicaID})
	if b, _, err := record.Next(res.Records); err != nil || b.LastOffset() != 19 {
		t.Errorf("fetch in a gap: %v", err)
	}
}

func TestOnlyCompactedTopicsAreCompacted(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	c.assign(1, 1, 1)
	if _, ok, err := c.node(1).p.Dirt(c.now); ok || err != nil {
		t.Error(ok, err)
	}
	config := compactConfig()
	config.MaxCompactionLag, config.MinDirtyRatio, config.SegmentTime = time.Minute, 1, 24*time.Hour
	c.node(1).p.Configure(c.now, config)
	c.node(1).produce(-1, keyed(nil, false, "k", "v"))
	c.now = c.now.Add(2 * time.Minute)
	if d, ok, err := c.node(1).p.Dirt(c.now); !ok || err != nil || !d.Overdue || !d.Due {
		t.Errorf("max.compaction.lag.ms: %+v %v %v", d, ok, err)
	}
}

// Markers stay until it is on disk that their transactions are forgotten.
func TestNothingIsCompactedUntilWhatIsForgottenIsSaved(t *testing.T) {
	c := newCluster(t, 1, compactConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	for i := range 60 {
		n.produce(-1, keyed(nil, false, "k", fmt.Sprint(i, strings.Repeat("x", 1000))))
	}
	d, ok, err := n.p.Dirt(c.now)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	mem := n.fs.(*vfs.Mem)
	mem.SetCapacity(mem.Used())
	n.p.forgetAborted([]cleaner.Transaction{{Producer: 5, First: 1, Last: 2}})
	if run, err := n.p.Compact(c.now, d, cleaner.Options{}); run != nil || !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("compacted though the disk is full: %v", err)
	}
	mem.SetCapacity(0)
	run, err := n.p.Compact(c.now, d, cleaner.Options{})
	if run == nil || err != nil {
		t.Fatal("not compacted", err)
	}
	run.Abort()
	if at, _, ok, _ := n.p.log.LoadState(n.p.LogEnd()); !ok || at != n.p.LogEnd() {
		t.Errorf("state at %d", at)
	}
}

// All that is remembered of the producer is in flight, and does not survive.
func TestCompactionKeepsWhatATruncationBringsBack(t *testing.T) {
	c := newCluster(t, 2, compactConfig())
	n := c.node(1)
	c.assign(1, 1, 1, 2)
	c.run(20 * time.Millisecond)
	for seq := range int32(3) {
		n.produce(-1, keyed(&record.Producer{ID: 7, Sequence: seq}, false, "a", "old"))
	}
	n.produce(-1, keyed(nil, false, "a", "new"))
	for i := range 60 {
		n.produce(-1, keyed(nil, false, fmt.Sprint("f", i), strings.Repeat("x", 400)))
	}
	c.run(time.Second)
	c.cut[2] = true
	for seq := range int32(5) {
		n.produce(-1, keyed(&record.Producer{ID: 7, Sequence: 3 + seq}, false, "a", "in flight"))
	}
	if res := n.compact(); res.RecordsRemoved == 0 {
		t.Fatal("nothing was compacted")
	}
	c.cut[2] = false
	c.assign(2, 2, 1, 2)
	c.run(time.Second)
	c.want("log end", n.p.LogEnd(), c.node(2).p.LogEnd())
	c.assign(1, 3, 1, 2)
	c.run(time.Second)
	c.want("again", n.produce(-1, keyed(&record.Producer{ID: 7, Sequence: 2}, false, "a", "old")).BaseOffset, 2)
	c.want("gap", n.produce(1, keyed(&record.Producer{ID: 7, Sequence: 4}, false, "a", "x")).Code, kafka.ErrOutOfOrderSequenceNumber)
	c.want("next", n.produce(1, keyed(&record.Producer{ID: 7, Sequence: 3}, false, "a", "x")).Code, kafka.None)
}

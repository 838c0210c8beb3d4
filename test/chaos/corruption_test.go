package chaos

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/harm"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

const segmentHeaderBytes = 4096

// batchAt is one batch in a segment file.
type batchAt struct {
	position    int64
	size        int64
	first, last int64 // offsets
}

// batchesIn walks the batches of a segment file.
func batchesIn(t *testing.T, path string) []batchAt {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var batches []batchAt
	for at := segmentHeaderBytes; at+61 <= len(data); {
		size := 12 + int(binary.BigEndian.Uint32(data[at+8:]))
		if data[at+16] != 2 || size < 61 || at+size > len(data) {
			break
		}
		first := int64(binary.BigEndian.Uint64(data[at:]))
		batches = append(batches, batchAt{int64(at), int64(size), first, first + int64(binary.BigEndian.Uint32(data[at+23:]))})
		at += size
	}
	if len(batches) == 0 {
		t.Fatalf("no batches in %s", path)
	}
	return batches
}

func flipBit(t *testing.T, path string, position int64) {
	t.Helper()
	if err := harm.FlipBit(path, position); err != nil {
		t.Fatal(err)
	}
}

// fillTwo makes a topic with small segments, writes to both of its partitions
// and kills the node.
func fillTwo(t *testing.T, c *cluster.Cluster, h *history.History, records int) {
	t.Helper()
	createTopic(t, c, "bits", 2, map[string]string{"segment.bytes": "1048576"})
	for partition := range int32(2) {
		write(t, c.Nodes[0], h, "bits", partition, records, 4<<10)
	}
	c.Nodes[0].Kill()
}

// checkDamaged reads around a damaged batch: what comes must be what was sent,
// the damaged batch must be an error, and nothing may look as if it had never
// been. Where served says so, all before and behind the damage must come.
func checkDamaged(t *testing.T, n *cluster.Node, records int, damaged batchAt, served bool) {
	t.Helper()
	before, err := readAll(t, n, "bits", 0, 0)
	var code *kerr.Error
	switch {
	case err == nil && len(before) == records:
		t.Errorf("all %d records came without an error", records)
	case err == nil:
		t.Errorf("silently short: %d of %d records and no error", len(before), records)
	case !errors.As(err, &code):
		t.Errorf("a reader met %v, want an error code", err)
	default:
		t.Logf("%d records, then %v", len(before), err)
	}
	for i, r := range before {
		if r.Offset != int64(i) || r.Offset >= damaged.first && r.Offset <= damaged.last {
			t.Fatalf("record %d came at offset %d; damaged are %d to %d", i, r.Offset, damaged.first, damaged.last)
		}
	}
	if served && int64(len(before)) != damaged.first {
		t.Errorf("only %d of the %d records before the damage are served: %v", len(before), damaged.first, err)
	}
	if end, err := endOf(t, n, "bits", 0); err == nil && end < int64(records) {
		t.Errorf("bits-0 ends at %d now, acknowledged were %d", end, records)
	}
	after, err := readAll(t, n, "bits", 0, damaged.last+1)
	t.Logf("behind the damage: %d records, %v", len(after), err)
	if (err == nil || served) && int64(len(after)) != int64(records)-damaged.last-1 {
		t.Errorf("behind the damage: %d records and %v, want %d", len(after), err, int64(records)-damaged.last-1)
	}
	others, err := readAll(t, n, "bits", 1, 0)
	if err != nil || len(others) != records {
		t.Errorf("bits-1, which nobody touched: %d records, %v", len(others), err)
	}
	var h history.History
	if _, err := traffic.FirstAck([]string{n.Kafka}, &h, "bits", 1, 20*time.Second); err != nil {
		t.Errorf("bits-1, which nobody touched: %v", err)
	}
}

func TestBitFlipInClosedSegmentIsAnErrorForItsReaders(t *testing.T) {
	const records = 1000
	places := map[string]func(b batchAt) int64{
		"records": func(b batchAt) int64 { return b.position + b.size/2 },
		"length":  func(b batchAt) int64 { return b.position + 9 },
		"offset":  func(b batchAt) int64 { return b.position + 6 },
		"count":   func(b batchAt) int64 { return b.position + 58 },
		"epoch":   func(b batchAt) int64 { return b.position + 15 },
	}
	for name, position := range places {
		t.Run(name, func(t *testing.T) {
			c := cluster.Run(t, cluster.Options{})
			n := c.Nodes[0]
			var h history.History
			fillTwo(t, c, &h, records)
			segments, err := n.Segments("bits", 0)
			if err != nil || len(segments) < 3 {
				t.Fatalf("segments %v (%v)", segments, err)
			}
			slices.Sort(segments)
			batches := batchesIn(t, segments[1])
			damaged := batches[len(batches)/2]
			flipBit(t, segments[1], position(damaged))
			restart(t, n)
			checkDamaged(t, n, records, damaged, true)
		})
	}
}

// In the open segment a damaged batch with sound ones behind it is no torn
// tail: nothing may be cut off silently.
func TestBitFlipInOpenSegmentIsNotCutOff(t *testing.T) {
	const records = 100
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	createTopic(t, c, "bits", 2, nil)
	var h history.History
	for partition := range int32(2) {
		for range 4 {
			write(t, n, &h, "bits", partition, records/4, 4<<10)
		}
	}
	n.Kill()
	segment := activeSegment(t, n, "bits", 0)
	batches := batchesIn(t, segment)
	if len(batches) < 3 {
		t.Fatalf("%d batches", len(batches))
	}
	damaged := batches[len(batches)/2]
	flipBit(t, segment, damaged.position+damaged.size/2)
	restart(t, n)
	checkDamaged(t, n, records, damaged, false)
}

// What a crash leaves behind the last synced batch was never acknowledged.
func TestTornTailIsCut(t *testing.T) {
	const records = 200
	tails := map[string]func(last []byte) []byte{
		"garbage": func([]byte) []byte {
			return []byte(fmt.Sprintf("%01000d", 7))
		},
		"half a batch": func(last []byte) []byte {
			next := binary.BigEndian.Uint64(last) + uint64(binary.BigEndian.Uint32(last[23:])) + 1
			torn := slices.Clone(last[:len(last)/2])
			binary.BigEndian.PutUint64(torn, next)
			return torn
		},
		"batch with a wrong byte": func(last []byte) []byte {
			torn := slices.Clone(last)
			binary.BigEndian.PutUint64(torn, binary.BigEndian.Uint64(last)+uint64(binary.BigEndian.Uint32(last[23:]))+1)
			torn[len(torn)-1] ^= 1
			return torn
		},
		"zeros": func([]byte) []byte { return make([]byte, 8192) },
	}
	for name, tail := range tails {
		t.Run(name, func(t *testing.T) {
			c := cluster.Run(t, cluster.Options{})
			n := c.Nodes[0]
			createTopic(t, c, "torn", 1, nil)
			var h history.History
			write(t, n, &h, "torn", 0, records, 4<<10)
			n.Kill()
			segment := activeSegment(t, n, "torn", 0)
			batches := batchesIn(t, segment)
			last := batches[len(batches)-1]
			f, err := os.OpenFile(segment, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			bytes := make([]byte, last.size)
			if _, err := f.ReadAt(bytes, last.position); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(tail(bytes), last.position+last.size); err != nil {
				t.Fatal(err)
			}
			f.Close()
			restart(t, n)
			write(t, n, &h, "torn", 0, 10, 100)
			verify(t, c, &h, map[string]int32{"torn": 1}, once)
			if end, err := endOf(t, n, "torn", 0); err != nil || end != records+10 {
				t.Errorf("ends at %d, %v; want %d", end, err, records+10)
			}
			n.Kill()
			restart(t, n)
			verify(t, c, &h, map[string]int32{"torn": 1}, once)
		})
	}
}

// A segment that belongs elsewhere, or is gone, is noticed.
func TestForeignAndMissingSegmentsAreNoticed(t *testing.T) {
	const records = 1000
	harm := map[string]func(t *testing.T, own, other []string){
		"swapped with the other partition's": func(t *testing.T, own, other []string) {
			data, err := os.ReadFile(other[1])
			if err == nil {
				err = os.WriteFile(own[1], data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"missing": func(t *testing.T, own, _ []string) {
			if err := os.Remove(own[1]); err != nil {
				t.Fatal(err)
			}
		},
		"cut short": func(t *testing.T, own, _ []string) {
			if err := os.Truncate(own[1], segmentHeaderBytes+100_000); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, do := range harm {
		t.Run(name, func(t *testing.T) {
			c := cluster.Run(t, cluster.Options{})
			n := c.Nodes[0]
			var h history.History
			fillTwo(t, c, &h, records)
			own, err := n.Segments("bits", 0)
			if err != nil || len(own) < 3 {
				t.Fatalf("segments %v (%v)", own, err)
			}
			other, err := n.Segments("bits", 1)
			if err != nil {
				t.Fatal(err)
			}
			batches := batchesIn(t, own[1])
			region := batchAt{first: batches[0].first, last: batches[len(batches)-1].last}
			if name == "cut short" { // its first batches may still be read
				kept := slices.IndexFunc(batches, func(b batchAt) bool { return b.position+b.size > segmentHeaderBytes+100_000 })
				region.first = batches[kept].first
			}
			do(t, own, other)
			restart(t, n)
			checkDamaged(t, n, records, region, false)
		})
	}
}

// An index only says where to look: a wrong one, or none, costs time.
func TestDamagedIndexChangesNothing(t *testing.T) {
	harm := map[string]func(path string, size int64){
		"bits": func(path string, size int64) {
			for at := size / 8; at < size; at += size/8 + 1 {
				flipBit(t, path, at)
			}
		},
		"missing": func(path string, _ int64) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"cut": func(path string, size int64) {
			if err := os.Truncate(path, size/2); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, do := range harm {
		t.Run(name, func(t *testing.T) {
			c := cluster.Run(t, cluster.Options{})
			n := c.Nodes[0]
			var h history.History
			fillTwo(t, c, &h, 1000)
			indexes, err := filepath.Glob(filepath.Join(n.PartitionDir("bits", 0), "*index*"))
			if err != nil || len(indexes) == 0 {
				t.Fatalf("no index files (%v)", err)
			}
			for _, path := range indexes {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				do(path, info.Size())
			}
			restart(t, n)
			verify(t, c, &h, map[string]int32{"bits": 2}, once)
			for _, from := range []int64{1, 333, 777, 999} {
				records, err := readAll(t, n, "bits", 0, from)
				if err != nil || int64(len(records)) != 1000-from || records[0].Offset != from {
					t.Errorf("from %d: %d records, %v", from, len(records), err)
				}
			}
		})
	}
}

// Damaged metadata must not pass for a cluster without topics: the node says
// so and does not start, or starts with all that it knew.
func TestDamagedMetadataIsNotForgotten(t *testing.T) {
	c := cluster.Run(t, cluster.Options{})
	n := c.Nodes[0]
	for i := range 5 {
		createTopic(t, c, fmt.Sprintf("topic-%d", i), 1, nil)
	}
	var h history.History
	write(t, n, &h, "topic-0", 0, 100, 1000)
	n.Kill()
	segments, err := filepath.Glob(filepath.Join(n.DataDir, "wal", "__meta", "segment_*.wal"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no metadata segments (%v)", err)
	}
	batches := batchesIn(t, segments[0])
	damaged := batches[len(batches)/2]
	flipBit(t, segments[0], damaged.position+damaged.size-3)
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.WaitReady(); err != nil {
		if n.Running() {
			t.Error("neither ready nor ended")
		}
		t.Logf("refused: %s", n.LogTail(1))
		return
	}
	for i := range 5 {
		if _, err := endOf(t, n, fmt.Sprintf("topic-%d", i), 0); err != nil {
			t.Errorf("topic-%d: %v", i, err)
		}
	}
	verify(t, c, &h, map[string]int32{"topic-0": 1}, once)
}

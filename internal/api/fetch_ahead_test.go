package api_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// Who is far behind gets what the disk has read while the answer before went
// out; who has asked for all there is has nothing read.
func TestWhatAConsumerAsksForNextIsReadAhead(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	one := batch(record.BuilderOptions{}, strings.Repeat("x", 1_000_000))
	for range 30 {
		n.produce("t", 0, one)
	}
	var ahead []func()
	n.server.Ahead = func(fn func()) { ahead = append(ahead, fn) }
	reads := 0
	n.fs.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".wal") {
			reads++
		}
		return nil
	})
	at := int64(0)
	fetch := func() int {
		t.Helper()
		req := fetchRequest(12, "t", kafka.TopicID{}, 0, at)
		req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = 8<<20, 8<<20
		p := ask[*kmsg.FetchResponse](n, req).Topics[0].Partitions[0]
		got := len(values(t, p.RecordBatches))
		at += int64(got)
		return got
	}
	fetch()
	if got := fetch(); got < 2 || len(ahead) == 0 {
		t.Fatalf("fetched %d records, then wanted to read ahead %d times", got, len(ahead))
	}
	for range 2 {
		for _, fn := range ahead {
			fn()
		}
		ahead, reads = nil, 0
		if got := fetch(); got < 2 || reads > 0 {
			t.Errorf("got %d records, with %d reads of the file", got, reads)
		}
	}
	for at < 30 {
		ahead = nil
		fetch()
	}
	if len(ahead) > 0 {
		t.Error("reads ahead of the end")
	}
}

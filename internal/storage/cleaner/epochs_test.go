package cleaner

import (
	"fmt"
	"slices"
	"testing"

	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

// A new replica learns from the batches that it is sent where leader epochs
// begin, and tells others as their leader where to cut off what they alone have.
func TestACopyKnowsWhereLeaderEpochsBegin(t *testing.T) {
	tp := newTopic(t, vfs.NewMem())
	for n := range 6 {
		p := &record.Producer{ID: 5, Sequence: record.NoSequence}
		if n%2 == 1 { // the epoch begins with a marker
			tp.end(5, 0, true)
		}
		for i := range 5 {
			tp.send(nil, false, record.None, kv{fmt.Sprint("k", i%3), []byte(fmt.Sprint(n))})
		}
		tp.send(p, true, record.None, kv{"k4", []byte(fmt.Sprint(n))})
		tp.epoch++
	}
	tp.end(5, 0, true)
	tp.send(nil, false, record.None, kv{"last", []byte("last")})
	for range 3 { // what the first leaves behind must not go with the next
		_, err := tp.log.Roll(tp.now.UnixMilli()+1, 0)
		tp.must(err)
		tp.now = tp.now.Add(2 * tp.task.DeleteRetention)
		_, err = tp.compact(1<<20, true)
		tp.must(err)
		tp.check()
		tp.send(nil, false, record.None, kv{"last", []byte("last")})
	}
	copied, _, err := wal.Open(vfs.NewMem(), testDir, testID, small, tp.now)
	tp.must(err)
	for _, b := range tp.all() {
		tp.must(copied.Append(tp.now, b))
	}
	if got, want := copied.Epochs(), tp.log.Epochs(); !slices.Equal(got, want) || len(want) != 7 {
		t.Errorf("the copy has the epochs %v, the log %v", got, want)
	}
}

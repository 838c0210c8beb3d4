package cleaner

import (
	"fmt"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

// Its answers may have been lost: then a producer sends its last five batches
// again, and they must be known from the log alone.
func TestBatchesThatMayBeSentAgainKeepTheirSequenceNumbers(t *testing.T) {
	tp := newTopic(t, vfs.NewMem())
	tp.send(&record.Producer{ID: 6, Sequence: 1}, false, record.None, kv{"k", []byte("before")})
	before := tp.log.End() - 1
	tp.send(&record.Producer{ID: 6, Epoch: 1, Sequence: 0}, false, record.None, kv{"k", []byte("in flight")})
	tp.task.Producers[6] = Producer{Epoch: 1, First: before + 1, Last: before + 1, Before: before}
	var ends []kafka.Offset
	for i := range 9 {
		tp.send(&record.Producer{ID: 5, Sequence: int32(i)}, false, record.None, kv{"k", []byte(fmt.Sprint(i))})
		ends = append(ends, tp.log.End()-1)
	}
	tp.task.Producers[5] = Producer{First: ends[4], Last: ends[8], Before: ends[2]}
	tp.send(nil, false, record.None, kv{"k", []byte("last")})
	_, err := tp.log.Roll(tp.now.UnixMilli()+1, 0)
	tp.must(err)
	_, err = tp.compact(1<<20, true)
	tp.must(err)
	tp.check()
	var known []int32
	others := 0
	tp.must(tp.log.Headers(0, tp.log.End(), wal.HeaderVisitor{Batch: func(b record.Batch, _ func() (record.Batch, error)) error {
		if b.ProducerID() == 5 {
			known = append(known, b.BaseSequence())
		} else if b.ProducerID() == 6 {
			others++
		}
		return nil
	}}))
	if fmt.Sprint(known) != "[2 4 5 6 7 8]" || others != 2 {
		t.Errorf("known are the sequence numbers %v, and %d of the other producer", known, others)
	}
}

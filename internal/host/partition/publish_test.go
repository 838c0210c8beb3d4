package partition

import (
	"runtime"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
)

// Who may read the records of an aborted transaction must be told of it: the
// first of them shows no later than the last stable offset behind it.
func TestAbortedTransactionsShowWithTheLastStableOffset(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	core := func(aborted bool) *replica.Replica {
		r := replica.New(replica.Options{Node: 1}, replica.Config{}, replica.Log{End: 2, Synced: 2, HighWatermark: 2})
		bd := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: 9}, Transactional: true})
		bd.Append(0, nil, []byte("v"))
		r.Replay(now, bd.Build())
		if aborted {
			b := record.Marker{ProducerID: 9}.Batch()
			record.Stamp(b, 1, 0)
			r.Replay(now, b)
		}
		snapshot, _ := r.Snapshot()
		if _, err := r.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
		return r
	}
	before, after := core(false), core(true)
	p := &Partition{}
	begin, shown := make(chan bool), make(chan bool)
	go func() {
		for range begin {
			for i := 0; kafka.Offset(p.lso.Load()) < 1; i++ {
				if i%64 == 0 {
					runtime.Gosched()
				}
			}
			shown <- p.aborts.Load()
		}
	}()
	defer close(begin)
	for range 20_000 {
		p.core = before
		p.publish(nil)
		begin <- true
		p.core = after
		p.publish(nil)
		if !<-shown {
			t.Fatal("a reader may read of a transaction and is not told that it was aborted")
		}
	}
}

// What was deleted between the reading and the listing is not handed out without
// what is to be left out of it.
func TestAbortedTransactionsOfWhatWasDeletedAreNotTakenForNone(t *testing.T) {
	c := newCluster(t, 1, DefaultTopicConfig())
	n := c.node(1)
	c.assign(1, 1, 1)
	guard, _ := n.p.BeginVerification(9, 0, false)
	n.p.Produce(c.now, ProduceRequest{Records: batchOf(&record.Producer{ID: 9}, true, "t"), Acks: -1, TxnVerification: guard}, func(ProduceResult) {})
	n.p.WriteTxnMarker(c.now, replica.Marker{ProducerID: 9}, time.Second, func(kafka.ErrorCode) {})
	res := n.p.Read(c.now, ReadRequest{MaxBytes: 1000, Isolation: ReadCommitted, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: NoReplicaID})
	c.want("aborted", len(res.Aborted), 1)
	n.p.DeleteRecords(c.now, 2, time.Second, func(DeleteRecordsResult) {})
	if list, ok := n.p.aborted(0, res.Records); ok {
		t.Errorf("of what was deleted %v is listed", list)
	}
}

package coordinator

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
)

// PartitionLog makes a Log of a partition that this node leads in the epoch.
func PartitionLog(p *partition.Partition, epoch kafka.LeaderEpoch) Log { return partitionLog{p, epoch} }

type partitionLog struct {
	p     *partition.Partition
	epoch kafka.LeaderEpoch
}

func (l partitionLog) Append(now time.Time, batch []byte, done func(kafka.ErrorCode)) {
	l.p.Produce(now, partition.ProduceRequest{Records: batch, Acks: -1, Internal: true, LeaderEpoch: l.epoch},
		func(r partition.ProduceResult) { done(r.Code) })
}

func (l partitionLog) AppendMarker(now time.Time, m record.Marker, tv2 bool, done func(kafka.ErrorCode)) {
	l.p.WriteTxnMarker(now, replica.Marker{
		ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch, Commit: m.Commit,
		CoordinatorEpoch: m.CoordinatorEpoch, TV2: tv2,
	}, 0, done)
}

func (l partitionLog) Read(now time.Time, from kafka.Offset, bytesMax int) ([]byte, kafka.ErrorCode) {
	r := l.p.Read(now, partition.ReadRequest{
		Offset: from, MaxBytes: bytesMax, MinOneMessage: true,
		CurrentLeaderEpoch: kafka.NoLeaderEpoch, LastFetchedEpoch: kafka.NoLeaderEpoch,
		Isolation: partition.ReadUncommitted, ReplicaID: partition.NoReplicaID,
	})
	return r.Records, r.Code
}

func (l partitionLog) Bounds() (start, committed, end kafka.Offset) {
	// The end last, so that it is never below what is committed.
	start, committed = l.p.LogStart(), l.p.HighWatermark()
	return start, committed, l.p.LogEnd()
}

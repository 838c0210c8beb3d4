package coordinator

import (
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/group"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/host/deadline"
	"chronik/internal/host/partition"
	"chronik/internal/storage/wal"
)

// alone is the surroundings of a partition with one replica.
type alone struct {
	t         *testing.T
	now       *time.Time
	deadlines *deadline.Queue
}

func (e alone) Send(*partition.Partition, *replica.Message)                          { e.t.Error("sent a message") }
func (e alone) ScheduleSync(p *partition.Partition)                                  { p.RunSync(*e.now) }
func (e alone) Admit(_ time.Time, _ partition.Limits, want int) (int, time.Duration) { return want, 0 }
func (e alone) Sent(time.Time, partition.Limits, int)                                {}
func (e alone) Slow(*partition.Partition, time.Duration)                             {}
func (e alone) RequestInSync(*partition.Partition, replica.InSyncChange)             {}
func (e alone) At(at time.Time, fn func(now time.Time))                              { e.deadlines.At(at, fn) }
func (e alone) Failed(_ *partition.Partition, err error)                             { e.t.Error(err) }
func (e alone) Damaged(_ *partition.Partition, d *wal.CorruptError)                  { e.t.Error(d) }

// What a coordinator has decided in one epoch may come to be appended when the
// partition was led by another node, where the group went on, and is led here
// again: an offset would go back to an earlier one.
func TestWhatWasDecidedInAnEarlierEpochIsNotAppended(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	p, _, err := partition.Open(now, vfs.NewMem(), "wal/partitions/__consumer_offsets-0", partition.Options{
		Node: 1, BrokerEpoch: 1, Topic: kafka.TopicConsumerOffsets, TopicID: kafka.TopicID{1}, Config: partition.DefaultTopicConfig(),
	}, alone{t, &now, deadline.New(nil)})
	if err != nil {
		t.Fatal(err)
	}
	lead := func(epoch kafka.LeaderEpoch) {
		p.Assign(now, replica.Assignment{LeaderEpoch: epoch, PartitionEpoch: kafka.PartitionEpoch(epoch), Leader: 1,
			Replicas: []kafka.NodeID{1}, InSync: []kafka.NodeID{1}, Brokers: []replica.Broker{{Node: 1, Epoch: 1, Active: true}}})
	}
	batch := func() []byte {
		b := record.NewBuilder(record.BuilderOptions{})
		b.Append(now.UnixMilli(), []byte("k"), []byte("v"))
		return b.Build()
	}
	for _, step := range []struct{ decided, leads kafka.LeaderEpoch }{{1, 1}, {1, 3}, {3, 3}} {
		lead(step.leads)
		want, got := kafka.None, kafka.ErrorCode(-2)
		if step.decided != step.leads {
			want = kafka.ErrNotLeaderOrFollower
		}
		PartitionLog(p, step.decided).Append(now, batch(), func(code kafka.ErrorCode) { got = code })
		if got != want {
			t.Errorf("decided in epoch %d, appended in %d: %v, want %v", step.decided, step.leads, got, want)
		}
	}
	if err := p.Close(now); err != nil {
		t.Fatal(err)
	}
}

// A real partition takes what the coordinator writes, and gives it back to the
// next coordinator after a restart.
func TestGroupsLiveOnARealPartition(t *testing.T) {
	fs := vfs.NewMem()
	now := time.UnixMilli(1_700_000_000_000)
	deadlines := deadline.New(nil)
	open := func(epoch kafka.LeaderEpoch) (*partition.Partition, *Groups) {
		config := partition.DefaultTopicConfig()
		config.Compact, config.Delete = true, false
		p, _, err := partition.Open(now, fs, "wal/partitions/__consumer_offsets-0", partition.Options{
			Node: 1, BrokerEpoch: 1, Topic: kafka.TopicConsumerOffsets, TopicID: kafka.TopicID{1}, Config: config,
		}, alone{t, &now, deadlines})
		if err != nil {
			t.Fatal(err)
		}
		p.Assign(now, replica.Assignment{LeaderEpoch: epoch, PartitionEpoch: kafka.PartitionEpoch(epoch), Leader: 1,
			Replicas: []kafka.NodeID{1}, InSync: []kafka.NodeID{1}, Brokers: []replica.Broker{{Node: 1, Epoch: 1, Active: true}}})
		g := New(Options{Rand: rand.New(rand.NewPCG(1, uint64(epoch))),
			At: func(at time.Time, fn func(time.Time)) { deadlines.At(at, fn) }, Group: group.Options{InitialRebalanceDelay: -1}})
		g.SetPartitions(1)
		g.OnLeader(now, 0, epoch, PartitionLog(p, epoch))
		for range 100 {
			deadlines.Run(now)
			if active, _ := g.Status(0); active {
				break
			}
			now = now.Add(10 * time.Millisecond)
		}
		return p, g
	}
	p, g := open(1)
	ask := func(req group.Request) (got group.Response) {
		g.HandleAt(now, 0, req, func(r group.Response) { got = r })
		if got == nil {
			t.Fatalf("%T was not answered", req)
		}
		return got
	}
	txn := func(epoch kafka.ProducerEpoch, offset kafka.Offset) kafka.ErrorCode {
		return ask(&group.TxnOffsetCommit{Group: "g", ProducerID: 7, ProducerEpoch: epoch, Generation: -1,
			Offsets: []group.OffsetToCommit{{Topic: "t", Offset: offset}}}).(*group.TxnOffsetCommitResponse).Codes[0]
	}
	marker := func(epoch kafka.ProducerEpoch, commit bool) kafka.ErrorCode {
		return ask(&group.TxnMarker{ProducerID: 7, ProducerEpoch: epoch, Commit: commit}).(*group.TxnMarkerResponse).Err
	}
	want := func(offset kafka.Offset, stable bool) {
		t.Helper()
		r := ask(&group.OffsetFetch{Group: "g", MemberEpoch: -1, RequireStable: stable,
			Topics: []group.TopicToFetch{{Topic: "t", Partitions: []int32{0}}}}).(*group.OffsetFetchResponse)
		if got := r.Topics[0].Partitions[0]; got.Offset != offset {
			t.Errorf("offset = %+v, want %d", got, offset)
		}
	}
	join := ask(&group.JoinGroup{Version: 3, Group: "members", ClientID: "c", SessionTimeoutMs: 10000, RebalanceTimeoutMs: 10000,
		ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "range", Metadata: []byte("m")}}}).(*group.JoinGroupResponse)
	ask(&group.SyncGroup{Group: "members", MemberID: join.MemberID, Generation: 1,
		Assignments: []group.Assignment{{MemberID: join.MemberID, Data: []byte("mine")}}})
	ask(&group.OffsetCommit{Version: 9, Group: "g", Generation: -1, RetentionMs: -1, Offsets: []group.OffsetToCommit{{Topic: "t", Offset: 1}}})
	for _, step := range []struct{ got, want kafka.ErrorCode }{
		{txn(1, 5), kafka.None}, {marker(1, true), kafka.None}, {txn(1, 6), kafka.None}, {marker(1, false), kafka.None},
		{txn(0, 7), kafka.ErrInvalidProducerEpoch}, {txn(1, 8), kafka.None},
	} {
		if step.got != step.want {
			t.Errorf("code = %v, want %v", step.got, step.want)
		}
	}
	want(5, false)
	want(-1, true)

	g.Close(now)
	if err := p.Close(now); err != nil {
		t.Fatal(err)
	}
	p, g = open(2)
	want(5, false)
	want(-1, true)
	if code := marker(1, true); code != kafka.None {
		t.Errorf("marker: %v", code)
	}
	want(8, true)
	sync := ask(&group.SyncGroup{Group: "members", MemberID: join.MemberID, Generation: 1}).(*group.SyncGroupResponse)
	if string(sync.Assignment) != "mine" {
		t.Errorf("assignment = %q, %v", sync.Assignment, sync.Err)
	}
	if err := p.Close(now); err != nil {
		t.Fatal(err)
	}
}

package api_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// Trap 15: the hints of KIP-951 name the node that leads, and only where the
// version has a place for them.
func TestOthersAreSentToTheLeader(t *testing.T) {
	nodes := newCluster(t, 3, nil)
	asked := nodes[0]
	one := newTopic("t", -1, -1)
	one = withReplicas(one, 2, 3) // node 1 has no replica
	one = withReplicas(one, 3, 1) // node 1 follows
	expect(t, "create", createTopics(asked, 7, one).Topics[0].ErrorCode, kafka.None)
	asked.advance(time.Second)
	id := kafka.TopicID(metadataOf(asked, 12, false, "t").Topics[0].TopicID)
	for number, leader := range []int32{2, 3} {
		for version := int16(3); version <= 13; version++ {
			a := asked.wait(asked.send(produceRequest(version, "t", id, int32(number), batch(record.BuilderOptions{}, "a"))))
			resp := a.resp.(*kmsg.ProduceResponse)
			p := resp.Topics[0].Partitions[0]
			expect(t, "produce", p.ErrorCode, kafka.ErrNotLeaderOrFollower)
			if version < 10 {
				continue
			}
			if p.CurrentLeader.LeaderID != leader || p.CurrentLeader.LeaderEpoch < 0 {
				t.Errorf("produce v%d to partition %d: leader %v, want %d", version, number, p.CurrentLeader, leader)
			}
			if len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != leader || resp.Brokers[0].Port != 9092 {
				t.Errorf("produce v%d: brokers %v", version, resp.Brokers)
			}
		}
		for version := int16(4); version <= 18; version++ {
			if number == 1 && version >= 11 {
				continue // a follower may be read from v11 on (KIP-392)
			}
			resp := ask[*kmsg.FetchResponse](asked, fetchRequest(version, "t", id, int32(number), 0))
			p := resp.Topics[0].Partitions[0]
			expect(t, "fetch", p.ErrorCode, kafka.ErrNotLeaderOrFollower)
			if named := p.CurrentLeader.LeaderID == leader; named != (version >= 16) {
				t.Errorf("fetch v%d of partition %d: leader %v, want %d from v16 on", version, number, p.CurrentLeader, leader)
			}
			if version >= 16 && (len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != leader) {
				t.Errorf("fetch v%d: brokers %v", version, resp.Brokers)
			}
		}
		n := nodes[leader-1]
		n.mustProduce("t", int32(number), "a")
		if got := listOffsets(n, 11, "t", int32(number), -1, -1); got.Offset != 1 {
			t.Errorf("partition %d ends at %d", number, got.Offset)
		}
	}
	asked.advance(time.Second)
	p := ask[*kmsg.FetchResponse](asked, fetchRequest(12, "t", id, 1, 0)).Topics[0].Partitions[0]
	if expect(t, "fetch from a follower", p.ErrorCode, kafka.None); len(values(t, p.RecordBatches)) != 1 {
		t.Error("the follower has not got the record")
	}
}

// Node 1 answers for a partition whose leader is gone.
func TestALeaderThatIsGoneIsNotNamed(t *testing.T) {
	nodes := newCluster(t, 3, nil)
	asked := nodes[0]
	expect(t, "create", createTopics(asked, 7, withReplicas(newTopic("t", -1, -1), 2)).Topics[0].ErrorCode, kafka.None)
	asked.advance(time.Second)
	if err := nodes[1].broker.Close(asked.now); err != nil {
		t.Fatal(err)
	}
	asked.advance(10 * time.Second)
	m := metadataOf(asked, 9, false, "t")
	p := m.Topics[0].Partitions[0]
	expect(t, "metadata", p.ErrorCode, kafka.ErrLeaderNotAvailable)
	if p.Leader != -1 || len(p.OfflineReplicas) != 1 || p.OfflineReplicas[0] != 2 || len(m.Brokers) != 2 {
		t.Errorf("partition %v, brokers %v", p, m.Brokers)
	}
	r := asked.produce("t", 0, batch(record.BuilderOptions{}, "a"))
	expect(t, "produce", r.ErrorCode, kafka.ErrNotLeaderOrFollower)
	if r.CurrentLeader.LeaderID != -1 || r.CurrentLeader.LeaderEpoch != p.LeaderEpoch {
		t.Errorf("leader %v, want none in epoch %d", r.CurrentLeader, p.LeaderEpoch)
	}
	if p := metadataOf(asked, 0, false, "t").Topics[0].Partitions[0]; len(p.Replicas) != 0 || len(p.ISR) != 0 {
		t.Errorf("v0 lists replicas %v, in sync %v, which are not in the list of brokers", p.Replicas, p.ISR)
	}
}

// A client whose epoch is old is told the new one, also by the leader itself.
func TestTheLeaderTellsItsEpoch(t *testing.T) {
	nodes := newCluster(t, 3, nil)
	asked := nodes[0]
	expect(t, "create", createTopics(asked, 7, withReplicas(newTopic("t", -1, -1), 1, 2)).Topics[0].ErrorCode, kafka.None)
	asked.advance(time.Second)
	if err := nodes[1].broker.Close(asked.now); err != nil {
		t.Fatal(err)
	}
	asked.advance(10 * time.Second)
	move := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	move.Version, move.TimeoutMillis = 1, 5000
	move.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t",
		Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{3}}}}}
	expect(t, "reassign", ask[*kmsg.AlterPartitionAssignmentsResponse](asked, move).ErrorCode, kafka.None)
	asked.advance(10 * time.Second)
	m := metadataOf(asked, 12, false, "t").Topics[0]
	if p := m.Partitions[0]; p.Leader != 3 || p.LeaderEpoch < 1 {
		t.Fatalf("partition %v", p)
	}
	for version := int16(12); version <= 18; version++ {
		req := fetchRequest(version, "t", m.TopicID, 0, 0)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
		p := ask[*kmsg.FetchResponse](nodes[2], req).Topics[0].Partitions[0]
		expect(t, "fetch", p.ErrorCode, kafka.ErrFencedLeaderEpoch)
		if named := p.CurrentLeader.LeaderID == 3 && p.CurrentLeader.LeaderEpoch == m.Partitions[0].LeaderEpoch; named != (version >= 16) {
			t.Errorf("v%d: leader %v", version, p.CurrentLeader)
		}
	}
}

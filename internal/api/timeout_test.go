package api_test

import (
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// As Kafka 4.3.1 has it: who gives no time for a change gets none.
func TestNothingIsChangedWithoutTime(t *testing.T) {
	n := newNode(t, nil)
	id := n.topic("t", 1)
	name := "t"
	for _, timeout := range []int32{0, -5} {
		more := kmsg.NewPtrCreatePartitionsRequest()
		more.Version, more.TimeoutMillis = 3, timeout
		more.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: 4}}
		expect(t, "CreatePartitions", ask[*kmsg.CreatePartitionsResponse](n, more).Topics[0].ErrorCode, kafka.ErrRequestTimedOut)

		del := kmsg.NewPtrDeleteTopicsRequest()
		del.Version, del.TimeoutMillis = 6, timeout
		del.Topics = []kmsg.DeleteTopicsRequestTopic{{}, {Topic: &name}}
		deleted := ask[*kmsg.DeleteTopicsResponse](n, del)
		expect(t, "DeleteTopics without a name", deleted.Topics[0].ErrorCode, kafka.ErrInvalidRequest)
		expect(t, "DeleteTopics", deleted.Topics[1].ErrorCode, kafka.ErrRequestTimedOut)

		elect := kmsg.NewPtrElectLeadersRequest()
		elect.Version, elect.TimeoutMillis = 2, timeout
		elect.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		elected := ask[*kmsg.ElectLeadersResponse](n, elect)
		expect(t, "ElectLeaders", elected.ErrorCode, kafka.ErrRequestTimedOut)
		expect(t, "ElectLeaders of t-0", elected.Topics[0].Partitions[0].ErrorCode, kafka.ErrRequestTimedOut)

		move := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		move.Version, move.TimeoutMillis = 1, timeout
		expect(t, "no reassignment", ask[*kmsg.AlterPartitionAssignmentsResponse](n, move).ErrorCode, kafka.None)
		move.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{1}}}}}
		moved := ask[*kmsg.AlterPartitionAssignmentsResponse](n, move)
		expect(t, "AlterPartitionReassignments", moved.ErrorCode, kafka.ErrRequestTimedOut)
		expect(t, "AlterPartitionReassignments of t-0", moved.Topics[0].Partitions[0].ErrorCode, kafka.ErrRequestTimedOut)
	}
	if topic := n.broker.Image().TopicByName("t"); topic == nil || topic.ID != id || len(topic.Partitions) != 1 {
		t.Errorf("the topic is %v", topic)
	}
}

// Nor does a request wait for weeks for replicas, or for a controller.
func TestNoChangeWaitsForWeeks(t *testing.T) {
	nodes := newCluster(t, 3, nil)
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version, create.TimeoutMillis = 7, 5000
	topic, two := newTopic("t", 1, 2), "2"
	topic.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "min.insync.replicas", Value: &two}}
	create.Topics = []kmsg.CreateTopicsRequestTopic{topic}
	expect(t, "create", ask[*kmsg.CreateTopicsResponse](nodes[0], create).Topics[0].ErrorCode, kafka.None)
	p := nodes[0].broker.Image().TopicByName("t").Partitions[0]
	leader := nodes[p.Leader-1]
	leader.mustProduce("t", 0, "a")
	nodes[p.Replicas[1]-1].dead = true
	leader.advance(time.Minute)
	remove := kmsg.NewPtrDeleteRecordsRequest()
	remove.Version, remove.TimeoutMillis = 2, math.MaxInt32
	remove.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 1}}}}
	removing := leader.send(remove)
	leader.advance(time.Minute)
	if removing.came {
		t.Fatal("with too few replicas in sync, DeleteRecords does not wait")
	}
	if leader.advance(5 * time.Minute); !removing.came {
		t.Error("no answer to DeleteRecords after 6 minutes")
	}
	for _, n := range nodes {
		n.dead = n != leader
	}
	create.TimeoutMillis, create.Topics[0].Topic = math.MaxInt32, "u"
	creating := leader.send(create)
	if leader.advance(6 * time.Minute); !creating.came {
		t.Error("no answer to CreateTopics after 6 minutes")
	}
}

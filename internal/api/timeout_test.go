package api_test

import (
	"testing"

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

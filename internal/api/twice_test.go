package api_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// Of what a request names twice, Kafka takes the last in the place of the first.
func TestWhatIsNamedTwiceIsFetchedOnce(t *testing.T) {
	for _, partitions := range []int32{3, 40} {
		n := newNode(t, nil)
		id := n.topic("t", partitions)
		n.produce("t", 1, batch(record.BuilderOptions{}, "a", "b"))
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.SessionEpoch, req.MaxBytes = 13, -1, 1<<20
		topic := kmsg.FetchRequestTopic{Topic: "t", TopicID: id}
		for i := range partitions {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.PartitionMaxBytes = i, 1<<20
			topic.Partitions = append(topic.Partitions, p)
		}
		again := topic.Partitions[1]
		again.FetchOffset = 9
		req.Topics = []kmsg.FetchRequestTopic{topic, {Topic: "t", TopicID: id, Partitions: []kmsg.FetchRequestTopicPartition{again}}}
		resp := ask[*kmsg.FetchResponse](n, req)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != int(partitions) {
			t.Fatalf("%d partitions: got %v", partitions, resp.Topics)
		}
		expect(t, "the last one", resp.Topics[0].Partitions[1].ErrorCode, kafka.ErrOffsetOutOfRange)
	}
}

func TestWhatIsNamedTwiceIsDeletedOnce(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	n.produce("t", 0, batch(record.BuilderOptions{}, "a", "b", "c"))
	part := func(offset int64) kmsg.DeleteRecordsRequestTopic {
		return kmsg.DeleteRecordsRequestTopic{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: offset}}}
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.TimeoutMillis = 2, 1000
	req.Topics = []kmsg.DeleteRecordsRequestTopic{part(3), part(2), {Topic: "none"}}
	resp := ask[*kmsg.DeleteRecordsResponse](n, req)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].LowWatermark != 2 {
		t.Errorf("got %v", resp.Topics)
	}
}

func TestTopicsWithoutPartitionsAreNotAnswered(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	list := kmsg.NewPtrListOffsetsRequest()
	list.Version, list.Topics = 7, []kmsg.ListOffsetsRequestTopic{{Topic: "t"}}
	if resp := ask[*kmsg.ListOffsetsResponse](n, list); len(resp.Topics) != 0 {
		t.Errorf("ListOffsets: %v", resp.Topics)
	}
	produce := kmsg.NewPtrProduceRequest()
	produce.Version, produce.Acks, produce.Topics = 9, -1, []kmsg.ProduceRequestTopic{{Topic: "t"}}
	if resp := ask[*kmsg.ProduceResponse](n, produce); len(resp.Topics) != 0 {
		t.Errorf("Produce: %v", resp.Topics)
	}
}

func TestMetadataOfIDsIgnoresNames(t *testing.T) {
	n := newNode(t, nil)
	id, other := n.topic("t", 1), "u"
	n.topic(other, 1)
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 12, []kmsg.MetadataRequestTopic{{TopicID: id}, {Topic: &other}}
	resp := ask[*kmsg.MetadataResponse](n, req)
	if len(resp.Topics) != 1 || resp.Topics[0].TopicID != id || len(resp.Brokers) == 0 {
		t.Errorf("got %v", resp)
	}
	// Before ids may be used, the request is refused topic by topic and says nothing of the cluster.
	req.Version = 11
	resp = ask[*kmsg.MetadataResponse](n, req)
	if len(resp.Topics) != 2 || len(resp.Brokers) != 0 || resp.ClusterID != nil || resp.ControllerID != -1 {
		t.Fatalf("v11: got %v", resp)
	}
	for _, topic := range resp.Topics {
		expect(t, "v11", topic.ErrorCode, kafka.ErrInvalidRequest)
	}
}

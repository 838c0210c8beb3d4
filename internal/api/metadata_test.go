package api_test

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// metadataOf asks for topics by name; none means an empty list.
func metadataOf(n *node, version int16, create bool, names ...string) *kmsg.MetadataResponse {
	n.t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = version, create
	req.Topics = []kmsg.MetadataRequestTopic{}
	for i := range names {
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: &names[i]})
	}
	return ask[*kmsg.MetadataResponse](n, req)
}

func TestMetadata(t *testing.T) { // traps 13, c
	n := newNode(t, nil)
	id := n.topic("t", 2)
	n.topic("other", 1)
	for version := int16(0); version <= 13; version++ {
		m := metadataOf(n, version, false, "t", "t")
		if len(m.Topics) != 1 {
			t.Fatalf("v%d: a topic named twice comes %d times", version, len(m.Topics))
		}
		if len(m.Brokers) != 1 || m.Brokers[0].NodeID != 1 || m.Brokers[0].Host != "broker-1" || m.Brokers[0].Port != 9092 {
			t.Errorf("v%d: brokers %v", version, m.Brokers)
		}
		if version >= 1 && (m.ControllerID != 1 || str(m.Brokers[0].Rack) != "r1") {
			t.Errorf("v%d: controller %d, rack %s", version, m.ControllerID, str(m.Brokers[0].Rack))
		}
		if version >= 2 && (m.ClusterID == nil || *m.ClusterID == "") {
			t.Errorf("v%d: no cluster id", version)
		}
		if version >= 10 && m.Topics[0].TopicID != [16]byte(id) {
			t.Errorf("v%d: topic id %v", version, m.Topics[0].TopicID)
		}
		if len(m.Topics[0].Partitions) != 2 {
			t.Fatalf("v%d: %d partitions", version, len(m.Topics[0].Partitions))
		}
		for _, p := range m.Topics[0].Partitions {
			expect(t, "partition", p.ErrorCode, kafka.None)
			if p.Leader != 1 || len(p.Replicas) != 1 || len(p.ISR) != 1 || len(p.OfflineReplicas) != 0 || version >= 7 && p.LeaderEpoch < 0 {
				t.Errorf("v%d: partition %v", version, p)
			}
		}
		if version >= 8 && m.Topics[0].AuthorizedOperations != -1<<31 {
			t.Errorf("v%d: operations %d that nobody asked for", version, m.Topics[0].AuthorizedOperations)
		}
		all := kmsg.NewPtrMetadataRequest()
		all.Version = version
		if got := len(ask[*kmsg.MetadataResponse](n, all).Topics); got != 2 {
			t.Errorf("v%d: null topics are %d topics", version, got)
		}
		want := 0
		if version == 0 {
			want = 2
		}
		if got := len(metadataOf(n, version, false).Topics); got != want {
			t.Errorf("v%d: no topics are %d topics", version, got)
		}
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.IncludeClusterAuthorizedOperations, req.IncludeTopicAuthorizedOperations = 10, true, true
	m := ask[*kmsg.MetadataResponse](n, req)
	if m.AuthorizedOperations != 8096 || m.Topics[0].AuthorizedOperations != 3576 {
		t.Errorf("operations on the cluster %d, on topics %d", m.AuthorizedOperations, m.Topics[0].AuthorizedOperations)
	}
}

func TestMetadataByTopicID(t *testing.T) { // kafka-answers Topics, trap 11
	n := newNode(t, nil)
	id := n.topic("t", 1)
	name := "other"
	for _, tt := range []struct {
		name    string
		version int16
		topic   kmsg.MetadataRequestTopic
		want    kafka.ErrorCode
		got     string
		top     kafka.ErrorCode
	}{
		{"by id", 12, kmsg.MetadataRequestTopic{TopicID: id}, kafka.None, "t", kafka.None},
		{"by id before v12", 10, kmsg.MetadataRequestTopic{TopicID: id, Topic: new(string)}, kafka.ErrInvalidRequest, "", kafka.None},
		{"the name is ignored", 12, kmsg.MetadataRequestTopic{TopicID: id, Topic: &name}, kafka.None, "t", kafka.None},
		{"unknown id", 12, kmsg.MetadataRequestTopic{TopicID: [16]byte{1}}, kafka.ErrUnknownTopicID, "null", kafka.None},
		{"neither", 12, kmsg.MetadataRequestTopic{}, kafka.ErrInvalidRequest, "", kafka.None},
		{"neither, v13", 13, kmsg.MetadataRequestTopic{}, kafka.ErrInvalidRequest, "", kafka.ErrInvalidRequest},
	} {
		req := kmsg.NewPtrMetadataRequest()
		req.Version, req.Topics = tt.version, []kmsg.MetadataRequestTopic{tt.topic}
		m := ask[*kmsg.MetadataResponse](n, req)
		expect(t, tt.name, m.Topics[0].ErrorCode, tt.want)
		expect(t, tt.name+", top", m.ErrorCode, tt.top)
		if str(m.Topics[0].Topic) != tt.got {
			t.Errorf("%s: topic %s, want %s", tt.name, str(m.Topics[0].Topic), tt.got)
		}
	}
}

func TestMetadataCreatesTopics(t *testing.T) { // trap 14, kafka-answers Topics
	n := newNode(t, map[string]string{"num.partitions": "3"})
	for _, bad := range []string{"", ".", "..", "a b", "a/b", string(slices.Repeat([]byte("x"), 250))} {
		expect(t, "name "+bad, metadataOf(n, 9, true, bad).Topics[0].ErrorCode, kafka.ErrInvalidTopicException)
	}
	first := metadataOf(n, 9, true, "made").Topics[0]
	expect(t, "first time", first.ErrorCode, kafka.ErrUnknownTopicOrPartition)
	if len(first.Partitions) != 0 {
		t.Errorf("%d partitions the first time", len(first.Partitions))
	}
	// One that asks whether something changed since must not find it made yet.
	n.settle()
	expect(t, "at once", metadataOf(n, 9, true, "made").Topics[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	n.advance(100 * time.Millisecond)
	second := metadataOf(n, 9, true, "made").Topics[0]
	expect(t, "second time", second.ErrorCode, kafka.None)
	if len(second.Partitions) != 3 {
		t.Errorf("%d partitions, want num.partitions", len(second.Partitions))
	}
	n.mustProduce("made", 2, "a")
	expect(t, "not wanted", metadataOf(n, 9, false, "nope").Topics[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	n.settle()
	expect(t, "not wanted, later", metadataOf(n, 9, false, "nope").Topics[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	expect(t, "before v4", metadataOf(n, 1, false, "old").Topics[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	n.advance(100 * time.Millisecond)
	expect(t, "before v4, later", metadataOf(n, 1, false, "old").Topics[0].ErrorCode, kafka.None)

	n = newNode(t, map[string]string{"auto.create.topics.enable": "false"})
	metadataOf(n, 9, true, "made")
	n.settle()
	expect(t, "switched off", metadataOf(n, 9, true, "made").Topics[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
}

func TestDescribeCluster(t *testing.T) { // kafka-answers ACLs, quotas, SCRAM, cluster
	n := newNode(t, nil)
	for _, tt := range []struct {
		version  int16
		endpoint int8
		want     kafka.ErrorCode
	}{{0, 9, kafka.None}, {1, 1, kafka.None}, {1, 2, kafka.ErrMismatchedEndpointType}, {2, 3, kafka.ErrUnsupportedEndpointType}, {2, 1, kafka.None}} {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.Version, req.EndpointType, req.IncludeClusterAuthorizedOperations = tt.version, tt.endpoint, true
		resp := ask[*kmsg.DescribeClusterResponse](n, req)
		expect(t, "describe cluster", resp.ErrorCode, tt.want)
		if tt.want == kafka.None && (len(resp.Brokers) != 1 || resp.ControllerID != 1 || resp.ClusterID == "" || resp.ClusterAuthorizedOperations != 8096) {
			t.Errorf("v%d: %v", tt.version, resp)
		}
	}
}

func TestDescribeTopicPartitions(t *testing.T) { // kafka-answers Topics
	n := newNode(t, nil)
	n.topic("b", 3)
	n.topic("a", 2)
	type want struct {
		topics string
		next   string
		at     int32
	}
	for _, tt := range []struct {
		name   string
		topics []string
		limit  int32
		cursor *kmsg.DescribeTopicPartitionsRequestCursor
		want   want
	}{
		{"all, sorted", nil, 100, nil, want{"a2b3", "", 0}},
		{"named", []string{"b", "a", "b"}, 100, nil, want{"a2b3", "", 0}},
		{"limit", nil, 3, nil, want{"a2b1", "b", 1}},
		{"limit at a border", nil, 2, nil, want{"a2", "b", 0}},
		{"limit 0", nil, 0, nil, want{"a1", "a", 1}},
		{"limit -5", nil, -5, nil, want{"a1", "a", 1}},
		{"cursor", nil, 100, &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "b", Partition: 1}, want{"b2", "", 0}},
		{"cursor behind the end", nil, 100, &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "a", Partition: 2}, want{"a0b3", "", 0}},
	} {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit, req.Cursor = tt.limit, tt.cursor
		for _, name := range tt.topics {
			req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
		}
		resp := ask[*kmsg.DescribeTopicPartitionsResponse](n, req)
		var got want
		for _, topic := range resp.Topics {
			expect(t, tt.name, topic.ErrorCode, kafka.None)
			got.topics += str(topic.Topic) + string(rune('0'+len(topic.Partitions)))
		}
		if c := resp.NextCursor; c != nil {
			got.next, got.at = c.Topic, c.Partition
		}
		if got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = 100
	for _, name := range []string{"a", "nope", "", "x y"} {
		req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
	}
	for i, code := range []kafka.ErrorCode{kafka.ErrInvalidTopicException, kafka.None, kafka.ErrUnknownTopicOrPartition, kafka.ErrInvalidTopicException} {
		expect(t, "unknown and invalid", ask[*kmsg.DescribeTopicPartitionsResponse](n, req).Topics[i].ErrorCode, code)
	}
	req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "of no other"}
	for _, topic := range ask[*kmsg.DescribeTopicPartitionsResponse](n, req).Topics {
		expect(t, "cursor of none of them", topic.ErrorCode, kafka.ErrInvalidRequest)
	}
}

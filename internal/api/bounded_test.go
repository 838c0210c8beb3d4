package api_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
)

// A request of some hundred kilobytes that names something often enough must not
// be answered with gigabytes.
func TestAnswersDoNotGrowWithWhatIsRepeated(t *testing.T) {
	n := withGroups(t)
	n.produce("t", 0, idempotent(7, 3, 0, "a", "b"))
	const often = 1000
	repeated := func(name string) []string { return strings.Split(strings.Repeat(name+",", often)+name, ",") }
	numbers := make([]int32, often)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 8, "g", -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = 5, kmsg.StringPtr(strings.Repeat("m", 4000))
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	expect(t, "commit", ask[*kmsg.OffsetCommitResponse](n, commit).Topics[0].Partitions[0].ErrorCode, kafka.None)

	classic := kmsg.NewPtrDescribeGroupsRequest()
	classic.Version, classic.Groups = 5, repeated("g")
	consumers := kmsg.NewPtrConsumerGroupDescribeRequest()
	consumers.Version, consumers.Groups = 1, repeated("g")
	producers := kmsg.NewPtrDescribeProducersRequest()
	producers.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: "t", Partitions: numbers}, {Topic: "t", Partitions: numbers}}
	dirs := kmsg.NewPtrDescribeLogDirsRequest()
	dirs.Version = 4
	dirs.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: numbers}, {Topic: "t", Partitions: numbers}}
	quorum := kmsg.NewPtrDescribeQuorumRequest()
	quorum.Version = 2
	quorum.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: make([]kmsg.DescribeQuorumRequestTopicPartition, often)}}
	old := kmsg.NewPtrOffsetFetchRequest()
	old.Version, old.Group = 7, "g"
	old.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: numbers}, {Topic: "t", Partitions: numbers}}
	all, some := kmsg.NewPtrOffsetFetchRequest(), kmsg.NewPtrOffsetFetchRequest()
	all.Version, some.Version = 9, 9
	for range often {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.MemberEpoch = "g", -1
		all.Groups = append(all.Groups, g)
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0, 0}}}
		some.Groups = append(some.Groups, g)
	}
	for _, tt := range []struct {
		req   kmsg.Request
		bytes int // of an answer for each time that something is named
	}{
		{classic, 0}, {consumers, 0}, {producers, 0}, {dirs, 0}, {quorum, 120}, {old, 0}, {all, 0}, {some, 20},
	} {
		name := fmt.Sprintf("%T v%d", tt.req, tt.req.GetVersion())
		a := n.wait(n.send(tt.req))
		if most := 5000 + tt.bytes*often; a.resp == nil || len(a.bytes) > most {
			t.Errorf("%s: %d bytes, at most %d", name, len(a.bytes), most)
		}
	}
}

func TestConfigsAreDescribedWithinBounds(t *testing.T) {
	n := newNode(t, nil)
	n.server.Limits.ConfigsBytesMax = 100 << 10
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeDocumentation, req.IncludeSynonyms = 4, true, true
	for i := range 1000 {
		req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeGroupConfig, ResourceName: fmt.Sprint("g", i)})
	}
	a := n.wait(n.send(req))
	resp := a.resp.(*kmsg.DescribeConfigsResponse)
	if len(a.bytes) > 300<<10 || len(resp.Resources) != 1000 {
		t.Errorf("%d bytes for %d resources", len(a.bytes), len(resp.Resources))
	}
	first, last := resp.Resources[0], resp.Resources[999]
	if first.ErrorCode != 0 || len(first.Configs) < 5 {
		t.Errorf("first: %v, %d configs", kafka.ErrorCode(first.ErrorCode), len(first.Configs))
	}
	if expect(t, "last", last.ErrorCode, kafka.ErrInvalidRequest); !strings.Contains(str(last.ErrorMessage), "fewer resources") {
		t.Errorf("last: %s", str(last.ErrorMessage))
	}
}

// What a request without records asks for is many times as large in memory.
func TestLargeRequestsAreForRecords(t *testing.T) {
	n := newNode(t, nil)
	names := make([]string, 17<<10)
	for i := range names {
		names[i] = strings.Repeat("x", 1000)
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, names
	if a := n.send(req); !a.close || !strings.Contains(fmt.Sprint(a.err), "FindCoordinator of 17") {
		t.Errorf("17 MiB: close %v, %v", a.close, a.err)
	}
	req.CoordinatorKeys = names[:1<<10]
	if a := n.wait(n.send(req)); a.close || errors.Is(a.err, api.ErrUnsupported) {
		t.Errorf("1 MiB: close %v, %v", a.close, a.err)
	}
}

// As Kafka 4.3.1 has it: one wrong partition, or the right one twice, and none is right.
func TestTheQuorumIsDescribedAlone(t *testing.T) {
	n := newNode(t, nil)
	partitions := func(numbers ...int32) (out []kmsg.DescribeQuorumRequestTopicPartition) {
		for _, number := range numbers {
			out = append(out, kmsg.DescribeQuorumRequestTopicPartition{Partition: number})
		}
		return out
	}
	for _, tt := range []struct {
		topics []kmsg.DescribeQuorumRequestTopic
		want   kafka.ErrorCode
	}{
		{[]kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: partitions(0)}}, kafka.None},
		{[]kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: partitions(0, 0)}}, kafka.ErrUnknownTopicOrPartition},
		{[]kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: partitions(1)}}, kafka.ErrUnknownTopicOrPartition},
		{[]kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: partitions(0)}, {Topic: "t", Partitions: partitions(0)}}, kafka.ErrUnknownTopicOrPartition},
	} {
		req := kmsg.NewPtrDescribeQuorumRequest()
		req.Version, req.Topics = 2, tt.topics
		for _, topic := range ask[*kmsg.DescribeQuorumResponse](n, req).Topics {
			for _, p := range topic.Partitions {
				expect(t, topic.Topic, p.ErrorCode, tt.want)
			}
		}
	}
}

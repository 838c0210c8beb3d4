package api_test

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

func newTopic(name string, partitions int32, factor int16) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, factor
	return t
}

func withConfig(t kmsg.CreateTopicsRequestTopic, name, value string) kmsg.CreateTopicsRequestTopic {
	t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: &value})
	return t
}

func withReplicas(t kmsg.CreateTopicsRequestTopic, replicas ...int32) kmsg.CreateTopicsRequestTopic {
	t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{
		Partition: int32(len(t.ReplicaAssignment)), Replicas: replicas})
	return t
}

func createTopics(n *node, version int16, topics ...kmsg.CreateTopicsRequestTopic) *kmsg.CreateTopicsResponse {
	n.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis, req.Topics = version, 5000, topics
	return ask[*kmsg.CreateTopicsResponse](n, req)
}

func TestCreateTopicsRefusesWhatKafkaRefuses(t *testing.T) { // bad-input 5.4, kafka-answers Topics, trap 44
	n := newNode(t, nil)
	n.topic("a.b", 1)
	for _, tt := range []struct {
		name  string
		topic kmsg.CreateTopicsRequestTopic
		want  kafka.ErrorCode
	}{
		{"fine", newTopic("fine", 1, 1), kafka.None},
		{"defaults", newTopic("defaults", -1, -1), kafka.None},
		{"exists", newTopic("a.b", 1, 1), kafka.ErrTopicAlreadyExists},
		{"exists, bad config", withConfig(newTopic("a.b", 1, 1), "retention.ms", "x"), kafka.ErrTopicAlreadyExists},
		{"collides", newTopic("a_b", 1, 1), kafka.ErrInvalidTopicException},
		{"empty name", newTopic("", 1, 1), kafka.ErrInvalidTopicException},
		{"name .", newTopic(".", 1, 1), kafka.ErrInvalidTopicException},
		{"name ..", newTopic("..", 1, 1), kafka.ErrInvalidTopicException},
		{"name with a space", newTopic("x y", 1, 1), kafka.ErrInvalidTopicException},
		{"name of 250", newTopic(string(slices.Repeat([]byte("x"), 250)), 1, 1), kafka.ErrInvalidTopicException},
		{"name of 249", newTopic(string(slices.Repeat([]byte("x"), 249)), 1, 1), kafka.None},
		{"no partitions", newTopic("p0", 0, 1), kafka.ErrInvalidPartitions},
		{"-2 partitions", newTopic("p-2", -2, 1), kafka.ErrInvalidPartitions},
		{"10001 partitions", newTopic("many", 10_001, 1), kafka.ErrPolicyViolation},
		{"factor 0", newTopic("r0", 1, 0), kafka.ErrInvalidReplicationFactor},
		{"factor 0, no partitions", newTopic("r0p0", 0, 0), kafka.ErrInvalidReplicationFactor},
		{"factor -2", newTopic("r-2", 1, -2), kafka.ErrInvalidReplicationFactor},
		{"factor 2 of 1 broker", newTopic("r2", 1, 2), kafka.ErrInvalidReplicationFactor},
		{"unknown config", withConfig(newTopic("c", 1, 1), "nope", "1"), kafka.ErrInvalidConfig},
		{"bad config", withConfig(newTopic("c", 1, 1), "retention.ms", "x"), kafka.ErrInvalidConfig},
		{"config with spaces", withConfig(newTopic("spaces", 1, 1), "retention.ms", " 7 "), kafka.None},
		{"config twice", withConfig(withConfig(newTopic("twice", 1, 1), "retention.ms", "x"), "retention.ms", "7"), kafka.None},
		{"empty cleanup policy", withConfig(newTopic("forever", 1, 1), "cleanup.policy", ""), kafka.None},
		{"by hand", withReplicas(newTopic("hand", -1, -1), 1), kafka.None},
		{"by hand and counted", withReplicas(newTopic("h1", 1, 1), 1), kafka.ErrInvalidRequest},
		{"by hand, unknown broker", withReplicas(newTopic("h2", -1, -1), 9), kafka.ErrInvalidReplicaAssignment},
		{"by hand, twice the same", withReplicas(newTopic("h3", -1, -1), 1, 1), kafka.ErrInvalidReplicaAssignment},
		{"metadata", newTopic(kafka.TopicClusterMetadata, 1, 1), kafka.ErrInvalidRequest},
	} {
		resp := createTopics(n, 7, tt.topic)
		got := resp.Topics[0]
		expect(t, tt.name, got.ErrorCode, tt.want)
		if tt.want == kafka.None && (got.NumPartitions != 1 || got.ReplicationFactor != 1 || len(got.Configs) < 20 || got.TopicID == [16]byte{}) { // trap 41
			t.Errorf("%s: %d partitions, factor %d, %d configs", tt.name, got.NumPartitions, got.ReplicationFactor, len(got.Configs))
		}
		if tt.want != kafka.None && (got.NumPartitions != -1 || got.ReplicationFactor != -1) {
			t.Errorf("%s: an error with %d partitions and factor %d", tt.name, got.NumPartitions, got.ReplicationFactor)
		}
	}
	resp := createTopics(n, 5, newTopic("p.q", 1, 1), newTopic("same", 1, 1), newTopic("p_q", 1, 1), newTopic("same", 2, 1))
	codes := map[string]int16{}
	for _, r := range resp.Topics {
		codes[r.Topic] = r.ErrorCode
	}
	if len(resp.Topics) != 3 || codes["same"] != int16(kafka.ErrInvalidRequest) || codes["p.q"] != 0 || codes["p_q"] != 0 {
		t.Errorf("p.q, p_q and same twice: %v", codes)
	}
	expect(t, "same was made", metadataOf(n, 9, false, "same").Topics[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
}

func TestCreateTopicsWithoutTime(t *testing.T) { // kafka-answers Topics: timeout 0
	n := newNode(t, nil)
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis, req.Topics = 7, 0, []kmsg.CreateTopicsRequestTopic{newTopic("t", 1, 1), newTopic("a b", 1, 1)}
	for _, r := range ask[*kmsg.CreateTopicsResponse](n, req).Topics {
		expect(t, r.Topic, r.ErrorCode, kafka.ErrRequestTimedOut)
	}
	n.settle()
	expect(t, "made all the same", metadataOf(n, 9, false, "t").Topics[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	req.TimeoutMillis, req.ValidateOnly, req.Topics = 1000, true, req.Topics[:1]
	expect(t, "validate", ask[*kmsg.CreateTopicsResponse](n, req).Topics[0].ErrorCode, kafka.None)
	expect(t, "made by validating", metadataOf(n, 9, false, "t").Topics[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
}

func TestDeleteTopicsRefusesWhatKafkaRefuses(t *testing.T) { // kafka-answers Topics, traps 6, a
	n := newNode(t, nil)
	id := n.topic("a", 1)
	b := n.topic("b", 1)
	name := func(s string) *string { return &s }
	type entry = kmsg.DeleteTopicsRequestTopic
	for _, tt := range []struct {
		name   string
		topics []entry
		want   []kafka.ErrorCode
	}{
		{"unknown name", []entry{{Topic: name("nope")}}, []kafka.ErrorCode{kafka.ErrUnknownTopicOrPartition}},
		{"invalid name", []entry{{Topic: name("x y")}}, []kafka.ErrorCode{kafka.ErrUnknownTopicOrPartition}},
		{"empty name", []entry{{Topic: name("")}}, []kafka.ErrorCode{kafka.ErrUnknownTopicOrPartition}},
		{"unknown id", []entry{{TopicID: [16]byte{1}}}, []kafka.ErrorCode{kafka.ErrUnknownTopicID}},
		{"neither", []entry{{}}, []kafka.ErrorCode{kafka.ErrInvalidRequest}},
		{"both", []entry{{Topic: name("a"), TopicID: id}}, []kafka.ErrorCode{kafka.ErrInvalidRequest}},
		{"twice", []entry{{Topic: name("a")}, {Topic: name("a")}}, []kafka.ErrorCode{kafka.ErrInvalidRequest}},
		{"by name and by id", []entry{{Topic: name("a")}, {TopicID: id}}, []kafka.ErrorCode{kafka.ErrInvalidRequest}},
		{"metadata", []entry{{Topic: name(kafka.TopicClusterMetadata)}}, []kafka.ErrorCode{kafka.ErrUnknownTopicOrPartition}},
		{"one good, one bad", []entry{{TopicID: b}, {Topic: name("nope")}}, []kafka.ErrorCode{kafka.None, kafka.ErrUnknownTopicOrPartition}},
	} {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TimeoutMillis, req.Topics = 6, 5000, tt.topics
		resp := ask[*kmsg.DeleteTopicsResponse](n, req)
		if len(resp.Topics) != len(tt.want) {
			t.Errorf("%s: %d answers", tt.name, len(resp.Topics))
			continue
		}
		for i, want := range tt.want {
			expect(t, tt.name, resp.Topics[i].ErrorCode, want)
		}
	}
	expect(t, "a is there", metadataOf(n, 9, false, "a").Topics[0].ErrorCode, kafka.None)
	for version := int16(1); version <= 5; version++ {
		n.topic("again", 1)
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TimeoutMillis, req.TopicNames = version, 5000, []string{"again"}
		expect(t, "delete", ask[*kmsg.DeleteTopicsResponse](n, req).Topics[0].ErrorCode, kafka.None)
	}
}

func TestCreatePartitions(t *testing.T) { // kafka-answers Topics, trap 42
	n := newNode(t, nil)
	n.topic("t", 2)
	type entry = kmsg.CreatePartitionsRequestTopic
	for _, tt := range []struct {
		name   string
		topics []entry
		want   kafka.ErrorCode
	}{
		{"as many", []entry{{Topic: "t", Count: 2}}, kafka.ErrInvalidPartitions},
		{"fewer", []entry{{Topic: "t", Count: 1}}, kafka.ErrInvalidPartitions},
		{"negative", []entry{{Topic: "t", Count: -1}}, kafka.ErrInvalidPartitions},
		{"unknown", []entry{{Topic: "nope", Count: 3}}, kafka.ErrUnknownTopicOrPartition},
		{"invalid name", []entry{{Topic: "x y", Count: 3}}, kafka.ErrUnknownTopicOrPartition},
		{"twice", []entry{{Topic: "t", Count: 3}, {Topic: "t", Count: 4}}, kafka.ErrInvalidRequest},
		{"bad assignment", []entry{{Topic: "t", Count: 3, Assignment: []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: []int32{9}}}}}, kafka.ErrInvalidReplicaAssignment},
		{"more", []entry{{Topic: "t", Count: 3}}, kafka.None},
	} {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Version, req.TimeoutMillis, req.Topics = 3, 5000, tt.topics
		resp := ask[*kmsg.CreatePartitionsResponse](n, req)
		if len(resp.Topics) != 1 {
			t.Fatalf("%s: %d answers", tt.name, len(resp.Topics))
		}
		expect(t, tt.name, resp.Topics[0].ErrorCode, tt.want)
	}
	n.mustProduce("t", 2, "usable at once")
}

func describe(n *node, kind kmsg.ConfigResourceType, name string, names ...string) kmsg.DescribeConfigsResponseResource {
	n.t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Version, req.IncludeSynonyms = 4, true
	req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kind, ResourceName: name, ConfigNames: names})
	return ask[*kmsg.DescribeConfigsResponse](n, req).Resources[0]
}

func TestDescribeConfigs(t *testing.T) { // kafka-answers Configs, trap 40
	n := newNode(t, map[string]string{"message.max.bytes": "2000000"})
	n.topic("t", 1, "retention.ms", "7")
	for _, tt := range []struct {
		name string
		kind kmsg.ConfigResourceType
		of   string
		want kafka.ErrorCode
		some bool
	}{
		{"topic", kmsg.ConfigResourceTypeTopic, "t", kafka.None, true},
		{"unknown topic", kmsg.ConfigResourceTypeTopic, "nope", kafka.ErrUnknownTopicOrPartition, false},
		{"invalid topic", kmsg.ConfigResourceTypeTopic, "x y", kafka.ErrInvalidTopicException, false},
		{"broker", kmsg.ConfigResourceTypeBroker, "1", kafka.None, true},
		{"defaults of brokers", kmsg.ConfigResourceTypeBroker, "", kafka.None, false},
		{"another broker", kmsg.ConfigResourceTypeBroker, "2", kafka.ErrInvalidRequest, false},
		{"no broker", kmsg.ConfigResourceTypeBroker, "x", kafka.ErrInvalidRequest, false},
		{"unknown group", kmsg.ConfigResourceType(32), "nope", kafka.None, true},
		{"client metrics", kmsg.ConfigResourceType(16), "nope", kafka.None, true},
		{"type 0", 0, "t", kafka.ErrInvalidRequest, false},
		{"type 99", 99, "t", kafka.ErrInvalidRequest, false},
	} {
		r := describe(n, tt.kind, tt.of)
		expect(t, tt.name, r.ErrorCode, tt.want)
		if (len(r.Configs) > 0) != tt.some {
			t.Errorf("%s: %d configs", tt.name, len(r.Configs))
		}
		if r.ErrorMessage == nil || (*r.ErrorMessage == "") != (tt.want == kafka.None || tt.want == kafka.ErrUnknownTopicOrPartition) {
			t.Errorf("%s: message %q", tt.name, str(r.ErrorMessage))
		}
	}
	r := describe(n, kmsg.ConfigResourceTypeTopic, "t", "retention.ms", "max.message.bytes", "nope")
	if len(r.Configs) != 2 {
		t.Fatalf("asked for two known names and got %d", len(r.Configs))
	}
	for _, c := range r.Configs {
		switch c.Name {
		case "retention.ms":
			if str(c.Value) != "7" || c.Source != kmsg.ConfigSourceDynamicTopicConfig || c.ConfigType != kmsg.ConfigTypeLong {
				t.Errorf("retention.ms: %s from %v", str(c.Value), c.Source)
			}
		case "max.message.bytes":
			if str(c.Value) != "2000000" || len(c.ConfigSynonyms) < 1 || c.ConfigSynonyms[0].Name != "message.max.bytes" {
				t.Errorf("max.message.bytes: %s, synonyms %v", str(c.Value), c.ConfigSynonyms)
			}
		}
	}
	// What is read can be written back (trap 40).
	alter := kmsg.NewPtrAlterConfigsRequest()
	alter.Version, alter.ValidateOnly = 2, true
	res := kmsg.AlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "t"}
	for _, c := range describe(n, kmsg.ConfigResourceTypeTopic, "t").Configs {
		if !c.ReadOnly {
			res.Configs = append(res.Configs, kmsg.AlterConfigsRequestResourceConfig{Name: c.Name, Value: c.Value})
		}
	}
	alter.Resources = append(alter.Resources, res)
	if r := ask[*kmsg.AlterConfigsResponse](n, alter).Resources[0]; r.ErrorCode != 0 {
		t.Errorf("own configs are refused: %v %s", kafka.ErrorCode(r.ErrorCode), str(r.ErrorMessage))
	}
}

func TestAlterConfigs(t *testing.T) { // kafka-answers Configs, trap 42
	n := newNode(t, nil)
	n.topic("t", 1)
	v := func(s string) *string { return &s }
	type config = kmsg.IncrementalAlterConfigsRequestResourceConfig
	const set, remove, add, subtract = 0, 1, 2, 3
	for _, tt := range []struct {
		name    string
		kind    kmsg.ConfigResourceType
		of      string
		configs []config
		want    kafka.ErrorCode
	}{
		{"set", 2, "t", []config{{Name: "retention.ms", Op: set, Value: v("5")}}, kafka.None},
		{"set unknown", 2, "t", []config{{Name: "nope", Op: set, Value: v("5")}}, kafka.ErrInvalidConfig},
		{"delete unknown", 2, "t", []config{{Name: "nope", Op: remove}}, kafka.None},
		{"bad value", 2, "t", []config{{Name: "retention.ms", Op: set, Value: v("x")}}, kafka.ErrInvalidConfig},
		{"append to a list", 2, "t", []config{{Name: "cleanup.policy", Op: add, Value: v("compact")}}, kafka.None},
		{"append to no list", 2, "t", []config{{Name: "retention.ms", Op: add, Value: v("5")}}, kafka.ErrInvalidConfig},
		{"subtract from no list", 2, "t", []config{{Name: "retention.ms", Op: subtract, Value: v("5")}}, kafka.ErrInvalidConfig},
		{"null", 2, "t", []config{{Name: "retention.ms", Op: set}}, kafka.ErrInvalidRequest},
		{"op 4", 2, "t", []config{{Name: "retention.ms", Op: 4, Value: v("5")}}, kafka.ErrInvalidRequest},
		{"key twice", 2, "t", []config{{Name: "retention.ms", Op: set, Value: v("5")}, {Name: "retention.ms", Op: remove}}, kafka.ErrInvalidRequest},
		{"unknown topic", 2, "nope", []config{{Name: "retention.ms", Op: set, Value: v("5")}}, kafka.ErrUnknownTopicOrPartition},
		{"empty topic", 2, "", []config{{Name: "retention.ms", Op: set, Value: v("5")}}, kafka.ErrInvalidRequest},
		{"invalid topic", 2, "x y", []config{{Name: "retention.ms", Op: set, Value: v("5")}}, kafka.ErrInvalidTopicException},
		{"bad broker value", 4, "", []config{{Name: "log.retention.ms", Op: set, Value: v("x")}}, kafka.ErrInvalidRequest},
		{"type 99", 99, "t", []config{{Name: "retention.ms", Op: set, Value: v("5")}}, kafka.ErrInvalidRequest},
	} {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Version = 1
		req.Resources = append(req.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: tt.kind, ResourceName: tt.of, Configs: tt.configs})
		expect(t, tt.name, ask[*kmsg.IncrementalAlterConfigsResponse](n, req).Resources[0].ErrorCode, tt.want)
	}
	r := describe(n, kmsg.ConfigResourceTypeTopic, "t", "cleanup.policy")
	if got := str(r.Configs[0].Value); got != "delete,compact" {
		t.Errorf("cleanup.policy is %s", got)
	}
	// Kafka never answers this one.
	req := kmsg.NewPtrAlterConfigsRequest()
	req.Version = 2
	res := kmsg.AlterConfigsRequestResource{ResourceType: 2, ResourceName: "t",
		Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: v("9")}}}
	req.Resources = append(req.Resources, res, res)
	resp := ask[*kmsg.AlterConfigsResponse](n, req)
	if len(resp.Resources) != 2 {
		t.Fatalf("%d answers", len(resp.Resources))
	}
	for _, r := range resp.Resources {
		expect(t, "resource twice", r.ErrorCode, kafka.ErrInvalidRequest)
	}
}

func TestDescribeLogDirs(t *testing.T) { // trap 43
	n := newNode(t, nil)
	n.topic("t", 2)
	n.mustProduce("t", 1, "a")
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Version = 4
	resp := ask[*kmsg.DescribeLogDirsResponse](n, req)
	if len(resp.Dirs) != 1 || len(resp.Dirs[0].Topics) != 1 || len(resp.Dirs[0].Topics[0].Partitions) != 2 || resp.Dirs[0].Dir == "" {
		t.Fatalf("all: %v", resp.Dirs)
	}
	if resp.Dirs[0].Topics[0].Partitions[1].Size == 0 || resp.Dirs[0].TotalBytes <= 0 {
		t.Errorf("sizes: %v", resp.Dirs)
	}
	req.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: []int32{1, 9}}, {Topic: "nope", Partitions: []int32{0}}}
	resp = ask[*kmsg.DescribeLogDirsResponse](n, req)
	if len(resp.Dirs[0].Topics) != 1 || len(resp.Dirs[0].Topics[0].Partitions) != 1 {
		t.Errorf("unknown ones are not left out: %v", resp.Dirs[0].Topics)
	}
}

func TestElectionsAndReassignments(t *testing.T) { // kafka-answers cluster
	n := newNode(t, nil)
	n.topic("t", 1)
	elect := func(version int16, kind int8, topic string, number int32) *kmsg.ElectLeadersResponse {
		req := kmsg.NewPtrElectLeadersRequest()
		req.Version, req.ElectionType, req.TimeoutMillis = version, kind, 1000
		req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: []int32{number}}}
		return ask[*kmsg.ElectLeadersResponse](n, req)
	}
	for version := int16(0); version <= 2; version++ {
		expect(t, "not needed", elect(version, 0, "t", 0).Topics[0].Partitions[0].ErrorCode, kafka.ErrElectionNotNeeded)
		expect(t, "unknown", elect(version, 0, "nope", 0).Topics[0].Partitions[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	}
	expect(t, "v0 ignores the type", elect(0, 77, "t", 0).Topics[0].Partitions[0].ErrorCode, kafka.ErrElectionNotNeeded)
	expect(t, "type 77", elect(2, 77, "t", 0).ErrorCode, kafka.ErrInvalidRequest)

	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.Version, req.TimeoutMillis, req.AllowReplicationFactorChange = 1, 1000, true
	req.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{
		{Partition: 0}, {Partition: 5, Replicas: []int32{1}}}}}
	got := ask[*kmsg.AlterPartitionAssignmentsResponse](n, req)
	expect(t, "nothing to cancel", got.Topics[0].Partitions[0].ErrorCode, kafka.ErrNoReassignmentInProgress)
	expect(t, "unknown partition", got.Topics[0].Partitions[1].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	list := kmsg.NewPtrListPartitionReassignmentsRequest()
	list.TimeoutMillis = 1000
	if r := ask[*kmsg.ListPartitionReassignmentsResponse](n, list); r.ErrorCode != 0 || len(r.Topics) != 0 {
		t.Errorf("reassignments: %v", r)
	}
}

func TestListConfigResources(t *testing.T) { // kafka-answers Configs
	n := newNode(t, nil)
	n.topic("t", 1)
	for _, tt := range []struct {
		version int16
		kinds   []int8
		want    kafka.ErrorCode
		count   int
	}{{0, nil, kafka.None, 0}, {1, nil, kafka.None, 3}, {1, []int8{2}, kafka.None, 1}, {1, []int8{4, 4}, kafka.None, 1}, {1, []int8{2, 77}, kafka.ErrUnsupportedVersion, 0}} {
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.Version, req.ResourceTypes = tt.version, tt.kinds
		resp := ask[*kmsg.ListConfigResourcesResponse](n, req)
		expect(t, "list", resp.ErrorCode, tt.want)
		if len(resp.ConfigResources) != tt.count {
			t.Errorf("v%d %v: %v", tt.version, tt.kinds, resp.ConfigResources)
		}
	}
}

func TestDescribeProducers(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	n.produce("t", 0, idempotent(7, 3, 0, "a", "b"))
	req := kmsg.NewPtrDescribeProducersRequest()
	for _, name := range []string{"t", "nope", "x y"} {
		req.Topics = append(req.Topics, kmsg.DescribeProducersRequestTopic{Topic: name, Partitions: []int32{0}})
	}
	resp := ask[*kmsg.DescribeProducersResponse](n, req)
	for i, want := range []kafka.ErrorCode{kafka.None, kafka.ErrUnknownTopicOrPartition, kafka.ErrInvalidTopicException} {
		expect(t, resp.Topics[i].Topic, resp.Topics[i].Partitions[0].ErrorCode, want)
	}
	p := resp.Topics[0].Partitions[0].ActiveProducers
	if len(p) != 1 || p[0].ProducerID != 7 || p[0].ProducerEpoch != 3 || p[0].LastSequence != 1 || p[0].CurrentTxnStartOffset != -1 {
		t.Errorf("producers %v", p)
	}
}

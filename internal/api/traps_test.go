package api_test

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// Rows of test/compat/traps.md that no test of a single API holds.

// Trap 3: clients write the body of ApiVersions v3 in ways of their own.
func TestApiVersionsAsClientsWriteIt(t *testing.T) {
	n := newNode(t, nil)
	flexible := func(version int16, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, 18)
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		b = binary.BigEndian.AppendUint32(b, 7)
		return append(append(b, 0, 1, 'x'), rest...)
	}
	software := []byte{0, 6, 'l', 'i', 'b', 'r', 'd', 6, '2', '.', '0', '.', '2', 0}
	for name, frame := range map[string][]byte{
		"v0 without a body":                   flexible(0),
		"v0 with a tag section in the header": flexible(0, 0),
		"v3":                                  flexible(3, software...),
		"v3 with bytes after the body":        flexible(3, append(software, 0, 0)...),
		"v3 with tags of its own":             flexible(3, append([]byte{0, 2, 'a', 2, '1', 1, 99, 1, 7}, 0)...),
		"v4":                                  flexible(4, software...),
	} {
		a := n.wait(n.handle(n.client, frame, 18, 3))
		resp, ok := a.resp.(*kmsg.ApiVersionsResponse)
		if !ok || a.close || resp.ErrorCode != 0 || len(resp.ApiKeys) < 30 {
			t.Errorf("%s: %T, close %v, %v", name, a.resp, a.close, a.err)
		}
	}
}

// Trap 11: whoever is asked, and however, a topic has one id.
func TestTopicIDsAreTheSameEverywhere(t *testing.T) {
	nodes := newCluster(t, 3, nil)
	created := createTopics(nodes[0], 7, withReplicas(newTopic("t", -1, -1), 2, 3, 1)).Topics[0]
	expect(t, "create", created.ErrorCode, kafka.None)
	nodes[0].advance(time.Second)
	for i, n := range nodes {
		for version := int16(10); version <= 13; version++ {
			if got := metadataOf(n, version, false, "t").Topics[0].TopicID; got != created.TopicID {
				t.Errorf("node %d, Metadata v%d: id %x, want %x", i+1, version, got, created.TopicID)
			}
		}
		pages := kmsg.NewPtrDescribeTopicPartitionsRequest()
		pages.ResponsePartitionLimit, pages.Topics = 10, []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "t"}}
		if got := ask[*kmsg.DescribeTopicPartitionsResponse](n, pages).Topics[0].TopicID; got != created.TopicID {
			t.Errorf("node %d, DescribeTopicPartitions: id %x, want %x", i+1, got, created.TopicID)
		}
	}
	leader := nodes[1]
	for version := int16(12); version <= 13; version++ {
		r := ask[*kmsg.ProduceResponse](leader, produceRequest(version, "t", created.TopicID, 0, batch(record.BuilderOptions{}, "a"))).Topics[0]
		expect(t, "produce", r.Partitions[0].ErrorCode, kafka.None)
		if version >= 13 && r.TopicID != created.TopicID {
			t.Errorf("produce v%d answers for id %x", version, r.TopicID)
		}
		f := ask[*kmsg.FetchResponse](leader, fetchRequest(version, "t", created.TopicID, 0, 0)).Topics[0]
		expect(t, "fetch", f.Partitions[0].ErrorCode, kafka.None)
		if version >= 13 && f.TopicID != created.TopicID {
			t.Errorf("fetch v%d answers for id %x", version, f.TopicID)
		}
	}
}

// Trap 16: where there is a place for a leader epoch, there is one.
func TestLeaderEpochsAreToldEverywhere(t *testing.T) {
	n := withGroups(t)
	id := metadataOf(n, 12, false, "t").Topics[0].TopicID
	n.mustProduce("t", 0, "a")
	epoch := metadataOf(n, 12, false, "t").Topics[0].Partitions[0].LeaderEpoch
	if epoch < 0 {
		t.Errorf("Metadata: leader epoch %d", epoch)
	}
	for version := int16(4); version <= 11; version++ {
		for _, at := range []int64{-1, -2, 1_800_000_000_000} {
			if got := listOffsets(n, version, "t", 0, -1, at); got.ErrorCode != 0 || got.LeaderEpoch != epoch {
				t.Errorf("ListOffsets v%d at %d: epoch %d, want %d", version, at, got.LeaderEpoch, epoch)
			}
		}
	}
	for version := int16(4); version <= 18; version++ {
		b, _, err := record.Next(ask[*kmsg.FetchResponse](n, fetchRequest(version, "t", id, 0, 0)).Topics[0].Partitions[0].RecordBatches)
		if err != nil || int32(b.LeaderEpoch()) != epoch {
			t.Errorf("Fetch v%d: %v, epoch of the batch %d, want %d", version, err, b.LeaderEpoch(), epoch)
		}
	}
	ends := kmsg.NewPtrOffsetForLeaderEpochRequest()
	ends.Version, ends.ReplicaID = 4, -1
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.CurrentLeaderEpoch, p.LeaderEpoch = epoch, epoch
	ends.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
	if got := ask[*kmsg.OffsetForLeaderEpochResponse](n, ends).Topics[0].Partitions[0]; got.LeaderEpoch != epoch || got.EndOffset != 1 {
		t.Errorf("OffsetForLeaderEpoch: epoch %d ends at %d", got.LeaderEpoch, got.EndOffset)
	}
	// What was committed with an epoch is fetched with it.
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 9, "g", -1
	cp := kmsg.NewOffsetCommitRequestTopicPartition()
	cp.Offset, cp.LeaderEpoch = 1, epoch
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{cp}}}
	expect(t, "commit", ask[*kmsg.OffsetCommitResponse](n, commit).Topics[0].Partitions[0].ErrorCode, kafka.None)
	for version := int16(5); version <= 9; version++ {
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.Group = version, "g"
		fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0}}}
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.MemberEpoch, g.Topics = "g", -1, []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", Partitions: []int32{0}}}
		fetch.Groups = []kmsg.OffsetFetchRequestGroup{g}
		resp := ask[*kmsg.OffsetFetchResponse](n, fetch)
		var got int32
		if version >= 8 {
			got = resp.Groups[0].Topics[0].Partitions[0].LeaderEpoch
		} else {
			got = resp.Topics[0].Partitions[0].LeaderEpoch
		}
		if got != epoch {
			t.Errorf("OffsetFetch v%d: epoch %d, want %d", version, got, epoch)
		}
	}
}

// Trap 44: every code of Kafka 4.3 means what it means to clients; of 6, they
// have the old name.
func TestErrorCodesAreKafkas(t *testing.T) {
	known := 0
	for code := kafka.ErrorCode(-1); code < 140; code++ {
		ours, theirs := code.String(), kerr.ErrorForCode(int16(code))
		if theirs, ok := theirs.(*kerr.Error); ok && code != 0 && code != kafka.ErrNotLeaderOrFollower && code <= kafka.ErrorCode(133) {
			if known++; ours != theirs.Message {
				t.Errorf("code %d is %s, clients know it as %s", code, ours, theirs.Message)
			}
		}
	}
	if known < 100 {
		t.Errorf("only %d codes were compared", known)
	}
}

// Trap b: null where there is an array is read as Kafka reads it.
func TestNullArraysAreRead(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	for version := int16(2); version <= 7; version++ {
		b := binary.BigEndian.AppendUint16(nil, 19)
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		b = binary.BigEndian.AppendUint32(b, 7)
		b = append(b, 0, 1, 'x')
		if version >= 5 {
			b = append(b, 0, 0) // no tags; null topics
		} else {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
		}
		b = append(binary.BigEndian.AppendUint32(b, 5000), 0)
		if version >= 5 {
			b = append(b, 0)
		}
		if a := n.wait(n.handle(n.client, b, 19, version)); !a.close || a.resp != nil {
			t.Errorf("CreateTopics v%d of null topics: %T, close %v", version, a.resp, a.close)
		}
	}
	for version := int16(1); version <= 13; version++ {
		all := kmsg.NewPtrMetadataRequest()
		all.Version = version
		if resp := ask[*kmsg.MetadataResponse](n, all); len(resp.Topics) != 1 {
			t.Errorf("Metadata v%d of null topics has %d topics", version, len(resp.Topics))
		}
	}
}

// Trap d: a consumer that was assigned by hand makes a group by its commit,
// and tools see it.
func TestACommitFromOutsideMakesAGroup(t *testing.T) {
	n := withGroups(t)
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 8, "by-hand", -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = 5
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	expect(t, "commit", ask[*kmsg.OffsetCommitResponse](n, commit).Topics[0].Partitions[0].ErrorCode, kafka.None)
	list := kmsg.NewPtrListGroupsRequest()
	list.Version = 4
	groups := ask[*kmsg.ListGroupsResponse](n, list).Groups
	if len(groups) != 1 || groups[0].Group != "by-hand" || groups[0].GroupState != "Empty" {
		t.Errorf("groups %v", groups)
	}
}

// Trap 13: with more partitions than brokers, whoever is named is a broker of
// the answer, and who leads takes what is written.
func TestPartitionsAreOnBrokersThatExist(t *testing.T) {
	nodes := newCluster(t, 3, nil)
	for name, factor := range map[string]int16{"one": 1, "three": 3} {
		expect(t, "create", createTopics(nodes[0], 7, newTopic(name, 7, factor)).Topics[0].ErrorCode, kafka.None)
	}
	nodes[0].advance(time.Second)
	m := metadataOf(nodes[0], 12, false, "one", "three")
	known := map[int32]bool{}
	for _, b := range m.Brokers {
		known[b.NodeID] = true
	}
	for i := range m.Topics {
		topic := &m.Topics[i]
		if len(topic.Partitions) != 7 {
			t.Fatalf("%s has %d partitions", *topic.Topic, len(topic.Partitions))
		}
		for _, p := range topic.Partitions {
			for _, id := range append(append([]int32{p.Leader}, p.Replicas...), p.ISR...) {
				if !known[id] {
					t.Fatalf("%s-%d names broker %d, which the answer does not have", *topic.Topic, p.Partition, id)
				}
			}
			nodes[p.Leader-1].mustProduce(*topic.Topic, p.Partition, "a")
		}
	}
}

// Trap 25: what retention or DeleteRecords took away is neither the earliest
// nor found by its time.
func TestTimesOfDeletedRecordsLeadToTheFirstThatIsLeft(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	base := n.now.UnixMilli() - 10_000
	for at := range int64(4) {
		b := record.NewBuilder(record.BuilderOptions{})
		b.Append(base+at, []byte("k"), []byte("v"))
		expect(t, "produce", n.produce("t", 0, b.Build()).ErrorCode, kafka.None)
	}
	del := kmsg.NewPtrDeleteRecordsRequest()
	del.Version, del.TimeoutMillis = 2, 5000
	del.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: "t", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: 2}}}}
	expect(t, "delete", ask[*kmsg.DeleteRecordsResponse](n, del).Topics[0].Partitions[0].ErrorCode, kafka.None)
	for _, tt := range []struct {
		name              string
		at                int64
		offset, timestamp int64
	}{
		{"earliest", -2, 2, -1}, {"earliest local", -4, 2, -1}, {"latest", -1, 4, -1}, {"newest", -3, 3, base + 3},
		{"time of a deleted one", base, 2, base + 2}, {"time 0", 0, 2, base + 2},
		{"time of the last", base + 3, 3, base + 3}, {"behind all", base + 4, -1, -1},
	} {
		got := listOffsets(n, 9, "t", 0, -1, tt.at)
		expect(t, tt.name, got.ErrorCode, kafka.None)
		if got.Offset != tt.offset || got.Timestamp != tt.timestamp {
			t.Errorf("%s: offset %d at %d, want %d at %d", tt.name, got.Offset, got.Timestamp, tt.offset, tt.timestamp)
		}
	}
}

// Trap 27: a topic that compresses by itself stores batches whose codec bits
// say what their bytes are.
func TestRecompressedBatchesSayTheirCodec(t *testing.T) {
	n := newNode(t, nil)
	for kind, codec := range map[string]record.Codec{"uncompressed": record.None, "gzip": record.Gzip, "snappy": record.Snappy, "lz4": record.LZ4, "zstd": record.Zstd} {
		n.topic(kind, 1, "compression.type", kind)
		for i, from := range []record.Codec{record.None, record.Gzip, record.Zstd} {
			sent := batch(record.BuilderOptions{Codec: from}, strings.Repeat("a", 300), "b")
			expect(t, kind, n.produce(kind, 0, sent).ErrorCode, kafka.None)
			p := ask[*kmsg.FetchResponse](n, fetchRequest(12, kind, kafka.TopicID{}, 0, int64(2*i))).Topics[0].Partitions[0]
			if got := record.Batch(p.RecordBatches).Codec(); got != codec {
				t.Errorf("%s from %v: stored with codec %v", kind, from, got)
			}
			if got := values(t, p.RecordBatches); len(got) != 2 || got[1] != "b" {
				t.Errorf("%s from %v: %d records", kind, from, len(got))
			}
		}
	}
}

// Trap 31: batches that follow each other before the first is acknowledged are
// in sequence, and so is each of them when it comes again meanwhile.
func TestBatchesInFlightAreInSequence(t *testing.T) {
	nodes := newCluster(t, 3, nil)
	expect(t, "create", createTopics(nodes[0], 7, withReplicas(newTopic("t", -1, -1), 1, 2, 3)).Topics[0].ErrorCode, kafka.None)
	nodes[0].advance(time.Second)
	leader := nodes[0]
	nodes[1].stalled, nodes[2].stalled = true, true
	var waiting []*answer
	for range 2 { // the second time as a client that has lost its connection
		for sequence := range int32(5) {
			waiting = append(waiting, leader.send(produceRequest(11, "t", kafka.TopicID{}, 0, idempotent(7, 0, sequence, "a"))))
		}
	}
	gap := leader.wait(leader.send(produceRequest(11, "t", kafka.TopicID{}, 0, idempotent(7, 0, 9, "a"))))
	expect(t, "gap", gap.resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, kafka.ErrOutOfOrderSequenceNumber)
	for i, a := range waiting {
		if a.came {
			t.Fatalf("batch %d was answered before the others had it", i)
		}
	}
	for _, n := range nodes[1:] {
		n.stalled = false
		n.posted = append(n.posted, n.inbox...)
		n.inbox = nil
	}
	for i, a := range waiting {
		p := leader.wait(a).resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		expect(t, "in flight", p.ErrorCode, kafka.None)
		if p.BaseOffset != int64(i%5) {
			t.Errorf("answer %d: offset %d", i, p.BaseOffset)
		}
	}
	if end := listOffsets(leader, 9, "t", 0, -1, -1); end.Offset != 5 {
		t.Errorf("the log ends at %d", end.Offset)
	}
}

// Trap 40: every entry has a type, and what a broker tells of itself that is
// not read-only can be written back.
func TestConfigEntriesHaveTypes(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	for kind, of := range map[kmsg.ConfigResourceType]string{kmsg.ConfigResourceTypeTopic: "t", kmsg.ConfigResourceTypeBroker: "1", 32: "g"} {
		r := describe(n, kind, of)
		expect(t, "describe", r.ErrorCode, kafka.None)
		alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
		alter.Version, alter.ValidateOnly = 1, true
		res := kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kind, ResourceName: of}
		for _, c := range r.Configs {
			if c.ConfigType == 0 {
				t.Errorf("%s of %s has no type", c.Name, of)
			}
			// Kafka, too, has this one for all brokers alike (KIP-966).
			one := kind == kmsg.ConfigResourceTypeBroker && c.Name == "min.insync.replicas"
			if !c.ReadOnly && c.Value != nil && !one {
				res.Configs = append(res.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: c.Name, Value: c.Value})
			}
		}
		if len(res.Configs) == 0 {
			t.Errorf("%s: nothing can be written", of)
		}
		alter.Resources = append(alter.Resources, res)
		if r := ask[*kmsg.IncrementalAlterConfigsResponse](n, alter).Resources[0]; r.ErrorCode != 0 {
			t.Errorf("%s: own configs are refused: %v %s", of, kafka.ErrorCode(r.ErrorCode), str(r.ErrorMessage))
		}
	}
}

// Trap 41: CreateTopics answers all configs, as DescribeConfigs does, and sets
// none that nobody gave.
func TestCreateTopicsAnswersAllConfigs(t *testing.T) {
	n := newNode(t, nil)
	made := createTopics(n, 7, withConfig(newTopic("t", 1, 1), "retention.ms", "7")).Topics[0]
	expect(t, "create", made.ErrorCode, kafka.None)
	described := map[string]kmsg.DescribeConfigsResponseResourceConfig{}
	for _, c := range describe(n, kmsg.ConfigResourceTypeTopic, "t").Configs {
		described[c.Name] = c
	}
	if len(made.Configs) != len(described) {
		t.Errorf("%d configs are answered, %d described", len(made.Configs), len(described))
	}
	for _, c := range made.Configs {
		d, ok := described[c.Name]
		if !ok || str(d.Value) != str(c.Value) || int8(d.Source) != c.Source {
			t.Errorf("%s is answered as %s from %d, described as %s from %d", c.Name, str(c.Value), c.Source, str(d.Value), d.Source)
		}
		if set := d.Source == kmsg.ConfigSourceDynamicTopicConfig; set != (c.Name == "retention.ms") {
			t.Errorf("%s: set by the topic: %v", c.Name, set)
		}
	}
}

// Trap 46: what is committed can be read from __consumer_offsets, an internal,
// compacted topic, by whoever knows Kafka's records.
func TestCommitsCanBeReadFromTheirTopic(t *testing.T) {
	n := withGroups(t)
	id := metadataOf(n, 12, false, "t").Topics[0].TopicID
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 8, "mirrored", -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = 1, 5
	commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	expect(t, "commit", ask[*kmsg.OffsetCommitResponse](n, commit).Topics[0].Partitions[0].ErrorCode, kafka.None)
	m := metadataOf(n, 12, false, kafka.TopicConsumerOffsets).Topics[0]
	if !m.IsInternal || len(m.Partitions) != 5 {
		t.Fatalf("internal %v, %d partitions", m.IsInternal, len(m.Partitions))
	}
	if c := describe(n, kmsg.ConfigResourceTypeTopic, kafka.TopicConsumerOffsets, "cleanup.policy").Configs[0]; str(c.Value) != "compact" {
		t.Errorf("cleanup.policy is %s", str(c.Value))
	}
	found := 0
	for number := range int32(5) {
		batches := ask[*kmsg.FetchResponse](n, fetchRequest(12, kafka.TopicConsumerOffsets, kafka.TopicID{}, number, 0)).Topics[0].Partitions[0].RecordBatches
		for len(batches) > 0 {
			b, rest, err := record.Next(batches)
			if err != nil {
				t.Fatal(err)
			}
			batches = rest
			for it := b.Records(new(record.Scratch)); it.Next(); {
				key, value := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
				if key.ReadFrom(it.Record().Key) != nil || key.Group != "mirrored" {
					continue
				}
				if err := value.ReadFrom(it.Record().Value); err != nil || key.Topic != "t" || key.Partition != 1 || value.Offset != 5 || value.TopicID != id {
					t.Errorf("key %v, value %v, %v", key, value, err)
				}
				found++
			}
		}
	}
	if found != 1 {
		t.Errorf("the commit was found %d times", found)
	}
}

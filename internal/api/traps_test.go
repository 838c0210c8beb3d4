package api_test

import (
	"encoding/binary"
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

package api_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// withGroups starts a node whose groups do not wait for more members.
func withGroups(t testing.TB) *node {
	n := newNode(t, map[string]string{"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "5"})
	n.topic("t", 2)
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, []string{"g"}
	c := ask[*kmsg.FindCoordinatorResponse](n, req).Coordinators[0]
	expect(t, "coordinator", c.ErrorCode, kafka.None)
	n.advance(100 * time.Millisecond) // the coordinator has loaded
	return n
}

func TestFindCoordinator(t *testing.T) { // traps 38, 46
	n := newNode(t, nil)
	for version := int16(0); version <= 6; version++ {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.Version, req.CoordinatorKey, req.CoordinatorKeys = version, "g", []string{"g", "h"}
		resp := ask[*kmsg.FindCoordinatorResponse](n, req)
		if version < 4 {
			expect(t, "one", resp.ErrorCode, kafka.None)
			if resp.NodeID != 1 || resp.Host != "broker-1" || resp.Port != 9092 {
				t.Errorf("v%d: %v", version, resp)
			}
			continue
		}
		if len(resp.Coordinators) != 2 || resp.Coordinators[0].NodeID != 1 || resp.Coordinators[1].Key != "h" {
			t.Errorf("v%d: %v", version, resp.Coordinators)
		}
	}
	expect(t, "the topic of the groups", metadataOf(n, 9, false, kafka.TopicConsumerOffsets).Topics[0].ErrorCode, kafka.None)
	for kind, want := range map[int8]kafka.ErrorCode{1: kafka.ErrTransactionalIDAuthorizationFailed, 2: kafka.ErrInvalidRequest, 9: kafka.ErrInvalidRequest} {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.Version, req.CoordinatorType, req.CoordinatorKeys = 6, kind, []string{"x"}
		expect(t, "other types", ask[*kmsg.FindCoordinatorResponse](n, req).Coordinators[0].ErrorCode, want)
	}
}

func join(n *node, version int16, group, member string) *kmsg.JoinGroupResponse {
	n.t.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = version, group, member, "connect"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 10_000
	req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "p", Metadata: []byte{1, 2, 3}}}
	return ask[*kmsg.JoinGroupResponse](n, req)
}

func TestAClassicGroupLives(t *testing.T) { // bad-input 5.4 groups, traps 35, 37
	n := withGroups(t)
	for version := int16(0); version <= 9; version++ {
		g := "g" + string(rune('0'+version))
		r := join(n, version, g, "")
		if version >= 4 {
			expect(t, "first join", r.ErrorCode, kafka.ErrMemberIDRequired)
			r = join(n, version, g, r.MemberID)
		}
		expect(t, "join", r.ErrorCode, kafka.None)
		if r.LeaderID != r.MemberID || r.Generation != 1 || str(r.Protocol) != "p" || len(r.Members) != 1 || len(r.Members[0].ProtocolMetadata) != 3 {
			t.Fatalf("v%d: %v", version, r)
		}
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Version, sync.Group, sync.MemberID, sync.Generation = min(version, 5), g, r.MemberID, r.Generation
		kind, protocol := "connect", "p"
		sync.ProtocolType, sync.Protocol = &kind, &protocol
		sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: r.MemberID, MemberAssignment: []byte("mine")}}
		s := ask[*kmsg.SyncGroupResponse](n, sync)
		expect(t, "sync", s.ErrorCode, kafka.None)
		if string(s.MemberAssignment) != "mine" {
			t.Errorf("v%d: assignment %q", version, s.MemberAssignment)
		}
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Version, beat.Group, beat.MemberID, beat.Generation = min(version, 4), g, r.MemberID, r.Generation
		expect(t, "heartbeat", ask[*kmsg.HeartbeatResponse](n, beat).ErrorCode, kafka.None)
		beat.Generation = 0
		expect(t, "old generation", ask[*kmsg.HeartbeatResponse](n, beat).ErrorCode, kafka.ErrIllegalGeneration)
		beat.MemberID = "nobody"
		expect(t, "unknown member", ask[*kmsg.HeartbeatResponse](n, beat).ErrorCode, kafka.ErrUnknownMemberID)
		describe := kmsg.NewPtrDescribeGroupsRequest()
		describe.Version, describe.Groups = min(version, 6), []string{g}
		d := ask[*kmsg.DescribeGroupsResponse](n, describe).Groups[0]
		if d.State != "Stable" || len(d.Members) != 1 || string(d.Members[0].MemberAssignment) != "mine" || d.Members[0].ClientHost != "/10.0.0.9" || d.Members[0].ClientID != "test" {
			t.Errorf("v%d: described as %v", version, d)
		}
		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Version, del.Groups = min(version, 2), []string{g, g}
		deleted := ask[*kmsg.DeleteGroupsResponse](n, del).Groups
		expect(t, "delete with members", deleted[0].ErrorCode, kafka.ErrNonEmptyGroup)
		if len(deleted) != 1 {
			t.Errorf("a group named twice has %d answers", len(deleted))
		}
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Version, leave.Group, leave.MemberID = min(version, 5), g, r.MemberID
		leave.Members = []kmsg.LeaveGroupRequestMember{{MemberID: r.MemberID}}
		expect(t, "leave", ask[*kmsg.LeaveGroupResponse](n, leave).ErrorCode, kafka.None)
	}
	list := kmsg.NewPtrListGroupsRequest()
	list.Version, list.StatesFilter = 5, []string{"eMPTY"}
	if got := len(ask[*kmsg.ListGroupsResponse](n, list).Groups); got != 10 {
		t.Errorf("%d empty groups, want 10", got)
	}
	list.StatesFilter = []string{"nope"}
	if got := len(ask[*kmsg.ListGroupsResponse](n, list).Groups); got != 0 {
		t.Errorf("%d groups in a state that does not exist", got)
	}
}

func TestOffsetsAreCommittedAndFetched(t *testing.T) { // traps 37, 39, kafka-answers Fetch and offsets
	n := withGroups(t)
	id := metadataOf(n, 12, false, "t").Topics[0].TopicID
	note := "a note"
	for version := int16(2); version <= 10; version++ {
		g := "g" + string(rune('0'+version))
		commit := kmsg.NewPtrOffsetCommitRequest()
		commit.Version, commit.Group, commit.Generation = version, g, -1
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset, p.LeaderEpoch, p.Metadata = 5, 0, &note
		unknown := p
		unknown.Partition = 9
		commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", TopicID: id, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p, unknown}},
			{Topic: "nope", TopicID: [16]byte{1}, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
		c := ask[*kmsg.OffsetCommitResponse](n, commit)
		expect(t, "commit", c.Topics[0].Partitions[0].ErrorCode, kafka.None)
		expect(t, "commit, unknown partition", c.Topics[0].Partitions[1].ErrorCode, kafka.ErrUnknownTopicOrPartition)
		want := kafka.ErrUnknownTopicOrPartition
		if version >= 10 {
			want = kafka.ErrUnknownTopicID
		}
		expect(t, "commit, unknown topic", c.Topics[1].Partitions[0].ErrorCode, want)

		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Version, fetch.Group = version, g
		fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 1}}}
		group := kmsg.NewOffsetFetchRequestGroup()
		group.Group, group.MemberEpoch = g, -1
		group.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: "t", TopicID: id, Partitions: []int32{0, 1}}}
		all := kmsg.NewOffsetFetchRequestGroup()
		all.Group, all.MemberEpoch = g, -1
		nobody := group
		nobody.Group = "nobody"
		fetch.Groups = []kmsg.OffsetFetchRequestGroup{group, all, nobody}
		f := ask[*kmsg.OffsetFetchResponse](n, fetch)
		if version < 8 {
			got := f.Topics[0].Partitions
			if got[0].Offset != 5 || str(got[0].Metadata) != note || got[1].Offset != -1 || got[1].ErrorCode != 0 {
				t.Errorf("v%d: %v", version, got)
			}
			continue
		}
		got := f.Groups[0].Topics[0].Partitions
		if got[0].Offset != 5 || str(got[0].Metadata) != note || got[1].Offset != -1 || got[1].ErrorCode != 0 {
			t.Errorf("v%d: %v", version, got)
		}
		if len(f.Groups[1].Topics) != 1 || len(f.Groups[1].Topics[0].Partitions) != 1 {
			t.Errorf("v%d: all offsets are %v", version, f.Groups[1].Topics)
		}
		if f.Groups[2].ErrorCode != 0 || f.Groups[2].Topics[0].Partitions[0].Offset != -1 {
			t.Errorf("v%d: an unknown group: %v", version, f.Groups[2])
		}
	}
	del := kmsg.NewPtrOffsetDeleteRequest()
	del.Group = "g9"
	del.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}, {Partition: 9}}}}
	d := ask[*kmsg.OffsetDeleteResponse](n, del)
	expect(t, "delete offsets", d.Topics[0].Partitions[0].ErrorCode, kafka.None)
	expect(t, "delete offsets, unknown", d.Topics[0].Partitions[1].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	del.Group = "nobody"
	expect(t, "delete offsets of nobody", ask[*kmsg.OffsetDeleteResponse](n, del).ErrorCode, kafka.ErrGroupIDNotFound)
}

func TestUnknownGroupsAreDescribedByVersion(t *testing.T) { // kafka-answers Groups
	n := withGroups(t)
	for version, want := range map[int16]kafka.ErrorCode{0: kafka.None, 5: kafka.None, 6: kafka.ErrGroupIDNotFound} {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Version, req.Groups = version, []string{"nobody"}
		g := ask[*kmsg.DescribeGroupsResponse](n, req).Groups[0]
		expect(t, "describe", g.ErrorCode, want)
		if g.State != "Dead" {
			t.Errorf("v%d: state %s", version, g.State)
		}
	}
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Version, del.Groups = 2, []string{"nobody"}
	expect(t, "delete", ask[*kmsg.DeleteGroupsResponse](n, del).Groups[0].ErrorCode, kafka.ErrGroupIDNotFound)
}

func TestAConsumerGroupLives(t *testing.T) { // KIP-848
	n := withGroups(t)
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.RebalanceTimeoutMillis = 1, "g", "member-1", 10_000
	req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	var owned int
	for range 20 {
		r := ask[*kmsg.ConsumerGroupHeartbeatResponse](n, req)
		expect(t, "heartbeat", r.ErrorCode, kafka.None)
		if r.Assignment != nil {
			owned = 0
			req.Topics = nil
			for _, topic := range r.Assignment.Topics {
				owned += len(topic.Partitions)
				req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: topic.TopicID, Partitions: topic.Partitions})
			}
		}
		req.MemberEpoch, req.SubscribedTopicNames, req.RebalanceTimeoutMillis = r.MemberEpoch, nil, -1
		n.advance(500 * time.Millisecond)
	}
	if owned != 2 {
		t.Errorf("the only member owns %d of 2 partitions", owned)
	}
	describe := kmsg.NewPtrConsumerGroupDescribeRequest()
	describe.Version, describe.Groups = 1, []string{"g", "nobody"}
	d := ask[*kmsg.ConsumerGroupDescribeResponse](n, describe).Groups
	if d[0].State != "Stable" || len(d[0].Members) != 1 || d[0].Members[0].MemberType != 1 || len(d[0].Members[0].Assignment.TopicPartitions) != 1 {
		t.Errorf("described as %v", d[0])
	}
	expect(t, "describe nobody", d[1].ErrorCode, kafka.ErrGroupIDNotFound)
	req.MemberEpoch = -1
	expect(t, "leave", ask[*kmsg.ConsumerGroupHeartbeatResponse](n, req).ErrorCode, kafka.None)
}

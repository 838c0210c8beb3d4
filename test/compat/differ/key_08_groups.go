package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadataOf is what a consumer says when it joins: version 0, topics, no user data.
func metadataOf(topics ...string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = topics
	return m.AppendTo(nil)
}

func join(group, member string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = group, member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10000, 10000
	for _, name := range []string{"range", "roundrobin"} {
		proto := kmsg.NewJoinGroupRequestProtocol()
		proto.Name, proto.Metadata = name, metadataOf("t")
		req.Protocols = append(req.Protocols, proto)
	}
	return req
}

// Join joins as one member, twice where the first answer is a member id.
func (c *Conversation) Join(label, group string) *kmsg.JoinGroupResponse {
	resp := c.Ask(label, join(group, "")).(*kmsg.JoinGroupResponse)
	if resp.ErrorCode == 79 {
		resp = c.Ask(label+" with the id", join(group, resp.MemberID)).(*kmsg.JoinGroupResponse)
	}
	return resp
}

func syncGroup(group string, generation int32, member string) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.Generation, req.MemberID = group, generation, member
	req.ProtocolType, req.Protocol = p("consumer"), p("range")
	return req
}

func (req syncWith) give(member string, assignment string) syncWith {
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = member, []byte(assignment)
	req.GroupAssignment = append(req.GroupAssignment, a)
	return req
}

type syncWith struct{ *kmsg.SyncGroupRequest }

func heartbeat(group string, generation int32, member string) *kmsg.HeartbeatRequest {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.Generation, req.MemberID = group, generation, member
	return req
}

func leave(version int16, group string, members ...string) *kmsg.LeaveGroupRequest {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	for _, m := range members {
		if version < 3 {
			req.MemberID = m
		}
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = m
		req.Members = append(req.Members, one)
	}
	return req
}

func (c *Conversation) commit(group, topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	if c.side.common[8].max >= 10 {
		t.TopicID, _ = c.TopicID(topic)
	}
	at := kmsg.NewOffsetCommitRequestTopicPartition()
	at.Partition, at.Offset, at.Metadata = partition, offset, p("note")
	at.LeaderEpoch = -1
	t.Partitions = append(t.Partitions, at)
	req.Topics = append(req.Topics, t)
	return req
}

// offsets asks for a group's offsets; no partitions stand for all topics.
func (c *Conversation) offsets(version int16, group, topic string, partitions ...int32) *kmsg.OffsetFetchRequest {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	g.MemberEpoch = -1
	if len(partitions) > 0 {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.Partitions = topic, partitions
		req.Topics = append(req.Topics, t)
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = topic, partitions
		if version >= 10 {
			gt.TopicID, _ = c.TopicID(topic)
		}
		g.Topics = append(g.Topics, gt)
	}
	req.Groups = append(req.Groups, g)
	return req
}

func describe(groups ...string) *kmsg.DescribeGroupsRequest {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = groups
	return req
}

// life is a classic group from its first member to its end, with the key
// under test at each of its versions and the others at their highest.
func life(c *Conversation) {
	topic, group := c.Topic("t", 2), c.Name("g")
	c.Ask("described before", describe(group))
	first := c.Join("first", group)
	me, gen := first.MemberID, first.Generation
	if first.ErrorCode != 0 {
		return
	}
	c.Ask("heartbeat before sync", heartbeat(group, gen, me))
	c.Ask("synced", syncWith{syncGroup(group, gen, me)}.give(me, "all").SyncGroupRequest)
	c.Ask("heartbeat", heartbeat(group, gen, me))
	c.Ask("described", describe(group))
	c.Ask("synced again", syncGroup(group, gen, me))
	commit := c.commit(group, topic, 0, 5)
	commit.Generation, commit.MemberID = gen, me
	c.Ask("commit", commit)
	c.Ask("commit from outside", c.commit(group, topic, 0, 6))
	c.Ask("offsets", c.offsets(c.vOf(9), group, topic, 0, 1))
	c.Ask("all offsets", c.offsets(c.vOf(9), group, topic))

	other := c.Other()
	wait := other.Go("second", join(group, ""))
	var id string
	if c.of.Key != 11 || c.V >= 4 {
		resp := wait().(*kmsg.JoinGroupResponse)
		id = resp.MemberID
		wait = other.Go("second with the id", join(group, id))
	}
	c.Until("rebalance", func() bool {
		req := heartbeat(group, gen, me)
		req.SetVersion(min(3, c.side.common[12].max))
		return c.plain(req).(*kmsg.HeartbeatResponse).ErrorCode == 27
	})
	c.Ask("heartbeat while rebalancing", heartbeat(group, gen, me))
	c.Ask("described while rebalancing", describe(group))
	commit = c.commit(group, topic, 1, 7)
	commit.Generation, commit.MemberID = gen, me
	c.Ask("commit while rebalancing", commit)
	again := c.Ask("joined again", join(group, me)).(*kmsg.JoinGroupResponse)
	their := wait().(*kmsg.JoinGroupResponse)
	if again.ErrorCode != 0 || their.ErrorCode != 0 {
		return
	}
	gen = again.Generation
	leader, follower, follow := c.Speaker, other, their.MemberID
	leading := me
	if again.LeaderID != me {
		leader, follower, leading, follow = other, c.Speaker, their.MemberID, me
	}
	waitSync := follower.Go("follower synced", syncGroup(group, gen, follow))
	leader.Ask("leader synced", syncWith{syncGroup(group, gen, leading)}.give(leading, "a").give(follow, "b").SyncGroupRequest)
	waitSync()
	c.Ask("heartbeat of an old generation", heartbeat(group, gen-1, me))
	c.Ask("heartbeat of an unknown member", heartbeat(group, gen, "m-unknown"))
	c.Ask("sync of an old generation", syncGroup(group, gen-1, me))
	c.Ask("sync of an unknown member", syncGroup(group, gen, "m-unknown"))
	old := c.commit(group, topic, 1, 8)
	old.Generation, old.MemberID = gen-1, me
	c.Ask("commit of an old generation", old)
	old.Generation, old.MemberID = gen, "m-unknown"
	c.Ask("commit of an unknown member", old)
	c.Ask("delete while used", deleteGroups(group))
	c.Ask("offset delete while used", offsetDelete(group, topic, 0))
	c.Ask("unknown member leaves", leave(c.vOf(13), group, "m-unknown"))
	c.Ask("one leaves", leave(c.vOf(13), group, their.MemberID))
	c.Ask("it is gone", heartbeat(group, gen, their.MemberID))
	c.Ask("the other leaves", leave(c.vOf(13), group, me))
	c.Ask("described when empty", describe(group))
	c.Ask("commit when empty", c.commit(group, topic, 1, 9))
	c.Ask("offset deleted", offsetDelete(group, topic, 0))
	c.Ask("offsets after it", c.offsets(c.vOf(9), group, topic, 0, 1))
	c.Ask("deleted", deleteGroups(group))
	c.Ask("deleted again", deleteGroups(group))
	c.Ask("offsets in the end", c.offsets(c.vOf(9), group, topic, 0, 1))
	c.Ask("described in the end", describe(group))
}

// vOf is the version at which a request of a key will be sent.
func (c *Conversation) vOf(key int16) int16 {
	if key == c.of.Key {
		return c.V
	}
	return c.side.common[key].max
}

func deleteGroups(groups ...string) *kmsg.DeleteGroupsRequest {
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = groups
	return req
}

func offsetDelete(group, topic string, partitions ...int32) *kmsg.OffsetDeleteRequest {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = group
	t := kmsg.NewOffsetDeleteRequestTopic()
	t.Topic = topic
	for _, n := range partitions {
		t.Partitions = append(t.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: n})
	}
	req.Topics = append(req.Topics, t)
	return req
}

func init() {
	for _, key := range []int16{8, 9, 11, 12, 13, 14, 15, 42, 47} {
		add(Case{Key: key, Name: "life of a group", Run: life})
	}
	add(
		Case{Key: 8, Name: "without a group", Run: func(c *Conversation) {
			topic, group := c.Topic("t", 1), c.Name("g")
			c.Ask("simple", c.commit(group, topic, 0, 3))
			c.Ask("read", c.offsets(c.vOf(9), group, topic, 0))
			c.Ask("described", describe(group))
			for _, offset := range []int64{0, -1, -2, 1 << 60} {
				c.Ask(fmt.Sprint("offset ", offset), c.commit(group, topic, 0, offset))
				c.Ask(fmt.Sprint("read offset ", offset), c.offsets(c.vOf(9), group, topic, 0))
			}
			c.Ask("partition", c.commit(group, topic, 4, 1))
			c.Ask("topic", c.commit(group, c.Name("nope"), 0, 1))
			long := c.commit(group, topic, 0, 1)
			long.Topics[0].Partitions[0].Metadata = p(strings.Repeat("x", 4096))
			c.Ask("4096 characters", long)
			long.Topics[0].Partitions[0].Metadata = p(strings.Repeat("x", 4097))
			c.Ask("4097 characters", long)
			none := c.commit(group, topic, 0, 2)
			none.Topics[0].Partitions[0].Metadata = nil
			c.Ask("null metadata", none)
			c.Ask("read null metadata", c.offsets(c.vOf(9), group, topic, 0))
			req := c.commit(c.Name("nobody"), topic, 0, 1)
			req.Generation = 3
			c.Ask("generation without member", req)
			req.MemberID = "m-unknown"
			c.Ask("member of an unknown group", req)
			req = c.commit(group, topic, 0, 1)
			req.Topics[0].Partitions[0].LeaderEpoch = 0
			c.Ask("leader epoch", req)
			c.Ask("read leader epoch", c.offsets(c.vOf(9), group, topic, 0))
			req = c.commit(group, topic, 0, 1)
			req.Topics = nil
			c.Ask("nothing", req)
		}},
		// It makes the group, which others see.
		Case{Key: 8, Name: "empty group", Alone: true, Run: func(c *Conversation) {
			c.Ask("commit", c.commit("", c.Topic("t", 1), 0, 1))
		}},
		Case{Key: 9, Name: "unknown", Run: func(c *Conversation) {
			topic, group := c.Topic("t", 1), c.Name("g")
			c.Ask("group", c.offsets(c.V, group, topic, 0))
			c.Ask("all of an unknown group", c.offsets(c.V, group, topic))
			c.Do(c.commit(group, topic, 0, 3))
			c.Ask("partition", c.offsets(c.V, group, topic, 0, 5))
			c.Ask("topic", c.offsets(c.V, group, c.Name("nope"), 0))
			c.Ask("empty group", c.offsets(c.V, "", topic, 0))
			c.Ask("partition twice", c.offsets(c.V, group, topic, 0, 0))
			req := c.offsets(c.V, group, topic, 0)
			req.RequireStable = true
			c.Ask("stable", req)
			req = c.offsets(c.V, group, topic, 0)
			req.Groups[0].MemberID, req.Groups[0].MemberEpoch = p("m-unknown"), 1
			c.Ask("member", req)
			req = c.offsets(c.V, group, topic, 0)
			req.Groups = append(req.Groups, c.offsets(c.V, c.Name("other"), topic, 0).Groups...)
			c.Ask("two groups", req)
			req.Groups = nil
			req.Topics = []kmsg.OffsetFetchRequestTopic{}
			c.Ask("nothing", req)
		}},
		Case{Key: 10, Name: "kinds", Run: func(c *Conversation) {
			for kind := int8(-1); kind < 4; kind++ {
				for _, name := range []string{c.Name("g"), "", "a:b:c"} {
					req := kmsg.NewPtrFindCoordinatorRequest()
					req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = kind, name, []string{name}
					c.Ask(fmt.Sprintf("kind %d, %q", kind, name), req)
				}
			}
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorKeys = []string{"a", "b", "a"}
			c.Ask("several", req)
			req.CoordinatorKeys = nil
			c.Ask("none", req)
		}, Ignore: []string{"kind 2*"}},
		Case{Key: 11, Name: "refusals", Run: func(c *Conversation) {
			group := c.Name("g")
			with := func(label string, change func(*kmsg.JoinGroupRequest)) {
				req := join(group, "")
				change(req)
				c.Ask(label, req)
			}
			with("empty group", func(r *kmsg.JoinGroupRequest) { r.Group = "" })
			with("session 0", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 0 })
			with("session 5999", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 5999 })
			with("session too long", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1800001 })
			with("unknown member", func(r *kmsg.JoinGroupRequest) { r.MemberID = "m-unknown" })
			with("no protocol type", func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "" })
			with("no protocols", func(r *kmsg.JoinGroupRequest) { r.Protocols = nil })
			with("empty protocol type and protocols", func(r *kmsg.JoinGroupRequest) { r.ProtocolType, r.Protocols = "", nil })
			resp := c.Join("member", group)
			if resp.ErrorCode != 0 {
				return
			}
			with("other type", func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "connect" })
			with("other protocols", func(r *kmsg.JoinGroupRequest) { r.Protocols = r.Protocols[:1]; r.Protocols[0].Name = "sticky" })
			with("unknown member in a group", func(r *kmsg.JoinGroupRequest) { r.MemberID = "m-unknown" })
			with("unknown member and other protocols", func(r *kmsg.JoinGroupRequest) { r.MemberID, r.ProtocolType = "m-unknown", "connect" })
		}},
		Case{Key: 11, Name: "odd metadata", Run: func(c *Conversation) {
			c.Wait(1500 * time.Millisecond)
			req := join(c.Name("b"), "")
			req.Protocols = append(req.Protocols, req.Protocols[0])
			resp := c.Ask("twice", req).(*kmsg.JoinGroupResponse)
			if resp.ErrorCode == 79 {
				req.MemberID = resp.MemberID
				c.Ask("twice with the id", req)
			}
			req = join(c.Name("c"), "")
			req.ProtocolType = "connect"
			req.Protocols[0].Metadata = []byte("not metadata")
			resp = c.Ask("another type", req).(*kmsg.JoinGroupResponse)
			if resp.ErrorCode == 79 {
				req.MemberID = resp.MemberID
				c.Ask("another type with the id", req)
			}
			// Last, since here one server makes up an id and the other is silent.
			req = join(c.Name("a"), "")
			req.Protocols[0].Metadata = []byte("not metadata")
			resp = c.Ask("unparsable", req).(*kmsg.JoinGroupResponse)
			if resp.ErrorCode == 79 {
				req.MemberID = resp.MemberID
				c.Ask("unparsable with the id", req)
			}
			req = join(c.Name("d"), "")
			req.Protocols[1] = req.Protocols[0]
			resp = c.Ask("only twice", req).(*kmsg.JoinGroupResponse)
			if resp.ErrorCode == 79 {
				req.MemberID = resp.MemberID
				c.Ask("only twice with the id", req)
			}
		}},
		Case{Key: 11, Name: "static members", From: 5, Run: func(c *Conversation) {
			group := c.Name("g")
			static := func(member string) *kmsg.JoinGroupRequest {
				req := join(group, member)
				req.InstanceID = p("one")
				return req
			}
			first := c.Ask("first", static("")).(*kmsg.JoinGroupResponse)
			c.Ask("synced", syncWith{syncGroup(group, first.Generation, first.MemberID)}.give(first.MemberID, "all").SyncGroupRequest)
			second := c.Ask("comes back", static("")).(*kmsg.JoinGroupResponse)
			c.Ask("old id joins", static(first.MemberID))
			beat := heartbeat(group, first.Generation, first.MemberID)
			beat.InstanceID = p("one")
			c.Ask("old id beats", beat)
			beat = heartbeat(group, second.Generation, second.MemberID)
			beat.InstanceID = p("one")
			c.Ask("new id beats", beat)
			beat.InstanceID = p("two")
			c.Ask("unknown instance", beat)
			c.Ask("described", describe(group))
			req := kmsg.NewPtrLeaveGroupRequest()
			req.Group = group
			one := kmsg.NewLeaveGroupRequestMember()
			one.InstanceID = p("one")
			two := kmsg.NewLeaveGroupRequestMember()
			two.InstanceID = p("two")
			req.Members = append(req.Members, one, two)
			c.Ask("leaves by instance", req)
			c.Ask("described when empty", describe(group))
		}},
		Case{Key: 12, Name: "unknown", Run: func(c *Conversation) {
			c.Ask("group", heartbeat(c.Name("g"), 1, "m-x"))
			c.Ask("empty group", heartbeat("", 1, "m-x"))
			c.Ask("empty member", heartbeat(c.Name("g"), 1, ""))
		}},
		Case{Key: 13, Name: "unknown", Run: func(c *Conversation) {
			c.Ask("group", leave(c.V, c.Name("g"), "m-x"))
			c.Ask("empty group", leave(c.V, "", "m-x"))
			if c.V >= 3 {
				c.Ask("nobody", leave(c.V, c.Name("g")))
				c.Ask("two", leave(c.V, c.Name("g"), "m-x", "m-y"))
			}
		}},
		Case{Key: 14, Name: "unknown", Run: func(c *Conversation) {
			c.Ask("group", syncGroup(c.Name("g"), 1, "m-x"))
			c.Ask("empty group", syncGroup("", 1, "m-x"))
			req := syncGroup(c.Name("g"), 1, "m-x")
			req.ProtocolType, req.Protocol = nil, nil
			c.Ask("no protocol", req)
			group := c.Name("h")
			resp := c.Join("joined", group)
			req = syncGroup(group, resp.Generation, resp.MemberID)
			req.Protocol = p("sticky")
			c.Ask("other protocol", req)
			req.ProtocolType, req.Protocol = p("connect"), p("range")
			c.Ask("other type", req)
			req.ProtocolType, req.Protocol = nil, nil
			c.Ask("neither", req)
		}},
		Case{Key: 15, Name: "unknown", Run: func(c *Conversation) {
			c.Ask("group", describe(c.Name("g")))
			c.Ask("empty", describe(""))
			c.Ask("two", describe(c.Name("g"), c.Name("h")))
			c.Ask("twice", describe(c.Name("g"), c.Name("g")))
			c.Ask("none", describe())
			req := describe(c.Name("g"))
			req.IncludeAuthorizedOperations = true
			c.Ask("operations", req)
		}},
		Case{Key: 16, Name: "filters", Alone: true, Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			c.Do(c.commit(c.Name("g"), topic, 0, 1))
			list := func(label string, states, types []string) {
				req := kmsg.NewPtrListGroupsRequest()
				req.StatesFilter, req.TypesFilter = states, types
				c.Ask(label, req)
			}
			list("all", nil, nil)
			list("empty", []string{"Empty"}, nil)
			list("EMPTY", []string{"EMPTY"}, nil)
			list("stable", []string{"Stable"}, nil)
			list("unknown", []string{"Nope"}, nil)
			list("classic", nil, []string{"classic"})
			list("CLASSIC", nil, []string{"CLASSIC"})
			list("consumer", nil, []string{"consumer"})
			list("nope", nil, []string{"nope"})
			c.Do(deleteGroups(c.Name("g")))
		}},
		Case{Key: 42, Name: "unknown", Run: func(c *Conversation) {
			c.Ask("group", deleteGroups(c.Name("g")))
			c.Ask("twice", deleteGroups(c.Name("g"), c.Name("g")))
			c.Ask("none", deleteGroups())
		}},
		Case{Key: 42, Name: "empty group", Alone: true, Run: func(c *Conversation) {
			c.Ask("deleted", deleteGroups(""))
		}},
		Case{Key: 47, Name: "unknown", Run: func(c *Conversation) {
			topic, group := c.Topic("t", 1), c.Name("g")
			c.Ask("group", offsetDelete(group, topic, 0))
			c.Do(c.commit(group, topic, 0, 1))
			c.Ask("topic", offsetDelete(group, c.Name("nope"), 0))
			c.Ask("partition", offsetDelete(group, topic, 7))
			c.Ask("empty group", offsetDelete("", topic, 0))
			c.Ask("twice", offsetDelete(group, topic, 0, 0))
		}},
	)
}

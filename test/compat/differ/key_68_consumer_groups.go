package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func beat(group, member string, epoch int32, topics ...string) *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = group, member, epoch
	if epoch == 0 {
		req.RebalanceTimeoutMillis = 30000
		req.SubscribedTopicNames = topics
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	} else {
		req.RebalanceTimeoutMillis = -1
	}
	return req
}

func describeConsumer(groups ...string) *kmsg.ConsumerGroupDescribeRequest {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = groups
	return req
}

func consumerLife(c *Conversation) {
	topic, group := c.Topic("t", 4), c.Name("g")
	c.ID(topic)
	c.Ask("described before", describeConsumer(group))
	first := c.Ask("first", beat(group, "m-first", 0, topic)).(*kmsg.ConsumerGroupHeartbeatResponse)
	if first.ErrorCode != 0 {
		return
	}
	me, epoch := "m-first", first.MemberEpoch
	if c.vOf(68) == 0 {
		me = *first.MemberID
	}
	c.Ask("again", beat(group, me, epoch))
	c.Ask("described", describeConsumer(group))
	c.Ask("described as classic", describe(group))
	commit := c.commit(group, topic, 0, 5)
	commit.Generation, commit.MemberID = epoch, me
	c.Ask("commit", commit)
	commit.Generation = epoch - 1
	c.Ask("commit of an old epoch", commit)
	commit.Generation = epoch + 1
	c.Ask("commit of a later epoch", commit)
	c.Ask("commit from outside", c.commit(group, topic, 0, 6))
	c.Ask("epoch too high", beat(group, me, epoch+5))
	c.Ask("epoch too low", beat(group, me, epoch-1))
	c.Ask("unknown member", beat(group, "m-unknown", epoch))
	c.Ask("delete while used", deleteGroups(group))
	bye := beat(group, me, -1)
	c.Ask("leaves", bye)
	c.Ask("leaves again", bye)
	c.Ask("described when empty", describeConsumer(group))
	c.Ask("offsets", c.offsets(c.vOf(9), group, topic, 0))
	c.Ask("deleted", deleteGroups(group))
}

// regularExpressions are resolved by the server (KIP-848), and by Kafka later
// than it answers; what a member is assigned in the end is compared.
func regularExpressions(c *Conversation) {
	for _, suffix := range []string{"t", "t.u", "other"} {
		c.Topic(suffix, 1)
	}
	for i, re := range []string{c.Name("t"), c.Name("t.*"), c.Name("(t|other)"), "(?i)" + strings.ToUpper(c.Name("t")), "__consumer_o.*", c.Name("nope.*"), "[", "*", ""} {
		label, group := fmt.Sprintf("%q", strings.ReplaceAll(re, c.tag, "~")), c.Name(fmt.Sprint("g", i))
		req := beat(group, "m-one", 0)
		req.SubscribedTopicNames, req.SubscribedTopicRegex = nil, &re
		first := c.Ask(label, req).(*kmsg.ConsumerGroupHeartbeatResponse)
		if first.ErrorCode != 0 || first.MemberEpoch == 0 {
			continue
		}
		epoch, assigned := first.MemberEpoch, assignedTo(c, first)
		// Nothing is what some wait for: long enough for an assignment to be made.
		for wait := 0; wait < 15 && assigned == ""; wait++ {
			time.Sleep(100 * time.Millisecond)
			next := beat(group, "m-one", epoch)
			next.SetVersion(c.V)
			resp := c.plain(next).(*kmsg.ConsumerGroupHeartbeatResponse)
			epoch, assigned = resp.MemberEpoch, assignedTo(c, resp)
		}
		c.Note(label+" assigned", assigned)
		bye := beat(group, "m-one", -1)
		bye.SetVersion(c.V)
		c.plain(bye)
	}
}

// assignedTo names the topics of an assignment.
func assignedTo(c *Conversation, resp *kmsg.ConsumerGroupHeartbeatResponse) string {
	if resp.Assignment == nil {
		return ""
	}
	var names []string
	for _, t := range resp.Assignment.Topics {
		req := metadata(false)
		req.SetVersion(c.side.common[3].max)
		rt := kmsg.NewMetadataRequestTopic()
		rt.TopicID = t.TopicID
		req.Topics = append(req.Topics, rt)
		names = append(names, or(c.plain(req).(*kmsg.MetadataResponse).Topics[0].Topic, "null"))
	}
	sort.Strings(names)
	return strings.ReplaceAll(strings.Join(names, " "), c.tag, "~")
}

func init() {
	for _, key := range []int16{68, 69} {
		add(Case{Key: key, Name: "life of a group", Run: consumerLife})
	}
	add(
		Case{Key: 68, Name: "refusals", Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			with := func(label string, change func(*kmsg.ConsumerGroupHeartbeatRequest)) {
				req := beat(c.Name("g"), "m-one", 0, topic)
				change(req)
				c.Ask(label, req)
			}
			with("empty group", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Group = "" })
			with("empty member", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberID = ""; r.Group = c.Name("h") })
			with("no rebalance timeout", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = -1 })
			with("null topics", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = nil })
			with("null partitions", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Topics = nil })
			with("owns when joining", func(r *kmsg.ConsumerGroupHeartbeatRequest) {
				r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{{TopicID: c.ID(topic), Partitions: []int32{0}}}
			})
			with("unknown assignor", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.ServerAssignor = p("nope") })
			with("range assignor", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.ServerAssignor = p("range"); r.Group = c.Name("i") })
			with("epoch -3", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -3 })
			with("epoch -2 without instance", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -2 })
			with("epoch 5 of an unknown group", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = 5; r.Group = c.Name("nope") })
			with("leaving an unknown group", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -1; r.Group = c.Name("nope") })
			with("empty instance", func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = p("") })
			with("unknown topic", func(r *kmsg.ConsumerGroupHeartbeatRequest) {
				r.SubscribedTopicNames = []string{c.Name("nope")}
				r.Group = c.Name("j")
			})
		}},
		Case{Key: 68, Name: "regular expressions", From: 1, Run: regularExpressions},
		Case{Key: 69, Name: "unknown", Run: func(c *Conversation) {
			c.Ask("group", describeConsumer(c.Name("g")))
			c.Ask("empty", describeConsumer(""))
			c.Ask("twice", describeConsumer(c.Name("g"), c.Name("g")))
		}},
	)
}

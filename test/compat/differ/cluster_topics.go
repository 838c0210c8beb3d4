package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// everyNode asks each of the nodes that run.
func (c *Conversation) everyNode(label string, req func() kmsg.Request) {
	for node := int32(1); node <= 3; node++ {
		if node != nodeLost || !c.of.Without {
			c.Node(node).Ask(fmt.Sprint(label, " at ", node), req())
		}
	}
}

func describeTopicPartitions(topics ...string) *kmsg.DescribeTopicPartitionsRequest {
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = 100
	for _, t := range topics {
		req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: t})
	}
	return req
}

func describeCluster(fenced bool) *kmsg.DescribeClusterRequest {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.EndpointType, req.IncludeFencedBrokers = 1, fenced
	return req
}

// anyController hides who is the controller: brokers of Kafka make it up.
var anyController = []string{"*ControllerID"}

func init() {
	add(
		Case{Key: 19, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			c.Ask("assigned", createTopics(assigned(c.Name("a"), []int32{1, 2, 3}, []int32{2, 3, 1}, []int32{3, 1, 2})))
			c.Node(3).Ask("assigned, asked of another", createTopics(assigned(c.Name("b"), []int32{3, 1}, []int32{2, 1})))
			c.Ask("three replicas", createTopics(newTopic(c.Name("c"), 3, 3)))
			c.Ask("two replicas", createTopics(newTopic(c.Name("d"), 2, 2)))
			c.Ask("four replicas", createTopics(newTopic(c.Name("e"), 1, 4)))
			c.Ask("unknown broker", createTopics(assigned(c.Name("f"), []int32{1, 9})))
			c.Ask("broker twice", createTopics(assigned(c.Name("g"), []int32{1, 2, 2})))
			c.Ask("different numbers", createTopics(assigned(c.Name("h"), []int32{1, 2}, []int32{2})))
			c.Ask("no replicas", createTopics(assigned(c.Name("i"), []int32{1, 2}, []int32{})))
			c.Ask("min in-sync above the replicas", createTopics(newTopic(c.Name("j"), 1, 2, "min.insync.replicas=3")))
		}},
		Case{Key: 37, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2, 3})
			c.Ask("assigned", createPartitions(t, 2, []int32{3, 2, 1}))
			c.Led(t, 1, 3)
			c.Ask("by itself", createPartitions(t, 3))
			c.Ask("too few replicas", createPartitions(t, 4, []int32{1, 2}))
			c.Ask("unknown broker", createPartitions(t, 4, []int32{1, 2, 9}))
			c.Ask("broker twice", createPartitions(t, 4, []int32{1, 2, 1}))
			c.Until("the third partition", func() bool { return c.leaderAt(1, t, 2) > 0 })
			c.Ask("described", describeTopicPartitions(t))
		}, Ignore: []string{"described:*Partitions[2].*"}},
		Case{Key: 20, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{2, 3, 1}, []int32{3, 1, 2})
			c.Node(2).Ask("deleted", c.deleteTopics(t))
			c.Until("it is gone", func() bool { _, there := c.TopicID(t); return !there })
			c.Ask("again", c.deleteTopics(t))
		}},
		Case{Key: 3, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			t, u := c.Assigned("t", []int32{1, 2, 3}, []int32{2, 3, 1}), c.Assigned("u", []int32{3}, []int32{2})
			c.everyNode("topics", func() kmsg.Request { return metadata(false, t, u) })
			if c.V >= 4 {
				c.everyNode("unknown", func() kmsg.Request { return metadata(false, c.Name("nope")) })
			}
		}, Ignore: anyController},
		Case{Key: 75, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			t, u := c.Assigned("t", []int32{1, 2, 3}, []int32{2, 3, 1}), c.Assigned("u", []int32{3}, []int32{2})
			c.everyNode("topics", func() kmsg.Request { return describeTopicPartitions(t, u) })
		}},
		Case{Key: 60, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			c.everyNode("brokers", func() kmsg.Request { return describeCluster(false) })
			c.everyNode("with fenced", func() kmsg.Request { return describeCluster(true) })
			req := describeCluster(false)
			req.EndpointType = 2
			c.Ask("controllers", req)
		}, Ignore: anyController},
		Case{Key: 35, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2}, []int32{2, 3})
			c.Fill(t, 1, 2)
			c.everyNode("dirs", func() kmsg.Request {
				req := kmsg.NewPtrDescribeLogDirsRequest()
				req.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: t, Partitions: []int32{0, 1}}}
				return req
			})
		}, Ignore: []string{"*OffsetLag", "*Size"}},
		Case{Key: 32, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			for _, broker := range []string{"1", "2", ""} {
				c.everyNode("broker "+broker, func() kmsg.Request { return configsOf(brokerResource, broker, "log.retention.ms", "num.partitions") })
			}
		}},
		Case{Key: 44, Name: "three nodes", Nodes: 3, Alone: true, Run: func(c *Conversation) {
			alterBrokers(c, func(node, value string) kmsg.Request {
				if value == "" {
					return incremental(false, brokerResource, node, change{"log.retention.ms", 1, nil})
				}
				return incremental(false, brokerResource, node, set("log.retention.ms", value))
			})
		}},
		Case{Key: 33, Name: "three nodes", Nodes: 3, Alone: true, Run: func(c *Conversation) {
			alterBrokers(c, func(node, value string) kmsg.Request {
				if value == "" {
					return alter(false, brokerResource, node)
				}
				return alter(false, brokerResource, node, set("log.retention.ms", value))
			})
		}},
		Case{Key: 22, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			for node := int32(1); node <= 3; node++ {
				c.Until("a block of ids", func() bool {
					req := initProducer(nil, 60000)
					req.SetVersion(c.V)
					return c.Node(node).plain(req).(*kmsg.InitProducerIDResponse).ErrorCode != 14
				})
			}
			c.everyNode("one", func() kmsg.Request { return initProducer(nil, 60000) })
			c.everyNode("another", func() kmsg.Request { return initProducer(nil, 60000) })
		}},
	)
}

// alterBrokers sets and unsets configs of brokers, at the broker itself and at
// another.
func alterBrokers(c *Conversation, alter func(node, value string) kmsg.Request) {
	shown := func(label string) {
		c.Node(2).Ask(label, configsOf(brokerResource, "2", "log.retention.ms"))
	}
	is := func(value string) {
		c.Until("log.retention.ms "+value, func() bool {
			req := configsOf(brokerResource, "2", "log.retention.ms")
			req.SetVersion(c.side.common[32].max)
			resp := c.Node(2).plain(req).(*kmsg.DescribeConfigsResponse)
			return len(resp.Resources) == 1 && len(resp.Resources[0].Configs) == 1 && or(resp.Resources[0].Configs[0].Value, "") == value
		})
	}
	c.Node(2).Ask("itself", alter("2", "700000"))
	is("700000")
	shown("after itself")
	c.Ask("another", alter("2", "800000"))
	c.Node(2).Ask("itself again", alter("2", "700000"))
	is("700000")
	if c.of.Key == 33 {
		// Kafka's has min.insync.replicas set for all brokers, which must not be unset.
		c.Node(2).Ask("itself no more", alter("2", ""))
		is("")
		return
	}
	c.Ask("all", alter("", "900000"))
	c.Until("all have it", func() bool {
		req := configsOf(brokerResource, "", "log.retention.ms")
		req.SetVersion(c.side.common[32].max)
		resp := c.Node(2).plain(req).(*kmsg.DescribeConfigsResponse)
		return len(resp.Resources) == 1 && len(resp.Resources[0].Configs) == 1
	})
	shown("after all")
	c.Ask("unknown", alter("9", "700000"))
	c.Node(2).Ask("bad value", alter("2", "abc"))
	c.Node(2).Ask("itself no more", alter("2", ""))
	is("900000")
	shown("after all alone")
	c.Ask("none", alter("", ""))
	is("")
	shown("in the end")
}

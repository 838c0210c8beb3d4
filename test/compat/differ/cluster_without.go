package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Cases of a cluster that has lost node 3.
func init() {
	add(
		Case{Key: 3, Name: "without a node", Nodes: 3, Without: true,
			Before: threeTopics,
			Run: func(c *Conversation) {
				c.everyNode("topics", func() kmsg.Request { return metadata(false, c.ofThree()...) })
			}, Ignore: anyController},
		Case{Key: 75, Name: "without a node", Nodes: 3, Without: true,
			Before: threeTopics,
			Run: func(c *Conversation) {
				c.everyNode("topics", func() kmsg.Request { return describeTopicPartitions(c.ofThree()...) })
			}},
		Case{Key: 60, Name: "without a node", Nodes: 3, Without: true, Run: func(c *Conversation) {
			c.everyNode("brokers", func() kmsg.Request { return describeCluster(false) })
			c.everyNode("with fenced", func() kmsg.Request { return describeCluster(true) })
		}, Ignore: anyController},
		Case{Key: 0, Name: "without a node", From: 3, Nodes: 3, Without: true,
			Before: func(c *Conversation) {
				c.AssignedWith("all", []string{"min.insync.replicas=3"}, []int32{1, 2, 3})
				c.AssignedWith("two", []string{"min.insync.replicas=2"}, []int32{1, 2, 3})
				c.Assigned("gone", []int32{3})
			},
			Run: func(c *Conversation) {
				for _, suffix := range []string{"all", "two"} {
					for _, acks := range []int16{-1, 1} {
						req := c.produce(c.Name(suffix), 0, batch{records: someRecords()}.encode())
						req.Acks = acks
						c.Ask(fmt.Sprint(suffix, " acks ", acks), req)
					}
				}
				c.Ask("gone", c.produce(c.Name("gone"), 0, batch{records: someRecords()}.encode()))
			}},
		Case{Key: 1, Name: "without a node", Nodes: 3, Without: true,
			Before: func(c *Conversation) { c.Assigned("gone", []int32{3}) },
			Run:    func(c *Conversation) { c.Ask("gone", c.fetch(0, c.Name("gone"))) }},
		Case{Key: 2, Name: "without a node", Nodes: 3, Without: true,
			Before: func(c *Conversation) { c.Assigned("gone", []int32{3}) },
			Run:    func(c *Conversation) { c.Ask("gone", listOffsets(c.Name("gone"), 0, -1)) }},
		Case{Key: 19, Name: "without a node", Nodes: 3, Without: true, Run: func(c *Conversation) {
			c.Ask("three replicas", createTopics(newTopic(c.Name("a"), 3, 3)))
			c.Ask("assigned", createTopics(assigned(c.Name("b"), []int32{3, 1})))
			c.Ask("assigned to it alone", createTopics(assigned(c.Name("c"), []int32{3})))
			c.Led(c.Name("b"), 0, 1)
			c.Ask("shown", describeTopicPartitions(c.Name("b")))
		}},
		Case{Key: 37, Name: "without a node", Nodes: 3, Without: true, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2})
			c.Ask("assigned", createPartitions(t, 2, []int32{3, 1}))
			c.Ask("assigned to it first", createPartitions(t, 3, []int32{1, 3}))
		}},
		Case{Key: 43, Name: "without a node", Nodes: 3, Without: true,
			Before: threeTopics,
			Run: func(c *Conversation) {
				for _, t := range c.ofThree() {
					c.Ask("preferred of "+t, electLeaders(0, t, 0, 1))
					c.Ask("unclean of "+t, electLeaders(1, t, 0, 1))
				}
			}},
		Case{Key: 45, Name: "without a node", Nodes: 3, Without: true, Run: stuck},
		Case{Key: 46, Name: "without a node", Nodes: 3, Without: true, Run: stuck},
		Case{Key: 32, Name: "without a node", Nodes: 3, Without: true, Run: func(c *Conversation) {
			c.Ask("its configs", configsOf(brokerResource, "3", "log.retention.ms"))
		}},
		// The last, since it is gone for good.
		Case{Key: 64, Name: "without a node", Nodes: 3, Without: true, Run: func(c *Conversation) {
			req := kmsg.NewPtrUnregisterBrokerRequest()
			req.BrokerID = nodeLost
			c.Ask("unregistered", req)
			for node := int32(1); node < nodeLost; node++ {
				c.Until("forgotten", func() bool {
					req := describeCluster(true)
					req.SetVersion(c.side.common[60].max)
					return len(c.Node(node).plain(req).(*kmsg.DescribeClusterResponse).Brokers) == 2
				})
			}
			c.Ask("again", req)
			c.everyNode("brokers", func() kmsg.Request { return describeCluster(true) })
			c.Ask("a topic with it", createTopics(assigned(c.Name("t"), []int32{1, 3})))
			c.Ask("three replicas", createTopics(newTopic(c.Name("u"), 3, 3)))
		}, Ignore: anyController},
	)
}

// threeTopics makes topics with three, two and one replica, some on the node
// that will be lost.
func threeTopics(c *Conversation) {
	c.Assigned("three", []int32{3, 1, 2}, []int32{1, 2, 3})
	c.Assigned("two", []int32{3, 1}, []int32{1, 3})
	c.Assigned("one", []int32{3}, []int32{2})
}

func (c *Conversation) ofThree() []string {
	names := []string{c.Name("three"), c.Name("two"), c.Name("one")}
	for _, name := range names {
		c.TopicID(name)
	}
	return names
}

// stuck is a reassignment that waits for a node which is gone.
func stuck(c *Conversation) {
	t := c.Assigned("t", []int32{1, 2}, []int32{2, 1})
	shown := func(label string) {
		c.Assigned("after-"+strings.ReplaceAll(label, " ", "-"), []int32{1}) // every node that has this one has what was before it
		c.everyNode(label+", listed", func() kmsg.Request { return reassignments(t, 0, 1, 7) })
		c.Ask(label+", described", describeTopicPartitions(t))
	}
	c.Ask("begun", reassign(t, 0, []int32{1, 3}))
	shown("begun")
	c.Ask("another target", reassign(t, 0, []int32{3, 2, 1}))
	shown("another target")
	c.Ask("to the lost node alone", reassign(t, 1, []int32{3}))
	shown("to the lost node alone")
	c.Ask("cancelled", reassign(t, 0, nil))
	c.Ask("cancelled again", reassign(t, 0, nil))
	c.Ask("the other one", reassign(t, 1, nil))
	shown("cancelled")
}

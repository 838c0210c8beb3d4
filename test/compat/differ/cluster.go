package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// nodeLost is the node that cases run without, see Case.Without.
const nodeLost = 3

// loseNode does what comes before the jobs, kills node 3 of all sides and
// waits until they have noticed.
func loseNode(list []job, sides []*side) error {
	watched := &Case{Key: int16(kmsg.Metadata), Name: "watched", Nodes: 3, Without: true}
	for _, s := range sides {
		for _, j := range list {
			if j.of.Before == nil {
				continue
			}
			for j.again = range again + 1 {
				c := newConversation(s, j)
				answers, _ := c.hold(j.of.Before)
				if n := len(answers); n > 0 && answers[n-1].label == "setup" {
					return fmt.Errorf("%s: before %s: %s", s.name, j, answers[n-1].outcome)
				}
			}
		}
		c := newConversation(s, job{of: watched, version: 1})
		answers, _ := c.hold(func(c *Conversation) {
			c.AssignedWith("t", []string{"min.insync.replicas=3"}, []int32{nodeLost, 1, 2})
		})
		if len(answers) > 0 {
			return fmt.Errorf("%s: a topic on node %d: %s", s.name, nodeLost, answers[0].outcome)
		}
	}
	for _, s := range sides {
		if err := s.kill(nodeLost); err != nil {
			return fmt.Errorf("%s: kill node %d: %w", s.name, nodeLost, err)
		}
	}
	for _, s := range sides {
		c := newConversation(s, job{of: watched, version: 1})
		answers, _ := c.hold(func(c *Conversation) {
			for node := int32(1); node < nodeLost; node++ {
				c.Within(20*time.Second, "another leader", func() bool { return c.leaderAt(node, c.Name("t"), 0) == 1 })
			}
			// Metadata of Kafka runs ahead of what its partitions do.
			c.Within(20*time.Second, "a refusal by the new leader", func() bool {
				req := c.produceAt(min(9, c.side.common[0].max), c.Name("t"), 0, batch{records: someRecords()}.encode())
				req.TimeoutMillis = 500
				return c.plain(req).(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode == 19
			})
			// Who serves a later topic has done with all that came before.
			c.Assigned("after", []int32{1}, []int32{2})
		})
		if len(answers) > 0 {
			return fmt.Errorf("%s: without node %d: %s", s.name, nodeLost, answers[0].outcome)
		}
	}
	return nil
}

// Assigned makes a topic with these replicas, and waits until every partition
// is led by its first replica and every node knows.
func (c *Conversation) Assigned(suffix string, replicas ...[]int32) string {
	return c.AssignedWith(suffix, nil, replicas...)
}

// AssignedWith is Assigned with configs.
func (c *Conversation) AssignedWith(suffix string, configs []string, replicas ...[]int32) string {
	name := c.Name(suffix)
	t := assigned(name, replicas...)
	t.Configs = newTopic(name, 1, 1, configs...).Configs
	req := createTopics(t)
	req.SetVersion(c.side.common[int16(kmsg.CreateTopics)].max)
	resp := c.plain(req).(*kmsg.CreateTopicsResponse)
	if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
		c.Fail("create topic %s: %d answers, code %d", suffix, len(resp.Topics), resp.Topics[0].ErrorCode)
	}
	for partition, on := range replicas {
		c.Led(name, int32(partition), on[0])
	}
	c.ID(name)
	return name
}

// Led waits until a partition is led by a node, which serves it, and every node
// of the three that runs says so.
func (c *Conversation) Led(topic string, partition, by int32) {
	for node := int32(1); node <= 3; node++ {
		if node != nodeLost || !c.of.Without || c.before() {
			c.Until(fmt.Sprintf("%s-%d led by %d for node %d", topic, partition, by, node), func() bool { return c.leaderAt(node, topic, partition) == by })
		}
	}
	leader := c.Node(by)
	c.Until(fmt.Sprintf("%s-%d served by %d", topic, partition, by), func() bool {
		req := listOffsets(topic, partition, -1)
		req.SetVersion(min(7, c.side.common[int16(kmsg.ListOffsets)].max))
		return leader.plain(req).(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0].ErrorCode == 0
	})
}

// before says whether this is what comes before a case: node 3 is there still.
func (c *Conversation) before() bool {
	conn := connection{addr: c.side.nodes[nodeLost], timeout: time.Second}
	defer conn.close()
	return conn.write(nil) == nil
}

// leaderAt is a partition's leader as a node knows it, or -1.
func (c *Conversation) leaderAt(node int32, topic string, partition int32) int32 {
	req := metadata(false, topic)
	req.SetVersion(min(7, c.side.common[int16(kmsg.Metadata)].max))
	for _, t := range c.Node(node).plain(req).(*kmsg.MetadataResponse).Topics {
		for _, p := range t.Partitions {
			if p.Partition == partition && p.ErrorCode == 0 {
				return p.Leader
			}
		}
	}
	return -1
}

// InSync waits until a partition has that many in-sync replicas.
func (c *Conversation) InSync(topic string, partition int32, n int) {
	c.Within(20*time.Second, fmt.Sprintf("%s-%d with %d in sync", topic, partition, n), func() bool {
		req := metadata(false, topic)
		req.SetVersion(min(7, c.side.common[int16(kmsg.Metadata)].max))
		for _, t := range c.plain(req).(*kmsg.MetadataResponse).Topics {
			for _, p := range t.Partitions {
				if p.Partition == partition {
					return len(p.ISR) == n
				}
			}
		}
		return false
	})
}

// Fill writes batches of two records each to partition 0, by its leader.
func (c *Conversation) Fill(topic string, leader int32, batches int) {
	at := c.Node(leader)
	for i := range batches {
		b := batch{records: []record{rec("k", fmt.Sprint("a", i)), rec("k", fmt.Sprint("b", i))}}
		resp := at.plain(c.produceAt(min(9, c.side.common[int16(kmsg.Produce)].max), topic, 0, b.encode())).(*kmsg.ProduceResponse)
		if p := resp.Topics[0].Partitions[0]; p.ErrorCode != 0 {
			c.Fail("produce to %s: code %d", topic, p.ErrorCode)
		}
	}
}

// coordinator finds the node that coordinates a group.
func (c *Conversation) coordinator(group string) int32 {
	var node int32
	c.Until("coordinator of "+group, func() bool {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.SetVersion(2)
		req.CoordinatorKey = group
		resp := c.plain(req).(*kmsg.FindCoordinatorResponse)
		node = resp.NodeID
		return resp.ErrorCode == 0
	})
	return node
}

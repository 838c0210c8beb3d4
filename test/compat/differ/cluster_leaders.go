package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func electLeaders(kind int8, topic string, partitions ...int32) *kmsg.ElectLeadersRequest {
	req := kmsg.NewPtrElectLeadersRequest()
	req.ElectionType, req.TimeoutMillis = kind, 5000
	req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: partitions}}
	return req
}

func reassign(topic string, partition int32, replicas []int32) *kmsg.AlterPartitionAssignmentsRequest {
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.TimeoutMillis = 5000
	rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	rt.Topic = topic
	at := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	at.Partition, at.Replicas = partition, replicas
	rt.Partitions = append(rt.Partitions, at)
	req.Topics = append(req.Topics, rt)
	return req
}

func reassignments(topic string, partitions ...int32) *kmsg.ListPartitionReassignmentsRequest {
	req := kmsg.NewPtrListPartitionReassignmentsRequest()
	req.TimeoutMillis = 5000
	req.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: topic, Partitions: partitions}}
	return req
}

func epochOf(topic string, current, epoch int32) *kmsg.OffsetForLeaderEpochRequest {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
	rt.Topic = topic
	at := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	at.CurrentLeaderEpoch, at.LeaderEpoch = current, epoch
	rt.Partitions = append(rt.Partitions, at)
	req.Topics = append(req.Topics, rt)
	return req
}

func describeProducers(topic string, partitions ...int32) *kmsg.DescribeProducersRequest {
	req := kmsg.NewPtrDescribeProducersRequest()
	rt := kmsg.NewDescribeProducersRequestTopic()
	rt.Topic, rt.Partitions = topic, partitions
	req.Topics = append(req.Topics, rt)
	return req
}

// moveLeader reverses the replicas of partition 0 and has the new first one
// elected; the leader epoch rises.
func (c *Conversation) moveLeader(topic string, replicas ...int32) {
	req := reassign(topic, 0, replicas)
	req.SetVersion(c.side.common[req.Key()].max)
	c.plain(req)
	c.Until("reassigned", func() bool {
		req := metadata(false, topic)
		req.SetVersion(min(7, c.side.common[int16(kmsg.Metadata)].max))
		p := c.plain(req).(*kmsg.MetadataResponse).Topics[0].Partitions[0]
		return len(p.Replicas) == len(replicas) && p.Replicas[0] == replicas[0] && len(p.ISR) == len(replicas)
	})
	elect := electLeaders(0, topic, 0)
	elect.SetVersion(c.side.common[elect.Key()].max)
	c.plain(elect)
	c.Led(topic, 0, replicas[0])
}

func describeQuorum(topic string, partition int32) *kmsg.DescribeQuorumRequest {
	req := kmsg.NewPtrDescribeQuorumRequest()
	at := kmsg.NewDescribeQuorumRequestTopicPartition()
	at.Partition = partition
	req.Topics = append(req.Topics, kmsg.DescribeQuorumRequestTopic{Topic: topic, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{at}})
	return req
}

// movesOn are fields of DescribeQuorum that each server has values of its own for.
var movesOn = []string{"*.LeaderID", "*.LeaderEpoch", "*.HighWatermark", "*.LogEndOffset", "*ReplicaDirectoryID", "*Timestamp"}

func unregisterUnknown(c *Conversation) {
	for _, id := range []int32{9, -1} {
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = id
		c.Ask(fmt.Sprint("broker ", id), req)
	}
}

func init() {
	add(
		Case{Key: 0, Name: "who does not lead", Nodes: 3, From: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2})
			records := batch{records: someRecords()}.encode()
			c.everyNode("produced", func() kmsg.Request { return c.produce(t, 0, records) })
			one := c.produce(t, 0, records)
			one.Acks = 1
			c.Node(2).Ask("acks 1", one)
			none := c.produce(t, 0, records)
			none.Acks = 0
			c.Node(2).Unanswered("acks 0", none)
		}},
		Case{Key: 1, Name: "who does not lead", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2})
			c.Fill(t, 1, 2)
			c.Within(8e9, "both have all", func() bool {
				req := fetchNames(2, t)
				req.SetVersion(min(12, c.side.common[1].max))
				p := c.Node(2).plain(req).(*kmsg.FetchResponse).Topics[0].Partitions[0]
				return p.HighWatermark == 4
			})
			c.everyNode("fetched", func() kmsg.Request { return c.fetch(0, t) })
			for _, epoch := range []int32{0, 1} {
				c.everyNode(fmt.Sprint("epoch ", epoch), func() kmsg.Request {
					req := c.fetch(0, t)
					req.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
					return req
				})
			}
			c.everyNode("out of range", func() kmsg.Request { return c.fetch(99, t) })
		}},
		Case{Key: 1, Name: "after the leader moved", From: 12, Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2, 3})
			c.Fill(t, 1, 2)
			c.moveLeader(t, 2, 3, 1)
			c.Fill(t, 2, 1)
			for _, at := range []struct {
				offset int64
				epoch  int32
			}{{4, 0}, {6, 1}, {5, 0}, {6, 0}, {2, 1}, {4, 2}} {
				req := c.fetch(at.offset, t)
				req.Topics[0].Partitions[0].LastFetchedEpoch = at.epoch
				c.Node(2).Ask(fmt.Sprint("offset ", at.offset, " after epoch ", at.epoch), req)
			}
			old := c.fetch(0, t)
			old.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
			c.everyNode("old epoch", func() kmsg.Request { return old })
		}},
		Case{Key: 2, Name: "who does not lead", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2})
			c.Fill(t, 1, 1)
			for at := int64(-1); at >= -3; at-- {
				c.everyNode(fmt.Sprint("at ", at), func() kmsg.Request { return listOffsets(t, 0, at) })
			}
		}},
		Case{Key: 21, Name: "who does not lead", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{2, 1})
			c.Fill(t, 2, 2)
			c.everyNode("deleted", func() kmsg.Request { return deleteRecords(t, 0, 1) })
		}},
		Case{Key: 23, Name: "after the leader moved", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2, 3})
			c.Fill(t, 1, 2)
			c.moveLeader(t, 2, 3, 1)
			c.Fill(t, 2, 1)
			for _, epoch := range []int32{0, 1, 2, 7, -1} {
				c.everyNode(fmt.Sprint("end of epoch ", epoch), func() kmsg.Request { return epochOf(t, -1, epoch) })
				c.Node(2).Ask(fmt.Sprint("current epoch ", epoch), epochOf(t, epoch, 0))
			}
			c.moveLeader(t, 3, 1, 2)
			for epoch := int32(0); epoch <= 4; epoch++ {
				c.Node(3).Ask(fmt.Sprint("moved again, end of epoch ", epoch), epochOf(t, -1, epoch))
			}
		}},
		Case{Key: 61, Name: "who does not lead", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2})
			b := batch{producer: &producer{88, 3, 5}, records: someRecords()}
			for node := int32(1); node <= 2; node++ {
				c.Within(20*time.Second, fmt.Sprint("the producer known at ", node), func() bool {
					c.plain(c.produceAt(9, t, 0, b.encode())) // one batch, however often
					req := describeProducers(t, 0)
					req.SetVersion(c.V)
					p := c.Node(node).plain(req).(*kmsg.DescribeProducersResponse).Topics[0].Partitions[0]
					return p.ErrorCode == 0 && len(p.ActiveProducers) == 1
				})
			}
			c.everyNode("producers", func() kmsg.Request { return describeProducers(t, 0) })
		}},
		Case{Key: 43, Name: "preferred", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2, 3}, []int32{2, 3, 1})
			c.Ask("not needed", electLeaders(0, t, 0, 1))
			c.Ask("unclean not needed", electLeaders(1, t, 0))
			req := reassign(t, 0, []int32{3, 1, 2})
			req.SetVersion(c.side.common[45].max)
			c.plain(req)
			c.Until("reassigned", func() bool {
				req := metadata(false, t)
				req.SetVersion(min(7, c.side.common[3].max))
				return c.plain(req).(*kmsg.MetadataResponse).Topics[0].Partitions[0].Replicas[0] == 3
			})
			c.Node(2).Ask("elected", electLeaders(0, t, 0, 1))
			c.Led(t, 0, 3)
			c.Ask("again", electLeaders(0, t, 0))
			c.everyNode("shown", func() kmsg.Request { return describeTopicPartitions(t) })
		}},
		Case{Key: 43, Name: "all", Nodes: 3, Alone: true, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2, 3})
			req := reassign(t, 0, []int32{2, 3, 1})
			req.SetVersion(c.side.common[45].max)
			c.plain(req)
			c.Until("reassigned", func() bool {
				req := metadata(false, t)
				req.SetVersion(min(7, c.side.common[3].max))
				return c.plain(req).(*kmsg.MetadataResponse).Topics[0].Partitions[0].Replicas[0] == 2
			})
			all := electLeaders(0, t, 0)
			all.Topics = nil
			c.Ask("elected", all)
			c.Led(t, 0, 2)
			c.Ask("nothing to do", all)
			all.ElectionType = 1
			c.Ask("nothing to do uncleanly", all)
		}},
		Case{Key: 45, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2}, []int32{2, 3})
			c.Fill(t, 1, 2)
			shown := func(label string) { c.Ask(label, describeTopicPartitions(t)) }
			c.Ask("grow", reassign(t, 0, []int32{1, 2, 3}))
			c.InSync(t, 0, 3)
			shown("grown")
			c.Node(3).Ask("shrink", reassign(t, 0, []int32{3, 1}))
			c.InSync(t, 0, 2)
			shown("shrunk")
			c.Ask("order alone", reassign(t, 1, []int32{3, 2}))
			c.Ask("move", reassign(t, 1, []int32{1}))
			c.Led(t, 1, 1)
			c.InSync(t, 1, 1) // the leader that goes is let go a moment after it has handed over
			shown("moved")
			c.Ask("unknown broker", reassign(t, 0, []int32{1, 9}))
			c.Ask("broker twice", reassign(t, 0, []int32{1, 1}))
			c.Ask("no replicas", reassign(t, 0, []int32{}))
			c.Ask("nothing to cancel", reassign(t, 0, nil))
			if c.V >= 1 {
				req := reassign(t, 0, []int32{1, 2, 3})
				req.AllowReplicationFactorChange = false
				c.Ask("another factor, not allowed", req)
				req = reassign(t, 0, []int32{1, 2})
				req.AllowReplicationFactorChange = false
				c.Ask("the same factor", req)
			}
		}},
		Case{Key: 46, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			t := c.Assigned("t", []int32{1, 2, 3})
			c.everyNode("none", func() kmsg.Request { return reassignments(t, 0) })
		}},
		Case{Key: 55, Name: "three nodes", Nodes: 3, Run: func(c *Conversation) {
			c.everyNode("quorum", func() kmsg.Request { return describeQuorum("__cluster_metadata", 0) })
		}, Ignore: movesOn},
		Case{Key: 55, Name: "quorum", Run: func(c *Conversation) {
			c.Ask("quorum", describeQuorum("__cluster_metadata", 0))
			c.Ask("another partition", describeQuorum("__cluster_metadata", 1))
			c.Ask("another topic", describeQuorum(c.Name("nope"), 0))
			c.Ask("no topic", kmsg.NewPtrDescribeQuorumRequest())
		}, Ignore: movesOn},
		Case{Key: 64, Name: "unknown", Run: unregisterUnknown},
		Case{Key: 64, Name: "unknown, three nodes", Nodes: 3, Run: unregisterUnknown},
	)
}

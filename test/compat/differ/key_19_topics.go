package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func newTopic(name string, partitions int32, replicas int16, configs ...string) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, replicas
	for _, kv := range configs {
		k, v, ok := strings.Cut(kv, "=")
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name = k
		if ok {
			cfg.Value = &v
		}
		t.Configs = append(t.Configs, cfg)
	}
	return t
}

func createTopics(topics ...kmsg.CreateTopicsRequestTopic) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10000
	req.Topics = topics
	return req
}

func assigned(name string, replicas ...[]int32) kmsg.CreateTopicsRequestTopic {
	t := newTopic(name, -1, -1)
	for i, r := range replicas {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = int32(i), r
		t.ReplicaAssignment = append(t.ReplicaAssignment, a)
	}
	return t
}

func (c *Conversation) deleteTopics(names ...string) *kmsg.DeleteTopicsRequest {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 10000
	req.TopicNames = names
	for _, name := range names {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
	}
	return req
}

func createPartitions(topic string, count int32, replicas ...[]int32) *kmsg.CreatePartitionsRequest {
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 10000
	t := kmsg.NewCreatePartitionsRequestTopic()
	t.Topic, t.Count = topic, count
	for _, r := range replicas {
		a := kmsg.NewCreatePartitionsRequestTopicAssignment()
		a.Replicas = r
		t.Assignment = append(t.Assignment, a)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func init() {
	add(
		Case{Key: 19, Name: "made", Run: func(c *Conversation) {
			c.Ask("plain", createTopics(newTopic(c.Name("a"), 2, 1)))
			c.Ask("configs", createTopics(newTopic(c.Name("b"), 1, 1, "retention.ms= 7 ", "cleanup.policy=compact,delete", "segment.bytes=2000000")))
			c.Ask("assigned", createTopics(assigned(c.Name("c"), []int32{1}, []int32{1})))
			if c.V >= 4 {
				c.Ask("defaults", createTopics(newTopic(c.Name("d"), -1, -1)))
			}
			req := createTopics(newTopic(c.Name("e"), 1, 1))
			req.ValidateOnly = true
			c.Ask("only validated", req)
			c.Ask("so it is not there", metadata(false, c.Name("e")))
			c.Ask("config twice", createTopics(newTopic(c.Name("f"), 1, 1, "retention.ms=1", "retention.ms=2")))
			c.Ask("empty policy", createTopics(newTopic(c.Name("h"), 1, 1, "cleanup.policy=")))
		}},
		Case{Key: 19, Name: "names", Run: func(c *Conversation) {
			for _, name := range []string{"", ".", "..", "a b", "a/b", "ä", "a*", strings.Repeat("x", 250), "__cluster_metadata", "__consumer_offsets"} {
				c.Ask(fmt.Sprintf("%.20q", name), createTopics(newTopic(name, 1, 1)))
			}
			c.Topic("a.b", 1)
			c.Ask("collides", createTopics(newTopic(c.Name("a_b"), 1, 1)))
			c.Ask("exists", createTopics(newTopic(c.Name("a.b"), 1, 1)))
			c.Ask("exists, bad config", createTopics(newTopic(c.Name("a.b"), 1, 1, "nope=1")))
			c.Ask("collide in one request", createTopics(newTopic(c.Name("p.q"), 1, 1), newTopic(c.Name("p_q"), 1, 1)))
			c.Ask("twice", createTopics(newTopic(c.Name("z"), 1, 1), newTopic(c.Name("z"), 1, 1), newTopic(c.Name("y"), 1, 1)))
			c.Ask("nothing", createTopics())
		}},
		Case{Key: 19, Name: "numbers", Run: func(c *Conversation) {
			for _, n := range []struct {
				partitions int32
				replicas   int16
			}{{0, 1}, {-2, 1}, {1, 0}, {1, -2}, {1, 2}, {0, 0}, {10001, 1}, {1 << 30, 1}} {
				c.Ask(fmt.Sprint(n), createTopics(newTopic(c.Name("t"), n.partitions, n.replicas)))
			}
			req := createTopics(newTopic(c.Name("late"), 0, 1))
			req.TimeoutMillis = 0
			c.Ask("timeout 0", req)
		}},
		Case{Key: 19, Name: "assignments", Run: func(c *Conversation) {
			c.Ask("unknown broker", createTopics(assigned(c.Name("a"), []int32{9})))
			c.Ask("broker twice", createTopics(assigned(c.Name("b"), []int32{1, 1})))
			c.Ask("no replicas", createTopics(assigned(c.Name("d"), []int32{})))
			c.Ask("different numbers", createTopics(assigned(c.Name("e"), []int32{1}, []int32{1, 1})))
			t := assigned(c.Name("f"), []int32{1})
			t.NumPartitions = 1
			c.Ask("with partitions", createTopics(t))
			t = assigned(c.Name("g"), []int32{1})
			t.ReplicationFactor = 1
			c.Ask("with replication factor", createTopics(t))
			t = assigned(c.Name("h"), []int32{1})
			t.ReplicaAssignment[0].Partition = 3
			c.Ask("partitions from 3", createTopics(t))
		}},
		Case{Key: 19, Name: "configs", Run: func(c *Conversation) {
			for i, kv := range []string{"nope=1", "retention.ms=abc", "retention.ms", "retention.ms=", "cleanup.policy=nope", "segment.bytes=1", "max.message.bytes=-1", "min.insync.replicas=0", "compression.type=brotli"} {
				c.Ask(kv, createTopics(newTopic(c.Name(fmt.Sprint(i)), 1, 1, kv)))
			}
		}},
		Case{Key: 20, Name: "topics", Run: func(c *Conversation) {
			a := c.Topic("a", 1)
			c.Ask("one", c.deleteTopics(a))
			c.Until("deletion", func() bool { _, there := c.TopicID(a); return !there })
			c.Ask("again", c.deleteTopics(a))
			c.Ask("unknown", c.deleteTopics(c.Name("nope")))
			c.Ask("invalid", c.deleteTopics("a b"))
			c.Ask("empty", c.deleteTopics(""))
			b := c.Topic("b", 1)
			c.Ask("twice", c.deleteTopics(b, b))
			c.Ask("still there", metadata(false, b))
			c.Ask("good and bad", c.deleteTopics(b, c.Name("nope")))
			c.Ask("nothing", c.deleteTopics())
			c.Ask("cluster metadata", c.deleteTopics("__cluster_metadata"))
			if c.V >= 6 {
				d := c.Topic("d", 1)
				id := c.ID(d)
				byID := func(ids ...[16]byte) *kmsg.DeleteTopicsRequest {
					req := c.deleteTopics()
					for _, id := range ids {
						t := kmsg.NewDeleteTopicsRequestTopic()
						t.TopicID = id
						req.Topics = append(req.Topics, t)
					}
					return req
				}
				c.Ask("unknown id", byID([16]byte{9, 9, 9, 9, 1}))
				c.Ask("zero id", byID([16]byte{}))
				req := byID(id)
				req.Topics = append(req.Topics, c.deleteTopics(d).Topics...)
				c.Ask("id and name", req)
				req = byID(id)
				req.Topics[0].Topic = &d
				c.Ask("id with name", req)
				c.Ask("id twice", byID(id, id))
				c.Ask("id", byID(id))
			}
		}},
		Case{Key: 37, Name: "counts", Run: func(c *Conversation) {
			t := c.Topic("t", 2)
			for _, n := range []int32{2, 1, 0, -1} {
				c.Ask(fmt.Sprint(n), createPartitions(t, n))
			}
			req := createPartitions(t, 3)
			req.ValidateOnly = true
			c.Ask("only validated", req)
			c.Ask("to 3", createPartitions(t, 3))
			c.Ready(t, 3)
			c.Ask("assigned", createPartitions(t, 4, []int32{1}))
			c.Ready(t, 4)
			c.Ask("too many assigned", createPartitions(t, 5, []int32{1}, []int32{1}))
			c.Ask("too few assigned", createPartitions(t, 6, []int32{1}))
			c.Ask("unknown broker", createPartitions(t, 5, []int32{7}))
			c.Ask("two replicas", createPartitions(t, 5, []int32{1, 1}))
			c.Ask("unknown", createPartitions(c.Name("nope"), 3))
			c.Ask("invalid", createPartitions("a b", 3))
			req = createPartitions(t, 9)
			req.Topics = append(req.Topics, req.Topics[0])
			c.Ask("twice", req)
			req.Topics = nil
			c.Ask("nothing", req)
		}},
		Case{Key: 75, Name: "pages", Run: func(c *Conversation) {
			a, b := c.Topic("a", 3), c.Topic("b", 2)
			ask := func(label string, limit int32, cursor *kmsg.DescribeTopicPartitionsRequestCursor, topics ...string) {
				req := kmsg.NewPtrDescribeTopicPartitionsRequest()
				req.ResponsePartitionLimit, req.Cursor = limit, cursor
				for _, t := range topics {
					req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: t})
				}
				c.Ask(label, req)
			}
			at := func(topic string, partition int32) *kmsg.DescribeTopicPartitionsRequestCursor {
				cursor := kmsg.NewDescribeTopicPartitionsRequestCursor()
				cursor.Topic, cursor.Partition = topic, partition
				return &cursor
			}
			ask("all", 100, nil, b, a)
			for _, n := range []int32{0, -1, 1, 2, 3, 4, 5} {
				ask(fmt.Sprint("limit ", n), n, nil, a, b)
			}
			ask("from a 1", 2, at(a, 1), a, b)
			ask("past a", 2, at(a, 9), a, b)
			ask("negative", 2, at(a, -1), a, b)
			ask("unknown cursor", 2, at(c.Name("nope"), 0), a, b)
			ask("unknown topic", 10, nil, c.Name("nope"), a)
			ask("invalid", 10, nil, "a b")
			ask("twice", 10, nil, a, a)
		}},
		Case{Key: 23, Name: "epochs", Run: func(c *Conversation) {
			t := c.filled("t", 2)
			ask := func(label, topic string, partition, current, epoch int32) {
				req := kmsg.NewPtrOffsetForLeaderEpochRequest()
				req.ReplicaID = -1
				rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
				rt.Topic = topic
				at := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
				at.Partition, at.CurrentLeaderEpoch, at.LeaderEpoch = partition, current, epoch
				rt.Partitions = append(rt.Partitions, at)
				req.Topics = append(req.Topics, rt)
				c.Ask(label, req)
			}
			for _, epoch := range []int32{0, 1, -1, 7} {
				ask(fmt.Sprint("epoch ", epoch), t, 0, -1, epoch)
				ask(fmt.Sprint("current ", epoch), t, 0, epoch, 0)
			}
			ask("current -2", t, 0, -2, 0)
			ask("partition", t, 5, -1, 0)
			ask("unknown", c.Name("nope"), 0, -1, 0)
			ask("invalid", "a b", 0, -1, 0)
		}},
		Case{Key: 35, Name: "dirs", Run: func(c *Conversation) {
			t := c.filled("t", 1)
			ask := func(label string, topics ...kmsg.DescribeLogDirsRequestTopic) {
				req := kmsg.NewPtrDescribeLogDirsRequest()
				req.Topics = topics
				c.Ask(label, req)
			}
			ask("one", kmsg.DescribeLogDirsRequestTopic{Topic: t, Partitions: []int32{0}})
			ask("unknown partition", kmsg.DescribeLogDirsRequestTopic{Topic: t, Partitions: []int32{0, 5}})
			ask("unknown", kmsg.DescribeLogDirsRequestTopic{Topic: c.Name("nope"), Partitions: []int32{0}})
			ask("none", []kmsg.DescribeLogDirsRequestTopic{}...)
		}, Ignore: []string{"none:*"}},
		Case{Key: 60, Name: "cluster", Run: func(c *Conversation) {
			req := kmsg.NewPtrDescribeClusterRequest()
			for kind := int8(0); kind < 4; kind++ {
				req.EndpointType = kind
				c.Ask(fmt.Sprint("endpoint type ", kind), req)
			}
			req = kmsg.NewPtrDescribeClusterRequest()
			req.IncludeClusterAuthorizedOperations, req.IncludeFencedBrokers = true, true
			c.Ask("with operations", req)
		}},
		Case{Key: 61, Name: "producers", Run: func(c *Conversation) {
			t := c.Topic("t", 2)
			ask := func(label, topic string, partitions ...int32) {
				req := kmsg.NewPtrDescribeProducersRequest()
				rt := kmsg.NewDescribeProducersRequestTopic()
				rt.Topic, rt.Partitions = topic, partitions
				req.Topics = append(req.Topics, rt)
				c.Ask(label, req)
			}
			c.ProduceBatch(t, 0, batch{producer: &producer{88, 3, 5}, records: someRecords()})
			ask("one", t, 0, 1)
			ask("partition", t, 9)
			ask("unknown", c.Name("nope"), 0)
			ask("invalid", "a b", 0)
		}},
		Case{Key: 43, Name: "elections", Run: func(c *Conversation) {
			t := c.Topic("t", 2)
			ask := func(label string, kind int8, topic string, partitions ...int32) {
				req := kmsg.NewPtrElectLeadersRequest()
				req.ElectionType, req.TimeoutMillis = kind, 5000
				req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: topic, Partitions: partitions}}
				c.Ask(label, req)
			}
			for kind := int8(-1); kind < 3; kind++ {
				ask(fmt.Sprint("type ", kind), kind, t, 0, 1)
				ask(fmt.Sprint("partition, type ", kind), kind, t, 7)
				ask(fmt.Sprint("unknown, type ", kind), kind, c.Name("nope"), 0)
			}
			ask("invalid", 0, "a b", 0)
		}},
		Case{Key: 45, Name: "reassignments", Run: func(c *Conversation) {
			t := c.Topic("t", 2)
			ask := func(label, topic string, partition int32, replicas []int32) {
				req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
				req.TimeoutMillis = 5000
				rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
				rt.Topic = topic
				at := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
				at.Partition, at.Replicas = partition, replicas
				rt.Partitions = append(rt.Partitions, at)
				req.Topics = append(req.Topics, rt)
				c.Ask(label, req)
			}
			ask("the same", t, 0, []int32{1})
			ask("none running", t, 0, nil)
			ask("no replicas", t, 0, []int32{})
			ask("twice", t, 0, []int32{1, 1})
			ask("unknown broker", t, 0, []int32{9})
			ask("negative broker", t, 0, []int32{-1})
			ask("partition", t, 9, []int32{1})
			ask("unknown", c.Name("nope"), 0, []int32{1})
			ask("invalid", "a b", 0, []int32{1})
		}},
		Case{Key: 46, Name: "list", Run: func(c *Conversation) {
			t := c.Topic("t", 2)
			ask := func(label string, topics []kmsg.ListPartitionReassignmentsRequestTopic) {
				req := kmsg.NewPtrListPartitionReassignmentsRequest()
				req.TimeoutMillis, req.Topics = 5000, topics
				c.Ask(label, req)
			}
			ask("all", nil)
			ask("one", []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: t, Partitions: []int32{0, 9}}})
			ask("unknown", []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: c.Name("nope"), Partitions: []int32{0}}})
			ask("none", []kmsg.ListPartitionReassignmentsRequestTopic{})
		}},
		Case{Key: 74, Name: "resources", Run: func(c *Conversation) {
			for _, types := range [][]int8{{16}, {32}, {4}, {8}, {99}, {-1}, {4, 99}} {
				req := kmsg.NewPtrListConfigResourcesRequest()
				req.ResourceTypes = types
				c.Ask(fmt.Sprint("types ", types), req)
			}
		}},
	)
}

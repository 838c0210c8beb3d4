package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func listOffsets(topic string, partition int32, timestamps ...int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.TimeoutMillis = -1, 5000
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for i, at := range timestamps {
		q := kmsg.NewListOffsetsRequestTopicPartition()
		q.Partition, q.Timestamp, q.CurrentLeaderEpoch = partition+int32(i), at, -1
		t.Partitions = append(t.Partitions, q)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func init() {
	add(
		Case{Key: 2, Name: "specials", Run: func(c *Conversation) {
			topic, empty := c.filled("t", 3), c.Topic("empty", 1)
			for at := int64(-1); at >= -8; at-- {
				c.Ask(fmt.Sprint("at ", at), listOffsets(topic, 0, at))
				c.Ask(fmt.Sprint("empty at ", at), listOffsets(empty, 0, at))
			}
			c.Do(deleteRecords(topic, 0, 3))
			for at := int64(-1); at >= -5; at-- {
				c.Ask(fmt.Sprint("shortened at ", at), listOffsets(topic, 0, at))
			}
		}},
		Case{Key: 2, Name: "times", Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			moments := []record{{timestamp: 100}, {timestamp: 50}, {timestamp: 300}}
			c.ProduceBatch(topic, 0, batch{records: moments})
			later := []record{{timestamp: 200}, {timestamp: 1000}, {timestamp: 400}, {timestamp: 1000}}
			c.ProduceBatch(topic, 0, batch{attributes: 1, records: later})
			c.ProduceBatch(topic, 0, batch{records: []record{{timestamp: 500}}})
			for _, at := range []int64{0, 49, 50, 51, 100, 101, 300, 301, 400, 999, 1000, 1001, 9000} {
				c.Ask(fmt.Sprint("then+", at), listOffsets(topic, 0, then+at))
			}
			c.Ask("0", listOffsets(topic, 0, 0))
			c.Ask("the latest of all", listOffsets(topic, 0, -3))
			c.Do(deleteRecords(topic, 0, 4))
			for _, at := range []int64{0, 200, 500} {
				c.Ask(fmt.Sprint("shortened then+", at), listOffsets(topic, 0, then+at))
			}
		}},
		Case{Key: 2, Name: "no such topic", Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			c.Ask("unknown", listOffsets(c.Name("nope"), 0, -1))
			c.Ask("empty", listOffsets("", 0, -1))
			c.Ask("invalid", listOffsets("a b", 0, -1))
			c.Ask("partition", listOffsets(topic, 5, -1))
			c.Ask("negative partition", listOffsets(topic, -1, -1))
			c.Ask("good and bad", listOffsets(topic, 0, -1, -1))
		}},
		Case{Key: 2, Name: "twice", Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			req := listOffsets(topic, 0, -1, -1)
			req.Topics[0].Partitions[1].Partition = 0
			c.Ask("partition", req)
			req = listOffsets(topic, 0, -1)
			req.Topics = append(req.Topics, req.Topics[0])
			c.Ask("topic", req)
			c.Ask("no partitions", listOffsets(topic, 0))
		}},
		Case{Key: 2, Name: "epochs and isolation", From: 4, Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			for _, epoch := range []int32{0, 1, -1, -2} {
				req := listOffsets(topic, 0, -1)
				req.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
				c.Ask(fmt.Sprint("epoch ", epoch), req)
			}
			for _, level := range []int8{1, 2, -1} {
				req := listOffsets(topic, 0, -1)
				req.IsolationLevel = level
				c.Ask(fmt.Sprint("isolation ", level), req)
			}
			for _, id := range []int32{1, 7, -2, -3} {
				req := listOffsets(topic, 0, -1)
				req.ReplicaID = id
				c.Ask(fmt.Sprint("replica ", id), req)
			}
		}},
	)
}

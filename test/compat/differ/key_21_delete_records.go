package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func deleteRecords(topic string, partition int32, offset int64) *kmsg.DeleteRecordsRequest {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 5000
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	at := kmsg.NewDeleteRecordsRequestTopicPartition()
	at.Partition, at.Offset = partition, offset
	t.Partitions = append(t.Partitions, at)
	req.Topics = append(req.Topics, t)
	return req
}

func init() {
	add(
		Case{Key: 21, Name: "offsets", Run: func(c *Conversation) {
			topic := c.filled("t", 3)
			for _, offset := range []int64{0, 3, 1, 3, 7, -2, 5, -1, -1} {
				c.Ask(fmt.Sprint("before ", offset), deleteRecords(topic, 0, offset))
			}
			c.stored("stored", topic)
		}},
		Case{Key: 21, Name: "topics", Run: func(c *Conversation) {
			c.Ask("unknown", deleteRecords(c.Name("nope"), 0, 0))
			c.Ask("invalid", deleteRecords("a b", 0, 0))
			c.Ask("empty", deleteRecords("", 0, 0))
			c.Ask("partition", deleteRecords(c.Topic("t", 1), 4, 0))
			c.Ask("compacted", deleteRecords(c.Topic("c", 1, "cleanup.policy=compact"), 0, 0))
			c.Ask("compacted and deleted", deleteRecords(c.Topic("d", 1, "cleanup.policy=compact,delete"), 0, 0))
			c.Ask("internal", deleteRecords("__consumer_offsets", 0, 0))
			req := deleteRecords(c.Name("t"), 0, 0)
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, req.Topics[0].Partitions[0])
			c.Ask("twice", req)
			req = deleteRecords(c.Name("t"), 0, 0)
			req.Topics = nil
			c.Ask("nothing", req)
		}},
	)
}

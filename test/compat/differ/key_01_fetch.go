package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetch is a sessionless fetch of partitions 0 of topics at the version under
// test, by id where the version says so.
func (c *Conversation) fetch(offset int64, topics ...string) *kmsg.FetchRequest {
	req := fetchNames(offset, topics...)
	req.ReplicaState.ID = -1
	if c.V >= 13 {
		for i := range req.Topics {
			req.Topics[i].TopicID, _ = c.TopicID(req.Topics[i].Topic)
		}
	}
	return req
}

func (c *Conversation) filled(suffix string, batches int) string {
	topic := c.Topic(suffix, 1)
	for i := range batches {
		c.Produce(topic, 0, rec("k", fmt.Sprint("a", i)), rec("k", fmt.Sprint("b", i)))
	}
	return topic
}

func init() {
	add(
		Case{Key: 1, Name: "offsets", Run: func(c *Conversation) {
			topic := c.filled("t", 3)
			for _, offset := range []int64{0, 1, 2, 3, 5, 6, 7, 100, -1, -2} {
				c.Ask(fmt.Sprint("from ", offset), c.fetch(offset, topic))
			}
		}},
		Case{Key: 1, Name: "codecs", Run: func(c *Conversation) {
			for codec, name := range codecNames {
				topic := c.Topic(name, 1)
				c.ProduceBatch(topic, 0, batch{attributes: int16(codec), records: someRecords()})
				c.Ask(name, c.fetch(0, topic))
			}
		}},
		Case{Key: 1, Name: "topics that the broker compresses", Run: func(c *Conversation) {
			for _, kind := range codecNames[1:] {
				topic := c.Topic(kind, 1, "compression.type="+kind)
				c.Produce(topic, 0, someRecords()...)
				c.Ask(kind, c.fetch(0, topic))
			}
		}, Ignore: []string{"*Payload", "*CRCRight"}},
		Case{Key: 1, Name: "limits", Run: func(c *Conversation) {
			topic := c.filled("t", 3)
			other := c.filled("u", 2)
			for _, n := range []int32{0, 1, 70, 100, 200, -1} {
				req := c.fetch(0, topic, other)
				req.MaxBytes = n
				c.Ask(fmt.Sprint("max bytes ", n), req)
				req = c.fetch(0, topic, other)
				for i := range req.Topics {
					req.Topics[i].Partitions[0].PartitionMaxBytes = n
				}
				c.Ask(fmt.Sprint("partition max bytes ", n), req)
			}
		}},
		Case{Key: 1, Name: "no such topic", Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			c.Ask("unknown", c.fetch(0, c.Name("nope")))
			c.Ask("empty", c.fetch(0, ""))
			c.Ask("one good, one not", c.fetch(0, topic, c.Name("nope")))
			req := c.fetch(0, topic)
			req.Topics[0].Partitions[0].Partition = 7
			c.Ask("partition", req)
			req = c.fetch(0, topic)
			req.Topics[0].Partitions[0].Partition = -1
			c.Ask("negative partition", req)
			req = c.fetch(0, topic)
			req.Topics[0].TopicID = [16]byte{9, 9, 9, 9, 1}
			c.Ask("id", req)
			req = c.fetch(0, topic)
			req.Topics[0].TopicID = [16]byte{}
			c.Ask("zero id", req)
		}},
		Case{Key: 1, Name: "isolation", Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			for _, level := range []int8{0, 1, 2, -1} {
				req := c.fetch(0, topic)
				req.IsolationLevel = level
				c.Ask(fmt.Sprint("level ", level), req)
			}
		}},
		Case{Key: 1, Name: "leader epochs", From: 9, Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			for _, epoch := range []int32{0, 1, 5, -1, -2} {
				req := c.fetch(0, topic)
				req.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
				c.Ask(fmt.Sprint("current ", epoch), req)
				req = c.fetch(2, topic)
				req.Topics[0].Partitions[0].LastFetchedEpoch = epoch
				c.Ask(fmt.Sprint("last fetched ", epoch), req)
			}
		}},
		Case{Key: 1, Name: "waiting", Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			req := c.fetch(2, topic)
			req.MinBytes, req.MaxWaitMillis = 1, 300
			begin := time.Now()
			c.Ask("at the end", req)
			took := time.Since(begin)
			c.Note("waited", took > 250*time.Millisecond && took < 3*time.Second)
			req = c.fetch(2, topic)
			req.MinBytes, req.MaxWaitMillis = 1, 5000
			wait := c.Other().Go("woken", req)
			time.Sleep(50 * time.Millisecond)
			begin = time.Now()
			c.Produce(topic, 0, rec("", "new"))
			wait()
			c.Note("woken soon", time.Since(begin) < 2*time.Second)
			req = c.fetch(0, topic)
			req.MinBytes, req.MaxWaitMillis = 1, 5000
			c.Ask("at once", req)
			req = c.fetch(99, topic)
			req.MinBytes, req.MaxWaitMillis = 1, 5000
			c.Ask("an error at once", req)
		}},
		Case{Key: 1, Name: "followers", Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			for _, id := range []int32{7, 1, -2, -3} {
				req := c.fetch(0, topic)
				req.ReplicaID, req.ReplicaState.ID = id, id
				c.Ask(fmt.Sprint("replica ", id), req)
			}
		}, Ignore: []string{"replica 1:*"}},
		Case{Key: 1, Name: "rack and cluster", From: 11, Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			req := c.fetch(0, topic)
			req.Rack = "elsewhere"
			c.Ask("rack", req)
			req = c.fetch(0, topic)
			req.ClusterID = p("another")
			c.Ask("cluster", req)
		}},
		Case{Key: 1, Name: "twice", Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			c.Ask("topic", c.fetch(0, topic, topic))
			req := c.fetch(0, topic)
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, req.Topics[0].Partitions[0])
			c.Ask("partition", req)
			req = c.fetch(0)
			c.Ask("no topics", req)
		}},
		Case{Key: 1, Name: "after delete records", Run: func(c *Conversation) {
			topic := c.filled("t", 3)
			c.Do(deleteRecords(topic, 0, 3))
			for _, offset := range []int64{0, 2, 3, 4} {
				c.Ask(fmt.Sprint("from ", offset), c.fetch(offset, topic))
			}
		}},
		Case{Key: 1, Name: "internal topic", Run: func(c *Conversation) {
			c.Ask("offsets", c.fetch(1<<40, "__consumer_offsets"))
		}},
		Case{Key: 1, Name: "session", From: 7, Run: sessions},
		Case{Key: 1, Name: "session errors", From: 7, Run: func(c *Conversation) {
			topic := c.filled("t", 1)
			req := c.fetch(0, topic)
			req.SessionID, req.SessionEpoch = 123456, 1
			c.Ask("unknown session", req)
			req.SessionEpoch = -1
			c.Ask("closing an unknown session", req)
			req.SessionEpoch = 0
			c.Ask("new with an old id", req)
			req.SessionID, req.SessionEpoch = 0, 1
			c.Ask("epoch 1 without a session", req)
			req.SessionID, req.SessionEpoch = 0, -2
			c.Ask("epoch -2", req)
		}},
	)
}

// sessions goes through the life of an incremental fetch session (KIP-227).
func sessions(c *Conversation) {
	topic, other := c.filled("t", 1), c.filled("u", 1)
	ask := func(label string, id, epoch int32, offset int64, topics ...string) int32 {
		req := c.fetch(offset, topics...)
		req.SessionID, req.SessionEpoch = id, epoch
		return c.Ask(label, req).(*kmsg.FetchResponse).SessionID
	}
	id := ask("new", 0, 0, 0, topic, other)
	if id == 0 {
		return
	}
	ask("both move on", id, 1, 2, topic, other)
	ask("nothing new", id, 2, 0)
	c.Produce(topic, 0, rec("", "more"))
	ask("one has more", id, 3, 0)
	ask("the same again", id, 4, 0)
	ask("wrong epoch", id, 9, 0)
	ask("still usable", id, 5, 3, topic)
	forget := c.fetch(0)
	forget.SessionID, forget.SessionEpoch = id, 6
	gone := kmsg.NewFetchRequestForgottenTopic()
	gone.Topic, gone.Partitions = other, []int32{0}
	if c.V >= 13 {
		gone.TopicID = c.ID(other)
	}
	forget.ForgottenTopics = append(forget.ForgottenTopics, gone)
	c.Ask("forgets one", forget)
	c.Produce(other, 0, rec("", "unseen"))
	ask("the forgotten one is not there", id, 7, 0)
	ask("an unknown topic joins", id, 8, 0, c.Name("nope"))
	ask("out of range", id, 9, 99, topic)
	ask("out of range again", id, 10, 0)
	ask("in range", id, 11, 0, topic)
	ask("closed", id, -1, 0, topic)
	ask("closed for good", id, 12, 0)
}

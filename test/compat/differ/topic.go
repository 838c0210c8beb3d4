package main

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Name is a name that only this case at this version uses.
func (c *Conversation) Name(suffix string) string { return c.tag + "-" + suffix }

// Topic makes a topic with one replica and waits until it is usable.
func (c *Conversation) Topic(suffix string, partitions int32, configs ...string) string {
	name := c.Name(suffix)
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	for _, kv := range configs {
		k, v, _ := strings.Cut(kv, "=")
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = k, &v
		t.Configs = append(t.Configs, cfg)
	}
	req.Topics = append(req.Topics, t)
	req.SetVersion(c.side.common[int16(kmsg.CreateTopics)].max)
	resp := c.plain(req).(*kmsg.CreateTopicsResponse)
	if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
		c.Fail("create topic %s: %d answers, code %d", suffix, len(resp.Topics), resp.Topics[0].ErrorCode)
	}
	c.Ready(name, partitions)
	return name
}

// plain is Do at the version that the request has.
func (s *Speaker) plain(req kmsg.Request) kmsg.Response {
	a := &answer{}
	resp := s.ask(a, req)
	if a.outcome != "answered" {
		s.c.Fail("%s v%d: %s", kmsg.NameForKey(req.Key()), req.GetVersion(), a.outcome)
	}
	return resp
}

// Ready waits until all partitions of a topic have a leader that serves.
func (c *Conversation) Ready(name string, partitions int32) {
	c.Until("leaders of "+name, func() bool {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = name
		for p := range partitions {
			at := kmsg.NewListOffsetsRequestTopicPartition()
			at.Partition, at.Timestamp = p, -1
			t.Partitions = append(t.Partitions, at)
		}
		req.Topics = append(req.Topics, t)
		req.SetVersion(min(7, c.side.common[int16(kmsg.ListOffsets)].max))
		for _, t := range c.plain(req).(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode != 0 {
					return false
				}
			}
		}
		_, ok := c.TopicID(name)
		return ok
	})
}

// TopicID looks a topic's id up.
func (c *Conversation) TopicID(name string) (id [16]byte, ok bool) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &name
	req.Topics = append(req.Topics, t)
	req.SetVersion(c.side.common[int16(kmsg.Metadata)].max)
	resp := c.plain(req).(*kmsg.MetadataResponse)
	if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
		return id, false
	}
	id = resp.Topics[0].TopicID
	c.mu.Lock()
	c.ids[id] = name
	c.mu.Unlock()
	return id, true
}

// ID is TopicID of a topic that exists.
func (c *Conversation) ID(name string) [16]byte {
	id, ok := c.TopicID(name)
	if !ok {
		c.Fail("no topic %s", name)
	}
	return id
}

// Produce writes records with fixed timestamps to partition 0, as one batch.
func (c *Conversation) Produce(topic string, partition int32, records ...record) {
	c.ProduceBatch(topic, partition, batch{records: records})
}

// ProduceBatch writes a batch.
func (c *Conversation) ProduceBatch(topic string, partition int32, b batch) int64 {
	resp := c.plain(c.produceAt(min(9, c.side.common[int16(kmsg.Produce)].max), topic, partition, b.encode())).(*kmsg.ProduceResponse)
	if p := resp.Topics[0].Partitions[0]; p.ErrorCode != 0 {
		c.Fail("produce to %s: code %d", topic, p.ErrorCode)
	}
	return resp.Topics[0].Partitions[0].BaseOffset
}

// produceAt is a produce request with acks=-1 for one partition; from v13 on
// it looks the topic's id up.
func (c *Conversation) produceAt(version int16, topic string, partition int32, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(version)
	req.Acks, req.TimeoutMillis = -1, 5000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	if version >= 13 {
		t.TopicID, _ = c.TopicID(topic)
	}
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

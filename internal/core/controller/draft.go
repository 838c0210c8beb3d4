package controller

import (
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// draft is a decision being made: the image, and on top of it the brokers and
// partitions that the batch of records changes.
type draft struct {
	c     *Controller
	now   time.Time
	image *metadata.Image

	records    []metadata.Record
	partitions map[partitionKey]*metadata.PartitionRecord
	brokers    map[kafka.NodeID]*metadata.BrokerRecord
	leaders    map[kafka.NodeID]int // preferred leaderships of each broker, counted when asked for
	configs    map[string]config.TopicConfig
	events     []Event
}

type partitionKey struct {
	topic     kafka.TopicID
	partition int32
}

func (c *Controller) draft(now time.Time) *draft {
	return &draft{c: c, now: now, image: c.image}
}

func (d *draft) decision(replies ...Reply) Decision {
	return Decision{Records: d.records, Replies: replies, Wake: d.c.wake, Events: d.events}
}

func (d *draft) event(e Event) { d.events = append(d.events, e) }

// fold makes the records so far part of the image that the rest of the
// decision looks at.
func (d *draft) fold() {
	image, _, err := d.image.Apply(d.image.Offset()+1, d.records)
	mustFit(err)
	d.image = image
	d.partitions, d.brokers, d.leaders, d.configs = nil, nil, nil, nil
}

// broker returns the broker as this draft leaves it, or nil.
func (d *draft) broker(id kafka.NodeID) *metadata.Broker {
	if r := d.brokers[id]; r != nil {
		return r.State
	}
	return d.image.Broker(id)
}

func (d *draft) setBroker(b metadata.Broker) {
	if r := d.brokers[b.ID]; r != nil {
		r.State = &b
		return
	}
	if d.brokers == nil {
		d.brokers = map[kafka.NodeID]*metadata.BrokerRecord{}
	}
	r := &metadata.BrokerRecord{State: &b}
	d.brokers[b.ID] = r
	d.records = append(d.records, r)
}

// active says whether the broker may lead and be in sync.
func (d *draft) active(id kafka.NodeID) bool { return d.broker(id).Active() }

// partition returns the partition as this draft leaves it.
func (d *draft) partition(t *metadata.Topic, i int32) *metadata.Partition {
	if r := d.partitions[partitionKey{t.ID, i}]; r != nil {
		return r.State
	}
	return t.Partition(i)
}

func (d *draft) setPartition(topic kafka.TopicID, i int32, p *metadata.Partition) {
	key := partitionKey{topic, i}
	if r := d.partitions[key]; r != nil {
		r.State = p
		return
	}
	if d.partitions == nil {
		d.partitions = map[partitionKey]*metadata.PartitionRecord{}
	}
	r := &metadata.PartitionRecord{Topic: topic, Partition: i, State: p}
	d.partitions[key] = r
	d.records = append(d.records, r)
}

// topicConfig is the effective configuration of a topic of the image.
func (d *draft) topicConfig(topic string) config.TopicConfig {
	c, ok := d.configs[topic]
	if !ok {
		c = d.c.opts.Configs.Topic(d.image, topic)
		if d.configs == nil {
			d.configs = map[string]config.TopicConfig{}
		}
		d.configs[topic] = c
	}
	return c
}

func without(nodes []kafka.NodeID, gone func(kafka.NodeID) bool) []kafka.NodeID {
	if !slices.ContainsFunc(nodes, gone) {
		return nodes
	}
	return slices.DeleteFunc(slices.Clone(nodes), gone)
}

func status(code kafka.ErrorCode, message string) Status { return Status{code, message} }

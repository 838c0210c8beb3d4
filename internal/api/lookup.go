package api

import (
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
	"chronik/internal/host/partition"
)

// findTopic finds a topic by the one of its names that the request's version
// has. The code is that of a topic that does not exist.
func findTopic(image *metadata.Image, byID bool, id [16]byte, name string) (*metadata.Topic, kafka.ErrorCode) {
	if byID {
		if topic := image.Topic(id); topic != nil {
			return topic, kafka.None
		}
		return nil, kafka.ErrUnknownTopicID
	}
	if topic := image.TopicByName(name); topic != nil {
		return topic, kafka.None
	}
	return nil, kafka.ErrUnknownTopicOrPartition
}

// findPartition finds this node's replica of a partition of a topic that was
// looked up with findTopic. A node whose lease is over does not know what has
// become of what it led: it serves none, even before it has noticed.
func (s *Server) findPartition(now time.Time, topic *metadata.Topic, number int32, unknown kafka.ErrorCode) (*partition.Partition, kafka.ErrorCode) {
	if topic == nil {
		return nil, unknown
	}
	if topic.Partition(number) == nil {
		return nil, kafka.ErrUnknownTopicOrPartition
	}
	hosted := s.Broker.Partition(topic.ID, number)
	if hosted == nil || !s.Broker.MayServe(now) {
		return nil, kafka.ErrNotLeaderOrFollower
	}
	return hosted, kafka.None
}

// leaderHints collects who leads partitions, for the answers of KIP-951.
type leaderHints struct {
	brokers []*metadata.Broker // each once
}

// of returns the leader of a partition and its epoch. Nothing is said where the
// metadata have nothing better to offer than this node itself, unless that is
// wanted; where they know of no leader, or of one that is fenced, only the
// epoch is.
func (h *leaderHints) of(b Broker, topic *metadata.Topic, number int32, itself bool) (kafka.NodeID, kafka.LeaderEpoch) {
	image := b.Image()
	p := image.Topic(topic.ID).Partition(number)
	if p == nil || p.Leader == b.Node() && !itself {
		return kafka.NoNode, kafka.NoLeaderEpoch
	}
	broker := image.Broker(p.Leader)
	if broker == nil || broker.Fenced {
		return kafka.NoNode, p.LeaderEpoch
	}
	if !slices.ContainsFunc(h.brokers, func(o *metadata.Broker) bool { return o.ID == broker.ID }) {
		h.brokers = append(h.brokers, broker)
	}
	if mutant.On(mutant.LeaderHintOwn) {
		return b.Node(), p.LeaderEpoch
	}
	return p.Leader, p.LeaderEpoch
}

// duplicates finds partitions that a request names twice.
type duplicates struct {
	list []topicPartition       // of small requests
	sets map[topicPartition]int // of large ones
	at   int
}

type topicPartition struct {
	topic     *metadata.Topic
	partition int32
}

// listMax is the number of partitions up to which looking through a list is
// faster than a map.
const listMax = 32

func newDuplicates(count int) duplicates {
	switch {
	case count < 2:
		return duplicates{}
	case count <= listMax:
		return duplicates{list: make([]topicPartition, 0, count)}
	}
	return duplicates{sets: make(map[topicPartition]int, count)}
}

// find returns at which place the partition was added, or -1. Partitions of
// unknown topics are never found.
func (d *duplicates) find(topic *metadata.Topic, partition int32) int {
	key := topicPartition{topic, partition}
	if topic == nil {
		return -1
	}
	if d.sets != nil {
		if at, ok := d.sets[key]; ok {
			return at
		}
		return -1
	}
	return slices.Index(d.list, key)
}

// add counts one place, that of the partition.
func (d *duplicates) add(topic *metadata.Topic, partition int32) {
	key := topicPartition{topic, partition}
	switch {
	case d.sets != nil:
		d.sets[key] = d.at
	case d.list != nil:
		d.list = append(d.list, key)
	}
	d.at++
}

// namedTwice counts how often a request names each partition.
type namedTwice struct {
	seen map[kafka.TopicPartition]int // -1: has been answered
}

// newNamedTwice is for a request of count partitions.
func newNamedTwice(count int) namedTwice {
	if count < 2 {
		return namedTwice{}
	}
	return namedTwice{make(map[kafka.TopicPartition]int, count)}
}

func (n namedTwice) add(topic string, number int32) {
	if n.seen != nil {
		n.seen[kafka.TopicPartition{Topic: topic, Partition: number}]++
	}
}

// twice says whether the partition is named more than once, and whether that
// has been told before.
func (n namedTwice) twice(topic string, number int32) (twice, told bool) {
	tp := kafka.TopicPartition{Topic: topic, Partition: number}
	switch count := n.seen[tp]; {
	case count < 0:
		return true, true
	case count > 1:
		n.seen[tp] = -1
		return true, false
	}
	return false, false
}

// once has each of the names of a request once, in their order. An answer that
// repeats what is known of each, members and all, as often as a request names it,
// could be as large as a client likes.
func once(names []string) []string {
	if len(names) < 2 {
		return names
	}
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	})
}

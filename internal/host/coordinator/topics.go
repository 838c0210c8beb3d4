package coordinator

import (
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
	"chronik/internal/core/metadata"
)

// TopicsOf is the topics of an Image, as groups see them.
func TopicsOf(image *metadata.Image) group.Topics { return imageTopics{image} }

type imageTopics struct{ image *metadata.Image }

func (t imageTopics) Version() int64 { return int64(t.image.Offset()) }

func (t imageTopics) ByName(name string) (group.Topic, bool) {
	return t.topic(t.image.TopicByName(name))
}

func (t imageTopics) ByID(id kafka.TopicID) (group.Topic, bool) { return t.topic(t.image.Topic(id)) }

func (t imageTopics) Each(fn func(group.Topic) bool) {
	list := slices.Clone(t.image.Topics())
	slices.SortFunc(list, func(a, b *metadata.Topic) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	for _, topic := range list {
		if x, _ := t.topic(topic); !fn(x) {
			return
		}
	}
}

func (t imageTopics) topic(topic *metadata.Topic) (group.Topic, bool) {
	if topic == nil {
		return group.Topic{}, false
	}
	return group.Topic{
		ID: topic.ID, Name: topic.Name, Partitions: int32(len(topic.Partitions)),
		Racks: func(p int32) []string { return t.racks(topic.Partition(p)) },
	}, true
}

// racks lists the racks of a partition's replicas, each once, in order.
func (t imageTopics) racks(p *metadata.Partition) []string {
	if p == nil {
		return nil
	}
	var racks []string
	for _, id := range p.Replicas {
		if b := t.image.Broker(id); b != nil && b.Rack != "" {
			racks = append(racks, b.Rack)
		}
	}
	slices.Sort(racks)
	return slices.Compact(racks)
}

package metadata

import (
	"fmt"
	"maps"
	"slices"

	"chronik/internal/base/kafka"
)

// Apply returns the image after the batch of records at offset, and what they
// changed. An error says that the records do not fit the image: they were
// made for another one, and the log or the software is broken.
func (m *Image) Apply(offset kafka.Offset, records []Record) (*Image, *Delta, error) {
	e := edit{from: m, to: new(Image), delta: &Delta{From: m}}
	*e.to = *m
	e.to.offset = offset
	e.delta.To = e.to
	if offset <= m.offset {
		return nil, nil, fmt.Errorf("apply metadata at offset %d: the image is at %d", offset, m.offset)
	}
	for i, r := range records {
		if err := e.apply(r); err != nil {
			return nil, nil, fmt.Errorf("apply metadata record %d at offset %d: %w", i, offset, err)
		}
	}
	e.finish()
	return e.to, e.delta, nil
}

// edit is an image being made: what was copied may be changed.
type edit struct {
	from, to *Image
	delta    *Delta

	topicsOwned, namesOwned, brokersOwned, configsOwned, featuresOwned bool

	ownTopics  map[kafka.TopicID]bool
	ownConfigs map[ConfigResource]bool
	partitions map[partitionKey]int // index in delta.Partitions
	topicSeen  map[kafka.TopicID]int
	brokerSeen map[kafka.NodeID]int
	configSeen map[ConfigResource]bool
}

type partitionKey struct {
	topic     kafka.TopicID
	partition int32
}

func own[K comparable, V any](owned *bool, m *map[K]V) {
	if *owned {
		return
	}
	*owned = true
	if *m == nil {
		*m = map[K]V{}
		return
	}
	*m = maps.Clone(*m)
}

func (e *edit) apply(r Record) error {
	switch r := r.(type) {
	case *ClusterRecord:
		if e.to.clusterID != "" && e.to.clusterID != r.ID {
			return fmt.Errorf("cluster id %q would replace %q", r.ID, e.to.clusterID)
		}
		e.to.clusterID = r.ID
	case *BrokerRecord:
		e.setBroker(r.State.ID, r.State)
	case *RemoveBrokerRecord:
		if e.to.brokers[r.Node] == nil {
			return fmt.Errorf("broker %d to remove is not registered", r.Node)
		}
		e.setBroker(r.Node, nil)
	case *TopicRecord:
		return e.createTopic(r)
	case *RemoveTopicRecord:
		return e.removeTopic(r.ID)
	case *PartitionRecord:
		return e.setPartition(r)
	case *ConfigRecord:
		e.setConfig(r)
	case *ProducerIDsRecord:
		if r.Next < e.to.nextProducer {
			return fmt.Errorf("next producer id would go back from %d to %d", e.to.nextProducer, r.Next)
		}
		e.to.nextProducer = r.Next
	case *FeatureRecord:
		if r.Name == FeatureRecords && r.Level > RecordsLevel {
			return fmt.Errorf("%w: it has records of level %d", ErrNewer, r.Level)
		}
		own(&e.featuresOwned, &e.to.features)
		if r.Level == 0 {
			delete(e.to.features, r.Name)
		} else {
			e.to.features[r.Name] = r.Level
		}
	case *EventRecord:
		event := r.Event
		if event.Offset == 0 {
			event.Offset = e.to.offset
		}
		e.to.history = e.to.history.add(event)
	default:
		return fmt.Errorf("record type %T is not known", r)
	}
	return nil
}

func (e *edit) setBroker(id kafka.NodeID, state *Broker) {
	own(&e.brokersOwned, &e.to.brokers)
	i, seen := e.brokerSeen[id]
	if !seen {
		if e.brokerSeen == nil {
			e.brokerSeen = map[kafka.NodeID]int{}
		}
		i = len(e.delta.Brokers)
		e.brokerSeen[id] = i
		e.delta.Brokers = append(e.delta.Brokers, BrokerDelta{Node: id, Old: e.from.brokers[id]})
	}
	e.delta.Brokers[i].New = state
	if state == nil {
		delete(e.to.brokers, id)
	} else {
		e.to.brokers[id] = state
	}
}

func (e *edit) createTopic(r *TopicRecord) error {
	if r.ID.IsZero() || e.to.topics[r.ID] != nil {
		return fmt.Errorf("topic id %s of %q is zero or in use", r.ID, r.Name)
	}
	if _, ok := e.to.byName[r.Name]; ok || r.Name == "" {
		return fmt.Errorf("topic name %q is empty or in use", r.Name)
	}
	own(&e.topicsOwned, &e.to.topics)
	own(&e.namesOwned, &e.to.byName)
	t := &Topic{ID: r.ID, Name: r.Name}
	e.to.topics[r.ID] = t
	e.to.byName[r.Name] = r.ID
	e.markOwn(r.ID)
	if e.topicSeen == nil {
		e.topicSeen = map[kafka.TopicID]int{}
	}
	e.topicSeen[r.ID] = len(e.delta.Topics)
	e.delta.Topics = append(e.delta.Topics, TopicDelta{New: t})
	return nil
}

func (e *edit) markOwn(id kafka.TopicID) {
	if e.ownTopics == nil {
		e.ownTopics = map[kafka.TopicID]bool{}
	}
	e.ownTopics[id] = true
}

func (e *edit) removeTopic(id kafka.TopicID) error {
	t := e.to.topics[id]
	if t == nil {
		return fmt.Errorf("topic %s to remove is not there", id)
	}
	for i := range t.Partitions {
		e.notePartition(t, int32(i), nil)
	}
	own(&e.topicsOwned, &e.to.topics)
	own(&e.namesOwned, &e.to.byName)
	delete(e.to.topics, id)
	delete(e.to.byName, t.Name)
	delete(e.ownTopics, id)
	if i, ok := e.topicSeen[id]; ok {
		e.delta.Topics[i].New = nil
	} else {
		e.delta.Topics = append(e.delta.Topics, TopicDelta{Old: e.from.topics[id]})
	}
	resource := ConfigResource{ResourceTopic, t.Name}
	if e.to.configs[resource] != nil {
		own(&e.configsOwned, &e.to.configs)
		delete(e.to.configs, resource)
		delete(e.ownConfigs, resource)
		e.noteConfig(resource)
	}
	return nil
}

func (e *edit) setPartition(r *PartitionRecord) error {
	t := e.to.topics[r.Topic]
	if t == nil {
		return fmt.Errorf("topic %s of partition %d is not there", r.Topic, r.Partition)
	}
	if r.Partition < 0 || int(r.Partition) > len(t.Partitions) {
		return fmt.Errorf("partition %d of topic %q leaves a gap after %d", r.Partition, t.Name, len(t.Partitions))
	}
	if old := t.Partition(r.Partition); old != nil &&
		(r.State.PartitionEpoch < old.PartitionEpoch || r.State.LeaderEpoch < old.LeaderEpoch) {
		return fmt.Errorf("an epoch of partition %d of topic %q would go back", r.Partition, t.Name)
	}
	if !e.ownTopics[r.Topic] {
		own(&e.topicsOwned, &e.to.topics)
		t = &Topic{ID: t.ID, Name: t.Name, Partitions: slices.Clone(t.Partitions)}
		e.to.topics[r.Topic] = t
		e.markOwn(r.Topic)
	}
	e.notePartition(t, r.Partition, r.State)
	if int(r.Partition) == len(t.Partitions) {
		t.Partitions = append(t.Partitions, r.State)
	} else {
		t.Partitions[r.Partition] = r.State
	}
	return nil
}

func (e *edit) notePartition(t *Topic, partition int32, state *Partition) {
	key := partitionKey{t.ID, partition}
	if i, ok := e.partitions[key]; ok {
		e.delta.Partitions[i].New = state
		return
	}
	if e.partitions == nil {
		e.partitions = map[partitionKey]int{}
	}
	e.partitions[key] = len(e.delta.Partitions)
	e.delta.Partitions = append(e.delta.Partitions, PartitionDelta{
		Topic: t.ID, Name: t.Name, Partition: partition,
		Old: e.from.topics[t.ID].Partition(partition), New: state,
	})
}

func (e *edit) setConfig(r *ConfigRecord) {
	old := e.to.configs[r.Resource]
	if _, ok := old[r.Key]; r.Remove && !ok {
		return
	}
	own(&e.configsOwned, &e.to.configs)
	if !e.ownConfigs[r.Resource] {
		if e.ownConfigs == nil {
			e.ownConfigs = map[ConfigResource]bool{}
		}
		e.ownConfigs[r.Resource] = true
		if old = maps.Clone(old); old == nil {
			old = map[string]string{}
		}
		e.to.configs[r.Resource] = old
	}
	if r.Remove {
		delete(old, r.Key)
	} else {
		old[r.Key] = r.Value
	}
	if len(old) == 0 {
		delete(e.to.configs, r.Resource)
		delete(e.ownConfigs, r.Resource)
	}
	e.noteConfig(r.Resource)
}

func (e *edit) noteConfig(r ConfigResource) {
	if e.configSeen[r] {
		return
	}
	if e.configSeen == nil {
		e.configSeen = map[ConfigResource]bool{}
	}
	e.configSeen[r] = true
	e.delta.Configs = append(e.delta.Configs, r)
}

// finish takes out what came and went within the batch.
func (e *edit) finish() {
	d := e.delta
	d.Topics = slices.DeleteFunc(d.Topics, func(t TopicDelta) bool { return t.Old == nil && t.New == nil })
	d.Partitions = slices.DeleteFunc(d.Partitions, func(p PartitionDelta) bool { return p.Old == nil && p.New == nil })
	d.Brokers = slices.DeleteFunc(d.Brokers, func(b BrokerDelta) bool { return b.Old == nil && b.New == nil })
	if e.topicsOwned || e.brokersOwned {
		e.to.sorted = new(sortedLists)
	}
}

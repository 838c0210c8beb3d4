package controller

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// partitionsPerRequestMax bounds what one request may create, as in Kafka.
const partitionsPerRequestMax = 10_000

func (d *draft) createTopics(r CreateTopics) CreateTopicsResult {
	times := map[string]int{}
	for _, t := range r.Topics {
		times[t.Name]++
	}
	excessive := d.totalPartitions(r.Topics, times) > partitionsPerRequestMax
	var result CreateTopicsResult
	// Names of one request may collide with each other, only not with those before.
	existing := d.collidingNames()
	for _, t := range r.Topics {
		answer := CreatedTopic{Name: t.Name, Partitions: -1, ReplicationFactor: -1}
		switch n := times[t.Name]; {
		case n == 0:
			continue // answered already
		case n > 1:
			times[t.Name] = 0
			answer.Status = status(kafka.ErrInvalidRequest, fmt.Sprintf("Topic %q is in the request %d times.", t.Name, n))
		case t.Name == kafka.TopicClusterMetadata:
			answer.Status = status(kafka.ErrInvalidRequest, fmt.Sprintf("The name %s is reserved.", t.Name))
		case excessive:
			answer.Status = status(kafka.ErrPolicyViolation,
				fmt.Sprintf("The request would create more than %d partitions.", partitionsPerRequestMax))
		default:
			d.createTopic(t, existing, r.ValidateOnly, &answer)
		}
		result.Topics = append(result.Topics, answer)
	}
	return result
}

func (d *draft) totalPartitions(topics []NewTopic, times map[string]int) int {
	total := 0
	for _, t := range topics {
		switch {
		case times[t.Name] > 1:
		case len(t.Assignment) > 0:
			total += len(t.Assignment)
		case t.Partitions == -1:
			total += int(d.c.opts.Configs.BrokerInt(d.image, "num.partitions"))
		case t.Partitions > 0:
			total += int(t.Partitions)
		}
	}
	return total
}

// collidingNames has the topics by the name in which '.' is '_': metrics
// cannot tell those apart.
func (d *draft) collidingNames() map[string]string {
	names := map[string]string{}
	for _, t := range d.image.Topics() {
		if strings.ContainsAny(t.Name, "._") {
			names[strings.ReplaceAll(t.Name, ".", "_")] = t.Name
		}
	}
	return names
}

func (d *draft) createTopic(t NewTopic, existing map[string]string, validateOnly bool, answer *CreatedTopic) {
	if err := kafka.ValidTopicName(t.Name); err != nil {
		answer.Status = status(kafka.ErrInvalidTopicException, sentence(err))
		return
	}
	switch found := d.image.TopicByName(t.Name); {
	case found != nil && t.ID.has(found.ID): // the answer was lost with its controller
		answer.ID, answer.Partitions, answer.ReplicationFactor = found.ID, int32(len(found.Partitions)), int16(len(found.Partitions[0].Replicas))
		answer.Configs = d.c.opts.Configs.DescribeTopic(d.image, t.Name)
		return
	case found != nil:
		answer.Status = status(kafka.ErrTopicAlreadyExists, fmt.Sprintf("Topic %q exists already.", t.Name))
		return
	}
	if other := existing[strings.ReplaceAll(t.Name, ".", "_")]; other != "" {
		answer.Status = status(kafka.ErrInvalidTopicException,
			fmt.Sprintf("Topic %q collides with topic %q: '.' and '_' count as the same.", t.Name, other))
		return
	}
	set, s := topicConfigs(t.Configs)
	var replicas [][]kafka.NodeID
	if s.Error == kafka.None {
		replicas, s = d.replicasOf(t)
	}
	if answer.Status = s; s.Error != kafka.None {
		return
	}
	answer.Partitions, answer.ReplicationFactor = int32(len(replicas)), int16(len(replicas[0]))
	answer.Configs = d.c.opts.Configs.DescribeTopicWith(d.image, set)
	if validateOnly {
		answer.ID = d.newTopicID(OwnID{}) // as in Kafka, whose clients take none for an old broker
		return
	}
	answer.ID = d.addTopic(t, replicas, set)
}

func (d *draft) newTopicID(own OwnID) kafka.TopicID {
	id := own.ID()
	for own.Drawn.IsZero() || d.image.Topic(id) != nil {
		if id = kafka.TopicID(d.c.drawID()); d.image.Topic(id) == nil {
			return id
		}
	}
	return id
}

func (d *draft) addTopic(t NewTopic, replicas [][]kafka.NodeID, set map[string]string) kafka.TopicID {
	id, name := d.newTopicID(t.ID), t.Name
	d.records = append(d.records, &metadata.TopicRecord{ID: id, Name: name})
	for i, nodes := range replicas {
		d.setPartition(id, int32(i), d.newPartition(nodes))
		if !kafka.IsInternalTopic(name) {
			d.leaderships()[nodes[0]]++
		}
	}
	resource := metadata.ConfigResource{Type: metadata.ResourceTopic, Name: name}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		d.records = append(d.records, &metadata.ConfigRecord{Resource: resource, Key: key, Value: set[key]})
	}
	d.event(Event{Kind: "topic created", Topic: name, Partition: metadata.WholeTopic, Node: kafka.NoNode,
		Detail: fmt.Sprintf("id %s, %d partitions, replication factor %d", id, len(replicas), len(replicas[0])), Cause: "a client asked for it"})
	return id
}

// topicConfigs checks the configs of a new topic. Of one given twice the last counts.
func topicConfigs(configs []ConfigValue) (map[string]string, Status) {
	set := map[string]string{}
	for _, c := range configs {
		if c.Value == nil {
			return nil, status(kafka.ErrInvalidConfig, fmt.Sprintf("Config %s has no value.", c.Name))
		}
		set[c.Name] = *c.Value
	}
	for _, key := range slices.Sorted(maps.Keys(set)) {
		value, err := config.Normalize(metadata.ResourceTopic, key, set[key])
		if err != nil {
			return nil, status(kafka.ErrInvalidConfig, sentence(err))
		}
		set[key] = value
	}
	if err := config.ValidateTopic(set); err != nil {
		return nil, status(kafka.ErrInvalidConfig, sentence(err))
	}
	return set, Status{}
}

func (d *draft) replicasOf(t NewTopic) ([][]kafka.NodeID, Status) {
	if len(t.Assignment) > 0 {
		return d.manualReplicas(t)
	}
	factor, partitions := int(t.ReplicationFactor), t.Partitions
	switch {
	case factor == 0 || factor < -1:
		return nil, status(kafka.ErrInvalidReplicationFactor, "The replication factor must be above 0, or -1 for the broker's default.")
	case partitions == 0 || partitions < -1:
		return nil, status(kafka.ErrInvalidPartitions, "The number of partitions must be above 0, or -1 for the broker's default.")
	}
	if factor == -1 {
		factor = int(d.c.opts.Configs.BrokerInt(d.image, "default.replication.factor"))
	}
	if partitions == -1 {
		partitions = int32(d.c.opts.Configs.BrokerInt(d.image, "num.partitions"))
	}
	return d.place(nil, 0, partitions, factor)
}

func (d *draft) manualReplicas(t NewTopic) ([][]kafka.NodeID, Status) {
	if t.ReplicationFactor != -1 || t.Partitions != -1 {
		return nil, status(kafka.ErrInvalidRequest,
			"With replicas assigned by hand the number of partitions and the replication factor must be -1.")
	}
	replicas := make([][]kafka.NodeID, len(t.Assignment))
	for _, a := range t.Assignment {
		switch {
		case a.Partition < 0 || int(a.Partition) >= len(replicas):
			return nil, status(kafka.ErrInvalidReplicaAssignment, "The partitions assigned by hand must be numbered from 0 without gaps.")
		case replicas[a.Partition] != nil:
			return nil, status(kafka.ErrInvalidReplicaAssignment, fmt.Sprintf("Partition %d is assigned by hand twice.", a.Partition))
		}
		replicas[a.Partition] = append([]kafka.NodeID{}, a.Replicas...)
	}
	return replicas, d.checkAssignments(replicas, 0, len(replicas[0]))
}

func (d *draft) checkAssignments(replicas [][]kafka.NodeID, first, factor int) Status {
	for i, nodes := range replicas {
		s := d.checkReplicas(nodes)
		switch {
		case s.Error != kafka.None:
		case len(nodes) != factor:
			s = status(kafka.ErrInvalidReplicaAssignment,
				fmt.Sprintf("Partition %d has %d replicas where the others have %d.", first+i, len(nodes), factor))
		case !slices.ContainsFunc(nodes, d.active):
			s = status(kafka.ErrInvalidReplicaAssignment,
				fmt.Sprintf("All replicas of partition %d are on brokers that are fenced or shutting down.", first+i))
		}
		if s.Error != kafka.None {
			return s
		}
	}
	return Status{}
}

func (d *draft) autoCreateTopics(r AutoCreateTopics) CreateTopicsResult {
	var result CreateTopicsResult
	existing := d.collidingNames()
	seen := map[string]bool{}
	left := partitionsPerRequestMax
	for _, name := range r.Names {
		if seen[name] {
			continue
		}
		seen[name] = true
		answer := CreatedTopic{Name: name, Partitions: -1, ReplicationFactor: -1}
		t := NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1}
		if kafka.IsInternalTopic(name) {
			t, answer.Status = d.internalTopic(name)
		}
		if name == kafka.TopicClusterMetadata {
			answer.Status = status(kafka.ErrInvalidTopicException, fmt.Sprintf("The name %s is reserved.", name))
		}
		if answer.Error == kafka.None && left <= 0 {
			answer.Status = status(kafka.ErrPolicyViolation, fmt.Sprintf("The request would create more than %d partitions.", partitionsPerRequestMax))
		}
		if answer.Error == kafka.None {
			d.createTopic(t, existing, false, &answer)
			left -= int(max(answer.Partitions, 0))
		}
		if found := d.image.TopicByName(name); found != nil {
			answer.ID, answer.Partitions, answer.ReplicationFactor = found.ID, int32(len(found.Partitions)), int16(len(found.Partitions[0].Replicas))
		}
		result.Topics = append(result.Topics, answer)
	}
	return result
}

// internalTopic is how a topic of a coordinator is created. It keeps its
// replication factor for good, so it waits for the brokers that are to come.
func (d *draft) internalTopic(name string) (NewTopic, Status) {
	prefix := "offsets.topic."
	value := func(s string) *string { return &s }
	configs := []ConfigValue{{"cleanup.policy", value("compact")}}
	number := func(key string) int64 { return d.c.opts.Configs.BrokerInt(d.image, key) }
	if name == kafka.TopicTransactionState {
		prefix = "transaction.state.log."
		configs = append(configs,
			ConfigValue{"compression.type", value("uncompressed")},
			ConfigValue{"min.insync.replicas", value(strconv.FormatInt(number(prefix+"min.isr"), 10))},
			ConfigValue{"unclean.leader.election.enable", value("false")})
	} else {
		configs = append(configs, ConfigValue{"compression.type", value("producer")})
	}
	configs = append(configs, ConfigValue{"segment.bytes", value(strconv.FormatInt(number(prefix+"segment.bytes"), 10))})
	registered := len(d.image.Brokers())
	factor := min(int(number(prefix+"replication.factor")), max(registered, d.c.opts.ExpectedBrokers))
	if factor > registered {
		return NewTopic{}, status(kafka.ErrInvalidReplicationFactor,
			fmt.Sprintf("Topic %s waits for %d brokers, and %d have registered.", name, factor, registered))
	}
	return NewTopic{Name: name, Partitions: int32(number(prefix + "num.partitions")), ReplicationFactor: int16(factor), Configs: configs}, Status{}
}

func (d *draft) deleteTopics(r DeleteTopics) DeleteTopicsResult {
	var result DeleteTopicsResult
	enabled := d.c.opts.Configs.BrokerBool(d.image, "delete.topic.enable")
	times := map[TopicRef]int{}
	asked := map[TopicRef]TopicRef{} // how the request names a topic: by its name, by its id or by both
	full := make([]DeletedTopic, len(r.Topics))
	for i, ref := range r.Topics {
		full[i] = d.findTopic(ref)
		if r.Again && i < len(r.Known) {
			full[i].deletedAgain(ref, r.Known[i])
		}
		topic := full[i].TopicRef
		times[topic]++
		as := asked[topic]
		asked[topic] = TopicRef{Name: cmp.Or(as.Name, ref.Name), ID: cmp.Or(as.ID, ref.ID)}
	}
	for _, answer := range full {
		n := times[answer.TopicRef]
		if n == 0 {
			continue // answered already
		}
		if n > 1 {
			times[answer.TopicRef] = 0
			answer = DeletedTopic{TopicRef: asked[answer.TopicRef], Status: status(kafka.ErrInvalidRequest, fmt.Sprintf("The topic is in the request %d times.", n))}
		}
		if answer.Error == kafka.None && d.image.Topic(answer.ID) == nil {
			result.Topics = append(result.Topics, answer) // it is gone already
			continue
		}
		if answer.Error == kafka.None && !enabled {
			answer.Status = status(kafka.ErrTopicDeletionDisabled, "Topics may not be deleted here: delete.topic.enable is false.")
		}
		if answer.Error == kafka.None {
			d.records = append(d.records, &metadata.RemoveTopicRecord{ID: answer.ID})
			d.event(Event{Kind: "topic deleted", Topic: answer.Name, Partition: metadata.WholeTopic, Node: kafka.NoNode, Detail: "id " + answer.ID.String(), Cause: "a client asked for it"})
		}
		result.Topics = append(result.Topics, answer)
	}
	return result
}

// deletedAgain is the answer for a topic whose deletion was asked for before.
// One that is gone since then is deleted. One that has come since is another:
// whether it was to be deleted nobody can tell but the client.
func (t *DeletedTopic) deletedAgain(ref TopicRef, known kafka.TopicID) {
	switch {
	case !known.IsZero() && (t.Error == kafka.ErrUnknownTopicOrPartition || t.Error == kafka.ErrUnknownTopicID):
		t.TopicRef, t.Status = TopicRef{ref.Name, known}, Status{}
	case t.Error == kafka.None && t.ID != known:
		t.TopicRef, t.Status = ref, status(kafka.ErrRequestTimedOut,
			fmt.Sprintf("The controller was lost while it deleted topic %q, and there is another of that name now.", ref.Name))
	}
}

func (d *draft) findTopic(ref TopicRef) DeletedTopic {
	answer := DeletedTopic{TopicRef: ref}
	var t *metadata.Topic
	switch {
	case ref.Name != "" && !ref.ID.IsZero():
		answer.Status = status(kafka.ErrInvalidRequest, "A topic is named by its name or by its id, not by both.")
		return answer
	case !ref.ID.IsZero():
		if t = d.image.Topic(ref.ID); t == nil {
			answer.Status = status(kafka.ErrUnknownTopicID, fmt.Sprintf("There is no topic with id %s.", ref.ID))
			return answer
		}
	default:
		if t = d.image.TopicByName(ref.Name); t == nil {
			answer.Status = status(kafka.ErrUnknownTopicOrPartition, fmt.Sprintf("There is no topic %q.", ref.Name))
			return answer
		}
	}
	answer.TopicRef = TopicRef{t.Name, t.ID}
	return answer
}

func (d *draft) createPartitions(r CreatePartitions) CreatePartitionsResult {
	times := map[string]int{}
	for _, t := range r.Topics {
		times[t.Name]++
	}
	var result CreatePartitionsResult
	left := partitionsPerRequestMax
	for _, t := range r.Topics {
		answer := TopicStatus{Name: t.Name}
		switch n := times[t.Name]; {
		case n == 0:
			continue // answered already
		case n > 1:
			times[t.Name] = 0
			answer.Status = status(kafka.ErrInvalidRequest, fmt.Sprintf("Topic %q is in the request %d times.", t.Name, n))
		default:
			answer.Status = d.morePartitions(t, r.ValidateOnly, &left)
			if found := d.image.TopicByName(t.Name); answer.Error == kafka.ErrInvalidPartitions && r.Again && t.added(found) {
				answer.Status = Status{} // the answer was lost with its controller
			}
		}
		result.Topics = append(result.Topics, answer)
	}
	return result
}

// added says whether a topic has become what the request asks for since it came.
func (m *MorePartitions) added(t *metadata.Topic) bool {
	if m.Had <= 0 || m.Had >= m.Count || int(m.Count) != len(t.Partitions) {
		return false
	}
	for i, nodes := range m.Assignment {
		if at := int(m.Had) + i; at >= len(t.Partitions) || !slices.Equal(t.Partitions[at].Replicas, nodes) {
			return false
		}
	}
	return true
}

func (d *draft) morePartitions(want MorePartitions, validateOnly bool, left *int) Status {
	t := d.image.TopicByName(want.Name)
	if t == nil {
		return status(kafka.ErrUnknownTopicOrPartition, fmt.Sprintf("There is no topic %q.", want.Name))
	}
	have := int32(len(t.Partitions))
	if want.Count <= have {
		return status(kafka.ErrInvalidPartitions, fmt.Sprintf("The topic has %d partitions; %d would not be more.", have, want.Count))
	}
	more := want.Count - have
	if int(more) > *left {
		return status(kafka.ErrPolicyViolation, fmt.Sprintf("The request would create more than %d partitions.", partitionsPerRequestMax))
	}
	first := t.Partitions[0]
	factor := len(without(first.Replicas, func(n kafka.NodeID) bool { return slices.Contains(first.Removing, n) }))
	var replicas [][]kafka.NodeID
	var s Status
	switch {
	case want.Assignment == nil:
		replicas, s = d.place(t.Partitions[have-1], have, more, factor)
	case len(want.Assignment) != int(more):
		s = status(kafka.ErrInvalidReplicaAssignment,
			fmt.Sprintf("There are %d partitions to add, but replicas for %d were given.", more, len(want.Assignment)))
	default:
		for _, nodes := range want.Assignment {
			replicas = append(replicas, slices.Clone(nodes))
		}
		s = d.checkAssignments(replicas, int(have), factor)
	}
	if s.Error != kafka.None || validateOnly {
		return s
	}
	*left -= int(more)
	for i, nodes := range replicas {
		d.setPartition(t.ID, have+int32(i), d.newPartition(nodes))
	}
	d.event(Event{Kind: "partitions added", Topic: t.Name, Partition: metadata.WholeTopic, Node: kafka.NoNode,
		Detail: fmt.Sprintf("partitions %d to %d", have, want.Count), Cause: "a client asked for it"})
	return Status{}
}

// sentence is an error as a message for humans.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

package group

import (
	"maps"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// committed is a committed offset, or one that will be when its transaction
// commits.
type committed struct {
	offset      kafka.Offset
	leaderEpoch kafka.LeaderEpoch
	metadata    string
	committedAt int64 // milliseconds since 1970
	expiresAt   int64 // milliseconds since 1970; -1 leaves it to the retention
	topicID     kafka.TopicID
	seq         int64 // of the record; the later commit wins
}

// offsetCommit decides over offsets that a member, or somebody outside of any
// group membership, commits.
func (s *Shard) offsetCommit(r *OffsetCommit) Response {
	g := s.groups[r.Group]
	if g == nil {
		if r.Generation >= 0 {
			if r.Version >= 9 {
				return r.Refuse(kafka.ErrGroupIDNotFound)
			}
			return r.Refuse(kafka.ErrIllegalGeneration)
		}
	} else if code := s.mayCommit(g, r); code != kafka.None {
		return r.Refuse(code)
	}
	expires := int64(-1)
	if r.RetentionMs >= 0 && r.Version >= 2 && r.Version <= 4 {
		expires = s.now.UnixMilli() + r.RetentionMs
	}
	return &OffsetCommitResponse{Codes: s.store(r.Group, r.Offsets, expires, nil, unknownTopic(r.Version))}
}

// mayCommit says whether the group takes the commit, and counts it as a sign
// of life of the member.
func (s *Shard) mayCommit(g *group, r *OffsetCommit) kafka.ErrorCode {
	if mutant.On(mutant.CommitFromAnyone) {
		return kafka.None
	}
	if g.consumer != nil {
		code := g.consumer.mayCommit(r.Version, r.MemberID, r.InstanceID, r.Generation, false)
		if code == kafka.ErrStaleMemberEpoch && s.keptSince(g.consumer.members[r.MemberID], r.Generation, r.Offsets) {
			return kafka.None
		}
		return code
	}
	c := g.classic
	if code := c.mayCommit(r.MemberID, r.InstanceID, r.Generation, false); code != kafka.None {
		return code
	}
	if m := c.members[r.MemberID]; m != nil && !m.isNew {
		s.touch(g, m)
	}
	return kafka.None
}

// mayCommit is the rule of the classic protocol. Without a member id only an
// empty group takes commits, except from transactions, whose older clients
// have no way to say who they are.
func (c *classicGroup) mayCommit(memberID, instanceID string, generation int32, txn bool) kafka.ErrorCode {
	switch {
	case generation < 0 && c.state == stateEmpty:
		return kafka.None
	case generation >= 0 || memberID != "" || instanceID != "":
		if code := c.check(memberID, instanceID); code != kafka.None {
			return code
		}
		if generation != c.generation {
			return kafka.ErrIllegalGeneration
		}
	case !txn && c.state != stateEmpty:
		return kafka.ErrUnknownMemberID
	}
	if !txn && c.state == stateCompleting && !mutant.On(mutant.CommitWhileMade) {
		return kafka.ErrRebalanceInProgress
	}
	return kafka.None
}

// unknownTopic is the code for a topic that is not there.
func unknownTopic(version int16) kafka.ErrorCode {
	if version >= 10 {
		return kafka.ErrUnknownTopicID
	}
	return kafka.ErrUnknownTopicOrPartition
}

// store makes the records of a commit; it returns a code for each offset. A topic
// may have been deleted since the request found it, and its offsets removed: what
// came behind that would be of the next one of its name.
func (s *Shard) store(group string, list []OffsetToCommit, expires int64, p *Producer, gone kafka.ErrorCode) []kafka.ErrorCode {
	codes := make([]kafka.ErrorCode, len(list))
	values := make([]offsets.OffsetCommitValue, len(list))
	s.out.Records = slices.Grow(s.out.Records, len(list))
	for i := range list {
		o := &list[i]
		if len(o.Metadata) > s.opts.OffsetMetadataMax {
			codes[i] = kafka.ErrOffsetMetadataTooLarge
			continue
		}
		if t, ok := s.topics.ByName(o.Topic); !o.TopicID.IsZero() && s.topics != (noTopics{}) && (!ok || t.ID != o.TopicID) {
			codes[i] = gone
			continue
		}
		values[i] = offsets.OffsetCommitValue{
			Offset: o.Offset, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata,
			CommitTimestamp: s.now.UnixMilli(), ExpireTimestamp: expires, TopicID: o.TopicID,
		}
		s.out.Records = append(s.out.Records, Record{
			Data:     offsets.OffsetCommit{Group: group, Topic: o.Topic, Partition: o.Partition, Value: &values[i]},
			Producer: p,
		})
	}
	return codes
}

// offsetFetch reads committed offsets; what is not known has offset -1.
func (s *Shard) offsetFetch(r *OffsetFetch) Response {
	g := s.groups[r.Group]
	if g != nil && g.consumer != nil {
		if code := g.consumer.mayFetch(r.MemberID, r.MemberEpoch); code != kafka.None {
			return r.Refuse(code)
		}
	}
	resp := &OffsetFetchResponse{}
	if r.All {
		if g != nil && !mutant.On(mutant.AllOffsetsUntold) {
			resp.Topics = g.fetchAll(r.RequireStable)
		}
		return resp
	}
	resp.Topics = make([]FetchedTopic, len(r.Topics))
	for i, t := range r.Topics {
		resp.Topics[i] = FetchedTopic{Topic: t.Topic, TopicID: t.TopicID, Partitions: make([]FetchedOffset, len(t.Partitions))}
		for j, p := range t.Partitions {
			resp.Topics[i].Partitions[j] = g.fetch(t.Topic, p, r.RequireStable)
		}
	}
	return resp
}

func (g *group) fetchAll(requireStable bool) []FetchedTopic {
	topics := make([]FetchedTopic, 0, len(g.offsets))
	for _, name := range slices.Sorted(maps.Keys(g.offsets)) {
		t := FetchedTopic{Topic: name}
		for _, p := range slices.Sorted(maps.Keys(g.offsets[name])) {
			t.Partitions = append(t.Partitions, g.fetch(name, p, requireStable))
			t.TopicID = g.offsets[name][p].topicID
		}
		topics = append(topics, t)
	}
	return topics
}

func (g *group) fetch(topic string, partition int32, requireStable bool) FetchedOffset {
	f := FetchedOffset{Partition: partition, Offset: kafka.NoOffset, LeaderEpoch: kafka.NoLeaderEpoch}
	if g == nil {
		return f
	}
	if requireStable && g.isPending(kafka.TopicPartition{Topic: topic, Partition: partition}) {
		f.Err = kafka.ErrUnstableOffsetCommit
		return f
	}
	if o, ok := g.offsets[topic][partition]; ok {
		if f.Offset, f.LeaderEpoch, f.Metadata = o.offset, o.leaderEpoch, o.metadata; mutant.On(mutant.CommitMetadataLost) {
			f.Metadata = ""
		}
	}
	return f
}

// isPending says whether a transaction that is not over has an offset for the partition.
func (g *group) isPending(tp kafka.TopicPartition) bool {
	for _, p := range g.pending {
		if _, ok := p[tp]; ok {
			return true
		}
	}
	return false
}

// offsetDelete removes offsets of topics that nobody in the group reads (KIP-496).
func (s *Shard) offsetDelete(r *OffsetDelete) Response {
	if r.Group == "" {
		return r.Refuse(kafka.ErrInvalidGroupID)
	}
	g := s.groups[r.Group]
	if g == nil {
		return r.Refuse(kafka.ErrGroupIDNotFound)
	}
	if g.consumer == nil && g.classic.state != stateEmpty && g.classic.protocolType != protocolTypeConsumer {
		return r.Refuse(kafka.ErrNonEmptyGroup)
	}
	resp := &OffsetDeleteResponse{Codes: make([]kafka.ErrorCode, len(r.Partitions))}
	for i, tp := range r.Partitions {
		if g.isSubscribed(tp.Topic) && !mutant.On(mutant.DeleteReadOffsets) {
			resp.Codes[i] = kafka.ErrGroupSubscribedToTopic
			continue
		}
		if _, ok := g.offsets[tp.Topic][tp.Partition]; ok || g.isPending(tp) {
			s.record(offsets.OffsetCommit{Group: g.id, Topic: tp.Topic, Partition: tp.Partition})
		}
	}
	return resp
}

func (g *group) isSubscribed(topic string) bool {
	if g.consumer != nil {
		return g.consumer.isSubscribed(topic)
	}
	return g.classic.isSubscribed(topic)
}

// topicsDeleted removes the offsets of topics that are no more.
func (s *Shard) topicsDeleted(r *TopicsDeleted) {
	gone := make(map[string]bool, len(r.Topics))
	for _, topic := range r.Topics {
		gone[topic] = true
	}
	isGone := func(topic string, id kafka.TopicID) bool {
		t, ok := s.topics.ByName(topic)
		if gone[topic] { // there may be another of the name already
			return !ok || id != t.ID
		}
		return r.Unknown && (!ok || !id.IsZero() && id != t.ID)
	}
	for _, id := range s.groupIDs() {
		for _, tp := range s.groups[id].partitionsWithOffsets(isGone) {
			s.record(offsets.OffsetCommit{Group: id, Topic: tp.Topic, Partition: tp.Partition})
		}
	}
}

// partitionsWithOffsets lists the partitions with a committed or a pending
// offset of such a topic, in order.
func (g *group) partitionsWithOffsets(of func(topic string, id kafka.TopicID) bool) []kafka.TopicPartition {
	var list []kafka.TopicPartition
	for topic, partitions := range g.offsets {
		for p, o := range partitions {
			if of(topic, o.topicID) {
				list = append(list, kafka.TopicPartition{Topic: topic, Partition: p})
			}
		}
	}
	for _, pending := range g.pending {
		for tp, o := range pending {
			if of(tp.Topic, o.topicID) {
				list = append(list, tp)
			}
		}
	}
	slices.SortFunc(list, comparePartitions)
	return slices.Compact(list)
}

// expireOffsetsMax bounds the records of one round of expiry.
const expireOffsetsMax = 2000

// expireOffsets removes the offsets that are past their retention, and the
// empty groups that have none left.
func (s *Shard) expireOffsets(e timer) {
	next := s.opts.RetentionCheck
	for _, id := range s.groupIDs() {
		if len(s.out.Records) >= expireOffsetsMax {
			next = time.Second
			break
		}
		g := s.groups[id]
		expired, left := g.expired(s.now.UnixMilli(), s.opts.OffsetsRetention.Milliseconds())
		for _, tp := range expired {
			s.record(offsets.OffsetCommit{Group: id, Topic: tp.Topic, Partition: tp.Partition})
		}
		if len(expired) > 0 {
			s.event(EventOffsetsExpired, g, "", "offsets were older than offsets.retention.minutes")
		}
		if left == 0 && len(g.pending) == 0 && g.isEmpty() {
			s.tombstones(g)
			s.event(EventGroupDeleted, g, "", "it is empty and has no offsets")
		}
	}
	s.forgetProducers()
	s.schedule(e.kind, "", "", s.now.Add(next))
}

// isEmpty says whether the group has no members, nor anybody about to be one.
func (g *group) isEmpty() bool {
	if g.consumer != nil {
		return len(g.consumer.members) == 0
	}
	return g.classic.state == stateEmpty && len(g.classic.pending) == 0
}

// expired lists the offsets past their retention, in order, and counts the others.
func (g *group) expired(now, retentionMs int64) (list []kafka.TopicPartition, left int) {
	since, ok := g.retainedSince()
	for topic, partitions := range g.offsets {
		subscribed := !g.isEmpty() && g.isSubscribed(topic) && !mutant.On(mutant.ExpireLive)
		for p, o := range partitions {
			start := o.committedAt
			if since > start {
				start = since
			}
			old := ok && !subscribed && now-start >= retentionMs && !mutant.On(mutant.OffsetsKeptForever)
			if o.expiresAt >= 0 {
				old = ok && !subscribed && now >= o.expiresAt
			}
			tp := kafka.TopicPartition{Topic: topic, Partition: p}
			if old && !g.isPending(tp) {
				list = append(list, tp)
			} else {
				left++
			}
		}
	}
	slices.SortFunc(list, comparePartitions)
	return list, left
}

// retainedSince is the time from which the retention of an empty group's
// offsets counts, or 0 where each commit counts for itself. It is false when
// nothing may expire: the group has members whose topics are not known.
func (g *group) retainedSince() (since int64, ok bool) {
	c := g.classic
	switch {
	case g.consumer != nil:
		return 0, true
	case c.state == stateEmpty && c.protocolType != "" && !mutant.On(mutant.RetainFromCommit):
		return c.stateSince, true
	case c.state == stateEmpty:
		return 0, true
	}
	return 0, c.protocolType == protocolTypeConsumer && c.subscribedKnown && c.state == stateStable
}

func comparePartitions(a, b kafka.TopicPartition) int {
	switch {
	case a.Topic < b.Topic:
		return -1
	case a.Topic > b.Topic:
		return 1
	}
	return int(a.Partition) - int(b.Partition)
}

// applyOffset stores an offset, or notes it for the transaction's end.
func (s *Shard) applyOffset(d offsets.OffsetCommit, p *Producer) {
	tp := kafka.TopicPartition{Topic: d.Topic, Partition: d.Partition}
	if d.Value == nil {
		s.forgetOffset(d.Group, tp)
		return
	}
	g := s.ensure(d.Group)
	o := committed{
		offset: d.Value.Offset, leaderEpoch: d.Value.LeaderEpoch, metadata: d.Value.Metadata,
		committedAt: d.Value.CommitTimestamp, expiresAt: d.Value.ExpireTimestamp,
		topicID: d.Value.TopicID, seq: s.applied,
	}
	if p == nil {
		g.put(tp, o)
		return
	}
	s.putPending(g, p, tp, o)
}

func (g *group) put(tp kafka.TopicPartition, o committed) {
	if g.offsets == nil {
		g.offsets = map[string]map[int32]committed{}
	}
	if g.offsets[tp.Topic] == nil {
		g.offsets[tp.Topic] = map[int32]committed{}
	}
	if mutant.On(mutant.CommitNeverBack) && g.offsets[tp.Topic][tp.Partition].offset > o.offset {
		return
	}
	g.offsets[tp.Topic][tp.Partition] = o
}

func (s *Shard) forgetOffset(id string, tp kafka.TopicPartition) {
	g := s.groups[id]
	if g == nil {
		return
	}
	delete(g.offsets[tp.Topic], tp.Partition)
	if len(g.offsets[tp.Topic]) == 0 {
		delete(g.offsets, tp.Topic)
	}
	for producer, pending := range g.pending {
		delete(pending, tp)
		if len(pending) == 0 {
			s.closePending(g, producer)
		}
	}
}

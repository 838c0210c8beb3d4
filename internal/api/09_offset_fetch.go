package api

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
	"chronik/internal/core/metadata"
)

// OffsetFetch: v1-10
//
// Behaviour: committed offsets, -1 where there are none; unknown groups,
// topics and partitions are no error. Null topics means all that have an
// offset. What is asked for twice is answered once.
//
// Version notes: v2: null topics, error of the group; v5: leader epochs; v6:
// flexible; v7: require stable (KIP-447); v8: several groups (KIP-709); v9:
// member epochs; v10: topic ids, of which unknown ones are UNKNOWN_TOPIC_ID.
var offsetFetch = Handler{Key: 9, Name: "OffsetFetch", Min: 1, Max: 10, Serve: serveOffsetFetch}

func serveOffsetFetch(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.OffsetFetchRequest)
	if in.Version < 8 {
		s.fetchOffsetsOfOne(now, in, reply)
		return
	}
	image := s.Broker.Image()
	before := make(offsetsAsked)
	in.Groups = slices.DeleteFunc(in.Groups, func(g kmsg.OffsetFetchRequestGroup) bool {
		return g.Topics == nil && before.again(offsetAsked{group: g.Group, partition: -1})
	})
	asks := make([]*group.OffsetFetch, len(in.Groups))
	unknown := make([][]kmsg.OffsetFetchResponseGroupTopic, len(in.Groups))
	for i := range in.Groups {
		g := &in.Groups[i]
		ask := &group.OffsetFetch{Group: g.Group, MemberID: str(g.MemberID), MemberEpoch: g.MemberEpoch,
			RequireStable: in.RequireStable, All: g.Topics == nil}
		for j := range g.Topics {
			t := &g.Topics[j]
			t.Partitions = before.partitions(g.Group, t.Topic, t.TopicID, t.Partitions)
			name := t.Topic
			if in.Version >= 10 {
				topic := image.Topic(t.TopicID)
				if topic == nil {
					unknown[i] = append(unknown[i], unknownOffsets(t))
					continue
				}
				name = topic.Name
			}
			ask.Topics = append(ask.Topics, group.TopicToFetch{Topic: name, TopicID: t.TopicID, Partitions: t.Partitions})
		}
		asks[i] = ask
	}
	askGroups(s, now, asks, func(answers []*group.OffsetFetchResponse) {
		resp := kmsg.NewPtrOffsetFetchResponse()
		resp.Version = in.Version
		resp.Groups = make([]kmsg.OffsetFetchResponseGroup, len(answers))
		for i, r := range answers {
			out := &resp.Groups[i]
			out.Group, out.ErrorCode = in.Groups[i].Group, int16(r.Err)
			if r.Err == kafka.None {
				out.Topics = append(groupOffsets(image, in.Version, r.Topics), unknown[i]...)
			}
		}
		reply.respond(resp)
	})
}

// offsetAsked is an offset that a request asks for, or all of a group.
type offsetAsked struct {
	group, topic string
	id           kafka.TopicID
	partition    int32 // -1: all
}

// offsetsAsked is what a request has asked for already: that again is left out.
// An answer that repeats offsets, with what clients have noted beside them, as often
// as a request names them could be as large as a client likes.
type offsetsAsked map[offsetAsked]bool

func (o offsetsAsked) again(a offsetAsked) bool {
	before := o[a]
	o[a] = true
	return before
}

func (o offsetsAsked) partitions(group, topic string, id kafka.TopicID, numbers []int32) []int32 {
	return slices.DeleteFunc(numbers, func(n int32) bool { return n >= 0 && o.again(offsetAsked{group, topic, id, n}) })
}

func unknownOffsets(t *kmsg.OffsetFetchRequestGroupTopic) kmsg.OffsetFetchResponseGroupTopic {
	out := kmsg.OffsetFetchResponseGroupTopic{TopicID: t.TopicID}
	for _, number := range t.Partitions {
		p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = number, -1, -1, new(string)
		p.ErrorCode = int16(kafka.ErrUnknownTopicID)
		out.Partitions = append(out.Partitions, p)
	}
	return out
}

func groupOffsets(image *metadata.Image, version int16, topics []group.FetchedTopic) []kmsg.OffsetFetchResponseGroupTopic {
	out := make([]kmsg.OffsetFetchResponseGroupTopic, 0, len(topics))
	for i := range topics {
		t := &topics[i]
		to := kmsg.OffsetFetchResponseGroupTopic{Topic: t.Topic, TopicID: t.TopicID}
		if version >= 10 && t.TopicID.IsZero() {
			topic := image.TopicByName(t.Topic)
			if topic == nil {
				continue // offsets of a topic that is no more have no name here
			}
			to.TopicID = topic.ID
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			po := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			po.Partition, po.Offset, po.LeaderEpoch, po.ErrorCode = p.Partition, int64(p.Offset), int32(p.LeaderEpoch), int16(p.Err)
			po.Metadata = &p.Metadata
			to.Partitions = append(to.Partitions, po)
		}
		out = append(out, to)
	}
	return out
}

// fetchOffsetsOfOne serves the versions before v8, which ask for one group.
func (s *Server) fetchOffsetsOfOne(now time.Time, in *kmsg.OffsetFetchRequest, reply Reply) {
	ask := &group.OffsetFetch{Group: in.Group, MemberEpoch: -1, RequireStable: in.RequireStable, All: in.Version >= 2 && in.Topics == nil}
	before := make(offsetsAsked)
	for i := range in.Topics {
		t := &in.Topics[i]
		ask.Topics = append(ask.Topics, group.TopicToFetch{Topic: t.Topic, Partitions: before.partitions("", t.Topic, kafka.TopicID{}, t.Partitions)})
	}
	askGroup(s, now, ask, func(r *group.OffsetFetchResponse) {
		resp := kmsg.NewPtrOffsetFetchResponse()
		resp.Version, resp.ErrorCode = in.Version, int16(r.Err)
		topics := r.Topics
		if r.Err != kafka.None && in.Version < 2 {
			topics = refusedOffsets(ask, r.Err)
		}
		for i := range topics {
			t := &topics[i]
			out := kmsg.NewOffsetFetchResponseTopic()
			out.Topic = t.Topic
			for j := range t.Partitions {
				p := &t.Partitions[j]
				po := kmsg.NewOffsetFetchResponseTopicPartition()
				po.Partition, po.Offset, po.LeaderEpoch, po.ErrorCode = p.Partition, int64(p.Offset), int32(p.LeaderEpoch), int16(p.Err)
				po.Metadata = &p.Metadata
				out.Partitions = append(out.Partitions, po)
			}
			resp.Topics = append(resp.Topics, out)
		}
		reply.respond(resp)
	})
}

// refusedOffsets puts the group's error on each partition: v1 has no other place.
func refusedOffsets(ask *group.OffsetFetch, code kafka.ErrorCode) []group.FetchedTopic {
	var out []group.FetchedTopic
	for _, t := range ask.Topics {
		ft := group.FetchedTopic{Topic: t.Topic}
		for _, number := range t.Partitions {
			ft.Partitions = append(ft.Partitions, group.FetchedOffset{Partition: number, Offset: kafka.NoOffset, LeaderEpoch: kafka.NoLeaderEpoch, Err: code})
		}
		out = append(out, ft)
	}
	return out
}

package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
)

// OffsetCommit: v2-10
//
// Behaviour: topics are checked first, before the group, its generation or the
// member: UNKNOWN_TOPIC_OR_PARTITION, from v10 on UNKNOWN_TOPIC_ID. The rest
// is stored or refused by the coordinator.
//
// Version notes: v2-4: retention time; v6: leader epoch; v7: instance id; v8:
// flexible; v9: member epochs (KIP-848); v10: topic ids (KIP-848).
var offsetCommit = Handler{Key: 8, Name: "OffsetCommit", Min: 2, Max: 10, Serve: serveOffsetCommit}

func serveOffsetCommit(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.OffsetCommitRequest)
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = in.Version
	image := s.Broker.Image()
	ask := &group.OffsetCommit{Version: in.Version, Group: in.Group, MemberID: in.MemberID, InstanceID: str(in.InstanceID),
		Generation: in.Generation, RetentionMs: -1}
	if in.Version <= 4 {
		ask.RetentionMs = in.RetentionTimeMillis
	}
	var asked []*kmsg.OffsetCommitResponseTopicPartition
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(in.Topics))
	for i := range in.Topics {
		t, out := &in.Topics[i], &resp.Topics[i]
		out.Topic, out.TopicID = t.Topic, t.TopicID
		out.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
		topic, unknown := findTopic(image, in.Version >= 10, t.TopicID, t.Topic)
		for j := range t.Partitions {
			p, po := &t.Partitions[j], &out.Partitions[j]
			po.Partition = p.Partition
			switch {
			case topic == nil:
				po.ErrorCode = int16(unknown)
			case topic.Partition(p.Partition) == nil:
				po.ErrorCode = int16(kafka.ErrUnknownTopicOrPartition)
			default:
				ask.Offsets = append(ask.Offsets, group.OffsetToCommit{Topic: topic.Name, TopicID: topic.ID, Partition: p.Partition,
					Offset: kafka.Offset(p.Offset), LeaderEpoch: kafka.LeaderEpoch(p.LeaderEpoch), Metadata: str(p.Metadata)})
				asked = append(asked, po)
			}
		}
	}
	if len(asked) == 0 {
		reply.respond(resp)
		return
	}
	askGroup(s, now, ask, func(r *group.OffsetCommitResponse) {
		for i, code := range r.Codes {
			asked[i].ErrorCode = int16(code)
		}
		reply.respond(resp)
	})
}

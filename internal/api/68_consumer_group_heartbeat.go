package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
	"chronik/internal/format/offsets"
)

// ConsumerGroupHeartbeat: v0-1 (KIP-848)
//
// Behaviour: joins, keeps up and leaves; the answer has an assignment when it
// changed. An instance id or rack that is empty: INVALID_REQUEST.
//
// Version notes: v1: pattern of topics, the client makes the member id
// (KIP-1082).
var consumerGroupHeartbeat = Handler{Key: 68, Name: "ConsumerGroupHeartbeat", Min: 0, Max: 1, Serve: serveConsumerGroupHeartbeat}

func serveConsumerGroupHeartbeat(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ConsumerGroupHeartbeatRequest)
	if in.InstanceID != nil && *in.InstanceID == "" || in.RackID != nil && *in.RackID == "" {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.Version, resp.ErrorCode = in.Version, int16(kafka.ErrInvalidRequest)
		resp.ErrorMessage = text("an instance id or a rack is null or has a character at least")
		reply.respond(resp)
		return
	}
	ask := &group.ConsumerGroupHeartbeat{
		Version: in.Version, Group: in.Group, MemberID: in.MemberID, MemberEpoch: in.MemberEpoch,
		InstanceID: str(in.InstanceID), RackID: str(in.RackID),
		ClientID: req.Header.ClientID, ClientHost: clientHost(req.Client),
		RebalanceTimeoutMs: in.RebalanceTimeoutMillis, SubscribedTopicNames: in.SubscribedTopicNames,
		SubscribedTopicRegex: in.SubscribedTopicRegex, ServerAssignor: str(in.ServerAssignor),
	}
	if in.Topics != nil {
		ask.Owned = make([]offsets.TopicPartitions, len(in.Topics))
		for i := range in.Topics {
			ask.Owned[i] = offsets.TopicPartitions{TopicID: in.Topics[i].TopicID, Partitions: in.Topics[i].Partitions}
		}
	}
	askGroup(s, now, ask, func(r *group.ConsumerGroupHeartbeatResponse) {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.Version = in.Version
		resp.ErrorCode, resp.ErrorMessage = int16(r.Err), text(r.Message)
		resp.MemberID, resp.MemberEpoch, resp.HeartbeatIntervalMillis = text(r.MemberID), r.MemberEpoch, r.HeartbeatIntervalMs
		if r.Err == kafka.None && r.HasAssignment {
			a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
			for _, t := range r.Assignment {
				a.Topics = append(a.Topics, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{TopicID: t.TopicID, Partitions: t.Partitions})
			}
			resp.Assignment = &a
		}
		reply.respond(resp)
	})
}

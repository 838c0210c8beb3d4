package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
)

// ConsumerGroupDescribe: v0-1 (KIP-848)
//
// Behaviour: a group that does not exist or is of another kind:
// GROUP_ID_NOT_FOUND; the empty name: INVALID_GROUP_ID. A member without a
// pattern of topics has an empty one. A group named twice is answered once.
//
// Version notes: v1: whether a member speaks the classic protocol (KIP-1099).
var consumerGroupDescribe = Handler{Key: 69, Name: "ConsumerGroupDescribe", Min: 0, Max: 1, Serve: serveConsumerGroupDescribe}

func serveConsumerGroupDescribe(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ConsumerGroupDescribeRequest)
	groups := once(in.Groups)
	asks := make([]*group.ConsumerGroupDescribe, len(groups))
	for i, name := range groups {
		asks[i] = &group.ConsumerGroupDescribe{Group: name}
	}
	askGroups(s, now, asks, func(answers []*group.ConsumerGroupDescribeResponse) {
		resp := kmsg.NewPtrConsumerGroupDescribeResponse()
		resp.Version = in.Version
		for i, r := range answers {
			out := kmsg.NewConsumerGroupDescribeResponseGroup()
			out.Group, out.ErrorCode, out.ErrorMessage = groups[i], int16(r.Err), text(r.Message)
			if groups[i] == "" {
				out.ErrorCode, out.ErrorMessage = int16(kafka.ErrInvalidGroupID), nil
			}
			out.State, out.Epoch, out.AssignmentEpoch, out.AssignorName = r.State, r.Epoch, r.AssignmentEpoch, r.Assignor
			out.AuthorizedOperations = operationsNotAsked
			if in.IncludeAuthorizedOperations && r.Err == kafka.None {
				out.AuthorizedOperations = operationsOfGroup
			}
			for j := range r.Members {
				out.Members = append(out.Members, describedConsumer(&r.Members[j]))
			}
			resp.Groups = append(resp.Groups, out)
		}
		reply.respond(resp)
	})
}

func describedConsumer(m *group.DescribedConsumer) kmsg.ConsumerGroupDescribeResponseGroupMember {
	out := kmsg.NewConsumerGroupDescribeResponseGroupMember()
	out.MemberID, out.InstanceID, out.RackID = m.MemberID, text(m.InstanceID), text(m.RackID)
	out.MemberEpoch, out.ClientID, out.ClientHost = m.MemberEpoch, m.ClientID, m.ClientHost
	out.SubscribedTopics, out.SubscribedTopicRegex = m.SubscribedTopicNames, &m.SubscribedTopicRegex
	out.Assignment, out.TargetAssignment = namedPartitions(m.Assignment), namedPartitions(m.Target)
	out.MemberType = 1
	if m.Classic {
		out.MemberType = 0
	}
	return out
}

func namedPartitions(in []group.NamedPartitions) kmsg.Assignment {
	var out kmsg.Assignment
	for _, t := range in {
		out.TopicPartitions = append(out.TopicPartitions, kmsg.AssignmentTopicPartition{TopicID: t.TopicID, Topic: t.Topic, Partitions: t.Partitions})
	}
	return out
}

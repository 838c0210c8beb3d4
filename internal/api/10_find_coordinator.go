package api

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// FindCoordinator: v0-6
//
// Behaviour:
//   - a group's coordinator leads the partition of __consumer_offsets that the
//     group's id hashes to; the topic is made on the first request, which waits
//     for it
//   - waits for a decision on a lost coordinator, as Metadata does
//   - there are no transactions here: a transactional id is
//     TRANSACTIONAL_ID_AUTHORIZATION_FAILED, at which a producer gives up;
//     COORDINATOR_NOT_AVAILABLE would have it ask until its own time is up
//   - any other type: INVALID_REQUEST
//
// Version notes: v1: type; v3: flexible; v4: several keys (KIP-699); v6: share
// groups (KIP-932).
//
// Not implemented: transactions, share groups.
var findCoordinator = Handler{Key: 10, Name: "FindCoordinator", Min: 0, Max: 6, Serve: serveFindCoordinator}

const (
	coordinatesGroups       int8 = 0
	coordinatesTransactions int8 = 1
)

func serveFindCoordinator(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.FindCoordinatorRequest)
	keys := in.CoordinatorKeys
	if in.Version < 4 {
		keys = []string{in.CoordinatorKey}
	}
	a := &coordinatorAnswer{s: s, in: in, keys: keys, reply: reply}
	if in.CoordinatorType != coordinatesGroups {
		s.settled(now, a)
		return
	}
	s.groupsTopic(now, keys, func() { s.settled(now, a) })
}

type coordinatorAnswer struct {
	s     *Server
	in    *kmsg.FindCoordinatorRequest
	keys  []string
	reply Reply
	resp  *kmsg.FindCoordinatorResponse
}

func (a *coordinatorAnswer) build() {
	image := a.s.Broker.Image()
	topic := image.TopicByName(kafka.TopicConsumerOffsets)
	resp := kmsg.NewPtrFindCoordinatorResponse()
	resp.Version = a.in.Version
	for _, key := range a.keys {
		c := coordinatorOf(image, topic, a.in.CoordinatorType, key)
		if a.in.Version < 4 {
			resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
			if c.ErrorCode == 0 {
				resp.ErrorMessage = text("NONE") // as Kafka says it
			}
			resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
			continue
		}
		resp.Coordinators = append(resp.Coordinators, c)
	}
	a.resp = resp
}

func (a *coordinatorAnswer) names(gone func(kafka.NodeID) bool) bool {
	if a.in.Version < 4 {
		return gone(kafka.NodeID(a.resp.NodeID))
	}
	return slices.ContainsFunc(a.resp.Coordinators, func(c kmsg.FindCoordinatorResponseCoordinator) bool {
		return gone(kafka.NodeID(c.NodeID))
	})
}

func (a *coordinatorAnswer) send(time.Time) { a.reply.respond(a.resp) }

func coordinatorOf(image *metadata.Image, topic *metadata.Topic, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	out.Key, out.NodeID, out.Port, out.ErrorMessage = key, -1, -1, new(string)
	var broker *metadata.Broker
	code, message := kafka.ErrInvalidRequest, "there is no such type of coordinator here"
	switch kind {
	case coordinatesGroups:
		if broker, code = groupCoordinator(image, topic, key); broker == nil {
			message = "the coordinator's partition has no leader"
		}
	case coordinatesTransactions:
		code, message = kafka.ErrTransactionalIDAuthorizationFailed, "this broker has no transactions"
	}
	out.ErrorCode = int16(code)
	if broker == nil {
		out.ErrorMessage = &message
		return out
	}
	out.NodeID, out.Host, out.Port = int32(broker.ID), broker.Host, broker.Port
	return out
}

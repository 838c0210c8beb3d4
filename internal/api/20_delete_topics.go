package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// DeleteTopics: v1-6
//
// Behaviour:
//   - each topic is deleted or refused on its own; the answer comes when every
//     live broker knows of it
//   - a topic named twice, also by name and by id: one INVALID_REQUEST
//   - name and id in one entry, or neither: INVALID_REQUEST
//   - timeout 0: REQUEST_TIMED_OUT, and nothing is deleted
//
// Version notes: v4: flexible; v5: messages; v6: by id.
var deleteTopics = Handler{Key: 20, Name: "DeleteTopics", Min: 1, Max: 6, Serve: serveDeleteTopics}

func serveDeleteTopics(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DeleteTopicsRequest)
	resp := kmsg.NewPtrDeleteTopicsResponse()
	resp.Version = in.Version
	var ask controller.DeleteTopics
	for _, name := range in.TopicNames {
		ask.Topics = append(ask.Topics, controller.TopicRef{Name: name})
	}
	for i := range in.Topics {
		t := &in.Topics[i]
		id := kafka.TopicID(t.TopicID)
		switch {
		case t.Topic != nil && !id.IsZero():
			resp.Topics = append(resp.Topics, deletedTopic(t.Topic, id, kafka.ErrInvalidRequest, "a topic is named by its name or by its id, not by both"))
		case t.Topic == nil && id.IsZero():
			resp.Topics = append(resp.Topics, deletedTopic(nil, id, kafka.ErrInvalidRequest, "neither the name nor the id of the topic is given"))
		case t.Topic != nil && *t.Topic == "":
			resp.Topics = append(resp.Topics, deletedTopic(t.Topic, id, kafka.ErrUnknownTopicOrPartition, "no topic has an empty name"))
		case t.Topic != nil:
			ask.Topics = append(ask.Topics, controller.TopicRef{Name: *t.Topic})
		default:
			ask.Topics = append(ask.Topics, controller.TopicRef{ID: id})
		}
	}
	if len(ask.Topics) == 0 {
		reply.respond(resp)
		return
	}
	answer := func(r controller.DeleteTopicsResult, code kafka.ErrorCode) {
		if code != kafka.None {
			r.Topics = nil
			for _, ref := range ask.Topics {
				r.Topics = append(r.Topics, controller.DeletedTopic{TopicRef: ref, Status: controller.Status{Error: code}})
			}
		}
		for _, t := range r.Topics {
			name := &t.Name
			if t.Name == "" && !t.ID.IsZero() {
				name = nil
			}
			resp.Topics = append(resp.Topics, deletedTopic(name, t.ID, t.Error, t.Message))
		}
		reply.respond(resp)
	}
	if in.TimeoutMillis <= 0 {
		answer(controller.DeleteTopicsResult{}, kafka.ErrRequestTimedOut)
		return
	}
	control(s, now, ask, millis(in.TimeoutMillis), answer)
}

func deletedTopic(name *string, id kafka.TopicID, code kafka.ErrorCode, message string) kmsg.DeleteTopicsResponseTopic {
	out := kmsg.NewDeleteTopicsResponseTopic()
	out.Topic, out.TopicID, out.ErrorCode, out.ErrorMessage = name, id, int16(code), text(message)
	return out
}

package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// CreatePartitions: v0-3
//
// Behaviour:
//   - each topic is changed or refused on its own
//   - a topic named twice: one INVALID_REQUEST
//   - the present count, or fewer: INVALID_PARTITIONS
//   - timeout 0: REQUEST_TIMED_OUT, and nothing is changed
//
// Version notes: v2: flexible; v3: no change here (throttling, KIP-599).
var createPartitions = Handler{Key: 37, Name: "CreatePartitions", Min: 0, Max: 3, Serve: serveCreatePartitions}

func serveCreatePartitions(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.CreatePartitionsRequest)
	ask := controller.CreatePartitions{ValidateOnly: in.ValidateOnly, Topics: make([]controller.MorePartitions, len(in.Topics))}
	for i := range in.Topics {
		t := &in.Topics[i]
		more := controller.MorePartitions{Name: t.Topic, Count: t.Count}
		if t.Assignment != nil {
			more.Assignment = make([][]kafka.NodeID, len(t.Assignment))
			for j := range t.Assignment {
				more.Assignment[j] = nodes(t.Assignment[j].Replicas)
			}
		}
		ask.Topics[i] = more
	}
	answer := func(r controller.CreatePartitionsResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrCreatePartitionsResponse()
		resp.Version = in.Version
		if code != kafka.None {
			r.Topics = nil
			for i := range in.Topics {
				r.Topics = append(r.Topics, controller.TopicStatus{Name: in.Topics[i].Topic, Status: controller.Status{Error: code}})
			}
		}
		for _, t := range r.Topics {
			out := kmsg.NewCreatePartitionsResponseTopic()
			out.Topic, out.ErrorCode, out.ErrorMessage = t.Name, int16(t.Error), text(t.Message)
			resp.Topics = append(resp.Topics, out)
		}
		reply.respond(resp)
	}
	if in.TimeoutMillis <= 0 && len(in.Topics) > 0 {
		answer(controller.CreatePartitionsResult{}, kafka.ErrRequestTimedOut)
		return
	}
	control(s, now, ask, millis(in.TimeoutMillis), answer)
}

package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// ElectLeaders: v0-2
//
// Behaviour: has leaders elected (KIP-460). Without a list of topics, only
// those partitions are answered whose election was tried. An election type
// that is not known: INVALID_REQUEST. A refusal of the request is also that of
// each partition it names. Timeout 0: REQUEST_TIMED_OUT, and no election.
//
// Version notes: v0 elects preferred leaders only; v1: type, error at the top;
// v2: flexible.
var electLeaders = Handler{Key: 43, Name: "ElectLeaders", Min: 0, Max: 2, Serve: serveElectLeaders}

// Election types.
const (
	electPreferred int8 = 0
	electUnclean   int8 = 1
)

func serveElectLeaders(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ElectLeadersRequest)
	answer := func(r controller.ElectLeadersResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrElectLeadersResponse()
		resp.Version = in.Version
		if code == kafka.None {
			code = r.Error
		}
		resp.ErrorCode = int16(code)
		if code != kafka.None && len(r.Partitions) == 0 {
			for i := range in.Topics {
				for _, number := range in.Topics[i].Partitions {
					r.Partitions = append(r.Partitions, controller.PartitionStatus{Status: controller.Status{Error: code, Message: "the request was refused as a whole"},
						TopicPartition: kafka.TopicPartition{Topic: in.Topics[i].Topic, Partition: number}})
				}
			}
		}
		for _, p := range r.Partitions {
			if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != p.Topic {
				resp.Topics = append(resp.Topics, kmsg.ElectLeadersResponseTopic{Topic: p.Topic})
			}
			out := kmsg.NewElectLeadersResponseTopicPartition()
			out.Partition, out.ErrorCode, out.ErrorMessage = p.Partition, int16(p.Error), text(p.Message)
			t := &resp.Topics[len(resp.Topics)-1]
			t.Partitions = append(t.Partitions, out)
		}
		reply.respond(resp)
	}
	ask := controller.ElectLeaders{Unclean: in.Version >= 1 && in.ElectionType == electUnclean}
	if in.Version >= 1 && in.ElectionType != electPreferred && in.ElectionType != electUnclean {
		answer(controller.ElectLeadersResult{}, kafka.ErrInvalidRequest)
		return
	}
	if in.Topics != nil {
		ask.Partitions = []kafka.TopicPartition{}
		for i := range in.Topics {
			for _, number := range in.Topics[i].Partitions {
				ask.Partitions = append(ask.Partitions, kafka.TopicPartition{Topic: in.Topics[i].Topic, Partition: number})
			}
		}
	}
	if in.TimeoutMillis <= 0 {
		answer(controller.ElectLeadersResult{}, kafka.ErrRequestTimedOut)
		return
	}
	control(s, now, ask, millis(in.TimeoutMillis), answer)
}

package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// CreateTopics: v2-7
//
// Behaviour:
//   - each topic is created or refused on its own; the answer comes when every
//     live broker knows of it
//   - a topic named twice: one INVALID_REQUEST
//   - timeout 0: REQUEST_TIMED_OUT, and nothing is created
//
// Version notes: v4: partitions and replication factor may be -1 (KIP-464);
// v5: flexible, configs in the answer (KIP-525); v7: topic id.
var createTopics = Handler{Key: 19, Name: "CreateTopics", Min: 2, Max: 7, Serve: serveCreateTopics}

func serveCreateTopics(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.CreateTopicsRequest)
	ask := controller.CreateTopics{ValidateOnly: in.ValidateOnly, Topics: make([]controller.NewTopic, len(in.Topics))}
	for i := range in.Topics {
		t := &in.Topics[i]
		topic := controller.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor,
			Configs: configValues(t.Configs, func(c *kmsg.CreateTopicsRequestTopicConfig) (string, *string) { return c.Name, c.Value })}
		for j := range t.ReplicaAssignment {
			a := &t.ReplicaAssignment[j]
			topic.Assignment = append(topic.Assignment, controller.Assignment{Partition: a.Partition, Replicas: nodes(a.Replicas)})
		}
		ask.Topics[i] = topic
	}
	answer := func(r controller.CreateTopicsResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrCreateTopicsResponse()
		resp.Version = in.Version
		if code != kafka.None {
			r.Topics = nil
			seen := make(map[string]bool, len(in.Topics))
			for i := range in.Topics {
				if name := in.Topics[i].Topic; !seen[name] {
					seen[name] = true
					r.Topics = append(r.Topics, controller.CreatedTopic{Name: name, Status: controller.Status{Error: code}})
				}
			}
		}
		for i := range r.Topics {
			resp.Topics = append(resp.Topics, createdTopic(&r.Topics[i]))
		}
		reply.respond(resp)
	}
	if in.TimeoutMillis <= 0 && len(in.Topics) > 0 {
		answer(controller.CreateTopicsResult{}, kafka.ErrRequestTimedOut)
		return
	}
	control(s, now, ask, millis(in.TimeoutMillis), answer)
}

func createdTopic(t *controller.CreatedTopic) kmsg.CreateTopicsResponseTopic {
	out := kmsg.NewCreateTopicsResponseTopic()
	out.Topic, out.ErrorCode, out.ErrorMessage = t.Name, int16(t.Error), text(t.Message)
	out.NumPartitions, out.ReplicationFactor = -1, -1
	out.Configs = []kmsg.CreateTopicsResponseTopicConfig{}
	if t.Error != kafka.None {
		return out
	}
	out.TopicID, out.NumPartitions, out.ReplicationFactor = t.ID, t.Partitions, t.ReplicationFactor
	for i := range t.Configs {
		e := &t.Configs[i]
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.ReadOnly, c.Source, c.IsSensitive = e.Name, e.Value, e.ReadOnly, int8(e.Source), e.Sensitive
		out.Configs = append(out.Configs, c)
	}
	return out
}

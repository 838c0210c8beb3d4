package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// ListPartitionReassignments: v0
//
// Behaviour: the reassignments in progress, of the partitions named or, when
// the list is null, of all (KIP-455).
var listPartitionReassignments = Handler{Key: 46, Name: "ListPartitionReassignments", Min: 0, Max: 0, Serve: serveListPartitionReassignments}

func serveListPartitionReassignments(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ListPartitionReassignmentsRequest)
	var ask controller.ListPartitionReassignments
	if in.Topics != nil {
		ask.Partitions = []kafka.TopicPartition{}
		for i := range in.Topics {
			for _, number := range in.Topics[i].Partitions {
				ask.Partitions = append(ask.Partitions, kafka.TopicPartition{Topic: in.Topics[i].Topic, Partition: number})
			}
		}
	}
	control(s, now, ask, millis(in.TimeoutMillis), func(r controller.ListPartitionReassignmentsResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrListPartitionReassignmentsResponse()
		resp.Version = in.Version
		resp.ErrorCode = int16(code)
		for _, p := range r.Partitions {
			if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != p.Topic {
				resp.Topics = append(resp.Topics, kmsg.ListPartitionReassignmentsResponseTopic{Topic: p.Topic})
			}
			out := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
			out.Partition, out.Replicas = p.Partition, ids(p.Replicas)
			out.AddingReplicas, out.RemovingReplicas = ids(p.Adding), ids(p.Removing)
			t := &resp.Topics[len(resp.Topics)-1]
			t.Partitions = append(t.Partitions, out)
		}
		reply.respond(resp)
	})
}

package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// AlterPartitionReassignments: v0-1
//
// Behaviour: begins, replaces or (without replicas) cancels the reassignment
// of each partition on its own (KIP-455). A refusal of the request is also that
// of each partition it names. Timeout 0: REQUEST_TIMED_OUT, and nothing is done.
//
// Version notes: v1: changes of the replication factor may be refused
// (KIP-860).
var alterPartitionReassignments = Handler{Key: 45, Name: "AlterPartitionReassignments", Min: 0, Max: 1, Serve: serveAlterPartitionReassignments}

func serveAlterPartitionReassignments(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.AlterPartitionAssignmentsRequest)
	ask := controller.AlterPartitionReassignments{RefuseReplicationFactorChanges: in.Version >= 1 && !in.AllowReplicationFactorChange}
	for i := range in.Topics {
		for j := range in.Topics[i].Partitions {
			p := &in.Topics[i].Partitions[j]
			r := controller.Reassignment{TopicPartition: kafka.TopicPartition{Topic: in.Topics[i].Topic, Partition: p.Partition}}
			if p.Replicas != nil {
				r.Replicas = nodes(p.Replicas)
			}
			ask.Partitions = append(ask.Partitions, r)
		}
	}
	answer := func(r controller.AlterPartitionReassignmentsResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
		resp.Version = in.Version
		resp.AllowReplicationFactorChange = in.AllowReplicationFactorChange
		if code == kafka.None {
			code = r.Error
		}
		resp.ErrorCode, resp.ErrorMessage = int16(code), text(r.Message)
		if code != kafka.None && len(r.Partitions) == 0 {
			for _, p := range ask.Partitions {
				r.Partitions = append(r.Partitions, controller.PartitionStatus{TopicPartition: p.TopicPartition, Status: controller.Status{Error: code}})
			}
		}
		for _, p := range r.Partitions {
			if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != p.Topic {
				resp.Topics = append(resp.Topics, kmsg.AlterPartitionAssignmentsResponseTopic{Topic: p.Topic})
			}
			out := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			out.Partition, out.ErrorCode, out.ErrorMessage = p.Partition, int16(p.Error), text(p.Message)
			t := &resp.Topics[len(resp.Topics)-1]
			t.Partitions = append(t.Partitions, out)
		}
		reply.respond(resp)
	}
	if in.TimeoutMillis <= 0 && len(ask.Partitions) > 0 {
		answer(controller.AlterPartitionReassignmentsResult{}, kafka.ErrRequestTimedOut)
		return
	}
	control(s, now, ask, millis(in.TimeoutMillis), answer)
}

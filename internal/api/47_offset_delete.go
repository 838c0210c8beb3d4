package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
)

// OffsetDelete: v0 (KIP-496)
//
// Behaviour: removes committed offsets of partitions to which no member of the
// group subscribes. Partitions that do not exist: UNKNOWN_TOPIC_OR_PARTITION.
var offsetDelete = Handler{Key: 47, Name: "OffsetDelete", Min: 0, Max: 0, Serve: serveOffsetDelete}

func serveOffsetDelete(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.OffsetDeleteRequest)
	resp := kmsg.NewPtrOffsetDeleteResponse()
	resp.Version = in.Version
	image := s.Broker.Image()
	ask := &group.OffsetDelete{Group: in.Group}
	var asked []*kmsg.OffsetDeleteResponseTopicPartition
	topics := make([]kmsg.OffsetDeleteResponseTopic, len(in.Topics))
	for i := range in.Topics {
		t, out := &in.Topics[i], &topics[i]
		out.Topic, out.Partitions = t.Topic, make([]kmsg.OffsetDeleteResponseTopicPartition, len(t.Partitions))
		topic := image.TopicByName(t.Topic)
		for j := range t.Partitions {
			po := &out.Partitions[j]
			po.Partition = t.Partitions[j].Partition
			if topic.Partition(po.Partition) == nil {
				po.ErrorCode = int16(kafka.ErrUnknownTopicOrPartition)
				continue
			}
			ask.Partitions = append(ask.Partitions, kafka.TopicPartition{Topic: t.Topic, Partition: po.Partition})
			asked = append(asked, po)
		}
	}
	askGroup(s, now, ask, func(r *group.OffsetDeleteResponse) {
		resp.ErrorCode = int16(r.Err)
		if r.Err == kafka.None {
			for i, code := range r.Codes {
				asked[i].ErrorCode = int16(code)
			}
			resp.Topics = topics
		}
		reply.respond(resp)
	})
}

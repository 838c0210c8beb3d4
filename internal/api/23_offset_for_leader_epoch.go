package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// OffsetForLeaderEpoch: v2-4
//
// Behaviour: answers the largest epoch up to the one asked for, and where it
// ends in this leader's log (KIP-320); -1 and -1 for an epoch that is not known.
//
// Version notes: v3: replica id, ignored; v4: flexible.
var offsetForLeaderEpoch = Handler{Key: 23, Name: "OffsetForLeaderEpoch", Min: 2, Max: 4, Serve: serveOffsetForLeaderEpoch}

func serveOffsetForLeaderEpoch(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.OffsetForLeaderEpochRequest)
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	resp.Version = in.Version
	image := s.Broker.Image()
	for i := range in.Topics {
		t := &in.Topics[i]
		topic, unknown := findTopic(image, false, [16]byte{}, t.Topic)
		out := kmsg.NewOffsetForLeaderEpochResponseTopic()
		out.Topic = t.Topic
		for j := range t.Partitions {
			p := &t.Partitions[j]
			po := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			po.Partition, po.LeaderEpoch, po.EndOffset = p.Partition, -1, -1
			hosted, code := s.findPartition(now, topic, p.Partition, unknown)
			if code == kafka.None && p.CurrentLeaderEpoch < -1 {
				code = kafka.ErrFencedLeaderEpoch
			}
			if code == kafka.None {
				r := hosted.EpochEnd(kafka.LeaderEpoch(p.CurrentLeaderEpoch), kafka.LeaderEpoch(p.LeaderEpoch))
				if code = r.Code; code == kafka.None {
					po.LeaderEpoch, po.EndOffset = int32(r.LeaderEpoch), int64(r.EndOffset)
				}
			}
			po.ErrorCode = int16(code)
			out.Partitions = append(out.Partitions, po)
		}
		resp.Topics = append(resp.Topics, out)
	}
	reply.respond(resp)
}

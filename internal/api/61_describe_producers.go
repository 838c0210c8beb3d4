package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/host/partition"
)

// DescribeProducers: v0 (KIP-664)
//
// Behaviour: the producers that this node's replica of each partition knows,
// leader or not: tools compare them. An invalid name of a topic:
// INVALID_TOPIC_EXCEPTION. A partition named twice is answered once.
var describeProducers = Handler{Key: 61, Name: "DescribeProducers", Min: 0, Max: 0, Serve: serveDescribeProducers}

func serveDescribeProducers(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DescribeProducersRequest)
	resp := kmsg.NewPtrDescribeProducersResponse()
	resp.Version = in.Version
	image := s.Broker.Image()
	answered := make(map[*partition.Partition]bool)
	for i := range in.Topics {
		t := &in.Topics[i]
		topic, unknown := findTopic(image, false, [16]byte{}, t.Topic)
		if topic == nil && kafka.ValidTopicName(t.Topic) != nil {
			unknown = kafka.ErrInvalidTopicException
		}
		out := kmsg.NewDescribeProducersResponseTopic()
		out.Topic = t.Topic
		for _, number := range t.Partitions {
			po := kmsg.NewDescribeProducersResponseTopicPartition()
			po.Partition = number
			hosted, code := s.findPartition(now, topic, number, unknown)
			if po.ErrorCode = int16(code); topic == nil {
				po.ErrorMessage = text("there is no such topic")
			}
			if answered[hosted] {
				continue
			}
			if code == kafka.None {
				answered[hosted] = true
				for _, p := range hosted.Producers() {
					ap := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					ap.ProducerID, ap.ProducerEpoch, ap.LastSequence = int64(p.ProducerID), int32(p.ProducerEpoch), p.LastSequence
					ap.LastTimestamp, ap.CoordinatorEpoch, ap.CurrentTxnStartOffset = p.LastTimestamp, p.CoordinatorEpoch, int64(p.TxnStart)
					po.ActiveProducers = append(po.ActiveProducers, ap)
				}
			}
			out.Partitions = append(out.Partitions, po)
		}
		resp.Topics = append(resp.Topics, out)
	}
	reply.respond(resp)
}

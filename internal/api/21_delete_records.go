package api

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/host/partition"
)

// DeleteRecords: v0-2
//
// Behaviour:
//   - moves the log start of each partition on its own; the answer comes when
//     all live replicas have moved theirs, or the time is up
//   - below the log start: no error; -1: up to the high watermark
//   - internal topics: INVALID_TOPIC_EXCEPTION; compacted ones without delete:
//     POLICY_VIOLATION
//   - a partition named twice: the last one counts, one answer
//
// Version notes: v2: flexible.
var deleteRecords = Handler{Key: 21, Name: "DeleteRecords", Min: 0, Max: 2, Serve: serveDeleteRecords}

func serveDeleteRecords(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DeleteRecordsRequest)
	resp := kmsg.NewPtrDeleteRecordsResponse()
	resp.Version = in.Version
	image := s.Broker.Image()
	topics := lastOfEachPartition(in.Topics)
	resp.Topics = make([]kmsg.DeleteRecordsResponseTopic, len(topics))
	pending := new(atomic.Int32)
	pending.Store(1)
	finished := func() {
		if pending.Add(-1) == 0 {
			reply.respond(resp)
		}
	}
	for i := range topics {
		t := &topics[i]
		topic, unknown := findTopic(image, false, [16]byte{}, t.Topic)
		out := &resp.Topics[i]
		out.Topic, out.Partitions = t.Topic, make([]kmsg.DeleteRecordsResponseTopicPartition, len(t.Partitions))
		for j := range t.Partitions {
			p, po := &t.Partitions[j], &out.Partitions[j]
			po.Partition, po.LowWatermark = p.Partition, -1
			hosted, code := s.findPartition(now, topic, p.Partition, unknown)
			if topic != nil && kafka.IsInternalTopic(t.Topic) {
				code = kafka.ErrInvalidTopicException
			}
			if code != kafka.None {
				po.ErrorCode = int16(code)
				continue
			}
			pending.Add(1)
			hosted.DeleteRecords(now, kafka.Offset(p.Offset), min(max(millis(in.TimeoutMillis), time.Millisecond), clientWaitMax), func(r partition.DeleteRecordsResult) {
				if po.ErrorCode = int16(r.Code); r.Code == kafka.None {
					po.LowWatermark = int64(r.LowWatermark)
				}
				finished()
			})
		}
	}
	finished()
}

// lastOfEachPartition has each topic once with each of its partitions once, as
// it was named last.
func lastOfEachPartition(in []kmsg.DeleteRecordsRequestTopic) []kmsg.DeleteRecordsRequestTopic {
	topics := make([]kmsg.DeleteRecordsRequestTopic, 0, len(in))
	at, places := make(map[string]int, len(in)), make(map[kafka.TopicPartition]int)
	for i := range in {
		for _, p := range in[i].Partitions {
			if _, ok := at[in[i].Topic]; !ok {
				at[in[i].Topic] = len(topics)
				topics = append(topics, kmsg.DeleteRecordsRequestTopic{Topic: in[i].Topic})
			}
			t, key := &topics[at[in[i].Topic]], kafka.TopicPartition{Topic: in[i].Topic, Partition: p.Partition}
			if place, ok := places[key]; ok {
				t.Partitions[place] = p
				continue
			}
			places[key] = len(t.Partitions)
			t.Partitions = append(t.Partitions, p)
		}
	}
	return topics
}

package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/host/partition"
)

// ListOffsets: v1-11
//
// Behaviour:
//   - a timestamp of 0 and above: the first record that is not older
//   - the special timestamps -1 to -6, each from its version on; before that,
//     and anything lower: UNSUPPORTED_VERSION for the partition
//   - nothing is tiered: earliest local is earliest, and the offsets of the
//     tier are -1
//   - a partition named twice: INVALID_REQUEST, once
//
// Version notes:
//   - v2: isolation level; v4: leader epochs; v5: OFFSET_NOT_AVAILABLE, which
//     is LEADER_NOT_AVAILABLE before; v6: flexible; v7: -3 (KIP-734)
//   - v8: -4 (KIP-405); v9: -5 (KIP-1005); v10: timeout; v11: -6 (KIP-1023)
//   - the replica id is ignored: all are answered as consumers
var listOffsets = Handler{Key: 2, Name: "ListOffsets", Min: 1, Max: 11, Serve: serveListOffsets}

// timestampPendingUpload asks for the first offset that is to be tiered.
const timestampPendingUpload int64 = -6

func serveListOffsets(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ListOffsetsRequest)
	resp := kmsg.NewPtrListOffsetsResponse()
	resp.Version = in.Version
	image := s.Broker.Image()
	count := 0
	for i := range in.Topics {
		count += len(in.Topics[i].Partitions)
	}
	again := newNamedTwice(count)
	for i := range in.Topics {
		t := &in.Topics[i]
		for j := range t.Partitions {
			again.add(t.Topic, t.Partitions[j].Partition)
		}
	}
	resp.Topics = make([]kmsg.ListOffsetsResponseTopic, 0, len(in.Topics))
	for i := range in.Topics {
		t := &in.Topics[i]
		topic, unknown := findTopic(image, false, [16]byte{}, t.Topic)
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = t.Topic
		out.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, 0, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			twice, told := again.twice(t.Topic, p.Partition)
			if told {
				continue
			}
			po := kmsg.NewListOffsetsResponseTopicPartition()
			po.Partition, po.Timestamp, po.Offset, po.LeaderEpoch = p.Partition, -1, -1, -1
			if twice {
				po.ErrorCode = int16(kafka.ErrInvalidRequest)
			} else {
				s.listOffset(now, in, topic, unknown, p, &po)
			}
			out.Partitions = append(out.Partitions, po)
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	reply.respond(resp)
}

func (s *Server) listOffset(now time.Time, in *kmsg.ListOffsetsRequest, topic *metadata.Topic, unknown kafka.ErrorCode,
	p *kmsg.ListOffsetsRequestTopicPartition, out *kmsg.ListOffsetsResponseTopicPartition) {
	if !hasTimestamp(in.Version, p.Timestamp) {
		out.ErrorCode = int16(kafka.ErrUnsupportedVersion)
		return
	}
	hosted, code := s.findPartition(now, topic, p.Partition, unknown)
	if code == kafka.None && (in.IsolationLevel < 0 || in.IsolationLevel > 1) {
		code = kafka.ErrInvalidRequest
	}
	if code == kafka.None && p.CurrentLeaderEpoch < -1 {
		code = kafka.ErrFencedLeaderEpoch
	}
	if code != kafka.None {
		out.ErrorCode = int16(code)
		return
	}
	timestamp := p.Timestamp
	switch timestamp {
	case kafka.TimestampEarliestLocal:
		timestamp = kafka.TimestampEarliest
	case kafka.TimestampLatestTiered, timestampPendingUpload:
		timestamp = kafka.TimestampEarliest // for the checks alone
	}
	r := hosted.ListOffsets(now, partition.ListOffsetsRequest{
		Timestamp:          timestamp,
		Isolation:          partition.Isolation(in.IsolationLevel),
		ReplicaID:          partition.NoReplicaID,
		CurrentLeaderEpoch: kafka.LeaderEpoch(p.CurrentLeaderEpoch),
	})
	if r.Code == kafka.ErrOffsetNotAvailable && in.Version < 5 {
		r.Code = kafka.ErrLeaderNotAvailable
	}
	out.ErrorCode = int16(r.Code)
	if r.Code != kafka.None || p.Timestamp == kafka.TimestampLatestTiered || p.Timestamp == timestampPendingUpload {
		return
	}
	out.Offset, out.Timestamp, out.LeaderEpoch = int64(r.Offset), r.Timestamp, int32(r.LeaderEpoch)
}

// hasTimestamp says whether the version knows the special timestamp.
func hasTimestamp(version int16, timestamp int64) bool {
	switch timestamp {
	case kafka.TimestampMax:
		return version >= 7
	case kafka.TimestampEarliestLocal:
		return version >= 8
	case kafka.TimestampLatestTiered:
		return version >= 9
	case timestampPendingUpload:
		return version >= 11
	}
	return timestamp >= kafka.TimestampEarliest
}

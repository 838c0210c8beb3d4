package api

import (
	"cmp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
)

// DescribeTopicPartitions: v0 (KIP-966)
//
// Behaviour:
//   - topics come sorted by name and each once; none named means all
//   - at most as many partitions as the request and
//     max.request.partition.size.limit allow, at least one; the cursor of the
//     answer says where to go on
//   - waits for a decision on a lost leader, as Metadata does
//   - a cursor that names none of the topics asked for, or a negative
//     partition: INVALID_REQUEST for every topic; one past the end of its topic
//     finds no partitions there and goes on with the next topic
var describeTopicPartitions = Handler{Key: 75, Name: "DescribeTopicPartitions", Min: 0, Max: 0, Serve: serveDescribeTopicPartitions}

// describedPartitionsMax is Kafka's max.request.partition.size.limit.
const describedPartitionsMax = 2000

func serveDescribeTopicPartitions(s *Server, now time.Time, req *Request, reply Reply) {
	s.settled(now, &partitionsAnswer{s: s, in: req.Body.(*kmsg.DescribeTopicPartitionsRequest), reply: reply})
}

type partitionsAnswer struct {
	s     *Server
	in    *kmsg.DescribeTopicPartitionsRequest
	reply Reply
	resp  *kmsg.DescribeTopicPartitionsResponse
}

func (a *partitionsAnswer) build() { a.resp = describeTopics(a.s.Broker.Image(), a.in) }

func (a *partitionsAnswer) names(gone func(kafka.NodeID) bool) bool {
	for i := range a.resp.Topics {
		for j := range a.resp.Topics[i].Partitions {
			if gone(kafka.NodeID(a.resp.Topics[i].Partitions[j].LeaderID)) {
				return true
			}
		}
	}
	return false
}

func (a *partitionsAnswer) send(time.Time) { a.reply.respond(a.resp) }

func describeTopics(image *metadata.Image, in *kmsg.DescribeTopicPartitionsRequest) *kmsg.DescribeTopicPartitionsResponse {
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	resp.Version = in.Version
	names := topicsToDescribe(image, in)
	var from string
	var number int32
	if c := in.Cursor; c != nil {
		from, number = c.Topic, c.Partition
		if len(in.Topics) > 0 && !slices.Contains(names, from) || number < 0 {
			for _, name := range names {
				resp.Topics = append(resp.Topics, describedTopic(name, kafka.ErrInvalidRequest))
			}
			return resp
		}
	}
	room := min(max(int(in.ResponsePartitionLimit), 1), describedPartitionsMax)
	for _, name := range names {
		if name < from {
			continue
		}
		if name != from {
			number = 0
		}
		topic := image.TopicByName(name)
		if topic == nil {
			code := kafka.ErrUnknownTopicOrPartition
			if kafka.ValidTopicName(name) != nil {
				code = kafka.ErrInvalidTopicException
			}
			resp.Topics = append(resp.Topics, describedTopic(name, code))
			continue
		}
		first := min(int(number), len(topic.Partitions))
		last := min(first+room, len(topic.Partitions))
		if room == 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: int32(first)}
			break
		}
		out := describedTopic(name, kafka.None)
		out.TopicID, out.IsInternal = topic.ID, kafka.IsInternalTopic(name)
		for i := first; i < last; i++ {
			out.Partitions = append(out.Partitions, describedPartition(image, topic.Partitions[i], int32(i)))
		}
		resp.Topics = append(resp.Topics, out)
		room -= last - first
		if last < len(topic.Partitions) && !mutant.On(mutant.CursorUntold) {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: int32(last)}
			break
		}
	}
	return resp
}

// topicsToDescribe are the names that the request asks for, sorted.
func topicsToDescribe(image *metadata.Image, in *kmsg.DescribeTopicPartitionsRequest) []string {
	var names []string
	if len(in.Topics) == 0 {
		for _, t := range image.Topics() {
			names = append(names, t.Name)
		}
		return names
	}
	for i := range in.Topics {
		names = append(names, in.Topics[i].Topic)
	}
	slices.SortFunc(names, cmp.Compare[string])
	return slices.Compact(names)
}

func describedTopic(name string, code kafka.ErrorCode) kmsg.DescribeTopicPartitionsResponseTopic {
	out := kmsg.NewDescribeTopicPartitionsResponseTopic()
	out.Topic, out.ErrorCode, out.AuthorizedOperations = &name, int16(code), operationsNotAsked
	if code != kafka.ErrInvalidRequest {
		out.AuthorizedOperations = operationsOfTopic
	}
	return out
}

func describedPartition(image *metadata.Image, p *metadata.Partition, number int32) kmsg.DescribeTopicPartitionsResponseTopicPartition {
	out := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
	out.Partition, out.LeaderID, out.LeaderEpoch = number, int32(p.Leader), int32(p.LeaderEpoch)
	out.Replicas, out.ISR = ids(p.Replicas), ids(p.InSync)
	out.EligibleLeaderReplicas, out.LastKnownELR = ids(p.EligibleLeader), []int32{}
	if p.LastLeader != kafka.NoNode && p.Leader == kafka.NoNode {
		out.LastKnownELR = []int32{int32(p.LastLeader)}
	}
	out.OfflineReplicas = ids(offline(image, p))
	if p.Leader == kafka.NoNode || !live(image, p.Leader) {
		out.LeaderID = int32(kafka.NoNode) // and no error, other than in Metadata
	}
	return out
}

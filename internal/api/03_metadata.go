package api

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

// Metadata: v0-13
//
// Behaviour:
//   - brokers that are fenced are left out; a partition whose leader is among
//     them has no leader and LEADER_NOT_AVAILABLE
//   - an answer that would name a leader whose process seems to have ended
//     waits for the decision on that, half a second at most
//   - a topic named twice comes back once
//   - a topic that does not exist is UNKNOWN_TOPIC_OR_PARTITION, also when the
//     request has it created; a later request finds it
//   - an invalid name: INVALID_TOPIC_EXCEPTION
//   - a topic with neither name nor id, or with an id where those may not be
//     used yet: INVALID_REQUEST for every topic, and nothing of the cluster
//   - a request that has ids is answered for those alone; names in it are
//     ignored
//
// Version notes:
//   - v0: no topics means all of them; from v1 on null does
//   - v4: the client may forbid creation; v5: offline replicas; v7: leader epoch
//   - v8: authorized operations; v9: flexible; v10: topic ids, by which v12 may
//     ask; v13: error at the top
var metadataHandler = Handler{Key: 3, Name: "Metadata", Min: 0, Max: 13, Serve: serveMetadata}

// Authorized operations (KIP-430) as a bit each, for those who may do all. The
// bits are the numbers of AclOperation.
const (
	operationsOfTopic   int32 = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	operationsOfCluster int32 = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	operationsNotAsked  int32 = -1 << 31
)

func serveMetadata(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.MetadataRequest)
	if refusesTopics(in) {
		reply.respond(refusedMetadata(in, kafka.ErrInvalidRequest))
		return
	}
	s.settled(now, &metadataAnswer{s: s, in: in, reply: reply})
}

// metadataAnswer is the answer to a request that is well formed.
type metadataAnswer struct {
	s      *Server
	in     *kmsg.MetadataRequest
	reply  Reply
	resp   *kmsg.MetadataResponse
	create []string // topics to make, if that is wanted
}

func (a *metadataAnswer) build() {
	s, in, image := a.s, a.in, a.s.Broker.Image()
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version = in.Version
	resp.ClusterID = text(image.ClusterID())
	resp.ControllerID = int32(s.controller(image))
	resp.AuthorizedOperations = operationsNotAsked
	if in.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = operationsOfCluster
	}
	for _, b := range image.Brokers() {
		if !b.Fenced {
			rb := kmsg.NewMetadataResponseBroker()
			rb.NodeID, rb.Host, rb.Port, rb.Rack = int32(b.ID), b.Host, b.Port, text(b.Rack)
			resp.Brokers = append(resp.Brokers, rb)
		}
	}
	if in.Topics == nil || in.Version == 0 && len(in.Topics) == 0 {
		topics := image.Topics()
		resp.Topics = make([]kmsg.MetadataResponseTopic, 0, len(topics))
		for _, t := range topics {
			resp.Topics = append(resp.Topics, describeTopic(image, t, in))
		}
	} else {
		a.create = describeNamed(image, in, resp)
	}
	a.resp = resp
}

func (a *metadataAnswer) names(gone func(kafka.NodeID) bool) bool {
	for i := range a.resp.Topics {
		for j := range a.resp.Topics[i].Partitions {
			if gone(kafka.NodeID(a.resp.Topics[i].Partitions[j].Leader)) {
				return true
			}
		}
	}
	return false
}

func (a *metadataAnswer) send(now time.Time) {
	a.s.autoCreate(now, a.in, a.create)
	a.reply.respond(a.resp)
}

// controller is the broker that clients take for the controller: the active
// one where it is a live broker, else any live broker, since all of them pass
// requests on.
func (s *Server) controller(image *metadata.Image) kafka.NodeID {
	if b := image.Broker(s.Broker.Controller()); b != nil && !b.Fenced {
		return b.ID
	}
	if b := image.Broker(s.Broker.Node()); b != nil && !b.Fenced {
		return b.ID
	}
	for _, b := range image.Brokers() {
		if !b.Fenced {
			return b.ID
		}
	}
	return kafka.NoNode
}

// refusesTopics says whether a topic is named in a way that its version does
// not have.
func refusesTopics(in *kmsg.MetadataRequest) bool {
	for i := range in.Topics {
		byID := in.Topics[i].TopicID != [16]byte{}
		if in.Version < 12 && byID || in.Topics[i].Topic == nil && !byID {
			return true
		}
	}
	return false
}

// refusedMetadata is the answer to a request that is wrong as a whole.
func refusedMetadata(in *kmsg.MetadataRequest, code kafka.ErrorCode) *kmsg.MetadataResponse {
	resp := kmsg.NewPtrMetadataResponse()
	resp.Version, resp.ControllerID, resp.AuthorizedOperations = in.Version, int32(kafka.NoNode), operationsNotAsked
	if in.Version >= 13 {
		resp.ErrorCode = int16(code)
	}
	resp.Topics = make([]kmsg.MetadataResponseTopic, len(in.Topics))
	for i := range in.Topics {
		out := kmsg.NewMetadataResponseTopic()
		out.ErrorCode, out.Topic, out.TopicID = int16(code), in.Topics[i].Topic, in.Topics[i].TopicID
		if out.Topic == nil {
			out.Topic = new(string)
		}
		out.AuthorizedOperations = operationsNotAsked
		resp.Topics[i] = out
	}
	return resp
}

// describeNamed answers for the topics that the request names, and returns
// those that may be made.
func describeNamed(image *metadata.Image, in *kmsg.MetadataRequest, resp *kmsg.MetadataResponse) (create []string) {
	resp.Topics = make([]kmsg.MetadataResponseTopic, 0, len(in.Topics))
	byID := slices.ContainsFunc(in.Topics, func(t kmsg.MetadataRequestTopic) bool { return t.TopicID != [16]byte{} })
	type name struct {
		id   kafka.TopicID
		name string
	}
	seen := make(map[name]bool, len(in.Topics))
	for i := range in.Topics {
		t := &in.Topics[i]
		n := name{id: t.TopicID}
		if t.Topic != nil && n.id.IsZero() {
			n.name = *t.Topic
		}
		if seen[n] || byID && n.id.IsZero() {
			continue
		}
		seen[n] = true
		var topic *metadata.Topic
		var code kafka.ErrorCode
		if byID {
			topic, code = findTopic(image, true, t.TopicID, "")
		} else if topic, code = findTopic(image, false, t.TopicID, n.name); topic == nil {
			if kafka.ValidTopicName(n.name) != nil {
				code = kafka.ErrInvalidTopicException
			} else {
				create = append(create, n.name)
			}
		}
		if topic != nil {
			resp.Topics = append(resp.Topics, describeTopic(image, topic, in))
			continue
		}
		out := newTopicMetadata(in)
		out.ErrorCode, out.TopicID = int16(code), t.TopicID
		if !byID {
			out.Topic = t.Topic
		}
		out.IsInternal = kafka.IsInternalTopic(n.name)
		resp.Topics = append(resp.Topics, out)
	}
	return create
}

// autoCreate has topics created that a client asks for, if both sides want it.
// Nobody waits for it: the client asks again.
func (s *Server) autoCreate(now time.Time, in *kmsg.MetadataRequest, names []string) {
	if len(names) == 0 || in.Version >= 4 && !in.AllowAutoTopicCreation ||
		!s.Broker.Settings().BrokerBool(s.Broker.Image(), "auto.create.topics.enable") {
		return
	}
	s.Broker.At(now.Add(autoCreateDelay), func(now time.Time) {
		s.Broker.Control(now, controller.AutoCreateTopics{Names: names}, s.Limits.controlWait(), func(controller.Response, kafka.ErrorCode) {})
	})
}

// autoCreateDelay is how long topics that a client asks for are not there. A
// reader of segmentio/kafka-go asks for its topics when it joins a group, and
// again at once to see whether that changed later: one that was made in between
// it would never read. Who asks again does so after 100 ms or more.
const autoCreateDelay = 50 * time.Millisecond

func newTopicMetadata(in *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.AuthorizedOperations = operationsNotAsked
	if in.IncludeTopicAuthorizedOperations {
		out.AuthorizedOperations = operationsOfTopic
	}
	return out
}

// describeTopic is a topic as Metadata shows it.
func describeTopic(image *metadata.Image, t *metadata.Topic, in *kmsg.MetadataRequest) kmsg.MetadataResponseTopic {
	out := newTopicMetadata(in)
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, kafka.IsInternalTopic(t.Name)
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, len(t.Partitions))
	for i, p := range t.Partitions {
		op := &out.Partitions[i]
		op.Partition = int32(i)
		op.Leader, op.LeaderEpoch = int32(p.Leader), int32(p.LeaderEpoch)
		op.Replicas, op.ISR = ids(p.Replicas), ids(p.InSync)
		if mutant.On(mutant.ReplicasAsInSync) {
			op.ISR = ids(p.Replicas)
		}
		if !mutant.On(mutant.OfflineUntold) {
			op.OfflineReplicas = ids(offline(image, p))
		}
		switch {
		case p.Leader == kafka.NoNode || !live(image, p.Leader):
			op.Leader, op.ErrorCode = int32(kafka.NoNode), int16(kafka.ErrLeaderNotAvailable)
		case in.Version == 0 && len(op.OfflineReplicas) > 0:
			op.ErrorCode = int16(kafka.ErrReplicaNotAvailable)
		}
		if in.Version == 0 { // whose clients look every replica up in the list of brokers
			gone := func(n int32) bool { return !live(image, kafka.NodeID(n)) }
			op.Replicas, op.ISR = slices.DeleteFunc(op.Replicas, gone), slices.DeleteFunc(op.ISR, gone)
		}
	}
	return out
}

// live says whether clients can reach the broker, as far as is known.
func live(image *metadata.Image, n kafka.NodeID) bool {
	b := image.Broker(n)
	return b != nil && !b.Fenced
}

// offline are those of the replicas whose broker is not live or cannot use them.
func offline(image *metadata.Image, p *metadata.Partition) []kafka.NodeID {
	var out []kafka.NodeID
	for _, n := range p.Replicas {
		if !live(image, n) || p.IsUnfit(n) {
			out = append(out, n)
		}
	}
	return out
}

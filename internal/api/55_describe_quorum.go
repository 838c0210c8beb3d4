package api

import (
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// DescribeQuorum: v0-2
//
// Behaviour: the active controller's view of the metadata quorum, whichever
// node is asked; learners are its observers. Only __cluster_metadata-0 exists:
// unless that is asked for, once and alone, all is UNKNOWN_TOPIC_OR_PARTITION.
//
// Version notes: v1: time of the last fetch and of having caught up (KIP-836);
// v2: directory ids, peer addresses, error messages (KIP-853).
//
// Not implemented: times of fetches, since the leader pushes: both times are
// that of having caught up, or -1.
var describeQuorum = Handler{Key: 55, Name: "DescribeQuorum", Min: 0, Max: 2, Serve: serveDescribeQuorum}

const metadataTopic = "__cluster_metadata"

func serveDescribeQuorum(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DescribeQuorumRequest)
	control(s, now, controller.DescribeQuorum{}, 0, func(r controller.DescribeQuorumResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrDescribeQuorumResponse()
		resp.Version, resp.ErrorCode = in.Version, int16(code)
		if code != kafka.None {
			reply.respond(resp)
			return
		}
		resp.ErrorMessage = new(string)
		known := len(in.Topics) == 1 && in.Topics[0].Topic == metadataTopic && len(in.Topics[0].Partitions) == 1 && in.Topics[0].Partitions[0].Partition == 0
		for _, t := range in.Topics {
			rt := kmsg.NewDescribeQuorumResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rt.Partitions = append(rt.Partitions, quorumPartition(&r, known, p.Partition))
			}
			resp.Topics = append(resp.Topics, rt)
		}
		if known {
			resp.Nodes = quorumNodes(s, &r)
		}
		reply.respond(resp)
	})
}

func quorumPartition(r *controller.DescribeQuorumResult, known bool, partition int32) kmsg.DescribeQuorumResponseTopicPartition {
	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.Partition = partition
	if !known {
		p.ErrorCode = int16(kafka.ErrUnknownTopicOrPartition)
		p.ErrorMessage = text("only " + metadataTopic + "-0 has a quorum: ask for it alone")
		return p
	}
	p.LeaderID, p.LeaderEpoch, p.HighWatermark, p.ErrorMessage = int32(r.Leader), int32(r.Epoch), int64(r.HighWatermark), new(string)
	p.CurrentVoters, p.Observers = quorumReplicas(r.Voters), quorumReplicas(r.Learners)
	return p
}

func quorumReplicas(members []controller.QuorumMember) []kmsg.DescribeQuorumResponseTopicPartitionReplicaState {
	states := []kmsg.DescribeQuorumResponseTopicPartitionReplicaState{}
	for _, m := range members {
		state := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		state.ReplicaID, state.ReplicaDirectoryID, state.LogEndOffset = int32(m.Node), m.Directory, int64(m.End)
		state.LastFetchTimestamp, state.LastCaughtUpTimestamp = -1, -1
		if !m.CaughtUp.IsZero() {
			state.LastFetchTimestamp, state.LastCaughtUpTimestamp = m.CaughtUp.UnixMilli(), m.CaughtUp.UnixMilli()
		}
		states = append(states, state)
	}
	return states
}

// quorumNodes are the peer addresses of the members; clients cannot use them.
func quorumNodes(s *Server, r *controller.DescribeQuorumResult) []kmsg.DescribeQuorumResponseNode {
	image := s.Broker.Image()
	var nodes []kmsg.DescribeQuorumResponseNode
	for _, m := range slices.Concat(r.Voters, r.Learners) {
		b := image.Broker(m.Node)
		if b == nil || slices.ContainsFunc(nodes, func(n kmsg.DescribeQuorumResponseNode) bool { return n.NodeID == int32(b.ID) }) {
			continue
		}
		host, port := splitAddress(b.PeerAddress)
		n := kmsg.NewDescribeQuorumResponseNode()
		n.NodeID = int32(b.ID)
		n.Listeners = []kmsg.DescribeQuorumResponseNodeListener{{Name: "PEER", Host: host, Port: port}}
		nodes = append(nodes, n)
	}
	return nodes
}

func splitAddress(address string) (host string, port uint16) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return address, 0
	}
	n, _ := strconv.ParseUint(text, 10, 16)
	return host, uint16(n)
}

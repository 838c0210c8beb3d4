package main

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// describeQuorum asks who holds the metadata and who votes on them.
func describeQuorum(ctx context.Context, admin *administrator) (*kmsg.DescribeQuorumResponse, error) {
	request := kmsg.NewPtrDescribeQuorumRequest()
	request.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}}}
	quorum, err := kmsgRequest[*kmsg.DescribeQuorumResponse](ctx, admin, request)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(quorum.ErrorCode); err != nil {
		return nil, err
	}
	if len(quorum.Topics) != 1 || len(quorum.Topics[0].Partitions) != 1 {
		return nil, errors.New("the answer has no quorum in it")
	}
	return quorum, kerr.ErrorForCode(quorum.Topics[0].Partitions[0].ErrorCode)
}

// noController says whether the question for the quorum failed because nobody
// holds it. Every other error, a missing right or a broker that does not know
// the question, says nothing about the quorum.
func noController(err error) bool {
	for _, e := range []error{kerr.NotController, kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.BrokerNotAvailable, kerr.RequestTimedOut, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" // of the broker that was the controller
}

// waitForVoters waits until a node that was removed votes no longer: until
// then the quorum counts it as one that is down.
func waitForVoters(ctx context.Context, admin *administrator, id int32) error {
	for {
		quorum, err := describeQuorum(ctx, admin)
		if err == nil {
			voters := quorum.Topics[0].Partitions[0].CurrentVoters
			if !slices.ContainsFunc(voters, func(r kmsg.DescribeQuorumResponseTopicPartitionReplicaState) bool { return r.ReplicaID == id }) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return waitedFor(ctx, "node %d is removed, but still counts as a voter on the metadata, one that is down: lose no other node before `chronik cluster status` lists it no more", id)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

package main

import (
	"context"
	"fmt"
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
	if err == nil {
		err = kerr.ErrorForCode(quorum.ErrorCode)
	}
	return quorum, err
}

// waitForVoters waits until a node that was removed votes no longer: until
// then the quorum counts it as one that is down.
func waitForVoters(ctx context.Context, admin *administrator, id int32) error {
	for {
		quorum, err := describeQuorum(ctx, admin)
		if err == nil && len(quorum.Topics) == 1 && len(quorum.Topics[0].Partitions) == 1 {
			voters := quorum.Topics[0].Partitions[0].CurrentVoters
			if !slices.ContainsFunc(voters, func(r kmsg.DescribeQuorumResponseTopicPartitionReplicaState) bool { return r.ReplicaID == id }) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %d is removed, but still counts as a voter on the metadata, one that is down: lose no other node before `chronik cluster status` lists it no more", id)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

package traffic

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Partition is what a broker's metadata says of a partition.
type Partition struct {
	Leader     int // -1 where there is none
	Epoch      int32
	Replicas   []int32
	InSync     []int32
	Controller int // or any node that is alive, while there is none
	Brokers    int // nodes that are alive
}

// Partition asks the broker for a partition. A topic that it does not know is
// a *kerr.Error; a partition without a leader is not an error.
func (c *Conn) Partition(topic string, partition int32) (Partition, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 9, false
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	resp, err := c.Request(req)
	if err != nil {
		return Partition{}, err
	}
	m := resp.(*kmsg.MetadataResponse)
	if len(m.Topics) != 1 {
		return Partition{}, errors.New("metadata response without the topic")
	}
	if err := kerr.ErrorForCode(m.Topics[0].ErrorCode); err != nil {
		return Partition{}, err
	}
	for _, p := range m.Topics[0].Partitions {
		if p.Partition == partition {
			return Partition{Leader: int(p.Leader), Epoch: p.LeaderEpoch, Replicas: p.Replicas, InSync: p.ISR,
				Controller: int(m.ControllerID), Brokers: len(m.Brokers)}, nil
		}
	}
	return Partition{}, kerr.UnknownTopicOrPartition
}

// Quorum asks which nodes vote on the metadata, and which only follow them. One
// that lost its disk follows first, while its former self is still counted.
func (c *Conn) Quorum() (voters, learners []int32, err error) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	req.Version = 0
	req.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}}}
	resp, err := c.Request(req)
	if err != nil {
		return nil, nil, err
	}
	r := resp.(*kmsg.DescribeQuorumResponse)
	if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
		return nil, nil, err
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return nil, nil, errors.New("describe quorum response without the partition")
	}
	p := r.Topics[0].Partitions[0]
	for _, v := range p.CurrentVoters {
		voters = append(voters, v.ReplicaID)
	}
	for _, l := range p.Observers {
		learners = append(learners, l.ReplicaID)
	}
	return voters, learners, kerr.ErrorForCode(p.ErrorCode)
}

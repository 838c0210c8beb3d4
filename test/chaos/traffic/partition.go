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
	Controller int
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

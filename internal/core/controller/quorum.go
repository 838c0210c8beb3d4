package controller

import (
	"time"

	"chronik/internal/base/kafka"
)

// DescribeQuorum asks for the members of the metadata quorum. The host of the
// active controller answers it, which alone knows them.
type DescribeQuorum struct{}

// DescribeQuorumResult answers DescribeQuorum.
type DescribeQuorumResult struct {
	Leader           kafka.NodeID
	Epoch            kafka.LeaderEpoch
	HighWatermark    kafka.Offset // of the metadata log
	Voters, Learners []QuorumMember
}

// QuorumMember is one member of the metadata quorum.
type QuorumMember struct {
	Node      kafka.NodeID
	Directory [16]byte     // zero when its node is not registered
	End       kafka.Offset // of its metadata log; NoOffset when not known
	CaughtUp  time.Time    // when it was last known to have all that is committed; zero: not by this leader
}

func (DescribeQuorum) request()        {}
func (DescribeQuorumResult) response() {}

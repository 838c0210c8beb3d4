package group

import "chronik/internal/base/kafka"

// GroupID is the group that is asked about.
func (r *JoinGroup) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *SyncGroup) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *Heartbeat) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *LeaveGroup) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *OffsetCommit) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *TxnOffsetCommit) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *TxnMarker) GroupID() string { return "" }

// GroupID is the group that is asked about.
func (r *OffsetFetch) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *OffsetDelete) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *DescribeGroup) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *ListGroups) GroupID() string { return "" }

// GroupID is the group that is asked about.
func (r *DeleteGroup) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *TopicsDeleted) GroupID() string { return "" }

// GroupID is the group that is asked about.
func (r *ConsumerGroupHeartbeat) GroupID() string { return r.Group }

// GroupID is the group that is asked about.
func (r *ConsumerGroupDescribe) GroupID() string { return r.Group }

// Refuse makes the reply that refuses the request with code.
func (r *JoinGroup) Refuse(code kafka.ErrorCode) Response {
	return &JoinGroupResponse{Err: code, Generation: -1, MemberID: r.MemberID}
}

// Refuse makes the reply that refuses the request with code.
func (r *SyncGroup) Refuse(code kafka.ErrorCode) Response {
	return &SyncGroupResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *Heartbeat) Refuse(code kafka.ErrorCode) Response {
	return &HeartbeatResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *LeaveGroup) Refuse(code kafka.ErrorCode) Response {
	return &LeaveGroupResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *OffsetCommit) Refuse(code kafka.ErrorCode) Response {
	return &OffsetCommitResponse{Codes: sameCode(code, len(r.Offsets))}
}

// Refuse makes the reply that refuses the request with code.
func (r *TxnOffsetCommit) Refuse(code kafka.ErrorCode) Response {
	return &TxnOffsetCommitResponse{Codes: sameCode(code, len(r.Offsets))}
}

// Refuse makes the reply that refuses the request with code.
func (r *TxnMarker) Refuse(code kafka.ErrorCode) Response {
	return &TxnMarkerResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *OffsetFetch) Refuse(code kafka.ErrorCode) Response {
	return &OffsetFetchResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *OffsetDelete) Refuse(code kafka.ErrorCode) Response {
	return &OffsetDeleteResponse{Err: code, Codes: sameCode(code, len(r.Partitions))}
}

// Refuse makes the reply that refuses the request with code.
func (r *DescribeGroup) Refuse(code kafka.ErrorCode) Response {
	return &DescribeGroupResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *ListGroups) Refuse(code kafka.ErrorCode) Response {
	return &ListGroupsResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *DeleteGroup) Refuse(code kafka.ErrorCode) Response {
	return &DeleteGroupResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *TopicsDeleted) Refuse(code kafka.ErrorCode) Response {
	return &TopicsDeletedResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *ConsumerGroupHeartbeat) Refuse(code kafka.ErrorCode) Response {
	return &ConsumerGroupHeartbeatResponse{Err: code}
}

// Refuse makes the reply that refuses the request with code.
func (r *ConsumerGroupDescribe) Refuse(code kafka.ErrorCode) Response {
	return &ConsumerGroupDescribeResponse{Err: code}
}

func sameCode(code kafka.ErrorCode, n int) []kafka.ErrorCode {
	codes := make([]kafka.ErrorCode, n)
	if code != kafka.None {
		for i := range codes {
			codes[i] = code
		}
	}
	return codes
}

func (*JoinGroupResponse) isResponse()              {}
func (*SyncGroupResponse) isResponse()              {}
func (*HeartbeatResponse) isResponse()              {}
func (*LeaveGroupResponse) isResponse()             {}
func (*OffsetCommitResponse) isResponse()           {}
func (*TxnOffsetCommitResponse) isResponse()        {}
func (*TxnMarkerResponse) isResponse()              {}
func (*OffsetFetchResponse) isResponse()            {}
func (*OffsetDeleteResponse) isResponse()           {}
func (*DescribeGroupResponse) isResponse()          {}
func (*ListGroupsResponse) isResponse()             {}
func (*DeleteGroupResponse) isResponse()            {}
func (*TopicsDeletedResponse) isResponse()          {}
func (*ConsumerGroupHeartbeatResponse) isResponse() {}
func (*ConsumerGroupDescribeResponse) isResponse()  {}

// lengthMax is the greatest length of a name that fits into a record, with
// room for what is added to make a member id.
const lengthMax = 32<<10 - 64

// tooLong says whether a name in a request that leads to records cannot be
// stored.
func tooLong(req Request) bool {
	if len(req.GroupID()) > lengthMax {
		return true
	}
	names := [6]string{}
	switch r := req.(type) {
	case *JoinGroup:
		names = [6]string{r.MemberID, r.InstanceID, r.ClientID, r.ClientHost, r.ProtocolType}
		for i := range r.Protocols {
			if len(r.Protocols[i].Name) > lengthMax {
				return true
			}
		}
	case *ConsumerGroupHeartbeat:
		names = [6]string{r.MemberID, r.InstanceID, r.RackID, r.ClientID, r.ClientHost}
		if r.SubscribedTopicRegex != nil {
			names[5] = *r.SubscribedTopicRegex
		}
	}
	for _, n := range names {
		if len(n) > lengthMax {
			return true
		}
	}
	return false
}

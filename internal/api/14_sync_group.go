package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/core/group"
)

// SyncGroup: v0-5
//
// Behaviour: the leader brings the assignments; everybody's answer comes when
// they are stored.
//
// Version notes: v3: instance id; v4: flexible; v5: protocol type and name
// (KIP-559), without which INCONSISTENT_GROUP_PROTOCOL.
var syncGroup = Handler{Key: 14, Name: "SyncGroup", Min: 0, Max: 5, Serve: serveSyncGroup}

func serveSyncGroup(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.SyncGroupRequest)
	ask := &group.SyncGroup{Version: in.Version, Group: in.Group, MemberID: in.MemberID, InstanceID: str(in.InstanceID),
		Generation: in.Generation, ProtocolType: str(in.ProtocolType), ProtocolName: str(in.Protocol)}
	for i := range in.GroupAssignment {
		a := &in.GroupAssignment[i]
		ask.Assignments = append(ask.Assignments, group.Assignment{MemberID: a.MemberID, Data: a.MemberAssignment})
	}
	askGroup(s, now, ask, func(r *group.SyncGroupResponse) {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.Version, resp.ErrorCode = in.Version, int16(r.Err)
		resp.ProtocolType, resp.Protocol, resp.MemberAssignment = text(r.ProtocolType), text(r.ProtocolName), r.Assignment
		reply.respond(resp)
	})
}

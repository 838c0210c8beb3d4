package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/core/group"
)

// LeaveGroup: v0-5
//
// Behaviour: up to v2 one member, whose error is the answer's; from v3 on
// several, each with its own.
//
// Version notes: v3: members (KIP-345); v4: flexible; v5: reason (KIP-800).
var leaveGroup = Handler{Key: 13, Name: "LeaveGroup", Min: 0, Max: 5, Serve: serveLeaveGroup}

func serveLeaveGroup(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.LeaveGroupRequest)
	ask := &group.LeaveGroup{Version: in.Version, Group: in.Group}
	if in.Version <= 2 {
		ask.Members = []group.LeavingMember{{MemberID: in.MemberID}}
	}
	for i := range in.Members {
		m := &in.Members[i]
		ask.Members = append(ask.Members, group.LeavingMember{MemberID: m.MemberID, InstanceID: str(m.InstanceID), Reason: str(m.Reason)})
	}
	askGroup(s, now, ask, func(r *group.LeaveGroupResponse) {
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.Version, resp.ErrorCode = in.Version, int16(r.Err)
		for _, m := range r.Members {
			mo := kmsg.NewLeaveGroupResponseMember()
			mo.MemberID, mo.InstanceID, mo.ErrorCode = m.MemberID, text(m.InstanceID), int16(m.Err)
			resp.Members = append(resp.Members, mo)
		}
		reply.respond(resp)
	})
}

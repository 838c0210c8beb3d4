package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/core/group"
)

// Heartbeat: v0-4
//
// Behaviour: REBALANCE_IN_PROGRESS tells a member to join again.
//
// Version notes: v3: instance id; v4: flexible.
var heartbeat = Handler{Key: 12, Name: "Heartbeat", Min: 0, Max: 4, Serve: serveHeartbeat}

func serveHeartbeat(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.HeartbeatRequest)
	ask := &group.Heartbeat{Group: in.Group, MemberID: in.MemberID, InstanceID: str(in.InstanceID), Generation: in.Generation}
	askGroup(s, now, ask, func(r *group.HeartbeatResponse) {
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.Version, resp.ErrorCode = in.Version, int16(r.Err)
		reply.respond(resp)
	})
}

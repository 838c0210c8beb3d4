package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
)

// JoinGroup: v0-9
//
// Behaviour: the coordinator answers when the next generation stands. A protocol
// that is named twice is not offered; with no other, INCONSISTENT_GROUP_PROTOCOL.
//
// Version notes: v1: rebalance timeout; v4: MEMBER_ID_REQUIRED (KIP-394); v5:
// instance id (KIP-345); v6: flexible; v7: protocol type (KIP-559); v8: reason
// (KIP-800); v9: skip assignment (KIP-814).
var joinGroup = Handler{Key: 11, Name: "JoinGroup", Min: 0, Max: 9, Serve: serveJoinGroup}

func serveJoinGroup(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.JoinGroupRequest)
	ask := &group.JoinGroup{
		Version: in.Version, Group: in.Group, MemberID: in.MemberID, InstanceID: str(in.InstanceID),
		ClientID: req.Header.ClientID, ClientHost: clientHost(req.Client),
		SessionTimeoutMs: in.SessionTimeoutMillis, RebalanceTimeoutMs: in.RebalanceTimeoutMillis,
		ProtocolType: in.ProtocolType, Reason: str(in.Reason),
	}
	if in.Version == 0 {
		ask.RebalanceTimeoutMs = -1
	}
	times := make(map[string]int, len(in.Protocols))
	for i := range in.Protocols {
		times[in.Protocols[i].Name]++
	}
	for i := range in.Protocols {
		if times[in.Protocols[i].Name] > 1 {
			continue
		}
		ask.Protocols = append(ask.Protocols, group.Protocol{Name: in.Protocols[i].Name, Metadata: in.Protocols[i].Metadata})
	}
	askGroup(s, now, ask, func(r *group.JoinGroupResponse) {
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.Version = in.Version
		resp.ErrorCode, resp.Generation = int16(r.Err), r.Generation
		resp.ProtocolType, resp.Protocol = text(r.ProtocolType), text(r.ProtocolName)
		if resp.Protocol == nil && in.Version < 7 {
			resp.Protocol = new(string) // may be null from v7 on
		}
		resp.LeaderID, resp.MemberID, resp.SkipAssignment = r.Leader, r.MemberID, r.SkipAssignment
		for _, m := range r.Members {
			mo := kmsg.NewJoinGroupResponseMember()
			mo.MemberID, mo.InstanceID, mo.ProtocolMetadata = m.MemberID, text(m.InstanceID), m.Metadata
			resp.Members = append(resp.Members, mo)
		}
		if r.Err != kafka.None {
			resp.Members = nil
		}
		reply.respond(resp)
	})
}

// clientHost is the client's address as groups show it: Java writes a slash
// before it.
func clientHost(c *Client) string { return "/" + c.Host }

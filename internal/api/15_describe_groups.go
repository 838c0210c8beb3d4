package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
)

// DescribeGroups: v0-6
//
// Behaviour: an unknown group, or one of another kind, is Dead without an
// error up to v5, and GROUP_ID_NOT_FOUND from v6 on. A group named twice is
// answered once.
//
// Version notes: v3: authorized operations; v4: instance id; v5: flexible; v6:
// message (KIP-1043).
var describeGroups = Handler{Key: 15, Name: "DescribeGroups", Min: 0, Max: 6, Serve: serveDescribeGroups}

func serveDescribeGroups(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DescribeGroupsRequest)
	groups := once(in.Groups)
	asks := make([]*group.DescribeGroup, len(groups))
	for i, name := range groups {
		asks[i] = &group.DescribeGroup{Version: in.Version, Group: name}
	}
	askGroups(s, now, asks, func(answers []*group.DescribeGroupResponse) {
		resp := kmsg.NewPtrDescribeGroupsResponse()
		resp.Version = in.Version
		for i, r := range answers {
			out := kmsg.NewDescribeGroupsResponseGroup()
			out.Group, out.ErrorCode, out.ErrorMessage = groups[i], int16(r.Err), text(r.Message)
			out.State, out.ProtocolType, out.Protocol = r.State, r.ProtocolType, r.Protocol
			out.AuthorizedOperations = operationsNotAsked
			if in.IncludeAuthorizedOperations && r.Err == kafka.None {
				out.AuthorizedOperations = operationsOfGroup
			}
			for _, m := range r.Members {
				mo := kmsg.NewDescribeGroupsResponseGroupMember()
				mo.MemberID, mo.InstanceID, mo.ClientID, mo.ClientHost = m.MemberID, text(m.InstanceID), m.ClientID, m.ClientHost
				mo.ProtocolMetadata, mo.MemberAssignment = m.Metadata, m.Assignment
				out.Members = append(out.Members, mo)
			}
			resp.Groups = append(resp.Groups, out)
		}
		reply.respond(resp)
	})
}

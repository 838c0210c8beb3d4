package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/core/group"
)

// ListGroups: v0-5
//
// Behaviour: the groups that this node coordinates; filters ignore case, and
// states and types that do not exist match nothing.
//
// Version notes: v3: flexible; v4: states (KIP-518); v5: types (KIP-848).
var listGroups = Handler{Key: 16, Name: "ListGroups", Min: 0, Max: 5, Serve: serveListGroups}

func serveListGroups(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ListGroupsRequest)
	s.Broker.Groups().List(now, &group.ListGroups{States: in.StatesFilter, Types: in.TypesFilter}, func(r *group.ListGroupsResponse) {
		resp := kmsg.NewPtrListGroupsResponse()
		resp.Version, resp.ErrorCode = in.Version, int16(r.Err)
		for _, g := range r.Groups {
			out := kmsg.NewListGroupsResponseGroup()
			out.Group, out.ProtocolType, out.GroupState, out.GroupType = g.Group, g.ProtocolType, g.State, g.Type
			resp.Groups = append(resp.Groups, out)
		}
		reply.respond(resp)
	})
}

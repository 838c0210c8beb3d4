package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/core/group"
)

// DeleteGroups: v0-2
//
// Behaviour: each group is deleted or refused on its own: NON_EMPTY_GROUP,
// GROUP_ID_NOT_FOUND. A group named twice is answered once.
//
// Version notes: v2: flexible.
var deleteGroups = Handler{Key: 42, Name: "DeleteGroups", Min: 0, Max: 2, Serve: serveDeleteGroups}

func serveDeleteGroups(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DeleteGroupsRequest)
	groups := once(in.Groups)
	asks := make([]*group.DeleteGroup, len(groups))
	for i, name := range groups {
		asks[i] = &group.DeleteGroup{Group: name}
	}
	askGroups(s, now, asks, func(answers []*group.DeleteGroupResponse) {
		resp := kmsg.NewPtrDeleteGroupsResponse()
		resp.Version = in.Version
		for i, r := range answers {
			out := kmsg.NewDeleteGroupsResponseGroup()
			out.Group, out.ErrorCode = asks[i].Group, int16(r.Err)
			resp.Groups = append(resp.Groups, out)
		}
		reply.respond(resp)
	})
}

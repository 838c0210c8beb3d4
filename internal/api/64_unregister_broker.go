package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
)

// UnregisterBroker: v0
//
// Behaviour: the broker is forgotten: it leaves every in-sync set and the
// metadata quorum, and its process ends if it runs. Replicas that were placed
// on it stay placed there: move them away first. A broker that is not
// registered: BROKER_ID_NOT_REGISTERED. The only one that serves: INVALID_REQUEST.
// One that serves hands over what it leads first.
var unregisterBroker = Handler{Key: 64, Name: "UnregisterBroker", Min: 0, Max: 0, Serve: serveUnregisterBroker}

func serveUnregisterBroker(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.UnregisterBrokerRequest)
	control(s, now, controller.UnregisterBroker{Node: kafka.NodeID(in.BrokerID)}, 0, func(r controller.StatusResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrUnregisterBrokerResponse()
		resp.Version, resp.ErrorCode = in.Version, int16(code)
		if code == kafka.None {
			resp.ErrorCode, resp.ErrorMessage = int16(r.Error), &r.Message
		}
		reply.respond(resp)
	})
}

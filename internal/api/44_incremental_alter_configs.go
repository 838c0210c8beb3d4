package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

// IncrementalAlterConfigs: v0-1
//
// Behaviour: sets, deletes, appends to and subtracts from single configs
// (KIP-339). One bad config and nothing of its resource is changed; a resource
// named twice: INVALID_REQUEST for both.
//
// Version notes: v1: flexible.
var incrementalAlterConfigs = Handler{Key: 44, Name: "IncrementalAlterConfigs", Min: 0, Max: 1, Serve: serveIncrementalAlterConfigs}

func serveIncrementalAlterConfigs(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.IncrementalAlterConfigsRequest)
	ask := controller.IncrementalAlterConfigs{ValidateOnly: in.ValidateOnly, Resources: make([]controller.ResourceChanges, len(in.Resources))}
	for i := range in.Resources {
		r := &in.Resources[i]
		changes := make([]controller.ConfigChange, len(r.Configs))
		for j := range r.Configs {
			c := &r.Configs[j]
			changes[j] = controller.ConfigChange{ConfigValue: controller.ConfigValue{Name: c.Name, Value: c.Value}, Op: controller.ConfigOp(c.Op)}
		}
		ask.Resources[i] = controller.ResourceChanges{
			Resource: metadata.ConfigResource{Type: metadata.ResourceType(r.ResourceType), Name: r.ResourceName},
			Changes:  changes,
		}
	}
	control(s, now, ask, 0, func(r controller.AlterConfigsResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
		resp.Version = in.Version
		for i := range in.Resources {
			out := kmsg.NewIncrementalAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = in.Resources[i].ResourceType, in.Resources[i].ResourceName
			status := resourceStatus(r, i, code)
			out.ErrorCode, out.ErrorMessage = int16(status.Error), text(status.Message)
			resp.Resources = append(resp.Resources, out)
		}
		reply.respond(resp)
	})
}

package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

// AlterConfigs: v0-2
//
// Behaviour: replaces all configs of each resource by the given ones; a
// resource named twice: INVALID_REQUEST for both.
//
// Version notes: v2: flexible.
var alterConfigs = Handler{Key: 33, Name: "AlterConfigs", Min: 0, Max: 2, Serve: serveAlterConfigs}

func serveAlterConfigs(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.AlterConfigsRequest)
	ask := controller.AlterConfigs{ValidateOnly: in.ValidateOnly, Resources: make([]controller.ResourceConfigs, len(in.Resources))}
	for i := range in.Resources {
		r := &in.Resources[i]
		ask.Resources[i] = controller.ResourceConfigs{
			Resource: metadata.ConfigResource{Type: metadata.ResourceType(r.ResourceType), Name: r.ResourceName},
			Configs:  configValues(r.Configs, func(c *kmsg.AlterConfigsRequestResourceConfig) (string, *string) { return c.Name, c.Value }),
		}
	}
	control(s, now, ask, 0, func(r controller.AlterConfigsResult, code kafka.ErrorCode) {
		resp := kmsg.NewPtrAlterConfigsResponse()
		resp.Version = in.Version
		for i := range in.Resources {
			out := kmsg.NewAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName = in.Resources[i].ResourceType, in.Resources[i].ResourceName
			status := resourceStatus(r, i, code)
			out.ErrorCode, out.ErrorMessage = int16(status.Error), text(status.Message)
			resp.Resources = append(resp.Resources, out)
		}
		reply.respond(resp)
	})
}

// resourceStatus is the outcome of the i-th resource of a request to alter configs.
func resourceStatus(r controller.AlterConfigsResult, i int, code kafka.ErrorCode) controller.Status {
	switch {
	case code != kafka.None:
		return controller.Status{Error: code}
	case i >= len(r.Resources):
		return controller.Status{Error: kafka.ErrUnknownServerError}
	}
	return r.Resources[i].Status
}

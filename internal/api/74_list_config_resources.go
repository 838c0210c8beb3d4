package api

import (
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// ListConfigResources: v0-1
//
// Behaviour: all topics and live brokers, and the groups and client metrics
// subscriptions for which something was set. A type that is not known:
// UNSUPPORTED_VERSION.
//
// Version notes: v0 lists client metrics subscriptions only; v1: types, none
// of which means all (KIP-1142).
var listConfigResources = Handler{Key: 74, Name: "ListConfigResources", Min: 0, Max: 1, Serve: serveListConfigResources}

var listedResources = []metadata.ResourceType{metadata.ResourceTopic, metadata.ResourceBroker, metadata.ResourceBrokerLogger,
	metadata.ResourceClientMetrics, metadata.ResourceGroup}

func serveListConfigResources(s *Server, _ time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ListConfigResourcesRequest)
	resp := kmsg.NewPtrListConfigResourcesResponse()
	resp.Version = in.Version
	kinds := []metadata.ResourceType{metadata.ResourceClientMetrics}
	if in.Version >= 1 {
		kinds = nil
		for _, t := range in.ResourceTypes {
			kind := metadata.ResourceType(t)
			if !slices.Contains(listedResources, kind) {
				resp.ErrorCode = int16(kafka.ErrUnsupportedVersion)
				reply.respond(resp)
				return
			}
			if !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
		if len(kinds) == 0 {
			kinds = listedResources
		}
	}
	image := s.Broker.Image()
	for _, kind := range kinds {
		for _, name := range configResources(image, kind) {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = name, int8(kind)
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	reply.respond(resp)
}

func configResources(image *metadata.Image, kind metadata.ResourceType) []string {
	var out []string
	switch kind {
	case metadata.ResourceTopic:
		for _, t := range image.Topics() {
			out = append(out, t.Name)
		}
	case metadata.ResourceBroker, metadata.ResourceBrokerLogger:
		for _, b := range image.Brokers() {
			if !b.Fenced {
				out = append(out, strconv.Itoa(int(b.ID)))
			}
		}
	default:
		for _, r := range image.ConfigResources() {
			if r.Type == kind {
				out = append(out, r.Name)
			}
		}
	}
	return out
}

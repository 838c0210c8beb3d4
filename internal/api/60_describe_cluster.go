package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// DescribeCluster: v0-2
//
// Behaviour: the cluster's id, its live brokers, and the controller as clients
// see it.
//
// Version notes: v1: endpoint type: asked for controllers
// MISMATCHED_ENDPOINT_TYPE, for anything else UNSUPPORTED_ENDPOINT_TYPE; v2:
// fenced brokers on request (KIP-1073).
var describeCluster = Handler{Key: 60, Name: "DescribeCluster", Min: 0, Max: 2, Serve: serveDescribeCluster}

// Endpoint types of KIP-919.
const (
	endpointBrokers     int8 = 1
	endpointControllers int8 = 2
)

func serveDescribeCluster(s *Server, _ time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.DescribeClusterRequest)
	image := s.Broker.Image()
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.Version = in.Version
	resp.EndpointType, resp.ControllerID = endpointBrokers, int32(kafka.NoNode)
	resp.ClusterAuthorizedOperations = operationsNotAsked
	if in.Version >= 1 && in.EndpointType != endpointBrokers {
		code, message := kafka.ErrUnsupportedEndpointType, "endpoint type is not known"
		if in.EndpointType == endpointControllers {
			code, message = kafka.ErrMismatchedEndpointType, "this is a broker's endpoint and not a controller's"
		}
		resp.ErrorCode, resp.ErrorMessage = int16(code), text(message)
		reply.respond(resp)
		return
	}
	resp.ClusterID, resp.ControllerID = image.ClusterID(), int32(s.controller(image))
	if in.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = operationsOfCluster
	}
	for _, b := range image.Brokers() {
		if b.Fenced && !in.IncludeFencedBrokers {
			continue
		}
		rb := kmsg.NewDescribeClusterResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack, rb.IsFenced = int32(b.ID), b.Host, b.Port, text(b.Rack), b.Fenced
		resp.Brokers = append(resp.Brokers, rb)
	}
	reply.respond(resp)
}

package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// ApiVersions: v0-4
//
// Behaviour:
//   - lists the handlers of the table, and the features of the cluster
//   - any other version is answered with a v0 body, UNSUPPORTED_VERSION and the
//     range of this key alone (KIP-511); Server.Handle does that
//   - a client name or version outside of [a-zA-Z0-9.-], or that does not begin
//     and end with a letter or digit: INVALID_REQUEST (KIP-511)
//   - may be asked again at any time
//
// Version notes:
//   - v3: client software, features, flexible
//   - v4: features may have a minimum of 0 (KIP-1022)
//   - the response header never has tags
//
// Not implemented: v5 (KIP-1242).
var apiVersions = Handler{Key: 18, Name: "ApiVersions", Min: 0, Max: 4, Serve: serveAPIVersions}

// supportedFeature is a feature of KIP-584 that this software has.
type supportedFeature struct {
	name     string
	min, max int16
}

// supportedFeatures are finalized by the controller; a level of 0 in the
// image means that it is not in use. transaction.version stays below 2 until
// there is a transaction coordinator, or producers would skip
// AddPartitionsToTxn (KIP-890).
var supportedFeatures = []supportedFeature{
	{"metadata.version", 7, 30},
}

func serveAPIVersions(s *Server, _ time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ApiVersionsRequest)
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = in.Version
	if in.Version >= 3 {
		if !validSoftware(in.ClientSoftwareName) || !validSoftware(in.ClientSoftwareVersion) {
			resp.ErrorCode = int16(kafka.ErrInvalidRequest)
			reply.respond(resp)
			return
		}
		req.Client.SoftwareName, req.Client.SoftwareVersion = in.ClientSoftwareName, in.ClientSoftwareVersion
	}
	resp.ApiKeys = make([]kmsg.ApiVersionsResponseApiKey, 0, len(table))
	for i := range table {
		resp.ApiKeys = append(resp.ApiKeys, advertised(&table[i]))
	}
	if in.Version >= 3 {
		s.addFeatures(resp)
	}
	reply.respond(resp)
}

func (s *Server) addFeatures(resp *kmsg.ApiVersionsResponse) {
	image := s.Broker.Image()
	resp.FinalizedFeaturesEpoch = int64(image.Offset())
	for _, f := range supportedFeatures {
		if f.min > 0 || resp.Version >= 4 {
			resp.SupportedFeatures = append(resp.SupportedFeatures,
				kmsg.ApiVersionsResponseSupportedFeature{Name: f.name, MinVersion: f.min, MaxVersion: f.max})
		}
		if level := image.FeatureLevel(f.name); level > 0 {
			level = min(level, f.max)
			resp.FinalizedFeatures = append(resp.FinalizedFeatures,
				kmsg.ApiVersionsResponseFinalizedFeature{Name: f.name, MinVersionLevel: level, MaxVersionLevel: level})
		}
	}
}

func advertised(h *Handler) kmsg.ApiVersionsResponseApiKey {
	lowest := h.Min
	if h.Lowest {
		lowest = 0
	}
	return kmsg.ApiVersionsResponseApiKey{ApiKey: h.Key, MinVersion: lowest, MaxVersion: h.Max}
}

// unsupportedAPIVersions answers a version that is not served.
func unsupportedAPIVersions(h *Handler) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = int16(kafka.ErrUnsupportedVersion)
	resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{advertised(h)}
	return resp
}

// validSoftware says whether s matches [a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?.
func validSoftware(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || i == len(s)-1 || c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}

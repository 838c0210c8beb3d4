// Package api translates Kafka requests into calls on a broker, one file per
// API key, and the results back into Kafka responses.
package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/wire"
)

// Client is what handlers know of the connection that a request came on. The
// listener makes one per connection; handlers of one connection are called one
// after the other, so that they may set its fields.
type Client struct {
	ID       uint64 // unique while the process lives
	Host     string // the peer's IP address
	Listener string // the name of the listener that accepted it

	SoftwareName    string // from ApiVersions v3 and later; "" when not told
	SoftwareVersion string

	header  wire.Header // of the last request, so that the client id is kept
	refused refusedBatches
	fetched fetchHint
}

// Request is one decoded request.
type Request struct {
	Header wire.Header
	Body   kmsg.Request // slices in it alias the frame, which lives until Serve's reply is called
	Client *Client
}

// Answer ends a request.
type Answer struct {
	Response      kmsg.Response // nil: nothing is sent (produce with acks=0)
	CorrelationID int32         // of the request; Handle sets it
	Close         bool          // close the connection once everything before has been sent
	Err           error         // why it is to be closed; for the log
	Release       func()        // called after the response, or the records in it, have been sent, or dropped; may be nil
}

// Reply must be called exactly once for each request, from any goroutine, at
// once or later.
type Reply func(Answer)

// Handler serves the versions Min to Max of one API key.
type Handler struct {
	Key      int16
	Name     string
	Min, Max int16 // served
	Lowest   bool  // advertised from version 0 on, though Min is served (KAFKA-18659)
	Large    bool  // carries records: as large as a frame may be, not only as requestBytesMax
	Serve    func(s *Server, now time.Time, req *Request, reply Reply)
}

// respond ends a request with a response.
func (r Reply) respond(resp kmsg.Response) { r(Answer{Response: resp}) }

// text is a nullable string of a response: "" is null.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// ids are node ids as responses hold them.
func ids(nodes []kafka.NodeID) []int32 {
	out := make([]int32, len(nodes))
	for i, n := range nodes {
		out[i] = int32(n)
	}
	return out
}

// nodes are node ids as requests hold them.
func nodes(ids []int32) []kafka.NodeID {
	out := make([]kafka.NodeID, len(ids))
	for i, n := range ids {
		out[i] = kafka.NodeID(n)
	}
	return out
}

// millis is a duration as requests hold it; negative ones are none at all.
func millis(ms int32) time.Duration { return time.Duration(max(ms, 0)) * time.Millisecond }

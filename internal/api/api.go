// Package api translates Kafka requests into calls on a broker, one file per
// API key, and the results back into Kafka responses.
package api

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

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
}

// Request is one decoded request.
type Request struct {
	Header wire.Header
	Body   kmsg.Request // slices in it alias the frame, which lives until Serve's reply is called
	Client *Client
}

// Answer ends a request.
type Answer struct {
	Response kmsg.Response // nil: nothing is sent (produce with acks=0)
	Close    bool          // close the connection once everything before has been sent
	Release  func()        // called after the response has been encoded; may be nil
}

// Reply must be called exactly once for each request, from any goroutine, at
// once or later.
type Reply func(Answer)

// Handler serves the versions Min to Max of one API key.
type Handler struct {
	Key       int16
	Name      string
	Min, Max  int16 // served
	Advertise int16 // lowest advertised version; differs from Min for Produce only (KAFKA-18659)
	Serve     func(s *Server, now time.Time, req *Request, reply Reply)
}

// Package controller decides the metadata records that answer a request or a
// deadline that has passed. It is the active controller without its Raft
// group: the host appends what Decide returns and calls Apply.
package controller

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// Ticket is a number that the host chooses to recognise a request's reply.
type Ticket uint64

// Decision is what the caller must now do, in the order of the fields.
type Decision struct {
	Records []metadata.Record // append these as one atomic batch; may be empty
	Replies []Reply           // release when Records are committed; at once when there are none
	Wake    time.Time         // call Tick again by then; zero means no need
	Events  []Event           // what an operator wants to know; log when Records are committed
}

// Reply answers the request with the given ticket.
type Reply struct {
	Ticket   Ticket
	Response Response
}

// Event is one line for the operator's log: what changed, to what, and why.
type Event struct {
	Kind      string // past tense, constant: "leader changed", "broker fenced"
	Topic     string // "" where it does not apply
	Partition int32
	Node      kafka.NodeID
	Detail    string // from what to what
	Cause     string // why
}

// Request is one of the request types of this package.
type Request interface{ request() }

// Response is one of the response types of this package.
type Response interface{ response() }

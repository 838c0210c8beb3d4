package api

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/format/wire"
	"chronik/internal/host/broker"
	"chronik/internal/host/coordinator"
	"chronik/internal/host/deadline"
	"chronik/internal/host/fetchsession"
	"chronik/internal/host/partition"
)

// ErrUnsupported marks a request that is well formed and that this broker does
// not serve.
var ErrUnsupported = errors.New("api key or version is not served")

// errLarge marks a request that is larger than any that a client has use for.
var errLarge = errors.New("larger than requests of this kind are")

// requestBytesMax bounds requests that carry no records. What they ask for is
// some thirty times as large in memory: requests of the 100 MiB that a batch of
// records may have would take gigabytes each. A hundred thousand partitions
// take a tenth of this.
const requestBytesMax = 16 << 20

// errRefusedUnacked closes the connection of a producer with acks=0, which
// has no other way to learn of an error.
var errRefusedUnacked = errors.New("produce request with acks=0 was refused")

// Broker is what handlers ask of the node; [chronik/internal/host/broker.Broker] is one. All of it
// may be called from any goroutine.
type Broker interface {
	Node() kafka.NodeID
	Image() *metadata.Image
	Settings() *config.Resolver
	Controller() kafka.NodeID
	Doubts() *broker.Doubts
	Broken(peer kafka.NodeID) bool
	NoteBroken(peer kafka.NodeID, fn func(now time.Time))
	Partition(id kafka.TopicID, partition int32) *partition.Partition
	Control(now time.Time, req controller.Request, timeout time.Duration, reply func(controller.Response, kafka.ErrorCode))
	Groups() *coordinator.Groups
	NewProducerID(now time.Time, reply func(kafka.ProducerID, kafka.ErrorCode))
	At(t time.Time, fn func(now time.Time)) *deadline.Entry
	MayServe(now time.Time) bool
	Disk() (dir string, total, usable int64, err error)
}

// Server answers the requests of all connections of one node. Its fields are
// set before the first request and not changed afterwards.
type Server struct {
	Broker   Broker
	Sessions *fetchsession.Cache
	Limits   Limits
	Traffic  Traffic // may be nil

	// Defer, when not nil, has fn called soon on another goroutine. Parked
	// fetches use it, so that reading for consumers does not hold up whoever
	// moved the high watermark. Without it they read at once.
	Defer func(fn func(now time.Time))

	// Ahead, when not nil, may have fn called soon on another goroutine: it
	// reads what a consumer is going to ask for. Without it the handler does so
	// once it has answered.
	Ahead func(fn func())
}

// Limits bound what one request may ask for.
type Limits struct {
	FetchBytesMax   int           // of records in one fetch response (fetch.max.bytes); default 55 MiB
	ConfigsBytesMax int           // of configs in one response, about; default 64 MiB
	ControlWait     time.Duration // longest wait for the controller; default 30 s
}

func (l Limits) fetchBytesMax() int {
	if l.FetchBytesMax <= 0 {
		return 55 << 20
	}
	return l.FetchBytesMax
}

func (l Limits) configsBytesMax() int {
	if l.ConfigsBytesMax <= 0 {
		return 64 << 20
	}
	return l.ConfigsBytesMax
}

func (l Limits) controlWait() time.Duration {
	if l.ControlWait <= 0 {
		return 30 * time.Second
	}
	return l.ControlWait
}

// Traffic counts what producers and consumers move. Its methods are called
// from any goroutine and must not block.
type Traffic interface {
	Produced(topic string, bytes int, code kafka.ErrorCode)
	Fetched(topic string, bytes int, code kafka.ErrorCode)
}

// Handle serves one request frame (without its length), which it does not use
// after it has returned, though reply may be called later. Frames of one
// connection are handled one after the other.
func (s *Server) Handle(now time.Time, frame []byte, client *Client, reply Reply) {
	h := &client.header
	if err := h.Parse(frame); err != nil {
		reply(Answer{CorrelationID: h.CorrelationID, Close: true, Err: err})
		return
	}
	correlation := h.CorrelationID
	handler := lookup(h.Key)
	if handler == nil || h.Version < handler.Min || h.Version > handler.Max {
		if handler != nil && h.Key == int16(kmsg.ApiVersions) {
			reply(Answer{CorrelationID: correlation, Response: unsupportedAPIVersions(handler)})
			return
		}
		err := fmt.Errorf("key %d version %d: %w", h.Key, h.Version, ErrUnsupported)
		reply(Answer{CorrelationID: correlation, Close: true, Err: err})
		return
	}
	if len(h.Body) > requestBytesMax && !handler.Large {
		err := fmt.Errorf("%s of %d bytes, at most %d: %w", handler.Name, len(h.Body), requestBytesMax, errLarge)
		reply(Answer{CorrelationID: correlation, Close: true, Err: err})
		return
	}
	body, err := wire.DecodeRequest(h.Key, h.Version, h.Body)
	if err != nil {
		reply(Answer{CorrelationID: correlation, Close: true, Err: err})
		return
	}
	handler.Serve(s, now, &Request{Header: *h, Body: body, Client: client}, func(a Answer) {
		a.CorrelationID = correlation
		reply(a)
	})
}

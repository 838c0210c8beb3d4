// Package controller decides the metadata records that answer a request or a
// deadline that has passed. It is the active controller without its Raft
// group: the host appends what Decide returns and calls Apply.
package controller

import (
	"math/rand/v2"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// Ticket is a number that the host chooses to recognise a request's reply.
type Ticket uint64

// Decision is what the caller must now do, in the order of the fields.
type Decision struct {
	Records []metadata.Record // append these as one atomic batch and call Apply; may be empty
	Replies []Reply           // release when Records are committed; when there are none, once all before is committed
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
	Node      kafka.NodeID // NoNode where it does not apply
	Detail    string       // from what to what
	Cause     string       // why
}

// Options are the settings of a controller.
type Options struct {
	ClusterID string // for a cluster that has none; "" lets the controller draw one
	// SessionTimeout is how long a broker may be silent before it is fenced.
	// Default 1 s.
	SessionTimeout time.Duration
	// PreferredInterval is the time between elections of preferred leaders
	// where they lead nothing but could. Default 300 s, as in Kafka
	// (leader.imbalance.check.interval.seconds); negative: never.
	PreferredInterval time.Duration
	// UncleanInterval is the time between looks for partitions without a
	// leader whose topic allows unclean elections. Default 300 s.
	UncleanInterval time.Duration
	// Configs resolves configs with the static settings of the controller's
	// own node; nil: Kafka's names at their defaults.
	Configs *config.Resolver
}

// Controller is the state machine of the active controller.
type Controller struct {
	image *metadata.Image // speculative: applied at append, not at commit
	opts  Options
	rng   *rand.Rand
}

// New returns a controller that starts from the image of all metadata records
// of the log. It does not know old heartbeat times, so every session starts anew.
func New(now time.Time, image *metadata.Image, opts Options, rng *rand.Rand) *Controller {
	return &Controller{image: image, opts: opts, rng: rng}
}

// Image is the state of the cluster with all that was appended, committed or not.
func (c *Controller) Image() *metadata.Image { return c.image }

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// told says in our words what an error means.
type told struct {
	text string
	err  error
}

func (e *told) Error() string { return e.text }
func (e *told) Unwrap() error { return e.err }

const (
	asksStatus  = "`chronik cluster status` shows whether there is a quorum and which nodes run"
	takesBroker = "-b takes the address that a node has for Kafka clients (--kafka, by default port 9092)"
)

// explain says what an error means for what was being done.
func explain(what string, err error, message string) error {
	if err == nil {
		return nil
	}
	var k *kerr.Error
	if errors.As(err, &k) {
		return &told{what + ": " + explainKafka(k, message), err}
	}
	return &told{what + ": " + explainClient(err), err}
}

// explainKafka says what a broker's answer means.
func explainKafka(k *kerr.Error, message string) string {
	text, message := strings.TrimRight(k.Message, "."), strings.TrimRight(message, ".")
	if message != "" {
		text += ": " + message
	}
	switch {
	case errors.Is(k, kerr.UnknownTopicOrPartition):
		text += "; " + topicsThere + ", `chronik topic create` makes one"
	case errors.Is(k, kerr.InvalidTopicException) && message == "":
		text += ": a topic's name is made of ASCII letters, digits, '.', '_' and '-'"
	case errors.Is(k, kerr.ClusterAuthorizationFailed), errors.Is(k, kerr.TopicAuthorizationFailed), errors.Is(k, kerr.GroupAuthorizationFailed):
		text += "; the broker gives this client no right to that"
	case errors.Is(k, kerr.UnsupportedVersion):
		text += "; the broker is older than what was asked of it"
	case errors.Is(k, kerr.MessageTooLarge):
		text += "; the record is larger than the topic takes: `chronik topic alter` with -c max.message.bytes=N allows more"
	case errors.Is(k, kerr.NotEnoughReplicas), errors.Is(k, kerr.NotEnoughReplicasAfterAppend):
		text += "; fewer replicas are in sync than min.insync.replicas wants: `chronik topic describe` shows which are missing"
	case errors.Is(k, kerr.CoordinatorLoadInProgress), errors.Is(k, kerr.CoordinatorNotAvailable), errors.Is(k, kerr.NotCoordinator):
		text += "; no controller, or no leader of the group's partition of __consumer_offsets, may be there to answer: " + asksStatus
	case errors.Is(k, kerr.NotController), errors.Is(k, kerr.RequestTimedOut), errors.Is(k, kerr.BrokerNotAvailable):
		text += "; no controller may be there to answer: " + asksStatus
	case errors.Is(k, kerr.LeaderNotAvailable), errors.Is(k, kerr.NotLeaderForPartition):
		text += "; `chronik topic describe` shows which partitions have no leader"
	}
	return text
}

// explainClient says why there is no answer of a broker's.
func explainClient(err error) string {
	var parts *kadm.ShardErrors
	if errors.As(err, &parts) && len(parts.Errs) > 0 {
		err = parts.Errs[0].Err
	}
	var op *net.OpError
	var closed *kgo.ErrFirstReadEOF
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &op) && op.Op == "dial":
		where := "a node"
		if op.Addr != nil {
			where = "the node at " + op.Addr.String()
		}
		return fmt.Sprintf("no connection to %s (%v); %s", where, op.Err, asksStatus)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrRecordTimeout):
		return "no answer in time; " + asksStatus + ", --timeout allows more"
	case errors.As(err, &closed):
		return "the broker closes the connection at once: " + takesBroker + "; the one for other nodes (--peer, 9192) and one that wants TLS answer so"
	case strings.Contains(err.Error(), "broker is too old"):
		return "the broker is older than what was asked of it"
	case strings.Contains(err.Error(), "the beginning of an HTTP response"):
		return "the answer is HTTP: " + takesBroker
	}
	return err.Error()
}

// waitedFor says that what was waited for has not come, or that the wait was
// interrupted.
func waitedFor(ctx context.Context, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if errors.Is(ctx.Err(), context.Canceled) {
		return &told{"interrupted: " + text, ctx.Err()}
	}
	return &told{text, ctx.Err()}
}

// explainHTTP says why a node's HTTP port gives no answer.
func explainHTTP(what, address string, err error) error {
	cause := err.Error()
	var op *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		cause = "interrupted"
	case errors.As(err, &op):
		cause = op.Err.Error()
	case errors.Is(err, context.DeadlineExceeded):
		cause = "no answer in time"
	case errors.Is(err, io.EOF):
		cause = "it closes the connection, as a node's other ports do"
	}
	return &told{fmt.Sprintf("%s from %s: %s; --http takes the HTTP port of a node that runs (setting http, by default port 9644)", what, address, cause), err}
}

package broker

import (
	"log/slog"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

// withEvents has the history of the cluster stand beside the changes.
func withEvents(now time.Time, records []metadata.Record, events []controller.Event) []metadata.Record {
	for _, e := range events {
		records = append(records, &metadata.EventRecord{Event: metadata.Event{
			Time: now.UnixMilli(), Kind: e.Kind, Topic: e.Topic, Partition: e.Partition, Node: e.Node, Detail: e.Detail, Cause: e.Cause,
		}})
	}
	return records
}

// logEvents writes one line per thing that an operator wants to know of what
// the controller has decided.
func (b *Broker) logEvents(events []controller.Event, offset kafka.Offset) {
	for _, e := range events {
		attrs := make([]any, 0, 6)
		if e.Topic != "" {
			attrs = append(attrs, slog.String("topic", e.Topic), slog.Int("partition", int(e.Partition)))
		}
		if e.Node != kafka.NoNode {
			attrs = append(attrs, slog.Int("broker", int(e.Node)))
		}
		if e.Detail != "" {
			attrs = append(attrs, slog.String("detail", e.Detail))
		}
		if e.Cause != "" {
			attrs = append(attrs, slog.String("cause", e.Cause))
		}
		b.env.Log.Info(e.Kind, append(attrs, slog.Int64("offset", int64(offset)))...) //nolint:sloglint // the kinds are constants of the controller
	}
}

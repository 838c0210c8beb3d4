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

// eventLinesMax is how many events of one kind with one cause get a line each.
const eventLinesMax = 10

// logEvents writes what an operator wants to know of what the controller has
// decided: a line for each event, or one line that counts them where a cause
// has many. The cluster's history has them all in either case.
func (b *Broker) logEvents(events []controller.Event, offset kafka.Offset) {
	type origin struct{ kind, cause string }
	counts := make(map[origin]int, 4)
	for _, e := range events {
		counts[origin{e.Kind, e.Cause}]++
	}
	for _, e := range events {
		o := origin{e.Kind, e.Cause}
		write := b.env.Log.Info
		switch count := counts[o]; {
		case count > eventLinesMax:
			b.env.Log.Info(e.Kind, slog.Int("times", count), slog.String("cause", e.Cause), slog.Int64("offset", int64(offset))) //nolint:sloglint // the kinds are constants of the controller
			counts[o] = 0
			fallthrough
		case count == 0:
			write = b.env.Log.Debug
		}
		write(e.Kind, append(eventAttrs(&e), slog.Int64("offset", int64(offset)))...) //nolint:sloglint // as above
	}
}

func eventAttrs(e *controller.Event) []any {
	attrs := make([]any, 0, 6)
	if e.Topic != "" {
		attrs = append(attrs, slog.String("topic", e.Topic))
		if e.Partition != metadata.WholeTopic {
			attrs = append(attrs, slog.Int("partition", int(e.Partition)))
		}
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
	return attrs
}

package metadata

import (
	"slices"

	"chronik/internal/base/kafka"
)

// EventRecord tells what a batch of records has changed and why, for an
// operator. It changes nothing.
type EventRecord struct {
	Event Event
}

// Event is one line of the cluster's history.
type Event struct {
	Offset    kafka.Offset // of the batch that made the change
	Time      int64        // of the controller that decided it, milliseconds of the Unix epoch
	Kind      string       // past tense: "leader changed", "broker fenced"
	Topic     string       // "" where it does not apply
	Partition int32        // WholeTopic where it is the topic's
	Node      kafka.NodeID // NoNode where it does not apply
	Detail    string       // from what to what
	Cause     string
}

// WholeTopic stands for all partitions of an Event's topic.
const WholeTopic int32 = -1

// eventsMax is how many events an image remembers.
const eventsMax = 4096

// history is a list of events, the last one first. Images share its tail.
type history struct {
	event  Event
	before *history
	count  int // as many as may be walked to
}

func (h *history) length() int {
	if h == nil {
		return 0
	}
	return h.count
}

// add returns the history with one more event. Now and then it forgets what
// is too old.
func (h *history) add(e Event) *history {
	if h.length() >= 2*eventsMax {
		kept := h.last(eventsMax)
		h = nil
		for _, k := range kept {
			h = &history{k, h, h.length() + 1}
		}
	}
	return &history{e, h, h.length() + 1}
}

// last lists up to n events, the oldest first.
func (h *history) last(n int) []Event {
	n = min(n, h.length())
	events := make([]Event, 0, n)
	for ; len(events) < n; h = h.before {
		events = append(events, h.event)
	}
	slices.Reverse(events)
	return events
}

// Events lists the last n events of the cluster's history, the oldest first.
// The image remembers some thousand.
func (m *Image) Events(n int) []Event { return m.history.last(min(n, eventsMax)) }

func (r *EventRecord) appendFields(dst []byte) []byte {
	e := &r.Event
	dst = appendInt(dst, 1, e.Time)
	dst = appendString(dst, 2, e.Kind)
	dst = appendString(dst, 3, e.Topic)
	dst = appendInt(dst, 4, int64(e.Partition))
	if e.Node != kafka.NoNode {
		dst = appendPresentInt(dst, 5, int64(e.Node))
	}
	dst = appendString(dst, 6, e.Detail)
	dst = appendString(dst, 7, e.Cause)
	return appendInt(dst, 8, int64(e.Offset))
}

func decodeEvent(f *fields) Record {
	r := &EventRecord{Event{Node: kafka.NoNode}}
	e := &r.Event
	for f.next() {
		switch f.number {
		case 1:
			e.Time = f.int()
		case 2:
			e.Kind = f.string()
		case 3:
			e.Topic = f.string()
		case 4:
			e.Partition = f.int32()
		case 5:
			e.Node = kafka.NodeID(f.int32())
		case 6:
			e.Detail = f.string()
		case 7:
			e.Cause = f.string()
		case 8:
			e.Offset = kafka.Offset(f.int())
		}
	}
	return r
}

package broker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

func TestManyEventsOfOneCauseAreOneLine(t *testing.T) {
	var out bytes.Buffer
	b := &Broker{env: Env{Log: slog.New(slog.NewTextHandler(&out, nil))}}
	events := []controller.Event{{Kind: "broker fenced", Node: 2, Cause: "silent"}}
	for i := range int32(1000) {
		events = append(events,
			controller.Event{Kind: "leader changed", Topic: "t", Partition: i, Node: 1, Cause: "2 is gone"},
			controller.Event{Kind: "in-sync set shrank", Topic: "t", Partition: i, Node: 1, Cause: "2 is gone"})
	}
	events = append(events, controller.Event{Kind: "topic created", Topic: "u", Partition: metadata.WholeTopic, Node: kafka.NoNode, Cause: "asked"})
	b.logEvents(events, 7)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []string{
		`msg="broker fenced" broker=2 cause=silent offset=7`,
		`msg="leader changed" times=1000 cause="2 is gone" offset=7`,
		`msg="in-sync set shrank" times=1000 cause="2 is gone" offset=7`,
		`msg="topic created" topic=u cause=asked offset=7`,
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String()[:min(2000, out.Len())])
	}
	for i := range want {
		if !strings.HasSuffix(lines[i], want[i]) {
			t.Errorf("line %d: %s\nwant ... %s", i, lines[i], want[i])
		}
	}
	out.Reset()
	b.logEvents(events[:5], 8)
	if got := strings.Count(out.String(), "\n"); got != 5 {
		t.Errorf("5 events made %d lines", got)
	}
}

package api_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
	"chronik/internal/format/wire"
)

// FuzzHandle gives one frame to a broker that has topics and records. It must
// be answered exactly once and in bounded time, whatever is in it.
func FuzzHandle(f *testing.F) {
	n := newNode(f, nil)
	id := n.topic("t", 2)
	n.topic("compacted", 1, "cleanup.policy", "compact")
	n.mustProduce("t", 0, "a", "b")
	name := "fuzz"
	for _, h := range api.Handlers() {
		for version := h.Min; version <= h.Max; version++ {
			req := kmsg.RequestForKey(h.Key)
			req.SetVersion(version)
			f.Add(wire.AppendRequest(nil, 1, &name, req)[4:])
		}
	}
	f.Add(wire.AppendRequest(nil, 1, nil, produceRequest(11, "t", kafka.TopicID{}, 0, batch(record.BuilderOptions{}, "a", "b")))[4:])
	f.Add(wire.AppendRequest(nil, 1, nil, produceRequest(13, "", id, 1, idempotent(7, 0, 0, "a")))[4:])
	f.Add(wire.AppendRequest(nil, 1, nil, fetchRequest(17, "", id, 0, 1))[4:])
	session := fetchRequest(12, "t", kafka.TopicID{}, 0, 0)
	session.SessionEpoch, session.MaxWaitMillis = 0, 100
	f.Add(wire.AppendRequest(nil, 1, nil, session)[4:])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		n.t = t
		client := &api.Client{ID: 9, Host: "10.0.0.1"}
		unacked := len(frame) > 1 && frame[0] == 0 && frame[1] == 0 // produce may go without an answer
		a := n.handle(client, bytes.Clone(frame), 0, 0)
		n.settle()
		// Waits are bounded by what clients may ask for: up to 24 days in an
		// int32 of milliseconds. Whoever waits longer than two hours here is
		// taken at its word.
		for step := time.Millisecond; !a.came && step < 2*time.Hour; step *= 4 {
			n.advance(min(step, time.Second))
		}
		if a.came && a.resp == nil && !a.close && !unacked {
			t.Errorf("neither a response nor a closed connection")
		}
	})
}

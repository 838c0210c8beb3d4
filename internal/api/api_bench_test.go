package api_test

import (
	"bytes"
	"strings"
	"testing"

	"chronik/internal/api"
	"chronik/internal/format/record"
	"chronik/internal/format/wire"
)

// serve gives a frame to the server as a listener does: the answer is encoded
// into a buffer that is used again, and released.
func (n *node) serve(frame, out []byte) []byte {
	done := false
	n.server.Handle(n.now, frame, n.client, func(a api.Answer) {
		done = true
		if a.Response != nil {
			out = wire.AppendResponse(out[:0], a.CorrelationID, a.Response)
		}
		if a.Release != nil {
			a.Release()
		}
	})
	if !done {
		n.settle()
	}
	if !done {
		n.t.Fatal("not answered")
	}
	return out
}

func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 1000 << 10} {
		b.Run("batch="+kib(size), func(b *testing.B) {
			n := newNode(b, nil)
			id := n.topic("t", 1, "retention.bytes", "1")
			frame := wire.AppendRequest(nil, 1, nil, produceRequest(13, "", id, 0, batch(record.BuilderOptions{}, strings.Repeat("x", size))))[4:]
			out, sent := make([]byte, 0, 4096), make([]byte, len(frame))
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				copy(sent, frame)
				out = n.serve(sent, out)
			}
		})
	}
}

func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 1000 << 10} {
		b.Run("batch="+kib(size), func(b *testing.B) {
			n := newNode(b, nil)
			id := n.topic("t", 1)
			n.mustProduce("t", 0, strings.Repeat("x", size))
			frame := wire.AppendRequest(nil, 1, nil, fetchRequest(17, "", id, 0, 0))[4:]
			out := make([]byte, 0, 2<<20)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				out = n.serve(frame, out)
			}
		})
	}
}

func kib(n int) string {
	return map[int]string{1 << 10: "1KiB", 16 << 10: "16KiB", 1000 << 10: "1000KiB"}[n]
}

// Allocations per request are bounded, and none is made per record.
func TestProduceAndFetchAllocateLittle(t *testing.T) {
	n := newNode(t, nil)
	id := n.topic("t", 1)
	many := make([]string, 500)
	for i := range many {
		many[i] = "value"
	}
	frame := wire.AppendRequest(nil, 1, nil, produceRequest(13, "", id, 0, batch(record.BuilderOptions{}, many...)))[4:]
	out := make([]byte, 0, 1<<20)
	if got := testing.AllocsPerRun(200, func() { out = n.serve(bytes.Clone(frame), out) }); got > 30 {
		t.Errorf("a produce request of one batch allocates %.0f times", got)
	}
	frame = wire.AppendRequest(nil, 1, nil, fetchRequest(17, "", id, 0, 0))[4:]
	if got := testing.AllocsPerRun(200, func() { out = n.serve(frame, out) }); got > 35 {
		t.Errorf("a fetch request of one partition allocates %.0f times", got)
	}
}

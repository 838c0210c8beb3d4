package api_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// A producer's first batch that was refused because the node's lease was over
// leaves its place open: the second, sent before the refusal was known, must
// not be taken for the first when the lease is renewed in between.
func TestARefusedFirstBatchKeepsItsPlace(t *testing.T) {
	n := newNode(t, nil)
	id := n.topic("t", 1)
	send := func(sequence int32) *answer {
		b := batch(record.BuilderOptions{Producer: &record.Producer{ID: 7, Sequence: sequence}}, "a", "b")
		return n.send(produceRequest(11, "t", id, 0, b))
	}
	code := func(a *answer) int16 {
		return n.wait(a).resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode
	}
	n.now = n.now.Add(2 * time.Second) // nothing ran meanwhile, as after a pause
	first := send(0)
	n.advance(time.Second)
	second := send(2)
	expect(t, "first batch without a lease", code(first), kafka.ErrNotLeaderOrFollower)
	expect(t, "second batch", code(second), kafka.ErrOutOfOrderSequenceNumber)
	expect(t, "first batch again", code(send(0)), kafka.None)
	expect(t, "second batch again", code(send(2)), kafka.None)
}

package api_test

import (
	"testing"

	"chronik/internal/base/kafka"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestWhatIsProducedCanBeFetched(t *testing.T) {
	n := newNode(t, nil)
	id := n.topic("orders", 2)
	n.mustProduce("orders", 1, "a", "b")
	n.mustProduce("orders", 1, "c")
	for version := int16(4); version <= 18; version++ {
		req := fetchRequest(version, "orders", id, 1, 1)
		if version < 13 {
			req.Topics[0].TopicID = kafka.TopicID{}
		}
		resp := ask[*kmsg.FetchResponse](n, req)
		p := resp.Topics[0].Partitions[0]
		expect(t, "fetch", p.ErrorCode, kafka.None)
		// A batch that holds the offset comes whole (trap 18).
		if got := values(t, p.RecordBatches); len(got) != 3 || got[0] != "a" || p.HighWatermark != 3 {
			t.Errorf("v%d: fetched %v, high watermark %d", version, got, p.HighWatermark)
		}
	}
}

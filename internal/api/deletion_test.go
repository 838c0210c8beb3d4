package api_test

import (
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/vfs"
)

// The control loop deletes, and sends heartbeats as well: a topic of many
// partitions must not keep it until the node is taken for dead.
func TestDeletingManyPartitionsDoesNotSyncEach(t *testing.T) {
	n := newNode(t, nil)
	for _, name := range []string{"many", "other"} {
		n.topic(name, 100)
	}
	n.mustProduce("many", 7, "x")
	var syncs atomic.Int32
	n.fs.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir {
			syncs.Add(1)
		}
		return nil
	})
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Version, req.TimeoutMillis, req.TopicNames = 3, 5000, []string{"many"}
	resp := ask[*kmsg.DeleteTopicsResponse](n, req)
	expect(t, "delete", resp.Topics[0].ErrorCode, 0)
	if got := syncs.Load(); got > 10 {
		t.Errorf("deleting 100 partitions synced %d times", got)
	}
	for dir, want := range map[string]int{"data/wal/deleted": 0, "data/wal/partitions": 100} {
		if entries, err := n.fs.List(dir); err != nil || len(entries) != want {
			t.Errorf("%s holds %d entries (%v), want %d", dir, len(entries), err, want)
		}
	}
	n.topic("many", 100) // the names are free again
	n.mustProduce("many", 7, "y")
}

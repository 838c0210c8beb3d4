package chaos

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// M1: a node is replaced by another one under load; both are killed in the
// middle of it.
func TestNodeIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	const partitions = 3
	c := runThree(t, cluster.Options{}, partitions)
	client := admin(t, c)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	awaitAcks(t, &h, partitions, 50)
	old := c.Nodes[0]
	added := c.Join(c.Nodes[1])
	restart(t, added)
	for p := range int32(partitions) {
		reassign(t, client, p, 2, 3, int32(added.ID))
	}
	added.Kill()
	awaitAcks(t, &h, partitions, 20)
	restart(t, added)
	old.Kill()
	for p := range int32(partitions) {
		await(t, c.Nodes[1], p, "on the nodes that stay", on(2, 3, int32(added.ID)))
	}
	awaitAcks(t, &h, partitions, 20)
	restart(t, old)
	code, out, err := cluster.RunToEnd(cluster.Binary(t), 30*time.Second, "cluster", "remove-node", fmt.Sprint(old.ID), "--bootstrap", c.Nodes[1].Kafka)
	if err != nil || code != 0 {
		t.Fatalf("remove-node ended with code %d, %v:\n%s", code, err, out)
	}
	select { // by itself: it was removed
	case <-old.Exited():
	case <-time.After(10 * time.Second):
		t.Errorf("node %d was removed, and its process goes on", old.ID)
	}
	awaitAcks(t, &h, partitions, 20)
	c.Nodes = slices.Delete(c.Nodes, 0, 1)
	// Three are left, of which one may be lost.
	c.Nodes[0].Kill()
	awaitAcks(t, &h, partitions, 20)
	restart(t, c.Nodes[0])
	for p := range int32(partitions) {
		await(t, c.Nodes[1], p, "in sync", func(p traffic.Partition) bool { return len(p.InSync) == 3 })
	}
	stopLoad(t, c, &h, load, partitions)
	checkFiles(t, c.Nodes, &h, partitions)
}

package chaos

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/history"
	"chronik/test/chaos/traffic"
)

// reassign asks for other replicas of a partition; none cancels.
func reassign(t *testing.T, client *kadm.Client, partition int32, replicas ...int32) {
	t.Helper()
	var req kadm.AlterPartitionAssignmentsReq
	if len(replicas) == 0 {
		req.CancelAssign(replicated, partition)
	} else {
		req.Assign(replicated, partition, replicas)
	}
	resp, err := client.AlterPartitionAssignments(t.Context(), req)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		t.Fatalf("reassign %s-%d to %v: %v", replicated, partition, replicas, err)
	}
}

func on(nodes ...int32) func(traffic.Partition) bool {
	return func(p traffic.Partition) bool {
		replicas, members := slices.Clone(p.Replicas), slices.Clone(p.InSync)
		slices.Sort(replicas)
		slices.Sort(members)
		return slices.Equal(replicas, nodes) && slices.Equal(members, nodes) && p.Leader > 0
	}
}

// M2: from three replicas to one and back, under load, over every node.
func TestReassignmentUnderLoad(t *testing.T) {
	t.Parallel()
	const partitions = 2
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	createTopic(t, c, replicated, partitions, nil)
	client := admin(t, c)
	var h history.History
	load := startLoad(t, c, &h, partitions)
	for i := range int32(sized(3, 30)) {
		only := i%3 + 1
		for p := range int32(partitions) {
			reassign(t, client, p, only)
		}
		for p := range int32(partitions) {
			await(t, c.Nodes[0], p, "on one node", on(only))
		}
		awaitAcks(t, &h, partitions, 20)
		for p := range int32(partitions) {
			reassign(t, client, p, 1, 2, 3)
		}
		for p := range int32(partitions) {
			await(t, c.Nodes[0], p, "on three nodes", on(1, 2, 3))
		}
		awaitAcks(t, &h, partitions, 20)
	}
	stopLoad(t, c, &h, load, partitions)
	checkFiles(t, c.Nodes, &h, partitions)
}

// M2: a reassignment that cannot complete, because the node to which it goes is
// paused, is cancelled; the next one loses its leader midway.
func TestReassignmentIsCancelledOrLosesItsLeader(t *testing.T) {
	t.Parallel()
	c := cluster.Run(t, cluster.Options{Nodes: 3})
	createTopic(t, c, replicated, 1, nil)
	var h history.History
	load := startLoad(t, c, &h, 1)
	for round := range sized(1, 10) {
		// It goes to a node that is not the controller, which others could not do without.
		was := await(t, c.Nodes[0], 0, "in sync", func(p traffic.Partition) bool { return len(p.InSync) == len(p.Replicas) && p.Controller > 0 })
		target := was.Controller%3 + 1
		client := admin(t, c) // which knows the controller of now
		a, b := int32(was.Controller), int32(6-was.Controller-target)
		at := c.Node(was.Controller)
		pair := on(min(a, b), max(a, b))
		reassign(t, client, 0, a, b)
		await(t, at, 0, "on two nodes", pair)
		awaitAcks(t, &h, 1, 20)

		if err := c.Node(target).Pause(); err != nil {
			t.Fatal(err)
		}
		moving := func(p traffic.Partition) bool { return slices.Contains(p.Replicas, int32(target)) }
		reassign(t, client, 0, int32(target))
		await(t, at, 0, "on its way", moving)
		awaitAcks(t, &h, 1, 20)
		reassign(t, client, 0)
		await(t, at, 0, "where it was", pair)
		awaitAcks(t, &h, 1, 20)

		reassign(t, client, 0, int32(target))
		was = await(t, at, 0, "on its way", moving)
		leader := c.Node(was.Leader)
		c.Node(target).Resume()
		leader.Kill()
		await(t, c.Node(target), 0, "on one node alone", on(int32(target)))
		awaitAcks(t, &h, 1, 20)
		restart(t, leader)
		t.Logf("round %d: the leader, node %d, was killed midway", round, leader.ID)
	}
	reassign(t, admin(t, c), 0, 1, 2, 3)
	await(t, c.Nodes[2], 0, "on three nodes", on(1, 2, 3))
	stopLoad(t, c, &h, load, 1)
	checkFiles(t, c.Nodes, &h, 1)
}

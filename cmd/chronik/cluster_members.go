package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newAddNode(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add-node",
		Short: "Say how a node is added, and wait until it is there",
		Long: `A node adds itself: it is started with the peer address of any member. This command
prints that command line for the next free node id, and with --wait waits until the
node serves. New partitions are placed on it from then on; others stay where they are.`,
		Args: noArguments,
	}
	wait := cmd.Flags().Int32("wait", -1, "node id to wait for")
	run := t.withRaw(func(ctx context.Context, cmd *cobra.Command, admin *administrator, _ []string) error {
		for {
			s, err := readClusterStatus(ctx, admin, "")
			if err != nil && ctx.Err() == nil {
				return err
			}
			if *wait < 0 {
				return t.sayHowToAdd(cmd.OutOrStdout(), s)
			}
			if err == nil {
				for _, n := range s.Nodes {
					if n.Node == *wait && n.State == "serving" && n.Quorum != "none" && n.Quorum != "unknown" {
						return t.say(cmd.OutOrStdout(), fmt.Sprintf("node %d serves, as %s of the metadata quorum", n.Node, n.Quorum), n)
					}
				}
			}
			select {
			case <-ctx.Done():
				return waitedFor(ctx, "node %d has not come: its log says what it waits for", *wait)
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("wait") && *wait < 0 {
			return usage("flag --wait: got %d, takes the id of a node", *wait)
		}
		return run(cmd, args)
	}
	return cmd
}

func (t *topicCommand) sayHowToAdd(to io.Writer, s *clusterStatus) error {
	if s.lost() {
		return errors.New("there is no quorum, and without one no node can be added; `chronik cluster status` shows which nodes run")
	}
	next, peer := int32(1), ""
	for _, n := range s.Nodes {
		next = max(next, n.Node+1)
		if n.State == "serving" && n.Peer != "" && (peer == "" || n.Quorum == "leader") {
			peer = n.Peer
		}
	}
	if peer == "" {
		return fmt.Errorf("no member is known that the new node could be told of; %s", cmp.Or(s.Unknown, "`chronik cluster status` shows those that there are"))
	}
	command := fmt.Sprintf("chronik start --node-id %d --kafka HOST:PORT --peer HOST:PORT --join %s", next, peer)
	return t.say(to, "start the new node with its own addresses:\n  "+command, map[string]any{"node": next, "join": peer, "command": command})
}

func (t *topicCommand) say(to io.Writer, text string, v any) error {
	if t.output == "json" {
		return writeJSON(to, v)
	}
	_, err := fmt.Fprintln(to, text)
	return err
}

func newRemoveNode(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove-node ID",
		Short: "Move a node's partitions away and take it out of the cluster",
		Long: `Move a node's partitions to the other nodes, wait until those have everything, and
take the node out of the cluster; its process then ends, and once another node votes
on the metadata in its place, if it was a voter, the command is done. Where there is no other
node for a replica, nothing is done unless --force: then the partition goes on with
fewer replicas. A partition that only this node has is lost with it, which is refused
as long as the node runs: stop it first.`,
		Args: oneArgument("node", "`chronik cluster status` shows the ids of those that there are"),
	}
	force := cmd.Flags().Bool("force", false, "remove the node though partitions get fewer replicas, or are lost")
	cmd.RunE = t.withRaw(func(ctx context.Context, cmd *cobra.Command, admin *administrator, args []string) error {
		id, err := strconv.ParseInt(args[0], 10, 32)
		if err != nil || id < 0 {
			return usage("got %q, takes the id of a node", args[0])
		}
		moved, err := drainNode(ctx, admin, int32(id), *force)
		if err != nil {
			return err
		}
		request := kmsg.NewPtrUnregisterBrokerRequest()
		request.BrokerID = int32(id)
		response, err := kmsgRequest[*kmsg.UnregisterBrokerResponse](ctx, admin, request)
		if err == nil {
			err = kerr.ErrorForCode(response.ErrorCode)
		}
		if err != nil {
			message := ""
			if response != nil && response.ErrorMessage != nil {
				message = *response.ErrorMessage
			}
			return explain(fmt.Sprintf("remove node %d", id), err, message)
		}
		if err := waitForVoters(ctx, admin, int32(id)); err != nil {
			return err
		}
		return t.say(cmd.OutOrStdout(), fmt.Sprintf("removed node %d; moved %d partitions", id, moved), map[string]any{"node": id, "moved_partitions": moved})
	})
	return cmd
}

// drainNode moves all replicas away from a node.
func drainNode(ctx context.Context, admin *administrator, id int32, force bool) (moved int, err error) {
	h, err := readHealth(ctx, admin)
	if err != nil {
		return 0, err
	}
	load := map[int32]int{}
	found := false
	for _, b := range h.cluster.Brokers {
		found = found || b.NodeID == id
		if !b.IsFenced && b.NodeID != id {
			load[b.NodeID] = 0
		}
	}
	if !found {
		return 0, fmt.Errorf("there is no node %d; `chronik cluster status` shows those that there are", id)
	}
	for _, t := range h.topics {
		for _, p := range t.Partitions {
			for _, r := range p.Replicas {
				if _, ok := load[r]; ok {
					load[r]++
				}
			}
		}
	}
	var request kadm.AlterPartitionAssignmentsReq
	var stuck []string
	for _, t := range h.topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			if !slices.Contains(p.Replicas, id) {
				continue
			}
			target, short := withoutNode(p.Replicas, id, load)
			if short {
				stuck = append(stuck, fmt.Sprintf("%s-%d", t.Topic, p.Partition))
			}
			if len(target) == 0 {
				continue // lost with the node, if that is what is wanted
			}
			request.Assign(t.Topic, p.Partition, target)
			moved++
		}
	}
	if len(stuck) > 0 && !force {
		return 0, fmt.Errorf("no other node can take the replicas of %d partitions (%s): add a node first, or give up these replicas with --force", len(stuck), abbreviated(stuck))
	}
	if moved == 0 {
		return 0, nil
	}
	responses, err := admin.AlterPartitionAssignments(ctx, request)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return 0, explain("move partitions", err, "")
	}
	return moved, waitForMoves(ctx, admin, id)
}

// withoutNode replaces a node by the one that has the fewest replicas; short
// says that there was none to replace it.
func withoutNode(replicas []int32, id int32, load map[int32]int) (target []int32, short bool) {
	best := int32(-1)
	for n, count := range load {
		if !slices.Contains(replicas, n) && (best < 0 || count < load[best] || count == load[best] && n < best) {
			best = n
		}
	}
	for _, r := range replicas {
		switch {
		case r != id:
			target = append(target, r)
		case best >= 0:
			target = append(target, best)
			load[best]++
		}
	}
	return target, best < 0
}

func abbreviated(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}

// waitForMoves waits until a node has no replica but of partitions that only
// it has.
func waitForMoves(ctx context.Context, admin *administrator, id int32) error {
	for {
		topics, err := admin.ListTopicsWithInternal(ctx)
		if err != nil {
			return explain("wait for moves", err, "")
		}
		left := 0
		for _, t := range topics {
			for _, p := range t.Partitions {
				if slices.Contains(p.Replicas, id) && len(p.Replicas) > 1 {
					left++
				}
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return waitedFor(ctx, "%d partitions are still being moved; the command can be given again, and waits on", left)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/edge/server"
)

func newClusterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Show a cluster's state and history, add and remove nodes",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	t := &topicCommand{cluster: addCluster(cmd)}
	cmd.PersistentFlags().StringVarP(&t.output, "output", "o", "text", "text or json")
	cmd.AddCommand(newClusterStatus(t), newClusterEvents(t), newClusterScrub(t), newAddNode(t), newRemoveNode(t))
	return cmd
}

// administrator is an admin client that can also ask what kadm cannot.
type administrator struct {
	*kadm.Client
	raw *kgo.Client
}

// withRaw is with, for an administrator.
func (t *topicCommand) withRaw(f func(ctx context.Context, cmd *cobra.Command, admin *administrator, args []string) error) func(*cobra.Command, []string) error {
	return t.with(func(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, args []string) error {
		return f(ctx, cmd, &administrator{admin, t.client}, args)
	})
}

// clusterStatus is what `cluster status` shows.
type clusterStatus struct {
	ClusterID  string            `json:"cluster_id"`
	Controller int32             `json:"controller"`
	Epoch      int32             `json:"controller_epoch"`
	Quorum     *bool             `json:"quorum"`                   // a majority of the voters answers; null: not known
	Unknown    string            `json:"quorum_unknown,omitempty"` // why it is not known
	Healthy    bool              `json:"healthy"`
	Nodes      []nodeStatus      `json:"nodes"`
	Topics     int               `json:"topics"`
	Partitions int               `json:"partitions"`
	Unhealthy  []partitionHealth `json:"unhealthy_partitions"`
}

type nodeStatus struct {
	Node        int32  `json:"node"`
	Kafka       string `json:"kafka"`
	Peer        string `json:"peer,omitempty"`
	Rack        string `json:"rack,omitempty"`
	State       string `json:"state"`        // serving, fenced; without a quorum reachable, unreachable
	Quorum      string `json:"quorum"`       // leader, voter, learner, none; unknown when nobody has said
	MetadataLag int64  `json:"metadata_lag"` // entries; -1 when not known
	Leads       int    `json:"leads"`
	Replicas    int    `json:"replicas"`
	OutOfSync   int    `json:"out_of_sync"`
	Bytes       int64  `json:"bytes"` // of logs; -1 when it does not answer
}

type partitionHealth struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Leader    int32    `json:"leader"`
	Replicas  []int32  `json:"replicas"`
	InSync    []int32  `json:"in_sync"`
	Why       []string `json:"why"`
}

func newClusterStatus(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show nodes, the metadata quorum, and which partitions are not healthy, and why",
		Long: `Show nodes, the metadata quorum, and which partitions are not healthy, and why.
The exit code is 1 while there is no quorum, a node is down or a partition is not healthy.`,
		Args: noArguments,
	}
	address := cmd.Flags().String("http", "127.0.0.1:9644", "HOST:PORT of a node's HTTP port, which knows why a replica cannot be used")
	run := t.withRaw(func(ctx context.Context, cmd *cobra.Command, admin *administrator, _ []string) error {
		s, err := readClusterStatus(ctx, admin, *address)
		if err != nil {
			return err
		}
		if t.output == "json" {
			err = writeJSON(cmd.OutOrStdout(), s)
		} else {
			err = s.print(cmd.OutOrStdout())
		}
		if err != nil {
			return err
		}
		return s.verdict()
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !isAddress(*address) {
			return usage("flag --http: got %q, takes HOST:PORT", *address)
		}
		return run(cmd, args)
	}
	return cmd
}

// verdict is what the exit code says.
func (s *clusterStatus) verdict() error {
	down := 0
	for _, n := range s.Nodes {
		if n.State == "fenced" {
			down++
		}
	}
	switch {
	case s.lost():
		return errors.New("there is no quorum")
	case !s.Healthy:
		return fmt.Errorf("not healthy: %d of %d nodes are down, %d of %d partitions are not as they should be", down, len(s.Nodes), len(s.Unhealthy), s.Partitions)
	}
	return nil
}

// lost says that there is no quorum; that it is not known is something else.
func (s *clusterStatus) lost() bool { return s.Quorum != nil && !*s.Quorum }

// quorumPatience is how long a controller may take to answer, an election of
// one included, until it counts as missing.
const quorumPatience = 5 * time.Second

// readClusterStatus takes the causes of unfit replicas from a node's HTTP port,
// if it is one of this cluster's.
func readClusterStatus(ctx context.Context, admin *administrator, address string) (*clusterStatus, error) {
	h, err := readHealth(ctx, admin)
	if err != nil {
		return nil, err
	}
	h.readUnfit(ctx, address)
	s := &clusterStatus{ClusterID: h.cluster.ClusterID, Controller: -1, Epoch: -1, Nodes: []nodeStatus{}, Unhealthy: []partitionHealth{}}
	attempt, cancel := context.WithTimeout(ctx, quorumPatience)
	defer cancel()
	quorum, err := describeQuorum(attempt, admin)
	part, lag := map[int32]string{}, map[int32]int64{}
	switch {
	case noController(err):
		s.Quorum = new(bool)
		s.Unhealthy = append(s.Unhealthy, partitionHealth{Topic: "__cluster_metadata", Leader: -1, Why: []string{"there is no controller: a majority of the voters is down"}})
	case err != nil:
		s.Unknown = explain("describe the quorum", err, "").Error()
	default:
		has := true
		s.Quorum = &has
		p := quorum.Topics[0].Partitions[0]
		s.Controller, s.Epoch = p.LeaderID, p.LeaderEpoch
		for i, list := range [][]kmsg.DescribeQuorumResponseTopicPartitionReplicaState{p.Observers, p.CurrentVoters} {
			for _, r := range list {
				part[r.ReplicaID] = []string{"learner", "voter"}[i]
				lag[r.ReplicaID] = -1
				if r.LogEndOffset >= 0 {
					lag[r.ReplicaID] = max(0, p.HighWatermark-r.LogEndOffset)
				}
			}
		}
		part[p.LeaderID] = "leader"
	}
	peers := map[int32]string{}
	if err == nil {
		for _, n := range quorum.Nodes {
			for _, l := range n.Listeners {
				peers[n.NodeID] = net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
			}
		}
	}
	leads, replicas, out := map[int32]int{}, map[int32]int{}, map[int32]int{}
	for _, topic := range h.topics.Sorted() {
		s.Topics++
		for _, p := range topic.Partitions.Sorted() {
			s.Partitions++
			leads[p.Leader]++
			for _, r := range p.Replicas {
				replicas[r]++
				if !slices.Contains(p.ISR, r) {
					out[r]++
				}
			}
			if why := h.why(topic.Topic, p); len(why) > 0 {
				s.Unhealthy = append(s.Unhealthy, partitionHealth{topic.Topic, p.Partition, p.Leader, p.Replicas, p.ISR, why})
			}
		}
	}
	s.Healthy = len(s.Unhealthy) == 0
	for _, b := range h.cluster.Brokers {
		n := nodeStatus{Node: b.NodeID, Kafka: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), Peer: peers[b.NodeID], State: "serving", Quorum: "none",
			MetadataLag: -1, Leads: leads[b.NodeID], Replicas: replicas[b.NodeID], OutOfSync: out[b.NodeID], Bytes: h.bytes(b.NodeID)}
		if b.Rack != nil {
			n.Rack = *b.Rack
		}
		if b.IsFenced {
			n.State = "fenced"
			s.Healthy = false
		}
		if s.Quorum == nil || s.lost() {
			n.Quorum = "unknown"
		}
		if q, ok := part[b.NodeID]; ok {
			n.Quorum, n.MetadataLag = q, lag[b.NodeID]
		}
		s.Nodes = append(s.Nodes, n)
	}
	if s.lost() {
		s.probe(ctx)
	}
	return s, nil
}

// probe replaces the states of nodes, which nobody keeps up without a quorum,
// by whether they take a connection.
func (s *clusterStatus) probe(ctx context.Context) {
	// The question for the quorum may have taken all the time there was.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for i := range s.Nodes {
		n := &s.Nodes[i]
		all.Go(func() {
			n.State = "unreachable"
			var dialer net.Dialer
			if conn, err := dialer.DialContext(ctx, "tcp", n.Kafka); err == nil {
				conn.Close()
				n.State = "reachable"
			}
		})
	}
	all.Wait()
}

// reachable lists the nodes that probe has found so, or not.
func (s *clusterStatus) reachable(state string) string {
	var ids []int32
	for _, n := range s.Nodes {
		if n.State == state {
			ids = append(ids, n.Node)
		}
	}
	return cmp.Or(list(ids), "none")
}

func (s *clusterStatus) print(to io.Writer) error {
	health := "healthy"
	if !s.Healthy {
		health = "NOT HEALTHY"
	}
	switch {
	case s.Quorum == nil:
		fmt.Fprintf(to, "cluster %s  controller ?  topics %d  partitions %d  %s\nWhether there is a quorum is not known: %s\n", s.ClusterID, s.Topics, s.Partitions, health, s.Unknown)
	case *s.Quorum:
		fmt.Fprintf(to, "cluster %s  controller %d  epoch %d  topics %d  partitions %d  %s\n", s.ClusterID, s.Controller, s.Epoch, s.Topics, s.Partitions, health)
	default:
		fmt.Fprintf(to, `cluster %s  NO QUORUM
Nodes that take a connection: %s; that do not: %s.
No controller answers, for which a majority of the voters must run and reach one another; until then
nothing can be created, changed or elected. Start the nodes that are down, and look at the logs of the others.
What follows is the last that is known:
`, s.ClusterID, s.reachable("reachable"), s.reachable("unreachable"))
	}
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tSTATE\tQUORUM\tMETADATA LAG\tLEADS\tREPLICAS\tOUT OF SYNC\tBYTES\tKAFKA\tPEER\tRACK")
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", n.Node, n.State, n.Quorum, known(n.MetadataLag), n.Leads, n.Replicas, n.OutOfSync, known(n.Bytes), n.Kafka, n.Peer, n.Rack)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range s.Unhealthy {
		if p.Topic == "__cluster_metadata" {
			continue // said above
		}
		fmt.Fprintf(to, "%s-%d  leader %d  replicas %s  in sync %s: %s\n", p.Topic, p.Partition, p.Leader, list(p.Replicas), list(p.InSync), strings.Join(p.Why, "; "))
	}
	return nil
}

func known(n int64) string {
	if n < 0 {
		return "?"
	}
	return strconv.FormatInt(n, 10)
}

// kmsgRequest asks any broker.
func kmsgRequest[R kmsg.Response](ctx context.Context, admin *administrator, request kmsg.Request) (R, error) {
	var none R
	response, err := admin.raw.Request(ctx, request)
	if err != nil {
		return none, err
	}
	return response.(R), nil
}

func newClusterEvents(t *topicCommand) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print the history of leaders, in-sync sets and nodes, with the causes",
		Long: `Print the history of leaders, in-sync sets and nodes, with the causes, from the
cluster's metadata. Any node's HTTP port gives it (setting http); a node shows what
it has learnt of the cluster so far.`,
		Args: noArguments,
	}
	address := cmd.Flags().String("http", "127.0.0.1:9644", "HOST:PORT of a node's HTTP port")
	limit := cmd.Flags().IntP("limit", "n", 100, "how many events, the last ones")
	topic := cmd.Flags().String("topic", "", "only events of this topic")
	cmd.RunE = trying(func(cmd *cobra.Command, args []string) error {
		if err := oneOf("output", t.output, "text", "json"); err != nil {
			return err
		}
		if *limit < 1 {
			return usage("flag --limit: got %d, takes a number from 1 on", *limit)
		}
		ask := *limit
		if *topic != "" {
			ask = math.MaxInt32 // the last ones of the topic may lie far back
		}
		events, err := readEvents(cmd.Context(), *address, ask, t.cluster.timeout)
		if err != nil {
			return err
		}
		if *topic != "" {
			events = slices.DeleteFunc(events, func(e server.Event) bool { return e.Topic != *topic })
			events = events[max(0, len(events)-*limit):]
		}
		if t.output == "json" {
			return writeJSON(cmd.OutOrStdout(), events)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "TIME\tEVENT\tOF\tDETAIL\tCAUSE")
		for _, e := range events {
			of := "cluster"
			switch {
			case e.Partition != nil:
				of = fmt.Sprintf("%s-%d", e.Topic, *e.Partition)
			case e.Topic != "":
				of = e.Topic
			case e.Node != nil:
				of = fmt.Sprintf("node %d", *e.Node)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.Time.Format("2006-01-02T15:04:05.000Z07:00"), e.Event, of, e.Detail, e.Cause)
		}
		return w.Flush()
	})
	return cmd
}

func readEvents(ctx context.Context, address string, limit int, timeout time.Duration) ([]server.Event, error) {
	if !isAddress(address) {
		return nil, usage("flag --http: got %q, takes HOST:PORT", address)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/cluster/events?limit=%d", address, limit), nil)
	if err != nil {
		return nil, usage("flag --http: got %q, takes HOST:PORT", address)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, explainHTTP("read events", address, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read events: %s answers %s; is it a chronik node?", address, response.Status)
	}
	var events []server.Event
	if err := json.NewDecoder(response.Body).Decode(&events); err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}

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

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kmsg"
)

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

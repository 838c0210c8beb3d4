package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/edge/server"
)

// health is what explains the state of partitions.
type health struct {
	cluster *kmsg.DescribeClusterResponse
	topics  kadm.TopicDetails
	logs    kadm.DescribedAllLogDirs
	unfit   []server.UnfitReplica
}

// readUnfit asks why replicas cannot be used, where there are any and the
// address is of this cluster.
func (h *health) readUnfit(ctx context.Context, address string) {
	offline := false
	for _, t := range h.topics {
		for _, p := range t.Partitions {
			offline = offline || len(p.OfflineReplicas) > 0
		}
	}
	if !offline || address == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/cluster/unfit", address), nil)
	if err != nil {
		return
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	var u server.Unfit
	if json.NewDecoder(response.Body).Decode(&u) == nil && u.ClusterID == h.cluster.ClusterID {
		h.unfit = u.Replicas
	}
}

// cannotUse says in words why a live node cannot use its replica.
func (h *health) cannotUse(node int32, topic string, partition int32) string {
	for _, u := range h.unfit {
		if u.Topic == topic && u.Partition == partition && u.Node == node {
			return fmt.Sprintf("node %d cannot use its replica (%s): %s", node, u.Fitness, u.Cause)
		}
	}
	return fmt.Sprintf("node %d cannot use its replica; its log and `chronik cluster events` say why", node)
}

func readHealth(ctx context.Context, admin *administrator, topics ...string) (*health, error) {
	h := &health{}
	var err error
	request := kmsg.NewPtrDescribeClusterRequest()
	request.IncludeFencedBrokers = true
	if h.cluster, err = kmsgRequest[*kmsg.DescribeClusterResponse](ctx, admin, request); err == nil {
		err = kerr.ErrorForCode(h.cluster.ErrorCode)
	}
	if err != nil {
		return nil, explain("describe the cluster", err, "")
	}
	if h.topics, err = admin.ListTopicsWithInternal(ctx, topics...); err != nil {
		return nil, explain("list topics", err, "")
	}
	// Nodes that do not answer are shown as such.
	attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	h.logs, err = admin.DescribeAllLogDirs(attempt, nil)
	var partly *kadm.ShardErrors
	if err != nil && !errors.As(err, &partly) {
		h.logs = nil
	}
	return h, nil
}

func (h *health) bytes(node int32) int64 {
	dirs, ok := h.logs[node]
	if !ok {
		return -1
	}
	return dirs.Size()
}

// lag is what a replica lacks, as it knows itself; -1 when it does not answer.
func (h *health) lag(node int32, topic string, partition int32) int64 {
	for _, dir := range h.logs[node] {
		if p, ok := dir.Topics.Lookup(topic, partition); ok {
			return p.OffsetLag
		}
	}
	return -1
}

// why says what is wrong with a partition, in words; nothing when it is healthy.
func (h *health) why(topic string, p kadm.PartitionDetail) []string {
	var why []string
	state := map[int32]string{}
	for _, r := range p.Replicas {
		state[r] = "is not registered"
	}
	for _, b := range h.cluster.Brokers {
		if _, ok := state[b.NodeID]; ok {
			state[b.NodeID] = ""
			if b.IsFenced {
				state[b.NodeID] = "is down"
			}
		}
	}
	if p.Leader < 0 {
		why = append(why, "no leader: none of those that have all acknowledged records is up")
	}
	for _, r := range p.Replicas {
		if slices.Contains(p.ISR, r) && state[r] == "" {
			continue
		}
		switch lag := h.lag(r, topic, p.Partition); {
		case state[r] != "":
			why = append(why, fmt.Sprintf("node %d %s", r, state[r]))
		case slices.Contains(p.OfflineReplicas, r):
			why = append(why, h.cannotUse(r, topic, p.Partition))
		case lag > 0:
			why = append(why, fmt.Sprintf("node %d is %d records behind", r, lag))
		case lag < 0:
			why = append(why, fmt.Sprintf("node %d has no log of it, or does not answer", r))
		default:
			why = append(why, fmt.Sprintf("node %d catches up", r))
		}
	}
	if p.Leader >= 0 && len(p.Replicas) > 0 && p.Leader != p.Replicas[0] && len(why) == 0 {
		return nil // the preferred leader gets it back by itself
	}
	return why
}

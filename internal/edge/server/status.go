package server

import (
	"strconv"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
	"chronik/internal/edge/metrics"
	"chronik/internal/host/broker"
)

// What a scrape reads of the node. Gauges are read when asked for, so that
// nothing on the way of records has to keep them.
var statusMetrics = []metrics.Metric{
	{Kind: metrics.Gauge, Name: "chronik_ready", Help: "1 while the node is registered and serves."},
	{Kind: metrics.Gauge, Name: "chronik_controller_active", Help: "1 on the node that is the active controller."},
	{Kind: metrics.Gauge, Name: "chronik_controller_epoch", Help: "Epoch (Raft term) of the active controller."},
	{Kind: metrics.Gauge, Name: "chronik_metadata_offset", Help: "Offset of the last metadata record that this node has applied."},
	{Kind: metrics.Gauge, Name: "chronik_brokers", Help: "Registered brokers.", Labels: []string{"state"}},
	{Kind: metrics.Gauge, Name: "chronik_topics", Help: "Topics in the cluster."},
	{Kind: metrics.Gauge, Name: "chronik_partitions", Help: "Replicas on this node, by role.", Labels: []string{"role"}},
	{Kind: metrics.Gauge, Name: "chronik_partitions_under_replicated", Help: "Partitions led by this node whose in-sync set lacks a replica."},
	{Kind: metrics.Gauge, Name: "chronik_partitions_under_min_isr", Help: "Partitions led by this node with fewer in-sync replicas than min.insync.replicas."},
	{Kind: metrics.Gauge, Name: "chronik_partitions_failed", Help: "Replicas on this node whose log failed."},
	{Kind: metrics.Gauge, Name: "chronik_replicas_unfit", Help: "Replicas in the cluster that their broker cannot use, by what is wrong with them; /cluster/unfit has the causes.", Labels: []string{"broker", "fitness"}},
	{Kind: metrics.Gauge, Name: "chronik_partitions_offline", Help: "Partitions of the cluster without a leader."},
	{Kind: metrics.Gauge, Name: "chronik_replication_lag_records", Help: "Records that a follower has not yet on disk, of all partitions led by this node.", Labels: []string{"follower"}},
	{Kind: metrics.Gauge, Name: "chronik_replication_lag_records_max", Help: "The same of the partition that lags most.", Labels: []string{"follower"}},
	{Kind: metrics.Counter, Name: "chronik_isr_shrinks_total", Help: "In-sync sets of partitions led by this node that lost a member."},
	{Kind: metrics.Counter, Name: "chronik_isr_expands_total", Help: "In-sync sets of partitions led by this node that gained a member."},
	{Kind: metrics.Counter, Name: "chronik_leader_elections_total", Help: "Elections of this node to lead a partition."},
	{Kind: metrics.Counter, Name: "chronik_unclean_leader_elections_total", Help: "Those by which acknowledged records may have been lost."},
	{Kind: metrics.Counter, Name: "chronik_replication_throttled_bytes_total", Help: "Bytes sent to followers that catch up under a limit on replication."},
	{Kind: metrics.Gauge, Name: "chronik_log_bytes", Help: "Bytes of all logs on this node."},
	{Kind: metrics.Gauge, Name: "chronik_fetch_sessions", Help: "Incremental fetch sessions."},
}

var metricIndex = indexOf(statusMetrics)

// indexOf finds metrics by their names.
func indexOf(list []metrics.Metric) map[string]int {
	index := make(map[string]int, len(list))
	for i, m := range list {
		index[m.Name] = i
	}
	return index
}

func (n *node) openMetrics() {
	n.metrics = metrics.New(broker.Version)
	n.metrics.Status(statusMetrics, n.readStatus)
	n.metrics.Status(lagMetrics, n.readLag)
	n.metrics.Status(cleaningMetrics, n.readCleaning)
	n.metrics.Status(scrubMetrics, n.readScrub)
}

func (n *node) readStatus(emit func(metrics.Sample)) {
	put := func(name string, value float64, labels ...string) {
		emit(metrics.Sample{Metric: metricIndex[name], Value: value, Labels: labels})
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	image, quorum := n.broker.Image(), n.broker.Quorum()
	put("chronik_ready", flag(n.broker.Ready()))
	put("chronik_controller_active", flag(quorum.Leading))
	put("chronik_controller_epoch", float64(quorum.Epoch))
	put("chronik_metadata_offset", float64(image.Offset()))
	active, fenced, offline := 0, 0, 0
	for _, b := range image.Brokers() {
		if b.Active() {
			active++
		} else {
			fenced++
		}
	}
	put("chronik_brokers", float64(active), "active")
	put("chronik_brokers", float64(fenced), "fenced")
	put("chronik_topics", float64(image.TopicCount()))
	unfit := make(map[[2]string]int)
	for _, t := range image.Topics() {
		for _, p := range t.Partitions {
			if p.Leader == kafka.NoNode {
				offline++
			}
			for _, u := range p.Unfit {
				unfit[[2]string{strconv.Itoa(int(u.Node)), u.Fitness.String()}]++
			}
		}
	}
	put("chronik_partitions_offline", float64(offline))
	for labels, count := range unfit {
		put("chronik_replicas_unfit", float64(count), labels[:]...)
	}
	var roles [3]int
	var under, underMin, failed int
	var bytes int64
	lag, most := make(map[kafka.NodeID]int64), make(map[kafka.NodeID]int64)
	for _, p := range n.broker.Partitions() {
		s := p.Status()
		roles[s.Role]++
		bytes += s.Size
		if s.Offline {
			failed++
		}
		if s.Role == replica.Leader {
			for _, f := range s.Followers {
				behind := max(0, int64(s.End-f.Synced))
				lag[f.Node] += behind
				most[f.Node] = max(most[f.Node], behind)
			}
			if len(s.InSync) < len(s.Replicas) {
				under++
			}
			if len(s.InSync) < s.MinInSync {
				underMin++
			}
		}
	}
	for role, count := range roles {
		put("chronik_partitions", float64(count), replica.Role(role).String())
	}
	put("chronik_partitions_under_replicated", float64(under))
	put("chronik_partitions_under_min_isr", float64(underMin))
	put("chronik_partitions_failed", float64(failed))
	for node, records := range lag {
		put("chronik_replication_lag_records", float64(records), strconv.Itoa(int(node)))
		put("chronik_replication_lag_records_max", float64(most[node]), strconv.Itoa(int(node)))
	}
	counts := n.broker.Counts()
	put("chronik_isr_shrinks_total", float64(counts.Shrinks))
	put("chronik_isr_expands_total", float64(counts.Expands))
	put("chronik_leader_elections_total", float64(counts.Elections))
	put("chronik_unclean_leader_elections_total", float64(counts.Unclean))
	put("chronik_replication_throttled_bytes_total", float64(n.broker.ThrottledBytes()))
	put("chronik_log_bytes", float64(bytes))
	sessions, _ := n.sessions.Len()
	put("chronik_fetch_sessions", float64(sessions))
}

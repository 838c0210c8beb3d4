package server

import (
	"strconv"
	"strings"
	"time"

	"chronik/internal/core/group"
	"chronik/internal/edge/metrics"
	"chronik/internal/host/broker"
)

// The lag of groups is shown by the node that coordinates the group, so that
// each series is there once. It is read when Prometheus asks: the coordinator
// knows what is committed, and asks the leaders of the partitions, once each,
// where they end and how old their records are. The number of partitions
// shown is bounded by group-lag-partitions-max, the first by name.
const (
	lagRecords = iota
	lagSeconds
	lagOmitted
	lagGroups
)

var lagMetrics = []metrics.Metric{
	lagRecords: {Kind: metrics.Gauge, Name: "chronik_group_lag_records", Labels: []string{"group", "topic", "partition"},
		Help: "Records between a group's committed offset and the high watermark."},
	lagSeconds: {Kind: metrics.Gauge, Name: "chronik_group_lag_seconds", Labels: []string{"group", "topic", "partition"},
		Help: "Age of the oldest record that a group has not committed; 0 when there is none."},
	lagOmitted: {Kind: metrics.Gauge, Name: "chronik_group_lag_partitions_omitted",
		Help: "Partitions of groups whose lag is not shown because of group-lag-partitions-max."},
	lagGroups: {Kind: metrics.Gauge, Name: "chronik_groups", Labels: []string{"type", "state"},
		Help: "Groups that this node coordinates."},
}

// lagWait is how long a scrape waits for the leaders of partitions.
const lagWait = time.Second

func (n *node) readLag(emit func(metrics.Sample)) {
	counts := map[[2]string]int{}
	n.broker.Groups().EachGroup(func(s group.GroupStats) { counts[[2]string{s.Type, s.State}]++ })
	for labels, count := range counts {
		emit(metrics.Sample{Metric: lagGroups, Value: float64(count), Labels: labels[:]})
	}
	answer := make(chan []broker.GroupLag, 1)
	omitted := n.broker.GroupLags(time.Now(), n.cfg.GroupLagPartitionsMax, lagWait, func(lags []broker.GroupLag) { answer <- lags })
	emit(metrics.Sample{Metric: lagOmitted, Value: float64(omitted)})
	select {
	case lags := <-answer:
		for _, l := range lags {
			labels := []string{strings.ToValidUTF8(l.Group, "�"), l.Topic, strconv.Itoa(int(l.Partition))}
			emit(metrics.Sample{Metric: lagRecords, Value: float64(l.Records), Labels: labels})
			emit(metrics.Sample{Metric: lagSeconds, Value: l.Time.Seconds(), Labels: labels})
		}
	case <-time.After(2 * lagWait): // the node is about to stop
	}
}

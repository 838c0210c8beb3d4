package api

import (
	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/core/replica"
	"chronik/internal/host/partition"
)

// nearestReplica is the in-sync follower in the consumer's rack that should
// serve it (KIP-392, as Kafka's RackAwareReplicaSelector chooses): it has the
// offset asked for, and of several the one that has most. NoNode: the leader
// itself, which also is whoever is asked but does not lead.
func nearestReplica(b Broker, topic *metadata.Topic, hosted *partition.Partition, rack string, offset kafka.Offset) kafka.NodeID {
	if _, leads := hosted.Leads(); !leads || rack == "" {
		return kafka.NoNode
	}
	image := b.Image()
	if own := image.Broker(b.Node()); own == nil || own.Rack == "" || own.Rack == rack {
		return kafka.NoNode
	}
	p := topic.Partition(hosted.Number())
	near := false
	for _, n := range p.InSync {
		br := image.Broker(n)
		near = near || n != b.Node() && br.Active() && br.Rack == rack
	}
	if !near {
		return kafka.NoNode // without asking the partition
	}
	best := replica.FollowerStatus{Node: kafka.NoNode}
	for _, f := range hosted.Status().Followers {
		br := image.Broker(f.Node)
		if !p.IsInSync(f.Node) || !br.Active() || br.Rack != rack || f.Written < offset || f.LogStart > offset {
			continue
		}
		if best.Node == kafka.NoNode || f.Written > best.Written {
			best = f
		}
	}
	return best.Node
}

package sim

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/host/coordinator"
)

// answer holds what a node says of the cluster against the metadata that it has
// at that moment: those are the same on all nodes, which metadata checks.
func (c *checkers) answer(n *node, resp kmsg.Response) {
	if n.broker == nil {
		return
	}
	d := described{n: n, image: n.broker.Image()}
	switch r := resp.(type) {
	case *kmsg.MetadataResponse:
		d.metadata(r)
	case *kmsg.DescribeTopicPartitionsResponse:
		d.partitions(r)
	case *kmsg.DescribeClusterResponse:
		d.cluster(r)
	case *kmsg.FindCoordinatorResponse:
		d.coordinators(r)
	case *kmsg.DescribeConfigsResponse:
		d.configs(r)
	case *kmsg.CreateTopicsResponse:
		d.created(r)
	case *kmsg.ListOffsetsResponse:
		d.offsets(r)
	}
	if d.wrong != "" {
		c.w.violate("answers say what the metadata do", "node %d at metadata offset %d, %T: %s", n.id, d.image.Offset(), resp, d.wrong)
	}
}

// described is what a node says, and what is wrong with it first.
type described struct {
	n     *node
	image *metadata.Image
	wrong string
}

// same notes where what is said is not what should be.
func (d *described) same(what string, said, is any) {
	if s, i := fmt.Sprint(said), fmt.Sprint(is); s != i && d.wrong == "" {
		d.wrong = fmt.Sprintf("%s: said is %s, but it is %s", what, s, i)
	}
}

func (d *described) live(n kafka.NodeID) bool {
	b := d.image.Broker(n)
	return b != nil && !b.Fenced
}

// broker checks how one of the brokers that clients may ask is to be reached.
func (d *described) broker(id int32, host string, port int32) {
	b := d.image.Broker(kafka.NodeID(id))
	if b == nil {
		d.same(fmt.Sprintf("broker %d", id), "there", "not there")
		return
	}
	d.same(fmt.Sprintf("address of broker %d", id), fmt.Sprintf("%s:%d", host, port), fmt.Sprintf("node%d:9092", id))
}

func (d *described) controller(id int32) {
	if any := slices.ContainsFunc(d.image.Brokers(), func(b *metadata.Broker) bool { return !b.Fenced }); any || id >= 0 {
		d.same("the controller is live", d.live(kafka.NodeID(id)), true)
	}
}

func (d *described) metadata(r *kmsg.MetadataResponse) {
	live := 0
	for _, b := range d.image.Brokers() {
		if !b.Fenced {
			live++
		}
	}
	d.same("number of brokers", len(r.Brokers), live)
	for _, b := range r.Brokers {
		d.broker(b.NodeID, b.Host, b.Port)
		d.same("broker is live", d.live(kafka.NodeID(b.NodeID)), true)
	}
	d.controller(r.ControllerID)
	for i := range r.Topics {
		rt := &r.Topics[i]
		if rt.ErrorCode != 0 || rt.Topic == nil {
			continue
		}
		t := d.image.TopicByName(*rt.Topic)
		if !d.topic(t, rt.TopicID, r.Version >= 10, len(rt.Partitions)) {
			return
		}
		for j := range rt.Partitions {
			p := &rt.Partitions[j]
			epoch := p.LeaderEpoch
			if r.Version < 7 {
				epoch = int32(t.Partition(p.Partition).LeaderEpoch)
			}
			d.partition(t, p.Partition, p.Leader, epoch, p.Replicas, p.ISR)
			d.same("error", p.ErrorCode, map[bool]int16{true: int16(kafka.ErrLeaderNotAvailable)}[p.Leader < 0])
		}
	}
}

func (d *described) partitions(r *kmsg.DescribeTopicPartitionsResponse) {
	for i := range r.Topics {
		rt := &r.Topics[i]
		if rt.ErrorCode != 0 || rt.Topic == nil {
			continue
		}
		t := d.image.TopicByName(*rt.Topic)
		if !d.topic(t, rt.TopicID, true, len(rt.Partitions)) {
			return
		}
		for j := range rt.Partitions {
			p := &rt.Partitions[j]
			d.partition(t, p.Partition, p.LeaderID, p.LeaderEpoch, p.Replicas, p.ISR)
			d.same("eligible replicas", p.EligibleLeaderReplicas, t.Partition(p.Partition).EligibleLeader)
		}
	}
}

func (d *described) topic(t *metadata.Topic, id kafka.TopicID, hasID bool, partitions int) bool {
	if t == nil {
		d.same("topic", "there", "not there")
		return false
	}
	if hasID {
		d.same("id of "+t.Name, id, t.ID)
	}
	d.same("number of partitions of "+t.Name, partitions, len(t.Partitions))
	return d.wrong == ""
}

func (d *described) partition(t *metadata.Topic, number, leader, epoch int32, replicas, inSync []int32) {
	p := t.Partition(number)
	if p == nil {
		d.same("partition", "there", "not there")
		return
	}
	lead := int32(kafka.NoNode)
	if d.live(p.Leader) {
		lead = int32(p.Leader)
	}
	if leader == lead && epoch == int32(p.LeaderEpoch) && sameNodes(replicas, p.Replicas) && sameNodes(inSync, p.InSync) {
		return // the usual case, without making text of it
	}
	what := fmt.Sprintf("%s-%d: ", t.Name, number)
	d.same(what+"leader", leader, lead)
	d.same(what+"leader epoch", epoch, p.LeaderEpoch)
	d.same(what+"replicas", replicas, p.Replicas)
	d.same(what+"in-sync set", inSync, p.InSync)
}

func sameNodes(a []int32, b []kafka.NodeID) bool {
	return slices.EqualFunc(a, b, func(x int32, y kafka.NodeID) bool { return x == int32(y) })
}

func (d *described) cluster(r *kmsg.DescribeClusterResponse) {
	d.same("cluster", r.ClusterID, d.image.ClusterID())
	d.controller(r.ControllerID)
	for _, b := range r.Brokers {
		d.broker(b.NodeID, b.Host, b.Port)
		d.same("broker is live", d.live(kafka.NodeID(b.NodeID)), true)
	}
}

func (d *described) coordinators(r *kmsg.FindCoordinatorResponse) {
	t := d.image.TopicByName(kafka.TopicConsumerOffsets)
	for _, co := range r.Coordinators {
		if co.ErrorCode != 0 {
			continue
		}
		if t == nil {
			d.same("coordinator", co.NodeID, "there is no topic of offsets")
			return
		}
		d.same("coordinator of "+co.Key, co.NodeID, t.Partition(coordinator.PartitionOf(co.Key, int32(len(t.Partitions)))).Leader)
		d.broker(co.NodeID, co.Host, co.Port)
	}
}

// configs checks those of topics that were set: what the others are is a matter
// of package config.
func (d *described) configs(r *kmsg.DescribeConfigsResponse) {
	for i := range r.Resources {
		rr := &r.Resources[i]
		if rr.ErrorCode != 0 || rr.ResourceType != kmsg.ConfigResourceTypeTopic {
			continue
		}
		set := d.image.Config(metadata.ConfigResource{Type: metadata.ResourceTopic, Name: rr.ResourceName})
		found := 0
		for _, e := range rr.Configs {
			value, ok := set[e.Name]
			if ok {
				found++
				d.same(rr.ResourceName+", config "+e.Name, stringOf(e.Value), value)
			}
			d.same(rr.ResourceName+", config "+e.Name+" was set", e.Source == kmsg.ConfigSourceDynamicTopicConfig, ok)
		}
		d.same(rr.ResourceName+", number of configs set", found, len(set))
	}
}

func (d *described) created(r *kmsg.CreateTopicsResponse) {
	for i := range r.Topics {
		rt := &r.Topics[i]
		t := d.image.Topic(rt.TopicID)
		if rt.ErrorCode != 0 || t == nil {
			continue // or it is gone again
		}
		d.same("name of the topic made", rt.Topic, t.Name)
		if t.Partition(0).PartitionEpoch == 0 { // else it may have been moved or extended since
			d.same("partitions of "+rt.Topic, rt.NumPartitions, len(t.Partitions))
			d.same("replicas of "+rt.Topic, rt.ReplicationFactor, len(t.Partition(0).Replicas))
		} else if rt.NumPartitions > int32(len(t.Partitions)) {
			d.same("partitions of "+rt.Topic, rt.NumPartitions, len(t.Partitions))
		}
	}
}

// known checks that what a client was told of is there, or gone, on all nodes
// that serve: a controller answers only when they act on it.
func (c *checkers) known(what string, holds func(*metadata.Image) bool) {
	for _, n := range c.w.nodes {
		if !n.up || n.broker == nil || !n.broker.MayServe(n.time()) {
			continue
		}
		if b := c.newestImage().Broker(n.id); n.stopping && (b == nil || !b.Active()) {
			continue // it has been let go, and is about to learn that
		}
		image := n.broker.Image()
		if b := image.Broker(n.id); b != nil && b.Active() && !holds(image) {
			c.w.violate("what was answered is known to all who serve", "%s, but node %d does not know at metadata offset %d", what, n.id, image.Offset())
			return
		}
	}
}

// offsets checks that what is told by time is committed.
func (d *described) offsets(r *kmsg.ListOffsetsResponse) {
	for _, rt := range r.Topics {
		t := d.image.TopicByName(rt.Topic)
		for _, rp := range rt.Partitions {
			if t == nil || rp.ErrorCode != 0 || rp.Timestamp < 0 {
				continue
			}
			if p := d.n.broker.Partition(t.ID, rp.Partition); p != nil && kafka.Offset(rp.Offset) >= p.HighWatermark() {
				d.same(fmt.Sprintf("offset %d of %s-%d", rp.Offset, rt.Topic, rp.Partition), "committed", fmt.Sprintf("at the high watermark %d or behind it", p.HighWatermark()))
			}
		}
	}
}

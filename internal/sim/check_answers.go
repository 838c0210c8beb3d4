package sim

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/host/coordinator"
)

// answer holds what a node says of the cluster against the metadata that it has
// at that moment: those are the same on all nodes, which metadata checks.
func (c *checkers) answer(n *node, req kmsg.Request, resp kmsg.Response) {
	if n.broker == nil {
		return
	}
	d := described{n: n, image: n.broker.Image()}
	switch r := resp.(type) {
	case *kmsg.MetadataResponse:
		d.metadata(r)
	case *kmsg.DescribeTopicPartitionsResponse:
		d.partitions(req.(*kmsg.DescribeTopicPartitionsRequest), r)
	case *kmsg.DescribeProducersResponse:
		d.producers(r)
	case *kmsg.ProduceResponse:
		d.producedHints(r)
	case *kmsg.FetchResponse:
		d.fetchedHints(r)
		d.fetchEpochs(req.(*kmsg.FetchRequest), r)
	case *kmsg.OffsetForLeaderEpochResponse:
		d.endEpochs(req.(*kmsg.OffsetForLeaderEpochRequest), r)
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
		d.listEpochs(req.(*kmsg.ListOffsetsRequest), r)
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
		if known := d.image.Broker(kafka.NodeID(b.NodeID)); known != nil {
			d.same(fmt.Sprintf("rack of broker %d", b.NodeID), stringOf(b.Rack), known.Rack)
		}
	}
	if r.Version >= 2 {
		d.same("cluster", stringOf(r.ClusterID), d.image.ClusterID())
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
			if r.Version >= 5 {
				d.offline(t, p.Partition, p.OfflineReplicas)
			}
			d.same("error", p.ErrorCode, map[bool]int16{true: int16(kafka.ErrLeaderNotAvailable)}[p.Leader < 0])
		}
	}
}

// partitions checks an answer that may be one of several: it has as many
// partitions as were asked for, from the cursor on, in the order of topics and
// partitions, and says where to go on.
func (d *described) partitions(req *kmsg.DescribeTopicPartitionsRequest, r *kmsg.DescribeTopicPartitionsResponse) {
	var want, got []kafka.TopicPartition
	names := make(map[string]bool)
	for i := range req.Topics {
		names[req.Topics[i].Topic] = true
	}
	for _, t := range d.image.Topics() {
		for i := range t.Partitions {
			after := req.Cursor == nil || t.Name > req.Cursor.Topic || t.Name == req.Cursor.Topic && int32(i) >= req.Cursor.Partition
			if after && (len(names) == 0 || names[t.Name]) {
				want = append(want, kafka.TopicPartition{Topic: t.Name, Partition: int32(i)})
			}
		}
	}
	slices.SortFunc(want, func(a, b kafka.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for i := range r.Topics {
		rt := &r.Topics[i]
		if rt.ErrorCode == int16(kafka.ErrInvalidRequest) {
			return
		}
		if rt.ErrorCode != 0 || rt.Topic == nil {
			continue
		}
		t := d.image.TopicByName(*rt.Topic)
		if t == nil {
			d.same("topic", "there", "not there")
			return
		}
		d.same("id of "+t.Name, kafka.TopicID(rt.TopicID), t.ID)
		for j := range rt.Partitions {
			p := &rt.Partitions[j]
			got = append(got, kafka.TopicPartition{Topic: t.Name, Partition: p.Partition})
			d.partition(t, p.Partition, p.LeaderID, p.LeaderEpoch, p.Replicas, p.ISR)
			if known := t.Partition(p.Partition); known != nil {
				d.same("eligible replicas", p.EligibleLeaderReplicas, known.EligibleLeader)
				d.offline(t, p.Partition, p.OfflineReplicas)
			}
		}
	}
	most := min(len(want), max(1, int(req.ResponsePartitionLimit)))
	d.same("partitions", got, want[:most])
	next := "none"
	if c := r.NextCursor; c != nil {
		next = fmt.Sprintf("%s-%d", c.Topic, c.Partition)
	}
	is := "none"
	if most < len(want) {
		is = fmt.Sprintf("%s-%d", want[most].Topic, want[most].Partition)
	}
	d.same("where to go on", next, is)
}

// offline checks the replicas of which clients are told that they are not there.
func (d *described) offline(t *metadata.Topic, number int32, said []int32) {
	p := t.Partition(number)
	if p == nil {
		return
	}
	var is []kafka.NodeID
	for _, r := range p.Replicas {
		if !d.live(r) || p.IsUnfit(r) {
			is = append(is, r)
		}
	}
	d.same(fmt.Sprintf("replicas of %s-%d that are offline", t.Name, number), said, is)
}

// producers checks what the leader of a partition knows of producers all of whose
// batches are acknowledged.
func (d *described) producers(r *kmsg.DescribeProducersResponse) {
	w := d.n.w
	if w.check.mayForget() {
		return
	}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			rp := &r.Topics[i].Partitions[j]
			t := d.image.TopicByName(r.Topics[i].Topic)
			if rp.ErrorCode != 0 || t == nil || w.load.intruder.forgets() {
				continue
			}
			part, hosted := w.check.part(t.ID, rp.Partition), d.n.broker.Partition(t.ID, rp.Partition)
			if part == nil || hosted == nil {
				continue
			}
			newest := w.check.newestImage().Topic(t.ID).Partition(rp.Partition)
			if epoch, leads := hosted.Leads(); !leads || newest == nil || epoch != newest.LeaderEpoch || newest.Leader != d.n.id {
				continue
			}
			for _, p := range w.load.producers {
				for _, ln := range p.lanes {
					if ln.part != part || !p.idempotent || !ln.known || len(ln.pending) > 0 || ln.flying > 0 {
						continue
					}
					said := "nothing"
					for _, a := range rp.ActiveProducers {
						if a.ProducerID == p.id {
							said = fmt.Sprintf("epoch %d, sequence %d", a.ProducerEpoch, a.LastSequence)
						}
					}
					d.same(fmt.Sprintf("%s on %s", p.c.name, part), said, fmt.Sprintf("epoch %d, sequence %d", p.epoch+ln.epoch, nextSequence(ln.seq, -1)))
				}
			}
		}
	}
}

// hint checks what is told along with an error of who leads (KIP-951): what the
// node knows, and how that one is to be reached.
func (d *described) hint(name string, id kafka.TopicID, number, leader, epoch int32, itself bool, brokers map[int32]string) {
	t := d.image.Topic(id)
	if id.IsZero() {
		t = d.image.TopicByName(name)
	}
	var p *metadata.Partition
	if t != nil {
		p = t.Partition(number)
	}
	if t == nil || d.n.w.check.part(t.ID, number) == nil || d.n.w.check.part(t.ID, number).topic.again {
		return // it may have been another topic of the name
	}
	is, isEpoch := kafka.NoNode, kafka.NoLeaderEpoch
	if p != nil && (p.Leader != d.n.id || itself) {
		if isEpoch = p.LeaderEpoch; d.live(p.Leader) {
			is = p.Leader
			d.same(fmt.Sprintf("address of broker %d", is), brokers[int32(is)], fmt.Sprintf("node%d:9092", is))
		}
	}
	d.same(fmt.Sprintf("leader of %s-%d, told with an error", t.Name, number), leader, is)
	d.same(fmt.Sprintf("leader epoch of %s-%d, told with an error", t.Name, number), epoch, isEpoch)
}

func (d *described) producedHints(r *kmsg.ProduceResponse) {
	brokers := make(map[int32]string)
	for _, b := range r.Brokers {
		brokers[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
	}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			if p := &r.Topics[i].Partitions[j]; r.Version >= 10 && kafka.ErrorCode(p.ErrorCode) == kafka.ErrNotLeaderOrFollower {
				d.hint(r.Topics[i].Topic, r.Topics[i].TopicID, p.Partition, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch, false, brokers)
			}
		}
	}
}

func (d *described) fetchedHints(r *kmsg.FetchResponse) {
	brokers := make(map[int32]string)
	for _, b := range r.Brokers {
		brokers[b.NodeID] = fmt.Sprintf("%s:%d", b.Host, b.Port)
	}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			p := &r.Topics[i].Partitions[j]
			fenced := kafka.ErrorCode(p.ErrorCode) == kafka.ErrFencedLeaderEpoch
			if r.Version >= 16 && (fenced || kafka.ErrorCode(p.ErrorCode) == kafka.ErrNotLeaderOrFollower) {
				d.hint(r.Topics[i].Topic, r.Topics[i].TopicID, p.Partition, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch, fenced, brokers)
			}
		}
	}
}

// epoch checks that a client which knows another leader epoch than the node does
// is not answered as if it knew this one (KIP-320).
func (d *described) epoch(t *metadata.Topic, number, client int32, code int16) {
	if t == nil || client < 0 || code != 0 {
		return
	}
	if hosted := d.n.broker.Partition(t.ID, number); hosted != nil {
		d.same(fmt.Sprintf("leader epoch of %s-%d, of the client that is answered without an error", t.Name, number), client, hosted.Status().LeaderEpoch)
	}
}

func (d *described) fetchEpochs(req *kmsg.FetchRequest, r *kmsg.FetchResponse) {
	if req.SessionEpoch > 0 || req.Version < 9 || r.ErrorCode != 0 {
		return
	}
	for i := range req.Topics {
		t := d.image.TopicByName(req.Topics[i].Topic)
		if req.Version >= 13 {
			t = d.image.Topic(req.Topics[i].TopicID)
		}
		for _, p := range req.Topics[i].Partitions {
			for j := range r.Topics {
				if r.Topics[j].Topic != req.Topics[i].Topic || r.Topics[j].TopicID != req.Topics[i].TopicID {
					continue
				}
				for _, rp := range r.Topics[j].Partitions {
					// What was read before another led, while the request waits for more, is given.
					if read := req.MinBytes > 1 && len(rp.RecordBatches) > 0; rp.Partition == p.Partition && !read {
						d.epoch(t, p.Partition, p.CurrentLeaderEpoch, rp.ErrorCode)
					}
				}
			}
		}
	}
}

func (d *described) listEpochs(req *kmsg.ListOffsetsRequest, r *kmsg.ListOffsetsResponse) {
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions { // which are in the order of the request
			d.epoch(d.image.TopicByName(req.Topics[i].Topic), r.Topics[i].Partitions[j].Partition, req.Topics[i].Partitions[j].CurrentLeaderEpoch, r.Topics[i].Partitions[j].ErrorCode)
		}
	}
}

func (d *described) endEpochs(req *kmsg.OffsetForLeaderEpochRequest, r *kmsg.OffsetForLeaderEpochResponse) {
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			d.epoch(d.image.TopicByName(req.Topics[i].Topic), r.Topics[i].Partitions[j].Partition, req.Topics[i].Partitions[j].CurrentLeaderEpoch, r.Topics[i].Partitions[j].ErrorCode)
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

package sim

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/group"
	"chronik/internal/core/metadata"
	"chronik/internal/host/broker"
	"chronik/internal/host/partition"
)

// leads checks that a leader epoch has one leader.
func (c *checkers) leads(p *topicPart, n *node, epoch kafka.LeaderEpoch) {
	if p.leaders == nil {
		p.leaders = make(map[kafka.LeaderEpoch]int)
	}
	other, ok := p.leaders[epoch]
	switch {
	case !ok:
		p.leaders[epoch], p.ledSince = n.index, c.w.now
		c.epochCount++
	case other != n.index:
		c.w.violate("one leader per epoch", "%s: nodes %d and %d both led in epoch %d", p, other+1, n.id, epoch)
	}
}

// leadsNow is the epoch in which a node leads a partition, as far as it and whoever
// knows most of the cluster know; NoLeaderEpoch if it does not.
func (c *checkers) leadsNow(p *topicPart, node int) kafka.LeaderEpoch {
	n, image := c.w.nodes[node], c.newestImage()
	if !n.up || n.broker == nil || image == nil {
		return kafka.NoLeaderEpoch
	}
	hosted, state := n.broker.Partition(p.topic.id, p.number), image.Topic(p.topic.id).Partition(p.number)
	if hosted == nil || state == nil || state.Leader != n.id {
		return kafka.NoLeaderEpoch
	}
	if epoch, leads := hosted.Leads(); leads && epoch == state.LeaderEpoch {
		return epoch
	}
	return kafka.NoLeaderEpoch
}

// mark checks that the high watermark and the start of a replica do not go back
// while it is open: what is below it is committed, or was deleted.
func (c *checkers) mark(p *topicPart, n *node, hosted *partition.Partition) {
	m, was := mark{hosted.HighWatermark(), hosted.LogStart()}, c.marks[hosted]
	failed := hosted.Failure() != nil // perhaps in the midst of a reset, of which it tells nobody
	// A log that is to begin within a batch and has no space for it stays empty for a
	// while, at the batch's first offset: there is nothing in it to be taken back.
	emptied := c.w.faults.has("full disk") && m.start == m.highWatermark && m.start == hosted.LogEnd()
	if end := hosted.LogEnd(); m.highWatermark > end && !failed {
		c.w.violate("high watermarks are within the log", "%s on node %d: %d, but the log ends at %d", p, n.id, m.highWatermark, end)
	}
	if m.highWatermark < was.highWatermark && !emptied {
		c.w.violate("high watermarks do not go back", "%s on node %d: %d after %d", p, n.id, m.highWatermark, was.highWatermark)
	}
	if m.start < was.start && !failed && !emptied {
		c.w.violate("log starts do not go back", "%s on node %d: %d after %d", p, n.id, m.start, was.start)
	}
	c.marks[hosted] = m
	p.highest = max(p.highest, m.highWatermark)
}

// haveCommitted checks that each replica that its leader takes for in sync has
// what the leader takes for committed, on its disk: any of them may lead next.
func (c *checkers) haveCommitted(p *topicPart, n *node, hosted *partition.Partition) {
	if c.w.flips.wanted {
		return // a log that is damaged is in sync until somebody notices
	}
	c.complete(p, n.broker.Image(), n, hosted, hosted.Status().InSync)
}

// haveJoined is haveCommitted of those who have joined the in-sync set just now,
// which their leader may not know yet: soon they have everything in any case.
func (c *checkers) haveJoined(p *topicPart, image *metadata.Image, state *metadata.Partition) {
	was := p.states[state.PartitionEpoch-1]
	if c.w.flips.wanted || state.Leader == kafka.NoNode || was == nil || was.LeaderEpoch != state.LeaderEpoch || p.newest > state.PartitionEpoch {
		return
	}
	n := c.w.nodes[state.Leader-1]
	if n.broker == nil {
		return
	}
	hosted := n.broker.Partition(p.topic.id, p.number)
	if hosted == nil {
		return
	}
	// A leader that knows of a later set does not wait for who has left since, even
	// if nobody has told the checkers of it: they know of a topic later than the nodes.
	if epoch, leads := hosted.Leads(); leads && epoch == state.LeaderEpoch && hosted.Status().PartitionEpoch <= state.PartitionEpoch {
		c.complete(p, image, n, hosted, slices.DeleteFunc(slices.Clone(state.InSync), was.IsInSync))
	}
}

// complete checks that what the leader n takes for committed is on the disks of
// members, by an image of the cluster.
func (c *checkers) complete(p *topicPart, image *metadata.Image, n *node, hosted *partition.Partition, members []kafka.NodeID) {
	s := hosted.Status()
	for _, id := range members {
		member := c.w.nodes[id-1]
		if member.broker == nil || s.Offline {
			continue
		}
		if b := image.Broker(id); b == nil && member.wiped || member.lostUnknown(image) {
			continue // nobody has noticed that its disk is gone
		}
		other := member.broker.Partition(p.topic.id, p.number)
		if other == nil || other.Failure() != nil {
			continue
		}
		o := other.Status()
		if o.LeaderEpoch > s.LeaderEpoch && !slices.Contains(o.InSync, id) {
			continue // n is behind: the replica was removed and made anew, and the cluster knows that it is not in sync
		}
		if has := c.safe(p, o); has < s.HighWatermark {
			c.w.violate("who is in sync has what is committed", "%s: node %d leads in epoch %d, has committed up to %d, %v are in sync, but node %d has %d on its disk", p, n.id, s.LeaderEpoch, s.HighWatermark, members, id, has)
			return
		}
		// What both have to the end, and all of it committed, is the same.
		if o.LeaderEpoch == s.LeaderEpoch && id != n.id && s.HighWatermark == s.End && o.End == s.End && !p.topic.relaxed && !c.agree(p, member, other, n, hosted) {
			return
		}
	}
}

// metadata checks what a node has come to know: the same as others know of the
// same partition epoch, and no step from one to the next that loses records.
func (c *checkers) metadata(n *node, image *metadata.Image) {
	if image.Offset() > c.newest {
		c.newest = image.Offset()
		c.unfenced(image)
	}
	c.whole(n, image)
	for _, t := range c.w.load.topics {
		mt := image.Topic(t.id)
		if mt == nil {
			continue
		}
		for _, p := range t.parts {
			state := mt.Partition(p.number)
			if state == nil {
				continue
			}
			c.live(p, image, state)
			c.unfit(p, state)
			if p.states == nil {
				p.states = make(map[kafka.PartitionEpoch]*metadata.Partition)
				p.seen = make(map[kafka.PartitionEpoch]*metadata.Image)
			}
			known, ok := p.states[state.PartitionEpoch]
			if ok {
				if known != state && !known.Equal(state) {
					c.w.violate("all nodes have the same metadata", "%s at partition epoch %d: node %d has %+v, another had %+v", p, state.PartitionEpoch, n.id, *state, *known)
				}
				continue
			}
			p.states[state.PartitionEpoch], p.seen[state.PartitionEpoch] = state, image
			p.newest = max(p.newest, state.PartitionEpoch)
			c.step(p, p.states[state.PartitionEpoch-1], state)
			c.step(p, state, p.states[state.PartitionEpoch+1])
			c.haveJoined(p, image, state)
		}
	}
}

// whole checks all that nodes know at the same offset of the metadata, however
// they have come to it: record by record, or with a snapshot.
func (c *checkers) whole(n *node, image *metadata.Image) {
	other := c.atOffset[image.Offset()]
	if other == nil {
		c.atOffset[image.Offset()] = image
		return
	}
	differ := func(what string, is, was any) {
		c.w.violate("all nodes have the same metadata", "at offset %d node %d has the %s %v, another had %v", image.Offset(), n.id, what, is, was)
	}
	level := func(m *metadata.Image) []int16 {
		var levels []int16
		for _, name := range m.Features() {
			levels = append(levels, m.FeatureLevel(name))
		}
		return levels
	}
	switch {
	case image == other:
		return
	case image.ClusterID() != other.ClusterID():
		differ("cluster id", image.ClusterID(), other.ClusterID())
	case image.NextProducerID() != other.NextProducerID():
		differ("next producer id", image.NextProducerID(), other.NextProducerID())
	case !slices.Equal(image.Features(), other.Features()) || !slices.Equal(level(image), level(other)):
		differ("features", image.Features(), other.Features())
	case !slices.EqualFunc(image.Brokers(), other.Brokers(), func(a, b *metadata.Broker) bool { return *a == *b }):
		differ("brokers", image.Brokers(), other.Brokers())
	case !slices.EqualFunc(image.Topics(), other.Topics(), func(a, b *metadata.Topic) bool {
		return a == b || a.ID == b.ID && a.Name == b.Name && slices.EqualFunc(a.Partitions, b.Partitions, (*metadata.Partition).Equal)
	}):
		differ("topics", len(image.Topics()), len(other.Topics()))
	case !slices.Equal(image.ConfigResources(), other.ConfigResources()):
		differ("resources with configs", image.ConfigResources(), other.ConfigResources())
	}
	for _, r := range image.ConfigResources() {
		if is, was := image.Config(r), other.Config(r); !maps.Equal(is, was) {
			differ(fmt.Sprintf("configs of %v", r), is, was)
			return
		}
	}
}

// fence is what is known of a node's registration while it lasts.
type fence struct {
	epoch    kafka.BrokerEpoch
	seen     instant      // when it was known first
	fenced   bool         // when it was seen last
	unfenced kafka.Offset // the last metadata in which it was not
}

// unfenced checks that a node is let back only when it knows that it was fenced:
// else it may take itself for a leader, and get a lease.
func (c *checkers) unfenced(image *metadata.Image) {
	for _, n := range c.w.nodes {
		b, f := image.Broker(n.id), &c.fences[n.index]
		switch {
		case b == nil:
			continue
		case f.epoch != b.Epoch || f.seen == 0:
			*f = fence{epoch: b.Epoch, seen: c.w.now, unfenced: kafka.Offset(b.Epoch) - 1}
		}
		if b.Fenced {
			f.fenced = true
			continue
		}
		if f.fenced && n.up && n.broker != nil && n.began <= f.seen && n.broker.Image().Offset() <= f.unfenced {
			c.w.violate("a node is let back when it knows that it was fenced", "node %d is not fenced at metadata offset %d, and was at some after %d; it knows those up to %d", n.id, image.Offset(), f.unfenced, n.broker.Image().Offset())
		}
		f.fenced, f.unfenced = false, image.Offset()
	}
}

// live checks that who counts as in sync is alive, as far as the cluster knows.
func (c *checkers) live(p *topicPart, image *metadata.Image, state *metadata.Partition) {
	for _, id := range state.InSync {
		if b := image.Broker(id); b == nil || b.Fenced {
			c.w.violate("only live nodes are in sync", "%s at metadata offset %d: %+v, but node %d is fenced", p, image.Offset(), *state, id)
		}
		if !state.IsReplica(id) {
			c.w.violate("only replicas are in sync", "%s at metadata offset %d: %+v, but node %d is none of its replicas", p, image.Offset(), *state, id)
		}
	}
}

// step checks one change of a partition.
func (c *checkers) step(p *topicPart, from, to *metadata.Partition) {
	if from == nil || to == nil || c.w.stopped {
		return
	}
	c.usable(p, from, to)
	if to.LeaderEpoch < from.LeaderEpoch {
		c.w.violate("leader epochs do not go back", "%s: %d after %d", p, to.LeaderEpoch, from.LeaderEpoch)
		return
	}
	if to.Leader != from.Leader && to.LeaderEpoch == from.LeaderEpoch {
		c.w.violate("another leader has another epoch", "%s: from node %d to node %d in epoch %d", p, from.Leader, to.Leader, to.LeaderEpoch)
		return
	}
	for _, id := range from.Adding {
		if !to.Reassigning() && slices.Contains(to.Replicas, id) && !slices.Contains(to.InSync, id) {
			c.w.violate("a reassignment ends when all have everything", "%s: from %+v to %+v", p, *from, *to)
			return
		}
	}
	if id := p.neverInSync(from, to); id != kafka.NoNode {
		c.w.violate("a reassignment ends when all have everything", "%s: node %d never had: from %+v to %+v", p, id, *from, *to)
		return
	}
	p.thinned = p.thinned || from.Reassigning() && !to.Reassigning() && len(to.InSync) < min(len(from.InSync), p.topic.minSync)
	// A reassignment hands the lead over in the very change in which its leader
	// says who has caught up.
	caughtUp := !slices.ContainsFunc(from.Adding, func(id kafka.NodeID) bool { return !slices.Contains(to.InSync, id) })
	reassigned := from.Reassigning() && caughtUp && from.Leader != kafka.NoNode && slices.Contains(to.InSync, to.Leader)
	if to.Leader != kafka.NoNode && to.Leader != from.Leader && !reassigned && !p.givenUp &&
		!slices.Contains(from.InSync, to.Leader) && !slices.Contains(from.EligibleLeader, to.Leader) &&
		!(p.topic.relaxed && to.Leader == from.LastLeader && to.Recovering && p.forgotten(from, to)) { // which is as far as anybody
		c.w.violate("only a complete replica is elected", "%s: from %+v to %+v", p, *from, *to)
	}
}

// neverInSync finds a replica with which a reassignment ends, and which was to
// join by one that this one has replaced and did not. One that was to leave in
// between counts as a replica that was there, as in Kafka; and where one is
// cancelled all that were to leave stay.
func (p *topicPart) neverInSync(from, to *metadata.Partition) kafka.NodeID {
	stay := slices.DeleteFunc(slices.Clone(from.Replicas), func(id kafka.NodeID) bool { return slices.Contains(from.Removing, id) })
	if !from.Reassigning() || to.Reassigning() || !slices.Equal(to.Replicas, stay) {
		return kafka.NoNode
	}
	for _, id := range to.Replicas {
		was := to
		for was != nil && !was.IsInSync(id) && !slices.Contains(was.Removing, id) {
			if slices.Contains(was.Adding, id) {
				return id
			}
			if was = p.states[was.PartitionEpoch-1]; was != nil && !was.Reassigning() {
				break
			}
		}
	}
	return kafka.NoNode
}

// forgotten says whether nobody was eligible any more when a partition came from
// one state to the next: where an acknowledgement does not mean on disk, who
// registers after a crash is not, and that elects the last leader at once.
func (p *topicPart) forgotten(from, to *metadata.Partition) bool {
	before, after := p.seen[from.PartitionEpoch], p.seen[to.PartitionEpoch]
	return !slices.ContainsFunc(from.EligibleLeader, func(id kafka.NodeID) bool {
		b := after.Broker(id)
		return b != nil && int64(b.Epoch) <= int64(before.Offset()) // it has not registered since
	})
}

// without says what the others have still to do when one node is away and
// nothing else is broken: they know it, and lead all that they may lead.
func (c *checkers) without(away *node) string {
	var image *metadata.Image
	for _, n := range c.w.nodes {
		if n == away {
			continue
		}
		if !n.up || n.broker == nil || !n.ready {
			return fmt.Sprintf("node %d does not serve", n.id)
		}
		if image == nil || n.broker.Image().Offset() > image.Offset() {
			image = n.broker.Image()
		}
	}
	if b := image.Broker(away.id); b != nil && !b.Fenced {
		return "it is not fenced"
	}
	for _, p := range c.w.load.parts() {
		t := image.Topic(p.topic.id)
		if t == nil || t.Partition(p.number) == nil {
			continue // it may have been made or deleted a moment ago
		}
		state := t.Partition(p.number)
		may := slices.Concat(state.InSync, state.EligibleLeader)
		if len(may) == 0 && state.LastLeader != kafka.NoNode {
			may = append(may, state.LastLeader)
		}
		if len(state.InSync) > 0 {
			may = state.InSync
		}
		others := slices.ContainsFunc(may, func(id kafka.NodeID) bool { return id != away.id && !state.IsUnfit(id) })
		if state.Leader == away.id || state.Leader == kafka.NoNode && others {
			return fmt.Sprintf("%s is led by node %d; %v may lead it", p, state.Leader, may)
		}
		if state.Leader != kafka.NoNode {
			n := c.w.nodes[state.Leader-1]
			if hosted := n.broker.Partition(p.topic.id, p.number); hosted == nil || hosted.Failure() != nil {
				return fmt.Sprintf("node %d does not lead %s", n.id, p)
			} else if _, leads := hosted.Leads(); !leads {
				return fmt.Sprintf("node %d does not know that it leads %s", n.id, p)
			}
		}
	}
	return ""
}

// pairing is a leader, in an epoch, and a follower that it waits for.
type pairing struct {
	part             *topicPart
	epoch            kafka.LeaderEpoch
	leader, follower kafka.NodeID
}

// apart says which leader still waits for a follower that it does not hear of,
// two nodes being cut off from each other: one of them may be fenced. Since when
// is kept in waits, as others may come to lead meanwhile; late is one that has
// waited for longer than the follower may lag.
func (c *checkers) apart(a, b *node, waits map[pairing]instant) (why string, late bool) {
	now := make(map[pairing]instant)
	defer func() {
		clear(waits)
		maps.Copy(waits, now)
	}()
	for _, p := range c.w.load.parts() {
		if c.w.now-p.ledSince < c.w.plan.lagMax+2*second {
			continue // it has the right to wait: the lead was moved
		}
		for _, pair := range [][2]*node{{a, b}, {b, a}} {
			leader, other := pair[0], pair[1]
			if !leader.up || leader.broker == nil || !leader.ready {
				continue
			}
			hosted := leader.broker.Partition(p.topic.id, p.number)
			if hosted == nil || !leader.broker.MayServe(leader.time()) {
				continue
			}
			epoch, leads := hosted.Leads()
			if !leads {
				continue
			}
			s := hosted.Status()
			if !slices.Contains(s.InSync, other.id) || s.HighWatermark == s.End {
				continue
			}
			waiting := pairing{p, epoch, leader.id, other.id}
			since, ok := waits[waiting]
			if !ok {
				since = c.w.now
			}
			now[waiting] = since
			if over := c.w.now-since > c.w.plan.lagMax+5*second; why == "" || over && !late {
				late = over
				why = fmt.Sprintf("%s: node %d has records up to %d, committed up to %d, and waits for node %d since %v", p, leader.id, s.End, s.HighWatermark, other.id, time.Duration(since))
			}
		}
	}
	return why, late
}

// atRest says whether a healed cluster has done all that it should by itself,
// and if not, what is missing.
func (c *checkers) atRest() (bool, string) {
	if ok, why := c.w.load.drained(); !ok {
		return false, why
	}
	var image *metadata.Image
	for _, n := range c.w.nodes {
		if !n.up || n.broker == nil || !n.ready {
			return false, fmt.Sprintf("node %d does not serve", n.id)
		}
		if image == nil || n.broker.Image().Offset() > image.Offset() {
			image = n.broker.Image()
		}
	}
	if why := c.metadataAtRest(image); why != "" {
		return false, why
	}
	for _, p := range c.w.load.parts() {
		if why := c.partitionAtRest(image, p); why != "" {
			return false, fmt.Sprintf("%s: %s", p, why)
		}
	}
	if why := c.offsetsAtRest(image); why != "" {
		return false, why
	}
	for _, cons := range c.w.load.consumers {
		for _, r := range cons.reads {
			read := max(r.next, r.end)
			if r.part.topic.kind != compacted {
				read = r.next
			}
			if !r.part.topic.deleted && read < r.part.committed {
				return false, fmt.Sprintf("%s has read %s up to %d of %d, last result %q", cons.c.name, r.part, r.next, r.part.committed, r.last)
			}
		}
	}
	for _, p := range c.w.load.parts() {
		if why := c.compacted(p); why != "" {
			return false, fmt.Sprintf("%s: %s", p, why)
		}
	}
	return true, ""
}

// offsetsAtRest says which replica of the topic of committed offsets is not in
// sync, or cannot be read: one that has failed is opened again after a while. And
// which offset is there yet though its topic is not.
func (c *checkers) offsetsAtRest(image *metadata.Image) string {
	t := image.TopicByName(kafka.TopicConsumerOffsets)
	if t == nil {
		return ""
	}
	for _, n := range c.w.nodes {
		why := ""
		n.broker.Groups().EachOffset(func(o group.CommittedOffset) {
			if image.TopicByName(o.Topic) == nil {
				why = fmt.Sprintf("node %d has an offset of group %s for %s-%d, and there is no such topic", n.id, o.Group, o.Topic, o.Partition)
			}
		})
		if why != "" {
			return why
		}
	}
	for i, p := range t.Partitions {
		if len(p.InSync) != len(p.Replicas) {
			return fmt.Sprintf("%s-%d: in sync are %v of %v", t.Name, i, p.InSync, p.Replicas)
		}
		for _, id := range p.Replicas {
			if hosted := c.w.nodes[id-1].broker.Partition(t.ID, int32(i)); hosted == nil || hosted.Failure() != nil {
				return fmt.Sprintf("%s-%d: node %d has no replica that can be used", t.Name, i, id)
			}
		}
	}
	return ""
}

func (c *checkers) partitionAtRest(image *metadata.Image, p *topicPart) string {
	state := image.Topic(p.topic.id).Partition(p.number)
	switch {
	case state == nil:
		return "the metadata have forgotten it"
	case state.Leader == kafka.NoNode:
		return fmt.Sprintf("no leader, in sync are %v, eligible %v", state.InSync, state.EligibleLeader)
	case state.Reassigning():
		return fmt.Sprintf("still being reassigned: adding %v, removing %v, in sync %v", state.Adding, state.Removing, state.InSync)
	case !slices.Contains(p.topic.factors, len(state.Replicas)):
		return fmt.Sprintf("it has the replicas %v, but it was to have so many: %v", state.Replicas, p.topic.factors)
	case len(state.InSync) != len(state.Replicas):
		return fmt.Sprintf("in sync are %v of %v, leader %d", state.InSync, state.Replicas, state.Leader)
	}
	end, start := kafka.NoOffset, kafka.NoOffset
	for _, id := range state.Replicas {
		hosted := c.w.nodes[id-1].broker.Partition(p.topic.id, p.number)
		if hosted == nil {
			return fmt.Sprintf("node %d has no replica", id)
		}
		if why := inEffect(c.w.nodes[id-1].broker, image, hosted); why != "" {
			return fmt.Sprintf("node %d %s", id, why)
		}
		s := hosted.Status()
		if end == kafka.NoOffset {
			end, start = s.End, s.LogStart
		}
		if s.LogStart != start {
			return fmt.Sprintf("node %d has a log from %d on, another one from %d on", id, s.LogStart, start)
		}
		if p.topic.kind == retained && s.Size > p.topic.keptMax() {
			return fmt.Sprintf("node %d has %d bytes, though retention.bytes is %s", id, s.Size, p.topic.configs["retention.bytes"])
		}
		if first, ok := c.oldSegment(p, c.w.nodes[id-1], start); ok && id == state.Leader { // whose segments they go by
			return fmt.Sprintf("node %d has a segment that begins at %d, all of which is older than retention.ms", id, first)
		}
		if s.End != end || s.HighWatermark != end || c.safe(p, s) != end {
			return fmt.Sprintf("node %d (%s) has end %d, synced %d, high watermark %d; another has end %d", id, s.Role, s.End, s.Synced, s.HighWatermark, end)
		}
	}
	return ""
}

// inEffect says which of its topic's configs a replica does not act on.
func inEffect(b *broker.Broker, image *metadata.Image, p *partition.Partition) string {
	c, got := b.Settings().Topic(image, p.Topic()), p.Config()
	retention := c.RetentionTime
	if retention == config.Forever {
		retention = -1
	}
	level := partition.LevelDefault
	switch c.CompressionType {
	case "gzip":
		level = c.GzipLevel
	case "lz4":
		level = c.LZ4Level
	case "zstd":
		level = c.ZstdLevel
	}
	want := partition.TopicConfig{
		MaxMessageBytes: int(c.MaxMessageBytes), MinInSync: int(c.MinInSync),
		CompressionType: c.CompressionType, CompressionLevel: level,
		LogAppendTime: c.LogAppendTime, TimestampBeforeMax: c.TimestampBeforeMax, TimestampAfterMax: c.TimestampAfterMax,
		Compact: c.Compact, Delete: c.Delete, RetentionTime: retention, RetentionBytes: c.RetentionBytes,
		SegmentBytes: int64(c.SegmentBytes), SegmentTime: c.SegmentTime,
		SegmentIndexBytes: int64(c.SegmentIndexBytes), IndexIntervalBytes: int64(c.IndexIntervalBytes),
		FlushMessages: c.FlushMessages, FlushTime: c.FlushTime,
		DeleteRetentionTime: c.DeleteRetention, MinCompactionLag: c.MinCompactionLag, MaxCompactionLag: c.MaxCompactionLag,
		MinDirtyRatio: c.MinCleanableDirtyRatio, LeaderThrottled: c.LeaderThrottled, FollowerThrottled: c.FollowerThrottled,
		ProducerExpiration: time.Duration(b.Settings().BrokerInt(image, "producer.id.expiration.ms")) * time.Millisecond,
	}
	has, should := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range has.NumField() {
		if !has.Field(i).Equal(should.Field(i)) {
			return fmt.Sprintf("acts on %s %v, but its topic has %v", has.Type().Field(i).Name, has.Field(i), should.Field(i))
		}
	}
	return ""
}

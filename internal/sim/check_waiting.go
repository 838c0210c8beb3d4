package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/host/coordinator"
	"chronik/internal/host/partition"
)

// pendingRequest is a request that a node has not answered when it is done with
// taking it in: it waits for something. When that is there it is answered in the
// same call, so that whoever looks at the node between calls never finds one
// whose wait is over.
type pendingRequest struct {
	sl    *slot
	since time.Time // the node's time when it took it in
	parts []pendingPart
}

// pendingPart is one partition of such a request.
type pendingPart struct {
	name, topic string
	id          kafka.TopicID
	number      int32
	hosted      *partition.Partition // nil: not here, or it was not named so that it is known
	clientEpoch int32                // -1: none
	offset      kafka.Offset         // to be read, committed, or made the log's start
	most        int                  // bytes to be read
}

// lateMax is by how much a request may be answered after its time is up: alarms
// of the replicas are posted on the node's loop, which its disk may hold up.
const lateMax = time.Second

// taken notes a request that a node has taken in and not answered.
func (c *checkers) taken(n *node, sl *slot) {
	p := &pendingRequest{sl: sl, since: n.time()}
	switch r := sl.call.req.(type) {
	case *kmsg.FetchRequest:
		p.parts = c.fetched(n, sl.call, r)
	case *kmsg.ProduceRequest:
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				part := c.pendingPart(n, r.Topics[i].Topic, r.Topics[i].TopicID, r.Version >= 13, r.Topics[i].Partitions[j].Partition)
				if part.hosted != nil {
					part.offset = part.hosted.LogEnd() // at or behind the batch's end
				}
				p.parts = append(p.parts, part)
			}
		}
	case *kmsg.DeleteRecordsRequest:
		for i := range r.Topics {
			for _, rp := range r.Topics[i].Partitions {
				part := c.pendingPart(n, r.Topics[i].Topic, kafka.TopicID{}, false, rp.Partition)
				if part.offset = kafka.Offset(rp.Offset); part.offset < 0 && part.hosted != nil {
					part.offset = part.hosted.HighWatermark()
				}
				p.parts = append(p.parts, part)
			}
		}
	case *kmsg.OffsetCommitRequest:
		p.parts = c.committedTo(n, r.Group)
	case *kmsg.OffsetDeleteRequest:
		p.parts = c.committedTo(n, r.Group)
	case *kmsg.OffsetFetchRequest:
		for i := range r.Groups {
			p.parts = append(p.parts, c.committedTo(n, r.Groups[i].Group)...)
		}
	default:
		return
	}
	n.pending = append(n.pending, p)
}

// pendingPart finds what a request names.
func (c *checkers) pendingPart(n *node, topic string, id kafka.TopicID, byID bool, number int32) pendingPart {
	p := pendingPart{name: fmt.Sprintf("%s-%d", topic, number), topic: topic, number: number, clientEpoch: -1}
	if !byID {
		if t := n.broker.Image().TopicByName(topic); t != nil {
			id = t.ID
		}
	}
	p.id = id
	p.hosted = n.broker.Partition(id, number)
	return p
}

// fetched are the partitions of a fetch: of the request, or of its session.
func (c *checkers) fetched(n *node, k *call, r *kmsg.FetchRequest) (out []pendingPart) {
	if k.told != nil {
		for _, t := range k.told {
			p := c.pendingPart(n, t.r.part.topic.name, t.r.part.topic.id, true, t.r.part.number)
			p.offset, p.clientEpoch, p.most = t.next, t.leader, fetchPartMax
			out = append(out, p)
		}
		return out
	}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			rp := &r.Topics[i].Partitions[j]
			p := c.pendingPart(n, r.Topics[i].Topic, r.Topics[i].TopicID, r.Version >= 13, rp.Partition)
			p.offset, p.clientEpoch, p.most = kafka.Offset(rp.FetchOffset), rp.CurrentLeaderEpoch, int(rp.PartitionMaxBytes)
			out = append(out, p)
		}
	}
	return out
}

// committedTo is the partition that holds a group's offsets.
func (c *checkers) committedTo(n *node, group string) []pendingPart {
	t := n.broker.Image().TopicByName(kafka.TopicConsumerOffsets)
	if t == nil {
		return nil
	}
	return []pendingPart{c.pendingPart(n, t.Name, t.ID, true, coordinator.PartitionOf(group, int32(len(t.Partitions))))}
}

// waiting checks that nothing waits on a node for what is there.
func (c *checkers) waiting(n *node) {
	n.pending = slices.DeleteFunc(n.pending, func(p *pendingRequest) bool { return p.sl.answered })
	if n.dark {
		return // it ends in the midst of a call
	}
	c.shipped(n)
	for _, p := range n.pending {
		if why := c.due(n, p); why != "" {
			k := p.sl.call
			c.w.violate("what waits is answered when what it waits for is there", "node %d: %s #%d of %s, for %v, is not answered though %s",
				n.id, kmsg.NameForKey(k.key), k.number, k.by, n.time().Sub(p.since), why)
			return
		}
	}
}

// shipped checks that followers are sent what there is: a leader sends it in the
// call in which it has written it, or in which there is room for more under way.
func (c *checkers) shipped(n *node) {
	for _, hosted := range n.broker.Partitions() {
		s := hosted.Status()
		if s.Role != replica.Leader || s.Offline {
			continue
		}
		for _, f := range s.Followers {
			if f.Streaming && f.Next < s.End && f.Written >= f.Next {
				c.w.violate("what waits is answered when what it waits for is there", "node %d: the replica of partition %d of %s on node %d has all up to %d, the log ends at %d, and nothing is sent",
					n.id, hosted.Number(), hosted.TopicID(), f.Node, f.Next, s.End)
				return
			}
		}
	}
}

// due is why a request is to be answered now; "": it is not.
func (c *checkers) due(n *node, p *pendingRequest) string {
	switch r := p.sl.call.req.(type) {
	case *kmsg.FetchRequest:
		if !n.paused && n.time().Sub(p.since) > time.Duration(r.MaxWaitMillis)*time.Millisecond+time.Millisecond {
			return fmt.Sprintf("it was to wait for %d ms", r.MaxWaitMillis)
		}
		return c.readable(n, p, r)
	case *kmsg.ProduceRequest:
		return c.each(n, p, r.TimeoutMillis, func(part *pendingPart, s *partition.Status) string {
			if safe := map[bool]kafka.Offset{true: s.HighWatermark, false: s.Synced}[r.Acks == -1]; safe >= part.offset {
				return fmt.Sprintf("%s, which ended at %d then, is safe up to %d", part.name, part.offset, safe)
			}
			return ""
		})
	case *kmsg.DeleteRecordsRequest:
		return c.each(n, p, r.TimeoutMillis, func(part *pendingPart, s *partition.Status) string {
			low := s.LogStart
			for _, f := range s.Followers {
				low = min(low, f.LogStart)
			}
			if low >= part.offset && len(s.InSync) >= s.MinInSync {
				return fmt.Sprintf("all replicas of %s begin at %d", part.name, low)
			}
			return ""
		})
	}
	// Coordinators append what is committed next as soon as there is room.
	return c.each(n, p, -1, func(part *pendingPart, s *partition.Status) string {
		if s.HighWatermark >= s.End {
			return fmt.Sprintf("all of %s is committed", part.name)
		}
		return ""
	})
}

// each is why a request is to be answered that waits until something is so of
// each of its partitions.
func (c *checkers) each(n *node, p *pendingRequest, timeout int32, holds func(part *pendingPart, s *partition.Status) string) string {
	if limit := time.Duration(timeout)*time.Millisecond + lateMax; timeout >= 0 && !n.paused && n.time().Sub(p.since) > limit {
		return fmt.Sprintf("it has a timeout of %d ms", timeout)
	}
	why := ""
	for i := range p.parts {
		part := &p.parts[i]
		if part.hosted == nil {
			continue // which was an answer
		}
		s := part.hosted.Status()
		switch {
		case s.Fenced:
			return "" // it answers nothing until it is let back
		case s.Offline:
			why = fmt.Sprintf("the log of %s has failed", part.name)
		case s.Role != replica.Leader:
			why = fmt.Sprintf("%s is led by another", part.name)
		default:
			if why = holds(part, &s); why == "" {
				return ""
			}
		}
	}
	return why
}

// readable is why a fetch is to be answered: there is as much to read as it asks
// for, or something that is not as the client thinks.
func (c *checkers) readable(n *node, p *pendingRequest, r *kmsg.FetchRequest) string {
	bytes := 0
	for i := range p.parts {
		part := &p.parts[i]
		if part.hosted == nil {
			continue // it does not end the waiting
		}
		s := part.hosted.Status()
		// Of who has given all that there is room for nothing more is heard.
		full := r.MinBytes > 1 && part.offset < s.HighWatermark
		other := r.Version >= 9 && part.clientEpoch >= 0 && s.LeaderEpoch != kafka.LeaderEpoch(part.clientEpoch)
		switch {
		case full && (s.Offline || s.Role != replica.Leader || other):
		case s.Offline:
			return fmt.Sprintf("the log of %s has failed", part.name)
		case r.Version < 11 && s.Role != replica.Leader:
			return fmt.Sprintf("%s is led by another", part.name)
		case other:
			return fmt.Sprintf("the leader epoch of %s is %d, not %d", part.name, s.LeaderEpoch, part.clientEpoch)
		case part.offset >= s.HighWatermark:
		case r.MinBytes <= 1:
			return fmt.Sprintf("%s can be read from %d to %d", part.name, part.offset, s.HighWatermark)
		case c.w.flips.wanted, part.hosted.Config().Compact:
			// Reading may find damage that nobody has met; compaction may make one
			// large batch of those that were read.
		default:
			got := part.hosted.Read(n.time(), partition.ReadRequest{Offset: part.offset, MaxBytes: part.most, MinOneMessage: bytes == 0,
				CurrentLeaderEpoch: kafka.NoLeaderEpoch, LastFetchedEpoch: kafka.NoLeaderEpoch, Isolation: partition.Isolation(r.IsolationLevel),
				ReplicaID: partition.NoReplicaID, FromFollower: true})
			if bytes += len(got.Records); bytes >= int(min(r.MinBytes, r.MaxBytes)) {
				return fmt.Sprintf("there are %d bytes to be read, and it asks for %d", bytes, r.MinBytes)
			}
		}
	}
	return ""
}

// early checks that a fetch is not answered before there is what it waits for.
func (c *checkers) early(n *node, k *call, since time.Time, resp *kmsg.FetchResponse) {
	r := k.req.(*kmsg.FetchRequest)
	waited, wait := n.time().Sub(since), time.Duration(r.MaxWaitMillis)*time.Millisecond
	if resp.ErrorCode != 0 || waited >= wait {
		return
	}
	bytes, parts := 0, c.fetched(n, k, r)
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[j]
			if p.ErrorCode != 0 || p.DivergingEpoch.EndOffset >= 0 || p.PreferredReadReplica >= 0 {
				return // which is news
			}
			bytes += len(p.RecordBatches)
			for k := range parts {
				if t := &resp.Topics[i]; parts[k].number == p.Partition && (t.Topic == parts[k].topic || kafka.TopicID(t.TopicID) == parts[k].id) {
					for rest := p.RecordBatches; len(rest) > 0; {
						b, more, err := record.Next(rest)
						if err != nil {
							break
						}
						parts[k].offset, rest = b.NextOffset(), more
					}
					parts[k].most -= len(p.RecordBatches)
				}
			}
		}
	}
	full := true
	for i := range parts {
		full = full && parts[i].most <= 0
		if h := parts[i].hosted; h == nil || h.HighWatermark() > parts[i].offset {
			return // it is told nothing of that, or there is more than there is room for
		}
	}
	if full || bytes >= int(min(r.MinBytes, r.MaxBytes)) {
		return
	}
	c.w.violate("a fetch waits for what it asks for", "node %d: fetch #%d of %s is answered with %d bytes after %v: it was to wait %v for %d",
		n.id, k.number, k.by, bytes, waited, wait, r.MinBytes)
}

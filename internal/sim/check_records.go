package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
)

// holds notes that a partition holds a value at an offset, for ever, and checks
// that nothing else was ever told of it: one value per offset, and no value of
// an idempotent producer twice.
func (c *checkers) holds(p *topicPart, at kafka.Offset, v value, how string) bool {
	for int(at) >= len(p.truth) {
		p.truth = append(p.truth, 0)
	}
	if old := p.truth[at]; old != 0 && old != v {
		c.w.violate("one value per offset", "%s at offset %d: %v, %s; before it was %v", p, at, v, how, old)
		return false
	}
	p.truth[at] = v
	if p.where == nil {
		p.where = make(map[value]kafka.Offset)
	}
	if other, ok := p.where[v]; ok && other != at && c.idempotent(p, v) {
		c.w.violate("no duplicates of idempotent producers", "%s: %v at offsets %d and %d, %s", p, v, other, at, how)
		return false
	}
	p.where[v] = at
	return true
}

func (c *checkers) idempotent(p *topicPart, v value) bool {
	ln := p.lane(v)
	return ln != nil && ln.p.idempotent
}

// lane is where a value comes from.
func (h *history) lane(v value) *lane {
	for _, ln := range h.lanes {
		if makeValue(ln.p.number, ln.number, 0).source() == v.source() {
			return ln
		}
	}
	return nil
}

// acked takes in an acknowledgement.
func (c *checkers) acked(ln *lane, b *batch, base kafka.Offset, began instant) {
	p := ln.part
	a := ack{ln, b.first, b.records, base}
	if ln.p.acks == 1 {
		p.weak = append(p.weak, a)
		return
	}
	c.ackedCount += b.records
	p.acks = append(p.acks, a)
	if base == kafka.NoOffset {
		return
	}
	if b.attempts == 1 && base < b.least {
		c.w.violate("offsets rise in real time", "%s: %s was given offset %d for a record, though %d were committed before it was sent", p, ln.p.c.name, base, b.least)
		return
	}
	for i := range b.records {
		v := makeValue(ln.p.number, ln.number, b.first+uint64(i))
		if !c.holds(p, base+kafka.Offset(i), v, "acknowledged to "+ln.p.c.name) {
			return
		}
	}
	p.committed = max(p.committed, base+kafka.Offset(b.records))
}

// read notes how far a consumer has read.
func (c *checkers) read(p *topicPart, next kafka.Offset) {
	c.readCount++
	p.committed = max(p.committed, next)
}

// end takes in what ListOffsets says: not less than what any client had been
// told before it asked.
func (c *checkers) end(p *topicPart, end, least kafka.Offset, node int) {
	if end < least {
		c.w.violate("the end that clients see does not go back", "%s: node %d says %d, but %d were known to be committed before it was asked", p, node+1, end, least)
		return
	}
	p.committed = max(p.committed, end)
}

// producerID checks that no two producers have the same id.
func (c *checkers) producerID(p *producer) {
	if other, ok := c.producerIDs[p.id]; ok {
		c.w.violate("producer ids are unique", "producers %d and %d both have id %d", other, p.number, p.id)
		return
	}
	c.producerIDs[p.id] = p.number
}

// final reads all replicas of all partitions.
func (c *checkers) final() {
	for _, p := range c.w.load.parts() {
		if !c.w.stopped {
			c.replicas(p)
		}
		if !c.w.stopped {
			c.nothingLost(p)
		}
		if !c.w.stopped {
			c.inOrder(p)
		}
	}
	for _, n := range c.w.nodes {
		for _, s := range n.sessions {
			for _, sl := range s.served {
				if age := c.w.now - sl.since; !sl.answered && age > 40*second && !c.w.stopped {
					c.w.violate("a request is answered", "node %d has had #%d of %s (key %d) for %v", n.id, sl.call.number, s.c.name, sl.call.key, age)
				}
			}
		}
	}
}

// replicas checks that all replicas have the same bytes, and that they are what
// clients have been told.
func (c *checkers) replicas(p *topicPart) {
	var first []byte
	from := nowhere
	for _, n := range c.w.nodes {
		hosted := n.broker.Partition(p.topic.id, p.number)
		if hosted == nil {
			continue
		}
		b, err := wholeLog(n, hosted)
		if err != "" {
			c.w.violate("replicas can be read", "%s on node %d: %s", p, n.id, err)
			return
		}
		if from == nowhere {
			first, from = b, int(n.id)
			c.contents(p, n, b)
			continue
		}
		if !bytes.Equal(first, b) {
			c.w.violate("replicas are the same", "%s: %s", p, difference(first, b, from, int(n.id)))
			return
		}
	}
}

func wholeLog(n *node, p *partition.Partition) (all []byte, problem string) {
	for at, hw := p.LogStart(), p.HighWatermark(); at < hw; {
		res := p.Read(n.time(), partition.ReadRequest{Offset: at, MaxBytes: 1 << 20, MinOneMessage: true, CurrentLeaderEpoch: kafka.NoLeaderEpoch,
			LastFetchedEpoch: kafka.NoLeaderEpoch, ReplicaID: partition.NoReplicaID, FromFollower: true})
		if res.Code != kafka.None || len(res.Records) == 0 {
			return nil, fmt.Sprintf("offset %d of %d: %v", at, hw, res.Code)
		}
		for rest := res.Records; len(rest) > 0; {
			b, more, err := record.Next(rest)
			if err != nil || !b.VerifyCRC() {
				return nil, fmt.Sprintf("offset %d: damaged batch: %v", at, err)
			}
			at, rest = b.NextOffset(), more
		}
		all = append(all, res.Records...)
	}
	return all, ""
}

func difference(a, b []byte, nodeA, nodeB int) string {
	for len(a) > 0 && len(b) > 0 {
		x, restX, errX := record.Next(a)
		y, restY, errY := record.Next(b)
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			return fmt.Sprintf("node %d has a batch at %d to %d of epoch %d, node %d one at %d to %d of epoch %d",
				nodeA, x.BaseOffset(), x.LastOffset(), x.LeaderEpoch(), nodeB, y.BaseOffset(), y.LastOffset(), y.LeaderEpoch())
		}
		a, b = restX, restY
	}
	return fmt.Sprintf("%d bytes remain on node %d, %d on node %d", len(a), nodeA, len(b), nodeB)
}

// contents holds what a replica has against what clients were told.
func (c *checkers) contents(p *topicPart, n *node, all []byte) {
	var scratch record.Scratch
	next := kafka.Offset(0)
	for len(all) > 0 {
		b, rest, _ := record.Next(all)
		for it := b.Records(&scratch); it.Next(); {
			r := it.Record()
			if r.Offset != next {
				c.w.violate("no gaps", "%s on node %d: offset %d follows %d", p, n.id, r.Offset, next-1)
				return
			}
			next++
			if !c.holds(p, r.Offset, value(binary.BigEndian.Uint64(r.Value)), fmt.Sprintf("on node %d at the end", n.id)) {
				return
			}
		}
		all = rest
	}
	if int(next) < len(p.truth) {
		c.w.violate("no acknowledged record is lost", "%s on node %d ends at %d, but clients were told of %d records", p, n.id, next, len(p.truth))
	}
}

// nothingLost looks for every acknowledged record.
func (c *checkers) nothingLost(p *topicPart) {
	look := func(a ack) bool {
		for i := range a.count {
			v := makeValue(a.lane.p.number, a.lane.number, a.first+uint64(i))
			if _, ok := p.where[v]; !ok {
				c.w.violate("no acknowledged record is lost", "%s: %v, acknowledged at offset %d", p, v, a.offset)
				return false
			}
		}
		return true
	}
	for _, a := range p.acks {
		if !look(a) {
			return
		}
	}
	if len(p.leaders) == 1 { // the leader never failed
		for _, a := range p.weak {
			if !look(a) {
				return
			}
		}
	}
}

// inOrder checks that records of one producer lie in the order in which they
// were sent.
func (c *checkers) inOrder(p *topicPart) {
	last := make(map[uint64]uint64)
	for at, v := range p.truth {
		ln := p.lane(v)
		if ln == nil || ln.p.acks != -1 || !ln.p.idempotent && ln.p.inFlight > 1 {
			continue
		}
		was := last[v.source()]
		switch {
		case v.count() == was+1:
			last[v.source()] = v.count()
		case v.count() <= was && !ln.p.idempotent: // sent again
		default:
			c.w.violate("the order of a producer's records is kept", "%s at offset %d: %v follows record %d", p, at, v, was)
			return
		}
	}
}

package sim

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
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
	return ln != nil && ln.p.idempotent && !p.forgetful
}

// lane is where a value comes from; nil if nobody sends such values here.
func (h *history) lane(v value) *lane { return h.lanes[v.source()] }

func (h *history) addLane(ln *lane) {
	if h.lanes == nil {
		h.lanes = make(map[uint64]*lane)
	}
	h.lanes[makeValue(ln.p.number, ln.number, 0).source()] = ln
}

// sent is what was sent as the record at an offset, nil if that is not known.
func (h *history) sent(at kafka.Offset) *sent {
	if at < 0 || int(at) >= len(h.truth) || h.truth[at] == 0 {
		return nil
	}
	s := h.lane(h.truth[at]).record(h.truth[at])
	if h.stamps == nil || s == nil {
		return s
	}
	ms, ok := h.stamps[at]
	if !ok {
		return nil
	}
	return &sent{ms, s.key, s.null}
}

// stamped notes the timestamp that a record has got from its leader, and checks
// that it is one of about now, and the same for whoever asks.
func (c *checkers) stamped(p *topicPart, at kafka.Offset, ms int64, how string) bool {
	known, ok := p.stamps[at]
	if off := ms - (epoch+int64(c.w.now))/1e6; ok && known != ms || off < -stampMax || off > stampMax {
		c.w.violate("a record has the time of its leader", "%s at offset %d: %d, %s; before it was %d (known: %v)", p, at, ms, how, known, ok)
		return false
	}
	p.stamps[at] = ms
	return true
}

// stampMax is by how much a record's time may differ from when it is read: runs
// and clocks are off by minutes.
const stampMax = 3 * 3600 * 1000

// committed notes what a node knows to be committed of the topics of which
// tombstones go. A node compacts only that, so each tombstone is known before it
// goes, though no client may ever be told of it. What clients are told, which
// others draw their questions from, is kept apart.
func (c *checkers) committed(n *node) {
	if n.broker == nil {
		return
	}
	for _, hosted := range n.broker.Partitions() {
		p := c.part(hosted.TopicID(), hosted.Number())
		if p == nil || p.topic.kind != compacted || p.topic.configs["delete.retention.ms"] == "" {
			continue
		}
		if from := max(p.looked, hosted.LogStart()); from < hosted.HighWatermark() {
			c.committedFrom(p, n, hosted, from)
		}
	}
}

func (c *checkers) committedFrom(p *topicPart, n *node, hosted *partition.Partition, from kafka.Offset) {
	all, problem := committedLog(n, hosted, from)
	if problem != "" {
		return // it is offline, or a disk fails: it is not compacted either
	}
	how := fmt.Sprintf("committed on node %d", n.id)
	var scratch record.Scratch
	for len(all) > 0 {
		b, rest, _ := record.Next(all)
		for it := b.Records(&scratch); it.Next(); {
			r := it.Record()
			v, ok := c.written(p, r, how)
			if !ok {
				return
			}
			if p.lastSeen == nil {
				p.lastSeen = make(map[string]placed)
			}
			if key := string(r.Key); r.Offset >= p.lastSeen[key].at {
				p.lastSeen[key] = placed{r.Offset, v}
			}
		}
		p.looked, all = max(p.looked, b.NextOffset()), rest
	}
}

// record checks that a record is one that was sent, as it was sent, in an epoch
// that goes with others, and that nothing else was ever told of its offset.
func (c *checkers) record(p *topicPart, r *record.Record, epoch int32, how string) bool {
	v, ok := c.written(p, r, how)
	return ok && c.holds(p, r.Offset, v, how) && c.inEpoch(p, r.Offset, epoch, how)
}

// written checks that a record is one that was sent, as it was sent.
func (c *checkers) written(p *topicPart, r *record.Record, how string) (value, bool) {
	v := valueOf(r)
	var s *sent
	if ln := p.lane(v); ln != nil {
		s = ln.record(v)
	}
	if s != nil && p.stamps != nil {
		if !c.stamped(p, r.Offset, r.Timestamp, how) {
			return v, false
		}
	} else if s != nil && r.Timestamp != s.stamp {
		c.w.violate("what is read was written", "%s at offset %d: %v at %d, %s; sent was %+v", p, r.Offset, v, r.Timestamp, how, s)
		return v, false
	}
	if s == nil || string(r.Key) != s.key || (r.Value == nil) != s.null {
		c.w.violate("what is read was written", "%s at offset %d: %v with key %q at %d, %d bytes, %s; sent was %+v", p, r.Offset, v, r.Key, r.Timestamp, len(r.Value), how, s)
		return v, false
	}
	for i := 8; i < len(r.Value); i++ {
		if r.Value[i] != byte(v.count())+byte(i) {
			c.w.violate("what is read was written", "%s at offset %d: %v, byte %d, %s", p, r.Offset, v, i, how)
			return v, false
		}
	}
	return v, true
}

// acked takes in an acknowledgement.
func (c *checkers) acked(ln *lane, b *batch, base kafka.Offset, ms int64) {
	p := ln.part
	a := ack{ln, b.first, b.records, base}
	if ln.p.acks == 1 {
		p.weak = append(p.weak, a)
		if end := base + kafka.Offset(b.records); end > b.onDisk {
			c.w.violate("what is acknowledged is on disk", "%s: records up to %d were acknowledged with acks=1, and the leader had %d on its disk", p, end, b.onDisk)
		}
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
	if p.stamps == nil && b.attempts == 1 && ms >= 0 { // of one that comes again its time is told
		c.w.violate("a record has the time of its producer", "%s: %s was told that the record at offset %d has got the time %d", p, ln.p.c.name, base, ms)
		return
	}
	if !c.onDisk(p, base+kafka.Offset(b.records), "acknowledged") {
		return
	}
	for i := range b.records {
		v := makeValue(ln.p.number, ln.number, b.first+uint64(i))
		if !c.holds(p, base+kafka.Offset(i), v, "acknowledged to "+ln.p.c.name) || p.stamps != nil && !c.stamped(p, base+kafka.Offset(i), ms, "acknowledged") {
			return
		}
	}
	p.committed = max(p.committed, base+kafka.Offset(b.records))
}

// onDisk checks that what was acknowledged or read is on enough disks. Of a node that is
// down it is known how far it was when it ended.
func (c *checkers) onDisk(p *topicPart, end kafka.Offset, what string) bool {
	for _, n := range c.w.nodes {
		if n.broker != nil {
			c.unnoticed(n)
		}
	}
	copies := 0
	for _, n := range c.w.nodes {
		synced := p.synced[n.index]
		if n.broker != nil {
			if hosted := n.broker.Partition(p.topic.id, p.number); hosted != nil {
				synced = max(synced, c.saw(p, n, hosted))
			}
		}
		if n.wiped {
			synced = max(synced, p.spared)
		}
		if synced >= end {
			copies++
		}
	}
	if copies < p.topic.minSync && !p.thinned {
		c.w.violate("what is acknowledged is on disk", "%s: records up to %d were %s, and are on %d disks; min.insync.replicas is %d", p, end, what, copies, p.topic.minSync)
		return false
	}
	return true
}

// wiped takes in that a node has lost its disk. What was committed by then was on
// it, and so is what a leader commits by what it had answered, until the cluster
// learns of the loss: one disk less is what replicas are for.
func (c *checkers) wiped(n *node) {
	for _, o := range c.w.nodes {
		if o.broker != nil {
			c.look(o)
		}
	}
	for _, p := range c.w.load.parts() {
		p.lost = p.synced[n.index]
		p.spared = min(p.lost, p.highest)
		delete(p.synced, n.index)
	}
}

// onlyOn says whether there is a partition that has had no more than this one
// complete replica, as one that was made while the others were away, and in
// which nothing is committed: without it only an unclean election gives the
// partition a leader. What is committed is on others, too, or a promise is broken.
func (c *checkers) onlyOn(n *node) bool {
	image := c.newestImage()
	if image == nil {
		return false
	}
	type part struct {
		topic  kafka.TopicID
		number int32
	}
	committed := map[part]bool{}
	for _, p := range c.w.load.parts() {
		committed[part{p.topic.id, p.number}] = p.highest > 0
	}
	for _, t := range image.Topics() { // also those of which no client has been told yet
		for i := range t.Partitions {
			complete := slices.Concat(t.Partitions[i].InSync, t.Partitions[i].EligibleLeader)
			if len(complete) == 1 && complete[0] == n.id && !committed[part{t.ID, int32(i)}] {
				return true
			}
		}
	}
	return false
}

// newestImage is that of the node that knows most, or nil.
func (c *checkers) newestImage() *metadata.Image {
	var image *metadata.Image
	for _, o := range c.w.nodes {
		if o.broker != nil && (image == nil || o.broker.Image().Offset() > image.Offset()) {
			image = o.broker.Image()
		}
	}
	return image
}

// unnoticed notes what a node knows to be committed while, by what it knows of the
// cluster, one that has lost its disk is in sync.
func (c *checkers) unnoticed(n *node) {
	image := c.images[n.index]
	for _, lost := range c.w.nodes {
		if image == nil || !lost.wiped || !lost.lostUnknown(image) {
			continue
		}
		for _, hosted := range n.broker.Partitions() {
			p := c.part(hosted.TopicID(), hosted.Number())
			if p == nil || p.spared == p.lost {
				continue
			}
			s := hosted.Status()
			state := image.Topic(p.topic.id).Partition(p.number)
			if slices.Contains(s.InSync, lost.id) || state != nil && state.IsInSync(lost.id) {
				p.spared = max(p.spared, min(p.lost, s.HighWatermark))
			}
		}
	}
}

// stable checks what an answer without an error says of transactions, of which
// there are none.
func (c *checkers) stable(p *topicPart, got *kmsg.FetchResponseTopicPartition, node int) bool {
	if got.LastStableOffset == got.HighWatermark && len(got.AbortedTransactions) == 0 {
		return true
	}
	c.w.violate("all that is committed is stable", "%s: node %d says that the high watermark is %d, the last stable offset %d, and %d transactions were aborted", p, node+1, got.HighWatermark, got.LastStableOffset, len(got.AbortedTransactions))
	return false
}

// read notes how far a consumer has read.
func (c *checkers) read(p *topicPart, next kafka.Offset) {
	c.readCount++
	if next > p.committed && c.onDisk(p, next, "read") {
		p.committed = next
	}
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

// producerID checks that an id is given away once.
func (c *checkers) producerID(id int64, to string) {
	if other, ok := c.producerIDs[id]; ok {
		c.w.violate("producer ids are unique", "%s and %s both have id %d", other, to, id)
		return
	}
	c.producerIDs[id] = to
}

// final reads all replicas of all partitions.
func (c *checkers) final() {
	for _, p := range c.w.load.parts() {
		if !c.w.stopped {
			c.replicas(p)
		}
		if !c.w.stopped {
			c.gone(p)
		}
		if !c.w.stopped {
			c.nothingLost(p)
		}
		if !c.w.stopped {
			c.inOrder(p)
		}
	}
	if !c.w.stopped {
		c.offsetsLogs()
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

func wholeLog(n *node, p *partition.Partition) (all []byte, problem string) {
	return committedLog(n, p, p.LogStart())
}

func committedLog(n *node, p *partition.Partition, from kafka.Offset) (all []byte, problem string) {
	for at, hw := from, p.HighWatermark(); at < hw; {
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

// nothingLost looks for every acknowledged record.
func (c *checkers) nothingLost(p *topicPart) {
	look := func(a ack) bool {
		for i := range a.count {
			v := makeValue(a.lane.p.number, a.lane.number, a.first+uint64(i))
			if _, ok := p.where[v]; !ok && p.topic.kind == plain {
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
	if p.forgetful {
		return
	}
	last := make(map[uint64]uint64)
	for at, v := range p.truth {
		ln := p.lane(v)
		if v == 0 || ln.p.acks != -1 || !ln.p.idempotent && ln.p.inFlight > 1 {
			continue
		}
		was := last[v.source()]
		switch {
		case v.count() == was+1, v.count() > was && p.topic.kind != plain:
			last[v.source()] = v.count()
		case v.count() <= was && !ln.p.idempotent: // sent again
		default:
			c.w.violate("the order of a producer's records is kept", "%s at offset %d: %v follows record %d", p, at, v, was)
			return
		}
	}
}

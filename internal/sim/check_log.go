package sim

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
	"chronik/internal/storage/wal"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// epochSpan is where records of a leader epoch were seen.
type epochSpan struct {
	epoch       int32
	first, last kafka.Offset
}

// inEpoch notes which epoch a record is of: epochs rise with offsets.
func (c *checkers) inEpoch(p *topicPart, at kafka.Offset, epoch int32, how string) bool {
	i, ok := slices.BinarySearchFunc(p.epochs, epoch, func(s epochSpan, e int32) int { return int(s.epoch) - int(e) })
	if !ok {
		p.epochs = slices.Insert(p.epochs, i, epochSpan{epoch, at, at})
	}
	s := &p.epochs[i]
	s.first, s.last = min(s.first, at), max(s.last, at)
	if i > 0 && p.epochs[i-1].last >= s.first || i+1 < len(p.epochs) && p.epochs[i+1].first <= s.last {
		c.w.violate("leader epochs rise with offsets", "%s at offset %d: epoch %d, %s; seen were %+v", p, at, epoch, how, p.epochs)
		return false
	}
	return true
}

// ownEpochEnd takes in what a leader says of its own epoch, which it knows from its
// beginning on: it ends where the log does.
func (c *checkers) ownEpochEnd(p *topicPart, asked int32, got *kmsg.OffsetForLeaderEpochResponseTopicPartition, least kafka.Offset, node int) {
	if got.LeaderEpoch != asked || kafka.Offset(got.EndOffset) < least {
		c.w.violate("leader epochs end where they ended", "%s: node %d leads in epoch %d and says that epoch %d ends at %d, but %d were known to be committed", p, node+1, asked, got.LeaderEpoch, got.EndOffset, least)
	}
}

// epochEnd takes in what OffsetForLeaderEpoch says: not less than what was read
// of epochs up to the one asked for, and not more than where later ones begin.
func (c *checkers) epochEnd(p *topicPart, asked int32, got *kmsg.OffsetForLeaderEpochResponseTopicPartition, known []epochSpan, node int) {
	if got.LeaderEpoch > asked {
		c.w.violate("leader epochs end where they ended", "%s: node %d was asked for epoch %d and tells of %d", p, node+1, asked, got.LeaderEpoch)
		return
	}
	end := kafka.Offset(got.EndOffset)
	if end < 0 && asked > known[len(known)-1].epoch {
		return // later than any that the leader knows
	}
	for _, s := range known {
		early := s.epoch <= asked && s.last >= max(end, 0) && (end >= 0 || s.last >= p.startMax())
		// Of an epoch that is gone it says where the log begins now.
		first := max(s.first, p.startMax())
		late := s.epoch > asked && first < end && first <= s.last
		if late && p.topic.kind == compacted {
			// All of them may be gone, and new replicas not know of the epoch.
			late = c.holdsEpoch(p, s, end, node)
		}
		if early || late {
			c.w.violate("leader epochs end where they ended", "%s: node %d says that epoch %d ends at %d, but records of epoch %d were read from %d to %d", p, node+1, asked, end, s.epoch, s.first, s.last)
			return
		}
	}
}

// holdsEpoch says whether a node's log has a batch of those records below an
// offset.
func (c *checkers) holdsEpoch(p *topicPart, s epochSpan, end kafka.Offset, node int) bool {
	n := c.w.nodes[node]
	if !n.up || n.broker == nil {
		return false
	}
	hosted := n.broker.Partition(p.topic.id, p.number)
	if hosted == nil {
		return false
	}
	all, _ := wholeLog(n, hosted)
	for len(all) > 0 {
		b, rest, err := record.Next(all)
		if err != nil {
			return false
		}
		if int32(b.LeaderEpoch()) == s.epoch && b.BaseOffset() <= s.last && b.BaseOffset() < end {
			return true
		}
		all = rest
	}
	return false
}

// epochOf takes in the leader epoch that ListOffsets tells with an offset: that
// of the record there.
func (c *checkers) epochOf(p *topicPart, got *kmsg.ListOffsetsResponseTopicPartition, known []epochSpan, node int) {
	at := kafka.Offset(got.Offset)
	if got.LeaderEpoch < 0 && p.topic.kind == compacted {
		return // the record is gone, and a new replica does not know of it
	}
	for _, s := range known {
		if s.first <= at && at <= s.last && got.LeaderEpoch != s.epoch {
			c.w.violate("records are of the epoch that is told", "%s: node %d says that offset %d is of epoch %d, but records of %d were read from %d to %d", p, node+1, at, got.LeaderEpoch, s.epoch, s.first, s.last)
			return
		}
	}
}

// startMax is how far a log may have been cut off at its beginning.
func (p *topicPart) startMax() kafka.Offset {
	switch p.topic.kind {
	case trimmed:
		return p.mayStart
	case retained, aged:
		return math.MaxInt64
	}
	return 0
}

// keptMax is the size that a log of the topic has at most after retention.
func (t *topicState) keptMax() int64 {
	keep, _ := strconv.ParseInt(t.configs["retention.bytes"], 10, 64)
	segment, _ := strconv.ParseInt(t.configs["internal.segment.bytes"], 10, 64)
	return keep + 2*segment + 20_000 // a batch may be larger than a segment
}

// oldSegment finds a segment that retention.ms should have taken from a node.
func (c *checkers) oldSegment(p *topicPart, n *node, start kafka.Offset) (kafka.Offset, bool) {
	if p.topic.kind != aged {
		return 0, false
	}
	list := segmentsIn(n.disk.mem, logDir(p))
	if len(list) == 0 || list[0].end <= start || int(list[0].end) > len(p.truth) {
		return 0, false
	}
	old := (epoch+int64(c.w.now))/1e6 - 3*retentionMillis/2
	for o := max(start, list[0].base); o < list[0].end; o++ {
		if s := p.sent(o); s == nil || s.stamp > old {
			return 0, false
		}
	}
	return list[0].base, true
}

// start takes in where a log begins: not behind what was deleted, nor before
// what was acknowledged as deleted before the question. -1 says nothing.
func (c *checkers) start(p *topicPart, start, trimmed kafka.Offset, node int) bool {
	switch {
	case start < 0:
	case start > p.startMax():
		c.w.violate("only what was deleted is gone", "%s: node %d says that the log begins at %d, but deletion was asked for up to %d", p, node+1, start, p.startMax())
	case start < trimmed:
		c.w.violate("what was deleted stays deleted", "%s: node %d says that the log begins at %d, but up to %d all was deleted", p, node+1, start, trimmed)
	}
	return !c.w.stopped
}

// trimmed takes in that records up to an offset were deleted.
func (c *checkers) trimmed(p *topicPart, to, low kafka.Offset) {
	if low < to || low > p.mayStart {
		c.w.violate("only what was deleted is gone", "%s: deletion up to %d was answered with the low watermark %d, asked for was at most %d", p, to, low, p.mayStart)
		return
	}
	p.trimmedTo = max(p.trimmedTo, to)
}

// time takes in the answer to ListOffsets with a timestamp, or with -3 for the
// record with the largest.
func (c *checkers) time(p *topicPart, ms int64, got *kmsg.ListOffsetsResponseTopicPartition, least, trimmed kafka.Offset, node int) {
	at := kafka.Offset(got.Offset)
	if at >= 0 && at < trimmed {
		c.w.violate("what was deleted stays deleted", "%s: node %d says for %d that it is offset %d, but up to %d all was deleted", p, node+1, ms, at, trimmed)
		return
	}
	s := p.sent(at)
	if s != nil && (got.Timestamp != s.stamp || ms >= 0 && s.stamp < ms) {
		c.w.violate("records are found by time", "%s: node %d says for %d that offset %d is of %d, but it is of %d", p, node+1, ms, at, got.Timestamp, s.stamp)
		return
	}
	if p.topic.kind == compacted {
		return
	}
	wrong := func(x *sent) bool { return x.stamp >= ms }
	end := at
	switch {
	case ms == -3 && s == nil:
		return
	case ms == -3:
		wrong, end = func(x *sent) bool { return x.stamp > s.stamp }, least
	case at < 0:
		end = least
	}
	for o := p.startMax(); o < min(end, kafka.Offset(len(p.truth))); o++ {
		if x := p.sent(o); x != nil && wrong(x) {
			c.w.violate("records are found by time", "%s: node %d says for %d that it is offset %d, but that at %d is of %d", p, node+1, ms, at, o, x.stamp)
			return
		}
	}
}

// replica is what a replica of a partition holds.
type replicaLog struct {
	n          *node
	start, end kafka.Offset
	bytes      []byte
	offsets    []kafka.Offset
}

// afterStart is what follows the batch in which the log begins: of that a
// replica that was made later has only a part.
func (r *replicaLog) afterStart() []byte {
	b, rest, err := record.Next(r.bytes)
	if err != nil || r.start == 0 || b.BaseOffset() > r.start {
		return r.bytes
	}
	return rest
}

// replicas checks that all replicas have the same bytes, and that they are what
// clients have been told. Each replica compacts on its own.
func (c *checkers) replicas(p *topicPart) {
	var all []replicaLog
	for _, n := range c.w.nodes {
		hosted := n.broker.Partition(p.topic.id, p.number)
		if hosted == nil {
			continue
		}
		if !c.sameProducers(p, n, hosted) {
			return
		}
		b, err := wholeLog(n, hosted)
		if err != "" {
			c.w.violate("replicas can be read", "%s on node %d: %s", p, n.id, err)
			return
		}
		r := replicaLog{n: n, start: hosted.LogStart(), end: hosted.HighWatermark(), bytes: b}
		if len(all) > 0 && p.topic.kind != compacted {
			if x, y := all[0].afterStart(), r.afterStart(); !bytes.Equal(x, y) {
				c.w.violate("replicas are the same", "%s: %s", p, difference(x, y, int(all[0].n.id), int(n.id)))
				return
			}
			if !c.contents(p, &r) {
				return
			}
			continue
		}
		if !c.contents(p, &r) {
			return
		}
		all = append(all, r)
	}
	if len(all) > 0 {
		p.starts = all[0].start
	}
	c.newestFound(p)
	if p.topic.kind == compacted {
		for i := range all {
			c.lastOfEachKey(p, &all[i])
		}
	}
}

// newestFound checks that the leader finds the record with the largest timestamp,
// now that all are committed: what was truncated does not count.
func (c *checkers) newestFound(p *topicPart) {
	if p.topic.kind == compacted {
		return // it may be gone
	}
	for _, n := range c.w.nodes {
		hosted := n.broker.Partition(p.topic.id, p.number)
		if hosted == nil {
			continue
		}
		if _, leads := hosted.Leads(); !leads {
			continue
		}
		most := record.NoTimestamp
		for o := hosted.LogStart(); o < min(hosted.HighWatermark(), kafka.Offset(len(p.truth))); o++ {
			if s := p.sent(o); s != nil {
				most = max(most, s.stamp)
			}
		}
		got := hosted.ListOffsets(n.time(), partition.ListOffsetsRequest{Timestamp: kafka.TimestampMax, ReplicaID: partition.NoReplicaID, CurrentLeaderEpoch: kafka.NoLeaderEpoch})
		if got.Code == kafka.ErrKafkaStorageError && c.w.faults.done[flipFault] > 0 && hosted.LogStart() > 0 {
			continue // what is damaged below the log start is not repaired, and a time may lie in it
		}
		if got.Code != kafka.None || got.Timestamp < most {
			c.w.violate("records are found by time", "%s: node %d finds none later than %d (%v), but there is one of %d", p, n.id, got.Timestamp, got.Code, most)
		}
	}
}

// sameProducers checks that a replica knows the same of producers as the
// leader: it may lead next, and must know what comes again.
func (c *checkers) sameProducers(p *topicPart, n *node, hosted *partition.Partition) bool {
	leader := c.w.nodes[hosted.Status().Leader-1]
	if other := leader.broker.Partition(p.topic.id, p.number); leader != n && other != nil {
		return c.agree(p, n, hosted, leader, other)
	}
	return true
}

// agree is sameProducers of a leader and a replica with all that it has.
func (c *checkers) agree(p *topicPart, n *node, hosted *partition.Partition, leader *node, other *partition.Partition) bool {
	if c.mayForget() {
		return true
	}
	known := func(hosted *partition.Partition) string {
		var b strings.Builder
		for _, s := range hosted.Producers() {
			first := s.FirstOffset
			if p.topic.kind != plain { // what is gone may be all that told of the batches before some that were cut off
				first = kafka.NoOffset
			}
			fmt.Fprintf(&b, " %d in epoch %d at %d, offsets %d to %d;", s.ProducerID, s.ProducerEpoch, s.LastSequence, first, s.LastOffset)
		}
		return b.String()
	}
	if its, leaders := known(hosted), known(other); its != leaders {
		c.w.violate("replicas know the same producers", "%s: node %d knows%s node %d, which leads, knows%s", p, n.id, its, leader.id, leaders)
		return false
	}
	return true
}

// mayForget says whether a node may have lost what it knew of producers whose
// records are gone: where damage was done, a disk was full or a sync failed.
func (c *checkers) mayForget() bool {
	return c.w.flips.wanted || c.w.faults.has("full disk") ||
		slices.ContainsFunc(c.w.nodes, func(n *node) bool { return n.disk.failed > 0 })
}

// contents holds what a replica has against what clients were told.
func (c *checkers) contents(p *topicPart, r *replicaLog) bool {
	var scratch record.Scratch
	how := fmt.Sprintf("on node %d at the end", r.n.id)
	next := r.start
	for all := r.bytes; len(all) > 0; {
		b, rest, _ := record.Next(all)
		if p.topic.kind == compacted && !c.horizon(p, b, r.n) {
			return false
		}
		for it := b.Records(&scratch); it.Next(); {
			rec := it.Record()
			if rec.Offset < r.start {
				continue
			}
			if rec.Offset != next && p.topic.kind != compacted || rec.Offset < next {
				c.w.violate("no gaps", "%s on node %d: offset %d follows %d", p, r.n.id, rec.Offset, next-1)
				return false
			}
			next = rec.Offset + 1
			r.offsets = append(r.offsets, rec.Offset)
			if !c.record(p, rec, int32(b.LeaderEpoch()), how) {
				return false
			}
		}
		all = rest
	}
	if int(r.end) < len(p.truth) || int(r.end) > int(next) && p.topic.kind != compacted {
		c.w.violate("no acknowledged record is lost", "%s on node %d ends at %d, high watermark %d, but clients were told of %d records", p, r.n.id, next, r.end, len(p.truth))
		return false
	}
	return true
}

// lastOfEachKey checks that compaction has left the last record of each key,
// unless that deletes the key. Until delete.retention.ms is over that stays too;
// a replica that was away for longer may never come to know of it. That a
// tombstone was there is known from before it went: see committed.
func (c *checkers) lastOfEachKey(p *topicPart, r *replicaLog) {
	here := make(map[kafka.Offset]bool, len(r.offsets))
	for _, o := range r.offsets {
		here[o] = true
	}
	last := make(map[string]placed)
	for o, v := range p.truth {
		if s := p.sent(kafka.Offset(o)); s != nil {
			last[s.key] = placed{kafka.Offset(o), v}
		}
	}
	for key, seen := range p.lastSeen {
		if known, ok := last[key]; !ok || seen.at > known.at {
			last[key] = seen
		}
	}
	for _, key := range slices.Sorted(maps.Keys(last)) {
		l := last[key]
		switch s := p.lane(l.v).record(l.v); {
		case here[l.at]:
		case !s.null:
			c.w.violate("compaction keeps the last record of each key", "%s on node %d: %v with key %s at offset %d is gone", p, r.n.id, l.v, key, l.at)
			return
		case p.topic.configs["delete.retention.ms"] == "":
			c.w.violate("compaction keeps the last record of each key", "%s on node %d: the record at %d that deletes key %s is gone before its time", p, r.n.id, l.at, key)
			return
		}
	}
}

// gone checks that only records have left the log that were to.
func (c *checkers) gone(p *topicPart) {
	switch {
	case p.starts > p.startMax():
		c.w.violate("only what was deleted is gone", "%s begins at %d, but deletion was asked for up to %d", p, p.starts, p.startMax())
	case p.starts < p.trimmedTo:
		c.w.violate("what was deleted stays deleted", "%s begins at %d, but up to %d all was deleted", p, p.starts, p.trimmedTo)
	case p.topic.kind == retained && p.starts > 0 && !p.cut: // else it went by what it dropped later
		size := int64(0)
		for _, n := range c.w.nodes {
			if hosted := n.broker.Partition(p.topic.id, p.number); hosted != nil {
				size = max(size, hosted.Status().Size) // each replica has segments of its own
			}
		}
		if keep, _ := strconv.ParseInt(p.topic.configs["retention.bytes"], 10, 64); size < keep {
			c.w.violate("only what was deleted is gone", "%s has %d bytes left, though retention.bytes is %d", p, size, keep)
		}
	case p.topic.kind == aged:
		young := (epoch+int64(c.w.now))/1e6 - retentionMillis/2
		for o := range min(p.starts, kafka.Offset(len(p.truth))) {
			if s := p.sent(o); s != nil && s.stamp > young {
				c.w.violate("only what was deleted is gone", "%s begins at %d, but the record at %d was %d ms old, less than retention.ms", p, p.starts, o, (epoch+int64(c.w.now))/1e6-s.stamp)
				return
			}
		}
	}
}

// metadataAtRest says in which way the nodes do not have what clients were
// granted.
func (c *checkers) metadataAtRest(newest *metadata.Image) string {
	for _, n := range c.w.nodes {
		if image := n.broker.Image(); image.Offset() != newest.Offset() || !image.Equal(newest) {
			return fmt.Sprintf("node %d has other metadata at offset %d than another node at %d", n.id, image.Offset(), newest.Offset())
		}
	}
	for _, t := range c.w.load.topics {
		topic := newest.Topic(t.id)
		switch {
		case t.deleted && topic != nil:
			return fmt.Sprintf("topic %s is not deleted", t.name)
		case t.deleted || t.asking:
		case topic == nil:
			return fmt.Sprintf("the metadata have forgotten topic %s", t.name)
		case len(topic.Partitions) != len(t.parts):
			return fmt.Sprintf("topic %s has %d partitions, not %d", t.name, len(topic.Partitions), len(t.parts))
		default:
			if got := newest.Config(metadata.ConfigResource{Type: metadata.ResourceTopic, Name: t.name}); !t.granted(got) {
				return fmt.Sprintf("topic %s has the configs %v, not %v", t.name, got, t.configs)
			}
		}
	}
	return c.filesAtRest(newest)
}

// filesAtRest says which node has files of partitions that it should not have.
func (c *checkers) filesAtRest(image *metadata.Image) string {
	for _, n := range c.w.nodes {
		entries, err := n.disk.mem.List("/data/wal/partitions")
		if err != nil {
			return fmt.Sprintf("node %d: %v", n.id, err)
		}
		want := make(map[string]bool)
		for _, t := range image.Topics() {
			for i, p := range t.Partitions {
				if p.IsReplica(n.id) {
					want[fmt.Sprintf("%s-%d", t.Name, i)] = true
				}
			}
		}
		for _, e := range entries {
			_, whole, err := wal.ReadIdentity(n.disk.mem, "/data/wal/partitions/"+e.Name)
			if !want[e.Name] && whole && err == nil {
				return fmt.Sprintf("node %d has the files of %s, of which it has no replica", n.id, e.Name)
			}
		}
	}
	return ""
}

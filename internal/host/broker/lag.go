package broker

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
	"chronik/internal/core/metadata"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/host/deadline"
	"chronik/internal/host/partition"
)

// How far groups are behind. The coordinator of a group knows what is
// committed, and the leader of a partition where it ends and how old its
// records are. When somebody wants to know, the coordinator asks each leader
// once about all partitions that it leads; between two such times nothing is
// done.
//
//	kind         | what follows
//	lag question | number (8), then for each partition: topic id (16), partition (4), committed offset (8)
//	lag answer   | number (8), then for each, in the same order: records (8; -1 not known), milliseconds (8)
const (
	frameLagQuestion = 6
	frameLagAnswer   = 7

	lagAskedBytes  = 28
	lagAnswerBytes = 16
	// lagFrameMax keeps frames short: what decides over leaders travels on the
	// same connection.
	lagFrameMax = 1000
)

// GroupLag is how far a group is behind in a partition.
type GroupLag struct {
	Group     string
	Topic     string
	Partition int32
	Records   int64         // committed records that the group has not
	Time      time.Duration // the age of the oldest of them; 0 when there are none
}

// lagAsked is a partition as it is asked about.
type lagAsked struct {
	topic     kafka.TopicID
	partition int32
	committed kafka.Offset
}

// lagQuestion is a question that a leader has not answered.
type lagQuestion struct {
	to    kafka.NodeID
	count int
	done  func(answer []byte) // nil: none came
	timer *deadline.Entry
}

// lagQuestions belong to the control loop.
type lagQuestions struct {
	next    uint64
	waiting map[uint64]*lagQuestion
}

// lagCollection is one reading of all groups' lag.
type lagCollection struct {
	mu    sync.Mutex
	lags  []GroupLag // in the order of asking; Records is -1 until it is known
	left  int
	reply func(lags []GroupLag)
}

func (c *lagCollection) end() {
	c.mu.Lock()
	c.left--
	last := c.left == 0
	c.mu.Unlock()
	if last {
		c.reply(slices.DeleteFunc(c.lags, func(l GroupLag) bool { return l.Records < 0 }))
	}
}

// GroupLags reads the lag of the groups that this node coordinates, of max
// partitions at most, by group, topic and partition. It gives the number of
// those beyond at once. Leaders have wait to answer; partitions without a
// leader, or one that does not, are left out. Reply is called once, on any
// goroutine.
func (b *Broker) GroupLags(now time.Time, limit int, wait time.Duration, reply func(lags []GroupLag)) (beyond int) {
	c := &lagCollection{left: 1, reply: reply}
	asked := map[kafka.NodeID][]int{} // by leader, of lags and parts
	var parts []lagAsked
	if b.MayServe(now) {
		image := b.image.Load()
		var offsets []group.CommittedOffset
		b.Groups().EachOffset(func(o group.CommittedOffset) {
			if kafka.IsInternalTopic(o.Topic) || image.TopicByName(o.Topic) == nil {
				return
			}
			offsets = append(offsets, o)
		})
		slices.SortFunc(offsets, compareCommitted)
		beyond = max(len(offsets)-limit, 0)
		for _, o := range offsets[:len(offsets)-beyond] {
			leader, part := lagAskedOf(image, o)
			if leader != kafka.NoNode {
				asked[leader] = append(asked[leader], len(parts))
				parts = append(parts, part)
				c.lags = append(c.lags, GroupLag{Group: o.Group, Topic: o.Topic, Partition: o.Partition, Records: -1})
			}
		}
	}
	for _, i := range asked[b.opts.Node] {
		c.lags[i].Records, c.lags[i].Time = b.lagOf(now, parts[i])
	}
	delete(asked, b.opts.Node)
	for _, leader := range slices.Sorted(maps.Keys(asked)) {
		for chunk := range slices.Chunk(asked[leader], lagFrameMax) {
			c.left++
			b.askLag(now, leader, wait, chunk, parts, c)
		}
	}
	c.end()
	return beyond
}

func compareCommitted(a, b group.CommittedOffset) int {
	switch {
	case a.Group != b.Group:
		if a.Group < b.Group {
			return -1
		}
		return 1
	case a.Topic != b.Topic:
		if a.Topic < b.Topic {
			return -1
		}
		return 1
	}
	return int(a.Partition) - int(b.Partition)
}

func lagAskedOf(image *metadata.Image, o group.CommittedOffset) (kafka.NodeID, lagAsked) {
	t := image.TopicByName(o.Topic)
	p := t.Partition(o.Partition)
	if p == nil {
		return kafka.NoNode, lagAsked{}
	}
	return p.Leader, lagAsked{t.ID, o.Partition, o.Offset}
}

// askLag asks a leader about some of the parts.
func (b *Broker) askLag(now time.Time, leader kafka.NodeID, wait time.Duration, which []int, parts []lagAsked, c *lagCollection) {
	body := make([]byte, 0, len(which)*lagAskedBytes)
	for _, i := range which {
		body = append(body, parts[i].topic[:]...)
		body = binary.BigEndian.AppendUint32(body, uint32(parts[i].partition))
		body = binary.BigEndian.AppendUint64(body, uint64(parts[i].committed))
	}
	done := func(answer []byte) {
		if answer != nil {
			c.mu.Lock()
			for n, i := range which {
				a := answer[n*lagAnswerBytes:]
				c.lags[i].Records = int64(binary.BigEndian.Uint64(a))
				c.lags[i].Time = time.Duration(binary.BigEndian.Uint64(a[8:])) * time.Millisecond
			}
			c.mu.Unlock()
		}
		c.end()
	}
	until := now.Add(wait)
	b.env.Post(func(time.Time) {
		if b.closed {
			done(nil)
			return
		}
		s := &b.lags
		s.next++
		id := s.next
		if s.waiting == nil {
			s.waiting = make(map[uint64]*lagQuestion)
		}
		s.waiting[id] = &lagQuestion{to: leader, count: len(which), done: done, timer: b.At(until, func(time.Time) {
			b.env.Post(func(time.Time) { b.settleLag(id, nil) })
		})}
		b.env.Send(leader, ClassControl, append(binary.BigEndian.AppendUint64([]byte{frameLagQuestion}, id), body...))
	})
}

func (b *Broker) settleLag(id uint64, answer []byte) {
	if q := b.lags.waiting[id]; q != nil {
		delete(b.lags.waiting, id)
		q.timer.Cancel()
		q.done(answer)
	}
}

// endLags gives up on all questions, because the node closes.
func (b *Broker) endLags() {
	for _, id := range slices.Sorted(maps.Keys(b.lags.waiting)) {
		b.settleLag(id, nil)
	}
}

// handleLag takes a question or an answer of a peer.
func (b *Broker) handleLag(from kafka.NodeID, kind byte, body []byte) error {
	if len(body) < 8 {
		return fmt.Errorf("%w: lag with %d bytes", errFrame, len(body))
	}
	id, rest := binary.BigEndian.Uint64(body), body[8:]
	if kind == frameLagAnswer {
		if q := b.lags.waiting[id]; q != nil && q.to == from && len(rest) == q.count*lagAnswerBytes {
			b.settleLag(id, rest)
		}
		return nil
	}
	if len(rest)%lagAskedBytes != 0 || len(rest) > lagFrameMax*lagAskedBytes {
		return fmt.Errorf("%w: lag question with %d bytes", errFrame, len(body))
	}
	asked := slices.Clone(rest)
	// It reads from disk what the groups have not read; not on the control loop.
	b.env.Background(func(now time.Time) {
		answer := binary.BigEndian.AppendUint64([]byte{frameLagAnswer}, id)
		for a := asked; len(a) > 0; a = a[lagAskedBytes:] {
			part := lagAsked{partition: int32(binary.BigEndian.Uint32(a[16:])), committed: kafka.Offset(binary.BigEndian.Uint64(a[20:]))}
			copy(part.topic[:], a)
			records, age := b.lagOf(now, part)
			answer = binary.BigEndian.AppendUint64(answer, uint64(records))
			answer = binary.BigEndian.AppendUint64(answer, uint64(age.Milliseconds()))
		}
		b.env.Send(from, ClassControl, answer)
	})
	return nil
}

// lagOf is how far behind an offset of a partition is that this node leads;
// -1 when it does not. The age is that of the batch which has the next record.
func (b *Broker) lagOf(now time.Time, a lagAsked) (records int64, age time.Duration) {
	p := b.Partition(a.topic, a.partition)
	if p == nil {
		return -1, 0
	}
	s := p.Status()
	if s.Role != replica.Leader || s.Offline {
		return -1, 0
	}
	if a.committed >= s.HighWatermark {
		return 0, 0
	}
	from := max(a.committed, s.LogStart)
	r := p.Read(now, partition.ReadRequest{
		Offset: from, MaxBytes: 1, MinOneMessage: true, ReplicaID: partition.NoReplicaID,
		CurrentLeaderEpoch: kafka.NoLeaderEpoch, LastFetchedEpoch: kafka.NoLeaderEpoch,
	})
	if r.Code == kafka.None && len(r.Records) > 0 {
		if batch, _, err := record.Next(r.Records); err == nil {
			at := batch.BaseTimestamp()
			if batch.TimestampType() == record.LogAppendTime {
				at = batch.MaxTimestamp()
			}
			if at >= 0 {
				age = max(now.Sub(time.UnixMilli(at)), 0)
			}
		}
	}
	return int64(s.HighWatermark - a.committed), age
}

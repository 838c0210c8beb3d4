package broker

import (
	"fmt"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/core/replica"
	"chronik/internal/host/deadline"
	"chronik/internal/host/partition"
	"chronik/internal/host/peer"
	"chronik/internal/storage/wal"
)

// scrubQuestions are this node's questions to other nodes. The scrubber's lock
// guards them.
type scrubQuestions struct {
	next    uint64
	waiting map[uint64]*scrubQuestion
}

type scrubQuestion struct {
	to    kafka.NodeID
	kind  peer.ScrubKind // of the answer
	done  func(now time.Time, answer *peer.Scrub)
	timer *deadline.Entry
}

// askScrub asks another node. Done is called once, on any goroutine and without
// the lock, with nil when no answer came in time; the answer is valid during
// the call.
func (b *Broker) askScrub(now time.Time, to kafka.NodeID, q peer.Scrub, wait time.Duration, done func(now time.Time, answer *peer.Scrub)) {
	s := &b.scrub
	s.mu.Lock()
	s.questions.next++
	id := s.questions.next
	if s.questions.waiting == nil {
		s.questions.waiting = make(map[uint64]*scrubQuestion)
	}
	entry := &scrubQuestion{to: to, kind: q.Kind + 1, done: done}
	s.questions.waiting[id] = entry
	entry.timer = b.At(now.Add(wait), func(now time.Time) { b.answered(now, id, nil) })
	s.mu.Unlock()
	q.ID = id
	b.sendScrub(to, &q)
}

func (b *Broker) answered(now time.Time, id uint64, answer *peer.Scrub) {
	s := &b.scrub
	s.mu.Lock()
	q := s.questions.waiting[id]
	delete(s.questions.waiting, id)
	s.mu.Unlock()
	if q != nil {
		q.timer.Cancel()
		q.done(now, answer)
	}
}

func (b *Broker) sendScrub(to kafka.NodeID, m *peer.Scrub) {
	o := outgoings.Get().(*outgoing)
	o.header = peer.EncodeScrub(o.header[:0], m)
	b.env.Send(to, ClassBulk, o.header)
	outgoings.Put(o)
}

// handleScrub takes a message of another node's scrubber, on any goroutine.
func (b *Broker) handleScrub(now time.Time, from kafka.NodeID, m *peer.Scrub) {
	s := &b.scrub
	switch m.Kind {
	case peer.Sum, peer.Batches, peer.State:
		s.mu.Lock()
		q := s.questions.waiting[m.ID]
		fits := q != nil && q.to == from && q.kind == m.Kind
		s.mu.Unlock()
		if fits {
			b.answered(now, m.ID, m)
		}
	case peer.AskSum:
		question := *m
		question.Data = nil
		s.mu.Lock()
		if len(s.asked) < scrubAskedMax {
			s.asked = append(s.asked, &askedSum{from: from, question: question})
		}
		s.mu.Unlock()
		b.wakeScrub()
	case peer.AskBatches:
		question := *m
		question.Data = nil
		b.env.Background(func(time.Time) { b.giveBatches(from, &question) })
	case peer.Diverged:
		b.noteDivergence(from, m)
	case peer.AskState:
		question := *m
		question.Data = slices.Clone(m.Data)
		b.env.Background(func(now time.Time) { b.giveScrubState(now, from, &question) })
	}
}

// comparison is a piece of which the followers' sums are awaited.
//
// The first batch of a log that was trimmed may be another's on each replica:
// where it began before the log's start, one that had to begin anew has got the
// rest of it as a batch of its own. So it is verified everywhere, and who has
// another one is not told so.
type comparison struct {
	begins  bool // it is that batch
	pass    *scrubPass
	r       *partition.Partition
	epoch   kafka.LeaderEpoch
	piece   wal.Piece
	nodes   []kafka.NodeID
	answers []peer.Scrub // of nodes; Kind 0 is none
	left    int
}

// compare asks the in-sync followers for their sums of a piece that this node
// has verified. The pass waits for them.
func (b *Broker) compare(now time.Time, p *scrubPass, r *partition.Partition, piece wal.Piece) {
	s := &b.scrub
	if piece.Compacted || piece.First != piece.From {
		return // every replica's is its own
	}
	start := r.LogStart()
	c := &comparison{pass: p, r: r, piece: piece, begins: start > 0 && piece.From <= start}
	c.epoch, _ = r.Leads()
	status := r.Status()
	for _, f := range status.Followers {
		if slices.Contains(status.InSync, f.Node) {
			c.nodes = append(c.nodes, f.Node)
		}
	}
	if len(c.nodes) == 0 {
		return
	}
	c.answers, c.left = make([]peer.Scrub, len(c.nodes)), len(c.nodes)
	s.mu.Lock()
	p.waits = true
	s.mu.Unlock()
	q := peer.Scrub{Kind: peer.AskSum, Topic: r.TopicID(), Partition: r.Number(), From: piece.From, To: piece.To}
	for i, node := range c.nodes {
		b.askScrub(now, node, q, scrubSumWait, func(now time.Time, answer *peer.Scrub) {
			s.mu.Lock()
			if answer != nil {
				c.answers[i] = *answer
				c.answers[i].Data = nil
			}
			c.left--
			last := c.left == 0
			s.mu.Unlock()
			if last {
				b.judge(now, c)
			}
		})
	}
}

// judge finds who has other records than the others.
func (b *Broker) judge(now time.Time, c *comparison) {
	s := &b.scrub
	var differ []int
	own, compared := 1, int64(0)
	votes := map[uint32]int{}
	for i := range c.answers {
		switch a := &c.answers[i]; {
		case a.Kind == 0 || a.Status == peer.ScrubNotHere || a.Status == peer.ScrubCompacted || a.Status == peer.ScrubDamaged:
			continue
		case a.Status == peer.ScrubOK && a.Sum == c.piece.Sum:
			own++
		case c.begins:
			continue
		default:
			differ = append(differ, i)
			if a.Status == peer.ScrubOK {
				votes[a.Sum]++
			}
		}
		compared++
	}
	s.mu.Lock()
	s.counts.Compared += compared
	s.counts.Uncompared += int64(len(c.answers)) - compared
	s.replica(partitionKey{c.r.TopicID(), c.r.Number()}).comparedAt = now
	c.pass.waits = false
	s.mu.Unlock()
	if epoch, leads := c.r.Leads(); len(differ) > 0 && leads && epoch == c.epoch {
		most := 0
		for _, n := range votes {
			most = max(most, n)
		}
		b.tellDiffering(c, differ, most > own)
	}
	b.wakeScrub()
}

// tellDiffering has the replicas repaired that differ from the leader's, or the
// leader's if more others agree with one another than with it.
func (b *Broker) tellDiffering(c *comparison, differ []int, outvoted bool) {
	m := peer.Scrub{Kind: peer.Diverged, Topic: c.r.TopicID(), Partition: c.r.Number(), From: c.piece.From, To: c.piece.To}
	for _, i := range differ {
		b.env.Log.Error("replicas differ", "topic", c.r.Topic(), "partition", c.r.Number(), "from", int64(m.From), "to", int64(m.To),
			"leader", b.opts.Node, "follower", c.nodes[i], "sum", fmt.Sprintf("%08x", c.piece.Sum),
			"other", fmt.Sprintf("%08x", c.answers[i].Sum), "status", c.answers[i].Status.String())
		if !outvoted {
			b.sendScrub(c.nodes[i], &m)
		}
	}
	if outvoted {
		b.diverged(c.r, m.From, m.To, "most of its followers have other records than this leader")
	}
}

// noteDivergence takes the leader's word that this node has other records.
func (b *Broker) noteDivergence(from kafka.NodeID, m *peer.Scrub) {
	r := b.Partition(m.Topic, m.Partition)
	if r == nil {
		return
	}
	if st := r.Status(); st.Role != replica.Follower || st.Leader != from {
		return
	}
	b.diverged(r, m.From, m.To, fmt.Sprintf("its leader, node %d, has other records", from))
}

func (b *Broker) diverged(r *partition.Partition, from, to kafka.Offset, why string) {
	s := &b.scrub
	s.mu.Lock()
	s.counts.Mismatches++
	s.replica(partitionKey{r.TopicID(), r.Number()}).mismatches++
	s.mu.Unlock()
	b.noteBad(r, fmt.Sprintf("offsets %d to %d: %s", from, to-1, why), from, to)
}

// giveBatches answers AskBatches.
func (b *Broker) giveBatches(to kafka.NodeID, q *peer.Scrub) {
	answer := peer.Scrub{Kind: peer.Batches, ID: q.ID, Topic: q.Topic, Partition: q.Partition, From: q.From, To: q.To, Status: peer.ScrubNotHere}
	if p := b.Partition(q.Topic, q.Partition); p != nil && p.Failure() == nil {
		records, err := p.ReadSound(q.From, q.To, int(min(q.Max, repairChunkMax)), nil)
		switch {
		case err == nil && len(records) > 0:
			answer.Status, answer.Data = peer.ScrubOK, records
		case isCorrupt(err):
			answer.Status = peer.ScrubDamaged
		}
	}
	b.sendScrub(to, &answer)
}

// repairSources are the nodes to ask for batches of a partition, the best
// first: its leader, the others in sync, the rest.
func (b *Broker) repairSources(p *metadata.Partition) []kafka.NodeID {
	var list []kafka.NodeID
	add := func(n kafka.NodeID) {
		if br := b.image.Load().Broker(n); n != b.opts.Node && br != nil && !br.Fenced && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	add(p.Leader)
	for _, n := range p.InSync {
		add(n)
	}
	for _, n := range p.Replicas {
		add(n)
	}
	return list
}

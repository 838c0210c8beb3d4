package broker

import (
	"errors"
	"slices"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/replica"
	"chronik/internal/host/partition"
	"chronik/internal/host/peer"
	"chronik/internal/storage/wal"
)

// The scrubber goes over all logs of this node, over and over, at a bounded
// rate: a pass verifies what is on the disk, and where this node leads it has
// the followers do the same for the same offsets, and compares the sums. Docs:
// docs/scrubbing.md, docs/decisions/0010.
//
//	pass ──damage──▶ noteDamage ──▶ unfit ──▶ batches from another replica ──▶ fit
//	 │ sums differ       ▲
//	 └──▶ Diverged ⋯▶ the follower's
//
// There is never more than one call of Env.Background for verification.
type scrubber struct {
	mu        sync.Mutex
	busy      bool         // a step is on its way or under way
	passes    []*scrubPass // the last one is under way, those before it wait
	asked     []*askedSum  // by leaders, the oldest first
	yield     bool         // the pass had the last turn
	passCount uint64
	replicas  map[partitionKey]*scrubbedReplica
	questions scrubQuestions
	repairs   map[partitionKey]*repair
	repairing bool
	counts    ScrubCounts
	metadata  string // what is wrong with the files of the metadata quorum; "" for nothing
	last      ScrubPass
}

// ScrubCounts count since the start of the process.
type ScrubCounts struct {
	Bytes       int64 `json:"bytes"`        // read from disk
	Passes      int64 `json:"passes"`       // finished
	Damages     int64 `json:"damages"`      // segments that were found damaged
	Mismatches  int64 `json:"mismatches"`   // ranges in which a replica of this node had other records than its leader
	Repairs     int64 `json:"repairs"`      // segments that were made anew from a peer's
	StartedOver int64 `json:"started_over"` // logs that were set aside as a whole and are copied anew
	Failures    int64 `json:"failures"`     // repairs that found no good copy
	Indices     int64 `json:"indices"`      // that were made anew
	Compared    int64 `json:"compared"`     // ranges that this node as leader has compared with a follower's
	Uncompared  int64 `json:"uncompared"`   // of which a follower told no sum, because of compaction or otherwise
}

// scrubbedReplica is what is known of one replica of this node.
type scrubbedReplica struct {
	verifiedTo, coverFrom kafka.Offset
	coverSince            time.Time // what is from coverFrom to verifiedTo was verified since then
	verifiedAt, comparedAt,
	repairedAt time.Time
	damages, mismatches, repairs int64
}

const (
	scrubPieceMax  = 1 << 20
	scrubPieceMin  = 64 << 10
	scrubFirstMax  = 10 * time.Minute // from the start to the first pass
	scrubSumWait   = time.Minute
	scrubPassesMax = 8
	scrubAskedMax  = 64 // questions of leaders that wait; more are not answered
	scrubRetries   = 3
	scrubPauseMax  = time.Minute
	scrubStepPause = time.Millisecond
)

// MetadataTopic is what the scrubber calls the log of the metadata.
const MetadataTopic = "__cluster_metadata"

// metadataKey stands for the metadata log among the partitions.
var metadataKey = partitionKey{}

func (b *Broker) scrubs() bool { return b.opts.ScrubBytesPerSecond > 0 }

// scheduleScrub has passes begin, one each interval.
func (b *Broker) scheduleScrub(now time.Time) {
	if !b.scrubs() || b.opts.ScrubInterval <= 0 {
		return
	}
	b.At(now.Add(min(scrubFirstMax, b.opts.ScrubInterval)), b.scrubAgain)
}

func (b *Broker) scrubAgain(now time.Time) {
	s := &b.scrub
	s.mu.Lock()
	if len(s.passes) == 0 {
		b.beginPass(now, "")
	}
	s.mu.Unlock()
	b.At(now.Add(b.opts.ScrubInterval), b.scrubAgain)
	b.wakeScrub()
}

// scrubPass is one going over the logs of this node.
type scrubPass struct {
	number      uint64
	topic       string // "": all
	since       time.Time
	led, others []partitionKey // to do; those that this node leads come first
	total       int

	key     partitionKey
	on      bool // a log is under way: key
	next    kafka.Offset
	retries int
	waits   bool // for the sums of followers
}

// beginPass puts a pass over a topic, or all, before those that there are. It
// is called with the lock held.
func (b *Broker) beginPass(now time.Time, topic string) *scrubPass {
	s := &b.scrub
	if n := len(s.passes); n >= scrubPassesMax {
		return s.passes[n-1]
	}
	s.passCount++
	p := &scrubPass{number: s.passCount, topic: topic, since: now}
	for _, r := range b.Partitions() {
		if topic != "" && r.Topic() != topic {
			continue
		}
		key := partitionKey{r.TopicID(), r.Number()}
		if r.Role() == replica.Leader {
			p.led = append(p.led, key)
		} else {
			p.others = append(p.others, key)
		}
	}
	if topic == "" || topic == MetadataTopic {
		p.others = append(p.others, metadataKey)
	}
	p.total = len(p.led) + len(p.others)
	if topic == "" {
		for key := range s.replicas {
			if b.Partition(key.topic, key.partition) == nil && key != metadataKey {
				delete(s.replicas, key)
			}
		}
	}
	s.passes = append(s.passes, p)
	return p
}

// replica is what is known of a replica, with the lock held.
func (s *scrubber) replica(key partitionKey) *scrubbedReplica {
	r := s.replicas[key]
	if r == nil {
		if s.replicas == nil {
			s.replicas = make(map[partitionKey]*scrubbedReplica)
		}
		r = &scrubbedReplica{}
		s.replicas[key] = r
	}
	return r
}

// wakeScrub sees to it that what there is to do is done.
func (b *Broker) wakeScrub() {
	s := &b.scrub
	s.mu.Lock()
	idle := !s.busy && s.hasWork() && !b.stopping.Load()
	s.busy = s.busy || idle
	s.mu.Unlock()
	if idle {
		b.env.Background(b.scrubStep)
	}
}

func (s *scrubber) hasWork() bool {
	return len(s.asked) > 0 || len(s.passes) > 0 && !s.passes[len(s.passes)-1].waits
}

// scrubStep verifies a piece of a log, and sees to the next step.
func (b *Broker) scrubStep(now time.Time) {
	s := &b.scrub
	s.mu.Lock()
	var a *askedSum
	var p *scrubPass
	switch n := len(s.passes); {
	case b.stopping.Load():
	case len(s.asked) > 0 && (s.yield || n == 0 || s.passes[n-1].waits):
		a, s.yield = s.asked[0], false
	case n > 0 && !s.passes[n-1].waits:
		p, s.yield = s.passes[n-1], true
	}
	s.mu.Unlock()
	used := int64(0)
	switch {
	case a != nil:
		used = b.sumOn(now, a)
	case p != nil:
		used = b.passOn(now, p)
	}
	s.mu.Lock()
	s.counts.Bytes += used
	s.busy = s.hasWork() && !b.stopping.Load() && (a != nil || p != nil)
	busy := s.busy
	s.mu.Unlock()
	if busy {
		b.At(now.Add(b.scrubPause(used)), func(time.Time) { b.env.Background(b.scrubStep) })
	}
}

// scrubPause is how long so many bytes take at most.
func (b *Broker) scrubPause(used int64) time.Duration {
	pause := time.Duration(float64(used) / float64(max(b.opts.ScrubBytesPerSecond, 1)) * float64(time.Second))
	return min(max(pause, scrubStepPause), scrubPauseMax)
}

// scrubPiece is how much is verified at once: so much that a pause is short.
func (b *Broker) scrubPiece() int64 {
	return min(max(b.opts.ScrubBytesPerSecond/4, scrubPieceMin), scrubPieceMax)
}

// passOn verifies the next piece, and returns how much it has read.
func (b *Broker) passOn(now time.Time, p *scrubPass) (used int64) {
	if !p.on && !b.nextLog(now, p) {
		return 0
	}
	if p.key == metadataKey {
		return b.passMetadata(now, p)
	}
	r := b.Partition(p.key.topic, p.key.partition)
	if r == nil || r.Failure() != nil {
		p.on = false
		return 0
	}
	start, committed, end := r.Durable()
	_, leads := r.Leads()
	from, limit := max(p.next, start), end
	if leads && from < committed {
		limit = committed
	}
	if from >= limit {
		b.logDone(now, p)
		return 0
	}
	size := b.scrubPiece()
	if begins := leads && from == start && start > 0; begins {
		size = 1 // its first batch alone, see comparison
	}
	piece, err := r.Verify(from, limit, size, 0)
	switch {
	case errors.Is(err, wal.ErrOutOfRange) && p.retries < scrubRetries:
		p.retries++ // trimmed or truncated meanwhile
		return piece.Bytes
	case err != nil:
		if !errors.Is(err, wal.ErrClosed) && !errors.Is(err, wal.ErrOutOfRange) {
			b.env.Log.Warn("log could not be verified", "topic", r.Topic(), "partition", r.Number(), "offset", int64(from), "err", err)
		}
		p.on = false
		return piece.Bytes
	case piece.To == from: // a batch that is not wholly below the limit
		b.logDone(now, p)
		return piece.Bytes
	}
	p.next, p.retries = piece.To, 0
	if piece.Damage != nil && mutant.On(mutant.ScrubEndsAtDamage) {
		p.next = end
	}
	b.tookPiece(now, r, p.key, piece)
	if leads && piece.Damage == nil && piece.To <= committed {
		b.compare(now, p, r, piece)
	}
	return piece.Bytes
}

// nextLog takes up the next log of the pass. A follower's was verified if its
// leader has asked for all of its sums since the pass began.
func (b *Broker) nextLog(now time.Time, p *scrubPass) bool {
	s := &b.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p.led)+len(p.others) > 0 {
		list := &p.led
		if len(*list) == 0 {
			list = &p.others
		}
		key := (*list)[0]
		*list = (*list)[1:]
		if list == &p.others && key != metadataKey && (b.covered(key, p.since) || mutant.On(mutant.FollowersUnscrubbed)) {
			continue
		}
		p.key, p.on, p.next, p.retries = key, true, 0, 0
		return true
	}
	s.passes = slices.DeleteFunc(s.passes, func(o *scrubPass) bool { return o == p })
	s.counts.Passes++
	s.last = ScrubPass{Number: p.number, Topic: p.topic, Since: p.since, Until: now, Logs: p.total, Done: p.total}
	b.env.Log.Debug("logs scrubbed", "topic", p.topic, "count", p.total, "took", now.Sub(p.since))
	return false
}

// covered says whether leaders have had all of a follower's log verified.
func (b *Broker) covered(key partitionKey, since time.Time) bool {
	r, known := b.scrub.replicas[key]
	p := b.Partition(key.topic, key.partition)
	if !known || p == nil || r.coverSince.Before(since) {
		return false
	}
	start, committed, _ := p.Durable()
	return r.coverFrom <= start && r.verifiedTo >= committed
}

func (b *Broker) logDone(now time.Time, p *scrubPass) {
	s := &b.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	p.on = false
	s.replica(p.key).verifiedAt = now
}

// tookPiece notes what a verification of a partition's log has found.
func (b *Broker) tookPiece(now time.Time, r *partition.Partition, key partitionKey, piece wal.Piece) {
	s := &b.scrub
	start := r.LogStart()
	s.mu.Lock()
	known := s.replica(key)
	if piece.From <= start || known.coverSince.IsZero() {
		known.coverFrom, known.verifiedTo, known.coverSince = piece.From, piece.From, now
	}
	if piece.From <= known.verifiedTo {
		known.verifiedTo = max(known.verifiedTo, piece.To)
	}
	if piece.IndexRebuilt {
		s.counts.Indices++
	}
	s.mu.Unlock()
	if piece.IndexRebuilt {
		b.env.Log.Warn("damaged index was made anew", "topic", r.Topic(), "partition", r.Number(), "segment", int64(piece.SegmentBase))
	}
	if piece.Damage != nil && !mutant.On(mutant.DamageUntold) {
		b.noteDamage(r, piece.Damage)
	}
}

// passMetadata verifies a piece of the metadata log, and its state files.
func (b *Broker) passMetadata(now time.Time, p *scrubPass) int64 {
	start, end := b.raftLog.Durable()
	from := max(p.next, start)
	var damage error
	used := int64(0)
	if from < end {
		piece, err := b.raftLog.Verify(from, end, b.scrubPiece())
		used = piece.Bytes
		if piece.Damage != nil {
			damage = piece.Damage
		}
		p.next = piece.To
		if err == nil && piece.To > from && piece.To < end {
			b.noteMetadata(damage)
			return used
		}
	}
	if err := b.raftLog.VerifyState(); err != nil && damage == nil {
		damage = err
	}
	b.noteMetadata(damage)
	b.logDone(now, p)
	s := &b.scrub
	s.mu.Lock()
	s.replica(metadataKey).verifiedTo = end
	if damage == nil {
		s.metadata = ""
	}
	s.mu.Unlock()
	return used
}

// noteMetadata mends damaged files of the metadata quorum with what is in
// memory: nobody else can have this node's vote.
func (b *Broker) noteMetadata(damage error) {
	if damage == nil {
		return
	}
	s := &b.scrub
	s.mu.Lock()
	s.counts.Damages++
	s.replica(metadataKey).damages++
	s.metadata = damage.Error()
	s.mu.Unlock()
	b.env.Log.Error("metadata files are damaged; they are written anew from memory", "err", damage)
	b.env.Post(func(now time.Time) {
		if b.closed {
			return
		}
		if err := b.quorum.Mend(now, b.image.Load().Offset(), b.image.Load().EncodeSnapshot(nil)); err != nil {
			b.fail(err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		r := s.replica(metadataKey)
		r.repairs++
		r.repairedAt = now
		s.counts.Repairs++
	})
}

// askedSum is a leader's question for a sum.
type askedSum struct {
	from     kafka.NodeID
	question peer.Scrub
	at       kafka.Offset
	sum      uint32
	begun    bool
}

// sumOn verifies the next piece of what a leader asks for, and answers when
// that was all.
func (b *Broker) sumOn(now time.Time, a *askedSum) (used int64) {
	q := &a.question
	key := partitionKey{q.Topic, q.Partition}
	status := peer.ScrubOK
	r := b.Partition(q.Topic, q.Partition)
	if !a.begun {
		a.begun, a.at = true, q.From
	}
	if r == nil || r.Failure() != nil {
		b.answerSum(a, peer.ScrubNotHere)
		return 0
	}
	start, _, end := r.Durable()
	if q.From < start || q.To > end {
		b.answerSum(a, peer.ScrubNotHere)
		return 0
	}
	piece, err := r.Verify(a.at, q.To, b.scrubPiece(), a.sum)
	switch {
	case err != nil:
		status = peer.ScrubNotHere
	case piece.To == a.at || piece.Damage == nil && piece.First != a.at:
		status = peer.ScrubOther
	case piece.Damage != nil:
		status = peer.ScrubDamaged
	case piece.Compacted:
		status = peer.ScrubCompacted
	}
	if err == nil && piece.To > a.at {
		b.tookPiece(now, r, key, piece)
	}
	a.at, a.sum = piece.To, piece.Sum
	if status != peer.ScrubOK || a.at >= q.To {
		if _, committed, _ := r.Durable(); err == nil && a.at >= committed {
			b.scrub.mu.Lock()
			b.scrub.replica(key).verifiedAt = now
			b.scrub.mu.Unlock()
		}
		b.answerSum(a, status)
	}
	return piece.Bytes
}

func (b *Broker) answerSum(a *askedSum, status peer.ScrubStatus) {
	s := &b.scrub
	s.mu.Lock()
	s.asked = slices.DeleteFunc(s.asked, func(o *askedSum) bool { return o == a })
	s.mu.Unlock()
	answer := peer.Scrub{Kind: peer.Sum, ID: a.question.ID, Topic: a.question.Topic, Partition: a.question.Partition,
		From: a.question.From, To: a.question.To, Sum: a.sum, Status: status}
	b.sendScrub(a.from, &answer)
}

package group

import (
	"maps"
	"time"

	"chronik/internal/base/kafka"
)

// producerSeen is what is known of a transactional producer, so that the
// coordinator refuses what the log would.
type producerSeen struct {
	epoch            kafka.ProducerEpoch
	coordinatorEpoch int32 // of the last marker
	open             bool  // has a transaction
	at               int64 // milliseconds since 1970 when it was last heard of
}

// producerKept is how long a producer without a transaction is remembered.
const producerKept = 24 * time.Hour

// checkProducer says whether a producer may write offsets.
func (s *Shard) checkProducer(id kafka.ProducerID, epoch kafka.ProducerEpoch) kafka.ErrorCode {
	if id < 0 {
		return kafka.ErrInvalidProducerIDMapping
	}
	if seen, ok := s.producers[id]; epoch < 0 || ok && epoch < seen.epoch {
		return kafka.ErrInvalidProducerEpoch
	}
	return kafka.None
}

// txnOffsetCommit decides over offsets that a transaction commits.
func (s *Shard) txnOffsetCommit(r *TxnOffsetCommit) Response {
	if r.Group == "" {
		return r.Refuse(kafka.ErrInvalidGroupID)
	}
	if code := s.checkProducer(r.ProducerID, r.ProducerEpoch); code != kafka.None {
		return r.Refuse(code)
	}
	g := s.groups[r.Group]
	code := kafka.None
	switch {
	case g == nil && r.Generation >= 0:
		code = kafka.ErrIllegalGeneration
	case g == nil:
	case g.consumer != nil:
		code = g.consumer.mayCommit(r.Version, r.MemberID, r.InstanceID, r.Generation, true)
	default:
		code = g.classic.mayCommit(r.MemberID, r.InstanceID, r.Generation, true)
	}
	if code != kafka.None {
		return r.Refuse(code)
	}
	p := &Producer{ID: r.ProducerID, Epoch: r.ProducerEpoch}
	return &TxnOffsetCommitResponse{Codes: s.store(r.Group, r.Offsets, -1, p, kafka.ErrUnknownTopicOrPartition)}
}

// txnMarker ends the producer's transaction. The marker goes to the log even
// when this shard knows of no offsets in it.
func (s *Shard) txnMarker(r *TxnMarker, t Ticket) {
	code := s.checkProducer(r.ProducerID, r.ProducerEpoch)
	if seen, ok := s.producers[r.ProducerID]; ok {
		switch {
		case r.CoordinatorEpoch < seen.coordinatorEpoch:
			code = kafka.ErrTransactionCoordinatorFenced
		case r.TV2 && seen.open && r.ProducerEpoch == seen.epoch:
			code = kafka.ErrInvalidProducerEpoch
		}
	}
	if code != kafka.None {
		s.reply(t, r.Refuse(code))
		return
	}
	m := AbortMarker
	if r.Commit {
		m = CommitMarker
	}
	p := &Producer{ID: r.ProducerID, Epoch: r.ProducerEpoch, CoordinatorEpoch: r.CoordinatorEpoch, TV2: r.TV2}
	s.out.Records = append(s.out.Records, Record{Producer: p, Marker: m})
	s.reply(t, &TxnMarkerResponse{})
}

// putPending notes an offset for the end of its transaction.
func (s *Shard) putPending(g *group, p *Producer, tp kafka.TopicPartition, o committed) {
	seen := s.producers[p.ID]
	s.producers[p.ID] = producerSeen{epoch: p.Epoch, coordinatorEpoch: seen.coordinatorEpoch, open: true, at: s.now.UnixMilli()}
	if g.pending == nil {
		g.pending = map[kafka.ProducerID]map[kafka.TopicPartition]committed{}
	}
	if g.pending[p.ID] == nil {
		g.pending[p.ID] = map[kafka.TopicPartition]committed{}
	}
	g.pending[p.ID][tp] = o
	if s.open[p.ID] == nil {
		s.open[p.ID] = map[string]struct{}{}
	}
	s.open[p.ID][g.id] = struct{}{}
}

// applyMarker makes the offsets of a transaction visible, or drops them. A
// commit outside of the transaction that came later stays.
func (s *Shard) applyMarker(p *Producer, commit bool) {
	producer := p.ID
	s.producers[producer] = producerSeen{epoch: p.Epoch, coordinatorEpoch: p.CoordinatorEpoch, at: s.now.UnixMilli()}
	for id := range s.open[producer] {
		g := s.groups[id]
		if commit {
			for tp, o := range g.pending[producer] {
				if old, ok := g.offsets[tp.Topic][tp.Partition]; !ok || old.seq < o.seq {
					g.put(tp, o)
				}
			}
		}
		s.closePending(g, producer)
	}
}

func (s *Shard) closePending(g *group, producer kafka.ProducerID) {
	delete(g.pending, producer)
	delete(s.open[producer], g.id)
	if len(s.open[producer]) == 0 {
		delete(s.open, producer)
	}
}

// forgetProducers drops what is known of producers that were not heard of for long.
func (s *Shard) forgetProducers() {
	before := s.now.Add(-producerKept).UnixMilli()
	maps.DeleteFunc(s.producers, func(_ kafka.ProducerID, p producerSeen) bool { return !p.open && p.at < before })
}

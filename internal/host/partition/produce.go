package partition

import (
	"math"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
)

// Produce appends one batch. done is called exactly once: at once if the batch
// is refused, and else when its acks are reached or the timeout is over. The
// bytes are not used after the call, though the batch is stamped in them.
func (p *Partition) Produce(now time.Time, req ProduceRequest, done func(ProduceResult)) {
	if req.Acks < -1 || req.Acks > 1 {
		done(refusedProduce(kafka.ErrInvalidRequiredAcks, ""))
		return
	}
	batch, info, refusal := p.check(now, &req)
	if refusal != nil {
		res := refusedProduce(refusal.Code, refusal.Message)
		if !refusal.Unread && tellsLogStart(refusal.Code) {
			res.LogStart = p.log.Start()
		}
		for _, e := range refusal.RecordErrors {
			res.RecordErrors = append(res.RecordErrors, RecordError(e))
		}
		done(res)
		return
	}
	proposal := replica.Proposal{Batch: batch, Acks: req.Acks, Guard: req.TxnVerification, Internal: req.Internal, AfterRefusal: req.AfterRefusal}
	if req.Timeout > 0 {
		proposal.Deadline = now.Add(req.Timeout)
	}
	fx := p.enter()
	code := p.refusal()
	if code == kafka.None && req.Internal && req.LeaderEpoch != p.core.Assignment().LeaderEpoch {
		code = kafka.ErrNotLeaderOrFollower
	}
	if code != kafka.None {
		fx.replies = append(fx.replies, reply{slot: slot{produce: done}, code: code, timestamp: record.NoTimestamp, logStart: kafka.NoOffset})
	} else {
		proposal.Ticket = p.ticket(slot{produce: done, logAppendTime: info.LogAppendTime})
		p.core.Propose(now, proposal)
	}
	p.leave(now, fx)
}

// check holds the records to the topic's rules. What a coordinator of this
// broker has built is trusted.
func (p *Partition) check(now time.Time, req *ProduceRequest) (record.Batch, record.Info, *record.Refusal) {
	s := p.settings.Load()
	if req.Internal {
		b, rest, err := record.Next(req.Records)
		if err != nil || len(rest) > 0 {
			return nil, record.Info{}, &record.Refusal{Code: kafka.ErrCorruptMessage, Message: "not one whole batch"}
		}
		return b, record.Info{LogAppendTime: record.NoTimestamp}, nil
	}
	rules := s.rules
	rules.NowMs = now.UnixMilli()
	rules.ProduceVersion = req.Version
	if req.Version == 0 {
		rules.ProduceVersion = math.MaxInt16
	}
	return record.Check(req.Records, rules)
}

func refusedProduce(code kafka.ErrorCode, message string) ProduceResult {
	return ProduceResult{Code: code, Message: message, BaseOffset: kafka.NoOffset, LogAppendTime: record.NoTimestamp, LogStart: kafka.NoOffset}
}

// tellsLogStart says whether Kafka tells where the log begins along with the error.
func tellsLogStart(code kafka.ErrorCode) bool {
	switch code {
	case kafka.ErrNotLeaderOrFollower, kafka.ErrUnknownTopicOrPartition, kafka.ErrKafkaStorageError,
		kafka.ErrCorruptMessage, kafka.ErrMessageTooLarge, kafka.ErrRecordListTooLarge:
		return false
	}
	return true
}

// refusal is why nothing can be asked of the partition at all, or None.
func (p *Partition) refusal() kafka.ErrorCode {
	switch {
	case p.closed:
		return kafka.ErrNotLeaderOrFollower
	case p.failure != nil:
		return kafka.ErrKafkaStorageError
	}
	return kafka.None
}

// BeginVerification is called before a transactional batch is produced. If
// needed is true, the coordinator must confirm that the partition is in the
// transaction (KIP-890), and guard belongs into the request.
func (p *Partition) BeginVerification(id kafka.ProducerID, epoch kafka.ProducerEpoch, tv2 bool) (guard uint64, needed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	guard = p.core.BeginVerification(id, epoch, tv2)
	return guard, guard != 0
}

// WriteTxnMarker ends a transaction on this partition; done is called when the
// marker is committed, or cannot be.
func (p *Partition) WriteTxnMarker(now time.Time, m replica.Marker, timeout time.Duration, done func(kafka.ErrorCode)) {
	fx := p.enter()
	if code := p.refusal(); code != kafka.None {
		fx.replies = append(fx.replies, reply{slot: slot{marker: done}, code: code})
	} else {
		var deadline time.Time
		if timeout > 0 {
			deadline = now.Add(timeout)
		}
		p.core.WriteMarker(now, p.ticket(slot{marker: done}), m, deadline)
	}
	p.leave(now, fx)
}

// DeleteRecords makes the log begin at offset, or at the high watermark for
// -1; done is called when all live replicas have followed.
func (p *Partition) DeleteRecords(now time.Time, offset kafka.Offset, timeout time.Duration, done func(DeleteRecordsResult)) {
	if !p.settings.Load().config.Delete {
		done(DeleteRecordsResult{kafka.ErrPolicyViolation, kafka.NoOffset})
		return
	}
	fx := p.enter()
	if code := p.refusal(); code != kafka.None {
		fx.replies = append(fx.replies, reply{slot: slot{deleteRecords: done}, code: code, offset: kafka.NoOffset})
	} else {
		p.core.DeleteRecords(now, p.ticket(slot{deleteRecords: done}), offset, now.Add(timeout))
	}
	p.leave(now, fx)
}

package partition

import (
	"errors"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/storage/wal"
)

// checkEpoch is FENCED_LEADER_EPOCH or UNKNOWN_LEADER_EPOCH (KIP-320) if the
// client's leader epoch is not this node's. Strict is for requests in which
// only -1 means that it is not known.
func (v *view) checkEpoch(current kafka.LeaderEpoch, strict bool) kafka.ErrorCode {
	switch {
	case current == kafka.NoLeaderEpoch || current < 0 && !strict:
		return kafka.None
	case current < v.leaderEpoch:
		return kafka.ErrFencedLeaderEpoch
	case current > v.leaderEpoch && !mutant.On(mutant.ClientEpochTaken):
		return kafka.ErrUnknownLeaderEpoch
	}
	return kafka.None
}

// serves is None if this node may answer; followers only where that is allowed.
func (v *view) serves(follower bool) kafka.ErrorCode {
	switch {
	case v.failed:
		return kafka.ErrKafkaStorageError
	case v.closed || v.fenced || v.role == replica.Offline || v.role == replica.Follower && !follower:
		return kafka.ErrNotLeaderOrFollower
	}
	return kafka.None
}

// Read reads whole batches from an offset on, up to what the reader may see.
func (p *Partition) Read(now time.Time, req ReadRequest) ReadResult {
	v := p.view.Load()
	code := v.checkEpoch(req.CurrentLeaderEpoch, false)
	if code == kafka.None {
		code = v.serves(req.FromFollower)
	}
	if code == kafka.None && req.ReplicaID >= 0 && !slices.Contains(v.replicas, req.ReplicaID) {
		code = kafka.ErrNotLeaderOrFollower
		if req.CurrentLeaderEpoch >= 0 {
			code = kafka.ErrUnknownLeaderEpoch
		}
	}
	if code != kafka.None {
		return refusedRead(code)
	}
	// In this order, and the log's end after both: each is at most what follows.
	res := ReadResult{LastStableOffset: kafka.Offset(p.lso.Load()), HighWatermark: kafka.Offset(p.hw.Load())}
	res.LastStableOffset = min(res.LastStableOffset, res.HighWatermark)
	bounds := p.log.Bounds()
	res.LogStart = bounds.Start
	// An empty log knows of no epochs: there is nothing to differ from.
	if req.LastFetchedEpoch >= 0 && (req.Offset != bounds.Start || bounds.Start != bounds.End) {
		p.mu.Lock()
		epoch, end := p.core.EpochEnd(req.LastFetchedEpoch)
		p.mu.Unlock()
		if epoch == kafka.NoLeaderEpoch {
			return refusedRead(kafka.ErrOffsetOutOfRange)
		}
		if (epoch < req.LastFetchedEpoch || end < req.Offset) && !mutant.On(mutant.DivergenceUntold) {
			res.Diverging = &replica.EpochStart{Epoch: epoch, Start: end}
			return res
		}
	}
	if req.Offset < bounds.Start || req.Offset > bounds.End {
		return refusedRead(kafka.ErrOffsetOutOfRange)
	}
	limit := res.HighWatermark
	switch {
	case mutant.On(mutant.FollowerUncommitted) && v.role == replica.Follower:
		limit = bounds.End
	case req.ReplicaID >= 0, mutant.On(mutant.ReadUncommitted):
		limit = bounds.End
	case req.Isolation == ReadCommitted:
		limit = res.LastStableOffset
	}
	if req.Offset >= limit || req.MaxBytes <= 0 && !req.MinOneMessage {
		res.Records = req.Buf
		return res
	}
	records, err := p.log.Read(req.Offset, limit, req.MaxBytes, req.Buf)
	if err != nil {
		return refusedRead(p.readError(now, err))
	}
	if !req.MinOneMessage && len(records)-len(req.Buf) > req.MaxBytes {
		records = records[:len(req.Buf)]
	}
	res.Records = records
	if req.Isolation == ReadCommitted && p.aborts.Load() {
		var ok bool
		if res.Aborted, ok = p.aborted(req.Offset, records[len(req.Buf):]); !ok {
			return refusedRead(kafka.ErrOffsetOutOfRange)
		}
	}
	return res
}

// ReadAhead has the disk read what a consumer that has read up to an offset is
// going to ask for next, if it is far behind.
func (p *Partition) ReadAhead(offset kafka.Offset, maxBytes int) {
	if p.view.Load().serves(true) == kafka.None {
		p.log.ReadAhead(offset, kafka.Offset(p.hw.Load()), maxBytes)
	}
}

// aborted lists the aborted transactions of what was read. They are not known
// any more if that was deleted meanwhile.
func (p *Partition) aborted(from kafka.Offset, records []byte) (list []replica.AbortedTxn, ok bool) {
	to := from
	for rest := records; len(rest) > 0; {
		b, next, err := record.Next(rest)
		if err != nil {
			break
		}
		to, rest = b.NextOffset(), next
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.Aborted(from, to), from >= p.core.Start()
}

// readError is the answer to a read that failed. A disk that cannot be read
// takes the partition offline: another node's can.
func (p *Partition) readError(now time.Time, err error) kafka.ErrorCode {
	switch {
	case errors.Is(err, wal.ErrOutOfRange):
		return kafka.ErrOffsetOutOfRange
	case errors.Is(err, wal.ErrClosed):
		return kafka.ErrNotLeaderOrFollower
	}
	p.reads.write(now, p.slog, "read failed", err, "topic", p.opts.Topic, "partition", p.opts.Partition)
	if vfs.Broken(err) {
		p.failLater(now, err)
	}
	p.noteDamage(err)
	return kafka.ErrKafkaStorageError
}

func refusedRead(code kafka.ErrorCode) ReadResult {
	return ReadResult{Code: code, HighWatermark: kafka.NoOffset, LastStableOffset: kafka.NoOffset, LogStart: kafka.NoOffset}
}

// ListOffsets finds the offset of a time.
func (p *Partition) ListOffsets(now time.Time, req ListOffsetsRequest) ListOffsetsResult {
	none := ListOffsetsResult{Offset: kafka.NoOffset, Timestamp: record.NoTimestamp, LeaderEpoch: kafka.NoLeaderEpoch}
	v := p.view.Load()
	code := v.checkEpoch(req.CurrentLeaderEpoch, true)
	if code == kafka.None {
		code = v.serves(false)
	}
	if code != kafka.None {
		none.Code = code
		return none
	}
	hw := kafka.Offset(p.hw.Load())
	limit := hw
	switch {
	case req.ReplicaID >= 0:
		limit = p.log.End()
	case req.Isolation == ReadCommitted:
		limit = min(limit, kafka.Offset(p.lso.Load()))
	}
	// Until the high watermark has come to where the leader's epoch began, it
	// may be lower than clients have seen before.
	behind := req.ReplicaID < 0 && hw < v.epochStart && !mutant.On(mutant.EndWhileBehind)
	switch req.Timestamp {
	case kafka.TimestampEarliest, kafka.TimestampEarliestLocal:
		start := p.log.Start()
		return ListOffsetsResult{Offset: start, Timestamp: record.NoTimestamp, LeaderEpoch: p.epochOf(start)}
	case kafka.TimestampLatestTiered:
		return none
	case kafka.TimestampLatest:
		if behind {
			none.Code = kafka.ErrOffsetNotAvailable
			return none
		}
		if mutant.On(mutant.EndUncommitted) {
			limit = p.log.End()
		}
		return ListOffsetsResult{Offset: limit, Timestamp: record.NoTimestamp, LeaderEpoch: v.leaderEpoch}
	}
	offset, timestamp, ok, err := p.lookUp(req.Timestamp)
	switch {
	case err != nil:
		none.Code = p.readError(now, err)
	case ok && offset < limit:
		epoch := p.epochOf(offset)
		if mutant.On(mutant.EpochOfNow) {
			epoch = v.leaderEpoch
		}
		return ListOffsetsResult{Offset: offset, Timestamp: timestamp, LeaderEpoch: epoch}
	case behind:
		none.Code = kafka.ErrOffsetNotAvailable
	}
	return none
}

// EpochEnd answers OffsetForLeaderEpoch.
func (p *Partition) EpochEnd(current, epoch kafka.LeaderEpoch) EpochEndResult {
	v := p.view.Load()
	code := v.checkEpoch(current, true)
	if code == kafka.None {
		code = v.serves(false)
	}
	if code != kafka.None {
		return EpochEndResult{code, kafka.NoLeaderEpoch, kafka.NoOffset}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e, end := p.core.EpochEnd(epoch)
	return EpochEndResult{kafka.None, e, end}
}

func (p *Partition) epochOf(o kafka.Offset) kafka.LeaderEpoch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.core.EpochOf(o)
}

package wal

import (
	"math"
	"slices"
	"sort"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// EpochStart says at which offset a leader epoch begins.
type EpochStart struct {
	Epoch kafka.LeaderEpoch
	Start kafka.Offset
}

// AssignEpoch notes that the epoch begins at start, the end of the log, though
// there is no batch of it yet (KIP-101). An epoch that is not above the last
// one is ignored. Until it has batches the note is in memory only.
func (l *Log) AssignEpoch(epoch kafka.LeaderEpoch, start kafka.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.epochs); epoch < 0 || n > 0 && l.epochs[n-1].Epoch >= epoch {
		return
	}
	l.cutEpochs(start)
	l.epochs = append(l.epochs, EpochStart{epoch, start})
}

// EpochEnd returns the largest known epoch that is not above the given one,
// and the offset that follows its last: the start of the next epoch, or the
// end of the log (KIP-101). For an epoch below all that are known it is the
// epoch itself and the start of the first known one, as in Kafka. Without any
// known epoch it is kafka.NoLeaderEpoch and kafka.NoOffset.
func (l *Log) EpochEnd(epoch kafka.LeaderEpoch) (kafka.LeaderEpoch, kafka.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.epochs) == 0 {
		return kafka.NoLeaderEpoch, kafka.NoOffset
	}
	i := sort.Search(len(l.epochs), func(i int) bool { return l.epochs[i].Epoch > epoch })
	if i == 0 {
		return epoch, l.epochs[0].Start
	}
	end := l.End()
	if i < len(l.epochs) {
		end = l.epochs[i].Start
	}
	return l.epochs[i-1].Epoch, end
}

// epochAround returns the epoch at the offset and where it ends. It is called
// with mu held.
func (l *Log) epochAround(offset kafka.Offset) (kafka.LeaderEpoch, kafka.Offset) {
	end := kafka.Offset(math.MaxInt64)
	for _, e := range slices.Backward(l.epochs) {
		if e.Start <= offset {
			return e.Epoch, end
		}
		end = e.Start
	}
	return kafka.NoLeaderEpoch, end
}

// EpochAt returns the epoch of the record at the offset, or of the last one
// before it; kafka.NoLeaderEpoch if none is known.
func (l *Log) EpochAt(offset kafka.Offset) kafka.LeaderEpoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := sort.Search(len(l.epochs), func(i int) bool { return l.epochs[i].Start > offset })
	if i == 0 {
		return kafka.NoLeaderEpoch
	}
	return l.epochs[i-1].Epoch
}

// LastEpoch is the largest known epoch, or kafka.NoLeaderEpoch.
func (l *Log) LastEpoch() kafka.LeaderEpoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.epochs); n > 0 {
		return l.epochs[n-1].Epoch
	}
	return kafka.NoLeaderEpoch
}

// Epochs returns all known epochs, in order.
func (l *Log) Epochs() []EpochStart {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.epochs)
}

// epochOfLastBatch is the largest epoch that has a batch.
func (l *Log) epochOfLastBatch() kafka.LeaderEpoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.End()
	for i := len(l.epochs) - 1; i >= 0; i-- {
		if l.epochs[i].Start < end {
			return l.epochs[i].Epoch
		}
	}
	return kafka.NoLeaderEpoch
}

// addEpoch notes the epoch of a batch that is appended behind the end of the log.
// Epochs that were assigned and never used give way: those that begin at the end,
// or in the gap that compaction has left behind it.
func (l *Log) addEpoch(b record.Batch, end kafka.Offset) {
	e := b.LeaderEpoch()
	n := len(l.epochs)
	if e < 0 || n > 0 && l.epochs[n-1].Epoch == e {
		return
	}
	l.cutEpochs(end)
	if n = len(l.epochs); n > 0 && l.epochs[n-1].Epoch >= e {
		return
	}
	l.epochs = append(l.epochs, EpochStart{e, b.BaseOffset()})
}

// cutEpochs forgets the epochs that begin at or after the offset.
func (l *Log) cutEpochs(offset kafka.Offset) {
	n := len(l.epochs)
	for n > 0 && l.epochs[n-1].Start >= offset {
		n--
	}
	l.epochs = l.epochs[:n]
}

// trimEpochs forgets the epochs that end at or before the log start offset.
func (l *Log) trimEpochs(start kafka.Offset) {
	i := sort.Search(len(l.epochs), func(i int) bool { return l.epochs[i].Start > start })
	if i > 0 {
		l.epochs = slices.Delete(l.epochs, 0, i-1)
		l.epochs[0].Start = start
	}
}

package replica

import (
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// epochs says where each leader epoch begins in a log (KIP-101). Epochs and
// start offsets both rise strictly.
type epochs []EpochStart

// assign notes that epoch begins at start. Entries that it contradicts, such
// as an epoch in which nothing was appended, are dropped. It says whether
// anything changed.
func (e *epochs) assign(epoch kafka.LeaderEpoch, start kafka.Offset) bool {
	return e.appended(epoch, start, start)
}

// appended is assign for a batch behind the end of the log. Between the two is a
// gap where the leader's log is compacted: an epoch that would begin in it was
// this replica's own, and nothing was appended in it.
func (e *epochs) appended(epoch kafka.LeaderEpoch, start, end kafka.Offset) bool {
	s := *e
	for len(s) > 0 && s[len(s)-1].Start >= end && s[len(s)-1].Epoch != epoch {
		s = s[:len(s)-1]
	}
	*e = s
	if n := len(s); n > 0 && s[n-1].Epoch >= epoch {
		return false
	}
	*e = append(s, EpochStart{epoch, start})
	return true
}

// cut drops the epochs that begin at end or after it.
func (e *epochs) cut(end kafka.Offset) {
	s := *e
	for len(s) > 0 && s[len(s)-1].Start >= end {
		s = s[:len(s)-1]
	}
	*e = s
}

// trim drops the epochs that end at start or before it. The first one keeps
// its own start, so that the epoch of the record before start stays known.
func (e *epochs) trim(start kafka.Offset) {
	s := *e
	n := 0
	for n+1 < len(s) && s[n+1].Start < start {
		n++
	}
	*e = slices.Delete(s, 0, n)
}

// before is the epoch of the record before the offset, or NoLeaderEpoch.
func (e epochs) before(o kafka.Offset) kafka.LeaderEpoch {
	for i := len(e) - 1; i >= 0; i-- {
		if e[i].Start < o {
			return e[i].Epoch
		}
	}
	return kafka.NoLeaderEpoch
}

// floor is the largest epoch that is not above epoch, and the offset at which
// it ends in a log that ends at end. Where there is none, it is NoLeaderEpoch
// and the offset at which the first epoch begins.
func (e epochs) floor(epoch kafka.LeaderEpoch, end kafka.Offset) (kafka.LeaderEpoch, kafka.Offset) {
	for i := len(e) - 1; i >= 0; i-- {
		if e[i].Epoch < epoch || e[i].Epoch == epoch && !mutant.On(mutant.EpochBelow) {
			return e[i].Epoch, end
		}
		end = min(end, e[i].Start)
	}
	return kafka.NoLeaderEpoch, end
}

// endFor answers OffsetForLeaderEpoch as Kafka does: an epoch above all that
// are known, and an unknown one, have no end.
func (e epochs) endFor(epoch kafka.LeaderEpoch, end kafka.Offset) (kafka.LeaderEpoch, kafka.Offset) {
	if epoch < 0 || len(e) == 0 || epoch > e[len(e)-1].Epoch {
		return kafka.NoLeaderEpoch, kafka.NoOffset
	}
	floor, end := e.floor(epoch, end)
	if floor == kafka.NoLeaderEpoch {
		floor = epoch
	}
	return floor, end
}

package cleaner

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/storage/wal"
)

// Dirt says how much of a log is to be compacted.
type Dirt struct {
	From, To   kafka.Offset // what was not compacted yet and may be; nothing if To <= From
	CleanBytes int64        // of segments that were compacted
	DirtyBytes int64        // of those that were not and may be
	SinceMs    int64        // when the oldest of those was begun, by the node's clock; 0: none
}

// Ratio is the share of dirty bytes, from 0 to 1 (min.cleanable.dirty.ratio).
func (d Dirt) Ratio() float64 {
	if d.DirtyBytes == 0 {
		return 0
	}
	return float64(d.DirtyBytes) / float64(d.DirtyBytes+d.CleanBytes)
}

// Look says what may be compacted of a log: sealed segments that are wholly
// below limit, the last stable offset, on disk, and with no record younger than
// minLag (min.compaction.lag.ms).
func Look(log *wal.Log, now time.Time, limit kafka.Offset, minLag time.Duration) (Dirt, error) {
	segments, err := log.Segments()
	if err != nil {
		return Dirt{}, err
	}
	limit = min(limit, log.Synced())
	d := Dirt{From: log.Cleaned()}
	d.To = d.From
	for _, s := range segments {
		newest := s.MaxTimestamp
		if newest < 0 {
			newest = s.LastAppend
		}
		if s.Active || s.End > limit || mutant.On(mutant.CompactNever) || minLag > 0 && !mutant.On(mutant.LagIgnored) && newest > now.Add(-minLag).UnixMilli() {
			break
		}
		if s.End <= d.From {
			d.CleanBytes += s.Bytes
			continue
		}
		if d.SinceMs == 0 {
			d.SinceMs = max(s.Created, 1)
		}
		d.DirtyBytes += s.Bytes
		d.To = s.End
	}
	return d, nil
}

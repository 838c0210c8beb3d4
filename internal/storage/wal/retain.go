package wal

import (
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/record"
)

// SegmentInfo describes one segment.
type SegmentInfo struct {
	Base         kafka.Offset
	End          kafka.Offset // the next segment's base, or the end of the log
	Bytes        int64        // with the header
	MaxTimestamp int64        // ms, -1 for none, or where some cannot be read
	Created      int64        // ms, 0 if it is not known
	LastAppend   int64        // ms; of a sealed segment, when the next was made
	Active       bool
}

// Segments describes all segments, the active one last.
func (l *Log) Segments() ([]SegmentInfo, error) {
	var out []SegmentInfo
	for {
		out = out[:0]
		before := l.cutsNow()
		cuts, err := l.eachStats(func(s *segment) {
			if n := len(out); n > 0 {
				out[n-1].End, out[n-1].Active = s.base, false
			}
			out = append(out, SegmentInfo{
				Base: s.base, End: l.End(), Bytes: s.size, MaxTimestamp: s.maxTs.ms,
				Created: s.created, LastAppend: s.lastAppend, Active: true,
			})
			if s.maxTs == unknownTimestamp {
				out[len(out)-1].MaxTimestamp = record.NoTimestamp
			}
		})
		if err != nil {
			return nil, err
		}
		if before == cuts {
			for i := len(out) - 2; i >= 0; i-- {
				if out[i].LastAppend = out[i+1].Created; out[i].LastAppend == 0 { // its header is damaged, or was
					out[i].LastAppend = out[i+1].LastAppend
				}
			}
			return out, nil
		}
	}
}

// Size is the bytes of all segments.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := int64(0)
	for _, s := range l.segments {
		total += s.size
	}
	return total
}

// Retention is what a log is to keep. Negative means no limit.
type Retention struct {
	Ms    int64 // retention.ms
	Bytes int64 // retention.bytes
}

// RetainFrom returns the offset to Trim to so that segments go whose newest
// record is older than Ms, and, oldest first, as many as the log has more than
// Bytes. Segments go whole, and none that reaches above upTo, the high
// watermark. The active segment goes, too, when all in it is too old: the
// result then is the end of the log, and Trim begins a new segment. The result
// is the log start offset if nothing is to go.
func (l *Log) RetainFrom(now time.Time, keep Retention, upTo kafka.Offset) (kafka.Offset, error) {
	segments, err := l.Segments()
	if err != nil {
		return l.Start(), err
	}
	start, size := l.Start(), int64(0)
	for _, s := range segments {
		size += s.Bytes
	}
	for _, s := range segments {
		if s.End > upTo || s.Bytes == headerSize && s.Active {
			break
		}
		newest := s.MaxTimestamp
		if newest < 0 {
			newest = s.LastAppend
		}
		old := keep.Ms >= 0 && !mutant.On(mutant.RetainForever) && now.UnixMilli()-newest > keep.Ms
		large := keep.Bytes >= 0 && (size-s.Bytes >= keep.Bytes || mutant.On(mutant.RetainTooLittle) && size >= keep.Bytes) && !s.Active
		if !old && !large {
			break
		}
		start = max(start, s.End)
		size -= s.Bytes
	}
	return start, nil
}

package wire

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Cut is records of a fetch response that are not among its encoded bytes:
// they belong before the byte At.
type Cut struct {
	At      int
	Records []byte
}

// AppendFetchResponse is AppendResponse for fetch responses, but leaves out
// records of cutBytesMin bytes and more, so that they can be sent from where
// they are: they are appended to cuts, in order, with places in the result.
func AppendFetchResponse(dst []byte, cuts []Cut, correlationID int32, resp *kmsg.FetchResponse, cutBytesMin int) ([]byte, []Cut) {
	if !plainFetch(resp) {
		return AppendResponse(dst, correlationID, resp), cuts
	}
	e := fetchEncoder{dst: dst, cuts: cuts, version: resp.Version, flexible: resp.IsFlexible(), cutBytesMin: cutBytesMin}
	start := len(dst)
	e.int32(0)
	e.int32(correlationID)
	e.noTags()
	e.response(resp)
	size := len(e.dst) - start + e.cutBytes
	checkFrame(size - lengthBytes)
	binary.BigEndian.PutUint32(e.dst[start:], uint32(size-lengthBytes))
	return e.dst, e.cuts
}

// plainFetch says whether there are none of the things that answers seldom
// have: those are left to kmsg.
func plainFetch(resp *kmsg.FetchResponse) bool {
	if resp.Version < 4 || resp.Version > 18 || len(resp.Brokers) > 0 || resp.UnknownTags.Len() > 0 {
		return false
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.UnknownTags.Len() > 0 {
			return false
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			d, l, s := &p.DivergingEpoch, &p.CurrentLeader, &p.SnapshotID
			if d.Epoch != -1 || d.EndOffset != -1 || l.LeaderID != -1 || l.LeaderEpoch != -1 || s.EndOffset != -1 || s.Epoch != -1 ||
				d.UnknownTags.Len()+l.UnknownTags.Len()+s.UnknownTags.Len()+p.UnknownTags.Len() > 0 {
				return false
			}
			for k := range p.AbortedTransactions {
				if p.AbortedTransactions[k].UnknownTags.Len() > 0 {
					return false
				}
			}
		}
	}
	return true
}

type fetchEncoder struct {
	dst         []byte
	cuts        []Cut
	cutBytes    int
	cutBytesMin int
	version     int16
	flexible    bool
}

func (e *fetchEncoder) int32(v int32) { e.dst = binary.BigEndian.AppendUint32(e.dst, uint32(v)) }
func (e *fetchEncoder) int64(v int64) { e.dst = binary.BigEndian.AppendUint64(e.dst, uint64(v)) }
func (e *fetchEncoder) int16(v int16) { e.dst = binary.BigEndian.AppendUint16(e.dst, uint16(v)) }

func (e *fetchEncoder) noTags() {
	if e.flexible {
		e.dst = append(e.dst, 0)
	}
}

// length is that of an array or of bytes; null is -1.
func (e *fetchEncoder) length(n int) {
	if e.flexible {
		e.dst = binary.AppendUvarint(e.dst, uint64(n+1))
	} else {
		e.int32(int32(n))
	}
}

func (e *fetchEncoder) response(resp *kmsg.FetchResponse) {
	e.int32(resp.ThrottleMillis)
	if e.version >= 7 {
		e.int16(resp.ErrorCode)
		e.int32(resp.SessionID)
	}
	e.length(len(resp.Topics))
	for i := range resp.Topics {
		t := &resp.Topics[i]
		switch {
		case e.version >= 13:
			e.dst = append(e.dst, t.TopicID[:]...)
		case e.flexible:
			e.length(len(t.Topic))
			e.dst = append(e.dst, t.Topic...)
		default:
			e.int16(int16(len(t.Topic)))
			e.dst = append(e.dst, t.Topic...)
		}
		e.length(len(t.Partitions))
		for j := range t.Partitions {
			e.partition(&t.Partitions[j])
		}
		e.noTags()
	}
	e.noTags()
}

func (e *fetchEncoder) partition(p *kmsg.FetchResponseTopicPartition) {
	e.int32(p.Partition)
	e.int16(p.ErrorCode)
	e.int64(p.HighWatermark)
	e.int64(p.LastStableOffset)
	if e.version >= 5 {
		e.int64(p.LogStartOffset)
	}
	if p.AbortedTransactions == nil {
		e.length(-1)
	} else {
		e.length(len(p.AbortedTransactions))
	}
	for i := range p.AbortedTransactions {
		e.int64(p.AbortedTransactions[i].ProducerID)
		e.int64(p.AbortedTransactions[i].FirstOffset)
		e.noTags()
	}
	if e.version >= 11 {
		e.int32(p.PreferredReadReplica)
	}
	switch n := len(p.RecordBatches); {
	case p.RecordBatches == nil:
		e.length(-1)
	case n > 0 && n >= e.cutBytesMin:
		e.length(n)
		e.cuts = append(e.cuts, Cut{len(e.dst), p.RecordBatches})
		e.cutBytes += n
	default:
		e.length(n)
		e.dst = append(e.dst, p.RecordBatches...)
	}
	e.noTags()
}

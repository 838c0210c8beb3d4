package group

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkConsumerRebalance lets one member of a big group leave and come
// back, and all others follow with a heartbeat each.
func BenchmarkConsumerRebalance(b *testing.B) {
	for _, size := range [...][2]int{{10, 30}, {100, 300}} {
		b.Run(fmt.Sprintf("members=%d/partitions=%d", size[0], size[1]), func(b *testing.B) {
			s := New(Options{}, rand.New(rand.NewPCG(1, 2)))
			s.SetTopics(fakeTopics{version: 1, list: []Topic{{Name: "t", ID: topicID("t"), Partitions: int32(size[1])}}})
			now := time.UnixMilli(1_700_000_000_000)
			s.Start(now)
			epochs := make([]int32, size[0])
			heartbeat := func(i int, epoch int32) {
				r := &ConsumerGroupHeartbeat{Version: 1, Group: "g", MemberID: fmt.Sprintf("m%03d", i), MemberEpoch: epoch, RebalanceTimeoutMs: -1}
				if epoch == 0 {
					r.RebalanceTimeoutMs, r.SubscribedTopicNames, r.Owned = 60000, []string{"t"}, partitionSet{}
				}
				if m := s.groups["g"]; m != nil && epoch > 0 {
					r.Owned = m.consumer.members[r.MemberID].assigned
				}
				d := s.Decide(now, r, 1)
				for _, rec := range d.Records {
					s.Apply(rec)
				}
				epochs[i] = d.Replies[0].Response.(*ConsumerGroupHeartbeatResponse).MemberEpoch
			}
			for i := range epochs {
				heartbeat(i, 0)
			}
			for b.Loop() {
				heartbeat(0, -1)
				heartbeat(0, 0)
				for i := range epochs {
					heartbeat(i, epochs[i])
				}
			}
		})
	}
}

// BenchmarkCommit stores the offsets of one member, and encodes the records.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 300} {
		b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			s := New(Options{}, rand.New(rand.NewPCG(1, 2)))
			now := time.UnixMilli(1_700_000_000_000)
			s.Start(now)
			r := &OffsetCommit{Version: 9, Group: "g", Generation: -1, RetentionMs: -1}
			for i := range n {
				r.Offsets = append(r.Offsets, OffsetToCommit{Topic: "t", Partition: int32(i), Offset: 5})
			}
			var buf []byte
			for b.Loop() {
				buf = buf[:0]
				for _, rec := range s.Decide(now, r, 1).Records {
					s.Apply(rec)
					buf = rec.Data.AppendValue(rec.Data.AppendKey(buf))
				}
			}
		})
	}
}

package coordinator

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
)

// BenchmarkLoad is how long a coordinator takes over: a partition with so many
// groups, each with a member that has joined and offsets of ten partitions.
func BenchmarkLoad(b *testing.B) {
	for _, groups := range []int{200, 10000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			log := &memoryLog{auto: true}
			now := time.UnixMilli(1_700_000_000_000)
			make := func() *Groups {
				g := New(Options{
					Group: group.Options{InitialRebalanceDelay: -1}, Log: slog.New(slog.DiscardHandler),
					Rand: rand.New(rand.NewPCG(1, 2)),
					At: func(at time.Time, fn func(time.Time)) {
						if at.IsZero() {
							fn(now)
						}
					},
				})
				g.SetPartitions(1)
				g.OnLeader(now, 0, 1, log)
				return g
			}
			fill(make(), now, groups)
			b.ResetTimer()
			for b.Loop() {
				g := make()
				if active, _ := g.Status(0); !active {
					b.Fatal("not loaded")
				}
			}
			b.ReportMetric(float64(log.end), "records")
		})
	}
}

func fill(g *Groups, now time.Time, groups int) {
	for i := range groups {
		name := fmt.Sprintf("group-%d", i)
		var member string
		g.Handle(now, &group.JoinGroup{
			Version: 3, Group: name, ClientID: "c", ClientHost: "/127.0.0.1", SessionTimeoutMs: 10000, RebalanceTimeoutMs: 10000,
			ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "range", Metadata: []byte{0, 0, 0, 0, 0, 0, 255, 255, 255, 255}}},
		}, func(r group.Response) { member = r.(*group.JoinGroupResponse).MemberID })
		g.Handle(now, &group.SyncGroup{Version: 4, Group: name, MemberID: member, Generation: 1,
			Assignments: []group.Assignment{{MemberID: member, Data: []byte("assignment")}}}, func(group.Response) {})
		commit := &group.OffsetCommit{Version: 8, Group: name, MemberID: member, Generation: 1, RetentionMs: -1}
		for p := range 10 {
			commit.Offsets = append(commit.Offsets, group.OffsetToCommit{Topic: "topic", Partition: int32(p), Offset: kafka.Offset(i)})
		}
		g.Handle(now, commit, func(group.Response) {})
	}
}

package group

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/base/kafka"
)

// A member that joins over and over leaves a deadline behind each time, weeks
// away if its rebalance timeout is.
func TestDeadlinesThatAreOverDoNotPileUp(t *testing.T) {
	s := New(Options{InitialRebalanceDelay: -1}, rand.New(rand.NewPCG(1, 1)))
	now := time.UnixMilli(1_700_000_000_000)
	s.Start(now)
	ask := func(req Request) *JoinGroupResponse {
		now = now.Add(time.Millisecond)
		d := s.Decide(now, req, 1)
		for _, r := range d.Records {
			s.Apply(r)
		}
		resp, _ := d.Replies[len(d.Replies)-1].Response.(*JoinGroupResponse)
		return resp
	}
	join := func(group, id string) *JoinGroupResponse {
		return ask(&JoinGroup{Version: 3, Group: group, MemberID: id, SessionTimeoutMs: 10000, RebalanceTimeoutMs: math.MaxInt32,
			ProtocolType: "consumer", Protocols: []Protocol{{Name: "range", Metadata: make([]byte, 10)}}})
	}
	quiet := join("quiet", "").MemberID
	ask(&SyncGroup{Group: "quiet", MemberID: quiet, Generation: 1})
	ask(&ConsumerGroupHeartbeat{Version: 1, Group: "mixed", MemberID: "new", RebalanceTimeoutMs: 1000,
		SubscribedTopicNames: []string{"t"}, Owned: partitionSet{}})
	classic := join("mixed", "").MemberID
	busy := join("busy", "").MemberID
	for i := range 9000 {
		r := join("busy", busy)
		if r.Err != kafka.None {
			t.Fatalf("join %d: %v", i, r.Err)
		}
		ask(&SyncGroup{Group: "busy", MemberID: busy, Generation: r.Generation})
		if r := join("mixed", classic); r.Err != kafka.None {
			t.Fatalf("join %d of a consumer group: %v", i, r.Err)
		}
		if i%1000 == 0 {
			ask(&Heartbeat{Group: "quiet", MemberID: quiet, Generation: 1})
			ask(&ConsumerGroupHeartbeat{Version: 1, Group: "mixed", MemberID: "new", MemberEpoch: s.groups["mixed"].consumer.members["new"].epoch, RebalanceTimeoutMs: -1})
		}
	}
	if n := len(s.timers); n > 3000 {
		t.Errorf("%d deadlines of four members", n)
	}
	// Those that count are there still.
	for range 100 {
		now = now.Add(time.Second)
		for _, r := range s.Tick(now).Records {
			s.Apply(r)
		}
	}
	s.EachGroup(func(g GroupStats) {
		if g.Members != 0 {
			t.Errorf("group %s has %d members that nobody has heard of", g.Group, g.Members)
		}
	})
}

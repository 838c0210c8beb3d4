package group

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestGroupsHaveSettingsOfTheirOwn(t *testing.T) {
	s := New(Options{
		ConsumerSessionTimeout: 45 * time.Second, ConsumerHeartbeatInterval: 5 * time.Second, ConsumerAssignmentInterval: time.Second,
		PerGroup: map[string]ConsumerSettings{
			"own":     {SessionTimeout: 50 * time.Second, HeartbeatInterval: 6 * time.Second, AssignmentInterval: 3 * time.Second},
			"at-once": {AssignmentInterval: -1},
		},
	}, rand.New(rand.NewPCG(1, 2)))
	now := time.UnixMilli(1_700_000_000_000)
	s.Start(now)
	beat := func(group, member string) int32 {
		d := s.Decide(now, &ConsumerGroupHeartbeat{
			Version: 1, Group: group, MemberID: member, RebalanceTimeoutMs: 1000, SubscribedTopicNames: []string{"t"}, Owned: partitionSet{},
		}, 1)
		for _, r := range d.Records {
			s.Apply(r)
		}
		return d.Replies[0].Response.(*ConsumerGroupHeartbeatResponse).HeartbeatIntervalMs
	}
	members := func(group string) int { return len(s.groups[group].consumer.members) }
	for _, c := range []struct {
		group         string
		first, second int32 // heartbeat intervals, the second while an assignment is awaited
		session       time.Duration
	}{
		{"own", 6000, 3001, 50 * time.Second},
		{"at-once", 5000, 5000, 45 * time.Second},
		{"other", 5000, 1001, 45 * time.Second},
	} {
		if got := beat(c.group, "a"); got != c.first {
			t.Errorf("%s: heartbeat interval %d ms, want %d", c.group, got, c.first)
		}
		if got := beat(c.group, "b"); got != c.second {
			t.Errorf("%s: a member that waits for an assignment is told to come in %d ms, want %d", c.group, got, c.second)
		}
		began := now
		for now = began.Add(c.session - time.Millisecond); ; now = began.Add(c.session + time.Millisecond) {
			for _, r := range s.Tick(now).Records {
				s.Apply(r)
			}
			if now.After(began.Add(c.session)) {
				break
			}
			if members(c.group) != 2 {
				t.Errorf("%s: members are gone before %v", c.group, c.session)
			}
		}
		if members(c.group) != 0 {
			t.Errorf("%s: members are there after %v", c.group, c.session)
		}
	}
}

package group

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
)

func TestNamesThatNoRecordCanHoldAreRefused(t *testing.T) {
	s := New(Options{}, rand.New(rand.NewPCG(1, 1)))
	now := time.UnixMilli(1_700_000_000_000)
	s.Start(now)
	long := strings.Repeat("x", 40_000)
	for _, req := range []Request{
		&JoinGroup{Version: 9, Group: long, SessionTimeoutMs: 10000, ProtocolType: "consumer", Protocols: []Protocol{{Name: "p"}}},
		&JoinGroup{Version: 9, Group: "g", InstanceID: long, SessionTimeoutMs: 10000, ProtocolType: "consumer", Protocols: []Protocol{{Name: "p"}}},
		&JoinGroup{Version: 9, Group: "g", SessionTimeoutMs: 10000, ProtocolType: "consumer", Protocols: []Protocol{{Name: long}}},
		&ConsumerGroupHeartbeat{Version: 1, Group: "g", MemberID: "m", SubscribedTopicRegex: &long},
		&OffsetCommit{Group: long, Generation: -1, Offsets: []OffsetToCommit{{Topic: "t"}}},
	} {
		d := s.Decide(now, req, 1)
		if len(d.Records) != 0 || len(d.Replies) != 1 {
			t.Fatalf("%T: %d records, %d replies", req, len(d.Records), len(d.Replies))
		}
		var code kafka.ErrorCode
		switch r := d.Replies[0].Response.(type) {
		case *JoinGroupResponse:
			code = r.Err
		case *ConsumerGroupHeartbeatResponse:
			code = r.Err
		case *OffsetCommitResponse:
			code = r.Codes[0]
		}
		if code != kafka.ErrInvalidRequest {
			t.Errorf("%T: %v", req, code)
		}
	}
}

package group

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/base/kafka"
)

// A client may name a hundred thousand protocols when it joins. With the square
// of their number the groups of a whole partition would stand still for minutes,
// and the node's control loop behind them.
func TestManyProtocolsAreLookedThroughInProportion(t *testing.T) {
	s := New(Options{InitialRebalanceDelay: -1}, rand.New(rand.NewPCG(1, 1)))
	now := time.UnixMilli(1_700_000_000_000)
	s.Start(now)
	var protocols []Protocol
	for i := range 100_000 {
		protocols = append(protocols, Protocol{Name: fmt.Sprintf("protocol-%06d", i), Metadata: make([]byte, 10)})
	}
	shared := protocols[len(protocols)-1].Name
	join := func(memberID string, protocols []Protocol) *JoinGroupResponse {
		d := s.Decide(now, &JoinGroup{Version: 2, Group: "g", MemberID: memberID, ClientID: "c", SessionTimeoutMs: 10_000,
			RebalanceTimeoutMs: 10_000, ProtocolType: protocolTypeConsumer, Protocols: protocols}, 1)
		for _, r := range d.Records {
			s.Apply(r)
		}
		if len(d.Replies) == 0 {
			return nil // the others have to join again first
		}
		return d.Replies[len(d.Replies)-1].Response.(*JoinGroupResponse)
	}
	first := join("", protocols)
	if first.Err != kafka.None || first.ProtocolName != protocols[0].Name {
		t.Fatalf("the first member is answered %v with protocol %q", first.Err, first.ProtocolName)
	}
	if r := join("", []Protocol{{Name: "another"}}); r.Err != kafka.ErrInconsistentGroupProtocol {
		t.Fatalf("a member that has no protocol in common is answered %v", r.Err)
	}
	if r := join("", []Protocol{{Name: shared}}); r != nil {
		t.Fatalf("the second member is answered %v before the first has joined again", r.Err)
	}
	again := join(first.MemberID, protocols)
	if again.Err != kafka.None || again.ProtocolName != shared || again.Generation != first.Generation+1 {
		t.Fatalf("joining again the first is answered %v with protocol %q of generation %d", again.Err, again.ProtocolName, again.Generation)
	}

	// As members of a group of the other protocol.
	hb := func(group, member string) {
		d := s.Decide(now, &ConsumerGroupHeartbeat{Version: 1, Group: group, MemberID: member, RebalanceTimeoutMs: 10_000,
			SubscribedTopicNames: []string{"t"}, Owned: partitionSet{}}, 2)
		for _, r := range d.Records {
			s.Apply(r)
		}
		if r := d.Replies[0].Response.(*ConsumerGroupHeartbeatResponse); r.Err != kafka.None {
			t.Fatalf("%s: %v %s", member, r.Err, r.Message)
		}
	}
	hb("h", "consumer")
	for i := range protocols {
		protocols[i].Metadata = []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	}
	for i, list := range [][]Protocol{protocols, protocols} {
		d := s.Decide(now, &JoinGroup{Version: 2, Group: "h", ClientID: "c", SessionTimeoutMs: 10_000, RebalanceTimeoutMs: 10_000,
			ProtocolType: protocolTypeConsumer, Protocols: list}, 3)
		for _, r := range d.Records {
			s.Apply(r)
		}
		if r := d.Replies[0].Response.(*JoinGroupResponse); r.Err != kafka.None {
			t.Fatalf("classic member %d: %v", i, r.Err)
		}
	}
}

package controller

import (
	"fmt"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
)

// Who is not in sync may lead if nothing can have been committed without it.
// That is for the leader's minimum to say: while nodes are started again with
// another min.insync.replicas, one after the other, it is not the controller's.
func TestLeadersSettingSaysWhoIsEligible(t *testing.T) {
	for _, tt := range []struct {
		controller string
		nodes      int32 // 0: they have not said
		configs    string
		want       kafka.NodeID
	}{
		{"2", 1, "", kafka.NoNode},
		{"2", 2, "", 1},
		{"2", 0, "", 1},
		{"1", 2, "", 1},
		{"1", 0, "", kafka.NoNode},
		{"2", 1, " config=min.insync.replicas=2", 1}, // holds on all nodes
		{"1", 2, " config=min.insync.replicas=1", kafka.NoNode},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			w := newWorld(t, config.Static{"min.insync.replicas": tt.controller}, 2)
			for n := range kafka.NodeID(2) {
				w.decide(RegisterBroker{Node: n + 1, Incarnation: [16]byte{byte(n)}, Directory: [16]byte{byte(n)}, Host: "h", Port: 9092,
					PeerAddress: fmt.Sprintf("h%d:1", n), MinInSync: tt.nodes})
				w.beat(n+1, false)
			}
			w.line("create names=t assign=2,1" + tt.configs)
			w.line("in-sync t/0 node=2 to=2")
			w.line("lost node=2")
			if _, _, p := w.partition("t/0"); p.Leader != tt.want {
				t.Errorf("led by %d, want %d\n%s", p.Leader, tt.want, w.out.String())
			}
		})
	}
}

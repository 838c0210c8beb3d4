package controller

import (
	"strings"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
)

// What an earlier release cannot read is written once no node has it any more, and
// then none with it comes back.
func TestTheLevelOfRecordsIsThatOfAllNodes(t *testing.T) {
	w := newWorld(t, config.Static{}, 2)
	process := byte(0)
	register := func(node kafka.NodeID, level int16) kafka.ErrorCode {
		process++
		return w.decide(RegisterBroker{Node: node, Incarnation: [16]byte{process}, Directory: [16]byte{byte(node)}, Host: "h", Port: 9092,
			PeerAddress: "h:1", RecordsLevel: level}).(RegisterBrokerResult).Error
	}
	level := func(want int16) {
		t.Helper()
		w.apply(w.c.Tick(w.now))
		if is := w.c.Image().RecordsLevel(); is != want {
			t.Errorf("level %d, want %d", is, want)
		}
	}
	level(0)
	register(1, metadata.RecordsLevel)
	register(2, metadata.RecordsLevel-1)
	w.beat(1, false)
	level(metadata.RecordsLevel - 1)
	if code := register(2, metadata.RecordsLevel+1); code != kafka.None {
		t.Errorf("a node that is upgraded: %v", code)
	}
	level(metadata.RecordsLevel)
	if !strings.Contains(w.out.String(), "metadata level raised") {
		t.Errorf("not told of:\n%s", w.out.String())
	}
	if code := register(2, metadata.RecordsLevel-1); code != kafka.ErrUnsupportedVersion {
		t.Errorf("a node that is not: %v", code)
	}
	if b := w.c.Image().Broker(2); b.RecordsLevel != metadata.RecordsLevel+1 {
		t.Errorf("node 2 reads records of level %d", b.RecordsLevel)
	}
	w.beat(1, false)
	if b := w.c.Image().Broker(1); b.RecordsLevel != metadata.RecordsLevel || b.Fenced {
		t.Errorf("node 1: %+v", b)
	}
}

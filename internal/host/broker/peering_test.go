package broker

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/host/peer"
)

// While a cluster is upgraded, a node meets what it does not know yet. Its
// connections must last: they carry Raft and the records of all partitions.
func TestWhatALaterReleaseSaysIsLeftAlone(t *testing.T) {
	b := openBroker(t, vfs.NewMem(), Options{})
	now := time.Unix(1001, 0)
	var sent [][]byte
	b.env.Send = func(_ kafka.NodeID, _ Class, pieces ...[]byte) { sent = append(sent, bytes.Join(pieces, nil)) }

	if err := b.HandleControl(now, 2, []byte{frameLast + 1, 1, 2, 3}); err != nil {
		t.Errorf("frame of an unknown kind: %v", err)
	}
	if err := b.HandleControl(now, 2, []byte{0, 1, 2, 3}); err == nil {
		t.Error("a frame of kind 0 was taken")
	}

	sent = nil
	question := binary.BigEndian.AppendUint64([]byte{frameQuestion}, 77)
	if err := b.HandleControl(now, 2, append(question, `{"type":"FoldMap","body":{}}`...)); err != nil {
		t.Errorf("request of an unknown type: %v", err)
	}
	answered := false
	for _, f := range sent {
		answered = answered || f[0] == frameAnswer && binary.BigEndian.Uint64(f[1:]) == 77 && kafka.ErrorCode(binary.BigEndian.Uint16(f[9:])) == kafka.ErrUnsupportedVersion
	}
	if !answered {
		t.Errorf("it was not refused: %q", sent)
	}
	if err := b.HandleControl(now, 2, append(question, `{"type":`...)); err == nil {
		t.Error("half a request was taken")
	}

	unknown := []byte{0, 0, 0, 3, peer.ScrubVersion + 1, 9, 9}
	known := peer.EncodeScrub(nil, &peer.Scrub{Kind: peer.AskSum, Topic: kafka.TopicID{1}, From: 0, To: 5})
	if err := b.HandleBulk(now, 2, append(unknown, known...)); err != nil {
		t.Errorf("message of an unknown version: %v", err)
	}
	if len(b.scrub.asked) != 1 {
		t.Errorf("what came behind it was not understood: %d", len(b.scrub.asked))
	}
	for _, bad := range [][]byte{{0, 0, 0, 9, peer.ScrubVersion + 1, 1}, {0, 0, 0, 2, peer.Version, 1}, {255, 255, 255, 255, 3}} {
		if err := b.HandleBulk(now, 2, bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

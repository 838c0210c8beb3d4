package group

import (
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/base/kafka"
)

func TestNoMetadataMayBeCommittedWhereNoneIsAllowed(t *testing.T) {
	s := New(Options{OffsetMetadataMax: -1}, rand.New(rand.NewPCG(1, 1)))
	now := time.UnixMilli(1_700_000_000_000)
	s.Start(now)
	for metadata, want := range map[string]kafka.ErrorCode{"": kafka.None, "m": kafka.ErrOffsetMetadataTooLarge} {
		d := s.Decide(now, &OffsetCommit{Version: 9, Group: "g", Generation: -1, RetentionMs: -1,
			Offsets: []OffsetToCommit{{Topic: "t", Metadata: metadata}}}, 1)
		if code := d.Replies[0].Response.(*OffsetCommitResponse).Codes[0]; code != want {
			t.Errorf("metadata %q: %v, want %v", metadata, code, want)
		}
	}
}

package replica

import (
	"slices"
	"testing"

	"chronik/internal/base/kafka"
)

// An epoch in which nothing was appended gives way to the batches of another
// leader, also where compaction has left a gap before them.
func TestAnUnusedEpochGivesWay(t *testing.T) {
	for _, c := range []struct {
		epoch kafka.LeaderEpoch
		start kafka.Offset
		want  epochs
	}{
		{2, 38, epochs{{2, 27}}},
		{2, 41, epochs{{2, 27}}},
		{5, 44, epochs{{2, 27}, {5, 44}}},
		{3, 44, epochs{{2, 27}, {3, 38}}},
	} {
		e := epochs{{2, 27}, {3, 38}}
		if e.appended(c.epoch, c.start, 38); !slices.Equal(e, c.want) {
			t.Errorf("a batch of epoch %d at %d behind 38: %v, want %v", c.epoch, c.start, e, c.want)
		}
	}
}

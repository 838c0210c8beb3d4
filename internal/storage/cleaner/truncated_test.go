package cleaner

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

// A pass that knows of records which an unclean election has had cut off since
// does not drop older ones for them, nor count what was appended in their place
// as looked at.
func TestATruncationBetweenTheGroupsInterruptsIt(t *testing.T) {
	for _, at := range []string{"mapped", "rewritten"} {
		tp := newTopic(t, vfs.NewMem())
		rng := rand.New(rand.NewPCG(8, 2))
		others := func(n int) {
			for range n {
				tp.send(nil, false, record.None, kv{fmt.Sprintf("k%d", rng.IntN(20)), value(300, rng)})
			}
			tp.must(tp.log.Sync())
		}
		tp.send(nil, false, record.None, kv{"rare", value(300, rng)})
		others(99)
		tp.send(nil, false, record.None, kv{"rare", value(300, rng)})
		others(50)
		tp.task.Limit = tp.log.End()
		p, err := Begin(tp.log, tp.now, tp.task, tp.opts, false)
		tp.must(err)
		over := func() bool {
			if at == "mapped" {
				return !p.mapping
			}
			return !p.mapping && !p.group.active && p.next >= p.to
		}
		for !over() {
			_, _, err = p.Step(tp.now, 1)
			tp.must(err)
		}
		tp.must(tp.log.TruncateFrom(80))
		others(100)
		for done := false; !done && err == nil; {
			done, _, err = p.Step(tp.now, 1)
		}
		if !errors.Is(err, ErrInterrupted) {
			t.Errorf("%s: %v", at, err)
		}
		if at == "mapped" {
			found := false
			b, err := tp.log.Read(0, 1, 1, nil)
			tp.must(err)
			it := record.Batch(b).Records(nil)
			for it.Next() {
				found = found || string(it.Record().Key) == "rare"
			}
			if !found {
				t.Errorf("%s: the only record with its key is gone", at)
			}
		}
		if c := tp.log.Cleaned(); c > 80 {
			t.Errorf("%s: all below %d counts as looked at", at, c)
		}
	}
}

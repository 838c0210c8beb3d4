//go:build mutants

package sim

import (
	"os"
	"strconv"
	"testing"
	"time"

	"chronik/internal/base/mutant"
)

// hunts say which faults bring a mutant out soonest; nil: what the seeds draw.
// A hunt is for speed only: a mutant that only a hunt of its own finds would
// say little of what the seeds of every day find.
var hunts = map[mutant.Mutant][]string{
	mutant.AckBeforeSync:        {"lose power everywhere", "lose power"},
	mutant.CommitOnCurrentSet:   {"kill", "isolate"},
	mutant.SkipTruncation:       {"isolate", "kill", "pause"},
	mutant.NoEpochFence:         {"isolate", "pause", "cut a link", "delay"},
	mutant.RetrySync:            {"sync error", "lose power everywhere", "lose power"},
	mutant.ForgetProducers:      {"kill all", "lose power everywhere"},
	mutant.JoinBeforeEpochStart: {"kill", "isolate", "slow disk", "cut a link"},
	mutant.AckAfterStepDown:     {"isolate", "pause", "cut a link"},
	mutant.CountStaleSync:       {"isolate", "lose power everywhere", "slow disk", "lose power"},
	mutant.IgnoreLease:          {"pause"},
	mutant.GrantUnconfirmed:     {"pause"},
	mutant.ElectAnyone:          {"kill", "isolate"},
	mutant.MetadataUnsynced:     {"lose power everywhere", "lose power"},
	mutant.VoteUnsaved:          {"lose power everywhere", "kill all", "kill"},
}

// seedsMax is how many seeds of a minute a mutant may survive.
const seedsMax = 60

func TestMutantsAreFound(t *testing.T) {
	defer mutant.Set(mutant.None)
	limit := uint64(seedsMax)
	if s := os.Getenv("MUTANT_SEEDS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		limit = n
	}
	for _, m := range mutant.All() {
		t.Run(m.String(), func(t *testing.T) {
			mutant.Set(m)
			defer mutant.Set(mutant.None)
			for seed := uint64(1); seed <= limit; seed++ {
				if r := Run(Options{Seed: seed, Length: time.Minute, Faults: hunts[m]}); r.Failed() {
					v := r.Violations[0]
					if len(v.Detail) > 200 {
						v.Detail = v.Detail[:200]
					}
					t.Logf("found by seed %d after %v: %v", seed, v.At, v)
					return
				}
			}
			t.Errorf("survived %d seeds", limit)
		})
	}
}

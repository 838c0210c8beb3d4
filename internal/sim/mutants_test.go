//go:build mutants

package sim

import (
	"os"
	"strconv"
	"testing"
	"time"

	"chronik/internal/base/mutant"
)

// damageHunt is of damage, and of processes that end meanwhile.
var damageHunt = []string{flipFault, "kill", "lose power", "sync error", "stop", "end in a call", "isolate", "kill all"}

// hunts say which faults bring a mutant out soonest; nil: what the seeds draw.
// A hunt is for speed only: all kinds of faults in it come in every day's seeds.
var hunts = map[mutant.Mutant][]string{
	mutant.AckBeforeSync:      {"lose power everywhere", "lose power"},
	mutant.CommitOnCurrentSet: {"lose power", "isolate"},
	mutant.SkipTruncation:     {"isolate", "kill", "pause"},
	mutant.NoEpochFence:       {"cut a link", "leave a tail"},
	mutant.RetrySync:          {"sync error", "lose power everywhere", "lose power"},
	mutant.ForgetProducers:    {"kill all", "lose power everywhere"},
	mutant.AckAfterStepDown:   {"isolate", "pause", "cut a link"},
	mutant.IgnoreLease:        {"pause"},
	mutant.GrantUnconfirmed:   {"pause"},
	mutant.ElectAnyone:        {"kill", "isolate"},
	mutant.MetadataUnsynced:   {"lose power everywhere", "lose power"},
	mutant.VoteUnsaved:        {"lose power everywhere", "kill all", "kill"},

	mutant.LeaseFromAnswer:            {"pause and cut off"},
	mutant.RememberOneBatch:           {"cut clients", "sever"},
	mutant.SequenceGaps:               {"isolate", "kill", "cut clients"},
	mutant.ConfigRemovalLost:          {"kill"},
	mutant.OffsetsLost:                {"kill"},
	mutant.StartForgotten:             {"lose power everywhere", "kill all"},
	mutant.TimeAfter:                  {"kill"},
	mutant.RemovedInSync:              {"remove node"},
	mutant.VoteForgotten:              {"damage metadata"},
	mutant.KnowUnwritten:              {"full disk"},
	mutant.SnapshotWithoutProducerIDs: {"kill all", "kill"},
	mutant.AllCommittedAtStart:        {"kill all", "lose power everywhere", "kill"},
	mutant.EligibleAtMinimum:          {"kill", "isolate"},
	mutant.EmptyEligible:              {"lose disk"},
	mutant.LostEligible:               {"lose disk"},
	mutant.CutKeepsProducers:          {"leave a tail"},
	mutant.PendingByFailure:           {"sync error"},
	mutant.CheckpointAhead:            {"leave a tail"},
	mutant.StateKept:                  {"leave a tail"},
	mutant.HintsKept:                  {"leave a tail"},
	mutant.FollowerSyncKept:           {"lose disk", "kill"},
	mutant.OwnEpochsIgnored:           {"leave a tail", "isolate"},
	mutant.MaxTimeKept:                {"leave a tail"},
	mutant.LogEpochsKept:              {"leave a tail"},
	mutant.RetainUncommitted:          {"leave a tail"},

	mutant.UnfitLeads:          damageHunt,
	mutant.DamagedInSync:       damageHunt,
	mutant.DamagedEligible:     damageHunt,
	mutant.FitTooEarly:         damageHunt,
	mutant.DamageUntold:        damageHunt,
	mutant.FollowersUnscrubbed: damageHunt,
	mutant.VerifyUnchecked:     damageHunt,
	mutant.RepairUnsynced:      damageHunt,
	mutant.CorruptServed:       damageHunt,
	mutant.ScrubMiscounts:      damageHunt,

	mutant.ServeUnloaded:     {"kill", "stop"},
	mutant.AnswerUncommitted: {"isolate", "kill", "pause"},
	mutant.SessionsForgotten: {"kill", "stop"},
	mutant.LoadCommitted:     {"kill", "stop"},
	mutant.LoadToGap:         {"kill"},
}

// scenarios find these, which need several rare things at a time in a cluster.
var scenarios = map[mutant.Mutant]string{
	mutant.JoinBeforeEpochStart: "core/replica/testdata/17_join_at_epoch_start.txt",
	mutant.CountStaleSync:       "core/replica/testdata/05_stale_sync.txt",
	mutant.InSyncOfOldState:     "core/controller/testdata/in_sync_sets.txt",
	mutant.InSyncOfOldProcess:   "core/controller/testdata/in_sync_sets.txt",
	mutant.InSyncInactive:       "core/controller/testdata/in_sync_sets.txt",
	mutant.ReassignEarly:        "core/controller/testdata/reassignments.txt",
	mutant.DeleteBelowMinimum:   "core/replica/testdata/10_delete_records.txt",
	mutant.CompactUncommitted:   "host/partition: TestOnlyCommittedRecordsSupersedeOthers",
	mutant.CompactEpochStarts:   "storage/cleaner: TestACopyKnowsWhereLeaderEpochsBegin",

	mutant.CheckpointAhead:      "storage/wal: TestSyncedRecordsSurviveACrashAtAnyMoment",
	mutant.ScrubEndsAtDamage:    "host/broker: TestDamageEverywhereIsMendedWhereOneCopyIsLeft",
	mutant.LogEpochsKept:        "storage/wal: TestTruncateDropsTheBatchWithTheOffsetAndAllAfter",
	mutant.StartNotAdopted:      "core/replica/testdata/19_start_of_another_leader.txt",
	mutant.ParkedSyncsLost:      "core/group/testdata/classic_sync.txt",
	mutant.StaticRenameUnlogged: "core/group/testdata/classic_reload.txt",
}

// seedsMax is how many seeds of a minute a mutant may survive. Most take one to
// five, the hardest about 80: one that takes more than 100 wants a better hunt, since
// any change gives seeds other runs.
const seedsMax = 200

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
			if s := scenarios[m]; s != "" {
				t.Skipf("found by %s", s)
			}
			mutant.Set(m)
			defer mutant.Set(mutant.None)
			o := Options{Length: time.Minute, Faults: hunts[m]}
			if m >= mutant.GroupsFrom {
				o.Groups = 3
			}
			for o.Seed = 1; o.Seed <= limit; o.Seed++ {
				if r := Run(o); r.Failed() {
					v := r.Violations[0]
					if len(v.Detail) > 200 {
						v.Detail = v.Detail[:200]
					}
					t.Logf("found by seed %d after %v: %v", o.Seed, v.At, v)
					return
				}
			}
			t.Errorf("survived %d seeds", limit)
		})
	}
}

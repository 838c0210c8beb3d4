package coordinator

import (
	"log/slog"

	"chronik/internal/core/group"
)

// Keys of log attributes.
const (
	keyCause      = "cause"
	keyDuration   = "duration"
	keyEpoch      = "epoch"
	keyError      = "error"
	keyGeneration = "generation"
	keyGroup      = "group"
	keyMember     = "member"
	keyMembers    = "members"
	keyOffset     = "offset"
	keyPartition  = "partition"
	keyRecords    = "records"
)

// logEvents writes one line per thing that an operator wants to know of what
// happened in groups. That a single member joined goes with the rebalance that
// it causes.
func (s *shard) logEvents(events []group.Event) {
	for _, e := range events {
		attrs := make([]any, 0, 5)
		attrs = append(attrs, slog.String(keyGroup, e.Group))
		if e.MemberID != "" {
			attrs = append(attrs, slog.String(keyMember, e.MemberID))
		}
		attrs = append(attrs, slog.Int(keyGeneration, int(e.Generation)), slog.Int(keyMembers, e.Members))
		if e.Cause != "" {
			attrs = append(attrs, slog.String(keyCause, e.Cause))
		}
		if e.Kind == group.EventMemberJoined || e.Kind == group.EventGenerationAssigned {
			s.log.Debug(string(e.Kind), attrs...)
		} else {
			s.log.Info(string(e.Kind), attrs...)
		}
	}
}

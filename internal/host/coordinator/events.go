package coordinator

import (
	"log/slog"
	"time"

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
	keyGroups     = "groups"
	keyMember     = "member"
	keyMembers    = "members"
	keyOffset     = "offset"
	keyPartition  = "partition"
	keyRecords    = "records"
	keyTopic      = "topic"
)

// loadedEvent tells that this node has become the coordinator of the
// partition's groups. That of a partition without any is worth no line. The
// caller holds the lock.
func (s *shard) loadedEvent(now time.Time, l *load) func() {
	groups, members := 0, 0
	s.core.EachGroup(func(st group.GroupStats) { groups, members = groups+1, members+st.Members })
	attrs := []any{
		slog.Int(keyEpoch, int(s.epoch)), slog.Int(keyGroups, groups), slog.Int(keyMembers, members),
		slog.Int(keyRecords, l.records), slog.Duration(keyDuration, max(now.Sub(l.begun), 0)),
	}
	write := s.log.Info
	if l.records == 0 {
		write = s.log.Debug
	}
	return func() { write("group coordinator moved here", attrs...) }
}

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
			s.log.Debug(string(e.Kind), attrs...) //nolint:sloglint // kinds are constants
		} else {
			s.log.Info(string(e.Kind), attrs...) //nolint:sloglint // kinds are constants
		}
	}
}

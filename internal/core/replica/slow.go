package replica

import (
	"slices"
	"time"

	"chronik/internal/base/kafka"
)

// ownDisk is how far a leader's own disk is: the log's end at some time, which
// it has not synced yet. A leader whose disk takes long while a follower in sync
// has on disk what was written since then does better to follow.
type ownDisk struct {
	markAt  time.Time // zero: nothing is to be synced
	markEnd kafka.Offset
	saidAt  time.Time // when its owner was last told
}

// SlowDisk says that a leader's disk is slow and a follower's is not.
type SlowDisk struct {
	Since time.Duration // for so long it has not synced what a follower in sync has
}

// reviewOwnDisk tells the owner of a slow disk now and then.
func (r *Replica) reviewOwnDisk(now time.Time) {
	d := &r.leader.disk
	switch {
	case r.synced >= r.end || r.config.Relaxed:
		d.markAt = time.Time{}
		return
	case d.markAt.IsZero() || r.synced >= d.markEnd:
		d.markAt, d.markEnd = now, r.end
		return
	}
	since := now.Sub(d.markAt)
	if r.opts.SlowSyncMax < 0 || since < r.opts.SlowSyncMax || !d.saidAt.IsZero() && now.Sub(d.saidAt) < 5*r.opts.SlowSyncMax {
		return
	}
	if r.followerIsAhead() {
		d.saidAt = now
		r.out.Slow = &SlowDisk{since}
	}
}

// followerIsAhead says whether a follower in sync has on its disk what this
// leader waits for.
func (r *Replica) followerIsAhead() bool {
	return slices.ContainsFunc(r.leader.followers, func(f *follower) bool {
		return f.inSync && f.active && f.synced >= r.leader.disk.markEnd
	})
}

func (r *Replica) wakeOwnDisk() time.Time {
	d := &r.leader.disk
	if d.markAt.IsZero() || r.opts.SlowSyncMax < 0 || !r.followerIsAhead() {
		return time.Time{} // the disk is looked after when a follower has told more, too
	}
	at := d.markAt.Add(r.opts.SlowSyncMax)
	if !d.saidAt.IsZero() {
		if again := d.saidAt.Add(5 * r.opts.SlowSyncMax); again.After(at) {
			at = again
		}
	}
	return at
}

package raftlog

import (
	"errors"
	"fmt"
	"path"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"chronik/internal/base/kafka"
	"chronik/internal/storage/statefile"
	"chronik/internal/storage/wal"
)

// ErrDamaged means that files of a member are not as they were written.
var ErrDamaged = errors.New("metadata are damaged")

// Damaged says whether an error of Open or Exists means that files are there
// and not as they were written.
func Damaged(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, statefile.ErrCorrupt) || errors.Is(err, wal.ErrCorrupt) || errors.Is(err, wal.ErrForeign)
}

// Durable is what of the log is on disk. Any goroutine may call it, and Verify
// and VerifyState.
func (l *Log) Durable() (start, end kafka.Offset) {
	b := l.wal.Bounds()
	return b.Start, b.Synced
}

// Verify is wal.Log.Verify.
func (l *Log) Verify(from, limit kafka.Offset, maxBytes int64) (wal.Piece, error) {
	return l.wal.Verify(from, limit, maxBytes, 0)
}

// VerifyState reads the snapshot and the vote from disk. An error says that one
// of them is not as it was written.
func (l *Log) VerifyState() error {
	for _, name := range []string{snapshotFile, voteFile} {
		if _, err := statefile.Load(l.fs, path.Join(l.dir, name)); err != nil {
			return fmt.Errorf("read %s: %w", path.Join(l.dir, name), err)
		}
	}
	return nil
}

// Mend writes all files anew from memory: the vote, and data, the state after
// the entry at index, as the snapshot. What the log has up to there is dropped.
func (l *Log) Mend(now time.Time, index uint64, conf *raftpb.ConfState, data []byte) error {
	if err := saveProto(l.fs, path.Join(l.dir, voteFile), l.vote); err != nil {
		return fmt.Errorf("save vote: %w", err)
	}
	if index > l.snapshotIndex {
		return l.Compact(now, index, conf, data, 0)
	}
	snap, err := l.Snapshot()
	if err != nil {
		return fmt.Errorf("read snapshot from memory: %w", err)
	}
	if err := saveProto(l.fs, path.Join(l.dir, snapshotFile), snap); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return nil
}

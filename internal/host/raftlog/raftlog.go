// Package raftlog is the durable state of the metadata quorum: Raft entries in
// a write-ahead log like any partition's, the vote and the snapshot in state
// files. It implements raft.Storage.
//
// One Raft entry is one record batch: its offset is the entry's index, its
// leader epoch the entry's term, its only record's key the entry's type and
// the value the entry's data. All entries since the last snapshot are also
// held in memory; the broker keeps that short by taking snapshots.
package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
	"chronik/internal/storage/statefile"
	"chronik/internal/storage/wal"
)

const (
	voteFile     = "vote"
	snapshotFile = "snapshot"
)

// Log is the durable state of one member of the metadata quorum. It has one
// owner; nothing in it may be called at the same time.
type Log struct {
	*raft.MemoryStorage
	fs   vfs.FS
	dir  string
	wal  *wal.Log
	vote *raftpb.HardState // as on disk; its commit index may be behind

	snapshotIndex uint64
	sinceBytes    int64 // of entries behind the snapshot
	buf           []byte
	builder       *record.Builder
	scratch       record.Scratch
}

// Recovery says what Open found.
type Recovery struct {
	WAL           wal.Recovery
	SnapshotIndex uint64
	Entries       int
}

// Exists says whether dir holds the state of a member.
func Exists(fs vfs.FS, dir string) (bool, error) {
	_, err := statefile.Load(fs, path.Join(dir, snapshotFile))
	switch {
	case errors.Is(err, statefile.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// Bootstrap makes the first state of a member in dir, which has none: a
// snapshot at index 1 that names the first voters. All first voters must be
// given the same. A node that joins a cluster later is given no voters; it
// gets everything from the leader.
func Bootstrap(fs vfs.FS, dir string, voters []kafka.NodeID, image []byte) error {
	if err := vfs.MkdirDurable(fs, dir); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	snap := &raftpb.Snapshot{Data: image, Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(0), Term: proto.Uint64(0), ConfState: &raftpb.ConfState{},
	}}
	if len(voters) > 0 {
		snap.Metadata.Index, snap.Metadata.Term = proto.Uint64(1), proto.Uint64(1)
		for _, v := range voters {
			snap.Metadata.ConfState.Voters = append(snap.Metadata.ConfState.Voters, uint64(v)+1)
		}
	}
	// Never to have voted is a state, too: a vote that is gone must not pass for it.
	if err := saveProto(fs, path.Join(dir, voteFile), &raftpb.HardState{}); err != nil {
		return err
	}
	return saveProto(fs, path.Join(dir, snapshotFile), snap)
}

// Open reads the member's state from dir.
func Open(fs vfs.FS, dir string, now time.Time) (*Log, Recovery, error) {
	var rec Recovery
	l := &Log{MemoryStorage: raft.NewMemoryStorage(), fs: fs, dir: dir, vote: &raftpb.HardState{}, builder: new(record.Builder)}
	snap := &raftpb.Snapshot{}
	if err := loadProto(fs, path.Join(dir, snapshotFile), snap); err != nil {
		return nil, rec, fmt.Errorf("read metadata snapshot: %w", err)
	}
	if err := loadVote(fs, dir, l.vote); err != nil {
		return nil, rec, err
	}
	l.snapshotIndex = snap.GetMetadata().GetIndex()
	if l.snapshotIndex > 0 {
		if err := l.MemoryStorage.ApplySnapshot(snap); err != nil {
			return nil, rec, fmt.Errorf("load metadata snapshot: %w", err)
		}
	}
	w, walRec, err := wal.Open(fs, dir, wal.Identity{}, walOptions, now) // damage that is no error is met by load
	if err != nil {
		return nil, rec, fmt.Errorf("open metadata log: %w", err)
	}
	l.wal = w
	rec.WAL, rec.SnapshotIndex = walRec, l.snapshotIndex
	if rec.Entries, err = l.load(); err != nil {
		return nil, rec, errors.Join(err, w.Close(now))
	}
	hard := proto.Clone(l.vote).(*raftpb.HardState)
	last, _ := l.LastIndex()
	// The commit index on disk may be behind the snapshot (it is not saved at
	// each step) and must not be ahead of the log.
	hard.Commit = proto.Uint64(min(max(hard.GetCommit(), l.snapshotIndex), last))
	if mutant.On(mutant.AllCommittedAtStart) {
		hard.Commit = proto.Uint64(last)
	}
	if err := l.MemoryStorage.SetHardState(hard); err != nil {
		return nil, rec, err
	}
	return l, rec, nil
}

// The metadata log is synced by Save, and its entries are small.
var walOptions = wal.Options{SegmentBytes: 64 << 20}

// load reads the entries behind the snapshot into memory.
func (l *Log) load() (int, error) {
	next := l.snapshotIndex + 1
	bounds := l.wal.Bounds()
	if uint64(bounds.End) < next {
		// The snapshot is newer than all entries: it came from the leader, and
		// the crash came before the log was emptied for it. Or the log is new.
		if err := l.wal.Reset(kafka.Offset(next), nil); err != nil {
			return 0, fmt.Errorf("begin metadata log at %d: %w", next, err)
		}
		return 0, nil
	}
	if uint64(bounds.Start) > next {
		return 0, fmt.Errorf("%w: metadata log begins at offset %d but the snapshot ends at %d: entries are missing", ErrDamaged, bounds.Start, l.snapshotIndex)
	}
	var buf []byte
	count := 0
	for from := kafka.Offset(next); from < bounds.End; {
		var err error
		if buf, err = l.wal.Read(from, bounds.End, 4<<20, buf[:0]); err != nil {
			return 0, fmt.Errorf("read metadata log at offset %d: %w", from, err)
		}
		for rest := buf; len(rest) > 0; {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return 0, fmt.Errorf("read metadata log at offset %d: %w", from, err)
			}
			e, err := l.decodeEntry(b)
			if err != nil {
				return 0, err
			}
			if err := l.MemoryStorage.Append([]*raftpb.Entry{e}); err != nil {
				return 0, fmt.Errorf("load metadata entry %d: %w", e.GetIndex(), err)
			}
			l.sinceBytes += int64(len(b))
			from = b.NextOffset()
			count++
		}
	}
	return count, nil
}

// SnapshotIndex is the index of the last entry that the snapshot holds.
func (l *Log) SnapshotIndex() uint64 { return l.snapshotIndex }

// SinceSnapshot is the number of entries behind the snapshot, and their bytes
// on disk.
func (l *Log) SinceSnapshot() (entries int, bytes int64) {
	last, _ := l.LastIndex()
	return int(last - l.snapshotIndex), l.sinceBytes
}

// Save persists what a raft.Ready holds. When it returns without an error and
// sync was set, all of it is on disk. Hard may be nil.
func (l *Log) Save(now time.Time, hard *raftpb.HardState, entries []*raftpb.Entry, sync bool) error {
	if err := l.appendEntries(now, entries); err != nil {
		return err
	}
	if sync && len(entries) > 0 && !mutant.On(mutant.MetadataUnsynced) {
		if err := l.wal.Sync(); err != nil {
			return fmt.Errorf("sync entries: %w", err)
		}
	}
	if hard != nil {
		// Only term and vote must survive; the commit index is found again.
		if (hard.GetTerm() != l.vote.GetTerm() || hard.GetVote() != l.vote.GetVote()) && !mutant.On(mutant.VoteUnsaved) {
			if err := saveProto(l.fs, path.Join(l.dir, voteFile), hard); err != nil {
				return fmt.Errorf("save vote: %w", err)
			}
			l.vote = proto.Clone(hard).(*raftpb.HardState)
		}
		if err := l.MemoryStorage.SetHardState(hard); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) appendEntries(now time.Time, entries []*raftpb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if first := kafka.Offset(entries[0].GetIndex()); first < l.wal.Bounds().End {
		if err := l.wal.TruncateFrom(first); err != nil {
			return fmt.Errorf("drop entries from %d, which another leader has replaced: %w", first, err)
		}
	}
	l.buf = l.buf[:0]
	batches := make([]record.Batch, 0, len(entries))
	ends := make([]int, 0, len(entries))
	for _, e := range entries {
		l.buf = l.appendEntry(l.buf, now, e)
		ends = append(ends, len(l.buf))
	}
	begin := 0
	for _, end := range ends {
		batches = append(batches, record.Batch(l.buf[begin:end]))
		begin = end
	}
	if err := l.wal.Append(now, batches...); err != nil {
		return fmt.Errorf("append entries: %w", err)
	}
	l.sinceBytes += int64(len(l.buf))
	return l.MemoryStorage.Append(entries)
}

// ApplySnapshot replaces everything with a snapshot from the leader.
func (l *Log) ApplySnapshot(now time.Time, snap *raftpb.Snapshot) error {
	if err := saveProto(l.fs, path.Join(l.dir, snapshotFile), snap); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	index := snap.GetMetadata().GetIndex()
	if err := l.wal.Reset(kafka.Offset(index+1), nil); err != nil {
		return fmt.Errorf("empty the log: %w", err)
	}
	l.snapshotIndex, l.sinceBytes = index, 0
	return l.MemoryStorage.ApplySnapshot(snap)
}

// Compact makes data, the state after the entry at index, the snapshot, and
// drops all entries but the last keep up to there.
func (l *Log) Compact(now time.Time, index uint64, conf *raftpb.ConfState, data []byte, keep uint64) error {
	if index <= l.snapshotIndex {
		return nil
	}
	snap, err := l.MemoryStorage.CreateSnapshot(index, conf, data)
	if err != nil {
		return fmt.Errorf("make snapshot at %d: %w", index, err)
	}
	if err := saveProto(l.fs, path.Join(l.dir, snapshotFile), snap); err != nil {
		return fmt.Errorf("save snapshot at %d: %w", index, err)
	}
	l.snapshotIndex, l.sinceBytes = index, 0
	if first, _ := l.FirstIndex(); index > keep && index-keep >= first {
		if err := l.MemoryStorage.Compact(index - keep); err != nil {
			return fmt.Errorf("compact entries up to %d: %w", index-keep, err)
		}
	}
	if err := l.wal.Trim(kafka.Offset(index+1), nil); err != nil {
		return fmt.Errorf("trim metadata log to %d: %w", index+1, err)
	}
	return nil
}

// Close ends the use of the log. Nothing may be called after it.
func (l *Log) Close(now time.Time) error { return l.wal.Close(now) }

func (l *Log) appendEntry(dst []byte, now time.Time, e *raftpb.Entry) []byte {
	key := [1]byte{byte(e.GetType())}
	l.builder.Reset(record.BuilderOptions{BaseOffset: kafka.Offset(e.GetIndex()), LeaderEpoch: kafka.LeaderEpoch(e.GetTerm())})
	l.builder.Append(now.UnixMilli(), key[:], e.GetData())
	return append(dst, l.builder.Build()...)
}

func (l *Log) decodeEntry(b record.Batch) (*raftpb.Entry, error) {
	it := b.Records(&l.scratch)
	if !it.Next() || len(it.Record().Key) != 1 {
		return nil, fmt.Errorf("metadata entry %d is malformed: %w", b.BaseOffset(), errors.Join(wal.ErrCorrupt, it.Err()))
	}
	r := it.Record()
	return &raftpb.Entry{
		Index: proto.Uint64(uint64(b.BaseOffset())),
		Term:  proto.Uint64(uint64(b.LeaderEpoch())),
		Type:  raftpb.EntryType(r.Key[0]).Enum(),
		Data:  bytes.Clone(r.Value),
	}, nil
}

func saveProto(fs vfs.FS, name string, m proto.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return statefile.Save(fs, name, data)
}

// loadVote reads the vote. A member has one from its begin on.
func loadVote(fs vfs.FS, dir string, vote *raftpb.HardState) error {
	err := loadProto(fs, path.Join(dir, voteFile), vote)
	switch {
	case errors.Is(err, statefile.ErrNotFound) && mutant.On(mutant.VoteForgotten):
		return nil
	case errors.Is(err, statefile.ErrNotFound):
		return fmt.Errorf("%w: the vote %s is gone", ErrDamaged, path.Join(dir, voteFile))
	case err != nil:
		return fmt.Errorf("read vote: %w", err)
	}
	return nil
}

func loadProto(fs vfs.FS, name string, m proto.Message) error {
	data, err := statefile.Load(fs, name)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

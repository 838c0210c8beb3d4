// Package wal is a segmented, append-only log of record batches, addressed by
// offset: the log of one partition, or of the cluster's metadata.
//
// A log is one directory (docs/formats/wal.md has the bytes):
//
//	segment_00000000000000000000.wal            a header page, then batches one after the other
//	segment_00000000000000000000.offset_index   a sparse index by offset and by timestamp
//	segment_00000000000000081920.wal            begins where the one before it ends
//	segment_00000000000000090000_0000000003.wal rewritten for the third time (Rewrite)
//	checkpoint                                  log start offset, and how far the log is synced
//	state_00000000000000080000.snapshot         SaveState
//	noted_0.snapshot, noted_1.snapshot          NoteState
//	cleaned                                     SaveCleaned
//
// What is written and what is synced. Append puts batches into the system's
// page cache, or large ones into memory from where Sync writes them; Sync makes all that was appended before it durable. Bounds tells
// both ends. Everything below Bounds.Synced survives any crash; of what is
// above it a crash may leave any part.
//
// How a torn tail is told from corruption. The checkpoint holds the recovery
// point: up to which offset, in which segment at which byte, Sync has
// returned. It is written after each Sync (into the page cache, so that it is
// exact after the process was killed) and is itself synced every
// Options.CheckpointBytes, and before anything is truncated or
// trimmed (so that after a loss of power it is at most that far behind). Open
// reads every byte above the recovery point. A bad batch above it is the end of
// what survived: it and all that follows were never synced as far as can be
// known, and are cut off, even when good batches follow, as they do when a disk
// has kept later sectors and lost earlier ones; Recovery says so. Anything
// bad below the recovery point is ErrCorrupt, from Open if it comes across it
// and else from Read, and nothing is cut off. A sealed segment below it that is
// missing, short or another's keeps the log from nothing: Recovery.Damages names
// it, reading it is ErrCorrupt, what is around it can be read, and Repair makes
// it anew.
//
// Invariants: a segment's base offset is the end of the segment before it; the
// last segment is the active one, the only one that is written; the recovery
// point never is ahead of what is synced; nothing is truncated or removed
// before a checkpoint that allows for it is durable.
//
// Sealed segments may be replaced by one that holds less (Rewrite). The new
// file is synced before it gets its name, the name is synced before the files
// that it replaces are removed, and its header says where it ends: Open removes
// what lies below that end. A segment that is written again after a truncation
// has no such end any more.
//
// Locks are taken in this order: Log.changing, Log.syncing, Log.mu, segment.mu.
// No call returns holding one and none is held across a call out of storage.
package wal

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
)

var (
	// ErrCorrupt means that what is on disk is not what was written. The error
	// is a *CorruptError where the place is known.
	ErrCorrupt = errors.New("log is corrupt")
	// ErrForeign means that a file belongs to another partition or another
	// place in the log.
	ErrForeign = errors.New("file belongs to another log")
	// ErrOutOfRange means that the log does not hold the offset.
	ErrOutOfRange = errors.New("offset out of range")
	// ErrFailed means that an fsync has failed before, so that it is unknown
	// what is on disk: the log takes no more changes until it is opened again.
	ErrFailed = errors.New("log has failed")
	// ErrClosed means that the log is closed or deleted.
	ErrClosed = errors.New("log is closed")
	// ErrOrder means that batches do not follow the log's end: an offset or a
	// leader epoch goes backwards.
	ErrOrder = errors.New("batches are out of order")
	// ErrBadBatch means that bytes to append are not a record batch.
	ErrBadBatch = errors.New("not a record batch")
)

// CorruptError says where a log is corrupt.
type CorruptError struct {
	File   string       // path of the segment
	Pos    int64        // in bytes from the begin of the file
	Offset kafka.Offset // that is expected at the place
	Detail string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("log is corrupt: %s at byte %d, offset %d: %s", e.File, e.Pos, e.Offset, e.Detail)
}

// Is makes the error one of ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Identity is whose log it is. It stands in each segment, so that a file that
// was swapped or copied is noticed.
type Identity struct {
	TopicID   kafka.TopicID
	Partition int32
}

// Options tune a log. The zero value of each field means its default.
type Options struct {
	// SegmentBytes is the size in bytes from which a new segment is begun
	// (segment.bytes). An Append is never split, so that a segment is larger
	// when one Append is. Default 1 GiB; at least 8 KiB, at most 2^31-1.
	SegmentBytes int64
	// SegmentMs is the span in ms between the first batch's timestamp in a
	// segment and that of a batch to append from which a new segment is begun
	// (segment.ms). Default 7 days; negative for no limit.
	SegmentMs int64
	// IndexIntervalBytes is how many bytes one index entry stands for
	// (index.interval.bytes). Default 32 KiB, at least 1.
	IndexIntervalBytes int64
	// PreallocateBytesMax limits the space that is reserved ahead of the
	// active segment's end. What is reserved grows with the segment and starts
	// at nothing. Default 32 MiB; negative for none.
	PreallocateBytesMax int64
	// CacheBytes is how much behind the synced end stays in the page cache for
	// readers; what is before it is dropped as the log grows. Default 16 MiB;
	// negative to drop nothing.
	CacheBytes int64
	// DirectBytesMin is the size in bytes from which one Append, or one Read of
	// what is further behind the end than CacheBytes, goes past the page cache.
	// An Append does so only while nobody reads close to the end, and is then in
	// the memory of this process until it is synced. Default 128 KiB; negative
	// for never, as with CacheBytes negative.
	DirectBytesMin int64
	// Memory is what several logs share for such appends, in whole chunks of
	// 1 MiB. It stays the same while a log is open. Default no bound but that an
	// Append which leaves more than 16 MiB to a Sync syncs.
	Memory *Memory
	// UnsyncedBytesMax is how much may be written and not synced; an Append
	// that goes beyond it syncs. It bounds what Open has to read after a
	// crash. Default 64 MiB.
	UnsyncedBytesMax int64
	// CheckpointBytes is how much is appended until the recovery point is made
	// durable in its own right. Default 32 MiB.
	CheckpointBytes int64
	// OpenSegmentsMax is how many segments behind the active one are kept
	// open with their index in memory. Default 4.
	OpenSegmentsMax int
	// SkipReadCRC leaves out the check of each batch's CRC in Read. The
	// structure of batches is checked all the same.
	SkipReadCRC bool
}

const (
	segmentBytesMin = 8 << 10
	segmentBytesMax = 1<<31 - 1
	dropCacheBytes  = 16 << 20
)

func (o Options) withDefaults() Options {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.SegmentBytes, 1<<30)
	set(&o.SegmentMs, 7*24*3600*1000)
	set(&o.IndexIntervalBytes, 32<<10)
	set(&o.PreallocateBytesMax, 32<<20)
	set(&o.CacheBytes, 16<<20)
	set(&o.DirectBytesMin, 128<<10)
	set(&o.UnsyncedBytesMax, 64<<20)
	set(&o.CheckpointBytes, 32<<20)
	if o.OpenSegmentsMax == 0 {
		o.OpenSegmentsMax = 4
	}
	o.SegmentBytes = min(max(o.SegmentBytes, segmentBytesMin), segmentBytesMax)
	o.IndexIntervalBytes = max(o.IndexIntervalBytes, 1)
	o.OpenSegmentsMax = max(o.OpenSegmentsMax, 1)
	return o
}

// pastCache says whether large reads go past the page cache, and large appends
// may be written by the next Sync only.
func (o *Options) pastCache() bool { return o.DirectBytesMin > 0 && o.CacheBytes >= 0 }

// Bounds are the ends of a log. Invariant: Start <= Synced <= End.
type Bounds struct {
	Start  kafka.Offset // log start offset: the first that may be read
	End    kafka.Offset // follows the last that is written
	Synced kafka.Offset // follows the last that is durable
}

// Log is one open log. Reads, Sync and one change may run at the same time;
// changes wait for one another.
type Log struct {
	fs  vfs.FS
	dir string
	id  Identity

	changing sync.Mutex // held by whoever changes the log
	pieces   [][]byte   // of the Append that runs

	rewrites atomic.Int64 // counts those that were begun

	unreserved bool        // the file system cannot reserve space; guarded by changing
	cachedOnly atomic.Bool // the file system has no direct access

	syncing    sync.Mutex // held by whoever syncs, truncates or removes
	checkpoint checkpointFile
	dropped    position // up to where the page cache was dropped

	failure            atomic.Pointer[error]
	start, end, synced atomic.Int64 // written under mu

	mu            sync.Mutex // held for moments, never during I/O on data
	opts          Options
	segments      []*segment // never empty while open; the last is active
	sealed        []*segment // not synced since they were sealed; each holds its file
	opened        []*segment // sealed ones that are open, least recently used first
	unsynced      int64      // bytes appended since the last Sync began
	appended      int64      // bytes since Open
	cachedUntil   int64      // appended up to which appends stay in the page cache for readers
	namesUnsynced bool       // files were made since the last SyncDir
	cuts          uint64     // counts truncations, removals and replacements
	truncations   uint64     // counts truncations and resets
	cleaned       kafka.Offset
	hints         [16]hint
	hintNext      int
	epochs        []EpochStart
	states        []kafka.Offset                // of SaveState, ascending
	noted         [len(notedNames)]kafka.Offset // of NoteState; NoOffset for none, or unknownNote
	now           int64                         // ms, the last that was passed in
	closed        bool
}

// position is a place in a log.
type position struct {
	segment kafka.Offset // base offset of the segment
	pos     int64        // byte in it
	offset  kafka.Offset // of the batch that begins there
}

// Bounds returns the ends of the log. It takes no lock.
func (l *Log) Bounds() Bounds {
	b := Bounds{Synced: kafka.Offset(l.synced.Load()), End: kafka.Offset(l.end.Load()), Start: kafka.Offset(l.start.Load())}
	// A truncation between the loads may have moved one without the other.
	b.End = max(b.End, b.Start)
	b.Synced = min(max(b.Synced, b.Start), b.End)
	return b
}

// Start is the log start offset.
func (l *Log) Start() kafka.Offset { return kafka.Offset(l.start.Load()) }

// Base is where the first segment begins: at the log start offset or before it.
func (l *Log) Base() kafka.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[0].base
}

// End is the offset that follows the last that is written.
func (l *Log) End() kafka.Offset { return kafka.Offset(l.end.Load()) }

// Synced is the offset that follows the last that is durable.
func (l *Log) Synced() kafka.Offset { return l.Bounds().Synced }

// Dir is the directory of the log.
func (l *Log) Dir() string { return l.dir }

// Identity is whose log it is.
func (l *Log) Identity() Identity { return l.id }

// SetOptions changes the options from the next Append on. If nothing is to be
// left in memory any more, what was is written; the error is that of a log that
// has failed.
func (l *Log) SetOptions(opts Options) error {
	opts = opts.withDefaults()
	l.mu.Lock()
	l.opts = opts
	l.mu.Unlock()
	if opts.pastCache() {
		return nil
	}
	l.changing.Lock()
	defer l.changing.Unlock()
	l.mu.Lock()
	s, closed := l.active(), l.closed
	l.mu.Unlock()
	if closed || !s.behind.some() {
		return nil
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	return l.writeOut(s)
}

func (l *Log) options() Options {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opts
}

// Err is nil while the log can be changed, and ErrFailed with its cause after
// an fsync has failed.
func (l *Log) Err() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail makes err fatal to the log.
func (l *Log) fail(doing string, err error) error {
	err = fmt.Errorf("%w: %s: %w", ErrFailed, doing, err)
	l.failure.CompareAndSwap(nil, &err)
	return *l.failure.Load()
}

// usable says why the log cannot be changed, if it cannot.
func (l *Log) usable() error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.isClosed() {
		return ErrClosed
	}
	return nil
}

// isClosed says so of a log that has failed, too.
func (l *Log) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *Log) active() *segment { return l.segments[len(l.segments)-1] }

func (l *Log) clock(now time.Time) {
	if !now.IsZero() {
		l.now = now.UnixMilli()
	}
}

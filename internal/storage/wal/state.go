package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/storage/statefile"
)

const (
	statePrefix = "state_"
	stateSuffix = ".snapshot"
	statesMax   = 3

	// resetStateName is that of the state to be of the log once Reset has begun: the
	// log that is there until then must not take it for its own.
	resetStateName = "state_of_reset"
)

func (l *Log) statePath(offset kafka.Offset) string {
	return filepath.Join(l.dir, offsetName(statePrefix, offset, stateSuffix))
}

// SaveState keeps what its caller knows about all records below the offset,
// the state of producers for instance, durably. The last three are kept, and
// that at the log start, of records that are gone; a truncation below the
// offset drops it, Trim all below the start but the last.
// Truncations is what Log.Truncations was when the log ended at the offset:
// ErrStale means that there was one since, so that the state may be of records
// that are gone.
func (l *Log) SaveState(offset kafka.Offset, state []byte, truncations uint64) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.mayKeepState(offset, truncations); err != nil {
		return err
	}
	return l.saveState(offset, state)
}

func (l *Log) saveState(offset kafka.Offset, state []byte) error {
	if err := statefile.Save(l.fs, l.statePath(offset), state); err != nil {
		return err
	}
	l.mu.Lock()
	if i, found := slices.BinarySearch(l.states, offset); !found {
		l.states = slices.Insert(l.states, i, offset)
	}
	l.mu.Unlock()
	return l.pruneStates(l.Start(), l.End(), offset)
}

// Truncations counts truncations and resets.
func (l *Log) Truncations() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.truncations
}

func (l *Log) mayKeepState(offset kafka.Offset, truncations uint64) error {
	if err := l.usable(); err != nil {
		return err
	}
	if l.Truncations() != truncations {
		return fmt.Errorf("save state at %d: %w", offset, ErrStale)
	}
	if offset < 0 || offset > l.End() {
		return fmt.Errorf("save state at %d: %w: log ends at %d", offset, ErrOutOfRange, l.End())
	}
	return nil
}

// LoadState returns the newest state that was saved or noted at an offset not
// above atMost. Damaged ones are passed over. An error says that one cannot be read
// now, as when too many files are open: it may be the only one that tells of what is
// gone.
func (l *Log) LoadState(atMost kafka.Offset) (offset kafka.Offset, state []byte, ok bool, err error) {
	l.mu.Lock()
	states := slices.Clone(l.states)
	noted := l.noted
	l.mu.Unlock()
	offset = kafka.NoOffset
	for i, o := range noted {
		if o > atMost || o <= offset {
			continue
		}
		if at, b, good := l.loadNote(i); good && at == o {
			offset, state, ok = at, b, true
		}
	}
	for _, o := range slices.Backward(states) {
		if o > atMost {
			continue
		}
		if o < offset { // where there are both, the note is older
			break
		}
		b, err := statefile.Load(l.fs, l.statePath(o))
		if err == nil {
			return o, b, true, nil
		}
		if code := syscall.Errno(0); errors.As(err, &code) && !vfs.Broken(err) && !errors.Is(err, statefile.ErrNotFound) {
			return kafka.NoOffset, nil, false, err
		}
	}
	return offset, state, ok, nil
}

// pruneStates removes the states above the end, those below the start but the
// newest of all, and those beyond the number that is kept but for that at the
// start and those in spare.
func (l *Log) pruneStates(start, end kafka.Offset, spare ...kafka.Offset) error {
	l.mu.Lock()
	var keep, drop []kafka.Offset
	for i, o := range l.states {
		switch {
		case o > end && !mutant.On(mutant.StateKept), i < len(l.states)-1 && o < start, i < len(l.states)-statesMax && o != start && !slices.Contains(spare, o):
			drop = append(drop, o)
		default:
			keep = append(keep, o)
		}
	}
	l.states = keep
	above := len(drop) > 0 && slices.Max(drop) > end
	l.mu.Unlock()
	some, err := l.dropNotes(func(o kafka.Offset) bool { return o > end && !mutant.On(mutant.StateKept) })
	if err != nil {
		return err
	}
	above = above || some
	for _, o := range drop {
		if err := l.fs.Remove(l.statePath(o)); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return fmt.Errorf("remove state: %w", err)
		}
	}
	if above {
		// One that comes back after a crash would be of records that are gone.
		return l.fs.SyncDir(l.dir)
	}
	return nil
}

// dropStates removes all states, durably, but the one at start if that is of the
// log that begins there now: the one that Reset has saved.
func (l *Log) dropStates(start kafka.Offset, keep bool) error {
	l.mu.Lock()
	drop := l.states
	l.states = nil
	if keep {
		l.states = []kafka.Offset{start}
	}
	l.mu.Unlock()
	for _, o := range drop {
		if keep && o == start {
			continue
		}
		if err := l.fs.Remove(l.statePath(o)); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return fmt.Errorf("remove state: %w", err)
		}
	}
	if _, err := l.dropNotes(func(kafka.Offset) bool { return true }); err != nil {
		return err
	}
	if keep {
		if err := l.adoptState(start); err != nil {
			return err
		}
	}
	return l.fs.SyncDir(l.dir)
}

// adoptState makes the state that Reset has saved that of the log, unless a process
// that has ended has done it. It is not renamed: of that a crash may leave no name.
// One that is damaged is damage of the log, which can be copied anew.
func (l *Log) adoptState(start kafka.Offset) error {
	b, err := statefile.Load(l.fs, l.resetState())
	if errors.Is(err, statefile.ErrNotFound) {
		return nil
	}
	if errors.Is(err, statefile.ErrCorrupt) {
		return &CorruptError{l.resetState(), 0, start, err.Error()}
	}
	if err == nil {
		err = statefile.Save(l.fs, l.statePath(start), b)
	}
	if err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	return nil
}

func (l *Log) resetState() string { return filepath.Join(l.dir, resetStateName) }

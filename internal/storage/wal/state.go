package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/storage/statefile"
)

const (
	statePrefix = "state_"
	stateSuffix = ".snapshot"
	statesMax   = 3
)

func (l *Log) statePath(offset kafka.Offset) string {
	return filepath.Join(l.dir, offsetName(statePrefix, offset, stateSuffix))
}

// SaveState keeps what its caller knows about all records below the offset,
// the state of producers for instance, durably. The last three are kept; a
// truncation below the offset drops it, Trim all below the start but the last.
func (l *Log) SaveState(offset kafka.Offset, state []byte) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if offset < 0 || offset > l.End() {
		return fmt.Errorf("save state at %d: %w: log ends at %d", offset, ErrOutOfRange, l.End())
	}
	if err := statefile.Save(l.fs, l.statePath(offset), state); err != nil {
		return err
	}
	l.mu.Lock()
	if i, found := slices.BinarySearch(l.states, offset); !found {
		l.states = slices.Insert(l.states, i, offset)
	}
	l.mu.Unlock()
	return l.pruneStates(l.Start(), l.End())
}

// LoadState returns the newest state that was saved at an offset not above
// atMost. Damaged ones are passed over.
func (l *Log) LoadState(atMost kafka.Offset) (offset kafka.Offset, state []byte, ok bool) {
	l.mu.Lock()
	states := slices.Clone(l.states)
	l.mu.Unlock()
	for _, o := range slices.Backward(states) {
		if o > atMost {
			continue
		}
		if b, err := statefile.Load(l.fs, l.statePath(o)); err == nil {
			return o, b, true
		}
	}
	return 0, nil, false
}

// pruneStates removes the states above the end, those below the start but the
// newest of all, and those beyond the number that is kept.
func (l *Log) pruneStates(start, end kafka.Offset) error {
	l.mu.Lock()
	var keep, drop []kafka.Offset
	for i, o := range l.states {
		switch {
		case o > end, i < len(l.states)-1 && o < start:
			drop = append(drop, o)
		default:
			keep = append(keep, o)
		}
	}
	if n := len(keep) - statesMax; n > 0 {
		drop = append(drop, keep[:n]...)
		keep = keep[n:]
	}
	l.states = keep
	l.mu.Unlock()
	for _, o := range drop {
		if err := l.fs.Remove(l.statePath(o)); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return fmt.Errorf("remove state: %w", err)
		}
	}
	return nil
}

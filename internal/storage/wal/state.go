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
	return l.keepState(offset, state, true)
}

// NoteState is SaveState without waiting for the disk: what it keeps is there
// after the process was killed, and may be lost with the power. LoadState then
// finds one from before.
func (l *Log) NoteState(offset kafka.Offset, state []byte) error {
	return l.keepState(offset, state, false)
}

func (l *Log) keepState(offset kafka.Offset, state []byte, durable bool) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if offset < 0 || offset > l.End() {
		return fmt.Errorf("save state at %d: %w: log ends at %d", offset, ErrOutOfRange, l.End())
	}
	l.mu.Lock()
	known := offset == l.stateSaved && slices.Contains(l.states, offset)
	l.mu.Unlock()
	if known && !durable {
		return nil
	}
	if err := l.writeState(offset, state, durable); err != nil {
		return err
	}
	l.mu.Lock()
	if durable {
		l.stateSaved = offset
	}
	if i, found := slices.BinarySearch(l.states, offset); !found {
		l.states = slices.Insert(l.states, i, offset)
	}
	l.mu.Unlock()
	return l.pruneStates(l.Start(), l.End())
}

func (l *Log) writeState(offset kafka.Offset, state []byte, durable bool) error {
	name := l.statePath(offset)
	if durable {
		return statefile.Save(l.fs, name, state)
	}
	// Kill -9 may end a write half way, so the name comes last.
	f, err := l.fs.Open(name+tempSuffix, vfs.ReadWrite|vfs.Create|vfs.Truncate)
	if err == nil {
		_, err = f.WriteAt(statefile.Encode(state), 0)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		err = l.fs.Rename(name+tempSuffix, name)
	}
	if err != nil {
		_ = l.fs.Remove(name + tempSuffix)
		return fmt.Errorf("note %s: %w", name, err)
	}
	return nil
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
// newest of all, and those beyond the number that is kept, but for the newest
// that is known to be durable.
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
	for len(keep) > statesMax {
		i := 0
		// Until one has been saved, that may be the oldest as well as another.
		if l.stateSaved <= keep[0] {
			i = 1
		}
		drop = append(drop, keep[i])
		keep = slices.Delete(keep, i, i+1)
	}
	l.states = keep
	if slices.Contains(drop, l.stateSaved) {
		l.stateSaved = kafka.NoOffset
	}
	above := len(drop) > 0 && slices.Max(drop) > end
	l.mu.Unlock()
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

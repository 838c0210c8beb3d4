package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/storage/statefile"
)

// States that need not survive a loss of power are written in turns to two
// files that stay: making a file costs more than what is in these.

// unknownNote stands for the offset of a note whose file holds nobody knows
// what: it may be one from before. It is above every end, so that a truncation
// removes it.
const unknownNote kafka.Offset = math.MaxInt64

var notedNames = [...]string{"noted_0" + stateSuffix, "noted_1" + stateSuffix}

func (l *Log) notedPath(i int) string { return filepath.Join(l.dir, notedNames[i]) }

// NoteState is SaveState without waiting for the disk: what it keeps is there
// after the process was killed, and may be lost with the power. LoadState then
// finds one from before.
func (l *Log) NoteState(offset kafka.Offset, state []byte, truncations uint64) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.mayKeepState(offset, truncations); err != nil {
		return err
	}
	l.mu.Lock()
	oldest := 0
	for i, o := range l.noted {
		if o == unknownNote || o < l.noted[oldest] && l.noted[oldest] != unknownNote {
			oldest = i
		}
	}
	known := slices.Contains(l.states, offset) || offset == l.noted[1-oldest]
	if !known {
		l.noted[oldest] = unknownNote
	}
	l.mu.Unlock()
	if known {
		return nil
	}
	// Kill -9 may end the write half way; the other file is whole.
	if err := l.writeNote(oldest, offset, state); err != nil {
		return fmt.Errorf("note %s: %w", l.notedPath(oldest), err)
	}
	l.mu.Lock()
	l.noted[oldest] = offset
	l.mu.Unlock()
	return nil
}

func (l *Log) writeNote(i int, offset kafka.Offset, state []byte) error {
	f, err := l.fs.Open(l.notedPath(i), vfs.ReadWrite|vfs.Create)
	if err != nil {
		return err
	}
	defer f.Close()
	value := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(state)), uint64(offset))
	b := statefile.Encode(append(value, state...))
	size, err := f.Size()
	if err == nil && size > int64(len(b)) {
		err = f.Truncate(int64(len(b)))
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	return err
}

// findNote takes in a note that Open has found.
func (l *Log) findNote(i int) {
	l.noted[i] = unknownNote
	if o, _, ok := l.loadNote(i); ok {
		l.noted[i] = o
	}
}

// loadNote reads a note. One that is damaged is none.
func (l *Log) loadNote(i int) (offset kafka.Offset, state []byte, ok bool) {
	b, err := statefile.Load(l.fs, l.notedPath(i))
	if err != nil || len(b) < 8 {
		return kafka.NoOffset, nil, false
	}
	return kafka.Offset(binary.BigEndian.Uint64(b)), b[8:], true
}

// dropNotes removes the notes of which drop says so, not yet durably.
func (l *Log) dropNotes(drop func(offset kafka.Offset) bool) (some bool, err error) {
	l.mu.Lock()
	noted := l.noted
	l.mu.Unlock()
	for i, o := range noted {
		if o == kafka.NoOffset || !drop(o) {
			continue
		}
		some = true
		if err := l.fs.Remove(l.notedPath(i)); err != nil && !errors.Is(err, vfs.ErrNotExist) {
			return some, fmt.Errorf("remove state: %w", err)
		}
		l.mu.Lock()
		l.noted[i] = kafka.NoOffset
		l.mu.Unlock()
	}
	return some, nil
}

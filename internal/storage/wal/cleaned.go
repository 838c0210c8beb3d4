package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/storage/statefile"
)

// cleanedName is a state file that holds one offset, 8 bytes big-endian.
const (
	cleanedName = "cleaned"
	tempSuffix  = ".tmp"
)

// Cleaned is the offset up to which compaction has looked at the log, as
// SaveCleaned was told; a truncation below it lowers it.
func (l *Log) Cleaned() kafka.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return min(max(l.cleaned, l.Start()), l.End())
}

// SaveCleaned keeps the offset for Cleaned, durably. Truncations is what
// Log.Truncations was before it was looked at: ErrStale means that there was one
// since, so that others may be below the offset now.
func (l *Log) SaveCleaned(offset kafka.Offset, truncations uint64) error {
	l.changing.Lock()
	defer l.changing.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if l.Truncations() != truncations {
		return fmt.Errorf("save how far it is compacted: %w", ErrStale)
	}
	return l.saveCleaned(min(offset, l.End()))
}

// saveCleaned is SaveCleaned with changing held.
func (l *Log) saveCleaned(offset kafka.Offset) error {
	if err := statefile.Save(l.fs, filepath.Join(l.dir, cleanedName), binary.BigEndian.AppendUint64(nil, uint64(offset))); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cleaned = offset
	return nil
}

// lowerCleaned goes before a truncation: what is written behind it has not
// been looked at.
func (l *Log) lowerCleaned(offset kafka.Offset) error {
	l.mu.Lock()
	cleaned := l.cleaned
	l.mu.Unlock()
	if cleaned <= offset {
		return nil
	}
	err := l.saveCleaned(offset)
	if !errors.Is(err, vfs.ErrNoSpace) {
		return err
	}
	// The file that is there is in one sector: a crash leaves it as it was or as it
	// should be.
	if err := l.overwriteCleaned(offset); err != nil {
		return fmt.Errorf("overwrite %s: %w", cleanedName, err)
	}
	l.mu.Lock()
	l.cleaned = offset
	l.mu.Unlock()
	return nil
}

func (l *Log) overwriteCleaned(offset kafka.Offset) error {
	f, err := l.fs.Open(filepath.Join(l.dir, cleanedName), vfs.ReadWrite)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(statefile.Encode(binary.BigEndian.AppendUint64(nil, uint64(offset))), 0); err != nil {
		return err
	}
	return f.Sync()
}

// dropCleaned forgets it. The directory is not synced.
func (l *Log) dropCleaned() error {
	l.mu.Lock()
	l.cleaned = 0
	l.mu.Unlock()
	if err := l.fs.Remove(filepath.Join(l.dir, cleanedName)); err != nil && !errors.Is(err, vfs.ErrNotExist) {
		return err
	}
	return nil
}

// loadCleaned takes a damaged file for none: compaction begins anew.
func (l *Log) loadCleaned() {
	b, err := statefile.Load(l.fs, filepath.Join(l.dir, cleanedName))
	if err == nil && len(b) == 8 {
		l.cleaned = kafka.Offset(binary.BigEndian.Uint64(b))
	}
}

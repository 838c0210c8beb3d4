package wal

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"chronik/internal/base/vfs"
)

// ReadIdentity says whose log is in dir, by the header of its first segment
// that can be read. Ok is false when there is no segment, as in a directory
// that was made just before a crash.
func ReadIdentity(fs vfs.FS, dir string) (id Identity, ok bool, err error) {
	entries, err := fs.List(dir)
	if err != nil {
		return id, false, fmt.Errorf("list %s: %w", dir, err)
	}
	var errs []error
	for _, e := range entries {
		if _, _, isSegment := parseSegmentName(e.Name, segmentSuffix); e.Dir || !isSegment {
			continue
		}
		h, err := readIdentity(fs, filepath.Join(dir, e.Name))
		if err == nil {
			return h, true, nil
		}
		errs = append(errs, err)
	}
	return id, false, errors.Join(errs...)
}

func readIdentity(fs vfs.FS, name string) (Identity, error) {
	f, err := fs.Open(name, vfs.ReadOnly)
	if err != nil {
		return Identity{}, err
	}
	defer f.Close()
	var b [headerSize]byte
	n, err := readFull(f, b[:], 0)
	if err != nil {
		return Identity{}, fmt.Errorf("read header of %s: %w", name, err)
	}
	h, err := decodeHeader(b[:n])
	if err != nil {
		return Identity{}, &CorruptError{name, 0, 0, err.Error()}
	}
	return h.id, nil
}

// HoldsNothing says whether dir is of a log of which nothing is left and of which
// nothing says that there was anything, as after a loss of power before its first
// Sync: no segment has a byte, the checkpoint, if there is one, is as it was made,
// and there is nothing else in it. Whose it was cannot be known.
func HoldsNothing(fs vfs.FS, dir string) (bool, error) {
	entries, err := fs.List(dir)
	if err != nil {
		return false, fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name)
		switch base, _, isSegment := parseSegmentName(e.Name, segmentSuffix); {
		case e.Dir:
			return false, nil
		case isSegment:
			if info, err := fs.Stat(name); err != nil || info.Size > 0 || base > 0 {
				return false, err
			}
		case e.Name == checkpointName:
			b, err := vfs.ReadFile(fs, name)
			if err != nil {
				return false, err
			}
			if ck, _, found := decodeCheckpoint(b); found && ck.seq > firstSeq || !found && len(bytes.Trim(b, "\x00")) > 0 {
				return false, nil
			}
		default:
			return false, nil
		}
	}
	return true, nil
}

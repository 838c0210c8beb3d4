package wal

import (
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

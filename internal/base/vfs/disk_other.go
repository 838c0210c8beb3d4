//go:build !linux

package vfs

import (
	"errors"
	"syscall"
)

// errCorruptFS is what file systems say whose own data are damaged.
const errCorruptFS = syscall.EIO

func (f *diskFile) WriteVAt(pieces [][]byte, off int64) (int, error) {
	total := 0
	for _, p := range pieces {
		n, err := f.WriteAt(p, off+int64(total))
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// directFile is of no use here.
type directFile struct{}

func (*directFile) close() error { return nil }

func (f *diskFile) ReadDirectAt([]byte, int64) (int, error) { return 0, ErrNotDirect }

func (f *diskFile) WriteDirectAt([]byte, int64) (int, error) { return 0, ErrNotDirect }

func (f *diskFile) Preallocate(off, length int64) error { return errors.ErrUnsupported }

func (f *diskFile) DropCache(off, length int64) error { return nil }

// NewRegion makes a Region of size bytes, a multiple of HugePage.
func NewRegion(size int) *Region { return &Region{Bytes: DirectBuffer(size)} }

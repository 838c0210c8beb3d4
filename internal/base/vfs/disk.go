package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Disk is the real file system. Its zero value is ready for use.
type Disk struct{}

var _ FS = Disk{}

// mapError makes a full disk recognizable; it keeps what the system said.
func mapError(err error) error {
	if err != nil && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// Broken says whether an error is of a disk or file system that has failed and
// will go on to: not of one that is full, nor of too many open files.
func Broken(err error) bool {
	if errors.Is(err, ErrBroken) {
		return true
	}
	for _, code := range []syscall.Errno{syscall.EIO, syscall.EROFS, syscall.ENXIO, syscall.ENODEV, errCorruptFS} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// Open opens or makes a file.
func (Disk) Open(name string, flags Flags) (File, error) {
	mode := os.O_RDONLY
	if flags&ReadWrite != 0 {
		mode = os.O_RDWR
	}
	if flags&Create != 0 {
		mode |= os.O_CREATE
	}
	if flags&Exclusive != 0 {
		mode |= os.O_EXCL
	}
	if flags&Truncate != 0 {
		mode |= os.O_TRUNC
	}
	f, err := os.OpenFile(name, mode, 0o640)
	if err != nil {
		return nil, mapError(err)
	}
	return newDiskFile(f)
}

// MkdirAll makes a directory and those above it.
func (Disk) MkdirAll(dir string) error { return mapError(os.MkdirAll(dir, 0o750)) }

// Remove removes a file or an empty directory.
func (Disk) Remove(name string) error { return os.Remove(name) }

// RemoveAll removes a file or a directory with all in it.
func (Disk) RemoveAll(name string) error { return os.RemoveAll(name) }

// Rename renames a file or directory.
func (Disk) Rename(from, to string) error { return mapError(os.Rename(from, to)) }

// List returns the entries of a directory, sorted by name.
func (Disk) List(dir string) ([]Entry, error) {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, len(found))
	for i, e := range found {
		out[i] = Entry{Name: e.Name(), Dir: e.IsDir()}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Stat describes a file or directory.
func (Disk) Stat(name string) (Info, error) {
	i, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	return Info{Size: i.Size(), Dir: i.IsDir()}, nil
}

// SyncDir makes the names in the directory durable.
func (Disk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// Lock takes an advisory lock on the file name (flock), which the system lets
// go when the process ends.
func (Disk) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, mapError(err)
	}
	if err := flock(f); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
		}
		return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	return f, nil
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			return err
		}
	}
}

// Space is the size of the file system, and what is left of it for an
// ordinary user.
func (Disk) Space(dir string) (total, free int64, err error) {
	var s syscall.Statfs_t
	for {
		err := syscall.Statfs(dir, &s)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
		}
		//nolint:unconvert // the types differ between systems
		return int64(s.Blocks) * int64(s.Bsize), int64(s.Bavail) * int64(s.Bsize), nil
	}
}

// diskFile is a file of Disk. The system-dependent calls go through raw, which
// keeps the descriptor from being closed, and reused, under them.
type diskFile struct {
	*os.File
	raw    syscall.RawConn
	direct directFile
}

var _ File = (*diskFile)(nil)

func newDiskFile(f *os.File) (File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &diskFile{File: f, raw: raw}, nil
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(b, off)
	return n, mapError(err)
}

func (f *diskFile) Close() error {
	return errors.Join(f.File.Close(), f.direct.close())
}

func (f *diskFile) Truncate(size int64) error { return mapError(f.File.Truncate(size)) }

func (f *diskFile) Size() (int64, error) {
	i, err := f.File.Stat()
	if err != nil {
		return 0, err
	}
	return i.Size(), nil
}

// call runs a system call on the descriptor until it is not interrupted.
func (f *diskFile) call(op string, do func(fd int) error) error {
	var err error
	cerr := f.raw.Control(func(fd uintptr) {
		for {
			if err = do(int(fd)); err != syscall.EINTR {
				return
			}
		}
	})
	if cerr != nil {
		return cerr
	}
	if err != nil {
		return mapError(&fs.PathError{Op: op, Path: f.Name(), Err: err})
	}
	return nil
}

// Package vfs is the file operations that storage uses, as an interface: on
// the real disk, on a disk in memory that can lose power, or with faults.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
	"unsafe"
)

// Flags say how Open opens a file. Without ReadWrite it is read-only.
type Flags int

// The ways to open a file.
const (
	ReadOnly  Flags = 0
	ReadWrite Flags = 1 << iota
	Create          // make the file if it is not there; needs ReadWrite
	Exclusive       // with Create: the file must not be there yet
	Truncate        // cut the file to nothing; needs ReadWrite
)

// Errors that callers tell apart. ErrNotExist and ErrExist are those of io/fs.
var (
	ErrNotExist = fs.ErrNotExist
	ErrExist    = fs.ErrExist
	// ErrLocked means that another process, or this one, holds the lock.
	ErrLocked = errors.New("locked by another process")
	// ErrNoSpace means that the disk is full. Disk wraps it around the
	// system's own error.
	ErrNoSpace = errors.New("no space left on device")
	// ErrBroken is what implementations without a system wrap where a real
	// disk would be broken. Ask Broken.
	ErrBroken = errors.New("disk is broken")
	// ErrNotDirect means that a file system has no reads and writes past the
	// page cache, or wants them aligned otherwise. Nothing was done.
	ErrNotDirect = errors.New("no direct access to this file")
)

// DirectAlign is what addresses, offsets and lengths of direct reads and
// writes are multiples of.
const DirectAlign = 4096

// DirectBuffer returns size bytes, a multiple of DirectAlign, whose address is
// one, too.
func DirectBuffer(size int) []byte {
	b := make([]byte, size+DirectAlign)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % DirectAlign
	return b[skip:][:size:size]
}

// HugePage is a size in bytes that systems map at once if they are asked to.
const HugePage = 2 << 20

// Region is memory for direct reads and writes. Whoever uses Bytes must hold
// the Region: without it they are given back to the system.
type Region struct {
	Bytes []byte
}

// directAligned says whether a direct read or write may have this.
func directAligned(b []byte, off int64) bool {
	return (uintptr(unsafe.Pointer(unsafe.SliceData(b)))|uintptr(len(b))|uintptr(off))%DirectAlign == 0
}

// Info is what Stat tells of a file or directory.
type Info struct {
	Size int64 // bytes; of no meaning for a directory
	Dir  bool
}

// Entry is one name in a directory.
type Entry struct {
	Name string // without the directory
	Dir  bool
}

// FS is a file system. Names are paths in the system's notation; what they
// are relative to is the implementation's affair. All methods may be called
// at the same time from several goroutines.
//
// Nothing that an FS or a File does is durable until Sync, for the content and
// size of a file, or SyncDir, for the names in a directory, has returned
// without an error. After a loss of power any part of what was not synced may
// be there or not.
type FS interface {
	// Open opens or makes a file.
	Open(name string, flags Flags) (File, error)
	// MkdirAll makes a directory and those above it that are missing.
	MkdirAll(dir string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a file or a directory with all in it. It is no error
	// when there is none.
	RemoveAll(name string) error
	// Rename renames a file or directory and replaces a file of the new name.
	Rename(from, to string) error
	// List returns the entries of a directory, sorted by name.
	List(dir string) ([]Entry, error)
	// Stat describes a file or directory.
	Stat(name string) (Info, error)
	// SyncDir makes the names in the directory durable.
	SyncDir(dir string) error
	// Lock takes the lock file name, making it if necessary, until the result
	// is closed or the process ends. ErrLocked means that it is taken.
	Lock(name string) (io.Closer, error)
	// Space is the size of the file system that dir is on, and what is left of
	// it for files in dir, in bytes.
	Space(dir string) (total, free int64, err error)
}

// File is an open file. ReadAt, WriteAt and Sync may be called at the same
// time from several goroutines.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// ReadDirectAt is ReadAt past the page cache: what is read takes no memory
	// but b, whose length and address, like off, are multiples of DirectAlign.
	// ErrNotDirect means that this file can be read through the cache only.
	ReadDirectAt(b []byte, off int64) (int, error)
	// WriteDirectAt is WriteAt past the page cache, for which the same holds.
	// What it has written is seen by every read that begins afterwards, and is
	// not durable before Sync.
	WriteDirectAt(b []byte, off int64) (int, error)
	// WriteVAt writes the pieces one after the other from off on, with one
	// system call where the system can. It leaves pieces as it was.
	WriteVAt(pieces [][]byte, off int64) (int, error)
	// Sync makes content and size durable (fdatasync). After an error it is
	// unknown what is on disk, and a later Sync that returns nil proves
	// nothing about it.
	Sync() error
	// Truncate sets the size. Space that was preallocated beyond it is given
	// back.
	Truncate(size int64) error
	// Size is the size in bytes.
	Size() (int64, error)
	// Preallocate reserves space for length bytes from off on and leaves the
	// size as it is: writes there do not meet a full disk. Where the system
	// cannot do that the error is errors.ErrUnsupported.
	Preallocate(off, length int64) error
	// DropCache tells the system that the bytes will not be read soon. Only
	// synced bytes are dropped.
	DropCache(off, length int64) error
}

// ReadFile returns what the file holds.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name, ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// MkdirAllSync makes the directory and those above it that are missing, and
// makes their names durable. What is found counts as durable.
func MkdirAllSync(fsys FS, dir string) error { return mkdirAll(fsys, dir, false) }

// MkdirDurable is MkdirAllSync where what is found does not count as durable: a
// process that made it may have ended before it had synced the name.
func MkdirDurable(fsys FS, dir string) error { return mkdirAll(fsys, dir, true) }

func mkdirAll(fsys FS, dir string, syncFound bool) error {
	parent := filepath.Dir(dir)
	switch info, err := fsys.Stat(dir); {
	case err == nil && info.Dir && !syncFound:
		return nil
	case err == nil && info.Dir:
		err = fsys.SyncDir(parent)
		switch {
		case errors.Is(err, fs.ErrPermission): // nor could this user have made it
		case errors.Is(err, syscall.EINVAL), errors.Is(err, errors.ErrUnsupported): // a mount point, below what knows no sync
		default:
			return err
		}
		return nil
	case err != nil && !errors.Is(err, ErrNotExist):
		return err
	}
	if parent != dir {
		if err := mkdirAll(fsys, parent, syncFound); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}

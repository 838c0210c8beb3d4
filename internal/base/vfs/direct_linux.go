package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// NewRegion makes a Region of size bytes, a multiple of HugePage, in huge pages
// where the system has some: it looks up and holds each page of a direct write,
// which costs a tenth if there is one where there were 512.
func NewRegion(size int) *Region {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return &Region{Bytes: DirectBuffer(size)}
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // small ones do as well
	r := &Region{Bytes: b}
	runtime.AddCleanup(r, func(b []byte) { _ = unix.Munmap(b) }, b)
	return r
}

// directFile is the second descriptor of a file, for access past the page
// cache. It is opened when it is first needed.
type directFile struct {
	mu      sync.Mutex
	file    *os.File
	refused bool // by the file system
}

func (d *directFile) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = true
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	d.file = nil
	return err
}

// open opens the descriptor through /proc, so that it is of the same file
// whatever has happened to its name.
func (d *directFile) open(f *diskFile) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused {
		return nil, nil
	}
	if d.file != nil {
		return d.file, nil
	}
	fd := -1
	err := f.call("open direct", func(first int) (err error) {
		mode, err := unix.FcntlInt(uintptr(first), unix.F_GETFL, 0)
		if err == nil {
			fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", first), mode&unix.O_ACCMODE|unix.O_DIRECT|unix.O_CLOEXEC, 0)
		}
		return err
	})
	switch {
	case errors.Is(err, fs.ErrClosed):
		return nil, err
	case err != nil:
		d.refused = true
		return nil, nil
	}
	d.file = os.NewFile(uintptr(fd), f.Name())
	return d.file, nil
}

// try runs a direct read or write, and what it leaves through the cache: the
// end of a file need not be aligned. EINVAL is what a file system says to an
// alignment that it does not like.
func (f *diskFile) try(b []byte, off int64, do func(f *os.File, b []byte, off int64) (int, error)) (int, error) {
	if !directAligned(b, off) {
		return 0, &fs.PathError{Op: "direct access", Path: f.Name(), Err: fs.ErrInvalid}
	}
	file, err := f.direct.open(f)
	if err != nil {
		return 0, err
	}
	if file == nil {
		return 0, ErrNotDirect
	}
	n, err := do(file, b, off)
	if !errors.Is(err, unix.EINVAL) {
		return n, mapError(err)
	}
	if n == 0 {
		f.direct.refuse()
		return 0, ErrNotDirect
	}
	m, err := do(f.File, b[n:], off+int64(n))
	return n + m, mapError(err)
}

func (d *directFile) refuse() {
	d.mu.Lock()
	d.refused = true
	d.mu.Unlock()
}

func (f *diskFile) ReadDirectAt(b []byte, off int64) (int, error) {
	return f.try(b, off, (*os.File).ReadAt)
}

func (f *diskFile) WriteDirectAt(b []byte, off int64) (int, error) {
	return f.try(b, off, (*os.File).WriteAt)
}

package vfs

import (
	"io"

	"golang.org/x/sys/unix"
)

// errCorruptFS is what file systems say whose own data are damaged.
const errCorruptFS = unix.EUCLEAN

// iovMax is the greatest number of pieces that pwritev takes.
const iovMax = 1024

func (f *diskFile) WriteVAt(pieces [][]byte, off int64) (int, error) {
	if len(pieces) == 1 {
		return f.WriteAt(pieces[0], off)
	}
	total := 0
	for len(pieces) > 0 {
		some := pieces[:min(len(pieces), iovMax)]
		want := 0
		for _, p := range some {
			want += len(p)
		}
		n := 0
		err := f.call("pwritev", func(fd int) (err error) {
			n, err = unix.Pwritev(fd, some, off+int64(total))
			return err
		})
		n = max(n, 0)
		total += n
		if err != nil {
			return total, err
		}
		if n < want {
			m, err := f.writeRest(some, n, off+int64(total))
			total += m
			if err != nil {
				return total, err
			}
		}
		pieces = pieces[len(some):]
	}
	return total, nil
}

// writeRest writes what a short pwritev left: all but the first done bytes.
func (f *diskFile) writeRest(pieces [][]byte, done int, off int64) (int, error) {
	total := 0
	for _, p := range pieces {
		if done >= len(p) {
			done -= len(p)
			continue
		}
		n, err := f.WriteAt(p[done:], off+int64(total))
		done = 0
		total += n
		if err != nil {
			return total, err
		}
	}
	if total == 0 {
		return 0, io.ErrShortWrite
	}
	return total, nil
}

func (f *diskFile) Sync() error { return f.call("fdatasync", unix.Fdatasync) }

func (f *diskFile) Preallocate(off, length int64) error {
	return f.call("fallocate", func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, length)
	})
}

func (f *diskFile) DropCache(off, length int64) error {
	if length <= 0 { // to the system it means up to the file's end
		return nil
	}
	return f.call("fadvise", func(fd int) error {
		return unix.Fadvise(fd, off, length, unix.FADV_DONTNEED)
	})
}

package vfs

import (
	"io"
	"io/fs"
	"slices"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	n        *memNode
	name     string
	writable bool
	closed   bool
}

var _ File = (*memFile)(nil)

// enter locks the disk, unless the file cannot be used.
func (f *memFile) enter(op string, write bool) error {
	f.m.mu.Lock()
	if f.closed {
		f.m.mu.Unlock()
		return f.m.fail(op, f.name, fs.ErrClosed)
	}
	if write && !f.writable {
		f.m.mu.Unlock()
		return f.m.fail(op, f.name, fs.ErrPermission)
	}
	return nil
}

func (f *memFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.enter("read", false); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	if off < 0 {
		return 0, f.m.fail("read", f.name, fs.ErrInvalid)
	}
	n := 0
	if off < int64(len(f.n.data)) {
		n = copy(b, f.n.data[off:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.enter("write", true); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return f.write(b, off)
}

func (f *memFile) write(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.m.fail("write", f.name, fs.ErrInvalid)
	}
	var full error
	end, size := off+int64(len(b)), int64(len(f.n.data))
	if grow := end - size; f.m.limit > 0 && grow > 0 && f.m.used+grow > f.m.limit {
		full = f.m.fail("write", f.name, ErrNoSpace)
		end = max(off, size+max(0, f.m.limit-f.m.used))
		b = b[:min(int64(len(b)), end-off)]
		if len(b) == 0 {
			return 0, full
		}
	}
	f.n.keepOld(off, int64(len(b)))
	if end > size {
		f.m.truncate(f.n, end)
	}
	return copy(f.n.data[off:], b), full
}

func (f *memFile) ReadDirectAt(b []byte, off int64) (int, error) {
	if !directAligned(b, off) {
		return 0, f.m.fail("read direct", f.name, fs.ErrInvalid)
	}
	n, err := f.ReadAt(b, off)
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	for s, disk := range f.n.lost { // what the disk has, not the page cache
		if lo := s*SectorSize - off; lo >= 0 && lo < int64(n) {
			hi := min(lo+SectorSize, int64(n))
			clear(b[lo:hi])
			copy(b[lo:hi], disk)
		}
	}
	return n, err
}

func (f *memFile) WriteDirectAt(b []byte, off int64) (int, error) {
	if !directAligned(b, off) {
		return 0, f.m.fail("write direct", f.name, fs.ErrInvalid)
	}
	return f.WriteAt(b, off)
}

func (f *memFile) WriteVAt(pieces [][]byte, off int64) (int, error) {
	if err := f.enter("write", true); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	total := 0
	for _, p := range pieces {
		n, err := f.write(p, off+int64(total))
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (f *memFile) Sync() error {
	if err := f.enter("sync", false); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	clear(f.n.old)
	f.n.sizeSynced = int64(len(f.n.data))
	return nil
}

// FailSync is a Sync that the disk fails, as file systems take it: what was to be
// written is in the page cache, where it counts as clean, and not on the disk.
// Syncs that follow write nothing of it. A sector that is written again is.
func (f *memFile) FailSync() error {
	if err := f.enter("sync", false); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	n := f.n
	if n.lost == nil {
		n.lost = map[int64][]byte{}
	}
	for s, old := range n.old {
		if s*SectorSize < int64(len(n.data)) { // else it was cut off, and is another when the file grows
			n.lost[s] = old
		}
	}
	for s := n.sizeSynced / SectorSize; s*SectorSize < int64(len(n.data)); s++ {
		if _, ok := n.lost[s]; !ok {
			n.lost[s] = slices.Clone(n.data[s*SectorSize : max(s*SectorSize, min(n.sizeSynced, int64(len(n.data))))])
		}
	}
	clear(n.old)
	n.sizeSynced = int64(len(n.data))
	return f.m.fail("sync", f.name, ErrBroken)
}

func (f *memFile) Truncate(size int64) error {
	if err := f.enter("truncate", true); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	if grow := size - int64(len(f.n.data)); f.m.limit > 0 && grow > 0 && f.m.used+grow > f.m.limit {
		return f.m.fail("truncate", f.name, ErrNoSpace)
	}
	f.m.truncate(f.n, size)
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.enter("stat", false); err != nil {
		return 0, err
	}
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memFile) Preallocate(off, length int64) error {
	if err := f.enter("fallocate", true); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	return nil
}

func (f *memFile) DropCache(off, length int64) error {
	if err := f.enter("fadvise", false); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	n := f.n
	for s, disk := range n.lost {
		if lo := s * SectorSize; lo >= off && lo < off+length && lo < int64(len(n.data)) {
			hi := min(lo+SectorSize, int64(len(n.data)))
			clear(n.data[lo:hi])
			copy(n.data[lo:hi], disk)
			delete(n.lost, s)
		}
	}
	return nil
}

func (f *memFile) Close() error {
	if err := f.enter("close", false); err != nil {
		return err
	}
	defer f.m.mu.Unlock()
	f.closed = true
	return nil
}

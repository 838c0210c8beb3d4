package vfs

import (
	"io"
	"sync/atomic"
)

// OpKind names what is done to a file or directory.
type OpKind int

// The operations that a Faulty can make fail.
const (
	OpOpen OpKind = iota
	OpRead
	OpList
	OpStat
	OpLock
	OpFree
	OpClose
	OpDropCache
	OpCreate // Open with Create or Truncate
	OpWrite
	OpSync
	OpTruncate
	OpPreallocate
	OpMkdir
	OpRemove // also RemoveAll
	OpRename
	OpSyncDir
)

var opNames = [...]string{
	"open", "read", "list", "stat", "lock", "free", "close", "drop cache",
	"create", "write", "sync", "truncate", "preallocate", "mkdir", "remove", "rename", "sync directory",
}

// String is the operation in words.
func (k OpKind) String() string { return opNames[k] }

// Persists says whether the operation changes what is on disk or makes it
// durable: a crash just before it differs from one just after it.
func (k OpKind) Persists() bool { return k >= OpCreate }

// Op is one operation, as a Faulty's hook sees it.
type Op struct {
	Kind   OpKind
	Name   string // of the file or directory
	To     string // with OpRename, the new name
	Off    int64  // with OpRead, OpWrite, OpPreallocate, OpDropCache
	Length int64  // likewise; with OpTruncate the new size
}

// Partial is an error that a hook returns to have the first Done bytes of an
// OpWrite written, and Err, or io.ErrShortWrite without one, returned.
type Partial struct {
	Done int
	Err  error
}

func (p *Partial) Error() string { return "partial write: " + p.unwrap().Error() }

// Unwrap is the error that the writer gets.
func (p *Partial) Unwrap() error { return p.unwrap() }

func (p *Partial) unwrap() error {
	if p.Err == nil {
		return io.ErrShortWrite
	}
	return p.Err
}

// Faulty passes everything on to another FS, after a hook has been asked. The
// hook may return an error, which is then the operation's result, may take its
// time, and may panic.
type Faulty struct {
	under    FS
	hook     atomic.Pointer[func(Op) error]
	persists atomic.Int64
}

var _ FS = (*Faulty)(nil)

// NewFaulty wraps a file system. It has no faults until SetHook.
func NewFaulty(under FS) *Faulty { return &Faulty{under: under} }

// SetHook replaces the hook; nil removes it. It is called at the same time
// from all goroutines that use the file system.
func (f *Faulty) SetHook(hook func(Op) error) {
	if hook == nil {
		f.hook.Store(nil)
		return
	}
	f.hook.Store(&hook)
}

// FailNth makes the n-th operation from now that persists anything, counted
// from 1, and all such operations after it, return err.
func (f *Faulty) FailNth(n int64, err error) {
	n += f.persists.Load()
	f.SetHook(func(op Op) error {
		if op.Kind.Persists() && f.persists.Load() >= n {
			return err
		}
		return nil
	})
}

// Persisted counts the operations so far that change what is on disk or make
// it durable, those that failed included.
func (f *Faulty) Persisted() int64 { return f.persists.Load() }

func (f *Faulty) before(op Op) error {
	if op.Kind.Persists() {
		f.persists.Add(1)
	}
	if hook := f.hook.Load(); hook != nil {
		return (*hook)(op)
	}
	return nil
}

// Open opens or makes a file.
func (f *Faulty) Open(name string, flags Flags) (File, error) {
	kind := OpOpen
	if flags&(Create|Truncate) != 0 {
		kind = OpCreate
	}
	if err := f.before(Op{Kind: kind, Name: name}); err != nil {
		return nil, err
	}
	file, err := f.under.Open(name, flags)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f: f, under: file, name: name}, nil
}

// MkdirAll makes a directory and those above it.
func (f *Faulty) MkdirAll(dir string) error {
	if err := f.before(Op{Kind: OpMkdir, Name: dir}); err != nil {
		return err
	}
	return f.under.MkdirAll(dir)
}

// Remove removes a file or an empty directory.
func (f *Faulty) Remove(name string) error {
	if err := f.before(Op{Kind: OpRemove, Name: name}); err != nil {
		return err
	}
	return f.under.Remove(name)
}

// RemoveAll removes a file or a directory with all in it.
func (f *Faulty) RemoveAll(name string) error {
	if err := f.before(Op{Kind: OpRemove, Name: name}); err != nil {
		return err
	}
	return f.under.RemoveAll(name)
}

// Rename renames a file or directory.
func (f *Faulty) Rename(from, to string) error {
	if err := f.before(Op{Kind: OpRename, Name: from, To: to}); err != nil {
		return err
	}
	return f.under.Rename(from, to)
}

// List returns the entries of a directory.
func (f *Faulty) List(dir string) ([]Entry, error) {
	if err := f.before(Op{Kind: OpList, Name: dir}); err != nil {
		return nil, err
	}
	return f.under.List(dir)
}

// Stat describes a file or directory.
func (f *Faulty) Stat(name string) (Info, error) {
	if err := f.before(Op{Kind: OpStat, Name: name}); err != nil {
		return Info{}, err
	}
	return f.under.Stat(name)
}

// SyncDir makes the names in the directory durable.
func (f *Faulty) SyncDir(dir string) error {
	if err := f.before(Op{Kind: OpSyncDir, Name: dir}); err != nil {
		return err
	}
	return f.under.SyncDir(dir)
}

// Lock takes the lock.
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if err := f.before(Op{Kind: OpLock, Name: name}); err != nil {
		return nil, err
	}
	return f.under.Lock(name)
}

// Space is the size of the file system and what is left of it.
func (f *Faulty) Space(dir string) (total, free int64, err error) {
	if err := f.before(Op{Kind: OpFree, Name: dir}); err != nil {
		return 0, 0, err
	}
	return f.under.Space(dir)
}

type faultyFile struct {
	f     *Faulty
	under File
	name  string
}

var _ File = (*faultyFile)(nil)

func (f *faultyFile) before(kind OpKind, off, length int64) error {
	return f.f.before(Op{Kind: kind, Name: f.name, Off: off, Length: length})
}

func (f *faultyFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.before(OpRead, off, int64(len(b))); err != nil {
		return 0, err
	}
	return f.under.ReadAt(b, off)
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.before(OpWrite, off, int64(len(b))); err != nil {
		if p, ok := err.(*Partial); ok {
			return f.partial(p, [][]byte{b}, off)
		}
		return 0, err
	}
	return f.under.WriteAt(b, off)
}

func (f *faultyFile) ReadDirectAt(b []byte, off int64) (int, error) {
	if err := f.before(OpRead, off, int64(len(b))); err != nil {
		return 0, err
	}
	return f.under.ReadDirectAt(b, off)
}

func (f *faultyFile) WriteDirectAt(b []byte, off int64) (int, error) {
	if err := f.before(OpWrite, off, int64(len(b))); err != nil {
		if p, ok := err.(*Partial); ok {
			return f.partial(p, [][]byte{b}, off)
		}
		return 0, err
	}
	return f.under.WriteDirectAt(b, off)
}

func (f *faultyFile) WriteVAt(pieces [][]byte, off int64) (int, error) {
	total := int64(0)
	for _, p := range pieces {
		total += int64(len(p))
	}
	if err := f.before(OpWrite, off, total); err != nil {
		if p, ok := err.(*Partial); ok {
			return f.partial(p, pieces, off)
		}
		return 0, err
	}
	return f.under.WriteVAt(pieces, off)
}

func (f *faultyFile) partial(p *Partial, pieces [][]byte, off int64) (int, error) {
	total := 0
	for _, b := range pieces {
		b = b[:min(len(b), p.Done-total)]
		n, err := f.under.WriteAt(b, off+int64(total))
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, p.unwrap()
}

func (f *faultyFile) Sync() error {
	if err := f.before(OpSync, 0, 0); err != nil {
		return err
	}
	return f.under.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.before(OpTruncate, 0, size); err != nil {
		return err
	}
	return f.under.Truncate(size)
}

func (f *faultyFile) Size() (int64, error) {
	if err := f.before(OpStat, 0, 0); err != nil {
		return 0, err
	}
	return f.under.Size()
}

func (f *faultyFile) Preallocate(off, length int64) error {
	if err := f.before(OpPreallocate, off, length); err != nil {
		return err
	}
	return f.under.Preallocate(off, length)
}

func (f *faultyFile) DropCache(off, length int64) error {
	if err := f.before(OpDropCache, off, length); err != nil {
		return err
	}
	return f.under.DropCache(off, length)
}

func (f *faultyFile) Close() error {
	if err := f.before(OpClose, 0, 0); err != nil {
		return err
	}
	return f.under.Close()
}

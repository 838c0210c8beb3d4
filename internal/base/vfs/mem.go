package vfs

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// SectorSize is the number of bytes that Mem writes all or nothing of.
const SectorSize = 512

// Mem is a disk in memory that can lose power. Beside what its user sees it
// keeps what has been synced, for each file and for each directory, so that
// Crash can say what a disk would hold after the power has gone.
//
// It is stricter than common file systems: a synced file whose name was not
// synced is lost, and sectors of a file survive independently of one another
// and of its size.
type Mem struct {
	mu    sync.Mutex
	root  *memNode
	locks map[string]bool
	limit int64 // bytes of all files, 0 for none
	used  int64
}

// memNode is a file or a directory.
type memNode struct {
	dir bool

	// Of a directory: its names, and those that are synced.
	names, namesSynced map[string]*memNode

	// Of a file. Old holds the synced content of the sectors that were written
	// since; a sector that is beyond sizeSynced has none.
	data       []byte
	sizeSynced int64
	old        map[int64][]byte
	// Lost holds what the disk has of sectors that a sync has failed to write:
	// data is what the page cache says, which takes them for clean.
	lost  map[int64][]byte
	links int
}

var _ FS = (*Mem)(nil)

// NewMem returns an empty disk, on which the current and the root directory
// exist.
func NewMem() *Mem {
	return &Mem{root: newMemDir(), locks: map[string]bool{}}
}

func newMemDir() *memNode {
	return &memNode{dir: true, names: map[string]*memNode{}, namesSynced: map[string]*memNode{}}
}

// SetCapacity limits the bytes of all files together; 0 is no limit. What
// would go beyond it is written in part and fails with ErrNoSpace.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = bytes
}

// Used is the bytes of all files together.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

func (m *Mem) fail(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func parts(name string) []string {
	name = filepath.ToSlash(filepath.Clean(name))
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// find returns the directory that holds name, its last part, and its node if
// there is one. The root has itself as directory and "" as last part.
func (m *Mem) find(op, name string) (dir *memNode, last string, n *memNode, err error) {
	dir, n = m.root, m.root
	p := slices.DeleteFunc(parts(name), func(s string) bool { return s == "." })
	for i, part := range p {
		if !n.dir {
			return nil, "", nil, m.fail(op, name, ErrNotExist)
		}
		dir, last = n, part
		next := n.names[part]
		if next == nil && i < len(p)-1 {
			return nil, "", nil, m.fail(op, name, ErrNotExist)
		}
		n = next
	}
	return dir, last, n, nil
}

// Open opens or makes a file.
func (m *Mem) Open(name string, flags Flags) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, last, n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	switch {
	case n == nil && flags&Create == 0:
		return nil, m.fail("open", name, ErrNotExist)
	case n == nil:
		n = &memNode{links: 1}
		dir.names[last] = n
	case flags&Exclusive != 0:
		return nil, m.fail("open", name, ErrExist)
	case n.dir:
		return nil, m.fail("open", name, fmt.Errorf("is a directory"))
	}
	if flags&Truncate != 0 {
		m.truncate(n, 0)
	}
	return &memFile{m: m, n: n, name: name, writable: flags&ReadWrite != 0}, nil
}

// MkdirAll makes a directory and those above it.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.root
	for _, part := range parts(dir) {
		if part == "." {
			continue
		}
		next := n.names[part]
		if next == nil {
			next = newMemDir()
			n.names[part] = next
		}
		if !next.dir {
			return m.fail("mkdir", dir, fmt.Errorf("not a directory"))
		}
		n = next
	}
	return nil
}

func (m *Mem) unlink(n *memNode) {
	if n == nil {
		return
	}
	if n.dir {
		for _, c := range n.names {
			m.unlink(c)
		}
		return
	}
	if n.links--; n.links == 0 {
		m.used -= int64(len(n.data))
	}
}

// Remove removes a file or an empty directory.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, last, n, err := m.find("remove", name)
	switch {
	case err != nil:
		return err
	case n == nil:
		return m.fail("remove", name, ErrNotExist)
	case n.dir && len(n.names) > 0:
		return m.fail("remove", name, fmt.Errorf("directory not empty"))
	}
	delete(dir.names, last)
	m.unlink(n)
	return nil
}

// RemoveAll removes a file or a directory with all in it.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, last, n, err := m.find("remove", name)
	if err != nil || n == nil {
		return nil
	}
	delete(dir.names, last)
	m.unlink(n)
	return nil
}

// Rename renames a file or directory.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fromDir, fromLast, n, err := m.find("rename", from)
	if err != nil {
		return err
	}
	if n == nil {
		return m.fail("rename", from, ErrNotExist)
	}
	toDir, toLast, old, err := m.find("rename", to)
	if err != nil {
		return err
	}
	if old == n {
		return nil
	}
	if old != nil && (old.dir || n.dir) {
		return m.fail("rename", to, ErrExist)
	}
	m.unlink(old)
	delete(fromDir.names, fromLast)
	toDir.names[toLast] = n
	return nil
}

// List returns the entries of a directory, sorted by name.
func (m *Mem) List(dir string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.find("list", dir)
	switch {
	case err != nil:
		return nil, err
	case n == nil:
		return nil, m.fail("list", dir, ErrNotExist)
	case !n.dir:
		return nil, m.fail("list", dir, fmt.Errorf("not a directory"))
	}
	out := make([]Entry, 0, len(n.names))
	for name, c := range n.names {
		out = append(out, Entry{Name: name, Dir: c.dir})
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// Stat describes a file or directory.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.find("stat", name)
	switch {
	case err != nil:
		return Info{}, err
	case n == nil:
		return Info{}, m.fail("stat", name, ErrNotExist)
	}
	return Info{Size: int64(len(n.data)), Dir: n.dir}, nil
}

// SyncDir makes the names in the directory durable.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n, err := m.find("syncdir", dir)
	switch {
	case err != nil:
		return err
	case n == nil || !n.dir:
		return m.fail("syncdir", dir, ErrNotExist)
	}
	n.namesSynced = maps.Clone(n.names)
	return nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// Lock takes the lock. A disk that Crash returns has no locks taken.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.Open(name, ReadWrite|Create)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	if m.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	m.locks[name] = true
	return &memLock{m, name}, nil
}

// Space is the capacity and what is left of it; without one, 1 TiB.
func (m *Mem) Space(string) (total, free int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.limit == 0 {
		return 1 << 40, 1 << 40, nil
	}
	return m.limit, max(0, m.limit-m.used), nil
}

func (m *Mem) truncate(n *memNode, size int64) {
	before := int64(len(n.data))
	if size < before {
		n.keepOld(size, before-size)
		clear(n.data[size:])
		n.data = n.data[:size]
		maps.DeleteFunc(n.lost, func(s int64, _ []byte) bool { return s*SectorSize >= size })
	} else {
		n.data = slices.Grow(n.data, int(size-before))[:size]
	}
	if n.links > 0 {
		m.used += size - before
	}
}

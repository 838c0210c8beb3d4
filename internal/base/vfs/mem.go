package vfs

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
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

// Crash returns the disk as it may be found after a loss of power at this
// moment. Each sector, size and name that was changed and not synced has its
// new state with the given probability, from 0 to 1, and otherwise its synced
// one. The disk itself goes on as if nothing had happened.
//
// With survival 1 it is a copy: what a process finds after it was killed.
func (m *Mem) Crash(rng *rand.Rand, survival float64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := NewMem()
	c := crash{rng: rng, survival: survival, copies: map[*memNode]*memNode{}}
	after.root = c.node(m.root)
	after.limit = m.limit
	for _, n := range c.copies {
		after.used += int64(len(n.data))
	}
	return after
}

type crash struct {
	rng      *rand.Rand
	survival float64
	copies   map[*memNode]*memNode
}

func (c *crash) survives() bool {
	switch {
	case c.survival >= 1:
		return true
	case c.survival <= 0:
		return false
	}
	return c.rng.Float64() < c.survival
}

func (c *crash) node(n *memNode) *memNode {
	if done, ok := c.copies[n]; ok {
		done.links++
		return done
	}
	var out *memNode
	if n.dir {
		out = newMemDir()
	} else {
		out = &memNode{data: c.content(n), links: 1}
		if c.survival >= 1 { // the page cache survives
			out.lost = maps.Clone(n.lost)
		}
		out.sizeSynced = int64(len(out.data))
	}
	c.copies[n] = out
	if !n.dir {
		return out
	}
	for _, name := range sortedNames(n.names, n.namesSynced) {
		is, was := n.names[name], n.namesSynced[name]
		if is != was && !c.survives() {
			is = was
		}
		if is != nil {
			out.names[name] = c.node(is)
			out.namesSynced[name] = out.names[name]
		}
	}
	return out
}

func sortedNames(a, b map[string]*memNode) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

// content is what a file holds after the crash.
func (c *crash) content(n *memNode) []byte {
	size := int64(len(n.data))
	if size != n.sizeSynced && !c.survives() {
		size = n.sizeSynced
	}
	out := make([]byte, size)
	for s := int64(0); s*SectorSize < size; s++ {
		lo, hi := s*SectorSize, min((s+1)*SectorSize, size)
		if lost, ok := n.lost[s]; ok && c.survival < 1 {
			copy(out[lo:hi], lost)
			continue
		}
		old, changed := n.old[s]
		// The end of a file that grew is new even where nothing old was kept.
		if !changed && hi > n.sizeSynced {
			changed = true
			if to := min(n.sizeSynced, int64(len(n.data))); lo < to {
				old = n.data[lo:to]
			}
		}
		if changed && !c.survives() {
			copy(out[lo:hi], old)
		} else if lo < int64(len(n.data)) {
			copy(out[lo:hi], n.data[lo:])
		}
	}
	return out
}

// keepOld saves the synced content of the sectors of [off, off+length) before
// they change.
func (n *memNode) keepOld(off, length int64) {
	for s := off / SectorSize; s*SectorSize < min(off+length, n.sizeSynced); s++ {
		if _, ok := n.old[s]; ok {
			continue
		}
		if n.old == nil {
			n.old = map[int64][]byte{}
		}
		if lost, ok := n.lost[s]; ok {
			n.old[s] = lost
			delete(n.lost, s)
			continue
		}
		lo := min(s*SectorSize, int64(len(n.data)))
		hi := min((s+1)*SectorSize, n.sizeSynced, int64(len(n.data)))
		n.old[s] = slices.Clone(n.data[lo:max(lo, hi)])
	}
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

package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"

	"chronik/internal/base/vfs"
)

// errDisk is what an injected fault gives.
var errDisk = fmt.Errorf("input/output error (injected): %w", vfs.ErrBroken)

// disk is what a node's files are on. It outlives processes: killing one leaves
// what it has written, synced or not; a loss of power does not.
type disk struct {
	mem   *vfs.Mem
	rng   *rand.Rand
	used  func(sync instant) // told of the time that a sync takes
	life  uint64             // of the process that may use it
	slow  float64            // factor on the time of syncs
	locks map[string]bool

	failSync  string // the next sync of a file whose path holds this fails; "": none does
	failNames bool   // or rather that of a directory
	failed    int    // syncs that have failed
	lost      func() // told of each

	crash      func() // is called before one of the next changes; nil: none is planned
	crashAfter int    // so many changes
	crashNames bool   // only those count that concern names and sizes
}

// crashIn has the process end in the midst of what it does, at one of the next
// changes of its disk.
func (d *disk) crashIn(changes int, names bool, crash func()) {
	d.crash, d.crashAfter, d.crashNames = crash, changes, names
}

func newDisk(rng *rand.Rand) *disk {
	return &disk{mem: vfs.NewMem(), rng: rng, slow: 1, used: func(instant) {}, lost: func() {}}
}

// losePower leaves what a disk holds after the power has gone: of what was not
// synced each sector, size and name survives with a probability.
func (d *disk) losePower(survival float64) { d.mem = d.mem.Crash(d.rng, survival) }

// mount gives the disk to a process. What an earlier one has open is dead.
func (d *disk) mount() *mounted {
	d.life++
	d.locks = make(map[string]bool)
	return &mounted{FS: d.mem, d: d, life: d.life}
}

// syncTime draws how long a sync takes.
func (d *disk) syncTime() instant {
	t := float64(100*microsecond + instant(d.rng.Int64N(int64(200*microsecond))))
	if d.rng.IntN(200) == 0 {
		// Now and then a disk does something else first. The conversion keeps
		// compilers from adding and multiplying with one rounding where they can.
		t *= 1 + float64(50*d.rng.Float64())
	}
	return instant(t * d.slow)
}

// mounted is the disk as one process sees it.
type mounted struct {
	vfs.FS
	d    *disk
	life uint64
}

func (m *mounted) dead() error {
	if m.d.life != m.life {
		return fmt.Errorf("process is dead: %w", errDisk)
	}
	return nil
}

// change is called before each change: of a name or a size, or of bytes.
func (m *mounted) change(name bool) error {
	if err := m.dead(); err != nil {
		return err
	}
	d := m.d
	if d.crash == nil || d.crashNames && !name {
		return nil
	}
	if d.crashAfter--; d.crashAfter > 0 {
		return nil
	}
	crash := d.crash
	d.crash = nil
	crash()
	return m.dead()
}

// MkdirAll implements vfs.FS.
func (m *mounted) MkdirAll(dir string) error {
	if err := m.change(true); err != nil {
		return err
	}
	return m.FS.MkdirAll(dir)
}

// Remove implements vfs.FS.
func (m *mounted) Remove(name string) error {
	if err := m.change(true); err != nil {
		return err
	}
	return m.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (m *mounted) RemoveAll(name string) error {
	if err := m.change(true); err != nil {
		return err
	}
	return m.FS.RemoveAll(name)
}

// Rename implements vfs.FS.
func (m *mounted) Rename(from, to string) error {
	if err := m.change(true); err != nil {
		return err
	}
	return m.FS.Rename(from, to)
}

// Open implements vfs.FS.
func (m *mounted) Open(name string, flags vfs.Flags) (vfs.File, error) {
	if err := m.dead(); err != nil {
		return nil, err
	}
	if flags&vfs.Create != 0 {
		if err := m.change(true); err != nil {
			return nil, err
		}
	}
	f, err := m.FS.Open(name, flags)
	if err != nil {
		return nil, err
	}
	return &mountedFile{File: f, m: m, name: name}, nil
}

// SyncDir implements vfs.FS.
func (m *mounted) SyncDir(dir string) error {
	if err := m.change(true); err != nil {
		return err
	}
	d := m.d
	d.used(d.syncTime())
	if d.failSync != "" && d.failNames && strings.Contains(dir, d.failSync) {
		d.failed++
		d.failSync = ""
		return fmt.Errorf("sync directory %s: %w", dir, errDisk)
	}
	return m.FS.SyncDir(dir)
}

type diskLock struct {
	m    *mounted
	name string
}

func (l diskLock) Close() error {
	if l.m.dead() == nil {
		delete(l.m.d.locks, l.name)
	}
	return nil
}

// Lock implements vfs.FS: the lock ends with the process.
func (m *mounted) Lock(name string) (io.Closer, error) {
	name = path.Clean(name)
	f, err := m.Open(name, vfs.ReadWrite|vfs.Create)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if m.d.locks[name] {
		return nil, fmt.Errorf("lock %s: %w", name, vfs.ErrLocked)
	}
	m.d.locks[name] = true
	return diskLock{m, name}, nil
}

type mountedFile struct {
	vfs.File
	m    *mounted
	name string
}

// Sync implements vfs.File. After one that failed the system takes the pages for
// clean that are not on the disk, and says so to whoever syncs next.
func (f *mountedFile) Sync() error {
	d := f.m.d
	if err := f.m.change(false); err != nil {
		return err
	}
	d.used(d.syncTime())
	if d.failSync != "" && !d.failNames && strings.Contains(f.name, d.failSync) {
		d.failed++
		d.lost()
		d.failSync = "" // once: the next one says that all is well
		err := f.File.(interface{ FailSync() error }).FailSync()
		return fmt.Errorf("sync %s: %w: %w", f.name, errDisk, err)
	}
	return f.File.Sync()
}

// WriteAt implements vfs.File.
func (f *mountedFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.m.change(false); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

// WriteDirectAt implements vfs.File.
func (f *mountedFile) WriteDirectAt(b []byte, off int64) (int, error) {
	if err := f.m.change(false); err != nil {
		return 0, err
	}
	return f.File.WriteDirectAt(b, off)
}

// WriteVAt implements vfs.File.
func (f *mountedFile) WriteVAt(pieces [][]byte, off int64) (int, error) {
	if err := f.m.change(false); err != nil {
		return 0, err
	}
	return f.File.WriteVAt(pieces, off)
}

// Truncate implements vfs.File.
func (f *mountedFile) Truncate(size int64) error {
	if err := f.m.change(true); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

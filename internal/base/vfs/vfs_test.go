package vfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, fs FS, name, text string) File {
	t.Helper()
	f, err := fs.Open(name, ReadWrite|Create)
	must(t, err)
	_, err = f.WriteAt([]byte(text), 0)
	must(t, err)
	return f
}

func content(t *testing.T, fs FS, name string) string {
	t.Helper()
	b, err := ReadFile(fs, name)
	if errors.Is(err, ErrNotExist) {
		return "none"
	}
	must(t, err)
	return string(b)
}

// Each implementation does what FS and File promise.
func TestConformance(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) (FS, string){
		"Disk":          func(t *testing.T) (FS, string) { return Disk{}, t.TempDir() },
		"Mem":           func(t *testing.T) (FS, string) { return NewMem(), "." },
		"Faulty{Mem}":   func(t *testing.T) (FS, string) { return NewFaulty(NewMem()), "." },
		"Faulty{Disk}":  func(t *testing.T) (FS, string) { return NewFaulty(Disk{}), t.TempDir() },
		"Mem after all": func(t *testing.T) (FS, string) { return NewMem().Crash(nil, 0), "." },
	} {
		t.Run(name, func(t *testing.T) {
			for what, test := range map[string]func(*testing.T, FS, string){
				"files": conformFiles, "names": conformNames, "locks": conformLocks, "vectors": conformVectors, "direct": conformDirect,
			} {
				t.Run(what, func(t *testing.T) {
					fs, dir := make(t)
					test(t, fs, dir)
				})
			}
		})
	}
}

func conformFiles(t *testing.T, fs FS, dir string) {
	name := filepath.Join(dir, "f")
	if _, err := fs.Open(name, ReadWrite); !errors.Is(err, ErrNotExist) {
		t.Errorf("open what is not there: %v", err)
	}
	f := write(t, fs, name, "hello")
	if _, err := fs.Open(name, ReadWrite|Create|Exclusive); !errors.Is(err, ErrExist) {
		t.Errorf("exclusive: %v", err)
	}
	b := make([]byte, 10)
	if n, err := f.ReadAt(b, 1); n != 4 || err != io.EOF || string(b[:n]) != "ello" {
		t.Errorf("read over the end: %d %v", n, err)
	}
	if n, err := f.ReadAt(b, 5); n != 0 || err != io.EOF {
		t.Errorf("read at the end: %d %v", n, err)
	}
	_, err := f.WriteAt([]byte("!"), 8)
	must(t, err)
	if got := content(t, fs, name); got != "hello\x00\x00\x00!" {
		t.Errorf("written behind the end: %q", got)
	}
	must(t, f.Truncate(3))
	must(t, f.Truncate(6))
	if got := content(t, fs, name); got != "hel\x00\x00\x00" {
		t.Errorf("cut and grown: %q", got)
	}
	if err := f.Preallocate(6, 1<<20); !errors.Is(err, errors.ErrUnsupported) {
		must(t, err)
	}
	if n, err := f.Size(); n != 6 || err != nil {
		t.Errorf("size after Preallocate: %d %v", n, err)
	}
	must(t, f.Truncate(6))
	must(t, f.Sync())
	must(t, f.DropCache(0, 6))
	if got := content(t, fs, name); got != "hel\x00\x00\x00" {
		t.Errorf("after DropCache: %q", got)
	}
	must(t, f.Close())
	if _, err := f.ReadAt(b, 0); err == nil {
		t.Error("a closed file can be read")
	}
	r, err := fs.Open(name, ReadOnly)
	must(t, err)
	if _, err := r.WriteAt(b, 0); err == nil {
		t.Error("a read-only file can be written")
	}
	must(t, fs.Remove(name))
	if n, err := r.ReadAt(b[:3], 0); n != 3 || err != nil {
		t.Errorf("an open file that was removed: %d %v", n, err)
	}
	must(t, r.Close())
	f, err = fs.Open(name, ReadWrite|Create|Truncate)
	must(t, err)
	must(t, f.Close())
	if got := content(t, fs, name); got != "" {
		t.Errorf("truncated: %q", got)
	}
	if total, free, err := fs.Space(dir); free <= 0 || total < free || err != nil {
		t.Errorf("space: %d %d %v", total, free, err)
	}
}

func conformNames(t *testing.T, fs FS, dir string) {
	a := filepath.Join(dir, "a")
	if _, err := fs.List(a); !errors.Is(err, ErrNotExist) {
		t.Errorf("list what is not there: %v", err)
	}
	must(t, MkdirAllSync(fs, filepath.Join(a, "b")))
	must(t, fs.MkdirAll(filepath.Join(a, "b")))
	for _, n := range []string{"z", "m", "c"} {
		must(t, write(t, fs, filepath.Join(a, n), n).Close())
	}
	got, err := fs.List(a)
	must(t, err)
	want := []Entry{{"b", true}, {"c", false}, {"m", false}, {"z", false}}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got[i], want[i])
		}
	}
	must(t, fs.Rename(filepath.Join(a, "z"), filepath.Join(a, "c")))
	if got := content(t, fs, filepath.Join(a, "c")); got != "z" {
		t.Errorf("renamed over: %q", got)
	}
	if err := fs.Rename(filepath.Join(a, "z"), filepath.Join(a, "y")); !errors.Is(err, ErrNotExist) {
		t.Errorf("rename what is not there: %v", err)
	}
	if i, err := fs.Stat(filepath.Join(a, "c")); err != nil || i != (Info{Size: 1}) {
		t.Errorf("stat: %+v %v", i, err)
	}
	if i, err := fs.Stat(a); err != nil || !i.Dir {
		t.Errorf("stat of a directory: %+v %v", i, err)
	}
	if _, err := fs.Stat(filepath.Join(a, "z")); !errors.Is(err, ErrNotExist) {
		t.Errorf("stat what is not there: %v", err)
	}
	if err := fs.Remove(a); err == nil {
		t.Error("a directory with files was removed")
	}
	must(t, fs.SyncDir(a))
	must(t, fs.Rename(a, filepath.Join(dir, "moved")))
	if got := content(t, fs, filepath.Join(dir, "moved", "m")); got != "m" {
		t.Errorf("in the moved directory: %q", got)
	}
	must(t, fs.RemoveAll(filepath.Join(dir, "moved")))
	must(t, fs.RemoveAll(filepath.Join(dir, "moved")))
	if err := fs.Remove(filepath.Join(dir, "moved")); !errors.Is(err, ErrNotExist) {
		t.Errorf("remove what is not there: %v", err)
	}
}

func conformLocks(t *testing.T, fs FS, dir string) {
	name := filepath.Join(dir, "lock")
	l, err := fs.Lock(name)
	must(t, err)
	if _, err := fs.Lock(name); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	must(t, l.Close())
	l, err = fs.Lock(name)
	must(t, err)
	must(t, l.Close())
}

func conformVectors(t *testing.T, fs FS, dir string) {
	f, err := fs.Open(filepath.Join(dir, "v"), ReadWrite|Create)
	must(t, err)
	defer f.Close()
	var pieces [][]byte
	var want []byte
	for i := range 2500 {
		p := bytes.Repeat([]byte{byte(i)}, i%37)
		pieces, want = append(pieces, p), append(want, p...)
	}
	n, err := f.WriteVAt(pieces, 5)
	if n != len(want) || err != nil {
		t.Fatalf("%d %v", n, err)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 5); err != nil && err != io.EOF || !bytes.Equal(got, want) {
		t.Errorf("read back: %v", err)
	}
}

func conformDirect(t *testing.T, fs FS, dir string) {
	name := filepath.Join(dir, "d")
	f, err := fs.Open(name, ReadWrite|Create)
	must(t, err)
	b := DirectBuffer(2 * DirectAlign)
	for i := range b {
		b[i] = byte(i % 251)
	}
	_, err = f.WriteDirectAt(b, 0)
	if errors.Is(err, ErrNotDirect) {
		t.Skip("the file system has no direct access")
	}
	must(t, err)
	// What one way writes the other reads, at once.
	_, err = f.WriteAt([]byte("through the cache"), DirectAlign-4)
	must(t, err)
	copy(b[DirectAlign-4:], "through the cache")
	got := DirectBuffer(2 * DirectAlign)
	if n, err := f.ReadDirectAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, b) {
		t.Errorf("read past the cache: %d %v", n, err)
	}
	clear(b)
	_, err = f.WriteDirectAt(b[:DirectAlign], 0)
	must(t, err)
	if read := content(t, fs, name); read[:DirectAlign] != string(b[:DirectAlign]) || len(read) != len(b) {
		t.Errorf("read through the cache what was written past it: %d bytes", len(read))
	}
	must(t, f.Truncate(DirectAlign+100))
	if n, err := f.ReadDirectAt(got, 0); n != DirectAlign+100 || err != io.EOF {
		t.Errorf("read over the end: %d %v", n, err)
	}
	for _, bad := range []struct {
		b   []byte
		off int64
	}{{got[:100], 0}, {got[1:][:DirectAlign], 0}, {got[:DirectAlign], 512}} {
		if n, err := f.WriteDirectAt(bad.b, bad.off); n != 0 || err == nil || errors.Is(err, ErrNotDirect) {
			t.Errorf("not aligned: %d %v", n, err)
		}
		if n, err := f.ReadDirectAt(bad.b, bad.off); n != 0 || err == nil || errors.Is(err, ErrNotDirect) {
			t.Errorf("not aligned: %d %v", n, err)
		}
	}
	must(t, f.Close())
	if _, err := f.ReadDirectAt(got, 0); err == nil {
		t.Error("a closed file can be read")
	}
	// Removing the name changes nothing for who has the file open.
	f, err = fs.Open(name, ReadOnly)
	must(t, err)
	must(t, fs.Remove(name))
	if n, err := f.ReadDirectAt(got, 0); n != DirectAlign+100 || err != io.EOF {
		t.Errorf("a file that was removed: %d %v", n, err)
	}
	if _, err := f.WriteDirectAt(got, 0); err == nil {
		t.Error("a read-only file can be written")
	}
	must(t, f.Close())
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	fs := NewMem()
	must(t, MkdirAllSync(fs, "d"))
	f := write(t, fs, "d/f", "synced")
	must(t, f.Sync())
	must(t, fs.SyncDir("d"))
	_, err := f.WriteAt([]byte("SYNCED and more"), 0)
	must(t, err)
	must(t, write(t, fs, "d/g", "g").Sync()) // its name is not synced
	must(t, fs.Rename("d/g", "d/h"))
	if got := content(t, fs.Crash(nil, 0), "d/f"); got != "synced" {
		t.Errorf("none survives: %q", got)
	}
	if got := content(t, fs.Crash(nil, 0), "d/h"); got != "none" {
		t.Errorf("file without a synced name: %q", got)
	}
	if got := content(t, fs.Crash(nil, 1), "d/f"); got != "SYNCED and more" {
		t.Errorf("all survives: %q", got)
	}
	if got := content(t, fs, "d/f"); got != "SYNCED and more" {
		t.Errorf("the disk itself changed: %q", got)
	}
	must(t, fs.Remove("d/f"))
	if got := content(t, fs.Crash(nil, 0), "d/f"); got != "synced" {
		t.Errorf("removed, not synced: %q", got)
	}
	must(t, fs.SyncDir("d"))
	if got := content(t, fs.Crash(nil, 0), "d/f"); got != "none" {
		t.Errorf("removed and synced: %q", got)
	}
}

func TestCrashTearsSectors(t *testing.T) {
	fs := NewMem()
	f, err := fs.Open("f", ReadWrite|Create)
	must(t, err)
	must(t, fs.SyncDir("."))
	const sectors = 64
	_, err = f.WriteAt(bytes.Repeat([]byte{1}, sectors*SectorSize), 0)
	must(t, err)
	must(t, f.Sync())
	_, err = f.WriteAt(bytes.Repeat([]byte{2}, 2*sectors*SectorSize), 0)
	must(t, err)
	sizes := map[int]bool{}
	for seed := range uint64(20) {
		b, err := ReadFile(fs.Crash(rand.New(rand.NewPCG(seed, 0)), 0.5), "f")
		must(t, err)
		again, err := ReadFile(fs.Crash(rand.New(rand.NewPCG(seed, 0)), 0.5), "f")
		must(t, err)
		if !bytes.Equal(b, again) {
			t.Fatal("the same seed gives another disk")
		}
		sizes[len(b)/SectorSize] = true
		kept := 0
		for s := 0; s < len(b)/SectorSize; s++ {
			sector := b[s*SectorSize : (s+1)*SectorSize]
			if !bytes.Equal(sector, bytes.Repeat(sector[:1], SectorSize)) {
				t.Fatalf("sector %d is torn", s)
			}
			if sector[0] == 2 {
				kept++
			} else if want := byte(1); s < sectors && sector[0] != want || s >= sectors && sector[0] != 0 {
				t.Fatalf("sector %d holds %d", s, sector[0])
			}
		}
		if kept == 0 || kept == len(b)/SectorSize {
			t.Errorf("seed %d keeps %d sectors", seed, kept)
		}
	}
	if !sizes[sectors] || !sizes[2*sectors] {
		t.Errorf("sizes %v", sizes)
	}
	// What is cut off and not synced may be back.
	must(t, f.Sync())
	must(t, f.Truncate(100))
	b, err := ReadFile(fs.Crash(nil, 0), "f")
	must(t, err)
	if len(b) != 2*sectors*SectorSize || b[len(b)-1] != 2 || b[200] != 2 {
		t.Errorf("%d bytes after an unsynced truncation", len(b))
	}
}

func TestMemIsFullAtItsCapacity(t *testing.T) {
	fs := NewMem()
	fs.SetCapacity(100)
	f := write(t, fs, "f", "1234567890")
	n, err := f.WriteAt(make([]byte, 200), 10)
	if n != 90 || !errors.Is(err, ErrNoSpace) || fs.Used() != 100 {
		t.Errorf("%d %v, %d used", n, err, fs.Used())
	}
	if _, err := f.WriteAt(make([]byte, 100), 0); err != nil {
		t.Errorf("overwriting: %v", err)
	}
	must(t, f.Truncate(50))
	if total, free, err := fs.Space("."); total != 100 || free != 50 || err != nil {
		t.Errorf("%d %d %v", total, free, err)
	}
	must(t, fs.Remove("f"))
	if fs.Used() != 0 {
		t.Errorf("%d used by nothing", fs.Used())
	}
}

func TestFaultyFailsWhatItIsToldTo(t *testing.T) {
	fs := NewFaulty(NewMem())
	f := write(t, fs, "f", "")
	eio := errors.New("input/output error")
	fs.SetHook(func(op Op) error {
		switch op.Kind {
		case OpSync:
			return eio
		case OpWrite:
			return &Partial{Done: 3}
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, eio) {
		t.Errorf("sync: %v", err)
	}
	if n, err := f.WriteAt([]byte("hello"), 0); n != 3 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("write: %d %v", n, err)
	}
	if n, err := f.WriteVAt([][]byte{[]byte("ab"), []byte("cde")}, 3); n != 3 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("vector write: %d %v", n, err)
	}
	if got := content(t, fs, "f"); got != "helabc" {
		t.Errorf("%q", got)
	}
	fs.FailNth(2, eio)
	if err := f.Truncate(1); err != nil {
		t.Errorf("first: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, eio) {
		t.Errorf("second: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, eio) {
		t.Errorf("third: %v", err)
	}
	if _, err := f.Size(); err != nil {
		t.Errorf("what does not persist: %v", err)
	}
}

// After a sync that failed the page cache says what the disk has not; syncs that
// follow succeed and change nothing, until the pages are dropped or written again.
func TestFailedSyncLosesPagesThatCountAsClean(t *testing.T) {
	fs := NewMem()
	f := write(t, fs, "file", strings.Repeat("a", 2*SectorSize))
	must(t, f.Sync())
	must(t, fs.SyncDir("."))
	if _, err := f.WriteAt([]byte(strings.Repeat("b", 2*SectorSize)), SectorSize); err != nil {
		t.Fatal(err)
	}
	if err := f.(*memFile).FailSync(); !Broken(err) {
		t.Fatalf("it says %v", err)
	}
	must(t, f.Sync())
	cached := strings.Repeat("a", SectorSize) + strings.Repeat("b", 2*SectorSize)
	disk := strings.Repeat("a", 2*SectorSize) + strings.Repeat("\x00", SectorSize)
	if got := content(t, fs, "file"); got != cached {
		t.Errorf("the page cache has %.10q…%.10q", got, got[2*SectorSize:])
	}
	rng := rand.New(rand.NewPCG(1, 2))
	if got := content(t, fs.Crash(rng, 1), "file"); got != cached {
		t.Error("a killed process has changed what is there")
	}
	if got := content(t, fs.Crash(rng, 0), "file"); got != disk {
		t.Error("after a loss of power there is what was never on the disk")
	}
	direct := make([]byte, 4096)
	if n, err := f.ReadDirectAt(direct, 0); string(direct[:n]) != disk || err != io.EOF {
		t.Errorf("a direct read gives something else than the disk has: %v", err)
	}
	// One sector is written again, and so is on the disk after the next sync.
	if _, err := f.WriteAt([]byte(strings.Repeat("c", SectorSize)), 2*SectorSize); err != nil {
		t.Fatal(err)
	}
	must(t, f.Sync())
	must(t, f.DropCache(0, 3*SectorSize))
	want := strings.Repeat("a", 2*SectorSize) + strings.Repeat("c", SectorSize)
	if got := content(t, fs, "file"); got != want {
		t.Errorf("read back from the disk: %.10q…%.10q…%.10q", got, got[SectorSize:], got[2*SectorSize:])
	}
}

func TestFailedSyncOfATruncationLeavesNothingBehindTheEnd(t *testing.T) {
	fs := NewMem()
	f := write(t, fs, "file", strings.Repeat("a", 2*SectorSize))
	must(t, f.Sync())
	must(t, fs.SyncDir("."))
	must(t, f.Truncate(SectorSize))
	if err := f.(*memFile).FailSync(); !Broken(err) {
		t.Fatalf("it says %v", err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat("c", SectorSize)), SectorSize); err != nil {
		t.Fatal(err)
	}
	must(t, f.Sync())
	want := strings.Repeat("a", SectorSize) + strings.Repeat("c", SectorSize)
	if got := content(t, fs.Crash(rand.New(rand.NewPCG(1, 2)), 0), "file"); got != want {
		t.Errorf("after a loss of power there is %.10q…%.10q", got, got[SectorSize:])
	}
}

// A Region may be written from wherever its parts are kept, as long as it is held.
func TestRegionServesDirectWrites(t *testing.T) {
	f, err := (Disk{}).Open(filepath.Join(t.TempDir(), "d"), ReadWrite|Create)
	must(t, err)
	defer f.Close()
	r := NewRegion(HugePage)
	half := r.Bytes[HugePage/2:]
	runtime.GC() // must not take what is held
	for i := range half {
		half[i] = byte(i % 251)
	}
	if _, err = f.WriteDirectAt(half, 0); errors.Is(err, ErrNotDirect) {
		t.Skip("the file system has no direct access")
	}
	must(t, err)
	got := make([]byte, len(half))
	if n, err := f.ReadAt(got, 0); n != len(got) || err != nil || !bytes.Equal(got, half) {
		t.Errorf("read back %d bytes: %v", n, err)
	}
	runtime.KeepAlive(r)
}

// A process may end between making a directory and syncing its name: the next
// one, which finds it, must not build on it.
func TestDirectoryThatIsFoundIsMadeDurable(t *testing.T) {
	mem := NewMem()
	must(t, mem.MkdirAll("a"))
	must(t, MkdirDurable(mem, filepath.Join("a", "b")))
	must(t, MkdirDurable(mem, filepath.Join("a", "b")))
	f, err := mem.Open(filepath.Join("a", "b", "f"), ReadWrite|Create)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	must(t, mem.SyncDir(filepath.Join("a", "b")))
	if _, err := mem.Crash(nil, 0).Stat(filepath.Join("a", "b", "f")); err != nil {
		t.Error(err)
	}
}

// One that is found above which nothing can be synced is used: it was before.
func TestDirectoryBelowOneThatCannotBeSyncedIsUsed(t *testing.T) {
	for _, why := range []error{syscall.EACCES, syscall.EINVAL, syscall.ENOTSUP} {
		faulty := NewFaulty(NewMem())
		must(t, faulty.MkdirAll(filepath.Join("a", "b")))
		faulty.SetHook(func(op Op) error {
			if op.Kind == OpSyncDir {
				return why
			}
			return nil
		})
		must(t, MkdirDurable(faulty, filepath.Join("a", "b")))
		if err := MkdirDurable(faulty, filepath.Join("a", "b", "c")); !errors.Is(err, why) {
			t.Errorf("one that was made and not synced: %v", err)
		}
	}
	faulty := NewFaulty(NewMem())
	must(t, faulty.MkdirAll("a"))
	faulty.FailNth(1, syscall.EIO)
	if err := MkdirDurable(faulty, "a"); !errors.Is(err, syscall.EIO) {
		t.Errorf("on a broken disk: %v", err)
	}
}

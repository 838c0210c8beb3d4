// Package harm damages disks and files of nodes: file systems of their own
// that fill up or freeze, system calls that fail or take long, flipped bits.
package harm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// FileSystem makes an ext4 file system in a file and mounts it until the test
// ends, or skips the test where that is not permitted.
func FileSystem(t testing.TB, size int64) string {
	t.Helper()
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("SKIP: no loop file system here: %s: %v: %s", command[0], err, out)
		}
	}
	t.Cleanup(func() {
		// The nodes are gone by then, but the kernel may be a moment behind.
		for range 50 {
			if exec.Command("umount", mount).Run() == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("could not unmount %s", mount)
	})
	return mount
}

// FillDisk takes all space of a file system but for leave bytes, and returns
// the file that holds it.
func FillDisk(dir string, leave int64) (string, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return "", err
	}
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	if size := int64(s.Bavail)*s.Bsize - leave; size > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
			return "", fmt.Errorf("fill %s: %w", dir, err)
		}
	}
	return f.Name(), nil
}

// Freeze makes every write to a file system wait until Thaw. Whoever writes
// meanwhile cannot even be killed.
func Freeze(mount string) error { return fsfreeze("-f", mount) }

// Thaw ends what Freeze began.
func Thaw(mount string) error { return fsfreeze("-u", mount) }

func fsfreeze(what, mount string) error {
	if out, err := exec.Command("fsfreeze", what, mount).CombinedOutput(); err != nil {
		return fmt.Errorf("fsfreeze %s %s: %w: %s", what, mount, err, bytes.TrimSpace(out))
	}
	return nil
}

// FlipBit changes one bit of a file.
func FlipBit(path string, position int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], position); err != nil {
		return err
	}
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], position)
	return err
}

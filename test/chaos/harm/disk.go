// Package harm damages disks and files of nodes: file systems of their own
// that fill up or freeze, system calls that fail or take long, flipped bits.
package harm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// FileSystem makes a file system that ends with the test, or skips the test
// where that is not permitted. It returns where it is mounted.
func FileSystem(t testing.TB, size int64) string {
	t.Helper()
	mount, unmount, err := MakeFileSystem(t.TempDir(), size)
	if err != nil {
		t.Skipf("SKIP: no loop file system here: %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(); err != nil {
			t.Error(err)
		}
	})
	return mount
}

// MakeFileSystem makes an ext4 file system in a file in dir and mounts it there.
func MakeFileSystem(dir string, size int64) (mount string, remove func() error, err error) {
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		return "", nil, err
	}
	f, err := os.Create(image)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return "", nil, err
	}
	if err := run("mkfs.ext4", "-q", "-m", "0", image); err != nil {
		return "", nil, err
	}
	if err := run("mount", "-o", "loop", image, mount); err != nil {
		return "", nil, err
	}
	return mount, func() error { return unmount(mount) }, nil
}

func unmount(mount string) error {
	// The processes are gone by then, but the kernel may be a moment behind.
	var err error
	for range 500 {
		if err = run("umount", mount); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
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
		// Others write meanwhile, and the file itself needs some blocks: then it
		// has what there was, and the disk is full.
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil && !errors.Is(err, syscall.ENOSPC) {
			os.Remove(f.Name())
			return "", fmt.Errorf("fill %s: %w", dir, err)
		}
	}
	return f.Name(), nil
}

// LosePower lets a file system forget what was not synced, as a machine does
// that loses its power. The processes that use it must have been killed. It is
// mounted again when LosePower returns.
func LosePower(mount string) error {
	f, err := os.Open(mount)
	if err != nil {
		return err
	}
	flags := uint32(shutdownWithoutFlush)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), shutdownRequest, uintptr(unsafe.Pointer(&flags)))
	f.Close()
	if errno != 0 {
		return fmt.Errorf("shut down %s: %w", mount, errno)
	}
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := mountAgain(mount)
		if !errors.Is(err, syscall.EIO) || time.Since(begun) > 20*time.Second {
			return err
		}
	}
}

// mountAgain unmounts and mounts a file system. The error is EIO when the kernel
// has not let go of the one that was shut down, and has mounted that again: every
// `ip -n` has all mounts for itself as long as it runs.
func mountAgain(mount string) error {
	if err := unmount(mount); err != nil {
		return err
	}
	if err := run("mount", "-o", "loop", filepath.Join(filepath.Dir(mount), "image"), mount); err != nil {
		return err
	}
	probe, err := os.CreateTemp(mount, "probe-")
	if err != nil {
		return err
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// EXT4_IOC_SHUTDOWN and its EXT4_GOING_FLAGS_NOLOGFLUSH.
const (
	shutdownRequest      = 0x8004587d
	shutdownWithoutFlush = 2
)

// Freeze makes every write to a file system wait until Thaw. Whoever writes
// meanwhile cannot even be killed.
func Freeze(mount string) error { return run("fsfreeze", "-f", mount) }

// Thaw ends what Freeze began.
func Thaw(mount string) error { return run("fsfreeze", "-u", mount) }

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

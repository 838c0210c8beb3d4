package harm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestLossOfPowerForgetsWhatWasNotSynced(t *testing.T) {
	mount := FileSystem(t, 64<<20)
	kept, lost := filepath.Join(mount, "kept"), filepath.Join(mount, "lost")
	f, err := os.Create(kept)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("synced"); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(", not synced"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.WriteFile(lost, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := LosePower(mount); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(kept); err != nil || string(data) != "synced" {
		t.Errorf("synced: %q, %v", data, err)
	}
	if data, err := os.ReadFile(lost); err == nil && len(data) > 0 {
		t.Errorf("not synced: %q", data)
	}
}

// Every `ip -n` of a test beside this one has all mounts for itself for a
// moment, and so keeps the file system that lost its power: that must not be the
// one that comes back.
func TestFileSystemComesBackThoughAnotherHasItMounted(t *testing.T) {
	mount := FileSystem(t, 64<<20)
	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 1")
	out, err := other.StdoutPipe()
	if err == nil {
		err = other.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1))
	}
	if err != nil {
		t.Skipf("SKIP: no mount namespaces here: %v", err)
	}
	began := time.Now()
	if err := LosePower(mount); err != nil {
		t.Fatal(err)
	}
	t.Logf("back after %v", time.Since(began))
	if err := os.WriteFile(filepath.Join(mount, "again"), nil, 0o644); err != nil {
		t.Error(err)
	}
	_ = other.Wait() // sleep has nothing to say
}

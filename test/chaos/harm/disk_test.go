package harm

import (
	"os"
	"path/filepath"
	"testing"
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

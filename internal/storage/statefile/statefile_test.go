package statefile

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"chronik/internal/base/vfs"
)

func TestLoadReturnsWhatWasSaved(t *testing.T) {
	fs := vfs.NewMem()
	if _, err := Load(fs, "vote"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
	for _, v := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{7}, 100_000), []byte("last")} {
		if err := Save(fs, "vote", v); err != nil {
			t.Fatal(err)
		}
		got, err := Load(fs, "vote")
		if err != nil || !bytes.Equal(got, v) {
			t.Errorf("%d bytes, %v, want %d", len(got), err, len(v))
		}
	}
	if err := Remove(fs, "vote"); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(fs, "vote"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed file: %v", err)
	}
	if err := Remove(fs, "vote"); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	good := Encode([]byte("a value of some length"))
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, err := Decode(b); !errors.Is(err, ErrCorrupt) {
				t.Errorf("bit %d of byte %d: %v", bit, i, err)
			}
		}
		if _, err := Decode(good[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := Decode(append(bytes.Clone(good), 0)); !errors.Is(err, ErrCorrupt) {
		t.Error("a byte more is not noticed")
	}
}

func TestACrashAtAnyMomentLeavesTheOldValueOrTheNew(t *testing.T) {
	old, next := bytes.Repeat([]byte("old"), 1000), bytes.Repeat([]byte("next!"), 900)
	power := errors.New("power is gone")
	for n := int64(1); ; n++ {
		disk := vfs.NewMem()
		if err := Save(disk, "vote", old); err != nil {
			t.Fatal(err)
		}
		faulty := vfs.NewFaulty(disk)
		faulty.FailNth(n, power)
		err := Save(faulty, "vote", next)
		for seed := range uint64(20) {
			after := disk.Crash(rand.New(rand.NewPCG(uint64(n), seed)), []float64{0, 0.5, 1}[seed%3])
			got, lerr := Load(after, "vote")
			if lerr != nil || !bytes.Equal(got, next) && (err == nil || !bytes.Equal(got, old)) {
				t.Fatalf("crash at call %d, seed %d: %d bytes, %v", n, seed, len(got), lerr)
			}
			if _, err := Clean(after, "."); err != nil {
				t.Fatal(err)
			}
			if e, _ := after.List("."); len(e) != 1 {
				t.Fatalf("files left: %v", e)
			}
			if err := Save(after, "vote", old); err != nil {
				t.Fatal(err)
			}
		}
		if err == nil {
			return
		}
	}
}

func TestAFailedSaveKeepsTheOldValue(t *testing.T) {
	fs := vfs.NewMem()
	if err := Save(fs, "vote", []byte("old")); err != nil {
		t.Fatal(err)
	}
	fs.SetCapacity(fs.Used() + 10)
	if err := Save(fs, "vote", make([]byte, 1000)); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("%v", err)
	}
	if got, err := Load(fs, "vote"); err != nil || string(got) != "old" {
		t.Errorf("%q %v", got, err)
	}
	if e, _ := fs.List("."); len(e) != 1 {
		t.Errorf("files left: %v", e)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode([]byte("value")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := Decode(b); err == nil && !bytes.Equal(Encode(v), b) && b[6] == 0 && b[7] == 0 {
			t.Error("decoded what Encode does not make")
		}
	})
}

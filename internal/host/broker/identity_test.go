package broker

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/host/deadline"
	"chronik/internal/host/partition"
)

// A node looks into its data directory before it opens it (Inspect); that must
// not make its clean stop look like a crash.
func TestCleanStopIsKnownAtTheNextStart(t *testing.T) {
	fs, now := vfs.NewMem(), time.Unix(1_800_000_000, 0)
	open := func() *Broker {
		t.Helper()
		rng := rand.New(rand.NewPCG(1, 2))
		if _, err := Inspect(fs, "data", 1, rng); err != nil {
			t.Fatal(err)
		}
		b, err := New(now, Options{Node: 1, DataDir: "data"}, Env{
			FS: fs, Log: slog.New(slog.DiscardHandler), Rand: rng, Deadlines: deadline.New(nil),
			Post: func(func(time.Time)) {}, Background: func(func(time.Time)) {}, Ready: func(bool) {},
			ScheduleSync: func(*partition.Partition) {}, Send: func(kafka.NodeID, Class, ...[]byte) {},
			Peers: func(map[kafka.NodeID]string) {}, Fatal: func(err error) { t.Error(err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := open()
	if b.Recovery().CleanShutdown {
		t.Error("a new directory was stopped cleanly")
	}
	if err := b.Close(now); err != nil {
		t.Fatal(err)
	}
	b = open()
	if !b.Recovery().CleanShutdown {
		t.Error("a clean stop is taken for a crash")
	}
	if _, err := fs.Stat("data/" + cleanFile); err == nil {
		t.Error("the mark of the clean stop outlives the start")
	}
	if err := b.Close(now); err != nil {
		t.Fatal(err)
	}
}

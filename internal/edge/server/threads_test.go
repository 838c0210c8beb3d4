package server

import (
	"context"
	"log/slog"
	"runtime/debug"
	"testing"

	"chronik/internal/edge/config"
)

// Go ends a process with more than 10,000 threads. All connections may wait for
// the disk at a time, each with a thread.
func TestEachConnectionMayWaitForTheDisk(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = Run(ctx, config.Config{DataDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	if most := debug.SetMaxThreads(10_000); most < 2*16384 {
		t.Errorf("there may be %d threads", most)
	}
}

package server

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A node that holds as many logs as it may still takes connections, and makes
// the files of its metadata.
func TestLogsLeaveFilesForOthers(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before) //nolint:errcheck // it was in force
	open := func() *os.File {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	logs := 0
	for ; mayOpen() == nil; logs++ {
		open()
	}
	if logs < 100 || logs > 150 {
		t.Errorf("%d files for logs of 200", logs)
	}
	last := open()
	for range 40 {
		open()
	}
	last.Close()
	if err := mayOpen(); err == nil {
		t.Error("a file that was closed is given to a log")
	}
}

package server

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// Files that logs leave for connections, metadata and segments that are made
	// or read: so many, or a quarter of the limit if that is less.
	filesKeptMax = 1000
	// A limit below this is worth a word: it is enough for about 3,000 replicas.
	filesFew = 8192
)

// filesMax is the limit of open files. The Go runtime has raised it as far as
// the process may.
func filesMax() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read limit of open files: %w", err)
	}
	return int(min(limit.Cur, 1<<30)), nil
}

// mayOpen says why the files of one more log may not be opened. The kernel
// gives each file the lowest number that is free.
func mayOpen() error {
	most, err := filesMax()
	if err != nil {
		return nil //nolint:nilerr // then the kernel refuses at the limit
	}
	next, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open one more log: %w", err)
	}
	unix.Close(next) //nolint:errcheck // nothing was written
	if kept := min(filesKeptMax, most/4); next >= most-kept {
		return fmt.Errorf("%d files are open, and %d more are kept for connections and metadata: raise the hard limit of open files (ulimit -Hn, LimitNOFILE= in a systemd unit) and restart the node", most-kept, kept)
	}
	return nil
}

func (n *node) warnOfFewFiles() {
	if most, err := filesMax(); err == nil && most < filesFew {
		n.log.Warn("the limit of open files is low: a replica holds two or three, a connection one; raise the hard limit (ulimit -Hn, LimitNOFILE= in a systemd unit)", "limit", most)
	}
}

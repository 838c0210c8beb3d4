package soak

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/harm"
)

var diskFaults = []kind{
	{name: "lose disk", begin: (*run).wipe, complete: true, alone: true},                         // D13
	{name: "lose power", begin: (*run).losePower, disks: true},                                   // D1, D3
	{name: "lose power everywhere", begin: (*run).losePowerEverywhere, disks: true, alone: true}, // D2
	{name: "sync error", begin: (*run).syncError, disks: true, alone: true},                      // D8
	{name: "write error", begin: (*run).writeError, disks: true, alone: true},                    // D9
	{name: "slow disk", begin: (*run).slowDisk, disks: true},                                     // D12
	{name: "hung disk", begin: (*run).hungDisk, disks: true},                                     // D12
	{name: "full disk", begin: (*run).fullDisk, disks: true, alone: true},                        // D10
	{name: bitFlip, begin: (*run).flipBit, disks: true, complete: true, alone: true},             // D5
}

const bitFlip = "bit flip"

// disk is the file system of a node.
func (r *run) disk(n *cluster.Node) string { return r.disks[n.ID-1] }

func (r *run) losePower() (string, func() error, error) {
	n, role := r.victim()
	if r.held[n.ID] == frozenHold {
		return "", nil, errNotNow
	}
	r.down(n, "lost its power")
	n.Kill()
	if err := harm.LosePower(r.disk(n)); err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("node %d (%s)", n.ID, role), func() error { return r.up(n) }, nil
}

func (r *run) losePowerEverywhere() (string, func() error, error) {
	note, end, err := r.killAll()
	if err != nil {
		return "", nil, err
	}
	for _, n := range r.c.Nodes {
		if err := harm.LosePower(r.disk(n)); err != nil {
			return "", nil, err
		}
	}
	return note, end, nil
}

// inject harms system calls; a process that may not be traced, or that is on
// its way out, is not an error.
func (r *run) inject(n *cluster.Node, path, calls, fault string) (*harm.Injection, error) {
	in, err := harm.Inject(n.PID(), path, calls, fault)
	if errors.Is(err, harm.ErrNotPermitted) {
		return nil, errNotNow
	}
	return in, err
}

// segment draws a partition of a node and returns the file that is written.
func (r *run) segment(n *cluster.Node) (string, error) {
	topic := r.load.topics[r.rng.IntN(len(r.load.topics))]
	files, err := n.Segments(topic.name, int32(r.rng.IntN(int(topic.partitions))))
	if err != nil || len(files) == 0 {
		return "", errNotNow
	}
	return files[len(files)-1], nil
}

func (r *run) syncError() (string, func() error, error) {
	return r.ioError("fdatasync,fsync,sync_file_range", "error=EIO:when=1")
}

func (r *run) writeError() (string, func() error, error) {
	return r.ioError("write,pwrite64,writev,pwritev,pwritev2", "error=EIO:when=1")
}

// ioError lets one call on one partition's file fail. The process may end over
// it; if it does not, it is restarted, as an operator with a bad disk would.
func (r *run) ioError(calls, fault string) (string, func() error, error) {
	n, role := r.victim()
	file, err := r.segment(n)
	if err != nil {
		return "", nil, err
	}
	r.down(n, "its disk failed")
	in, err := r.inject(n, file, calls, fault)
	if err != nil {
		return "", nil, errors.Join(err, r.up(n))
	}
	return fmt.Sprintf("node %d (%s) on %s", n.ID, role, filepath.Base(filepath.Dir(file))), func() error {
		in.Close()
		n.Kill()
		return r.up(n)
	}, nil
}

func (r *run) slowDisk() (string, func() error, error) {
	n, role := r.victim()
	ms := 50 + r.rng.IntN(450)
	if r.held[n.ID] == frozenHold {
		return "", nil, errNotNow
	}
	in, err := r.inject(n, "", "fdatasync,fsync", fmt.Sprintf("delay_enter=%d", ms*1000))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("node %d (%s): %d ms for each sync", n.ID, role, ms), r.hold(n, slowHold, func() error { in.Close(); return nil }), nil
}

func (r *run) hungDisk() (string, func() error, error) {
	n, role := r.victim()
	if err := harm.Freeze(r.disk(n)); err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("node %d (%s)", n.ID, role), r.hold(n, frozenHold, func() error { return harm.Thaw(r.disk(n)) }), nil
}

func (r *run) fullDisk() (string, func() error, error) {
	n, role := r.victim()
	// Without space a node may end, and need a restart when there is some.
	r.down(n, "its disk is full")
	ballast, err := harm.FillDisk(r.disk(n), int64(r.rng.IntN(256<<10)))
	if err != nil {
		return "", nil, errors.Join(err, r.up(n))
	}
	return fmt.Sprintf("node %d (%s)", n.ID, role), func() error {
		if err := os.Remove(ballast); err != nil {
			return err
		}
		if !n.Running() {
			r.say("node %d had ended on a full disk: %s", n.ID, n.LogTail(1))
		}
		return r.up(n)
	}, nil
}

// flipBit damages one partition of a node while it is down.
func (r *run) flipBit() (string, func() error, error) {
	n, role := r.victim()
	r.down(n, "is damaged")
	n.Kill()
	file, err := r.segment(n)
	if err != nil {
		return "", nil, errors.Join(err, r.up(n))
	}
	info, err := os.Stat(file)
	const head = 4096
	if err != nil || info.Size() <= head+1000 {
		return "", nil, errors.Join(errNotNow, r.up(n))
	}
	at := head + r.rng.Int64N(info.Size()-head-500)
	if err := harm.FlipBit(file, at); err != nil {
		return "", nil, err
	}
	if r.flipped, err = takeFlip(file, at); err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("node %d (%s): byte %d of %s", n.ID, role, at, file), func() error {
		time.Sleep(time.Duration(r.rng.IntN(500)) * time.Millisecond)
		return r.up(n)
	}, nil
}

// flip is a byte that was damaged.
type flip struct {
	file string
	at   int64
	is   byte
}

func takeFlip(file string, at int64) (flip, error) {
	b, err := readByte(file, at)
	return flip{file, at, b}, err
}

// there says whether the damage has not been repaired: until then the node's
// replica is in sync, and yet has not all of the records.
func (f flip) there() bool {
	b, err := readByte(f.file, f.at)
	return f.file != "" && err == nil && b == f.is
}

func readByte(file string, at int64) (byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	return b[0], err
}

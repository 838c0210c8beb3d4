package cluster

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PID is the process id of the node's process.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// IO is what a process has read and written since its start (/proc/PID/io).
type IO struct {
	ReadChars  int64 // bytes that read calls returned, from the page cache or not
	ReadBytes  int64 // bytes that came from a disk
	WriteBytes int64 // bytes that went to a disk
}

// IO reads /proc/PID/io.
func (n *Node) IO() (IO, error) {
	fields, err := procFields(fmt.Sprintf("/proc/%d/io", n.PID()))
	return IO{ReadChars: fields["rchar"], ReadBytes: fields["read_bytes"], WriteBytes: fields["write_bytes"]}, err
}

// RSS is the process's resident memory in bytes.
func (n *Node) RSS() (int64, error) {
	fields, err := procFields(fmt.Sprintf("/proc/%d/status", n.PID()))
	return fields["VmRSS"] * 1024, err
}

// CPU is the processor time that a process has used (/proc/PID/stat, utime
// and stime of all its threads).
func CPU(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything; fields are counted after it.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += v
	}
	const ticksPerSecond = 100 // USER_HZ, fixed by Linux's ABI
	return time.Duration(ticks) * (time.Second / ticksPerSecond), nil
}

func procFields(path string) (map[string]int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]int64)
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		if v, err := strconv.ParseInt(number, 10, 64); err == nil {
			fields[name] = v
		}
	}
	return fields, nil
}

// DiskUse is the space that the files under dir take on the disk, as du has it.
func DiskUse(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) { // a file that went away meanwhile
				return nil
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it went away meanwhile
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += s.Blocks * 512
		}
		return nil
	})
	return sum, err
}

// PartitionDir is the directory of a partition's own log.
func (n *Node) PartitionDir(topic string, partition int32) string {
	return filepath.Join(n.DataDir, "wal", "partitions", fmt.Sprintf("%s-%d", topic, partition))
}

// Segments lists the files of a partition's segments, the oldest first.
func (n *Node) Segments(topic string, partition int32) ([]string, error) {
	return filepath.Glob(filepath.Join(n.PartitionDir(topic, partition), "segment_*.wal"))
}

package harm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNotPermitted says that system calls cannot be made to fail here.
var ErrNotPermitted = errors.New("no tracing of processes here")

// Injection is strace at work on a process.
type Injection struct {
	cmd *exec.Cmd
	dir string
}

// Inject makes system calls of a running process on one file, or on all where
// path is "", fail or wait: fault is as strace has it, such as
// error=EIO:when=1+ or delay_enter=200ms. It returns when all threads of the
// process are traced; the error is ErrNotPermitted where that cannot be had.
func Inject(pid int, path, calls, fault string) (*Injection, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return nil, fmt.Errorf("%w: no strace", ErrNotPermitted)
	}
	dir, err := os.MkdirTemp("", "chronik-strace-")
	if err != nil {
		return nil, err
	}
	in := &Injection{dir: dir}
	args := []string{"-f", "-p", fmt.Sprint(pid), "-o", filepath.Join(dir, "calls"), "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + fault}
	if path != "" {
		args = append(args, "-P", path)
	}
	in.cmd = exec.Command("strace", args...)
	var said strings.Builder
	in.cmd.Stderr = &said
	if err := in.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	for begin := time.Now(); !traced(pid); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > 5*time.Second {
			in.Stop()
			return nil, fmt.Errorf("%w: strace: %s", ErrNotPermitted, said.String())
		}
	}
	return in, nil
}

// Stop detaches; what failed before stays failed.
func (in *Injection) Stop() {
	if in.cmd.ProcessState != nil {
		return
	}
	_ = in.cmd.Process.Signal(os.Interrupt) // it may have ended with the process
	_ = in.cmd.Wait()                       // its exit says nothing
}

// Close detaches and removes what was noted of the calls.
func (in *Injection) Close() {
	in.Stop()
	os.RemoveAll(in.dir)
}

// Count is how many calls were harmed.
func (in *Injection) Count() int {
	data, _ := os.ReadFile(filepath.Join(in.dir, "calls")) // no file: none
	return strings.Count(string(data), "INJECTED") + strings.Count(string(data), "DELAYED")
}

// traced says whether every thread of a process has a tracer.
func traced(pid int) bool {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		return false
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(data), "TracerPid:\t0\n") {
			return false
		}
	}
	return true
}

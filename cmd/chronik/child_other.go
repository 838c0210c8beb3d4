//go:build !linux

package main

import "syscall"

// childAttributes give a node a process group of its own, so that Ctrl-C
// reaches only this process.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

//go:build !linux

package server

// mayOpen leaves it to the kernel to refuse.
func mayOpen() error { return nil }

func (n *node) warnOfFewFiles() {}

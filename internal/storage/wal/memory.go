package wal

import "sync/atomic"

// Memory bounds what large appends to many logs leave in memory for the next
// Sync of each, and what is read ahead of these logs: up to 64 MiB of what
// appends leave. When there is no more of it, appends go through the page cache.
// Appends at the same time may go beyond it by what each of them has. Apart from
// it, so many reads past the cache have a chunk each at a time, and others wait.
type Memory struct {
	max   int64
	held  atomic.Int64  // bytes of appends
	reads chan struct{} // those that have a chunk

	ahead ahead
}

// NewMemory is for so many bytes.
func NewMemory(bytes int64) *Memory {
	return &Memory{max: bytes, reads: make(chan struct{}, directReadsMax)}
}

// beginDirect waits for its turn to read past the cache. Who has it calls endDirect.
func (m *Memory) beginDirect() {
	if m != nil {
		m.reads <- struct{}{}
	}
}

func (m *Memory) endDirect() {
	if m != nil {
		<-m.reads
	}
}

// Held is how many bytes are in use for appends.
func (m *Memory) Held() int64 { return m.held.Load() }

// left says whether there is any. A nil Memory has no bound.
func (m *Memory) left() bool { return m == nil || m.held.Load() < m.max }

func (m *Memory) take(bytes int64) {
	if m != nil && m.held.Add(bytes) > m.max-aheadBytesMax && bytes > 0 {
		m.makeWay()
	}
}

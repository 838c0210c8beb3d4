package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash returns the disk as it may be found after a loss of power at this
// moment. Each sector, size and name that was changed and not synced has its
// new state with the given probability, from 0 to 1, and otherwise its synced
// one. The disk itself goes on as if nothing had happened.
//
// With survival 1 it is a copy: what a process finds after it was killed.
func (m *Mem) Crash(rng *rand.Rand, survival float64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := NewMem()
	c := crash{rng: rng, survival: survival, copies: map[*memNode]*memNode{}}
	after.root = c.node(m.root)
	after.limit = m.limit
	for _, n := range c.copies {
		after.used += int64(len(n.data))
	}
	return after
}

type crash struct {
	rng      *rand.Rand
	survival float64
	copies   map[*memNode]*memNode
}

func (c *crash) survives() bool {
	switch {
	case c.survival >= 1:
		return true
	case c.survival <= 0:
		return false
	}
	return c.rng.Float64() < c.survival
}

func (c *crash) node(n *memNode) *memNode {
	if done, ok := c.copies[n]; ok {
		done.links++
		return done
	}
	var out *memNode
	if n.dir {
		out = newMemDir()
	} else {
		out = &memNode{data: c.content(n), links: 1}
		if c.survival >= 1 { // the page cache survives
			out.lost = maps.Clone(n.lost)
		}
		out.sizeSynced = int64(len(out.data))
	}
	c.copies[n] = out
	if !n.dir {
		return out
	}
	for _, name := range sortedNames(n.names, n.namesSynced) {
		is, was := n.names[name], n.namesSynced[name]
		if is != was && !c.survives() {
			is = was
		}
		if is != nil {
			out.names[name] = c.node(is)
			out.namesSynced[name] = out.names[name]
		}
	}
	return out
}

func sortedNames(a, b map[string]*memNode) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

// content is what a file holds after the crash.
func (c *crash) content(n *memNode) []byte {
	size := int64(len(n.data))
	if size != n.sizeSynced && !c.survives() {
		size = n.sizeSynced
	}
	out := make([]byte, size)
	for s := int64(0); s*SectorSize < size; s++ {
		lo, hi := s*SectorSize, min((s+1)*SectorSize, size)
		if lost, ok := n.lost[s]; ok && c.survival < 1 {
			copy(out[lo:hi], lost)
			continue
		}
		old, changed := n.old[s]
		// The end of a file that grew is new even where nothing old was kept.
		if !changed && hi > n.sizeSynced {
			changed = true
			if to := min(n.sizeSynced, int64(len(n.data))); lo < to {
				old = n.data[lo:to]
			}
		}
		if changed && !c.survives() {
			copy(out[lo:hi], old)
		} else if lo < int64(len(n.data)) {
			copy(out[lo:hi], n.data[lo:])
		}
	}
	return out
}

// keepOld saves the synced content of the sectors of [off, off+length) before
// they change.
func (n *memNode) keepOld(off, length int64) {
	for s := off / SectorSize; s*SectorSize < min(off+length, n.sizeSynced); s++ {
		if _, ok := n.old[s]; ok {
			continue
		}
		if n.old == nil {
			n.old = map[int64][]byte{}
		}
		if lost, ok := n.lost[s]; ok {
			n.old[s] = lost
			delete(n.lost, s)
			continue
		}
		lo := min(s*SectorSize, int64(len(n.data)))
		hi := min((s+1)*SectorSize, n.sizeSynced, int64(len(n.data)))
		n.old[s] = slices.Clone(n.data[lo:max(lo, hi)])
	}
}

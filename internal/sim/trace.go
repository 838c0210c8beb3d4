package sim

import (
	"fmt"
	"io"
	"strings"
)

// kind says what a note is about.
type kind uint8

const (
	noteFault kind = iota
	noteProcess
	noteLog
	noteFrame
	noteLink
	noteRequest
	noteAnswer
	noteSync
	notePhase
	noteViolation
	noteMember
)

var kindNames = [...]string{"fault", "process", "log", "frame", "link", "request", "answer", "sync", "phase", "VIOLATION", "member"}

// nowhere stands for no node in a note.
const nowhere = -1

// note is one line of the trace.
type note struct {
	at         instant
	kind       kind
	node, peer int
	x, y       int64
	text       string
}

func (n note) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%12s %-8s", n.at, kindNames[n.kind])
	if n.node != nowhere {
		fmt.Fprintf(&b, " n%d", n.node)
	} else {
		b.WriteString("   ")
	}
	if n.peer != nowhere {
		fmt.Fprintf(&b, ">n%d", n.peer)
	} else {
		b.WriteString("   ")
	}
	switch n.kind {
	case noteFrame:
		fmt.Fprintf(&b, " %s %d bytes, sum %08x", n.text, n.x, uint32(n.y))
	case noteRequest, noteAnswer:
		fmt.Fprintf(&b, " #%d %s %x", n.x, n.text, uint32(n.y))
	default:
		b.WriteString(" " + n.text)
	}
	return b.String()
}

// ringSize is how many notes are kept for the report of a failure.
const ringSize = 1000

// trace is a hash over all that happens, and the last notes.
type trace struct {
	hash uint64
	ring []note
	next int
	out  io.Writer // all notes; may be nil
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func newTrace(out io.Writer) *trace {
	return &trace{hash: fnvOffset, ring: make([]note, 0, ringSize), out: out}
}

func (t *trace) mix(v uint64) { t.hash = (t.hash ^ v) * fnvPrime }

func (t *trace) step(at instant, seq uint64) {
	t.mix(uint64(at))
	t.mix(seq)
}

func (w *world) note(k kind, node, peer int, x, y int64, text string) {
	t := w.trace
	t.mix(uint64(k)<<32 ^ uint64(node+1)<<16 ^ uint64(peer+1))
	t.mix(uint64(x))
	t.mix(uint64(y))
	for i := 0; i < len(text); i++ {
		t.hash = (t.hash ^ uint64(text[i])) * fnvPrime
	}
	n := note{w.now, k, node, peer, x, y, text}
	if len(t.ring) < ringSize {
		t.ring = append(t.ring, n)
	} else {
		t.ring[t.next] = n
		t.next = (t.next + 1) % ringSize
	}
	if t.out != nil {
		fmt.Fprintln(t.out, n)
	}
}

// last are the notes that are kept, oldest first.
func (t *trace) last() []note {
	return append(append([]note(nil), t.ring[t.next:]...), t.ring[:t.next]...)
}

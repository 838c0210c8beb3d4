package wal

import (
	"container/list"
	"sync"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
)

// What readers who are behind are going to read next is read ahead, past the
// page cache, into pieces that all readers of a log find: so the disk works
// while what was read before is being sent, and several who read the same read
// it once. What is in a piece are bytes of the file: whoever reads batches from
// it checks them as if they had just come from the disk.

const (
	// aheadBytesMax is what all logs together keep of what was read ahead.
	aheadBytesMax = 64 << 20
	// aheadRounds is for how many times all of it others must have been read
	// ahead until what nobody has come for makes room.
	aheadRounds = 2
)

// pieceKey is a place in a file: the chunk with this number.
type pieceKey struct {
	log     *Log
	segment *segment
	number  int64
}

// piece is one chunk of a file. It is guarded by ahead.mu; buf is written by
// who began it, until loaded is closed, and by nobody afterwards.
type piece struct {
	key    pieceKey
	buf    *directBuffer
	n      int
	loaded chan struct{}
	users  int
	wanted bool  // nobody has read its end yet
	begun  int64 // ahead.count at its begin
	idle   bool  // nobody has used it since Age was last called
	at     *list.Element
}

// ahead is the pieces of several logs.
type ahead struct {
	mu     sync.Mutex
	pieces map[pieceKey]*piece
	order  list.List // the least recently used first
	count  int64     // pieces that were asked for
}

// find returns the piece if there is one, and keeps it until release. It waits
// for whoever is reading it.
func (m *Memory) find(key pieceKey) *piece {
	a := &m.ahead
	a.mu.Lock()
	p := a.pieces[key]
	if p == nil {
		a.mu.Unlock()
		return nil
	}
	p.users++
	p.idle = false
	a.order.MoveToBack(p.at)
	a.mu.Unlock()
	<-p.loaded
	return p
}

// begin makes a piece that the caller must finish. There is none if it is there
// already, which more says, or if there is no room.
func (m *Memory) begin(key pieceKey) (p *piece, more bool) {
	a := &m.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count++
	if a.pieces[key] != nil {
		return nil, true
	}
	most := m.piecesMax()
	a.shrink(most-1, func(old *piece) bool {
		return !old.wanted || a.count-old.begun > aheadRounds*aheadBytesMax/directChunk
	})
	if len(a.pieces) >= most {
		return nil, false
	}
	p = &piece{key: key, buf: takeBuffer(), loaded: make(chan struct{}), users: 1, wanted: true, begun: a.count}
	p.at = a.order.PushBack(p)
	if a.pieces == nil {
		a.pieces = make(map[pieceKey]*piece)
	}
	a.pieces[key] = p
	return p, true
}

// piecesMax is how many pieces there may be: appends have the first right.
func (m *Memory) piecesMax() int {
	return int(max(0, min(aheadBytesMax, m.max-m.held.Load())) / directChunk)
}

// makeWay is for when appends have taken more.
func (m *Memory) makeWay() {
	a := &m.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shrink(m.piecesMax(), func(*piece) bool { return true })
}

// Age forgets what was read ahead and has not been used since it was last called,
// so that a node whose consumers have come to the end gives the memory back.
func (m *Memory) Age() {
	a := &m.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shrink(0, func(p *piece) bool {
		was := p.idle
		p.idle = true
		return was
	})
}

// shrink removes pieces that may go, and that nobody is using, until no more
// than so many are left. mu is held.
func (a *ahead) shrink(to int, may func(*piece) bool) {
	for e := a.order.Front(); e != nil && len(a.pieces) > to; {
		p := e.Value.(*piece)
		e = e.Next()
		if p.users == 0 && may(p) {
			a.remove(p)
		}
	}
}

// remove takes a piece out, so that it is found no more. mu is held.
func (a *ahead) remove(p *piece) {
	if p.at == nil {
		return
	}
	delete(a.pieces, p.key)
	a.order.Remove(p.at)
	p.at = nil
	if p.users == 0 {
		directBuffers.Put(p.buf)
	}
}

// finish says that the piece has so many bytes; none if it could not be read.
func (m *Memory) finish(p *piece, n int) {
	a := &m.ahead
	a.mu.Lock()
	p.n = n
	if n == 0 {
		a.remove(p)
	}
	a.mu.Unlock()
	close(p.loaded)
	m.release(p, false)
}

// release lets go of a piece. Read says that its end was read.
func (m *Memory) release(p *piece, read bool) {
	a := &m.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	p.users--
	p.wanted = p.wanted && !read
	if p.users == 0 && p.at == nil {
		directBuffers.Put(p.buf)
	}
}

// drop forgets what was read of a log, which holds something else from now on.
func (m *Memory) drop(l *Log) {
	if m == nil {
		return
	}
	a := &m.ahead
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, p := range a.pieces {
		if key.log == l {
			a.remove(p)
		}
	}
}

// ReadAhead reads up to maxBytes of what a reader that has come to from, with
// Read, is going to read next, if that is far behind the end of the log and
// there is room. What goes wrong shows when it is read.
func (l *Log) ReadAhead(from, limit kafka.Offset, maxBytes int) {
	r, err := l.beginRead(from, limit)
	if err != nil || r.segment == nil || r.pos == 0 {
		return
	}
	m := l.options().Memory
	end := min(r.pos+int64(maxBytes), r.size)
	if m == nil || !l.directReads(&r, int(end-r.pos)) || r.segment.damage != nil {
		return
	}
	f, err := r.segment.hold(l.fs)
	if err != nil {
		return
	}
	defer r.segment.release()
	if !r.last {
		l.touch(r.segment)
	}
	for number := r.pos / directChunk; number*directChunk < end; number++ {
		if !r.holds(number) || !l.loadPiece(&r, m, f, number) {
			return
		}
	}
}

// loadPiece has the piece read if it is not there. It says whether to go on.
func (l *Log) loadPiece(r *reading, m *Memory, f vfs.File, number int64) bool {
	p, more := m.begin(pieceKey{l, r.segment, number})
	if p == nil {
		return more
	}
	n, err := f.ReadDirectAt(p.buf.bytes, number*directChunk)
	if err != nil && n < int(min(directChunk, r.size-number*directChunk)) {
		m.finish(p, 0)
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cuts != r.cuts || l.closed {
		n = 0 // it may not be what the log holds
	}
	m.finish(p, int(min(int64(n), r.size-number*directChunk)))
	return n > 0
}

// readPieces copies the bytes from the reader's place on out of pieces, and
// returns how many they are. It reads those that are not there, so that neither
// whoever reads ahead nor the next reader does it again.
func (l *Log) readPieces(r *reading, f vfs.File, b []byte) int {
	m := l.options().Memory
	if m == nil {
		return 0
	}
	total := 0
	for total < len(b) {
		at := r.pos + int64(total)
		number := at / directChunk
		p := m.find(pieceKey{l, r.segment, number})
		if p == nil && r.holds(number) && l.loadPiece(r, m, f, number) {
			p = m.find(pieceKey{l, r.segment, number})
		}
		if p == nil {
			break
		}
		skip, n := int(at%directChunk), 0
		if skip < p.n {
			n = copy(b[total:], p.buf.bytes[skip:p.n])
		}
		m.release(p, n > 0 && skip+n == p.n)
		if total += n; n == 0 {
			break
		}
	}
	return total
}

// holds says whether a chunk of the segment can be read ahead: not the one with
// the log's end, which is still to be written.
func (r *reading) holds(number int64) bool {
	return !r.last || (number+1)*directChunk <= r.size
}

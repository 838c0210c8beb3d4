package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"chronik/internal/base/kafka"
)

var errHello = errors.New("not a chronik peer: this port is for other nodes, not for clients")

// hello is what a dialler says of itself.
type hello struct {
	version  int
	class    int
	from, to kafka.NodeID
	cluster  string
}

// frameReader cuts frames out of a stream, in place where they fit its buffer.
type frameReader struct {
	src        io.Reader
	buf        []byte
	begin, end int
}

func newFrameReader(src io.Reader) *frameReader {
	return &frameReader{src: src, buf: make([]byte, 64<<10)}
}

// need has at least n bytes in memory from begin on. The buffer grows as bytes
// arrive, not by what a length says.
func (r *frameReader) need(n int) error {
	for r.end-r.begin < n {
		if len(r.buf)-r.begin < n {
			if r.begin > 0 {
				r.end = copy(r.buf, r.buf[r.begin:r.end])
				r.begin = 0
			}
			if r.end == len(r.buf) {
				grown := make([]byte, min(2*len(r.buf), max(n, len(r.buf)+1)))
				copy(grown, r.buf[:r.end])
				r.buf = grown
			}
		}
		k, err := r.src.Read(r.buf[r.end:])
		r.end += k
		if k == 0 && err != nil {
			return err
		}
	}
	return nil
}

func (r *frameReader) next() ([]byte, error) {
	if r.begin == r.end {
		r.begin, r.end = 0, 0
	}
	if err := r.need(4); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(r.buf[r.begin:]))
	if n > frameBytesMax {
		return nil, fmt.Errorf("frame of %d bytes from a peer", n)
	}
	if err := r.need(4 + n); err != nil {
		return nil, err
	}
	frame := r.buf[r.begin+4 : r.begin+4+n : r.begin+4+n]
	r.begin += 4 + n
	return frame, nil
}

// more says whether another whole frame is in memory.
func (r *frameReader) more() bool {
	have := r.end - r.begin
	return have >= 4 && have-4 >= int(binary.BigEndian.Uint32(r.buf[r.begin:]))
}

func (r *frameReader) hello() (hello, error) {
	const fixed = 15
	var h hello
	if err := r.need(len(magic)); err != nil {
		return h, err
	}
	if string(r.buf[r.begin:r.begin+len(magic)]) != magic {
		return h, errHello
	}
	if err := r.need(fixed); err != nil {
		return h, err
	}
	b := r.buf[r.begin:]
	h.version, h.class = int(b[4]), int(b[5])
	h.from, h.to = kafka.NodeID(binary.BigEndian.Uint32(b[6:])), kafka.NodeID(binary.BigEndian.Uint32(b[10:]))
	n := int(b[14])
	if err := r.need(fixed + n); err != nil {
		return h, err
	}
	h.cluster = string(r.buf[r.begin+fixed : r.begin+fixed+n])
	r.begin += fixed + n
	return h, nil
}

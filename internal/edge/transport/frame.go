package transport

import (
	"encoding/binary"
	"fmt"
	"io"
)

// frameReader cuts frames out of a stream, in place where they fit its buffer.
type frameReader struct {
	src        io.Reader
	buf        []byte
	begin, end int
	most       int // bytes of a frame
}

const (
	bufferBytes = 64 << 10
	// bufferKept is how large a buffer may stay when its frames have been read:
	// larger than what is usual between nodes.
	bufferKept = 4 << 20
)

func newFrameReader(src io.Reader) *frameReader {
	return &frameReader{src: src, buf: make([]byte, bufferBytes), most: frameBytesMax}
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
		if len(r.buf) > bufferKept {
			r.buf = make([]byte, bufferBytes)
		}
	}
	if err := r.need(4); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(r.buf[r.begin:]))
	if n > r.most {
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

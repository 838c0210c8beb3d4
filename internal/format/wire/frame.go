package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"chronik/internal/base/invariant"
)

const (
	// FrameBytesMax is the largest frame that a Reader takes unless told
	// otherwise, Kafka's default of socket.request.max.bytes.
	FrameBytesMax = 100 << 20

	lengthBytes      = 4
	aheadBytesMin    = 4 << 10
	aheadBytesMax    = 32 << 10
	provenBytesMax   = poolBytesMax
	emptyReadsMax    = 100
	firstGrowthBytes = 2 * aheadBytesMin
)

// ReaderOptions are the limits of a Reader.
type ReaderOptions struct {
	// FrameBytesMax is the largest frame taken, without its length field.
	// Default: FrameBytesMax, 100 MiB.
	FrameBytesMax int
	// Poison overwrites the bytes of a released frame, so that a test sees
	// who still reads them. Builds with the race detector always do.
	Poison bool
}

func (o ReaderOptions) withDefaults() ReaderOptions {
	if o.FrameBytesMax == 0 {
		o.FrameBytesMax = FrameBytesMax
	}
	o.Poison = o.Poison || raceDetector
	return o
}

// Reader cuts the frames out of one connection's bytes. Memory is taken for
// bytes that have arrived, never for a length that was only declared: a frame
// beyond what the connection has proven to send grows by doubling. Small
// frames are read many at a time; a large one is read into its own buffer.
//
// A Reader belongs to one goroutine. The frames may be released by others.
type Reader struct {
	src     io.Reader
	options ReaderOptions
	err     error

	ahead []byte // the bytes read ahead are ahead[start:end]
	start int
	end   int
	// proven is the size of the largest frame that this connection has sent
	// in full, at most provenBytesMax; up to it a declared length is believed.
	proven int
}

// NewReader returns a Reader of the frames in src.
func NewReader(src io.Reader, o ReaderOptions) *Reader {
	return &Reader{src: src, options: o.withDefaults(), ahead: make([]byte, aheadBytesMin)}
}

// SetFrameBytesMax changes the largest frame taken from here on. A listener
// keeps it low until the client is authenticated.
func (r *Reader) SetFrameBytesMax(n int) { r.options.FrameBytesMax = n }

// Next returns the next frame, without its length field; the caller must
// Release it. Between two frames the end of src is io.EOF, within a frame
// io.ErrUnexpectedEOF. A length out of bounds is ErrFrameLength or
// ErrFrameTooLarge. After an error, every call returns that error.
func (r *Reader) Next() (*Frame, error) {
	if r.err != nil {
		return nil, r.err
	}
	f, err := r.next()
	if err != nil {
		r.err = err
		return nil, err
	}
	return f, nil
}

// Buffered says whether Next will return without reading from src: the next
// frame has been read ahead in full, or is known to be refused.
func (r *Reader) Buffered() bool {
	if r.err != nil {
		return true
	}
	if r.end-r.start < lengthBytes {
		return false
	}
	size, err := r.declared()
	return err != nil || r.end-r.start-lengthBytes >= size
}

func (r *Reader) next() (*Frame, error) {
	for r.end-r.start < lengthBytes {
		if err := r.fill(); err != nil {
			if err == io.EOF && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	size, err := r.declared()
	if err != nil {
		return nil, err
	}
	r.start += lengthBytes
	if size <= len(r.ahead)-lengthBytes {
		return r.small(size)
	}
	return r.large(size)
}

func (r *Reader) declared() (int, error) {
	size := int(int32(binary.BigEndian.Uint32(r.ahead[r.start:])))
	if size < 0 {
		return 0, fmt.Errorf("read frame of %d bytes: %w", size, ErrFrameLength)
	}
	if size > r.options.FrameBytesMax {
		return 0, fmt.Errorf("read frame of %d bytes, limit %d: %w", size, r.options.FrameBytesMax, ErrFrameTooLarge)
	}
	return size, nil
}

// small waits until a whole frame has been read ahead and copies it out.
func (r *Reader) small(size int) (*Frame, error) {
	for r.end-r.start < size {
		if err := r.fill(); err != nil {
			return nil, midFrame(err)
		}
	}
	f := newFrame(size, r.options.Poison)
	copy(f.bytes, r.ahead[r.start:r.start+size])
	r.start += size
	return f, nil
}

// large reads the rest of a frame straight into its buffer, which doubles
// with the bytes that have arrived.
func (r *Reader) large(size int) (*Frame, error) {
	have := r.end - r.start
	f := newFrame(min(size, max(r.proven, firstGrowthBytes, 2*have)), r.options.Poison)
	copied := copy(f.bytes, r.ahead[r.start:r.end])
	r.start += copied
	have, empty := copied, 0
	for have < size {
		if have == len(f.bytes) {
			f = f.grown(min(size, 2*have))
		}
		n, err := r.src.Read(f.bytes[have:])
		invariant.Check(n >= 0 && n <= len(f.bytes)-have, "takes more bytes than it asked for")
		have += n
		if have == size {
			break
		}
		if empty++; n > 0 {
			empty = 0
		}
		if err == nil && empty >= emptyReadsMax {
			err = io.ErrNoProgress
		}
		if err != nil {
			f.Release()
			return nil, midFrame(err)
		}
	}
	r.proven = max(r.proven, min(size, provenBytesMax))
	return f, nil
}

// fill reads ahead at least one byte more.
func (r *Reader) fill() error {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if r.end == len(r.ahead) {
		r.makeRoom()
	}
	for range emptyReadsMax {
		n, err := r.src.Read(r.ahead[r.end:])
		invariant.Check(n >= 0 && n <= len(r.ahead)-r.end, "takes more bytes than it asked for")
		r.end += n
		if n > 0 {
			return nil // an error will come again with the next read
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom moves what has been read ahead to the front. That it filled the
// buffer says that the client sends many requests at a time: read more.
func (r *Reader) makeRoom() {
	dst := r.ahead
	if len(dst) < aheadBytesMax {
		dst = make([]byte, 2*len(dst))
	}
	r.end = copy(dst, r.ahead[r.start:r.end])
	r.start = 0
	r.ahead = dst
}

func midFrame(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

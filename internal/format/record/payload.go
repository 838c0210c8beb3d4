package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
)

// DecompressBytesMax is the default limit of what one batch may decompress to.
const DecompressBytesMax = 64 << 20

const (
	retainBytesMax  = 4 << 20  // a larger buffer is not kept for the next batch
	readBytesMin    = 32 << 10 // room for one read from a decompressor
	snappyExpansion = 22       // three bytes of snappy make 64 at most
)

var (
	errEnds     = errors.New("records end too early")
	errTooLarge = errors.New("records decompress to too many bytes")
)

// payload yields the decompressed records of a batch, a piece at a time where
// the codec allows it. Memory grows with what has come out, never with what
// the input declares, and never past limit by more than one block.
type payload struct {
	data []byte // data[r:w] has come out and is not yet used up
	r, w int
	own  []byte // what data is a part of, unless the batch is not compressed
	done bool   // nothing more will come out

	limit  int
	total  int  // has come out
	strict bool // refuse what only some decoders accept
	gate   bool // wait for a slot before a large buffer is made
	slot   bool // one of largeSlots is held

	src    []byte // compressed bytes still to go
	refill func(*payload) error
	lz4    lz4Frame
	gzip   *gzip.Reader
	gzipIn bytes.Reader
}

// largeSlots bounds the memory that hostile producers can tie down at once.
var largeSlots = make(chan struct{}, 4)

// open begins with the records of b.
func (p *payload) open(b Batch, limit int, strict, gate bool) error {
	if limit <= 0 {
		limit = DecompressBytesMax
	}
	p.data, p.r, p.w, p.done, p.total = p.own[:cap(p.own)], 0, 0, false, 0
	p.limit, p.strict, p.gate = limit, strict, gate
	p.src, p.refill = b[HeaderSize:], nil
	switch codec := b.Codec(); codec {
	case None:
		p.data, p.w, p.done = p.src, len(p.src), true
		return nil
	case Gzip:
		return p.openGzip()
	case Snappy:
		return p.openSnappy()
	case LZ4:
		p.refill = (*payload).refillLZ4
		return p.openLZ4()
	case Zstd:
		return p.readZstd()
	default:
		return fmt.Errorf("%v is not known", codec)
	}
}

// close lets go of the batch, and of memory that is too much to keep.
func (p *payload) close() {
	p.data, p.src, p.r, p.w, p.done = nil, nil, 0, 0, true
	p.gzipIn.Reset(nil)
	if cap(p.own) > retainBytesMax {
		p.own = nil
	}
	if p.slot {
		p.slot = false
		<-largeSlots
	}
}

// ensure sees to it that n bytes are at hand. It moves those that are.
func (p *payload) ensure(n int) error {
	for p.w-p.r < n {
		if p.done {
			return errEnds
		}
		if err := p.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill makes at least one more byte come out, or sets done.
func (p *payload) fill() error {
	before := p.w - p.r
	for !p.done && p.w-p.r == before {
		if err := p.refill(p); err != nil {
			return err
		}
	}
	if p.total > p.limit {
		return errTooLarge
	}
	return nil
}

// all makes the rest come out.
func (p *payload) all() ([]byte, error) {
	for !p.done {
		if err := p.fill(); err != nil {
			return nil, err
		}
	}
	return p.data[p.r:p.w], nil
}

// room makes place for n more bytes and returns it.
func (p *payload) room(n int) []byte {
	if len(p.data)-p.w < n {
		kept := p.w - p.r
		if len(p.data) >= kept+n && p.r >= kept {
			copy(p.data, p.data[p.r:p.w])
		} else {
			next := p.make(max(kept+n, min(2*len(p.data), p.limit+readBytesMin)))
			copy(next, p.data[p.r:p.w])
			p.own, p.data = next, next
		}
		p.r, p.w = 0, kept
	}
	return p.data[p.w : p.w+n]
}

func (p *payload) make(n int) []byte {
	if p.gate && !p.slot && n > retainBytesMax {
		largeSlots <- struct{}{}
		p.slot = true
	}
	return make([]byte, n)
}

func (p *payload) came(n int) {
	p.w += n
	p.total += n
}

func (p *payload) openGzip() error {
	if p.gzip == nil {
		p.gzip = new(gzip.Reader)
	}
	p.gzipIn.Reset(p.src)
	p.refill = (*payload).refillGzip
	if err := p.gzip.Reset(&p.gzipIn); err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	return nil
}

func (p *payload) refillGzip() error {
	p.room(readBytesMin)
	n, err := p.gzip.Read(p.data[p.w:])
	p.came(n)
	if err == io.EOF {
		p.done = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	return nil
}

// xerialMagic begins what snappy-java writes: two version numbers follow, then
// blocks, each after its length. Without it the bytes are one plain block.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderSize = 16

func (p *payload) openSnappy() error {
	if !bytes.HasPrefix(p.src, xerialMagic) {
		p.done = true
		return p.snappyBlock(p.src)
	}
	if len(p.src) < xerialHeaderSize {
		return errEnds
	}
	p.src = p.src[xerialHeaderSize:]
	p.refill = (*payload).refillXerial
	return nil
}

func (p *payload) refillXerial() error {
	if len(p.src) == 0 {
		p.done = true
		return nil
	}
	if len(p.src) < 4 {
		return errEnds
	}
	n := binary.BigEndian.Uint32(p.src)
	p.src = p.src[4:]
	if uint64(n) > uint64(len(p.src)) {
		return errEnds
	}
	block := p.src[:n]
	p.src = p.src[n:]
	return p.snappyBlock(block)
}

func (p *payload) snappyBlock(block []byte) error {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return fmt.Errorf("snappy: %w", err)
	}
	if n > snappyExpansion*len(block) {
		return fmt.Errorf("snappy: %w", snappy.ErrCorrupt)
	}
	if p.total+n > p.limit {
		return errTooLarge
	}
	decode := snappy.Decode
	if p.strict {
		decode = snappy.DecodeStrict
	}
	if _, err := decode(p.room(n), block); err != nil {
		return fmt.Errorf("snappy: %w", err)
	}
	p.came(n)
	return nil
}

package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// DecompressBytesMax is the default limit of what one batch may decompress to.
const DecompressBytesMax = 64 << 20

const (
	retainBytesMax  = 4 << 20  // a larger buffer is not kept for the next batch
	readBytesMin    = 32 << 10 // room for one read from a decompressor
	zstdWindowMax   = 1 << 27  // the largest that zstd's own decoder takes without being told
	snappyExpansion = 22       // three bytes of snappy make 64 at most
	lz4Expansion    = 255
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

// zstdDecoder is shared: DecodeAll keeps no state between calls, and as many
// run at once as there are processors.
var zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)),
		zstd.WithDecoderMaxWindow(zstdWindowMax),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

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

// readZstd decompresses everything at once: the output then serves as the
// window, whatever size of window the frame declares.
func (p *payload) readZstd() error {
	p.done = true
	size := min(max(len(p.data), 4*len(p.src), readBytesMin), p.limit)
	for {
		if len(p.data) < size {
			p.data = p.make(size)
			p.own = p.data
		}
		out, err := zstdDecoder().DecodeAll(p.src, p.data[0:0:size])
		if err == nil {
			if len(out) > 0 && &out[0] != &p.data[0] {
				p.own, p.data = out, out
			}
			p.came(len(out))
			return nil
		}
		if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return fmt.Errorf("zstd: %w", err)
		}
		if size == p.limit {
			return errTooLarge
		}
		size = min(4*size, p.limit)
	}
}

// lz4Frame is what the header of a frame said.
type lz4Frame struct {
	blockBytesMax int
	blockSum      bool
	contentSum    bool
}

const (
	lz4Magic             = 0x184d2204
	lz4FlagVersion       = 0x40 // the two highest bits are 01
	lz4FlagIndependent   = 0x20
	lz4FlagBlockSum      = 0x10
	lz4FlagContentSize   = 0x08
	lz4FlagContentSum    = 0x04
	lz4BlockUncompressed = 1 << 31
)

// openLZ4 reads a frame's header. Like Kafka it knows independent blocks
// only and no dictionary, since its clients could not read anything else.
func (p *payload) openLZ4() error {
	h := p.src
	if len(h) < 7 || binary.LittleEndian.Uint32(h) != lz4Magic {
		return errors.New("lz4: not a frame")
	}
	flag, descriptor := h[4], h[5]
	n := 6
	if flag&lz4FlagContentSize != 0 {
		n += 8
	}
	if flag&0xc3 != lz4FlagVersion || flag&lz4FlagIndependent == 0 || descriptor&0x8f != 0 || descriptor < 0x40 || len(h) <= n {
		return errors.New("lz4: frame is of a kind that is not supported")
	}
	if byte(xxh32(h[4:n])>>8) != h[n] {
		return errors.New("lz4: frame header has a wrong checksum")
	}
	p.lz4 = lz4Frame{
		blockBytesMax: 1 << (8 + 2*(descriptor>>4)),
		blockSum:      flag&lz4FlagBlockSum != 0,
		contentSum:    flag&lz4FlagContentSum != 0,
	}
	p.src = h[n+1:]
	return nil
}

func (p *payload) refillLZ4() error {
	if len(p.src) < 4 {
		return errEnds
	}
	head := binary.LittleEndian.Uint32(p.src)
	p.src = p.src[4:]
	if head == 0 {
		return p.endLZ4()
	}
	n := int(head &^ lz4BlockUncompressed)
	sum := 0
	if p.lz4.blockSum {
		sum = 4
	}
	if n > p.lz4.blockBytesMax || n+sum > len(p.src) {
		return errEnds
	}
	block := p.src[:n]
	if sum != 0 && binary.LittleEndian.Uint32(p.src[n:]) != xxh32(block) {
		return errors.New("lz4: block has a wrong checksum")
	}
	p.src = p.src[n+sum:]
	if head&lz4BlockUncompressed != 0 {
		p.came(copy(p.room(n), block))
		return nil
	}
	out, err := lz4.UncompressBlock(block, p.room(min(p.lz4.blockBytesMax, lz4Expansion*n+64)))
	if err != nil {
		return fmt.Errorf("lz4: %w", err)
	}
	p.came(out)
	return nil
}

func (p *payload) endLZ4() error {
	want := 0
	if p.lz4.contentSum {
		want = 4 // not verified: the batch's CRC covers the bytes that it is of
	}
	if len(p.src) != want {
		return errors.New("lz4: frame ends in a wrong place")
	}
	p.done = true
	return nil
}

package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pierrec/lz4/v4"
)

const lz4Expansion = 255 // a byte of lz4 makes no more than that many

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

package record

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	zstdWindowMax     = 1 << 27   // the largest that zstd's own decoder takes without being told
	zstdBlockBytesMax = 128 << 10 // what one block makes at most
	zstdSlack         = 64        // the decoder is faster if it may write past the end
)

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

// readZstd decompresses everything at once: the output then serves as the
// window, whatever size of window the frame declares. The buffer grows in
// steps, since most of what the blocks could make is usually not made.
func (p *payload) readZstd() error {
	p.done = true
	bound, err := zstdBound(p.src)
	if err != nil {
		return err
	}
	bound = min(bound, p.limit) + zstdSlack
	size := min(max(len(p.data), 4*len(p.src), readBytesMin), bound)
	for {
		if len(p.data) < size {
			p.data = p.make(size)
			p.own = p.data
		}
		out, err := zstdDecoder().DecodeAll(p.src, p.data[0:0:size])
		if err == nil {
			if len(out) > p.limit {
				return errTooLarge
			}
			if len(out) > 0 && &out[0] != &p.data[0] {
				p.own, p.data = out, out
			}
			p.came(len(out))
			return nil
		}
		// The decoder does not always say that it wants room only, and at
		// the bound it cannot.
		if size == bound {
			return fmt.Errorf("zstd: %w", err)
		}
		size = min(4*size, bound)
	}
}

var errZstdFrame = errors.New("zstd: frame is malformed")

// zstdBound walks frames and the headers of their blocks for the largest
// number of bytes that can come out.
func zstdBound(src []byte) (int, error) {
	bound := 0
	for len(src) > 0 {
		var h zstd.Header
		if err := h.Decode(src); err != nil {
			return 0, fmt.Errorf("zstd: %w", err)
		}
		src = src[h.HeaderSize:]
		if h.Skippable {
			if uint64(h.SkippableSize) > uint64(len(src)) {
				return 0, errZstdFrame
			}
			src = src[h.SkippableSize:]
			continue
		}
		frame, rest, ok := zstdBlocks(src)
		if !ok || h.HasFCS && h.FrameContentSize > uint64(frame) {
			return 0, errZstdFrame
		}
		src = rest
		if h.HasCheckSum {
			if len(src) < 4 {
				return 0, errZstdFrame
			}
			src = src[4:]
		}
		if h.HasFCS {
			frame = int(h.FrameContentSize)
		}
		bound = min(bound+frame, math.MaxInt32)
	}
	return bound, nil
}

// zstdBlocks walks the blocks of one frame.
func zstdBlocks(src []byte) (bound int, rest []byte, ok bool) {
	for last := false; !last; {
		if len(src) < 3 {
			return 0, nil, false
		}
		head := int(src[0]) | int(src[1])<<8 | int(src[2])<<16
		src = src[3:]
		last = head&1 != 0
		in, out := head>>3, head>>3 // plain
		switch head >> 1 & 3 {
		case 1: // one byte, repeated
			in = 1
		case 2: // compressed
			out = zstdBlockBytesMax
		case 3:
			return 0, nil, false
		}
		if in > len(src) || out > zstdBlockBytesMax {
			return 0, nil, false
		}
		src = src[in:]
		bound += out
	}
	return bound, src, true
}

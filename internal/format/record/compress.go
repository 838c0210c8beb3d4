package record

import (
	"encoding/binary"
	"runtime"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"chronik/internal/base/invariant"
)

// The levels that Kafka has as defaults. 0 means the codec's default anywhere.
const (
	GzipLevelDefault = -1
	LZ4LevelDefault  = 9
	ZstdLevelDefault = 3
)

const (
	snappyBlockBytes = 32 << 10 // snappy-java's
	lz4BlockBytes    = 64 << 10 // the Java client's
	lz4Descriptor    = 0x40     // says so
	lz4Flag          = lz4FlagVersion | lz4FlagIndependent
)

// compress appends src, compressed, to dst. The level is on the scale of the
// topic's setting compression.<codec>.level; snappy has none.
func compress(dst []byte, codec Codec, level int, src []byte) []byte {
	switch codec {
	case None:
		return append(dst, src...)
	case Gzip:
		return compressGzip(dst, level, src)
	case Snappy:
		return compressSnappy(dst, src)
	case LZ4:
		return compressLZ4(dst, level, src)
	case Zstd:
		if level == 0 {
			level = ZstdLevelDefault
		}
		return zstdEncoders[zstd.EncoderLevelFromZstd(level)]().EncodeAll(src, dst)
	}
	invariant.Check(false, "compresses with an unknown codec")
	return nil
}

var zstdEncoders = func() (encoders [zstd.SpeedBestCompression + 1]func() *zstd.Encoder) {
	for level := zstd.SpeedFastest; level <= zstd.SpeedBestCompression; level++ {
		encoders[level] = sync.OnceValue(func() *zstd.Encoder {
			e, err := zstd.NewWriter(nil,
				zstd.WithEncoderLevel(level),
				zstd.WithEncoderConcurrency(min(runtime.GOMAXPROCS(0), 8)),
				zstd.WithLowerEncoderMem(true),
				zstd.WithZeroFrames(true),
				zstd.WithEncoderCRC(false)) // the batch has its own
			if err != nil {
				panic(err) // the options are constants
			}
			return e
		})
	}
	return encoders
}()

type byteSink struct{ b []byte }

func (s *byteSink) Write(b []byte) (int, error) {
	s.b = append(s.b, b...)
	return len(b), nil
}

type gzipWriter struct {
	writer *gzip.Writer
	sink   byteSink
}

var gzipWriters [gzip.BestCompression + 2]sync.Pool // by level, from -1

func compressGzip(dst []byte, level int, src []byte) []byte {
	if level < gzip.BestSpeed || level > gzip.BestCompression {
		level = GzipLevelDefault
	}
	pool := &gzipWriters[level+1]
	w, _ := pool.Get().(*gzipWriter)
	if w == nil {
		w = new(gzipWriter)
		w.writer, _ = gzip.NewWriterLevel(nil, level) // fails for a level out of range only
	}
	w.sink.b = dst
	w.writer.Reset(&w.sink)
	w.writer.Write(src) //nolint:errcheck // a byteSink does not fail
	w.writer.Close()
	dst, w.sink.b = w.sink.b, nil
	pool.Put(w)
	return dst
}

// compressSnappy frames as snappy-java does, which all clients read.
func compressSnappy(dst, src []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1) // version, and oldest version that can read it
	for len(src) > 0 {
		block := src[:min(len(src), snappyBlockBytes)]
		src = src[len(block):]
		at := len(dst)
		dst = grow(dst, 4+snappy.MaxEncodedLen(len(block)))
		n := len(snappy.Encode(dst[at+4:], block))
		binary.BigEndian.PutUint32(dst[at:], uint32(n))
		dst = dst[:at+4+n]
	}
	return dst
}

var (
	lz4Fast = sync.Pool{New: func() any { return new(lz4.Compressor) }}
	lz4High = sync.Pool{New: func() any { return new(lz4.CompressorHC) }}
)

// lz4Depths are the search depths of the levels 1 to 8 and of all above 9.
// Level 9, Kafka's default, is the fast compressor there and so here.
var lz4Depths = [...]lz4.CompressionLevel{
	lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4, lz4.Level5, lz4.Level6, lz4.Level7, lz4.Level8, lz4.Level9,
}

func compressLZ4(dst []byte, level int, src []byte) []byte {
	block := lz4Fast.Get().(*lz4.Compressor)
	defer lz4Fast.Put(block)
	one := block.CompressBlock
	if level > 0 && level != LZ4LevelDefault {
		high := lz4High.Get().(*lz4.CompressorHC)
		defer lz4High.Put(high)
		high.Level = lz4Depths[min(level, len(lz4Depths))-1]
		one = high.CompressBlock
	}
	dst = binary.LittleEndian.AppendUint32(dst, lz4Magic)
	dst = append(dst, lz4Flag, lz4Descriptor, byte(xxh32([]byte{lz4Flag, lz4Descriptor})>>8))
	for len(src) > 0 {
		block := src[:min(len(src), lz4BlockBytes)]
		src = src[len(block):]
		at := len(dst)
		dst = grow(dst, 4+lz4.CompressBlockBound(len(block)))
		n, err := one(block, dst[at+4:])
		head := uint32(n)
		if err != nil || n == 0 || n >= len(block) {
			n = copy(dst[at+4:], block)
			head = uint32(n) | lz4BlockUncompressed
		}
		binary.LittleEndian.PutUint32(dst[at:], head)
		dst = dst[:at+4+n]
	}
	return append(dst, 0, 0, 0, 0)
}

// grow makes b longer by n bytes of any content.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) < n {
		next := make([]byte, len(b), 2*cap(b)+n)
		copy(next, b)
		b = next
	}
	return b[:len(b)+n]
}

package record

import "strconv"

// Codec is a way to compress the records of a batch, as the lowest three bits
// of its attributes number it.
type Codec int8

// The codecs of the Kafka protocol.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

var codecNames = [...]string{"none", "gzip", "snappy", "lz4", "zstd"}

// Known says whether there is such a codec.
func (c Codec) Known() bool { return c >= None && c <= Zstd }

// String is the codec's name: "lz4".
func (c Codec) String() string {
	if !c.Known() {
		return "codec " + strconv.Itoa(int(c))
	}
	return codecNames[c]
}

// ParseCodec reads a codec's name as compression.type has it; "uncompressed"
// is None too.
func ParseCodec(s string) (c Codec, ok bool) {
	if s == "uncompressed" {
		return None, true
	}
	for i, name := range codecNames {
		if s == name {
			return Codec(i), true
		}
	}
	return None, false
}

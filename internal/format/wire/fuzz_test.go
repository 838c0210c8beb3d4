package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

func FuzzHeader(f *testing.F) {
	f.Add([]byte{0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseHeader(frame)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnknownKey) && !errors.Is(err, ErrBudget) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.HasSuffix(frame, h.Body) || len(h.Body) > len(frame)-10 {
			t.Fatalf("body of %d bytes in a frame of %d", len(h.Body), len(frame))
		}
		decodeSafely(t, h.Key, h.Version, h.Body)
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(framed([]byte("one"), []byte("two")), uint8(3))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		const limit = 1 << 16
		r := NewReader(pieces{bytes.NewReader(stream), rand.New(rand.NewPCG(1, uint64(cut))), 1 + int(cut)},
			ReaderOptions{FrameBytesMax: limit, Poison: true})
		rest := stream
		for {
			frame, err := r.Next()
			if err != nil {
				checkEnd(t, rest, err, limit)
				return
			}
			want := framed(frame.Bytes())
			if !bytes.HasPrefix(rest, want) {
				t.Fatalf("frame %x, stream goes on %x", want, rest)
			}
			rest = rest[len(want):]
			frame.Release()
		}
	})
}

// checkEnd fails unless err is why no frame can be read from rest.
func checkEnd(t *testing.T, rest []byte, err error, limit int) {
	want := io.ErrUnexpectedEOF
	switch {
	case len(rest) == 0:
		want = io.EOF
	case len(rest) >= 4 && rest[0] >= 0x80:
		want = ErrFrameLength
	case len(rest) >= 4 && int(rest[0])<<24|int(rest[1])<<16|int(rest[2])<<8|int(rest[3]) > limit:
		want = ErrFrameTooLarge
	}
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
}

func FuzzGuard(f *testing.F) {
	forEachVersion(f, func(_ testing.TB, key, version int16) {
		f.Add(key, version, randomBody(rand.New(rand.NewPCG(uint64(key), uint64(version))), key, version))
	})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		decodeSafely(t, key, version, body)
	})
}

// decodeSafely fails if the decoder rejects what the guard has passed, or if
// a decoded request does not survive its own encoding.
func decodeSafely(t *testing.T, key, version int16, body []byte) {
	if err := Guard(key, version, body); err != nil {
		return
	}
	req, err := DecodeRequest(key, version, body)
	if err != nil {
		t.Fatalf("key %d version %d: passed the guard: %v", key, version, err)
	}
	first := req.AppendTo(nil)
	again, err := DecodeRequest(key, version, first)
	if err != nil {
		if errors.Is(err, ErrBudget) { // the encoding may be shorter
			return
		}
		t.Fatalf("key %d version %d: does not decode again: %v\n%x", key, version, err, first)
	}
	if second := again.AppendTo(nil); !bytes.Equal(first, second) {
		t.Fatalf("key %d version %d: encodes differently\n%x\n%x", key, version, first, second)
	}
}

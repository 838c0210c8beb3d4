package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"chronik/internal/base/invariant"
)

// framed returns the payloads with their lengths in front.
func framed(payloads ...[]byte) []byte {
	var b []byte
	for _, p := range payloads {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

func payload(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// pieces reads at most n bytes at a time, n drawn anew each time.
type pieces struct {
	src io.Reader
	r   *rand.Rand
	max int
}

func (p pieces) Read(b []byte) (int, error) {
	return p.src.Read(b[:min(len(b), 1+p.r.IntN(p.max))])
}

func TestFramesArriveWholeHoweverTheyAreCut(t *testing.T) {
	var want [][]byte
	sizes := []int{0, 1, 3, 4, 5, 100, 4091, 4092, 4093, 4096, 5000, 0, 8192, 8193, 16 << 10, 70_000, 1 << 20, 10, 300_000, 2}
	for i, n := range sizes {
		want = append(want, payload(uint64(i), n))
	}
	stream := framed(want...)
	for name, src := range map[string]io.Reader{
		"at once":       bytes.NewReader(stream),
		"byte by byte":  iotest.OneByteReader(bytes.NewReader(stream)),
		"halves":        iotest.HalfReader(bytes.NewReader(stream)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(stream)),
		"small pieces":  pieces{bytes.NewReader(stream), rand.New(rand.NewPCG(1, 2)), 50},
		"large pieces":  pieces{bytes.NewReader(stream), rand.New(rand.NewPCG(1, 2)), 50_000},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(src, ReaderOptions{Poison: true})
			for i := range want {
				f, err := r.Next()
				if err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
				if !bytes.Equal(f.Bytes(), want[i]) {
					t.Fatalf("frame %d of %d bytes differs", i, len(want[i]))
				}
				f.Release()
			}
			for range 2 {
				if _, err := r.Next(); err != io.EOF {
					t.Fatalf("at the end: %v", err)
				}
			}
		})
	}
}

func TestSEC1FrameLengths(t *testing.T) {
	const limit = 1 << 20
	for _, c := range []struct {
		name   string
		stream []byte
		want   error
	}{
		{"-1", []byte{0xff, 0xff, 0xff, 0xff}, ErrFrameLength},
		{"lowest", []byte{0x80, 0, 0, 0}, ErrFrameLength},
		{"0", []byte{0, 0, 0, 0}, nil},
		{"1", []byte{0, 0, 0, 1, 9}, nil},
		{"limit+1", binary.BigEndian.AppendUint32(nil, limit+1), ErrFrameTooLarge},
		{"highest", []byte{0x7f, 0xff, 0xff, 0xff}, ErrFrameTooLarge},
		{"TLS hello", []byte{0x16, 0x03, 0x01, 0x02, 0x00}, ErrFrameTooLarge},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ErrFrameTooLarge},
		{"nothing", nil, io.EOF},
		{"half a length", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"length and nothing", []byte{0, 0, 0, 5}, io.ErrUnexpectedEOF},
		{"half a small frame", []byte{0, 0, 0, 5, 1, 2}, io.ErrUnexpectedEOF},
		{"half a large frame", append(binary.BigEndian.AppendUint32(nil, limit), make([]byte, limit/2)...), io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(bytes.NewReader(c.stream), ReaderOptions{FrameBytesMax: limit})
			f, err := r.Next()
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil && !r.Buffered() {
				t.Error("an error that will be returned again is not buffered")
			}
			if err == nil {
				f.Release()
			}
		})
	}
}

// stalling gives what it has and then fails, as a read deadline does.
type stalling struct{ data []byte }

var errStalled = errors.New("stalled")

func (s *stalling) Read(b []byte) (int, error) {
	if len(s.data) == 0 {
		return 0, errStalled
	}
	n := copy(b, s.data)
	s.data = s.data[n:]
	return n, nil
}

func TestSEC1NothingIsAllocatedOnADeclaredLength(t *testing.T) {
	if raceDetector {
		t.Skip("counts memory")
	}
	for _, arrived := range []int{0, 1, 1000, 4 << 10, 100_000, 1 << 20} {
		data := append(binary.BigEndian.AppendUint32(nil, FrameBytesMax), make([]byte, arrived)...)
		r := NewReader(&stalling{data}, ReaderOptions{})
		took := allocatedBy(func() {
			if _, err := r.Next(); !errors.Is(err, errStalled) {
				t.Fatal(err)
			}
		})
		// Doubling: 2 + 1 + 1/2 + …, in size classes up to a quarter larger.
		if limit := 5*arrived + 16<<10; took > limit {
			t.Errorf("%d bytes arrived, %d allocated", arrived, took)
		}
	}
}

func TestSEC1TenThousandSilentConnections(t *testing.T) {
	if raceDetector {
		t.Skip("counts memory")
	}
	const connections = 10_000
	readers := make([]*Reader, connections)
	took := allocatedBy(func() {
		for i := range readers {
			readers[i] = NewReader(&stalling{binary.BigEndian.AppendUint32(nil, FrameBytesMax)}, ReaderOptions{})
			_, _ = readers[i].Next()
		}
	})
	// What is read ahead, and the buffer that the stall gave back.
	if each := took / connections; each > 8<<10 {
		t.Errorf("%d bytes for each connection", each)
	}
}

func TestSEC2SlowClientsTakeOnlyWhatTheySent(t *testing.T) {
	want := payload(1, 200_000)
	r := NewReader(iotest.OneByteReader(bytes.NewReader(framed(want))), ReaderOptions{})
	f, err := r.Next()
	if err != nil || !bytes.Equal(f.Bytes(), want) {
		t.Fatal(err)
	}
	f.Release()
}

// asking notes how much it is asked for.
type asking struct {
	io.Reader
	most int
}

func (a *asking) Read(b []byte) (int, error) {
	a.most = max(a.most, len(b))
	return a.Reader.Read(b)
}

// Growing would copy what has arrived.
func TestALargeFrameIsReadInOnePieceAfterOneOfItsSize(t *testing.T) {
	large := payload(1, 9<<20)
	src := &asking{Reader: bytes.NewReader(framed(large, large))}
	r := NewReader(src, ReaderOptions{})
	for i, least := range []int{0, len(large) - aheadBytesMax} {
		src.most = 0
		f, err := r.Next()
		if err != nil || !bytes.Equal(f.Bytes(), large) {
			t.Fatal(err)
		}
		f.Release()
		if src.most < least {
			t.Errorf("frame %d of %d bytes: at most %d were asked for at once", i, len(large), src.most)
		}
	}
}

func TestReaderThatNeverReadsIsGivenUp(t *testing.T) {
	for _, stream := range [][]byte{nil, framed(payload(1, 100_000))[:50_000]} {
		r := NewReader(io.MultiReader(bytes.NewReader(stream), idle{}), ReaderOptions{})
		if _, err := r.Next(); !errors.Is(err, io.ErrNoProgress) {
			t.Error(err)
		}
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestBufferedSaysWhetherNextWillRead(t *testing.T) {
	src := &stalling{framed([]byte("one"), []byte("two"))}
	src.data = append(src.data, 0, 0, 0, 5, 1)
	r := NewReader(src, ReaderOptions{})
	if r.Buffered() {
		t.Error("buffered before the first read")
	}
	for _, more := range []bool{true, false} {
		f, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		f.Release()
		if r.Buffered() != more {
			t.Errorf("buffered %v, want %v", !more, more)
		}
	}
	src.data = []byte{2, 3, 4, 5, 0xff, 0xff, 0xff, 0xff}
	if f, err := r.Next(); err != nil {
		t.Error(err)
	} else {
		f.Release()
	}
	if !r.Buffered() {
		t.Error("a refused length is not buffered")
	}
}

func TestFrameLimitChangesBetweenFrames(t *testing.T) {
	r := NewReader(bytes.NewReader(framed(payload(1, 10), payload(2, 10), payload(3, 10))), ReaderOptions{FrameBytesMax: 10})
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.SetFrameBytesMax(9)
	if _, err := r.Next(); !errors.Is(err, ErrFrameTooLarge) {
		t.Fatal(err)
	}
}

func TestReleasedFramesArePoisoned(t *testing.T) {
	r := NewReader(bytes.NewReader(framed([]byte("secret"))), ReaderOptions{Poison: true})
	f, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	b := f.Bytes()
	f.Retain()
	f.Release()
	if string(b) != "secret" {
		t.Fatal("poisoned while held")
	}
	f.Release()
	if !bytes.Equal(b, bytes.Repeat([]byte{poisonByte}, len(b))) {
		t.Errorf("%q after release", b)
	}
}

func TestFramesAreReleasedOnce(t *testing.T) {
	for name, wrong := range map[string]func(*Frame){
		"release": (*Frame).Release,
		"retain":  (*Frame).Retain,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFrame(poolBytesMax+1, false)
			f.Release()
			defer func() {
				if _, ok := recover().(invariant.Violation); !ok {
					t.Error("no invariant broken")
				}
			}()
			wrong(f)
		})
	}
}

func TestPoolClassesHoldTheirSizes(t *testing.T) {
	last, lastBytes := 0, poolBytesMin
	for n := 0; n <= poolBytesMax; n += 1 + n/97 {
		class, classBytes := poolClass(n)
		most := n + n/4 + 1
		if n > poolLargeMin {
			most = 2 * n
		}
		if classBytes < n || class < last || class >= poolClasses || n > poolBytesMin && classBytes > most {
			t.Fatalf("%d bytes: class %d of %d bytes", n, class, classBytes)
		}
		if class == last && classBytes != lastBytes {
			t.Fatalf("class %d has %d and %d bytes", class, lastBytes, classBytes)
		}
		last, lastBytes = class, classBytes
	}
	if class, classBytes := poolClass(poolBytesMax); class != poolClasses-1 || classBytes != poolBytesMax {
		t.Errorf("largest class %d of %d bytes, want %d", class, classBytes, poolClasses-1)
	}
}

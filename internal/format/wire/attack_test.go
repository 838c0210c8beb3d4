package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// minimal appends the smallest encoding of steps. At the step target, which
// is an array or a set of tags, it puts count instead of none, and that many
// of the smallest elements.
func minimal(b []byte, steps []step, target *step, count int) []byte {
	for i := range steps {
		s := &steps[i]
		n := 0
		if s == target {
			n = count
		} else if s.op != opTags && contains(s.sub, target) {
			n = 1
		}
		switch s.op {
		case opSkip:
			b = append(b, make([]byte, s.size)...)
		case opText:
			b = append(b, 0, 0)
		case opBlob:
			b = append(b, 0, 0, 0, 0)
		case opTextCompact, opBlobCompact:
			b = append(b, 1)
		case opArray:
			b = binary.BigEndian.AppendUint32(b, uint32(n))
			b = elements(b, s, target, n)
		case opArrayCompact:
			b = binary.AppendUvarint(b, uint64(n)+1)
			b = elements(b, s, target, n)
		case opOptional:
			if n > 0 {
				b = minimal(append(b, 1), s.sub, target, count)
			} else {
				b = append(b, 0xff)
			}
		case opTags:
			b = binary.AppendUvarint(b, uint64(n))
			for tag := range n {
				b = append(binary.AppendUvarint(b, uint64(tag+100)), 0)
			}
		}
	}
	return b
}

func elements(b []byte, s, target *step, n int) []byte {
	if s != target {
		if n > 0 {
			b = minimal(b, s.sub, target, 0)
		}
		return b
	}
	one := minimal(nil, s.sub, nil, 0)
	return append(b, bytes.Repeat(one, n)...)
}

func contains(steps []step, target *step) bool {
	for i := range steps {
		if &steps[i] == target || contains(steps[i].sub, target) {
			return true
		}
	}
	return false
}

// counted lists every array and set of tags among the steps.
func counted(steps []step) []*step {
	var all []*step
	for i := range steps {
		if op := steps[i].op; op == opArray || op == opArrayCompact || op == opTags {
			all = append(all, &steps[i])
		}
		all = append(all, counted(steps[i].sub)...)
	}
	return all
}

// allocatedBy returns the bytes that are allocated while f runs.
func allocatedBy(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// leastAllocated is what f allocates, at best of four when that is more than most:
// the counter is that of the process, and others allocate as well, now and then.
func leastAllocated(most int, f func()) int {
	least := allocatedBy(f)
	for try := 0; try < 3 && least > most; try++ {
		least = min(least, allocatedBy(f))
	}
	return least
}

// quickest is how long f takes, at best of three when that is more than most:
// on a busy machine another may have the processor.
func quickest(most time.Duration, f func()) time.Duration {
	best := time.Duration(math.MaxInt64)
	for try := 0; try < 3 && best > most; try++ {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best
}

// checkAttack decodes hostile bytes and fails if that takes more memory than
// was accounted for, or longer than most.
func checkAttack(t testing.TB, key, version int16, body []byte, most time.Duration) (err error) {
	t.Helper()
	var req kmsg.Request
	var took int
	d := quickest(most, func() { took = allocatedBy(func() { req, err = DecodeRequest(key, version, body) }) })
	if d > most && !raceDetector {
		t.Errorf("key %d version %d: %d bytes took %v", key, version, len(body), d)
	}
	if raceDetector { // it makes the compiler allocate slices twice
		return err
	}
	limit := 2 << 10 // the error
	if err == nil {
		limit += spent(t, key, version, body)
	}
	if took > limit {
		took = leastAllocated(limit, func() { _, _ = DecodeRequest(key, version, body) })
	}
	if took > limit {
		t.Errorf("key %d version %d: %d bytes allocated %d, accounted %d (%v)", key, version, len(body), took, limit, err)
	}
	runtime.KeepAlive(req)
	return err
}

// spent returns what the guard expects the decoding of body to allocate.
func spent(t testing.TB, key, version int16, body []byte) int {
	t.Helper()
	p, err := programOf(key, version)
	if err != nil {
		t.Fatal(err)
	}
	w := walker{rest: body, budget: math.MaxInt - p.bytes}
	if copiesBody(key) {
		w.budget -= allocated(len(body))
	}
	if err := w.run(p.steps); err != nil {
		t.Fatal(err)
	}
	return math.MaxInt - w.budget
}

func TestSEC3LengthsOutOfBounds(t *testing.T) {
	forEachVersion(t, func(t testing.TB, key, version int16) {
		r := rand.New(rand.NewPCG(uint64(key), uint64(version)))
		body := randomBody(r, key, version)
		for len(body) > 400 {
			body = randomBody(r, key, version)
		}
		hostile := make([]byte, 0, len(body)+8)
		for at := range body {
			rest := len(body) - at
			for _, n := range []uint32{math.MaxUint32 - 1, math.MaxUint32, uint32(rest + 1), math.MaxInt32} {
				var two, four [4]byte
				binary.BigEndian.PutUint16(two[:], uint16(n))
				binary.BigEndian.PutUint32(four[:], n)
				for _, length := range [][]byte{two[:2], four[:], binary.AppendUvarint(nil, uint64(n)), {0xff, 0xff, 0xff, 0xff, 0x7f}} {
					hostile = append(append(hostile[:0], body[:at]...), length...)
					hostile = append(hostile, body[min(at+len(length), len(body)):]...)
					decodeWithin(t, key, version, hostile)
				}
			}
		}
	})
}

// decodeWithin is checkAttack without the precise count of memory, which
// stops the world.
func decodeWithin(t testing.TB, key, version int16, body []byte) {
	t.Helper()
	err := Guard(key, version, body)
	if err != nil {
		if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrBudget) {
			t.Fatalf("key %d version %d: %v", key, version, err)
		}
		return
	}
	if _, err := DecodeRequest(key, version, body); err != nil {
		t.Fatalf("key %d version %d: passed the guard: %v\n%x", key, version, err, body)
	}
}

const attackBytes = 1 << 20

func TestSEC4CountsWithMinimalElements(t *testing.T) {
	var fillers [][]byte
	for _, b := range []byte{0, 1, 2, 0x7f, 0xff} {
		fillers = append(fillers, bytes.Repeat([]byte{b}, attackBytes))
	}
	scratch := make([]byte, 0, attackBytes)
	forEachVersion(t, func(t testing.TB, key, version int16) {
		steps := programs[key][version].steps
		if version > 0 && reflect.DeepEqual(steps, programs[key][version-1].steps) {
			return
		}
		if raceDetector && version < schemas[key].last {
			return // too slow
		}
		for _, filler := range fillers {
			checkAttack(t, key, version, filler, time.Second)
		}
		for _, target := range counted(steps) {
			passed, refused := 0, attackBytes
			for refused-passed > 1 { // the largest count that passes
				n := (passed + refused) / 2
				if room := attackBytes / leastOf(target); n > room {
					refused = n
					continue
				}
				body := minimal(scratch, steps, target, n)
				if len(body) <= attackBytes && Guard(key, version, body[:attackBytes]) == nil {
					passed = n
				} else {
					refused = n
				}
			}
			if passed == 0 {
				t.Errorf("key %d version %d: not even one element passes", key, version)
			}
			body := minimal(scratch, steps, target, passed)[:attackBytes]
			clear(body[len(minimal(scratch, steps, target, passed)):])
			if err := checkAttack(t, key, version, body, time.Second); err != nil {
				t.Errorf("key %d version %d: %v", key, version, err)
			}
			if took := leastAllocated(4<<20, func() { _, _ = DecodeRequest(key, version, body) }); took > 4<<20 && !raceDetector {
				t.Errorf("key %d version %d: 1 MiB allocated %d", key, version, took)
			}
		}
	})
}

// leastOf is the fewest bytes that one more element or tag takes.
func leastOf(s *step) int {
	if s.op == opTags {
		return 2
	}
	return s.least
}

func TestSEC4TheBudgetIsFourTimesTheBytes(t *testing.T) {
	for _, c := range []struct{ bytes, want int }{
		{0, 64 << 10}, {100, 64<<10 + 1600}, {1 << 20, 4 << 20}, {100 << 20, 400 << 20},
	} {
		if got := Budget(c.bytes); got != c.want {
			t.Errorf("budget of %d bytes is %d, want %d", c.bytes, got, c.want)
		}
	}
}

func TestSEC5TagCounts(t *testing.T) {
	set := func(count uint64, tag func(i int) uint64, bytes int) []byte {
		b := binary.AppendUvarint(nil, count)
		for i := 0; len(b) < bytes; i++ {
			b = append(binary.AppendUvarint(b, tag(i)), 0)
		}
		return b
	}
	unique := func(i int) uint64 { return uint64(i + 10) }
	same := func(int) uint64 { return 77 }
	down := func(i int) uint64 { return uint64(math.MaxUint32 - i) }
	const few, many = 64 << 10, 20 << 20
	for name, tags := range map[string][]byte{
		"2^32-1 and no tag":      {0xff, 0xff, 0xff, 0xff, 0x0f},
		"2^28-1 and no tag":      {0xff, 0xff, 0xff, 0x7f},
		"2^32 in five bytes":     {0xff, 0xff, 0xff, 0xff, 0x1f},
		"a varint of six bytes":  {0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"2^32-1 and many":        set(math.MaxUint32, unique, few),
		"ten million unique":     set(10_000_000, unique, many),
		"ten million duplicates": set(10_000_000, same, many),
		"ten million unordered":  set(10_000_000, down, many),
		"thousands, unique":      set(20_000, unique, few),
	} {
		t.Run(name, func(t *testing.T) {
			// In the body, after two empty strings.
			body := append([]byte{1, 1}, tags...)
			if err := checkAttack(t, apiVersionsKey, 3, body, time.Second); err == nil {
				t.Error("passed in a body")
			}
			// In an element.
			body = append([]byte{2, 1}, tags...)
			if err := checkAttack(t, 3, 9, body, time.Second); err == nil {
				t.Error("passed in an element")
			}
			frame := append([]byte{0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff}, tags...)
			var err error
			d := quickest(time.Second, func() { _, err = ParseHeader(frame) })
			took := leastAllocated(2<<10, func() { _, err = ParseHeader(frame) })
			if err == nil || took > 2<<10 || d > time.Second {
				t.Errorf("in a header: %v, %d bytes, %v", err, took, d)
			}
		})
	}
}

// The seven bytes that kept kmsg busy for 51 seconds.
func TestSEC5SevenByteApiVersions(t *testing.T) {
	body := []byte{0x01, 0x01, 0xff, 0xff, 0xff, 0xff, 0x0f}
	const rounds = 1000
	start := time.Now()
	for range rounds {
		if _, err := DecodeRequest(apiVersionsKey, 3, body); !errors.Is(err, ErrMalformed) {
			t.Fatalf("decoded with %v", err)
		}
	}
	if each := time.Since(start) / rounds; each > 500*time.Microsecond {
		t.Errorf("%v each", each)
	}
}

func TestMutatedBodiesStayWithinTheirAccount(t *testing.T) {
	mutations := 40
	if raceDetector || testing.Short() {
		mutations = 5
	}
	forEachVersion(t, func(t testing.TB, key, version int16) {
		r := rand.New(rand.NewPCG(uint64(version), uint64(key)))
		for range mutations {
			body := randomBody(r, key, version)
			for range 1 + r.IntN(3) {
				body = mutate(r, body)
			}
			if Guard(key, version, body) == nil {
				if err := checkAttack(t, key, version, body, time.Second); err != nil {
					t.Fatalf("key %d version %d: passed the guard: %v\n%x", key, version, err, body)
				}
			}
		}
	})
}

func mutate(r *rand.Rand, body []byte) []byte {
	if len(body) == 0 {
		return append(body, byte(r.Uint32()))
	}
	at := r.IntN(len(body))
	switch r.IntN(5) {
	case 0:
		body[at] = byte(r.Uint32())
	case 1:
		body[at] ^= 1 << r.IntN(8)
	case 2:
		body = append(body[:at], body[min(at+1+r.IntN(4), len(body)):]...)
	case 3:
		body = append(body[:at:at], append(bytes.Repeat([]byte{byte(r.Uint32())}, 1+r.IntN(8)), body[at:]...)...)
	case 4:
		body = append(body, make([]byte, r.IntN(200))...)
		body[at] = byte(1 + r.IntN(127))
	}
	return body
}

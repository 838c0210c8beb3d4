package wire

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// newest has the newest version of each request in Kafka's trunk of
// August 2026, by key; -1 for those that are gone. InitProducerId v6 is left
// out: it is unstable there, and kmsg does not have it.
var newest = [...]int16{
	13, 18, 11, 13, -1, -1, -1, -1, 10, 10, // 0
	6, 9, 4, 5, 5, 6, 5, 1, 5, 7, // 10
	6, 2, 5, 4, 5, 4, 5, 2, 6, 3, // 20
	3, 3, 4, 2, 2, 5, 2, 3, 3, 2, // 30
	2, 3, 3, 2, 1, 1, 0, 0, 1, 1, // 40
	0, 0, 2, 1, 1, 2, 3, 2, 0, 1, // 50
	2, 0, 4, 2, 0, 0, 2, 0, 1, 1, // 60
	0, 0, 0, 0, 1, 0, 1, 1, 2, 2, // 70
	1, 0, 0, 0, 0, 1, 0, 1, 1, 1, // 80
	1, 0, 0, 0, 0, // 90
}

func TestTableHasEveryRequestOfKafka(t *testing.T) {
	for key, want := range newest {
		_, last, ok := Versions(int16(key))
		if ok != (want >= 0) || ok && last < want {
			t.Errorf("key %d %s: newest version %d, %v in the table, want %d",
				key, kmsg.NameForKey(int16(key)), last, ok, want)
		}
	}
	for _, key := range []int16{math.MinInt16, -1, 4, 7, 95, math.MaxInt16} {
		if _, _, ok := Versions(key); ok {
			t.Errorf("the table has key %d", key)
		}
	}
}

func TestTableAgreesWithDecoderOnFlexibleVersions(t *testing.T) {
	forEachVersion(t, func(t testing.TB, key, version int16) {
		req := kmsg.RequestForKey(key)
		req.SetVersion(version)
		if req.IsFlexible() != isFlexible(key, version) {
			t.Errorf("key %d version %d: flexible %v", key, version, isFlexible(key, version))
		}
		if req.MaxVersion() != schemas[key].last {
			t.Errorf("key %d: newest version %d, decoder has %d", key, schemas[key].last, req.MaxVersion())
		}
	})
}

func TestTableIsWhatTheGeneratorWrites(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles and runs the generator")
	}
	out := filepath.Join(t.TempDir(), "table.go")
	if msg, err := exec.Command("go", "run", "./gen", "-out", out).CombinedOutput(); err != nil {
		t.Fatalf("run generator: %v\n%s", err, msg)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("table.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("table.go is out of date: go generate ./internal/format/wire")
	}
}

// An element without a field would take no byte, and a count of them no
// bytes at all.
func TestEveryElementTakesBytes(t *testing.T) {
	var check func(key, version int16, steps []step)
	check = func(key, version int16, steps []step) {
		for _, s := range steps {
			if (s.op == opArray || s.op == opArrayCompact) && (least(s.sub) < 1 || s.size < 1) {
				t.Errorf("key %d version %d: element of %d bytes, %d in memory", key, version, least(s.sub), s.size)
			}
			check(key, version, s.sub)
			for _, tag := range s.tags {
				check(key, version, tag.steps)
			}
		}
	}
	forEachVersion(t, func(_ testing.TB, key, version int16) {
		check(key, version, programs[key][version].steps)
	})
}

// TestGuardAndDecoderAgree is the differential test of table and codec: what
// kmsg encodes passes the guard to the last byte, and decodes to the same.
func TestGuardAndDecoderAgree(t *testing.T) {
	forEachVersion(t, func(t testing.TB, key, version int16) {
		r := rand.New(rand.NewPCG(uint64(key), uint64(version)))
		for range 60 {
			req := randomRequest(r, key, version)
			body := req.AppendTo(nil)
			p, err := programOf(key, version)
			if err != nil {
				t.Fatal(err)
			}
			w := walker{rest: body, budget: math.MaxInt}
			if err := w.run(p.steps); err != nil || len(w.rest) > 0 {
				t.Fatalf("key %d version %d: %v, %d of %d bytes left\n%x", key, version, err, len(w.rest), len(body), body)
			}
			got, err := DecodeRequest(key, version, body)
			if err != nil {
				t.Fatalf("key %d version %d: %v", key, version, err)
			}
			if again := got.AppendTo(nil); !bytes.Equal(again, body) {
				t.Fatalf("key %d version %d: decoded differently\n%x\n%x", key, version, body, again)
			}
		}
	})
}

func TestEveryCutBodyIsRefused(t *testing.T) {
	forEachVersion(t, func(t testing.TB, key, version int16) {
		r := rand.New(rand.NewPCG(uint64(key), uint64(version)))
		body := randomBody(r, key, version)
		for n := range body {
			if err := Guard(key, version, body[:n]); err == nil {
				t.Fatalf("key %d version %d: %d of %d bytes passed", key, version, n, len(body))
			}
		}
	})
}

func TestDefaultsOfElementsAllocateNothing(t *testing.T) {
	// The guard charges an element its struct; that holds only while kmsg's
	// Default fills in no pointers, slices or maps.
	var check func(v reflect.Value)
	check = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
				d.Default()
			}
			for i := range v.NumField() {
				check(v.Field(i))
			}
		case reflect.Slice:
			if !v.IsNil() {
				t.Errorf("%s is not nil by default", v.Type())
			} else if v.CanSet() {
				check(reflect.New(v.Type().Elem()).Elem())
			}
		case reflect.Pointer, reflect.Map:
			if !v.IsNil() {
				t.Errorf("%s is not nil by default", v.Type())
			}
		}
	}
	for key := range int16(len(schemas)) {
		if schemaOf(key) != nil {
			check(reflect.ValueOf(kmsg.RequestForKey(key)).Elem())
		}
	}
}

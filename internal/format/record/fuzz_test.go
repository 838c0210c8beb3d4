package record

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
)

const fuzzBytesMax = 1 << 20

// FuzzCheck: whatever comes, Check answers, and what it accepts can be read.
func FuzzCheck(f *testing.F) {
	for _, c := range allCases() {
		f.Add(c.bytes, false, uint8(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, fixCRC bool, flags uint8) {
		if fixCRC && len(b) >= HeaderSize {
			Batch(b).setCRC()
		}
		rules := DefaultRules(testNowMs)
		rules.DecompressBytesMax = fuzzBytesMax
		rules.Compacted = flags&1 != 0
		rules.TimestampType = TimestampType(flags >> 1 & 1)
		rules.AllowControl = flags&4 != 0
		rules.Recompress = flags&8 != 0
		rules.Codec = Codec(int(flags>>4) % len(codecs))
		batch, info, refusal := Check(bytes.Clone(b), rules)
		if refusal != nil {
			if refusal.Code >= -1 && refusal.Code <= 0 {
				t.Fatalf("refused with %v", refusal.Code)
			}
			return
		}
		verifyAccepted(t, batch, info, rules)
	})
}

// FuzzRecords: bytes from another broker or a damaged disk never panic, and
// filtering what can be read keeps it readable.
func FuzzRecords(f *testing.F) {
	for _, c := range allCases() {
		f.Add(c.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		scratch := &Scratch{BytesMax: fuzzBytesMax}
		for {
			batch, rest, err := Next(b)
			if err != nil {
				return
			}
			n := 0
			it := batch.Records(scratch)
			for it.Next() {
				n++
			}
			walkErr := it.Err() // before the scratch serves another walk
			_, _, _ = ParseMarker(batch, scratch)
			if walkErr == nil {
				filtered, err := Filter(batch, scratch, FilterOptions{}, func(r *Record) bool { return len(r.Value)%2 == 0 })
				if err != nil {
					t.Fatal(err)
				}
				kept := 0
				it := filtered.Records(scratch)
				for it.Next() {
					kept++
				}
				if it.Err() != nil || kept != int(filtered.Count()) || kept > n {
					t.Fatalf("kept %d of %d, count %d, %v", kept, n, filtered.Count(), it.Err())
				}
			}
			b = rest
		}
	})
}

// TestSeedCorpus writes the rows of the reference tables as seeds when run
// with RECORD_WRITE_CORPUS=1, and else checks that they are there.
func TestSeedCorpus(t *testing.T) {
	write := os.Getenv("RECORD_WRITE_CORPUS") != ""
	for i, c := range allCases() {
		if len(c.bytes) > 4096 {
			continue
		}
		for target, text := range map[string]string{
			"FuzzCheck":   fmt.Sprintf("go test fuzz v1\n[]byte(%q)\nbool(true)\nbyte('\\x%02x')\n", c.bytes, i%math.MaxUint8),
			"FuzzRecords": fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", c.bytes),
		} {
			if i%6 != 0 && target == "FuzzRecords" || i%3 != 0 {
				continue
			}
			name := filepath.Join("testdata", "fuzz", target, fmt.Sprintf("row-%03d", i))
			if write {
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s: %v", c.row, err)
			}
		}
	}
}

package record

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchBatch has records of 1 KiB that compress to about a half.
func benchBatch(codec Codec, size int) Batch {
	rng := rand.New(rand.NewPCG(7, 7))
	bd := NewBuilder(BuilderOptions{Codec: codec})
	for bd.Size()+1024+40 < size {
		value := make([]byte, 1024)
		for i := range value {
			if i < 512 {
				value[i] = byte(rng.Uint32())
			} else {
				value[i] = byte('a' + i%13)
			}
		}
		bd.Append(testNowMs, []byte("some-key"), value)
	}
	return bd.Build()
}

func BenchmarkCheck(b *testing.B) {
	for _, codec := range codecs {
		for _, size := range []int{16 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("codec=%v/batch=%dKiB", codec, size>>10), func(b *testing.B) {
				batch := benchBatch(codec, size)
				rules := DefaultRules(testNowMs)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, _, refusal := Check(batch, rules); refusal != nil {
						b.Fatal(refusal)
					}
				}
			})
		}
	}
}

func BenchmarkRecords(b *testing.B) {
	for _, codec := range []Codec{None, LZ4, Zstd} {
		b.Run(fmt.Sprintf("codec=%v/batch=1024KiB", codec), func(b *testing.B) {
			batch := benchBatch(codec, 1<<20)
			var scratch Scratch
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for b.Loop() {
				it := batch.Records(&scratch)
				for it.Next() {
				}
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	value := make([]byte, 1024)
	bd := NewBuilder(BuilderOptions{})
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	for b.Loop() {
		bd.Reset(BuilderOptions{})
		for range 16 {
			bd.Append(1, nil, value)
		}
		bd.Build()
	}
}

func BenchmarkCRC(b *testing.B) {
	batch := benchBatch(None, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		batch.ComputeCRC()
	}
}

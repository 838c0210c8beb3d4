package wal

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
)

func openDisk(b testing.TB, dir string, opts Options) *Log {
	b.Helper()
	l, _, err := Open(vfs.Disk{}, dir, testID, opts, testNow)
	must(b, err)
	return l
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 1 << 20} {
		for _, sync := range []bool{false, true} {
			name := fmt.Sprintf("batch=%dKiB", size>>10)
			if sync {
				name += "/sync"
			}
			b.Run(name, func(b *testing.B) {
				l := openDisk(b, filepath.Join(b.TempDir(), "log"), Options{CacheBytes: 64 << 20})
				defer l.Close(testNow)
				batch := batchOf(0, 1, 0, 0, size-80)
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				for b.Loop() {
					record.Stamp(batch, l.End(), 1)
					must(b, l.Append(testNow, batch))
					if sync {
						must(b, l.Sync())
					}
				}
			})
		}
	}
}

// cpuTime is that of the process so far, the system's for it included.
func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkAppendInTurns appends to six logs, each synced after each append,
// through the page cache and past it.
func BenchmarkAppendInTurns(b *testing.B) {
	const logs = 6
	for _, size := range []int{32 << 10, 64 << 10, 128 << 10, 384 << 10, 1 << 20} {
		for name, least := range map[string]int64{"cached": -1, "direct": 1} {
			b.Run(fmt.Sprintf("batch=%dKiB/%s", size>>10, name), func(b *testing.B) {
				dir := b.TempDir()
				var l [logs]*Log
				for i := range l {
					l[i] = openDisk(b, filepath.Join(dir, fmt.Sprint(i)), Options{DirectBytesMin: least})
					defer l[i].Delete()
				}
				batch := batchOf(0, 1, 0, 0, size-80)
				b.SetBytes(int64(len(batch)))
				b.ReportAllocs()
				begin, n := cpuTime(b), 0
				for b.Loop() {
					one := l[n%logs]
					n++
					record.Stamp(batch, one.End(), 1)
					must(b, one.Append(testNow, batch))
					must(b, one.Sync())
				}
				b.ReportMetric((cpuTime(b)-begin).Seconds()/(float64(n)*float64(len(batch))/1e9), "cpu-s/GB")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	const size = 16 << 10
	l := openDisk(b, filepath.Join(b.TempDir(), "log"), Options{})
	defer l.Close(testNow)
	batch := batchOf(0, 1, 0, 0, size-80)
	for range 8192 {
		record.Stamp(batch, l.End(), 1)
		must(b, l.Append(testNow, batch))
	}
	for _, max := range []int{16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("sequential/max=%dKiB", max>>10), func(b *testing.B) {
			buf := make([]byte, 0, max)
			from := kafka.Offset(0)
			bytes := int64(0)
			b.ReportAllocs()
			for b.Loop() {
				if from >= l.End() {
					from = 0
				}
				got, err := l.Read(from, l.End(), max, buf)
				must(b, err)
				bytes += int64(len(got))
				from += kafka.Offset(len(got) / len(batch))
			}
			b.SetBytes(bytes / int64(b.N))
		})
	}
	b.Run("random/max=16KiB", func(b *testing.B) {
		buf := make([]byte, 0, 64<<10)
		from := kafka.Offset(0)
		b.SetBytes(int64(len(batch)))
		for b.Loop() {
			from = (from*7919 + 31) % 8192
			_, err := l.Read(from, l.End(), 16<<10, buf)
			must(b, err)
		}
	})
}

// Opening after a kill: 100 logs of 16 MiB, each with 64 KiB that is not
// synced.
func BenchmarkOpenAfterKill(b *testing.B) {
	const logs = 100
	dir := b.TempDir()
	batch := batchOf(0, 1, 0, 0, 16<<10)
	for i := range logs {
		l := openDisk(b, filepath.Join(dir, fmt.Sprint(i)), Options{})
		for j := range 1028 {
			record.Stamp(batch, l.End(), 1)
			must(b, l.Append(testNow, batch))
			if j == 1023 {
				must(b, l.Sync())
			}
		}
	}
	for b.Loop() {
		begin := time.Now()
		scanned := int64(0)
		for i := range logs {
			l, r, err := Open(vfs.Disk{}, filepath.Join(dir, fmt.Sprint(i)), testID, Options{}, testNow)
			must(b, err)
			scanned += r.ScannedBytes
			if l.End() != 1028 {
				b.Fatal(l.End())
			}
		}
		b.ReportMetric(float64(time.Since(begin).Milliseconds()), "ms/100logs")
		b.ReportMetric(float64(scanned), "scanned-bytes")
	}
}

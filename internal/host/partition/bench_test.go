package partition

import (
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/replica"
	"chronik/internal/storage/wal"
)

// diskEnv syncs on the goroutine that asks, as an idle broker does.
type diskEnv struct{}

func (diskEnv) Send(*Partition, *replica.Message)                          {}
func (diskEnv) ScheduleSync(p *Partition)                                  { p.RunSync(time.Now()) }
func (diskEnv) Admit(_ time.Time, _ Limits, want int) (int, time.Duration) { return want, 0 }
func (diskEnv) Sent(time.Time, Limits, int)                                {}
func (diskEnv) Slow(*Partition, time.Duration)                             {}
func (diskEnv) RequestInSync(*Partition, replica.InSyncChange)             {}
func (diskEnv) At(time.Time, func(time.Time))                              {}
func (diskEnv) Failed(*Partition, error)                                   {}
func (diskEnv) Damaged(*Partition, *wal.CorruptError)                      {}

func openOnDisk(b *testing.B, config TopicConfig, env Env) *Partition {
	p, _, err := Open(time.Now(), vfs.Disk{}, b.TempDir()+"/t-0", Options{Node: 1, Topic: "t", TopicID: kafka.TopicID{1}, Config: config}, env)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close(time.Now()) })
	p.Assign(time.Now(), replica.Assignment{LeaderEpoch: 1, PartitionEpoch: 1, Leader: 1, Replicas: []kafka.NodeID{1}, InSync: []kafka.NodeID{1}})
	return p
}

func benchBatch(bytes int) []byte {
	values := make([]string, bytes/128)
	for i := range values {
		values[i] = string(make([]byte, 120))
	}
	return batchOf(nil, false, values...)
}

func BenchmarkProduce(b *testing.B) {
	for _, bytes := range []int{1 << 10, 16 << 10, 256 << 10} {
		for _, flush := range []int64{1, math.MaxInt64} {
			name := map[bool]string{true: "sync", false: "nosync"}[flush == 1]
			b.Run(fmt.Sprintf("%dKiB/acks=1/%s", bytes>>10, name), func(b *testing.B) {
				config := DefaultTopicConfig()
				config.FlushMessages = flush
				p := openOnDisk(b, config, diskEnv{})
				records := benchBatch(bytes)
				var done, failed int
				reply := func(r ProduceResult) {
					done++
					if r.Code != kafka.None {
						failed++
					}
				}
				now := time.Now()
				b.SetBytes(int64(len(records)))
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					clear(records[:8]) // the base offset that was stamped
					p.Produce(now, ProduceRequest{Records: records, Acks: 1, Timeout: 30 * time.Second}, reply)
					n++
				}
				if done != n || failed > 0 {
					b.Fatalf("%d of %d answered, %d failed", done, n, failed)
				}
			})
		}
	}
}

// syncerEnv syncs on a goroutine of its own, as a busy broker does.
type syncerEnv struct {
	diskEnv
	work chan *Partition
}

func (e syncerEnv) ScheduleSync(p *Partition) { e.work <- p }

func BenchmarkProduceGroupCommit(b *testing.B) {
	env := syncerEnv{work: make(chan *Partition, 1)}
	p := openOnDisk(b, DefaultTopicConfig(), env)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for p := range env.work {
			p.RunSync(time.Now())
		}
	}()
	defer func() { close(env.work); <-stopped }()
	var failed atomic.Int64
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		records := benchBatch(16 << 10)
		done := make(chan struct{}, 1)
		for pb.Next() {
			clear(records[:8])
			p.Produce(time.Now(), ProduceRequest{Records: records, Acks: 1}, func(r ProduceResult) {
				if r.Code != kafka.None {
					failed.Add(1)
				}
				done <- struct{}{}
			})
			<-done
		}
	})
	if failed.Load() > 0 {
		b.Fatal("failed")
	}
}

func BenchmarkRead(b *testing.B) {
	config := DefaultTopicConfig()
	config.FlushMessages = math.MaxInt64
	p := openOnDisk(b, config, diskEnv{})
	records := benchBatch(16 << 10)
	for range 64 {
		clear(records[:8])
		p.Produce(time.Now(), ProduceRequest{Records: records, Acks: 1}, func(ProduceResult) {})
	}
	buf := make([]byte, 0, 2<<20)
	now := time.Now()
	b.SetBytes(64 * 16 << 10)
	b.ReportAllocs()
	for b.Loop() {
		r := p.Read(now, ReadRequest{MaxBytes: 2 << 20, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: -1, Buf: buf})
		if r.Code != kafka.None || len(r.Records) < 64*16<<10-64*1024 {
			b.Fatal(r.Code, len(r.Records))
		}
	}
}

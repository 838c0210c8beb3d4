package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// work is one workload on one topic, and what of it is measured.
type work struct {
	kind    string // stream, single or consume
	broker  string
	pid     int // the broker's
	topic   string
	size    int // of a record's value
	warm    time.Duration
	sample  time.Duration
	records int64 // consume: how many there are
}

// result is what the client found in one sample.
type result struct {
	usage
	Records   int64   `json:"records"` // acknowledged or consumed in the sample
	Bytes     int64   `json:"bytes"`   // of their values
	P50       float64 `json:"p50_ms,omitempty"`
	P99       float64 `json:"p99_ms,omitempty"`
	Errors    int64   `json:"errors"`
	Acked     int64   `json:"acked_total"` // with warm-up and rest
	EndOffset int64   `json:"end_offsets"` // sum over partitions afterwards
}

// client runs one workload and prints its result as JSON.
func client(args []string) error {
	var w work
	f := flag.NewFlagSet("client", flag.ContinueOnError)
	f.StringVar(&w.kind, "kind", "stream", "stream, single or consume")
	f.StringVar(&w.broker, "broker", "", "HOST:PORT")
	f.IntVar(&w.pid, "pid", 0, "process id of the broker")
	f.StringVar(&w.topic, "topic", "", "topic, which exists")
	f.IntVar(&w.size, "size", 1024, "bytes of a value")
	f.DurationVar(&w.warm, "warm", time.Second, "time before the sample")
	f.DurationVar(&w.sample, "sample", 5*time.Second, "time of the sample")
	f.Int64Var(&w.records, "records", 0, "consume: records that there are")
	if err := f.Parse(args); err != nil {
		return err
	}
	run := map[string]func(work) (result, error){"stream": stream, "single": single, "consume": consume}[w.kind]
	if run == nil {
		return fmt.Errorf("unknown kind %q", w.kind)
	}
	r, err := run(w)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func producer(w work, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.broker), kgo.DefaultProduceTopic(w.topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, more...)...)
}

// noise is bytes that do not compress; values are pieces of it.
func noise(size int) func() []byte {
	all := make([]byte, 1<<20+size)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(all) // it never fails
	at := 0
	return func() []byte {
		at = (at + 4099) & (1<<20 - 1)
		return all[at : at+size]
	}
}

// stream produces as fast as acknowledgements come.
func stream(w work) (result, error) {
	c, err := producer(w, kgo.ProducerBatchMaxBytes(1_000_000), kgo.MaxBufferedRecords(10_000))
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	var r result
	var acked, failed atomic.Int64
	var mu sync.Mutex
	var latencies []time.Duration
	var measuring, stop atomic.Bool
	var firstErr atomic.Pointer[error]
	records := sync.Pool{New: func() any { return new(kgo.Record) }}
	value := noise(w.size)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for i := 0; !stop.Load(); i++ {
			rec := records.Get().(*kgo.Record)
			*rec = kgo.Record{Value: value()}
			var begin time.Time
			if i%32 == 0 && measuring.Load() {
				begin = time.Now()
			}
			c.Produce(context.Background(), rec, func(rec *kgo.Record, err error) {
				if err != nil {
					failed.Add(1)
					firstErr.CompareAndSwap(nil, &err)
					return
				}
				acked.Add(1)
				if !begin.IsZero() && measuring.Load() {
					mu.Lock()
					latencies = append(latencies, time.Since(begin))
					mu.Unlock()
				}
				records.Put(rec)
			})
		}
	}()
	time.Sleep(w.warm)
	from, err := readMeter(w.pid)
	if err != nil {
		return r, err
	}
	measuring.Store(true)
	before := acked.Load()
	time.Sleep(w.sample)
	r.Records = acked.Load() - before
	to, err := readMeter(w.pid)
	if err != nil {
		return r, err
	}
	measuring.Store(false)
	stop.Store(true)
	<-finished
	if err := c.Flush(context.Background()); err != nil {
		return r, err
	}
	r.usage, r.Bytes = to.since(from), r.Records*int64(w.size)
	r.Acked, r.Errors = acked.Load(), failed.Load()
	mu.Lock()
	r.P50, r.P99 = percentiles(latencies)
	mu.Unlock()
	if e := firstErr.Load(); e != nil {
		return r, fmt.Errorf("%d records were not acknowledged: %w", r.Errors, *e)
	}
	return r, r.check(c, w)
}

// single produces one record after the other, each when the last is acknowledged.
func single(w work) (result, error) {
	c, err := producer(w)
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	var r result
	value := noise(w.size)
	produce := func() (time.Duration, error) {
		begin := time.Now()
		err := c.ProduceSync(context.Background(), &kgo.Record{Value: value()}).FirstErr()
		r.Acked++
		return time.Since(begin), err
	}
	for begin := time.Now(); time.Since(begin) < w.warm; {
		if _, err := produce(); err != nil {
			return r, err
		}
	}
	from, err := readMeter(w.pid)
	if err != nil {
		return r, err
	}
	latencies := make([]time.Duration, 0, 1<<16)
	for time.Since(from.at) < w.sample {
		took, err := produce()
		if err != nil {
			return r, err
		}
		latencies = append(latencies, took)
	}
	to, err := readMeter(w.pid)
	if err != nil {
		return r, err
	}
	r.usage, r.Records = to.since(from), int64(len(latencies))
	r.Bytes = r.Records * int64(w.size)
	r.P50, r.P99 = percentiles(latencies)
	return r, r.check(c, w)
}

// check compares what was acknowledged with what the broker says there is, so
// that errors do not pass for speed.
func (r *result) check(c *kgo.Client, w work) error {
	ends, err := kadm.NewClient(c).ListEndOffsets(context.Background(), w.topic)
	if err != nil {
		return err
	}
	ends.Each(func(o kadm.ListedOffset) { err = errors.Join(err, o.Err); r.EndOffset += o.Offset })
	if err == nil && r.EndOffset != r.Acked {
		err = fmt.Errorf("%d records were acknowledged, but the partitions end at %d in all", r.Acked, r.EndOffset)
	}
	return err
}

// consume reads the whole topic, which has just been written.
func consume(w work) (result, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(w.broker), kgo.ConsumeTopics(w.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(32<<20), kgo.FetchMaxPartitionBytes(8<<20))
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	var r result
	if err := c.Ping(context.Background()); err != nil {
		return r, err
	}
	from, err := readMeter(w.pid)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for r.Records < w.records {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return r, fmt.Errorf("after %d of %d records: %w", r.Records, w.records, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			r.Records++
			r.Bytes += int64(len(rec.Value))
		})
	}
	to, err := readMeter(w.pid)
	if err != nil {
		return r, err
	}
	r.usage, r.Acked = to.since(from), r.Records
	return r, r.check(c, w)
}

func percentiles(all []time.Duration) (p50, p99 float64) {
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	at := func(q float64) float64 {
		return float64(all[min(len(all)-1, int(q*float64(len(all))))]) / float64(time.Millisecond)
	}
	return at(0.5), at(0.99)
}

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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// work is one workload on one topic, and what of it is measured.
type work struct {
	kind    string // stream, single or consume
	broker  string // HOST:PORT of each, with commas between them
	pids    []int  // of the brokers
	clients int    // stream: so many at a time
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
	f.StringVar(&w.broker, "broker", "", "HOST:PORT of brokers, with commas between them")
	pids := f.String("pid", "", "process ids of the brokers, with commas between them")
	f.IntVar(&w.clients, "clients", 1, "stream: clients, each with its own connections")
	f.StringVar(&w.topic, "topic", "", "topic, which exists")
	f.IntVar(&w.size, "size", 1024, "bytes of a value")
	f.DurationVar(&w.warm, "warm", time.Second, "time before the sample")
	f.DurationVar(&w.sample, "sample", 5*time.Second, "time of the sample")
	f.Int64Var(&w.records, "records", 0, "consume: records that there are")
	if err := f.Parse(args); err != nil {
		return err
	}
	for _, text := range strings.Split(*pids, ",") {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("process id %q: %w", text, err)
		}
		w.pids = append(w.pids, pid)
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
		kgo.SeedBrokers(strings.Split(w.broker, ",")...), kgo.DefaultProduceTopic(w.topic), kgo.RequiredAcks(kgo.AllISRAcks()),
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

// load is clients that produce as fast as acknowledgements come.
type load struct {
	w             work
	acked, failed atomic.Int64
	measuring     atomic.Bool
	stop          atomic.Bool
	firstErr      atomic.Pointer[error]
	mu            sync.Mutex
	latencies     []time.Duration
}

// produce is one client's loop.
func (l *load) produce(c *kgo.Client) {
	records := sync.Pool{New: func() any { return new(kgo.Record) }}
	value := noise(l.w.size)
	for i := 0; !l.stop.Load(); i++ {
		rec := records.Get().(*kgo.Record)
		*rec = kgo.Record{Value: value()}
		var begin time.Time
		if i%32 == 0 && l.measuring.Load() {
			begin = time.Now()
		}
		c.Produce(context.Background(), rec, func(rec *kgo.Record, err error) {
			if err != nil {
				l.failed.Add(1)
				l.firstErr.CompareAndSwap(nil, &err)
				return
			}
			l.acked.Add(1)
			if !begin.IsZero() && l.measuring.Load() {
				l.mu.Lock()
				l.latencies = append(l.latencies, time.Since(begin))
				l.mu.Unlock()
			}
			records.Put(rec)
		})
	}
}

// stream produces as fast as acknowledgements come.
func stream(w work) (r result, err error) {
	l := &load{w: w}
	var clients []*kgo.Client
	for range w.clients {
		c, err := producer(w, kgo.ProducerBatchMaxBytes(1_000_000), kgo.MaxBufferedRecords(10_000))
		if err != nil {
			return r, err
		}
		defer c.Close()
		clients = append(clients, c)
	}
	var producing sync.WaitGroup
	for _, c := range clients {
		producing.Go(func() { l.produce(c) })
	}
	time.Sleep(w.warm)
	from, err := readMeter(w.pids)
	if err != nil {
		return r, err
	}
	l.measuring.Store(true)
	before := l.acked.Load()
	time.Sleep(w.sample)
	r.Records = l.acked.Load() - before
	to, err := readMeter(w.pids)
	if err != nil {
		return r, err
	}
	l.measuring.Store(false)
	l.stop.Store(true)
	producing.Wait()
	for _, c := range clients {
		if err := c.Flush(context.Background()); err != nil {
			return r, err
		}
	}
	r.usage, r.Bytes = to.since(from), r.Records*int64(w.size)
	r.Acked, r.Errors = l.acked.Load(), l.failed.Load()
	l.mu.Lock()
	r.P50, r.P99 = percentiles(l.latencies)
	l.mu.Unlock()
	if e := l.firstErr.Load(); e != nil {
		return r, fmt.Errorf("%d records were not acknowledged: %w", r.Errors, *e)
	}
	return r, r.check(clients[0], w)
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
	from, err := readMeter(w.pids)
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
	to, err := readMeter(w.pids)
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
	c, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(w.broker, ",")...), kgo.ConsumeTopics(w.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(32<<20), kgo.FetchMaxPartitionBytes(8<<20))
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	var r result
	if err := c.Ping(context.Background()); err != nil {
		return r, err
	}
	from, err := readMeter(w.pids)
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
	to, err := readMeter(w.pids)
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

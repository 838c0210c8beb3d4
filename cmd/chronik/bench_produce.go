package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type benchProduce struct {
	*bench
	options   produceOptions
	size      int
	rate      float64
	producers int
	inFlight  int
	linger    time.Duration
	batch     int32

	values    [][]byte
	end       time.Time // zero: count ends it
	started   atomic.Int64
	acked     atomic.Int64
	errors    atomic.Int64
	latencies latencies

	mu       sync.Mutex
	firstErr error
}

func (b *bench) newProduce() *cobra.Command {
	p := &benchProduce{bench: b}
	cmd := &cobra.Command{
		Use:   "produce",
		Short: "Measure writing",
		Long: `Measure writing to any Kafka cluster. Latency is measured from when a record was due
(with --rate) or handed to the client to its acknowledgement, so it includes the time
that the record waited in the client: for the latency of the server use --rate below what
it can take, or --in-flight 1. In the end the acknowledgements are compared with how far
the topic has grown.`,
		Args: noArguments,
	}
	p.options.add(cmd)
	flags := cmd.Flags()
	flags.IntVarP(&p.size, "size", "s", 1024, "bytes of a record's value")
	flags.Float64Var(&p.rate, "rate", 0, "records per second in all; 0: as many as possible")
	flags.IntVar(&p.producers, "producers", 1, "clients, each with its own connections")
	flags.IntVar(&p.inFlight, "in-flight", 10000, "records of one producer that may wait for their acknowledgement")
	flags.DurationVar(&p.linger, "linger", 0, "how long a producer waits for a batch to fill")
	flags.Int32Var(&p.batch, "batch-bytes", 1000000, "the largest batch")
	cmd.RunE = trying(p.run)
	return cmd
}

func (b *benchProduce) check() error {
	if err := b.bench.check(); err != nil {
		return err
	}
	switch {
	case b.size < 0 || b.size > 1<<30:
		return usage("flag --size: got %d, takes 0 to %d", b.size, 1<<30)
	case b.rate < 0:
		return usage("flag --rate: got %v, takes 0 or more", b.rate)
	case b.producers < 1 || b.producers > 10000:
		return usage("flag --producers: got %d, takes 1 to 10000", b.producers)
	case b.inFlight < 1:
		return usage("flag --in-flight: got %d, takes 1 or more", b.inFlight)
	case b.linger < 0 || b.linger > time.Minute:
		return usage("flag --linger: got %v, takes 0 to 1m", b.linger)
	case b.batch < 1024:
		return usage("flag --batch-bytes: got %d, takes 1024 or more", b.batch)
	}
	return nil
}

func (b *benchProduce) run(cmd *cobra.Command, args []string) error {
	if err := b.check(); err != nil {
		return err
	}
	options, err := b.options.client()
	if err != nil {
		return err
	}
	options = append(options, kgo.DefaultProduceTopic(b.topic), kgo.MaxBufferedRecords(b.inFlight),
		kgo.ProducerLinger(b.linger), kgo.ProducerBatchMaxBytes(b.batch))
	ctx := cmd.Context()
	clients := make([]*kgo.Client, 0, b.producers)
	defer func() { closeAll(clients) }()
	for range b.producers {
		client, err := b.cluster.connect(ctx, options...)
		if err != nil {
			return err
		}
		clients = append(clients, client)
	}
	admin := kadm.NewClient(clients[0])
	if err := b.prepare(ctx, admin); err != nil {
		return err
	}
	_, before, err := b.bounds(ctx, admin)
	if err != nil {
		return err
	}
	b.fillValues()
	took := b.measure(ctx, cmd.ErrOrStderr(), clients)
	_, after, err := b.bounds(context.WithoutCancel(ctx), admin)
	if err != nil {
		return err
	}
	return b.report(cmd, took, sum(after, before))
}

// fillValues makes values that do not compress.
func (b *benchProduce) fillValues() {
	random := rand.NewChaCha8([32]byte{})
	for range max(1, min(1024, 16<<20/max(b.size, 1))) {
		value := make([]byte, b.size)
		random.Read(value) //nolint:errcheck // it never fails
		b.values = append(b.values, value)
	}
}

// measure produces until the time or the count is reached and everything has
// been acknowledged, and says how long that took.
func (b *benchProduce) measure(ctx context.Context, progress io.Writer, clients []*kgo.Client) time.Duration {
	began := time.Now()
	if b.duration > 0 {
		b.end = began.Add(b.duration)
	}
	done := make(chan struct{})
	var watcher, producers sync.WaitGroup
	watcher.Go(func() {
		watch(progress, done, func() tally { n := b.acked.Load(); return tally{n, n * int64(b.size)} }, func() string {
			return fmt.Sprintf("  p50 %.2f ms  p99 %.2f ms  max %.1f ms  %d errors", milliseconds(b.latencies.percentile(50)),
				milliseconds(b.latencies.percentile(99)), milliseconds(b.latencies.longest()), b.errors.Load())
		})
	})
	for i, client := range clients {
		producers.Go(func() { b.produce(ctx, client, i, began) })
	}
	producers.Wait()
	took := time.Since(began)
	close(done)
	watcher.Wait()
	return took
}

// produce is one producer.
func (b *benchProduce) produce(ctx context.Context, client *kgo.Client, number int, began time.Time) {
	interval := time.Duration(0)
	if b.rate > 0 {
		interval = time.Duration(float64(b.producers) / b.rate * float64(time.Second))
	}
	due := began.Add(interval * time.Duration(number) / time.Duration(b.producers))
	for i := 0; ctx.Err() == nil; i++ {
		from := time.Now()
		if interval > 0 {
			if wait := due.Sub(from); wait > 0 {
				time.Sleep(wait)
			}
			from = due
			due = due.Add(interval)
		}
		if !b.end.IsZero() && !from.Before(b.end) {
			break
		}
		if n := b.started.Add(1); b.count > 0 && n > b.count {
			b.started.Add(-1)
			break
		}
		client.Produce(ctx, &kgo.Record{Value: b.values[(i+number)%len(b.values)]}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.failed(err)
				return
			}
			b.latencies.add(time.Since(from))
			b.acked.Add(1)
		})
	}
	// What is in flight is waited for even after Ctrl-C: it has been sent.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cluster.timeout)
	defer cancel()
	if err := client.Flush(ctx); err != nil {
		b.failed(err)
	}
}

func (b *benchProduce) failed(err error) {
	b.errors.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.firstErr == nil {
		b.firstErr = err
	}
}

// produceReport is the result, as -o json prints it.
type produceReport struct {
	Topic              string  `json:"topic"`
	Records            int64   `json:"records"`
	Errors             int64   `json:"errors"`
	LogGrowth          int64   `json:"log_growth"`
	Size               int     `json:"size"`
	Acks               string  `json:"acks"`
	Compression        string  `json:"compression"`
	Producers          int     `json:"producers"`
	Seconds            float64 `json:"seconds"`
	RecordsPerSecond   float64 `json:"records_per_second"`
	MegabytesPerSecond float64 `json:"megabytes_per_second"`
	P50                float64 `json:"p50_ms"`
	P99                float64 `json:"p99_ms"`
	P999               float64 `json:"p99_9_ms"`
	Max                float64 `json:"max_ms"`
}

func (b *benchProduce) report(cmd *cobra.Command, took time.Duration, growth int64) error {
	acked := b.acked.Load()
	r := produceReport{Topic: b.topic, Records: acked, Errors: b.errors.Load(), LogGrowth: growth, Size: b.size, Acks: b.options.acks,
		Compression: b.options.compression, Producers: b.producers, Seconds: took.Seconds(),
		P50: milliseconds(b.latencies.percentile(50)), P99: milliseconds(b.latencies.percentile(99)),
		P999: milliseconds(b.latencies.percentile(99.9)), Max: milliseconds(b.latencies.longest())}
	r.RecordsPerSecond, r.MegabytesPerSecond = tally{acked, acked * int64(b.size)}.rates(took)
	out := cmd.OutOrStdout()
	if b.output == "json" {
		if err := writeJSON(out, r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "%d records of %d bytes in %.2f s: %.0f records/s, %.1f MB/s\nlatency p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, max %.3f ms\n",
			r.Records, r.Size, r.Seconds, r.RecordsPerSecond, r.MegabytesPerSecond, r.P50, r.P99, r.P999, r.Max)
	}
	switch {
	case b.options.acks != "0" && growth < acked:
		return fmt.Errorf("%d records were acknowledged, but topic %s has grown by %d only: the figures above are worth nothing", acked, b.topic, growth)
	case b.firstErr != nil:
		return explain(fmt.Sprintf("%d of %d records were not written; the first", r.Errors, r.Errors+acked), b.firstErr, "")
	case acked == 0:
		return fmt.Errorf("no record was written to topic %s", b.topic)
	}
	return nil
}

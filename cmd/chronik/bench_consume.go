package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type benchConsume struct {
	*bench
	consumers int

	records, bytes, gaps atomic.Int64
	first                atomic.Int64 // nanoseconds to the first record
	mu                   sync.Mutex
	firstErr             error
}

func (b *bench) newConsume() *cobra.Command {
	c := &benchConsume{bench: b}
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Measure reading",
		Long: `Measure reading a topic from its beginning to what is its end now, or until the duration
or the count is reached. Offsets that are missing between two records are counted; a topic
that is compacted or written by transactions has such gaps, others do not.`,
		Args: noArguments,
	}
	cmd.Flags().IntVar(&c.consumers, "consumers", 1, "clients, among which the partitions are shared out")
	cmd.RunE = trying(c.run)
	return cmd
}

func (b *benchConsume) run(cmd *cobra.Command, args []string) error {
	if err := b.check(); err != nil {
		return err
	}
	if b.consumers < 1 || b.consumers > 10000 {
		return usage("flag --consumers: got %d, takes 1 to 10000", b.consumers)
	}
	ctx := cmd.Context()
	first, err := b.cluster.connect(ctx)
	if err != nil {
		return err
	}
	defer first.Close()
	admin := kadm.NewClient(first)
	if err := b.exists(ctx, admin); err != nil {
		return err
	}
	starts, ends, err := b.bounds(ctx, admin)
	if err != nil {
		return err
	}
	total := sum(ends, starts)
	if total == 0 {
		return fmt.Errorf("topic %s has no records; `chronik bench produce -t %s` writes some", b.topic, b.topic)
	}
	clients, shares, err := b.share(ctx, starts, ends)
	defer func() { closeAll(clients) }()
	if err != nil {
		return err
	}
	if b.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, b.duration)
		defer cancel()
	}
	began := time.Now()
	done := make(chan struct{})
	var watcher, consumers sync.WaitGroup
	watcher.Go(func() {
		watch(cmd.ErrOrStderr(), done, func() tally { return tally{b.records.Load(), b.bytes.Load()} }, func() string { return "" })
	})
	for i, client := range clients {
		consumers.Go(func() { b.consume(ctx, client, starts, shares[i], began) })
	}
	consumers.Wait()
	took := time.Since(began)
	close(done)
	watcher.Wait()
	return b.report(cmd, took, total)
}

// exists refuses a topic that there is not.
func (b *benchConsume) exists(ctx context.Context, admin *kadm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, b.cluster.timeout)
	defer cancel()
	topics, err := admin.ListTopicsWithInternal(ctx, b.topic)
	if err != nil {
		return explain("look up topic "+b.topic, err, "")
	}
	if !topics.Has(b.topic) {
		return fmt.Errorf("there is no topic %s; `chronik bench produce -t %s` makes it and writes some records", b.topic, b.topic)
	}
	return nil
}

// share gives each consumer its partitions: the ends of those that are not empty.
func (b *benchConsume) share(ctx context.Context, starts, ends map[int32]int64) ([]*kgo.Client, []map[int32]int64, error) {
	shares := make([]map[int32]int64, b.consumers)
	number := 0
	for partition, end := range ends {
		if end > starts[partition] {
			i := number % b.consumers
			if shares[i] == nil {
				shares[i] = map[int32]int64{}
			}
			shares[i][partition] = end
			number++
		}
	}
	shares = shares[:min(b.consumers, number)]
	var clients []*kgo.Client
	for _, share := range shares {
		from := map[int32]kgo.Offset{}
		for partition := range share {
			from[partition] = kgo.NewOffset().At(starts[partition])
		}
		client, err := b.cluster.connect(ctx, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{b.topic: from}),
			kgo.FetchMaxBytes(50<<20), kgo.FetchMaxPartitionBytes(8<<20), kgo.KeepControlRecords())
		if err != nil {
			return clients, nil, err
		}
		clients = append(clients, client)
	}
	return clients, shares, nil
}

// consume is one consumer: it reads its share to the end.
func (b *benchConsume) consume(ctx context.Context, client *kgo.Client, starts, ends map[int32]int64, began time.Time) {
	next := map[int32]int64{}
	for partition := range ends {
		next[partition] = starts[partition]
	}
	for len(ends) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			b.mu.Lock()
			if b.firstErr == nil {
				b.firstErr = explain(fmt.Sprintf("read %s, partition %d", errs[0].Topic, errs[0].Partition), errs[0].Err, "")
			}
			b.mu.Unlock()
			return
		}
		b.first.CompareAndSwap(0, int64(time.Since(began)))
		var records, bytes int64
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			for _, r := range p.Records {
				if r.Offset != next[p.Partition] {
					b.gaps.Add(r.Offset - next[p.Partition])
				}
				next[p.Partition] = r.Offset + 1
				bytes += int64(len(r.Key) + len(r.Value))
			}
			records += int64(len(p.Records))
			if end, found := ends[p.Partition]; found && next[p.Partition] >= end {
				delete(ends, p.Partition)
			}
		})
		b.bytes.Add(bytes)
		if n := b.records.Add(records); b.count > 0 && n >= b.count {
			return
		}
	}
}

// consumeReport is the result, as -o json prints it.
type consumeReport struct {
	Topic              string  `json:"topic"`
	Records            int64   `json:"records"`
	InTopic            int64   `json:"records_in_topic"`
	Missing            int64   `json:"missing_offsets"`
	Consumers          int     `json:"consumers"`
	Seconds            float64 `json:"seconds"`
	FirstRecord        float64 `json:"first_record_ms"`
	RecordsPerSecond   float64 `json:"records_per_second"`
	MegabytesPerSecond float64 `json:"megabytes_per_second"`
}

func (b *benchConsume) report(cmd *cobra.Command, took time.Duration, total int64) error {
	r := consumeReport{Topic: b.topic, Records: b.records.Load(), InTopic: total, Missing: b.gaps.Load(), Consumers: b.consumers,
		Seconds: took.Seconds(), FirstRecord: milliseconds(time.Duration(b.first.Load()))}
	r.RecordsPerSecond, r.MegabytesPerSecond = tally{r.Records, b.bytes.Load()}.rates(took)
	out := cmd.OutOrStdout()
	if b.output == "json" {
		if err := writeJSON(out, r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "%d of %d records in %.2f s: %.0f records/s, %.1f MB/s; the first after %.2f ms; %d offsets missing\n",
			r.Records, r.InTopic, r.Seconds, r.RecordsPerSecond, r.MegabytesPerSecond, r.FirstRecord, r.Missing)
	}
	if b.firstErr != nil {
		return b.firstErr
	}
	if r.Records == 0 {
		return fmt.Errorf("no record of topic %s could be read in %v", b.topic, took.Round(time.Millisecond))
	}
	return nil
}

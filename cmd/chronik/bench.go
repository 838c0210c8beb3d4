package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a Kafka cluster: throughput and latency",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	b := &bench{cluster: addCluster(cmd)}
	flags := cmd.PersistentFlags()
	flags.StringVarP(&b.topic, "topic", "t", "chronik-bench", "topic to use; made if it does not exist")
	flags.Int32VarP(&b.partitions, "partitions", "p", 6, "partitions of a topic that is made")
	flags.Int16VarP(&b.replicas, "replicas", "r", -1, "replicas of a topic that is made; -1: the broker's default")
	flags.DurationVarP(&b.duration, "duration", "d", 10*time.Second, "how long to measure; 0: until --count")
	flags.Int64VarP(&b.count, "count", "n", 0, "how many records; 0: as many as the duration allows")
	flags.StringVarP(&b.output, "output", "o", "text", "text or json")
	cmd.AddCommand(b.newProduce(), b.newConsume(), newBenchFailover())
	return cmd
}

// bench is what both benchmarks share.
type bench struct {
	cluster    *cluster
	topic      string
	partitions int32
	replicas   int16
	duration   time.Duration
	count      int64
	output     string
}

func (b *bench) check() error {
	if b.duration <= 0 && b.count <= 0 {
		return usage("flags --duration and --count: got 0 for both, takes more than 0 for one")
	}
	if b.duration < 0 || b.count < 0 {
		return usage("flags --duration and --count: got less than 0")
	}
	return oneOf("output", b.output, "text", "json")
}

// prepare makes the topic if it is missing.
func (b *bench) prepare(ctx context.Context, admin *kadm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, b.cluster.timeout)
	defer cancel()
	topics, err := admin.ListTopics(ctx, b.topic)
	if err != nil {
		return explain("look up topic "+b.topic, err, "")
	}
	if topics.Has(b.topic) {
		return nil
	}
	r, err := admin.CreateTopic(ctx, b.partitions, b.replicas, nil, b.topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return explain("create topic "+b.topic, err, r.ErrMessage)
	}
	return nil
}

// bounds are the start and end offsets of a topic's partitions.
func (b *bench) bounds(ctx context.Context, admin *kadm.Client) (starts, ends map[int32]int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.cluster.timeout)
	defer cancel()
	for {
		starts, err = offsets(admin.ListStartOffsets(ctx, b.topic))
		if err == nil {
			ends, err = offsets(admin.ListEndOffsets(ctx, b.topic))
		}
		// A topic that was just made may have no leaders yet.
		if err == nil || !kerr.IsRetriable(err) || ctx.Err() != nil {
			return starts, ends, explain("list offsets of topic "+b.topic, err, "")
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func offsets(listed kadm.ListedOffsets, err error) (map[int32]int64, error) {
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, err
	}
	out := map[int32]int64{}
	listed.Each(func(l kadm.ListedOffset) { out[l.Partition] = l.Offset })
	return out, nil
}

// tally is what has been measured so far.
type tally struct {
	records, bytes int64
}

func (t tally) since(before tally) tally {
	return tally{t.records - before.records, t.bytes - before.bytes}
}

func (t tally) rates(d time.Duration) (recordsPerSecond, megabytesPerSecond float64) {
	if d <= 0 {
		return 0, 0
	}
	return float64(t.records) / d.Seconds(), float64(t.bytes) / 1e6 / d.Seconds()
}

// watch writes a line each second until done is closed.
func watch(to io.Writer, done <-chan struct{}, now func() tally, more func() string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	began, last, before := time.Now(), time.Now(), tally{}
	for {
		select {
		case <-done:
			return
		case at := <-tick.C:
			t := now()
			records, megabytes := t.since(before).rates(at.Sub(last))
			fmt.Fprintf(to, "%4.0fs  %10.0f records/s  %8.1f MB/s%s\n", at.Sub(began).Seconds(), records, megabytes, more())
			last, before = at, t
		}
	}
}

// milliseconds is d as the reports have it.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// sum adds up how far a topic's ends are from where they were.
func sum(ends, before map[int32]int64) int64 {
	n := int64(0)
	for p, end := range ends {
		n += end - before[p]
	}
	return n
}

func closeAll(clients []*kgo.Client) {
	for _, c := range clients {
		c.Close()
	}
}

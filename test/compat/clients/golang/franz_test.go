package golang

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func franz(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(broker(t))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func franzTopic(t *testing.T, admin *kadm.Client, partitions int32, configs map[string]*string, name string) {
	t.Helper()
	if _, err := admin.CreateTopic(within(t, 20*time.Second), partitions, 1, configs, name); err != nil {
		t.Fatal(name, err)
	}
}

func poll(t *testing.T, c *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	ctx := within(t, 30*time.Second)
	var got []*kgo.Record
	for len(got) < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d: %v", len(got), n, err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

func TestFranzEveryCodec(t *testing.T) {
	admin := kadm.NewClient(franz(t))
	with := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for _, codec := range codecs {
		topic := "franz-" + codec
		franzTopic(t, admin, 1, nil, topic)
		c := franz(t, kgo.ProducerBatchCompression(with[codec]), kgo.ConsumeTopics(topic))
		for i := range records {
			m := sent(i)
			r := &kgo.Record{Topic: topic, Key: []byte(m.key), Value: []byte(m.value), Timestamp: m.at, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte(m.header)}}}
			if m.null {
				r.Value = nil
			}
			c.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(codec, err)
				}
			})
		}
		if err := c.Flush(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		for i, r := range poll(t, c, records) {
			same(t, i, r.Offset, r.Key, r.Value, r.Headers[0].Value, r.Timestamp)
		}
	}
	at, err := admin.ListOffsetsAfterMilli(within(t, 10*time.Second), then.Add(42*time.Millisecond).UnixMilli(), "franz-zstd")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := at.Lookup("franz-zstd", 0); o.Offset != 42 {
		t.Fatalf("offset %d at record 42's time", o.Offset)
	}
}

func TestFranzLargeMessages(t *testing.T) {
	admin := kadm.NewClient(franz(t))
	franzTopic(t, admin, 1, map[string]*string{"max.message.bytes": kadm.StringPtr("2000000")}, "franz-large")
	c := franz(t, kgo.ProducerBatchMaxBytes(4_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DefaultProduceTopic("franz-large"),
		kgo.ConsumeTopics("franz-large"), kgo.FetchMaxPartitionBytes(4_000_000))
	for _, n := range []int{1_000_000, 1_900_000, 2_100_000} {
		err := c.ProduceSync(within(t, 20*time.Second), &kgo.Record{Value: make([]byte, n)}).FirstErr()
		if n < 2_000_000 && err != nil || n > 2_000_000 && !errors.Is(err, kerr.MessageTooLarge) {
			t.Fatal(n, err)
		}
	}
	if got := poll(t, c, 2); len(got[0].Value) != 1_000_000 || len(got[1].Value) != 1_900_000 {
		t.Fatal("other sizes")
	}
}

func TestFranzGroupOfTwo(t *testing.T) {
	admin := kadm.NewClient(franz(t))
	for _, kind := range []string{"eager", "cooperative"} {
		topic, group := "franz-group-"+kind, "franz-g-"+kind
		franzTopic(t, admin, 4, nil, topic)
		balancer := kgo.RangeBalancer()
		if kind == "cooperative" {
			balancer = kgo.CooperativeStickyBalancer()
		}
		var mu sync.Mutex
		seen := map[string]bool{}
		ctx, stop := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		var owned [2]int
		for n := range 2 {
			c := franz(t, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.Balancers(balancer), kgo.HeartbeatInterval(300*time.Millisecond),
				kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
					mu.Lock()
					owned[n] += len(m[topic])
					mu.Unlock()
				}),
				kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
					mu.Lock()
					owned[n] -= len(m[topic])
					mu.Unlock()
				}),
				kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
					mu.Lock()
					owned[n] -= len(m[topic])
					mu.Unlock()
				}))
			wait.Add(1)
			go func() {
				defer wait.Done()
				for ctx.Err() == nil {
					c.PollFetches(ctx).EachRecord(func(r *kgo.Record) { mu.Lock(); seen[string(r.Value)] = true; mu.Unlock() })
				}
				// The other one leaves at the same time, and the rebalance for that may have the commit refused.
				err := c.CommitUncommittedOffsets(context.Background())
				for try := 0; err != nil && try < 50; try++ {
					time.Sleep(100 * time.Millisecond)
					err = c.CommitUncommittedOffsets(context.Background())
				}
				if err != nil {
					t.Error(err)
				}
				c.Close()
			}()
		}
		until(t, "both own two", func() bool { mu.Lock(); defer mu.Unlock(); return owned == [2]int{2, 2} })
		producer := franz(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for i := range 200 {
			if err := producer.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: int32(i % 4), Value: []byte(fmt.Sprint(i))}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "all is read", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 200 })
		stop()
		wait.Wait()
		offsets, err := admin.FetchOffsets(within(t, 10*time.Second), group)
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
		if sum != 200 {
			t.Fatalf("%s: offsets of %d records", kind, sum)
		}
		if _, err := admin.DeleteGroup(within(t, 10*time.Second), group); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFranzTopics(t *testing.T) {
	admin, ctx := kadm.NewClient(franz(t)), within(t, 30*time.Second)
	franzTopic(t, admin, 2, nil, "franz-gone")
	if _, err := admin.UpdatePartitions(ctx, 5, "franz-gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: kadm.StringPtr("7777")}}, "franz-gone"); err != nil {
		t.Fatal(err)
	}
	until(t, "5 partitions", func() bool {
		d, err := admin.ListTopics(ctx, "franz-gone")
		return err == nil && len(d["franz-gone"].Partitions) == 5
	})
	if _, err := admin.DeleteTopic(ctx, "franz-gone"); err != nil {
		t.Fatal(err)
	}
}

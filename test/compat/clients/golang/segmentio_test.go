package golang

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func segmentioTopic(t *testing.T, topic string, partitions int) {
	t.Helper()
	client := &kafka.Client{Addr: kafka.TCP(broker(t))}
	resp, err := client.CreateTopics(within(t, 20*time.Second), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}})
	if err != nil || resp.Errors[topic] != nil {
		t.Fatal(err, resp)
	}
}

func TestSegmentioEveryCodec(t *testing.T) {
	for codec, name := range codecs {
		topic := "segmentio-" + name
		segmentioTopic(t, topic, 1)
		writer := &kafka.Writer{Addr: kafka.TCP(broker(t)), Topic: topic, Compression: kafka.Compression(codec), BatchTimeout: 10 * time.Millisecond, RequiredAcks: kafka.RequireAll}
		var batch []kafka.Message
		for i := range records {
			m := sent(i)
			km := kafka.Message{Key: []byte(m.key), Value: []byte(m.value), Time: m.at, Headers: []kafka.Header{{Key: "h", Value: []byte(m.header)}}}
			if m.null {
				km.Value = nil
			}
			batch = append(batch, km)
		}
		if err := writer.WriteMessages(within(t, 20*time.Second), batch...); err != nil {
			t.Fatal(name, err)
		}
		_ = writer.Close()
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker(t)}, Topic: topic, MaxWait: 100 * time.Millisecond})
		ctx := within(t, 20*time.Second)
		for i := range records {
			m, err := reader.ReadMessage(ctx)
			if err != nil {
				t.Fatal(name, err)
			}
			same(t, i, m.Offset, m.Key, m.Value, m.Headers[0].Value, m.Time)
		}
		if err := reader.SetOffsetAt(ctx, then.Add(42*time.Millisecond)); err != nil || reader.Offset() != 42 {
			t.Fatal("offset by time", reader.Offset(), err)
		}
		_ = reader.Close()
	}
}

func TestSegmentioGroupOfTwo(t *testing.T) {
	segmentioTopic(t, "segmentio-group", 4)
	writer := &kafka.Writer{Addr: kafka.TCP(broker(t)), Topic: "segmentio-group", BatchTimeout: 10 * time.Millisecond, Balancer: &kafka.RoundRobin{}}
	var batch []kafka.Message
	for i := range 200 {
		batch = append(batch, kafka.Message{Value: []byte(fmt.Sprint(i))})
	}
	if err := writer.WriteMessages(within(t, 20*time.Second), batch...); err != nil {
		t.Fatal(err)
	}
	_ = writer.Close()
	var mu sync.Mutex
	seen := map[string]bool{}
	ctx := within(t, 30*time.Second)
	var readers []*kafka.Reader
	var wait sync.WaitGroup
	for range 2 {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker(t)}, Topic: "segmentio-group", GroupID: "segmentio-g",
			MaxWait: 100 * time.Millisecond, HeartbeatInterval: 300 * time.Millisecond, StartOffset: kafka.FirstOffset})
		readers = append(readers, reader)
		wait.Add(1)
		go func() {
			defer wait.Done()
			for {
				m, err := reader.FetchMessage(ctx)
				if err != nil {
					return
				}
				// In a rebalance, such as that for the second member, a commit may be refused.
				for err = reader.CommitMessages(ctx, m); err != nil && ctx.Err() == nil; err = reader.CommitMessages(ctx, m) {
					time.Sleep(50 * time.Millisecond)
				}
				mu.Lock()
				seen[string(m.Value)] = true
				mu.Unlock()
			}
		}()
	}
	until(t, "all is read", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 200 })
	for _, r := range readers {
		_ = r.Close()
	}
	wait.Wait()
	client := &kafka.Client{Addr: kafka.TCP(broker(t))}
	resp, err := client.OffsetFetch(within(t, 10*time.Second), &kafka.OffsetFetchRequest{GroupID: "segmentio-g", Topics: map[string][]int{"segmentio-group": {0, 1, 2, 3}}})
	if err != nil || resp.Error != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, p := range resp.Topics["segmentio-group"] {
		sum += p.CommittedOffset
	}
	if sum != 200 {
		t.Fatalf("offsets of %d records", sum)
	}
}

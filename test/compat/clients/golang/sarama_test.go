package golang

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	return c
}

func TestSaramaEveryCodec(t *testing.T) {
	addr := []string{broker(t)}
	admin, err := sarama.NewClusterAdmin(addr, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	for codec, name := range codecs {
		topic := "sarama-" + name
		if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); err != nil {
			t.Fatal(err)
		}
		cfg := saramaConfig()
		cfg.Producer.Compression = sarama.CompressionCodec(codec)
		client, err := sarama.NewClient(addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		producer, err := sarama.NewSyncProducerFromClient(client)
		if err != nil {
			t.Fatal(err)
		}
		var batch []*sarama.ProducerMessage
		for i := range records {
			m := sent(i)
			pm := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(m.key), Value: sarama.StringEncoder(m.value), Timestamp: m.at,
				Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte(m.header)}}}
			if m.null {
				pm.Value = nil
			}
			batch = append(batch, pm)
		}
		if err := producer.SendMessages(batch); err != nil {
			t.Fatal(name, err)
		}
		consumer, err := sarama.NewConsumerFromClient(client)
		if err != nil {
			t.Fatal(err)
		}
		part, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			select {
			case m := <-part.Messages():
				same(t, i, m.Offset, m.Key, m.Value, m.Headers[0].Value, m.Timestamp)
			case <-time.After(15 * time.Second):
				t.Fatalf("%s: no record %d", name, i)
			}
		}
		_ = part.Close()
		if at, err := client.GetOffset(topic, 0, then.Add(42*time.Millisecond).UnixMilli()); err != nil || at != 42 {
			t.Fatalf("offset %d at record 42's time: %v", at, err)
		}
		_ = producer.Close()
		_ = consumer.Close()
		_ = client.Close()
	}
}

type saramaMember struct {
	mu    *sync.Mutex
	seen  map[string]bool
	owned *int
}

func (m saramaMember) Setup(s sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	*m.owned = len(s.Claims()["sarama-group"])
	return nil
}
func (m saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (m saramaMember) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for msg := range claim.Messages() {
		m.mu.Lock()
		m.seen[string(msg.Value)] = true
		m.mu.Unlock()
		s.MarkMessage(msg, "")
	}
	return nil
}

func TestSaramaGroupOfTwo(t *testing.T) {
	addr := []string{broker(t)}
	admin, err := sarama.NewClusterAdmin(addr, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	if err := admin.CreateTopic("sarama-group", &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1}, false); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	var owned [2]int
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for n := range owned {
		group, err := sarama.NewConsumerGroup(addr, "sarama-g", saramaConfig())
		if err != nil {
			t.Fatal(err)
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			for ctx.Err() == nil {
				if err := group.Consume(ctx, []string{"sarama-group"}, saramaMember{&mu, seen, &owned[n]}); err != nil {
					t.Error(err)
					return
				}
			}
			_ = group.Close()
		}()
	}
	until(t, "both own two", func() bool { mu.Lock(); defer mu.Unlock(); return owned == [2]int{2, 2} })
	producer, err := sarama.NewSyncProducer(addr, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	var batch []*sarama.ProducerMessage
	for i := range 200 {
		batch = append(batch, &sarama.ProducerMessage{Topic: "sarama-group", Partition: int32(i % 4), Value: sarama.StringEncoder(fmt.Sprint(i))})
	}
	if err := producer.SendMessages(batch); err != nil {
		t.Fatal(err)
	}
	until(t, "all is read", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 200 })
	stop()
	wait.Wait()
	_ = producer.Close()
	offsets, err := admin.ListConsumerGroupOffsets("sarama-g", map[string][]int32{"sarama-group": {0, 1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(4) {
		if b := offsets.GetBlock("sarama-group", p); b == nil || b.Offset != 50 {
			t.Fatalf("partition %d: %+v", p, b)
		}
	}
}

func TestSaramaTopics(t *testing.T) {
	cfg := saramaConfig()
	cfg.Producer.MaxMessageBytes = 3_000_000
	addr := []string{broker(t)}
	admin, err := sarama.NewClusterAdmin(addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	limit := "2000000"
	if err := admin.CreateTopic("sarama-gone", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{"max.message.bytes": &limit}}, false); err != nil {
		t.Fatal(err)
	}
	producer, err := sarama.NewSyncProducer(addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = producer.Close() }()
	for n, want := range map[int]error{1_000_000: nil, 1_900_000: nil, 2_100_000: sarama.ErrMessageSizeTooLarge} {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: "sarama-gone", Value: sarama.ByteEncoder(make([]byte, n))}); err != want {
			t.Fatal(n, err)
		}
	}
	if err := admin.CreatePartitions("sarama-gone", 5, nil, false); err != nil {
		t.Fatal(err)
	}
	value := "7777"
	if err := admin.IncrementalAlterConfig(sarama.TopicResource, "sarama-gone", map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Value: &value}}, false); err != nil {
		t.Fatal(err)
	}
	until(t, "retention", func() bool {
		entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: "sarama-gone", ConfigNames: []string{"retention.ms"}})
		return err == nil && len(entries) == 1 && entries[0].Value == "7777"
	})
	if err := admin.DeleteRecords("sarama-gone", map[int32]int64{0: 1}); err != nil {
		t.Fatal(err)
	}
	if err := admin.DeleteTopic("sarama-gone"); err != nil {
		t.Fatal(err)
	}
}

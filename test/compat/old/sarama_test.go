// Package old runs a sarama from before it asked for versions (1.46), which
// speaks those of the Kafka that it is told of, against the broker at
// COMPAT_BROKER.
package old

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

type reader struct {
	want int
	got  chan string
	done context.CancelFunc
}

func (r reader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (r reader) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (r reader) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		r.got <- string(m.Value)
		s.MarkMessage(m, "")
		if len(r.got) == r.want {
			r.done()
		}
	}
	return nil
}

// Trap 8: clients that do not ask for versions speak those of the Kafka that
// they are told of, and the broker must still have them.
func TestPinnedVersions(t *testing.T) {
	broker := os.Getenv("COMPAT_BROKER")
	if broker == "" {
		t.Skip("COMPAT_BROKER names no broker")
	}
	for _, version := range []sarama.KafkaVersion{sarama.V2_1_0_0, sarama.V2_8_0_0, sarama.V3_6_0_0, sarama.MaxVersion} {
		t.Run(version.String(), func(t *testing.T) {
			config := sarama.NewConfig()
			config.Version = version
			config.ApiVersionsRequest = false
			config.Producer.Return.Successes = true
			config.Producer.RequiredAcks = sarama.WaitForAll
			config.Producer.Idempotent, config.Net.MaxOpenRequests = true, 1
			config.Producer.Compression = sarama.CompressionZSTD
			config.Consumer.Offsets.Initial = sarama.OffsetOldest
			topic, addrs := "sarama-old-"+version.String(), []string{broker}
			admin, err := sarama.NewClusterAdmin(addrs, config)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = admin.Close() }()
			retention := "7777777"
			if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}, false); err != nil {
				t.Fatal("create", err)
			}
			producer, err := sarama.NewSyncProducer(addrs, config)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = producer.Close() }()
			const records = 100
			for i := range records {
				if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(fmt.Sprint(i)), Value: sarama.StringEncoder(fmt.Sprint(i))}); err != nil {
					t.Fatal("produce", i, err)
				}
			}
			group, err := sarama.NewConsumerGroup(addrs, topic, config)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = group.Close() }()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			r := reader{records, make(chan string, 2*records), cancel}
			if err := group.Consume(ctx, []string{topic}, r); err != nil {
				t.Fatal("consume", err)
			}
			if len(r.got) != records {
				t.Fatalf("%d of %d records", len(r.got), records)
			}
			groups, err := admin.DescribeConsumerGroups([]string{topic})
			if err != nil || len(groups) != 1 || groups[0].Err != sarama.ErrNoError {
				t.Error("describe group", err, groups)
			}
			offsets, err := admin.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0, 1}})
			if err != nil || offsets.GetBlock(topic, 0).Offset+offsets.GetBlock(topic, 1).Offset != records {
				t.Error("offsets", err)
			}
			entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
			if err != nil || len(entries) != 1 || entries[0].Value != retention {
				t.Error("configs", err, entries)
			}
			if err := admin.CreatePartitions(topic, 3, nil, false); err != nil {
				t.Error("partitions", err)
			}
			if err := admin.DeleteRecords(topic, map[int32]int64{0: 1}); err != nil {
				t.Error("delete records", err)
			}
			if err := admin.DeleteTopic(topic); err != nil {
				t.Error("delete", err)
			}
		})
	}
}

package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
)

func nodes(t *rapid.T, name string) []kafka.NodeID {
	list := rapid.SliceOfN(rapid.Int32Range(0, 1<<31-1), 0, 5).Draw(t, name)
	var ids []kafka.NodeID
	for _, n := range list {
		ids = append(ids, kafka.NodeID(n))
	}
	return ids
}

func unfit(t *rapid.T) []Unfit {
	var list []Unfit
	for _, n := range nodes(t, "unfit") {
		list = append(list, Unfit{n, Fitness(rapid.Uint8().Draw(t, "fitness")), rapid.String().Draw(t, "cause")})
	}
	return list
}

func drawRecord(t *rapid.T) Record {
	text := rapid.String()
	var id [16]byte
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	switch rapid.IntRange(1, 9).Draw(t, "type") {
	case 1:
		return &ClusterRecord{text.Draw(t, "cluster")}
	case 2:
		return &BrokerRecord{&Broker{
			ID: kafka.NodeID(rapid.Int32().Draw(t, "node")), Epoch: kafka.BrokerEpoch(rapid.Int64().Draw(t, "epoch")),
			Incarnation: id, Directory: id, Host: text.Draw(t, "host"), Port: rapid.Int32().Draw(t, "port"),
			PeerAddress: text.Draw(t, "peer"), Rack: text.Draw(t, "rack"), Version: text.Draw(t, "version"),
			Fenced: rapid.Bool().Draw(t, "fenced"), ShuttingDown: rapid.Bool().Draw(t, "stopping"), MinInSync: rapid.Int32Range(0, 3).Draw(t, "minInSync"),
			RecordsLevel: rapid.Int16Range(0, 3).Draw(t, "recordsLevel"),
		}}
	case 3:
		return &RemoveBrokerRecord{kafka.NodeID(rapid.Int32().Draw(t, "node"))}
	case 4:
		return &TopicRecord{kafka.TopicID(id), text.Draw(t, "name")}
	case 5:
		return &RemoveTopicRecord{kafka.TopicID(id)}
	case 6:
		return &PartitionRecord{kafka.TopicID(id), rapid.Int32().Draw(t, "partition"), &Partition{
			Replicas: nodes(t, "replicas"), InSync: nodes(t, "in sync"), EligibleLeader: nodes(t, "eligible"),
			LastLeader: kafka.NodeID(rapid.Int32Range(-1, 9).Draw(t, "last")), Adding: nodes(t, "adding"), Removing: nodes(t, "removing"),
			Leader: kafka.NodeID(rapid.Int32Range(-1, 9).Draw(t, "leader")), LeaderEpoch: kafka.LeaderEpoch(rapid.Int32().Draw(t, "leader epoch")),
			PartitionEpoch: kafka.PartitionEpoch(rapid.Int32().Draw(t, "partition epoch")), Recovering: rapid.Bool().Draw(t, "recovering"), Unfit: unfit(t),
		}}
	case 7:
		return &ConfigRecord{ConfigResource{ResourceType(rapid.Int8().Draw(t, "resource")), text.Draw(t, "name")},
			text.Draw(t, "key"), text.Draw(t, "value"), rapid.Bool().Draw(t, "remove")}
	case 8:
		return &ProducerIDsRecord{kafka.ProducerID(rapid.Int64().Draw(t, "next"))}
	}
	return &FeatureRecord{text.Draw(t, "name"), rapid.Int16().Draw(t, "level")}
}

func TestEveryBatchIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var records []Record
		for range rapid.IntRange(0, 5).Draw(t, "count") {
			records = append(records, drawRecord(t))
		}
		got, err := DecodeBatch(EncodeBatch(nil, records))
		if err != nil || !reflect.DeepEqual(got, records) {
			t.Fatalf("read %v, %v; wrote %v", got, err, records)
		}
	})
}

func TestUnknownFieldsAreSkippedAndUnknownTypesRefused(t *testing.T) {
	fields := appendString(nil, 1, "cluster")
	fields = appendString(fields, 99, "what a later version says")
	fields = appendPresentInt(fields, 100, 7)
	batch := func(kind, version byte) []byte {
		b := []byte{batchVersion, 1, kind, version}
		return append(binary.AppendUvarint(b, uint64(len(fields))), fields...)
	}
	records, err := DecodeBatch(batch(byte(typeCluster), 1))
	if err != nil || !reflect.DeepEqual(records, []Record{&ClusterRecord{"cluster"}}) {
		t.Errorf("read %v, %v", records, err)
	}
	if _, err := DecodeBatch(batch(200, 1)); !errors.Is(err, ErrNewer) {
		t.Errorf("an unknown type: %v", err)
	}
	if _, err := DecodeBatch(batch(byte(typeCluster), 2)); !errors.Is(err, ErrNewer) {
		t.Errorf("a later version of a type: %v", err)
	}
	later := batch(byte(typeCluster), 1)
	later[0]++
	if _, err := DecodeBatch(later); !errors.Is(err, ErrNewer) {
		t.Errorf("a later version of the batch: %v", err)
	}
	cut := batch(byte(typeCluster), 1)
	if _, err := DecodeBatch(cut[:len(cut)-1]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a batch cut off: %v", err)
	}
	if _, err := DecodeBatch(append(cut, 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a batch with bytes behind it: %v", err)
	}
}

func mustApply(t testing.TB, m *Image, records ...Record) (*Image, *Delta) {
	t.Helper()
	next, delta, err := m.Apply(m.Offset()+1, records)
	if err != nil {
		t.Fatal(err)
	}
	return next, delta
}

func partition(leader kafka.NodeID, epoch kafka.PartitionEpoch) *Partition {
	return &Partition{Replicas: []kafka.NodeID{1, 2}, InSync: []kafka.NodeID{1, 2}, Leader: leader, LastLeader: kafka.NoNode, PartitionEpoch: epoch}
}

func TestApplyLeavesTheImageBeforeAlone(t *testing.T) {
	a, b := kafka.TopicID{1}, kafka.TopicID{2}
	before, delta := mustApply(t, Empty(), &ClusterRecord{"c"},
		&TopicRecord{a, "a"}, &PartitionRecord{a, 0, partition(1, 0)}, &PartitionRecord{a, 1, partition(2, 0)},
		&ConfigRecord{Resource: ConfigResource{ResourceTopic, "a"}, Key: "retention.ms", Value: "1"},
		&BrokerRecord{&Broker{ID: 1, Epoch: 1}})
	if len(delta.Topics) != 1 || len(delta.Partitions) != 2 || len(delta.Brokers) != 1 || len(delta.Configs) != 1 {
		t.Errorf("delta of a new topic: %+v", delta)
	}
	was := before.EncodeSnapshot(nil)
	after, delta := mustApply(t, before,
		&PartitionRecord{a, 1, partition(1, 1)}, &RemoveTopicRecord{a},
		&TopicRecord{b, "a"}, &PartitionRecord{b, 0, partition(1, 0)},
		&BrokerRecord{&Broker{ID: 1, Epoch: 1, Fenced: true}}, &ProducerIDsRecord{1000}, &FeatureRecord{"f", 1})
	if string(before.EncodeSnapshot(nil)) != string(was) {
		t.Error("the image before has changed")
	}
	if after.TopicByName("a").ID != b || after.Topic(a) != nil || after.Config(ConfigResource{ResourceTopic, "a"}) != nil {
		t.Error("the topic made again is not a new one")
	}
	if len(delta.Topics) != 2 || delta.Topics[0].New != nil || delta.Topics[1].Old != nil {
		t.Errorf("topics: %+v", delta.Topics)
	}
	if len(delta.Partitions) != 3 || delta.Partitions[0].New != nil || delta.Partitions[0].Partition != 1 {
		t.Errorf("partitions: %+v", delta.Partitions)
	}
	if !after.Broker(1).Fenced || after.NextProducerID() != 1000 || after.FeatureLevel("f") != 1 {
		t.Error("a record was not applied")
	}
	if d := Diff(before, after); len(d.Topics) != 2 || len(d.Partitions) != 3 || len(d.Brokers) != 1 || len(d.Configs) != 1 {
		t.Errorf("the difference: %+v", d)
	}
}

func TestWhatComesAndGoesInOneBatchIsNoChange(t *testing.T) {
	a := kafka.TopicID{1}
	_, delta := mustApply(t, Empty(), &TopicRecord{a, "a"}, &PartitionRecord{a, 0, partition(1, 0)}, &RemoveTopicRecord{a})
	if len(delta.Topics)+len(delta.Partitions) != 0 {
		t.Errorf("delta: %+v", delta)
	}
}

func TestRecordsThatDoNotFitAreRefused(t *testing.T) {
	a := kafka.TopicID{1}
	m, _ := mustApply(t, Empty(), &ClusterRecord{"c"}, &TopicRecord{a, "a"}, &PartitionRecord{a, 0, partition(1, 5)}, &ProducerIDsRecord{10})
	for _, r := range []Record{
		&ClusterRecord{"other"}, &RemoveBrokerRecord{9}, &TopicRecord{a, "b"}, &TopicRecord{kafka.TopicID{2}, "a"}, &TopicRecord{},
		&RemoveTopicRecord{kafka.TopicID{2}}, &PartitionRecord{kafka.TopicID{2}, 0, partition(1, 0)}, &PartitionRecord{a, 2, partition(1, 0)},
		&PartitionRecord{a, -1, partition(1, 0)}, &PartitionRecord{a, 0, partition(1, 4)}, &ProducerIDsRecord{9},
	} {
		if _, _, err := m.Apply(m.Offset()+1, []Record{r}); err == nil {
			t.Errorf("%T %+v was applied", r, r)
		}
	}
	if _, _, err := m.Apply(m.Offset(), nil); err == nil {
		t.Error("an offset was applied twice")
	}
}

func TestSnapshotHoldsTheWholeImage(t *testing.T) {
	m := largeImage(t, 20, 3)
	got, err := DecodeSnapshot(m.EncodeSnapshot(nil))
	if err != nil || !got.Equal(m) || got.Offset() != m.Offset() {
		t.Fatalf("another image, %v", err)
	}
	if d := Diff(m, got); len(d.Topics)+len(d.Partitions)+len(d.Brokers)+len(d.Configs) != 0 {
		t.Errorf("the difference: %+v", d)
	}
	empty, err := DecodeSnapshot(Empty().EncodeSnapshot(nil))
	if err != nil || empty.Offset() != kafka.NoOffset {
		t.Errorf("the empty image: %v, %v", empty, err)
	}
}

func largeImage(t testing.TB, topics, partitions int) *Image {
	records := []Record{&ClusterRecord{"c"}, &BrokerRecord{&Broker{ID: 1, Epoch: 1, Host: "h", Rack: "r"}}, &ProducerIDsRecord{5}, &FeatureRecord{"x", 3}}
	for i := range topics {
		id := kafka.TopicID{1, byte(i), byte(i >> 8)}
		name := fmt.Sprintf("topic-%d", i)
		records = append(records, &TopicRecord{id, name})
		for p := range partitions {
			records = append(records, &PartitionRecord{id, int32(p), partition(1, 0)})
		}
		records = append(records, &ConfigRecord{Resource: ConfigResource{ResourceTopic, name}, Key: "retention.ms", Value: "1"})
	}
	m, _ := mustApply(t, Empty(), records...)
	return m
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(EncodeBatch(nil, largeImage(f, 1, 2).Records()))
	f.Add([]byte{batchVersion, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := DecodeBatch(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		again, err := DecodeBatch(EncodeBatch(nil, records))
		if err != nil || !reflect.DeepEqual(again, records) {
			t.Fatalf("%v is read as %v, %v", records, again, err)
		}
		_, _, _ = Empty().Apply(1, records)
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	f.Add(largeImage(f, 2, 2).EncodeSnapshot(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeSnapshot(b)
		if err != nil {
			return
		}
		again, err := DecodeSnapshot(m.EncodeSnapshot(nil))
		if err != nil || !again.Equal(m) {
			t.Fatalf("the image is not read as it was written: %v", err)
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	m := largeImage(b, 1000, 1)
	var records []Record
	for _, t := range m.Topics() {
		records = append(records, &PartitionRecord{t.ID, 0, partition(2, 1)})
	}
	encoded := EncodeBatch(nil, records)
	b.Run("encode/partitions=1000", func(b *testing.B) {
		b.SetBytes(int64(len(encoded)))
		for b.Loop() {
			encoded = EncodeBatch(encoded[:0], records)
		}
	})
	b.Run("decode/partitions=1000", func(b *testing.B) {
		b.SetBytes(int64(len(encoded)))
		for b.Loop() {
			if _, err := DecodeBatch(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("apply/partitions=1000", func(b *testing.B) {
		for b.Loop() {
			mustApply(b, m, records...)
		}
	})
	b.Run("apply/partitions=1of1000", func(b *testing.B) {
		for b.Loop() {
			mustApply(b, m, records[0])
		}
	})
}

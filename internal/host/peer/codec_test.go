package peer

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
)

func message(t *rapid.T) replica.Message {
	m := replica.Message{
		Kind:          replica.Kind(rapid.IntRange(1, 7).Draw(t, "kind")),
		LeaderEpoch:   kafka.LeaderEpoch(rapid.Int32().Draw(t, "leader epoch")),
		Session:       rapid.Uint64().Draw(t, "session"),
		Epoch:         kafka.LeaderEpoch(rapid.Int32().Draw(t, "epoch")),
		Offset:        kafka.Offset(rapid.Int64Min(0).Draw(t, "offset")),
		Synced:        kafka.Offset(rapid.Int64Min(0).Draw(t, "synced")),
		HighWatermark: kafka.Offset(rapid.Int64Min(0).Draw(t, "hw")),
		LogStart:      kafka.Offset(rapid.Int64Min(0).Draw(t, "start")),
		BrokerEpoch:   kafka.BrokerEpoch(rapid.Int64().Draw(t, "broker epoch")),
		NeedsAck:      rapid.Bool().Draw(t, "ack"),
	}
	if m.Kind == replica.Append {
		if b := rapid.SliceOf(rapid.Byte()).Draw(t, "records"); len(b) > 0 {
			m.Records = b
		}
	}
	return m
}

func TestMessagesSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := message(t), message(t)
		frame := Encode(Encode(nil, kafka.TopicID{1, 2}, 3, &a), kafka.TopicID{4}, 5, &b)
		if len(frame) != Size(&a)+Size(&b) {
			t.Fatalf("frame of %d bytes", len(frame))
		}
		topic, partition, got, rest, err := Decode(frame)
		if err != nil || topic != (kafka.TopicID{1, 2}) || partition != 3 || !reflect.DeepEqual(got, a) {
			t.Fatalf("first: %v %+v", err, got)
		}
		topic, partition, got, rest, err = Decode(rest)
		if err != nil || topic != (kafka.TopicID{4}) || partition != 5 || !reflect.DeepEqual(got, b) || len(rest) != 0 {
			t.Fatalf("second: %v %+v", err, got)
		}
	})
}

func FuzzDecode(f *testing.F) {
	m := replica.Message{Kind: replica.Append, Records: []byte("records")}
	f.Add(Encode(nil, kafka.TopicID{1}, 2, &m))
	f.Fuzz(func(t *testing.T, b []byte) {
		topic, partition, m, rest, err := Decode(b)
		if err != nil {
			return
		}
		if again := Encode(nil, topic, partition, &m); !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Fatal("decoded bytes encode to others")
		}
	})
}

func BenchmarkEncodeDecode(b *testing.B) {
	m := replica.Message{Kind: replica.Append, Records: make([]byte, 16<<10)}
	var buf []byte
	b.SetBytes(int64(Size(&m)))
	b.ReportAllocs()
	for b.Loop() {
		buf = Encode(buf[:0], kafka.TopicID{}, 0, &m)
		if _, _, _, _, err := Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
}

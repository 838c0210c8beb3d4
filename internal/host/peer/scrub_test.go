package peer

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
)

func TestScrubsSurviveTheWireAmongMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Int64Min(0).Draw(t, "from")
		m := Scrub{
			Kind: ScrubKind(rapid.IntRange(1, 7).Draw(t, "kind")), Status: ScrubStatus(rapid.IntRange(0, 4).Draw(t, "status")),
			ID: rapid.Uint64().Draw(t, "id"), Topic: kafka.TopicID{9}, Partition: rapid.Int32Min(0).Draw(t, "partition"),
			From: kafka.Offset(from), To: kafka.Offset(rapid.Int64Min(from).Draw(t, "to")),
			Max: rapid.Uint32().Draw(t, "max"), Sum: rapid.Uint32().Draw(t, "sum"),
		}
		if b := rapid.SliceOf(rapid.Byte()).Draw(t, "data"); len(b) > 0 {
			m.Data = b
		}
		other := message(t)
		frame := Encode(EncodeScrub(nil, &m), kafka.TopicID{4}, 5, &other)
		if !IsScrub(frame) {
			t.Fatal("is not taken for what it is")
		}
		got, rest, err := DecodeScrub(frame)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("%v %+v", err, got)
		}
		if IsScrub(rest) {
			t.Fatal("a message is taken for a scrub")
		}
		if _, _, again, _, err := Decode(rest); err != nil || !reflect.DeepEqual(again, other) {
			t.Fatalf("%v %+v", err, again)
		}
	})
}

func FuzzDecodeScrub(f *testing.F) {
	f.Add(EncodeScrub(nil, &Scrub{Kind: Batches, Topic: kafka.TopicID{1}, Partition: 2, From: 3, To: 4, Data: []byte("records")}))
	f.Add(Encode(nil, kafka.TopicID{1}, 2, &replica.Message{Kind: replica.Hello}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, rest, err := DecodeScrub(b)
		if err != nil {
			return
		}
		if again := EncodeScrub(nil, &m); !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Fatal("decoded bytes encode to others")
		}
	})
}

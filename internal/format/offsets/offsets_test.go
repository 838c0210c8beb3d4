package offsets

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
)

func encode(r Record) (key, value []byte) {
	if key = r.AppendKey(nil); !r.IsTombstone() {
		value = r.AppendValue(nil)
	}
	return key, value
}

// drawRecord makes any record that this package can write.
func drawRecord(t *rapid.T) Record {
	str := func(name string) string { return rapid.StringN(0, 6, -1).Draw(t, name) }
	word := func(name string) string { return rapid.StringN(1, 6, -1).Draw(t, name) }
	i32 := func(name string) int32 { return rapid.Int32().Draw(t, name) }
	blob := func(name string) []byte { return rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, name) }
	words := func(name string) []string { return rapid.SliceOfN(rapid.StringN(0, 4, -1), 1, 3).Draw(t, name) }
	id := func() (id kafka.TopicID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "topic id"))
		return id
	}
	set := func(name string) []TopicPartitions {
		var out []TopicPartitions
		for range rapid.IntRange(0, 3).Draw(t, name) {
			out = append(out, TopicPartitions{id(), rapid.SliceOfN(rapid.Int32(), 1, 4).Draw(t, "partitions")})
		}
		return out
	}
	group, second := word("group"), word("member")
	dead := rapid.IntRange(0, 7).Draw(t, "tombstone") == 0
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		r := OffsetCommit{Group: group, Topic: second, Partition: i32("partition")}
		if !dead {
			r.Value = &OffsetCommitValue{Offset: kafka.Offset(rapid.Int64().Draw(t, "offset")), LeaderEpoch: kafka.LeaderEpoch(i32("epoch")),
				Metadata: str("metadata"), CommitTimestamp: rapid.Int64().Draw(t, "time"), ExpireTimestamp: -1}
			switch rapid.IntRange(0, 2).Draw(t, "version") {
			case 0:
				r.Value.TopicID = id()
			case 1:
				r.Value.ExpireTimestamp, r.Value.LeaderEpoch = 5, kafka.NoLeaderEpoch
			}
		}
		return r
	case 1:
		r := GroupMetadata{Group: group}
		if !dead {
			r.Value = &GroupMetadataValue{ProtocolType: str("type"), Generation: i32("generation"), Protocol: str("protocol"), Leader: str("leader"), StateTimestamp: 7}
			for range rapid.IntRange(0, 3).Draw(t, "members") {
				r.Value.Members = append(r.Value.Members, GroupMember{word("id"), str("instance"), str("client"), str("host"), i32("rebalance"), i32("session"), blob("subscription"), blob("assignment")})
			}
		}
		return r
	case 2:
		r := ConsumerGroup{Group: group}
		if !dead {
			r.Value = &ConsumerGroupValue{i32("epoch"), rapid.Int64().Draw(t, "hash")}
		}
		return r
	case 3:
		r := ConsumerMember{Group: group, MemberID: second}
		if !dead {
			r.Value = &ConsumerMemberValue{str("instance"), str("rack"), str("client"), str("host"), words("topics"), str("regex"), i32("rebalance"), str("assignor"), nil}
			if rapid.Bool().Draw(t, "classic") {
				r.Value.Classic = &ClassicMember{i32("session"), []ClassicProtocol{{str("protocol"), blob("metadata")}}}
			}
		}
		return r
	case 4:
		r := ConsumerTargetEpoch{Group: group}
		if !dead {
			r.Value = &ConsumerTargetEpochValue{i32("epoch"), rapid.Int64().Draw(t, "time")}
		}
		return r
	case 5:
		r := ConsumerTarget{Group: group, MemberID: second}
		if !dead {
			r.Value = &ConsumerTargetValue{set("target")}
		}
		return r
	case 6:
		r := ConsumerCurrent{Group: group, MemberID: second}
		if !dead {
			r.Value = &ConsumerCurrentValue{i32("epoch"), i32("previous"), int8(rapid.IntRange(0, 2).Draw(t, "state")), set("assigned"), set("revoking")}
		}
		return r
	}
	r := ConsumerRegex{Group: group, Regex: second}
	if !dead {
		r.Value = &ConsumerRegexValue{words("topics"), 3, 4}
	}
	return r
}

func TestRecordsSurviveTheirBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		key, value := encode(want)
		got, err := Decode(key, value)
		if err != nil {
			t.Fatal(err)
		}
		// Empty and missing byte strings are the same.
		againKey, againValue := encode(got)
		if reflect.TypeOf(got) != reflect.TypeOf(want) || got.IsTombstone() != want.IsTombstone() ||
			!bytes.Equal(againKey, key) || !bytes.Equal(againValue, value) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		for n := range value {
			if _, err := Decode(key, value[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("value cut to %d of %d bytes: %v", n, len(value), err)
			}
		}
	})
}

func TestClassicRecordsAreThoseOfKmsg(t *testing.T) { // trap 46
	ptr := func(s string) *string { return &s }
	commit := OffsetCommit{"g", "t", 3, &OffsetCommitValue{Offset: 42, LeaderEpoch: 7, Metadata: "m", CommitTimestamp: 99, ExpireTimestamp: -1}}
	key, value := encode(commit)
	if want := (&kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "t", Partition: 3}).AppendTo(nil); !bytes.Equal(key, want) {
		t.Errorf("offset key %x, want %x", key, want)
	}
	if want := (&kmsg.OffsetCommitValue{Version: 3, Offset: 42, LeaderEpoch: 7, Metadata: "m", CommitTimestamp: 99}).AppendTo(nil); !bytes.Equal(value, want) {
		t.Errorf("offset value %x, want %x", value, want)
	}
	commit.Value.ExpireTimestamp = 100
	if _, value = encode(commit); !bytes.Equal(value, (&kmsg.OffsetCommitValue{Version: 1, Offset: 42, Metadata: "m", CommitTimestamp: 99, ExpireTimestamp: 100}).AppendTo(nil)) {
		t.Errorf("offset value with expiry %x", value)
	}
	commit.Value.ExpireTimestamp, commit.Value.TopicID = -1, kafka.TopicID{1, 2, 3}
	v4 := kmsg.OffsetCommitValue{Version: 4, Offset: 42, LeaderEpoch: 7, Metadata: "m", CommitTimestamp: 99, TopicID: [16]byte{1, 2, 3}}
	if _, value = encode(commit); !bytes.Equal(value, v4.AppendTo(nil)) {
		t.Errorf("offset value with topic id %x, want %x", value, v4.AppendTo(nil))
	}

	group := GroupMetadata{"g", &GroupMetadataValue{"consumer", 5, "range", "m1", 77, []GroupMember{
		{"m1", "i", "c", "/h", 60000, 10000, []byte("sub"), []byte("assign")}, {MemberID: "m2"}}}}
	key, value = encode(group)
	if want := (&kmsg.GroupMetadataKey{Version: 2, Group: "g"}).AppendTo(nil); !bytes.Equal(key, want) {
		t.Errorf("group key %x, want %x", key, want)
	}
	for version := int16(0); version <= 4; version++ {
		k := kmsg.GroupMetadataValue{Version: version, ProtocolType: "consumer", Generation: 5, Protocol: ptr("range"), Leader: ptr("m1"), CurrentStateTimestamp: 77,
			Members: []kmsg.GroupMetadataValueMember{
				{MemberID: "m1", InstanceID: ptr("i"), ClientID: "c", ClientHost: "/h", RebalanceTimeoutMillis: 60000, SessionTimeoutMillis: 10000, Subscription: []byte("sub"), Assignment: []byte("assign")},
				{MemberID: "m2"}}}
		want := k.AppendTo(nil)
		if version == 3 && !bytes.Equal(value, want) {
			t.Errorf("group value %x, want %x", value, want)
		}
		got, err := Decode(key, want)
		if err != nil {
			t.Errorf("group value version %d: %v", version, err)
			continue
		}
		if v := got.(GroupMetadata).Value; v.Generation != 5 || len(v.Members) != 2 || string(v.Members[0].Assignment) != "assign" || v.Members[0].SessionTimeoutMs != 10000 {
			t.Errorf("group value version %d: %+v", version, v)
		}
	}
}

// The bytes are put together by hand from Kafka's definitions of the records.
func TestConsumerRecordsAreThoseOfKafka(t *testing.T) {
	id := kafka.TopicID{0xaa, 15: 0xbb}
	const idHex = "aa0000000000000000000000000000bb"
	set := []TopicPartitions{{id, []int32{1, 2}}}
	const setHex = "02" + idHex + "03" + "00000001" + "00000002" + "00"
	for _, c := range []struct {
		r          Record
		key, value string
	}{
		{ConsumerGroup{"g", &ConsumerGroupValue{5, 0}}, "0003" + "000167", "0000" + "00000005" + "00"},
		{ConsumerGroup{"g", &ConsumerGroupValue{5, 9}}, "0003" + "000167", "0000" + "00000005" + "01" + "00" + "08" + "0000000000000009"},
		{ConsumerMember{"g", "m", &ConsumerMemberValue{InstanceID: "i", ClientID: "c", ClientHost: "h", SubscribedTopicNames: []string{"t"}, RebalanceTimeoutMs: 3, ServerAssignor: "a"}},
			"0005" + "000167" + "00016d", "0000" + "0269" + "00" + "0263" + "0268" + "02" + "0274" + "00" + "00000003" + "0261" + "00"},
		{ConsumerTargetEpoch{"g", &ConsumerTargetEpochValue{Epoch: 6}}, "0006" + "000167", "0000" + "00000006" + "00"},
		{ConsumerTarget{"g", "m", &ConsumerTargetValue{set}}, "0007" + "000167" + "00016d", "0000" + setHex + "00"},
		{ConsumerCurrent{"g", "m", &ConsumerCurrentValue{6, 5, 1, set, nil}}, "0008" + "000167" + "00016d", "0000" + "00000006" + "00000005" + "01" + setHex + "01" + "00"},
		{ConsumerRegex{"g", "r", &ConsumerRegexValue{[]string{"t"}, 3, 4}}, "0010" + "000167" + "000172", "0000" + "02" + "0274" + "0000000000000003" + "0000000000000004" + "00"},
	} {
		key, value := encode(c.r)
		if hex.EncodeToString(key) != c.key || hex.EncodeToString(value) != c.value {
			t.Errorf("%T:\n key %x\nwant %s\n value %x\n  want %s", c.r, key, c.key, value, c.value)
		}
		if got, err := Decode(key, value); err != nil || !reflect.DeepEqual(got, c.r) {
			t.Errorf("%T: %+v, %v", c.r, got, err)
		}
	}
}

func TestOtherRecordsArePassedOver(t *testing.T) {
	for _, c := range []struct {
		name, key, value string
		want             error
	}{
		{"share group", "000b000167", "000000000001", ErrUnknownKind},
		{"version of the future", "0003000167", "000100000005", ErrUnknownKind},
		{"unknown tag", "0003000167", "000000000005" + "01" + "05" + "02" + "ffff", nil},
		{"short key", "00", "", ErrCorrupt},
		{"cut key", "0003000567", "", ErrCorrupt},
		{"huge count", "0007000167" + "00016d", "0000" + "ffffffff0f", ErrCorrupt},
	} {
		key, _ := hex.DecodeString(c.key)
		value, _ := hex.DecodeString(c.value)
		if _, err := Decode(key, value); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, r := range []Record{
		OffsetCommit{"g", "t", 3, &OffsetCommitValue{Offset: 42}},
		GroupMetadata{"g", &GroupMetadataValue{Members: []GroupMember{{MemberID: "m"}}}},
		ConsumerMember{"g", "m", &ConsumerMemberValue{SubscribedTopicNames: []string{"t"}, Classic: &ClassicMember{}}},
		ConsumerCurrent{"g", "m", &ConsumerCurrentValue{Assigned: []TopicPartitions{{Partitions: []int32{1}}}}},
	} {
		key, value := encode(r)
		f.Add(key, value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, err := Decode(key, value)
		if err != nil {
			return
		}
		k, v := encode(r)
		if again, err := Decode(k, v); err != nil || again.GroupID() != r.GroupID() {
			t.Fatalf("%+v becomes %+v, %v", r, again, err)
		}
	})
}

package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a running Kafka reads and what makes it close the connection.
func TestBodiesReadAsByKafka(t *testing.T) {
	for _, c := range []struct {
		name         string
		key, version int16
		body         string
		want         error
	}{
		{"unknown key", 4, 0, "", ErrUnknownKey},
		{"negative key", -1, 0, "", ErrUnknownKey},
		{"version above the newest", 3, 14, "", ErrUnknownVersion},
		{"negative version", 3, -1, "", ErrUnknownVersion},

		{"empty body of ApiVersions v0", 18, 0, "", nil},
		{"truncated", 3, 1, "0000", ErrMalformed},
		{"bytes after the end", 3, 1, "00000000 ffff", nil},
		{"bytes after the end, flexible", 18, 3, "01 01 00 ffffffffff", nil},

		{"null array where allowed", 3, 1, "ffffffff", nil},
		{"array of -2 where allowed", 3, 1, "fffffffe", nil},
		{"null array where not allowed", 3, 0, "ffffffff", ErrMalformed},
		{"compact null array where allowed", 3, 9, "00 01 01 01 00", nil},
		{"compact array of 2^32-1, null to Kafka", 3, 9, "ffffffff0f 01 01 01 00", nil},
		{"compact array of 2^31", 3, 9, "8080808008 01 01 01 00", ErrMalformed},
		{"array longer than the rest", 3, 1, "00000002 0001", ErrMalformed},

		{"null string", 12, 0, "ffff 00000001 0000", ErrMalformed},
		{"string of -2", 12, 0, "fffe 00000001 0000", ErrMalformed},
		{"string that is not UTF-8", 12, 0, "0002 c328 00000001 0000", nil},
		{"string longer than the rest", 12, 0, "0009 61", ErrMalformed},
		{"nullable string of -2", 22, 0, "fffe 00000001", nil},
		{"compact null string", 18, 3, "00 01 00", ErrMalformed},
		{"compact string of 2^32-1", 18, 3, "ffffffff0f 01 00", ErrMalformed},
		{"null bytes", 36, 0, "ffffffff", ErrMalformed},
		{"bytes longer than the rest", 36, 0, "00000002 00", ErrMalformed},
		{"null records", 0, 3, "ffff 0001 00000001 00000001 0001 61 00000001 00000000 ffffffff", nil},

		{"unknown tag", 18, 3, "01 01 01 63 02 abcd", nil},
		{"unknown tags out of order and twice", 18, 3, "01 01 03 63 00 62 00 63 00", nil},
		{"tag longer than the rest", 18, 3, "01 01 01 63 03 abcd", ErrMalformed},
		{"more tags than bytes", 18, 3, "01 01 02 63 00", ErrMalformed},
		{"no tags at all", 18, 3, "01 01", ErrMalformed},
		{"varint without an end", 18, 3, "01 01 8080", ErrMalformed},

		{"boolean of 7", 3, 4, "ffffffff 07", nil},
		{"absent optional", 75, 0, "01 00000001 ff 00", nil},
		{"present optional", 75, 0, "01 00000001 01 02 61 00000000 00 00", nil},
		{"optional of -2", 75, 0, "01 00000001 fe 00", ErrMalformed},

		{"known tag", 63, 1, heartbeat + "01 00 11 02 00000000000000000000000000000001", nil},
		{"known tag twice", 63, 1, heartbeat + "02 00 01 01 00 01 01", nil},
		{"known tag, shorter than its size", 63, 1, heartbeat + "01 00 02 01 00", ErrMalformed},
		{"known tag, longer than its size", 63, 1, heartbeat + "01 00 00 01", ErrMalformed},
		{"tag of a later version", 63, 0, heartbeat + "01 00 01 01", ErrMalformed},
		{"Fetch v12 with tag 1 of v15", 1, 12, fetch12 + "01 01 0d 00000001 0000000000000001 00", ErrMalformed},
		{"Fetch v14 with tag 1 of v15", 1, 14, fetch12 + "01 01 0d 00000001 0000000000000001 00", ErrMalformed},
		{"Fetch v15 with tag 1", 1, 15, fetch12[8:] + "01 01 0d 00000001 0000000000000001 00", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := unhex(t, c.body)
			if err := Guard(c.key, c.version, body); !errors.Is(err, c.want) {
				t.Fatalf("guard: %v, want %v", err, c.want)
			}
			req, err := DecodeRequest(c.key, c.version, body)
			if !errors.Is(err, c.want) || (req == nil) != (err != nil) {
				t.Fatalf("decode: %v, want %v", err, c.want)
			}
		})
	}
}

const (
	heartbeat = "00000001 0000000000000001 0000000000000001 00 00 "
	// Replica -1, wait, bytes, isolation, session, epoch, no topics, no
	// forgotten topics, no rack; without the replica from v15 on.
	fetch12 = "ffffffff000001f4 00000001 00100000 00 00000000 ffffffff 01 01 01 "
)

func TestLargeLegitimateRequestsPass(t *testing.T) {
	const n = 10_000
	topic := func(i int) string { return fmt.Sprintf("t-%d", i) }
	id := func(i int) [16]byte { return [16]byte{byte(i), byte(i >> 8), 1} }
	batch := make([]byte, 70)
	build := map[int16]func() kmsg.Request{
		0: func() kmsg.Request {
			req := kmsg.NewPtrProduceRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.ProduceRequestTopic{Topic: topic(i), TopicID: id(i),
					Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: int32(i), Records: batch}}})
			}
			return req
		},
		1: func() kmsg.Request {
			req := kmsg.NewPtrFetchRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.FetchRequestTopic{Topic: topic(i), TopicID: id(i),
					Partitions: []kmsg.FetchRequestTopicPartition{kmsg.NewFetchRequestTopicPartition()}})
				req.ForgottenTopics = append(req.ForgottenTopics, kmsg.FetchRequestForgottenTopic{Topic: topic(i), Partitions: []int32{1}})
			}
			return req
		},
		2: func() kmsg.Request {
			req := kmsg.NewPtrListOffsetsRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.ListOffsetsRequestTopic{Topic: topic(i),
					Partitions: make([]kmsg.ListOffsetsRequestTopicPartition, 1)})
			}
			return req
		},
		3: func() kmsg.Request {
			req := kmsg.NewPtrMetadataRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(topic(i))})
			}
			return req
		},
		8: func() kmsg.Request {
			req := kmsg.NewPtrOffsetCommitRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.OffsetCommitRequestTopic{Topic: topic(i), TopicID: id(i),
					Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Metadata: kmsg.StringPtr("")}}})
			}
			return req
		},
		9: func() kmsg.Request {
			req := kmsg.NewPtrOffsetFetchRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.OffsetFetchRequestTopic{Topic: topic(i), Partitions: []int32{1}})
				req.Groups = append(req.Groups, kmsg.OffsetFetchRequestGroup{Group: topic(i)})
			}
			return req
		},
		15: func() kmsg.Request {
			req := kmsg.NewPtrDescribeGroupsRequest()
			for i := range n {
				req.Groups = append(req.Groups, topic(i))
			}
			return req
		},
		19: func() kmsg.Request {
			req := kmsg.NewPtrCreateTopicsRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.CreateTopicsRequestTopic{Topic: topic(i),
					Configs: []kmsg.CreateTopicsRequestTopicConfig{{Name: "cleanup.policy", Value: kmsg.StringPtr("compact")}}})
			}
			return req
		},
		20: func() kmsg.Request {
			req := kmsg.NewPtrDeleteTopicsRequest()
			for i := range n {
				req.TopicNames = append(req.TopicNames, topic(i))
				req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{Topic: kmsg.StringPtr(topic(i)), TopicID: id(i)})
			}
			return req
		},
		24: func() kmsg.Request {
			req := kmsg.NewPtrAddPartitionsToTxnRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: topic(i), Partitions: []int32{1}})
			}
			return req
		},
		28: func() kmsg.Request {
			req := kmsg.NewPtrTxnOffsetCommitRequest()
			for i := range n {
				req.Topics = append(req.Topics, kmsg.TxnOffsetCommitRequestTopic{Topic: topic(i), TopicID: id(i),
					Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Metadata: kmsg.StringPtr("")}}})
			}
			return req
		},
		32: func() kmsg.Request {
			req := kmsg.NewPtrDescribeConfigsRequest()
			for i := range n {
				req.Resources = append(req.Resources, kmsg.DescribeConfigsRequestResource{ResourceName: topic(i)})
			}
			return req
		},
	}
	for key, b := range build {
		for v := int16(0); v <= schemas[key].last; v++ {
			req := b()
			req.SetVersion(v)
			body := req.AppendTo(nil)
			if err := Guard(key, v, body); err != nil {
				t.Errorf("%s v%d: %d bytes, %d needed, %d granted: %v",
					schemas[key].name, v, len(body), spent(t, key, v, body), Budget(len(body)), err)
			}
		}
	}
}

func TestGuardAllocatesNothing(t *testing.T) {
	body := randomBodyOf(t, 1, 13)
	if n := testing.AllocsPerRun(100, func() {
		if err := Guard(1, 13, body); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

package wire

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

func fetchResponse(t *rapid.T) *kmsg.FetchResponse {
	r := kmsg.NewPtrFetchResponse()
	r.Version = int16(rapid.IntRange(4, 18).Draw(t, "version"))
	r.ThrottleMillis = rapid.Int32().Draw(t, "throttle")
	r.ErrorCode = rapid.Int16().Draw(t, "error")
	r.SessionID = rapid.Int32().Draw(t, "session")
	for range rapid.IntRange(0, 3).Draw(t, "topics") {
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = rapid.StringN(0, 200, 249).Draw(t, "topic")
		copy(topic.TopicID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		for range rapid.IntRange(0, 3).Draw(t, "partitions") {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition = rapid.Int32().Draw(t, "partition")
			p.ErrorCode = rapid.Int16().Draw(t, "error")
			p.HighWatermark = rapid.Int64().Draw(t, "hw")
			p.LastStableOffset = rapid.Int64().Draw(t, "lso")
			p.LogStartOffset = rapid.Int64().Draw(t, "start")
			p.PreferredReadReplica = rapid.Int32().Draw(t, "replica")
			if rapid.Bool().Draw(t, "aborted") {
				p.AbortedTransactions = make([]kmsg.FetchResponseTopicPartitionAbortedTransaction, rapid.IntRange(0, 3).Draw(t, "aborts"))
				for i := range p.AbortedTransactions {
					p.AbortedTransactions[i].ProducerID = rapid.Int64().Draw(t, "producer")
				}
			}
			if n := rapid.IntRange(-1, 300).Draw(t, "records"); n >= 0 {
				p.RecordBatches = bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
			}
			switch rapid.IntRange(0, 9).Draw(t, "seldom") {
			case 0:
				p.DivergingEpoch.Epoch = rapid.Int32().Draw(t, "epoch")
			case 1:
				p.CurrentLeader.LeaderID = rapid.Int32().Draw(t, "leader")
			}
			topic.Partitions = append(topic.Partitions, p)
		}
		r.Topics = append(r.Topics, topic)
	}
	if rapid.IntRange(0, 9).Draw(t, "brokers") == 0 {
		r.Brokers = append(r.Brokers, kmsg.FetchResponseBroker{NodeID: 3, Host: "h", Port: 9092})
	}
	return r
}

func TestCutFetchResponsesAreTheSameBytes(t *testing.T) {
	long := kmsg.NewPtrFetchResponse()
	long.Version = 12
	partition := kmsg.NewFetchResponseTopicPartition()
	partition.RecordBatches = make([]byte, 100)
	long.Topics = []kmsg.FetchResponseTopic{{Topic: "t", Partitions: []kmsg.FetchResponseTopicPartition{partition}}}
	if _, cuts := AppendFetchResponse(nil, nil, 77, long, 100); len(cuts) != 1 {
		t.Fatalf("%d cuts of 100 bytes", len(cuts))
	}
	rapid.Check(t, func(t *rapid.T) {
		r := fetchResponse(t)
		prefix := []byte("before")
		want := AppendResponse(bytes.Clone(prefix), 77, r)
		head, cuts := AppendFetchResponse(bytes.Clone(prefix), nil, 77, r, rapid.IntRange(0, 300).Draw(t, "least"))
		var got []byte
		at := 0
		for _, c := range cuts {
			got = append(append(got, head[at:c.At]...), c.Records...)
			at = c.At
		}
		got = append(got, head[at:]...)
		if !bytes.Equal(got, want) {
			t.Fatalf("version %d:\n got %x\nwant %x", r.Version, got, want)
		}
	})
}

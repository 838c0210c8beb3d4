package api_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

func listOffsets(n *node, version int16, topic string, number, epoch int32, timestamp int64) kmsg.ListOffsetsResponseTopicPartition {
	n.t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = version, -1
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.CurrentLeaderEpoch, p.Timestamp = number, epoch, timestamp
	req.Topics = append(req.Topics, kmsg.ListOffsetsRequestTopic{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}})
	return ask[*kmsg.ListOffsetsResponse](n, req).Topics[0].Partitions[0]
}

func TestListOffsets(t *testing.T) { // bad-input 5.4, kafka-answers ListOffsets, trap 25
	n := newNode(t, nil)
	n.topic("t", 2)
	b := record.NewBuilder(record.BuilderOptions{})
	base := n.now.UnixMilli() - 10_000
	for _, at := range []int64{100, 900, 500} { // out of order
		b.Append(base+at, []byte("k"), []byte("v"))
	}
	if r := n.produce("t", 0, b.Build()); r.ErrorCode != 0 {
		t.Fatal(kafka.ErrorCode(r.ErrorCode))
	}
	for _, tt := range []struct {
		name      string
		version   int16
		topic     string
		number    int32
		epoch     int32
		at        int64
		want      kafka.ErrorCode
		offset    int64
		timestamp int64
	}{
		{"latest", 11, "t", 0, -1, -1, kafka.None, 3, -1},
		{"earliest", 11, "t", 0, -1, -2, kafka.None, 0, -1},
		{"largest", 11, "t", 0, -1, -3, kafka.None, 1, base + 900},
		{"largest before v7", 6, "t", 0, -1, -3, kafka.ErrUnsupportedVersion, -1, -1},
		{"earliest local", 8, "t", 0, -1, -4, kafka.None, 0, -1},
		{"earliest local before v8", 7, "t", 0, -1, -4, kafka.ErrUnsupportedVersion, -1, -1},
		{"latest tiered", 9, "t", 0, -1, -5, kafka.None, -1, -1},
		{"latest tiered before v9", 8, "t", 0, -1, -5, kafka.ErrUnsupportedVersion, -1, -1},
		{"pending upload", 11, "t", 0, -1, -6, kafka.None, -1, -1},
		{"pending upload before v11", 10, "t", 0, -1, -6, kafka.ErrUnsupportedVersion, -1, -1},
		{"-7", 11, "t", 0, -1, -7, kafka.ErrUnsupportedVersion, -1, -1},
		{"time of the first", 11, "t", 0, -1, base, kafka.None, 0, base + 100},
		{"between, inside the batch", 11, "t", 0, -1, base + 101, kafka.None, 1, base + 900},
		{"behind all", 11, "t", 0, -1, base + 901, kafka.None, -1, -1},
		{"time 0", 1, "t", 0, -1, 0, kafka.None, 0, base + 100},
		{"empty partition, latest", 11, "t", 1, -1, -1, kafka.None, 0, -1},
		{"empty partition, time", 11, "t", 1, -1, 5, kafka.None, -1, -1},
		{"empty partition, largest", 11, "t", 1, -1, -3, kafka.None, -1, -1},
		{"newer epoch", 11, "t", 0, 99, -1, kafka.ErrUnknownLeaderEpoch, -1, -1},
		{"epoch -2", 11, "t", 0, -2, -1, kafka.ErrFencedLeaderEpoch, -1, -1},
		{"unknown topic", 11, "nope", 0, -1, -1, kafka.ErrUnknownTopicOrPartition, -1, -1},
		{"unknown partition", 11, "t", 2, -1, -1, kafka.ErrUnknownTopicOrPartition, -1, -1},
	} {
		p := listOffsets(n, tt.version, tt.topic, tt.number, tt.epoch, tt.at)
		expect(t, tt.name, p.ErrorCode, tt.want)
		if p.Offset != tt.offset || p.Timestamp != tt.timestamp {
			t.Errorf("%s: offset %d at %d, want %d at %d", tt.name, p.Offset, p.Timestamp, tt.offset, tt.timestamp)
		}
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 11, -1
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.CurrentLeaderEpoch, p.Timestamp = -1, -1
	other := p
	other.Partition = 1
	req.Topics = append(req.Topics, kmsg.ListOffsetsRequestTopic{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{p, other, p}})
	got := ask[*kmsg.ListOffsetsResponse](n, req).Topics[0].Partitions
	if len(got) != 2 || got[0].ErrorCode != int16(kafka.ErrInvalidRequest) || got[1].ErrorCode != 0 {
		t.Errorf("a partition named twice: %v", got)
	}
}

func TestOffsetForLeaderEpoch(t *testing.T) { // trap 17
	n := newNode(t, nil)
	n.topic("t", 1)
	n.mustProduce("t", 0, "a", "b")
	for _, tt := range []struct {
		name           string
		topic          string
		current, epoch int32
		want           kafka.ErrorCode
		gotEpoch       int32
		end            int64
	}{
		{"this epoch", "t", -1, 0, kafka.None, 0, 2},
		{"this epoch, checked", "t", 0, 0, kafka.None, 0, 2},
		{"future epoch", "t", -1, 7, kafka.None, -1, -1},
		{"newer current epoch", "t", 9, 0, kafka.ErrUnknownLeaderEpoch, -1, -1},
		{"current epoch -2", "t", -2, 0, kafka.ErrFencedLeaderEpoch, -1, -1},
		{"unknown topic", "nope", -1, 0, kafka.ErrUnknownTopicOrPartition, -1, -1},
	} {
		for version := int16(2); version <= 4; version++ {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			req.Version, req.ReplicaID = version, -1
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			p.CurrentLeaderEpoch, p.LeaderEpoch = tt.current, tt.epoch
			req.Topics = append(req.Topics, kmsg.OffsetForLeaderEpochRequestTopic{Topic: tt.topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}})
			got := ask[*kmsg.OffsetForLeaderEpochResponse](n, req).Topics[0].Partitions[0]
			expect(t, tt.name, got.ErrorCode, tt.want)
			if got.LeaderEpoch != tt.gotEpoch || got.EndOffset != tt.end {
				t.Errorf("%s: epoch %d ends at %d, want %d at %d", tt.name, got.LeaderEpoch, got.EndOffset, tt.gotEpoch, tt.end)
			}
		}
	}
}

func TestDeleteRecords(t *testing.T) { // kafka-answers Topics
	n := newNode(t, nil)
	n.topic("t", 2)
	n.topic("compacted", 1, "cleanup.policy", "compact")
	n.topic("both", 1, "cleanup.policy", "compact,delete")
	autoCreate(n, kafka.TopicConsumerOffsets)
	for range 4 {
		n.mustProduce("t", 0, "a")
	}
	for _, tt := range []struct {
		name   string
		topic  string
		number int32
		offset int64
		want   kafka.ErrorCode
		low    int64
	}{
		{"to 2", "t", 0, 2, kafka.None, 2},
		{"below", "t", 0, 1, kafka.None, 2},
		{"above the end", "t", 0, 9, kafka.ErrOffsetOutOfRange, -1},
		{"-2", "t", 0, -2, kafka.ErrOffsetOutOfRange, -1},
		{"all", "t", 0, -1, kafka.None, 4},
		{"compacted", "compacted", 0, 0, kafka.ErrPolicyViolation, -1},
		{"compacted and deleted", "both", 0, 0, kafka.None, 0},
		{"internal", kafka.TopicConsumerOffsets, 0, 0, kafka.ErrInvalidTopicException, -1},
		{"unknown", "nope", 0, 0, kafka.ErrUnknownTopicOrPartition, -1},
		{"unknown partition", "t", 5, 0, kafka.ErrUnknownTopicOrPartition, -1},
	} {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.Version, req.TimeoutMillis = 2, 5000
		req.Topics = append(req.Topics, kmsg.DeleteRecordsRequestTopic{Topic: tt.topic,
			Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: tt.number, Offset: tt.offset}}})
		got := ask[*kmsg.DeleteRecordsResponse](n, req).Topics[0].Partitions[0]
		expect(t, tt.name, got.ErrorCode, tt.want)
		if got.LowWatermark != tt.low {
			t.Errorf("%s: low watermark %d, want %d", tt.name, got.LowWatermark, tt.low)
		}
	}
	p := ask[*kmsg.FetchResponse](n, fetchRequest(12, "t", kafka.TopicID{}, 0, 1)).Topics[0].Partitions[0]
	expect(t, "fetch of deleted records", p.ErrorCode, kafka.ErrOffsetOutOfRange)
}

func TestInitProducerID(t *testing.T) { // bad-input 5.3, kafka-answers Idempotence
	n := newNode(t, nil)
	id := func(s string) *string { return &s }
	seen := map[int64]bool{}
	for _, tt := range []struct {
		name     string
		txn      *string
		producer int64
		epoch    int16
		want     kafka.ErrorCode
	}{
		{"plain", nil, -1, -1, kafka.None},
		{"another", nil, -1, -1, kafka.None},
		{"with an id of its own", nil, 5, 1, kafka.None},
		{"id without epoch", nil, 5, -1, kafka.ErrInvalidRequest},
		{"epoch without id", nil, -1, 5, kafka.ErrInvalidRequest},
		{"empty transactional id", id(""), -1, -1, kafka.ErrInvalidRequest},
		{"transactional id", id("x"), -1, -1, kafka.ErrTransactionalIDAuthorizationFailed},
	} {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.Version, req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = 5, tt.txn, 60_000, tt.producer, tt.epoch
		resp := ask[*kmsg.InitProducerIDResponse](n, req)
		expect(t, tt.name, resp.ErrorCode, tt.want)
		if tt.want != kafka.None {
			continue
		}
		if seen[resp.ProducerID] || resp.ProducerEpoch != 0 || resp.ProducerID < 0 {
			t.Errorf("%s: id %d epoch %d", tt.name, resp.ProducerID, resp.ProducerEpoch)
		}
		seen[resp.ProducerID] = true
	}
}

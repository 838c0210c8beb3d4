package api_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

// edit changes a batch and gives it a right checksum again.
func edit(b []byte, change func(b []byte)) []byte {
	b = bytes.Clone(b)
	change(b)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func put16(at int, v int16) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint16(b[at:], uint16(v)) }
}

func put32(at int, v int32) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint32(b[at:], uint32(v)) }
}

func put64(at int, v int64) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint64(b[at:], uint64(v)) }
}

func TestBadBatchesAreRefusedAsInKafka(t *testing.T) { // bad-input 5.2, kafka-answers Produce, traps 24, 26, 28, 29
	n := newNode(t, nil)
	n.topic("plain", 1)
	n.topic("compacted", 1, "cleanup.policy", "compact")
	n.topic("small", 1, "max.message.bytes", "200")
	good := batch(record.BuilderOptions{}, "a", "b")
	gzipped := batch(record.BuilderOptions{Codec: record.Gzip}, strings.Repeat("x", 500))
	now := n.now.UnixMilli()
	noKey := record.NewBuilder(record.BuilderOptions{})
	noKey.Append(now, nil, []byte("v"))
	unread := map[string]bool{"magic 0": true, "magic 1": true, "length beyond the bytes": true, "cut": true, "no records at all": true, "null": true, "two batches": true}
	for _, tt := range []struct {
		name    string
		topic   string
		records []byte
		want    kafka.ErrorCode
	}{
		{"good", "plain", good, kafka.None},
		{"good, gzip", "plain", gzipped, kafka.None},
		{"magic 3", "plain", edit(good, func(b []byte) { b[16] = 3 }), kafka.ErrCorruptMessage},
		{"magic -1", "plain", edit(good, func(b []byte) { b[16] = 0xff }), kafka.ErrCorruptMessage},
		{"magic 0", "plain", edit(good, func(b []byte) { b[16] = 0 }), kafka.ErrInvalidRecord},
		{"magic 1", "plain", edit(good, func(b []byte) { b[16] = 1 }), kafka.ErrInvalidRecord},
		{"length 13", "plain", edit(good, put32(8, 13)), kafka.ErrCorruptMessage},
		{"length 30", "plain", edit(good, put32(8, 30)), kafka.ErrCorruptMessage},
		{"length 48", "plain", edit(good, put32(8, 48)), kafka.ErrCorruptMessage},
		{"length beyond the bytes", "plain", edit(good, put32(8, 5000)), kafka.ErrInvalidRecord},
		{"cut", "plain", good[:len(good)-3], kafka.ErrInvalidRecord},
		{"no records at all", "plain", []byte{}, kafka.ErrInvalidRecord},
		{"null", "plain", nil, kafka.ErrInvalidRecord},
		{"two batches", "plain", slices.Concat(good, good), kafka.ErrInvalidRecord},
		{"rubbish behind", "plain", slices.Concat(good, []byte("rubbish")), kafka.None},
		{"half a batch behind", "plain", slices.Concat(good, good[:40]), kafka.None},
		{"payload bit flipped", "plain", func() []byte { b := bytes.Clone(good); b[len(b)-1] ^= 1; return b }(), kafka.ErrCorruptMessage},
		{"CRC of other polynomial", "plain", func() []byte {
			b := bytes.Clone(good)
			binary.BigEndian.PutUint32(b[17:], crc32.ChecksumIEEE(b[21:]))
			return b
		}(), kafka.ErrCorruptMessage},
		{"base offset 5", "plain", edit(good, put64(0, 5)), kafka.ErrInvalidRecord},
		{"base offset -5", "plain", edit(good, put64(0, -5)), kafka.ErrInvalidRecord},
		{"leader epoch", "plain", edit(good, put32(12, 77)), kafka.None},
		{"last offset delta -1", "plain", edit(good, put32(23, -1)), kafka.ErrInvalidRecord},
		{"last offset delta too large", "plain", edit(good, put32(23, 9)), kafka.ErrInvalidRecord},
		{"count 0", "plain", edit(good, put32(57, 0)), kafka.ErrInvalidRecord},
		{"count too large", "plain", edit(good, func(b []byte) { put32(57, 3)(b); put32(23, 2)(b) }), kafka.ErrInvalidRecord},
		{"count too small", "plain", edit(good, func(b []byte) { put32(57, 1)(b); put32(23, 0)(b) }), kafka.ErrInvalidRecord},
		{"codec 5", "plain", edit(good, put16(21, 5)), kafka.ErrUnsupportedCompressionType},
		{"no gzip", "plain", edit(good, put16(21, 1)), kafka.ErrInvalidRecord},
		{"control", "plain", edit(good, put16(21, 0x20)), kafka.ErrInvalidRecord},
		{"LogAppendTime bit", "plain", edit(good, put16(21, 0x08)), kafka.None},
		{"unused attribute bit", "plain", edit(good, put16(21, 0x400)), kafka.None},
		{"wrong max timestamp", "plain", edit(good, put64(35, 1)), kafka.None},
		{"transactional without id", "plain", edit(good, put16(21, 0x10)), kafka.ErrTransactionalIDAuthorizationFailed},
		{"two hours ahead", "plain", edit(good, func(b []byte) { put64(27, now+7_200_000)(b); put64(35, now+7_200_000)(b) }), kafka.ErrInvalidTimestamp},
		{"smallest timestamp", "plain", edit(good, put64(27, -1<<63)), kafka.ErrInvalidTimestamp},
		{"producer id without sequence", "plain", edit(good, func(b []byte) { put64(43, 5)(b); put16(51, 0)(b); put32(53, -1)(b) }), kafka.ErrInvalidRecord},
		{"no key, plain topic", "plain", noKey.Build(), kafka.None},
		{"no key, compacted topic", "compacted", noKey.Build(), kafka.ErrInvalidRecord},
		{"key, compacted topic", "compacted", good, kafka.None},
		{"too large", "small", batch(record.BuilderOptions{}, strings.Repeat("x", 200)), kafka.ErrMessageTooLarge},
		{"too large and corrupt", "small", func() []byte {
			b := batch(record.BuilderOptions{}, strings.Repeat("x", 200))
			b[len(b)-1] ^= 1
			return b
		}(), kafka.ErrMessageTooLarge},
		{"fits", "small", batch(record.BuilderOptions{}, "x"), kafka.None},
	} {
		r := n.produce(tt.topic, 0, tt.records)
		if kafka.ErrorCode(r.ErrorCode) != tt.want {
			t.Errorf("%s: got %v (%s), want %v", tt.name, kafka.ErrorCode(r.ErrorCode), str(r.ErrorMessage), tt.want)
		}
		// Only refusals by the log tell where it begins.
		logStart := int64(0)
		switch {
		case tt.want == kafka.ErrCorruptMessage, tt.want == kafka.ErrMessageTooLarge, tt.want == kafka.ErrTransactionalIDAuthorizationFailed, unread[tt.name]:
			logStart = -1
		}
		if tt.want != kafka.None && (r.BaseOffset != -1 || r.LogAppendTime != -1 || r.LogStartOffset != logStart) {
			t.Errorf("%s: an error with offsets %d, %d, %d", tt.name, r.BaseOffset, r.LogAppendTime, r.LogStartOffset)
		}
	}
	r := n.produce("compacted", 0, noKey.Build())
	if len(r.ErrorRecords) != 1 || r.ErrorRecords[0].RelativeOffset != 0 {
		t.Errorf("a record without a key is not named: %v", r.ErrorRecords)
	}
}

func TestOneBadPartitionDoesNotHarmTheOthers(t *testing.T) { // bad-input 5.2 magic, 5.5
	n := newNode(t, nil)
	n.topic("t", 3)
	req := produceRequest(11, "t", kafka.TopicID{}, 0, batch(record.BuilderOptions{}, "a"))
	bad := edit(batch(record.BuilderOptions{}, "b"), func(b []byte) { b[16] = 9 })
	req.Topics[0].Partitions = append(req.Topics[0].Partitions,
		kmsg.ProduceRequestTopicPartition{Partition: 1, Records: bad},
		kmsg.ProduceRequestTopicPartition{Partition: 2, Records: batch(record.BuilderOptions{}, "c")},
		kmsg.ProduceRequestTopicPartition{Partition: 3, Records: batch(record.BuilderOptions{}, "d")})
	resp := ask[*kmsg.ProduceResponse](n, req)
	for i, want := range []kafka.ErrorCode{kafka.None, kafka.ErrCorruptMessage, kafka.None, kafka.ErrUnknownTopicOrPartition} {
		p := resp.Topics[0].Partitions[i]
		expect(t, "partition", p.ErrorCode, want)
		if p.Partition != int32(i) {
			t.Errorf("partition %d is answered at place %d", p.Partition, i)
		}
	}
}

func TestProduceChecksTheRequestFirst(t *testing.T) { // bad-input 5.2
	n := newNode(t, nil)
	id := n.topic("t", 1)
	good := batch(record.BuilderOptions{}, "a")
	for _, acks := range []int16{-2, 2, 100} {
		req := produceRequest(9, "t", kafka.TopicID{}, 0, bytes.Clone(good))
		req.Acks = acks
		expect(t, "acks", ask[*kmsg.ProduceResponse](n, req).Topics[0].Partitions[0].ErrorCode, kafka.ErrInvalidRequiredAcks)
	}
	expect(t, "unknown topic", n.produce("nope", 0, good).ErrorCode, kafka.ErrUnknownTopicOrPartition)
	expect(t, "invalid name", n.produce("a b", 0, good).ErrorCode, kafka.ErrUnknownTopicOrPartition)
	expect(t, "unknown partition", n.produce("t", 1, good).ErrorCode, kafka.ErrUnknownTopicOrPartition)
	expect(t, "negative partition", n.produce("t", -1, good).ErrorCode, kafka.ErrUnknownTopicOrPartition)
	req := produceRequest(13, "", kafka.TopicID{9}, 0, bytes.Clone(good))
	expect(t, "unknown topic id", ask[*kmsg.ProduceResponse](n, req).Topics[0].Partitions[0].ErrorCode, kafka.ErrUnknownTopicID)
	req = produceRequest(13, "", id, 0, bytes.Clone(good))
	resp := ask[*kmsg.ProduceResponse](n, req)
	expect(t, "topic id", resp.Topics[0].Partitions[0].ErrorCode, kafka.None)
	if resp.Topics[0].TopicID != [16]byte(id) {
		t.Errorf("v13 answers topic id %v", resp.Topics[0].TopicID)
	}
	txn := "txn"
	req = produceRequest(11, "t", kafka.TopicID{}, 0, edit(good, put16(21, 0x10)))
	req.TransactionID = &txn
	expect(t, "unknown transactional id", ask[*kmsg.ProduceResponse](n, req).Topics[0].Partitions[0].ErrorCode, kafka.ErrInvalidProducerIDMapping)
	req = produceRequest(11, "t", kafka.TopicID{}, 0, bytes.Clone(good))
	req.TransactionID = &txn
	expect(t, "transactional id with a plain batch", ask[*kmsg.ProduceResponse](n, req).Topics[0].Partitions[0].ErrorCode, kafka.None)
}

func TestInternalTopicsCannotBeWrittenTo(t *testing.T) { // bad-input 5.2
	n := newNode(t, nil)
	autoCreate(n, kafka.TopicConsumerOffsets)
	expect(t, "produce", n.produce(kafka.TopicConsumerOffsets, 0, batch(record.BuilderOptions{}, "a")).ErrorCode, kafka.ErrInvalidTopicException)
}

// autoCreate has a topic made by asking for its metadata.
func autoCreate(n *node, name string) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 9, true
	req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: &name})
	ask[*kmsg.MetadataResponse](n, req)
	n.advance(100 * time.Millisecond)
}

func TestZstdNeedsProduceV7(t *testing.T) { // bad-input 5.2, trap 28
	n := newNode(t, nil)
	n.topic("t", 1)
	n.topic("zstd", 1, "compression.type", "zstd")
	n.mustProduce("zstd", 0, "a")
	zstd := batch(record.BuilderOptions{Codec: record.Zstd}, "a")
	for version, want := range map[int16]kafka.ErrorCode{3: kafka.ErrUnsupportedCompressionType, 6: kafka.ErrUnsupportedCompressionType, 7: kafka.None, 12: kafka.None} {
		req := produceRequest(version, "t", kafka.TopicID{}, 0, bytes.Clone(zstd))
		expect(t, "produce", ask[*kmsg.ProduceResponse](n, req).Topics[0].Partitions[0].ErrorCode, want)
	}
	n.mustProduce("t", 0, "plain") // offset 2, behind two of zstd
	// All are served, as by Kafka since it converts nothing any more: kafka-python
	// 2.0.2 reads zstd by Fetch v4.
	for _, tt := range []struct {
		topic   string
		version int16
		want    kafka.ErrorCode
		records int
	}{{"t", 4, kafka.None, 3}, {"t", 9, kafka.None, 3}, {"t", 10, kafka.None, 3},
		{"zstd", 4, kafka.None, 1}, {"zstd", 10, kafka.None, 1}} {
		p := ask[*kmsg.FetchResponse](n, fetchRequest(tt.version, tt.topic, kafka.TopicID{}, 0, 0)).Topics[0].Partitions[0]
		expect(t, "fetch", p.ErrorCode, tt.want)
		if got := len(values(t, p.RecordBatches)); got != tt.records {
			t.Errorf("%s v%d: %d records, want %d", tt.topic, tt.version, got, tt.records)
		}
	}
}

func TestUnackedProduceIsNeverAnsweredAndClosesOnErrors(t *testing.T) { // bad-input 5.2, trap 10
	n := newNode(t, nil)
	n.topic("t", 1)
	req := produceRequest(9, "t", kafka.TopicID{}, 0, batch(record.BuilderOptions{}, "a"))
	req.Acks = 0
	if a := n.wait(n.send(req)); a.resp != nil || a.close {
		t.Errorf("acks=0 was answered with %T, close %v", a.resp, a.close)
	}
	for name, req := range map[string]*kmsg.ProduceRequest{
		"unknown topic": produceRequest(9, "nope", kafka.TopicID{}, 0, batch(record.BuilderOptions{}, "a")),
		"bad CRC": produceRequest(9, "t", kafka.TopicID{}, 0, func() []byte {
			b := batch(record.BuilderOptions{}, "a")
			b[len(b)-1] ^= 1
			return b
		}()),
	} {
		req.Acks = 0
		if a := n.wait(n.send(req)); a.resp != nil || !a.close || a.err == nil {
			t.Errorf("%s with acks=0: response %T, close %v", name, a.resp, a.close)
		}
	}
}

func TestAPartitionNamedTwiceIsAnsweredOnce(t *testing.T) { // kafka-answers Produce
	n := newNode(t, nil)
	for _, partitions := range []int32{2, 50} {
		name := map[int32]string{2: "few", 50: "many"}[partitions]
		n.topic(name, partitions)
		req := produceRequest(9, name, kafka.TopicID{}, 0, batch(record.BuilderOptions{}, "first"))
		for i := range partitions {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, kmsg.ProduceRequestTopicPartition{Partition: i, Records: batch(record.BuilderOptions{}, "last")})
		}
		resp := ask[*kmsg.ProduceResponse](n, req)
		if got := len(resp.Topics[0].Partitions); got != int(partitions) {
			t.Errorf("%d answers for %d partitions", got, partitions)
		}
		p := ask[*kmsg.FetchResponse](n, fetchRequest(11, name, kafka.TopicID{}, 0, 0)).Topics[0].Partitions[0]
		if got := values(t, p.RecordBatches); len(got) != 1 || got[0] != "last" {
			t.Errorf("stored %v", got)
		}
	}
}

// idempotent makes a batch of an idempotent producer.
func idempotent(id, epoch int64, sequence int32, values ...string) []byte {
	return batch(record.BuilderOptions{Producer: &record.Producer{ID: kafka.ProducerID(id), Epoch: kafka.ProducerEpoch(epoch), Sequence: sequence}}, values...)
}

func TestIdempotentProducersAreHeldToTheirSequence(t *testing.T) { // bad-input 5.3, trap 31
	n := newNode(t, nil)
	n.topic("t", 1)
	for _, tt := range []struct {
		name   string
		batch  []byte
		want   kafka.ErrorCode
		offset int64
	}{
		{"first", idempotent(7, 0, 0, "a"), kafka.None, 0},
		{"next", idempotent(7, 0, 1, "b", "c"), kafka.None, 1},
		{"repeat of the last", idempotent(7, 0, 1, "b", "c"), kafka.None, 1},
		{"repeat of the first", idempotent(7, 0, 0, "a"), kafka.None, 0},
		{"gap", idempotent(7, 0, 9, "d"), kafka.ErrOutOfOrderSequenceNumber, -1},
		{"overlap", idempotent(7, 0, 2, "c", "d"), kafka.ErrOutOfOrderSequenceNumber, -1},
		{"new epoch not at 0", idempotent(7, 1, 3, "d"), kafka.ErrOutOfOrderSequenceNumber, -1},
		{"new epoch", idempotent(7, 1, 0, "d"), kafka.None, 3},
		{"old epoch", idempotent(7, 0, 3, "e"), kafka.ErrInvalidProducerEpoch, -1},
		{"unknown producer at any sequence", idempotent(8, 0, 41, "e"), kafka.None, 4},
		{"before the wrap", idempotent(9, 0, 1<<31-2, "f", "g"), kafka.None, 5},
		{"after the wrap", idempotent(9, 0, 0, "h"), kafka.None, 7},
	} {
		r := n.produce("t", 0, tt.batch)
		expect(t, tt.name, r.ErrorCode, tt.want)
		if r.BaseOffset != tt.offset {
			t.Errorf("%s: offset %d, want %d", tt.name, r.BaseOffset, tt.offset)
		}
	}
}

// kafka-answers, "a race of Kafka's own": what comes behind a refused first
// batch must not be taken for the first.
func TestNoBatchOvertakesARefusedOne(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 2)
	first, second := idempotent(7, 0, 0, "a"), idempotent(7, 0, 1, "b")
	corrupt := bytes.Clone(first)
	corrupt[len(corrupt)-1] ^= 1
	expect(t, "first, damaged on the way", n.produce("t", 0, corrupt).ErrorCode, kafka.ErrCorruptMessage)
	expect(t, "second", n.produce("t", 0, second).ErrorCode, kafka.ErrOutOfOrderSequenceNumber)
	expect(t, "second on another partition", n.produce("t", 1, second).ErrorCode, kafka.None)
	expect(t, "first again", n.produce("t", 0, first).ErrorCode, kafka.None)
	expect(t, "second again", n.produce("t", 0, second).ErrorCode, kafka.None)
	// A producer whose state expired may go on where it was after a refusal.
	late := idempotent(8, 0, 90, "c")
	corrupt = bytes.Clone(late)
	corrupt[len(corrupt)-1] ^= 1
	expect(t, "damaged", n.produce("t", 0, corrupt).ErrorCode, kafka.ErrCorruptMessage)
	expect(t, "again", n.produce("t", 0, late).ErrorCode, kafka.None)
	// Another connection has nothing to do with it.
	other := &api.Client{ID: 2}
	a := n.wait(n.sendAs(other, produceRequest(11, "t", kafka.TopicID{}, 0, idempotent(9, 0, 5, "d"))))
	expect(t, "other connection", a.resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode, kafka.None)
}

func TestMinInSyncIsCappedByTheReplicas(t *testing.T) { // kafka-answers Produce
	n := newNode(t, nil)
	n.topic("t", 1, "min.insync.replicas", "2")
	n.mustProduce("t", 0, "a")
}

func TestLogAppendTimeIsAnswered(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1, "message.timestamp.type", "LogAppendTime")
	r := n.produce("t", 0, batch(record.BuilderOptions{}, "a"))
	if r.LogAppendTime < n.now.Add(-1e9).UnixMilli() || r.LogStartOffset != 0 {
		t.Errorf("log append time %d, log start %d", r.LogAppendTime, r.LogStartOffset)
	}
}

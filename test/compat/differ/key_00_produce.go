package main

import (
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// produce is a produce request at the version under test.
func (c *Conversation) produce(topic string, partition int32, records []byte) *kmsg.ProduceRequest {
	return c.produceAt(c.V, topic, partition, records)
}

// stored records what a consumer reads of a partition.
func (c *Conversation) stored(label, topic string) {
	version := min(12, c.side.common[int16(kmsg.Fetch)].max)
	c.AskVersion(label, version, fetchNames(0, topic))
}

// fetchNames asks for partition 0 of topics by name.
func fetchNames(offset int64, topics ...string) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 500, 0, 8<<20
	req.SessionEpoch = -1
	for _, name := range topics {
		t := kmsg.NewFetchRequestTopic()
		t.Topic = name
		at := kmsg.NewFetchRequestTopicPartition()
		at.FetchOffset, at.PartitionMaxBytes = offset, 8<<20
		at.CurrentLeaderEpoch = -1
		t.Partitions = append(t.Partitions, at)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// badBatch is one row of the table of batches that Kafka looks at twice.
type badBatch struct {
	name  string
	bytes []byte
}

func someRecords() []record {
	return []record{rec("k1", "first"), rec("k2", "second"), rec("", "third")}
}

func oddBatches() []badBatch {
	good := batch{records: someRecords()}
	with := func(change func(*batch)) []byte {
		b := good
		change(&b)
		return b.encode()
	}
	plain := good.encode()
	minus := int32(-1)
	long := append(append([]byte{}, plain...), plain[:20]...)
	rubbish := append(append([]byte{}, plain...), "rubbish"...)
	rows := []badBatch{
		{"empty set", []byte{}},
		{"cut batch", plain[:len(plain)-5]},
		{"cut header", plain[:30]},
		{"ten bytes", plain[:10]},
		{"two batches", append(append([]byte{}, plain...), plain...)},
		{"one and a half", long},
		{"one and rubbish", rubbish},
		{"bad crc", with(func(b *batch) { b.badCRC = true })},
		{"magic 0", with(func(b *batch) { b.magic = p(int8(0)) })},
		{"magic 1", with(func(b *batch) { b.magic = p(int8(1)) })},
		{"magic 3", with(func(b *batch) { b.magic = p(int8(3)) })},
		{"magic -1", with(func(b *batch) { b.magic = p(int8(-1)) })},
		{"length 0", with(func(b *batch) { b.length = p(int32(0)) })},
		{"length 13", with(func(b *batch) { b.length = p(int32(13)) })},
		{"length 20", with(func(b *batch) { b.length = p(int32(20)) })},
		{"length 40", with(func(b *batch) { b.length = p(int32(40)) })},
		{"length -1", with(func(b *batch) { b.length = &minus })},
		{"length too long", with(func(b *batch) { b.length = p(int32(1000)) })},
		{"length max", with(func(b *batch) { b.length = p(int32(math.MaxInt32)) })},
		{"base offset 5", with(func(b *batch) { b.baseOffset = 5 })},
		{"base offset -1", with(func(b *batch) { b.baseOffset = -1 })},
		{"leader epoch 77", with(func(b *batch) { b.leaderEpoch = 77 })},
		{"count 2 of 3", with(func(b *batch) { b.count = p(int32(2)) })},
		{"count and delta 2 of 3", with(func(b *batch) { b.count, b.lastDelta = p(int32(2)), p(int32(1)) })},
		{"count and delta 4 of 3", with(func(b *batch) { b.count, b.lastDelta = p(int32(4)), p(int32(3)) })},
		{"count 0", with(func(b *batch) { b.count = p(int32(0)) })},
		{"count -1", with(func(b *batch) { b.count = &minus })},
		{"last delta -1", with(func(b *batch) { b.lastDelta = &minus })},
		{"no records", batch{records: []record{}}.encode()},
		{"codec 5", with(func(b *batch) { b.attributes = 5 })},
		{"codec 7", with(func(b *batch) { b.attributes = 7 })},
		{"says gzip, is not", with(func(b *batch) { b.attributes, b.payload = 1, good.records[0].encode(0) })},
		{"says snappy, is not", with(func(b *batch) { b.attributes, b.payload = 2, []byte("\xff\xff\xff\xff\xff\xff") })},
		{"says lz4, is not", with(func(b *batch) { b.attributes, b.payload = 3, []byte("not lz4 at all") })},
		{"log append time bit", with(func(b *batch) { b.attributes = 8 })},
		{"transactional bit", with(func(b *batch) { b.attributes = 16; b.producer = &producer{77, 0, 0} })},
		{"control bit", with(func(b *batch) { b.attributes = 32 })},
		{"delete horizon bit", with(func(b *batch) { b.attributes = 64 })},
		{"unused attribute bits", with(func(b *batch) { b.attributes = 0x700 })},
		{"record attributes", with(func(b *batch) { b.records = []record{{attributes: 5, value: []byte("x")}} })},
		{"producer without sequence", with(func(b *batch) { b.producer = &producer{77, 0, -1} })},
		{"headers", with(func(b *batch) {
			b.records = []record{{key: []byte("k"), value: []byte("v"), headers: []recordHeader{{"h", []byte("1")}, {"h", nil}, {"", []byte{}}}}}
		})},
		{"null key and value", with(func(b *batch) { b.records = []record{{}} })},
		{"record size too long", with(func(b *batch) { b.records = []record{{raw: []byte{0x7e, 0, 0, 0, 1, 1, 0}}} })},
		{"record size negative", with(func(b *batch) { b.records = []record{{raw: []byte{0x01, 0, 0, 0, 1, 1, 0}}} })},
		{"header count negative", with(func(b *batch) { b.records = []record{{raw: []byte{12, 0, 0, 0, 1, 1, 1}}} })},
		{"header count too high", with(func(b *batch) { b.records = []record{{raw: []byte{12, 0, 0, 0, 1, 1, 20}}} })},
		{"header key negative", with(func(b *batch) { b.records = []record{{raw: []byte{16, 0, 0, 0, 1, 1, 2, 1, 1}}} })},
		{"key length too long", with(func(b *batch) { b.records = []record{{raw: []byte{12, 0, 0, 0, 60, 1, 0}}} })},
		{"key length -2", with(func(b *batch) { b.records = []record{{raw: []byte{12, 0, 0, 0, 3, 1, 0}}} })},
		{"bytes after the record's fields", with(func(b *batch) { b.records = []record{{raw: []byte{16, 0, 0, 0, 1, 1, 0, 9, 9}}} })},
		{"wrong max timestamp", with(func(b *batch) { b.max = p(int64(5)) })},
	}
	for _, codec := range []int16{0, 1, 4} {
		name := codecNames[codec]
		shuffled := []record{{value: []byte("a"), offsetDelta: p(int32(2))}, {value: []byte("b"), offsetDelta: p(int32(1))}, {value: []byte("c"), offsetDelta: p(int32(0))}}
		negative := []record{{value: []byte("a"), offsetDelta: &minus}}
		same := []record{{value: []byte("a"), offsetDelta: p(int32(0))}, {value: []byte("b"), offsetDelta: p(int32(0))}}
		rows = append(rows,
			badBatch{name + " offsets shuffled", batch{attributes: codec, records: shuffled}.encode()},
			badBatch{name + " offset negative", batch{attributes: codec, records: negative}.encode()},
			badBatch{name + " offsets repeated", batch{attributes: codec, records: same}.encode()},
			badBatch{name + " count too high", batch{attributes: codec, records: someRecords(), count: p(int32(4)), lastDelta: p(int32(3))}.encode()},
			badBatch{name + " count too low", batch{attributes: codec, records: someRecords(), count: p(int32(2)), lastDelta: p(int32(1))}.encode()},
		)
	}
	return rows
}

func timestamps() []badBatch {
	at := func(ms int64) []byte {
		return batch{records: someRecords(), first: &ms}.encode()
	}
	now := time.Now().UnixMilli()
	return []badBatch{
		{"now", at(now)},
		{"0", at(0)},
		{"-1", at(-1)},
		{"-2", at(-2)},
		{"smallest", at(math.MinInt64)},
		{"half an hour ahead", at(now + 30*60_000)},
		{"two hours ahead", at(now + 120*60_000)},
		{"one record ahead", batch{records: []record{rec("", "a"), {value: []byte("b"), timestamp: 5 * 3600_000}}}.encode()},
		{"one record ahead, gzip", batch{attributes: 1, records: []record{rec("", "a"), {value: []byte("b"), timestamp: 5 * 3600_000}}}.encode()},
	}
}

// each produces the rows to a topic of their own partitions, one after the
// other, and then reads all that was taken.
func produceEach(rows []badBatch, configs ...string) func(c *Conversation) {
	return func(c *Conversation) {
		topic := c.Topic("t", 1, configs...)
		for _, row := range rows {
			c.Ask(row.name, c.produce(topic, 0, row.bytes))
		}
		c.stored("stored", topic)
	}
}

func init() {
	add(
		Case{Key: 0, Name: "codecs", From: 3, Run: func(c *Conversation) {
			for codec, name := range codecNames {
				topic := c.Topic(name, 1)
				c.Ask(name, c.produce(topic, 0, batch{attributes: int16(codec), records: someRecords()}.encode()))
				c.Ask(name+" again", c.produce(topic, 0, batch{attributes: int16(codec), records: someRecords()}.encode()))
				c.stored(name+" stored", topic)
			}
		}},
		Case{Key: 0, Name: "odd batches", From: 3, Run: produceEach(oddBatches())},
		Case{Key: 0, Name: "timestamps", From: 3, Run: produceEach(timestamps())},
		Case{Key: 0, Name: "timestamps with log append time", From: 7, Run: produceEach(timestamps(), "message.timestamp.type=LogAppendTime"),
			Ignore: []string{"*MaxTimestamp", "*FirstTimestamp"}},
		Case{Key: 0, Name: "compacted", From: 7, Run: produceEach([]badBatch{
			{"all keys", batch{records: []record{rec("a", "1"), rec("b", "2")}}.encode()},
			{"one without", batch{records: someRecords()}.encode()},
			{"none with", batch{records: []record{rec("", "1"), rec("", "2")}}.encode()},
			{"one without, gzip", batch{attributes: 1, records: someRecords()}.encode()},
			{"tombstone", batch{records: []record{{key: []byte("a")}}}.encode()},
		}, "cleanup.policy=compact")},
		Case{Key: 0, Name: "recompression", From: 9, Run: func(c *Conversation) {
			for _, kind := range []string{"uncompressed", "gzip", "snappy", "lz4", "zstd"} {
				topic := c.Topic(kind, 1, "compression.type="+kind)
				c.Ask(kind+" from none", c.produce(topic, 0, batch{records: someRecords()}.encode()))
				c.Ask(kind+" from gzip", c.produce(topic, 0, batch{attributes: 1, records: someRecords()}.encode()))
				c.stored(kind+" stored", topic)
			}
		}},
		Case{Key: 0, Name: "acks", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			for _, acks := range []int16{1, -1, 2, -2, 127} {
				req := c.produce(topic, 0, batch{records: someRecords()}.encode())
				req.Acks = acks
				c.Ask(fmt.Sprint("acks ", acks), req)
			}
			quiet := func(label string, req *kmsg.ProduceRequest) {
				req.Acks = 0
				c.Unanswered(label, req)
			}
			quiet("acks 0", c.produce(topic, 0, batch{records: someRecords()}.encode()))
			c.Produce(topic, 0, rec("", "on disk, and so all before"))
			quiet("acks 0 with a bad crc", c.produce(topic, 0, batch{records: someRecords(), badCRC: true}.encode()))
			quiet("acks 0 to no such partition", c.produce(topic, 9, batch{records: someRecords()}.encode()))
			quiet("acks 0 to no such topic", c.produce(c.Name("nope"), 0, batch{records: someRecords()}.encode()))
			c.stored("stored", topic)
		}},
		Case{Key: 0, Name: "no such topic", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			records := batch{records: someRecords()}.encode()
			c.Ask("partition", c.produce(topic, 1, records))
			c.Ask("negative partition", c.produce(topic, -1, records))
			for _, name := range []string{c.Name("nope"), "", "..", "a b"} {
				c.Ask("topic "+name, c.produce(name, 0, records))
			}
			if c.V >= 13 {
				req := c.produce(topic, 0, records)
				req.Topics[0].TopicID = [16]byte{9, 9, 9, 9, 1}
				c.Ask("id", req)
			}
			req := c.produce(topic, 0, records)
			other := c.produce(c.Name("nope"), 0, records)
			other.Topics[0].TopicID = [16]byte{9, 9, 9, 9, 1}
			req.Topics = append(req.Topics, other.Topics...)
			c.Ask("one good, one not", req)
		}},
		Case{Key: 0, Name: "internal topic", From: 3, To: 12, Run: func(c *Conversation) {
			c.Ask("offsets", c.produce("__consumer_offsets", 0, batch{records: someRecords()}.encode()))
		}},
		Case{Key: 0, Name: "partition twice", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 2)
			req := c.produce(topic, 0, batch{records: someRecords()}.encode())
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, req.Topics[0].Partitions[0])
			c.Ask("twice", req)
			req = c.produce(topic, 1, batch{records: someRecords()}.encode())
			req.Topics = append(req.Topics, req.Topics[0])
			c.Ask("topic twice", req)
		}},
		Case{Key: 0, Name: "null records", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			c.Wait(1500 * time.Millisecond)
			c.Ask("null", c.produce(topic, 0, nil))
		}},
		Case{Key: 0, Name: "nothing", From: 3, Run: func(c *Conversation) {
			req := kmsg.NewPtrProduceRequest()
			req.Acks = -1
			req.TimeoutMillis = 1000
			c.Ask("no topics", req)
			topic := c.Topic("t", 1)
			req = c.produce(topic, 0, nil)
			req.Topics[0].Partitions = nil
			c.Ask("no partitions", req)
		}},
		Case{Key: 0, Name: "before v3", To: 2, Run: func(c *Conversation) {
			c.Ask("closed", c.produce(c.Topic("t", 1), 0, batch{records: someRecords()}.encode()))
		}},
		Case{Key: 0, Name: "sizes", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 1, "max.message.bytes=1000")
			text := func(n int) string { return string(make([]byte, n)) }
			c.Ask("900", c.produce(topic, 0, batch{records: []record{rec("", text(900))}}.encode()))
			for n := 925; n < 940; n++ {
				c.Ask(fmt.Sprint(n), c.produce(topic, 0, batch{records: []record{rec("", text(n))}}.encode()))
			}
			c.Ask("2000", c.produce(topic, 0, batch{records: []record{rec("", text(2000))}}.encode()))
			c.Ask("2000 compressed", c.produce(topic, 0, batch{attributes: 1, records: []record{rec("", text(2000))}}.encode()))
			c.Ask("2000 with a bad crc", c.produce(topic, 0, batch{badCRC: true, records: []record{rec("", text(2000))}}.encode()))
			c.stored("stored", topic)
		}},
		Case{Key: 0, Name: "sizes by default", From: 9, Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			for _, n := range []int{1048588 - 61 - 20, 1048588, 1200000} {
				c.Ask(fmt.Sprint(n), c.produce(topic, 0, batch{records: []record{rec("", string(make([]byte, n)))}}.encode()))
			}
		}},
		Case{Key: 0, Name: "small segments", From: 9, Run: func(c *Conversation) {
			topic := c.Topic("t", 1, "segment.bytes=1048576", "max.message.bytes=5000000")
			for _, n := range []int{1000000, 1048576, 2000000} {
				c.Ask(fmt.Sprint(n), c.produce(topic, 0, batch{records: []record{rec("", string(make([]byte, n)))}}.encode()))
			}
		}},
		Case{Key: 0, Name: "min in-sync replicas above their number", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 1, "min.insync.replicas=2")
			c.Ask("acks -1", c.produce(topic, 0, batch{records: someRecords()}.encode()))
		}},
		Case{Key: 0, Name: "several partitions", From: 3, Run: func(c *Conversation) {
			topic, other := c.Topic("t", 3), c.Topic("u", 1)
			req := c.produce(topic, 0, batch{records: someRecords()}.encode())
			for part := int32(1); part < 4; part++ {
				q := c.produce(topic, part, batch{records: someRecords(), badCRC: part == 1}.encode())
				req.Topics[0].Partitions = append(req.Topics[0].Partitions, q.Topics[0].Partitions...)
			}
			req.Topics = append(req.Topics, c.produce(other, 0, batch{records: someRecords()}.encode()).Topics...)
			c.Ask("all", req)
		}},
		Case{Key: 0, Name: "magic 3 beside a good one", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 2)
			req := c.produce(topic, 0, batch{records: someRecords()}.encode())
			q := c.produce(topic, 1, batch{records: someRecords(), magic: p(int8(3))}.encode())
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, q.Topics[0].Partitions...)
			c.Ask("both", req)
		}},
	)
	addIdempotence()
}

// addIdempotence are the rules of sequences, by a made-up producer id: Kafka
// asks nobody whether it is known.
func addIdempotence() {
	type step struct {
		name     string
		epoch    int16
		sequence int32
		records  int
	}
	script := func(steps ...step) func(c *Conversation) {
		return func(c *Conversation) {
			topic := c.Topic("t", 1)
			for _, s := range steps {
				b := batch{producer: &producer{4242, s.epoch, s.sequence}}
				for i := range s.records {
					b.records = append(b.records, rec("", fmt.Sprint(s.name, i)))
				}
				c.Ask(s.name, c.produce(topic, 0, b.encode()))
			}
			c.stored("stored", topic)
		}
	}
	ignore := []string{"*LogAppendTime"}
	add(
		Case{Key: 0, Name: "idempotence: in order", From: 3, Run: script(
			step{"first", 0, 0, 2}, step{"second", 0, 2, 1}, step{"third", 0, 3, 3})},
		Case{Key: 0, Name: "idempotence: duplicates", From: 3, Run: script(
			step{"1", 0, 0, 2}, step{"1 again", 0, 0, 2}, step{"2", 0, 2, 1}, step{"1 once more", 0, 0, 2},
			step{"overlap", 0, 1, 2}, step{"part of it", 0, 0, 1}, step{"3", 0, 3, 1}, step{"4", 0, 4, 1}, step{"5", 0, 5, 1},
			step{"1 still known", 0, 0, 2}, step{"6", 0, 6, 1}, step{"1 too old", 0, 0, 2}, step{"2 still known", 0, 2, 1})},
		Case{Key: 0, Name: "idempotence: gaps", From: 3, Run: script(
			step{"1", 0, 0, 2}, step{"gap", 0, 5, 1}, step{"gap again", 0, 5, 1}, step{"2", 0, 2, 1})},
		Case{Key: 0, Name: "idempotence: first sequence above 0", From: 3, Run: script(
			step{"at 10", 0, 10, 2}, step{"at 0", 0, 0, 2}, step{"at 12", 0, 12, 1})},
		Case{Key: 0, Name: "idempotence: epochs", From: 3, Run: script(
			step{"epoch 1", 1, 0, 1}, step{"epoch 0", 0, 1, 1}, step{"epoch 2 at 1", 2, 1, 1}, step{"epoch 2 at 0", 2, 0, 1},
			step{"epoch 2 next", 2, 1, 1}, step{"epoch 1 again", 1, 1, 1}, step{"epoch -1", -1, 0, 1})},
		Case{Key: 0, Name: "idempotence: wrap", From: 3, Run: script(
			step{"up to the end", 0, math.MaxInt32 - 1, 2}, step{"wrapped", 0, 0, 1}, step{"next", 0, 1, 1})},
		Case{Key: 0, Name: "idempotence: wrap inside", From: 3, Run: script(
			step{"over the end", 0, math.MaxInt32 - 1, 4}, step{"next", 0, 2, 1})},
	)
	for i := range cases {
		if c := &cases[i]; c.Key == 0 && len(c.Name) > 4 && c.Name[:4] == "idem" {
			c.Ignore = ignore
		}
	}
	add(
		Case{Key: 0, Name: "idempotence: two producers", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 2)
			req := c.produce(topic, 0, batch{producer: &producer{1, 0, 0}, records: someRecords()}.encode())
			other := c.produce(topic, 1, batch{producer: &producer{2, 0, 0}, records: someRecords()}.encode())
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, other.Topics[0].Partitions...)
			c.Ask("in one request", req)
			one := c.produce(topic, 0, batch{producer: &producer{3, 0, 0}, records: someRecords()}.encode())
			one.Acks = 1
			c.Ask("acks 1", one)
			c.Ask("largest id", c.produce(topic, 0, batch{producer: &producer{math.MaxInt64, 0, 0}, records: someRecords()}.encode()))
			c.Ask("id -2", c.produce(topic, 0, batch{producer: &producer{-2, 0, 0}, records: someRecords()}.encode()))
		}},
		Case{Key: 0, Name: "transactional id", From: 3, Run: func(c *Conversation) {
			topic := c.Topic("t", 1)
			req := c.produce(topic, 0, batch{attributes: 16, producer: &producer{55, 0, 0}, records: someRecords()}.encode())
			req.TransactionID = p(c.Name("unknown"))
			c.Ask("unknown", req)
			req = c.produce(topic, 0, batch{records: someRecords()}.encode())
			req.TransactionID = p(c.Name("plain"))
			c.Ask("with a plain batch", req)
			req = c.produce(topic, 0, batch{records: someRecords()}.encode())
			req.TransactionID = p("")
			c.Ask("empty", req)
		}},
	)
}

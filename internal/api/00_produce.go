package api

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
)

// Produce: v3-13, advertised from 0
//
// Behaviour:
//   - each partition is checked and appended on its own; the answer comes once
//     all of them have theirs
//   - acks=0: nothing is answered, and any error closes the connection
//   - a partition named twice: the last one counts, one answer; a topic without
//     partitions is not answered
//   - a refusal by the log tells where the log begins
//   - transactional batches are refused: without a transactional id
//     TRANSACTIONAL_ID_AUTHORIZATION_FAILED, with one
//     INVALID_PRODUCER_ID_MAPPING, since no such id was ever given out
//   - NOT_LEADER_OR_FOLLOWER tells who leads (KIP-951)
//
// Version notes:
//   - v3: magic 2; v7: zstd; v8: record errors (KIP-467); v9: flexible
//   - v10: current leader and node endpoints (KIP-951)
//   - v12: transactions version 2; v13: topic ids (KIP-516)
//   - v0-2 are advertised because librdkafka asks for them (KAFKA-18659)
//
// Not implemented: transactions.
var produce = Handler{Key: 0, Name: "Produce", Min: 3, Max: 13, Lowest: true, Large: true, Serve: serveProduce}

// produceOp is one produce request under way.
type produceOp struct {
	server  *Server
	client  *Client
	reply   Reply
	acks    int16
	resp    *kmsg.ProduceResponse
	slots   []produceSlot
	pending atomic.Int32 // slots without a result, and one while they are being started
	memory  produceMemory
}

// produceMemory is what most requests need, so that it is one allocation: they
// have one partition.
type produceMemory struct {
	resp   kmsg.ProduceResponse
	slots  [1]produceSlot
	topics [1]kmsg.ProduceResponseTopic
	outs   [1]kmsg.ProduceResponseTopicPartition
}

// room is an empty slice for n elements: own, or one that is made.
func room[T any](own []T, n int) []T {
	if n <= len(own) {
		return own[:0]
	}
	return make([]T, 0, n)
}

// produceSlot is one partition of a produce request.
type produceSlot struct {
	topic    *metadata.Topic
	hosted   *partition.Partition // nil: code says why
	number   int32
	code     kafka.ErrorCode
	message  string
	records  []byte
	producer producerOn // of an idempotent batch; producer.producer is NoProducerID otherwise
	sequence int32
	out      *kmsg.ProduceResponseTopicPartition
}

func serveProduce(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.ProduceRequest)
	op := &produceOp{server: s, client: req.Client, reply: reply, acks: in.Acks}
	op.translate(now, s.Broker.Image(), in)
	op.pending.Store(int32(len(op.slots)) + 1)
	timeout := max(millis(in.TimeoutMillis), time.Millisecond)
	for i := range op.slots {
		slot := &op.slots[i]
		slot.check(in.TransactionID)
		if slot.code != kafka.None {
			op.done(slot, partition.ProduceResult{Code: slot.code, Message: slot.message, LogStart: kafka.NoOffset})
			continue
		}
		slot.hosted.Produce(now, partition.ProduceRequest{
			Records:      slot.records,
			Acks:         in.Acks,
			Timeout:      timeout,
			Version:      in.Version,
			AfterRefusal: op.afterRefusal(slot),
		}, func(r partition.ProduceResult) { op.done(slot, r) })
	}
	op.finished()
}

// translate finds the partitions and makes the response's arrays.
func (op *produceOp) translate(now time.Time, image *metadata.Image, in *kmsg.ProduceRequest) {
	count := 0
	for i := range in.Topics {
		count += len(in.Topics[i].Partitions)
	}
	op.slots = room(op.memory.slots[:], count)
	again := newDuplicates(count)
	outs := room(op.memory.outs[:], count)
	resp := &op.memory.resp
	resp.Default()
	resp.Version = in.Version
	resp.Topics = room(op.memory.topics[:], len(in.Topics))
	for i := range in.Topics {
		t := &in.Topics[i]
		topic, unknown := findTopic(image, in.Version >= 13, t.TopicID, t.Topic)
		first := len(outs)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if at := again.find(topic, p.Partition); at >= 0 {
				op.slots[at].records = p.Records
				continue
			}
			outs = append(outs, kmsg.NewProduceResponseTopicPartition())
			slot := produceSlot{topic: topic, number: p.Partition, records: p.Records, out: &outs[len(outs)-1]}
			slot.out.Partition = p.Partition
			slot.hosted, slot.code = op.server.findPartition(now, topic, p.Partition, unknown)
			if slot.code == kafka.None && kafka.IsInternalTopic(topic.Name) {
				slot.code = kafka.ErrInvalidTopicException
			}
			if slot.code == kafka.None && (in.Acks < -1 || in.Acks > 1) {
				slot.code = kafka.ErrInvalidRequiredAcks
			}
			again.add(topic, p.Partition)
			op.slots = append(op.slots, slot)
		}
		if len(outs) == first {
			continue // nothing but what was named before
		}
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID, rt.Partitions = t.Topic, t.TopicID, outs[first:len(outs):len(outs)]
		resp.Topics = append(resp.Topics, rt)
	}
	op.resp = resp
}

// check looks for what the partition leaves to the transaction coordinator,
// and who produces.
func (slot *produceSlot) check(transactionalID *string) {
	slot.producer.producer = kafka.NoProducerID
	batch := record.Batch(slot.records)
	if slot.topic == nil || len(batch) < record.HeaderSize || batch.Magic() != record.Magic2 {
		return // the partition says what is wrong
	}
	if slot.code != kafka.None {
		slot.produces(batch) // what comes behind it on this connection must not be taken for the first
		return
	}
	if batch.IsTransactional() && !batch.IsControl() {
		if transactionalID == nil {
			slot.code, slot.message = kafka.ErrTransactionalIDAuthorizationFailed, "the batch is transactional and the request has no transactional id"
			return
		}
		slot.code, slot.message = kafka.ErrInvalidProducerIDMapping, "the transactional id is not known: this broker has no transactions"
		return
	}
	slot.produces(batch)
}

// produces notes who produces an idempotent batch.
func (slot *produceSlot) produces(batch record.Batch) {
	if batch.HasProducerID() {
		slot.producer = producerOn{slot.topic.ID, slot.number, batch.ProducerID()}
		slot.sequence = batch.BaseSequence()
	}
}

func (op *produceOp) afterRefusal(slot *produceSlot) bool {
	return slot.producer.producer != kafka.NoProducerID && op.client.refused.before(slot.producer, slot.sequence)
}

// done takes in the result of one partition. Each slot has its own part of the
// response, so that results may come at the same time.
func (op *produceOp) done(slot *produceSlot, r partition.ProduceResult) {
	slot.code = r.Code
	out := slot.out
	out.ErrorCode = int16(r.Code)
	if r.Code == kafka.None {
		out.BaseOffset, out.LogAppendTime, out.LogStartOffset = int64(r.BaseOffset), r.LogAppendTime, int64(r.LogStart)
	} else {
		out.BaseOffset, out.LogAppendTime, out.LogStartOffset = -1, -1, int64(r.LogStart)
		out.ErrorMessage = text(r.Message)
		for _, e := range r.RecordErrors {
			re := kmsg.NewProduceResponseTopicPartitionErrorRecord()
			re.RelativeOffset, re.ErrorMessage = e.Index, text(e.Message)
			out.ErrorRecords = append(out.ErrorRecords, re)
		}
	}
	if slot.producer.producer != kafka.NoProducerID {
		switch r.Code {
		case kafka.None:
			op.client.refused.accept(slot.producer)
		case kafka.ErrNotEnoughReplicasAfterAppend, kafka.ErrRequestTimedOut, kafka.ErrOutOfOrderSequenceNumber:
			// The first two were appended; the third has nothing before it that could still come.
		default:
			op.client.refused.refuse(slot.producer, slot.sequence)
		}
	}
	if t := op.server.Traffic; t != nil && slot.topic != nil {
		t.Produced(slot.topic.Name, len(slot.records), r.Code)
	}
	op.finished()
}

// finished answers the request when the last result is in.
func (op *produceOp) finished() {
	if op.pending.Add(-1) > 0 {
		return
	}
	if op.acks == 0 {
		for i := range op.slots {
			if op.slots[i].code != kafka.None {
				op.reply(Answer{Close: true, Err: errRefusedUnacked})
				return
			}
		}
		op.reply(Answer{})
		return
	}
	if op.resp.Version >= 10 {
		op.addLeaders()
	}
	op.reply.respond(op.resp)
}

// addLeaders tells who leads the partitions that this node does not lead.
func (op *produceOp) addLeaders() {
	var hints leaderHints
	for i := range op.slots {
		slot := &op.slots[i]
		if slot.code != kafka.ErrNotLeaderOrFollower {
			continue
		}
		leader, epoch := hints.of(op.server.Broker, slot.topic, slot.number, false)
		slot.out.CurrentLeader.LeaderID, slot.out.CurrentLeader.LeaderEpoch = int32(leader), int32(epoch)
	}
	for _, b := range hints.brokers {
		rb := kmsg.NewProduceResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = int32(b.ID), b.Host, b.Port, text(b.Rack)
		op.resp.Brokers = append(op.resp.Brokers, rb)
	}
}

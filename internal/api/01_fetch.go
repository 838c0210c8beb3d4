package api

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/core/metadata"
	"chronik/internal/core/replica"
	"chronik/internal/format/record"
	"chronik/internal/host/deadline"
	"chronik/internal/host/fetchsession"
	"chronik/internal/host/partition"
)

// Fetch: v4-18
//
// Behaviour:
//   - a partition named twice: the last one counts, one answer
//   - partitions are read in the order of the request, or of its session, until
//     max_bytes are full; the first batch is answered whatever its size
//   - with fewer than min_bytes the request waits up to max_wait, or 5 minutes;
//     an error of a partition ends the waiting, but for topics that do not exist
//   - incremental sessions as in KIP-227; see package fetchsession
//   - from v16 on NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH tell who leads
//     (KIP-951)
//   - requests of replicas are refused: brokers replicate in another way
//   - a consumer that names its rack is sent to an in-sync replica in it, where
//     the leader's is another (KIP-392)
//   - an isolation level other than 0 and 1: INVALID_REQUEST; a negative size:
//     INVALID_FETCH_SIZE
//
// Version notes:
//   - v7: sessions; v9: current leader epoch; v10: clients know zstd, but such
//     batches are served before, too: some old clients read them
//   - v11: followers may be read (KIP-392); v12: flexible, diverging epochs;
//     v13: topic ids
//   - v15: replica state is a tag; v16: node endpoints; v17, v18: for replicas
var fetch = Handler{Key: 1, Name: "Fetch", Min: 4, Max: 18, Serve: serveFetch}

// fetchOp is one fetch request under way. What it has read and what it waits
// for belong to one goroutine at a time: the one that serves the request, then
// whoever set running.
type fetchOp struct {
	server    *Server
	client    *Client
	reply     Reply
	version   int16
	session   fetchsession.Fetch
	sessions  bool // the version has sessions
	byID      bool
	isolation partition.Isolation
	minBytes  int
	maxBytes  int
	slots     []fetchSlot
	buffers   fetchBuffers // that the records are in
	bytes     int          // of records in all slots
	urgent    bool         // there is a reason not to wait
	deadline  *deadline.Entry
	memory    fetchMemory

	mu      sync.Mutex
	running bool
	expired bool
	ended   bool
	woken   []int // slots that were woken and not yet read again
}

// fetchMemory is what fetches of one partition need, so that it is one allocation.
type fetchMemory struct {
	resp       kmsg.FetchResponse
	asked      [1]fetchsession.Partition
	slots      [1]fetchSlot
	outcomes   [1]fetchsession.Outcome
	topics     [1]kmsg.FetchResponseTopic
	partitions [1]kmsg.FetchResponseTopicPartition
}

// fetchSlot is one partition of a fetch request.
type fetchSlot struct {
	topic   *metadata.Topic
	hosted  *partition.Partition // nil: code says why
	code    kafka.ErrorCode
	result  partition.ReadResult
	next    kafka.Offset // where to go on reading
	records []byte
	idle    bool         // the last read got nothing
	nearer  kafka.NodeID // a replica that should be asked instead; NoNode: none
	misses  int          // how often there was said to be more, and there was not
	waiter  partition.Waiter
	parked  bool
}

func serveFetch(s *Server, now time.Time, req *Request, reply Reply) {
	in := req.Body.(*kmsg.FetchRequest)
	op := &fetchOp{
		server: s, client: req.Client, reply: reply,
		version: in.Version, sessions: in.Version >= 7, byID: in.Version >= 13,
		isolation: partition.Isolation(in.IsolationLevel),
		maxBytes:  min(int(in.MaxBytes), s.Limits.fetchBytesMax()),
	}
	op.minBytes = min(int(in.MinBytes), op.maxBytes)
	if in.IsolationLevel < 0 || in.IsolationLevel > 1 {
		op.refuse(in, kafka.ErrInvalidRequest)
		return
	}
	if code := op.begin(now, in); code != kafka.None {
		op.refuse(nil, code)
		return
	}
	op.resolve(now, in)
	op.buffers.size = req.Client.fetched.bufferBytes(len(op.slots))
	op.running = true
	for i := range op.slots {
		op.read(now, i)
	}
	if in.MaxWaitMillis <= 0 || mutant.On(mutant.WaitNever) || op.enough() || !op.waits() {
		op.finish(now)
		op.readAhead()
		return
	}
	wait := min(millis(in.MaxWaitMillis), clientWaitMax)
	if mutant.On(mutant.WaitTooLong) {
		wait += time.Second
	}
	op.park(now.Add(wait))
	op.run(now)
}

// refuse answers a request as a whole: at the top where the version has a
// place for that, and before topic ids also at each partition. What is wrong
// with a session, with in nil, is told at the top alone.
func (op *fetchOp) refuse(in *kmsg.FetchRequest, code kafka.ErrorCode) {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = op.version
	resp.Topics = []kmsg.FetchResponseTopic{}
	if op.sessions {
		resp.ErrorCode = int16(code)
	}
	if in == nil || op.byID {
		op.reply.respond(resp)
		return
	}
	for i := range in.Topics {
		t := kmsg.NewFetchResponseTopic()
		t.Topic = in.Topics[i].Topic
		for j := range in.Topics[i].Partitions {
			p := newFetchPartition(in.Topics[i].Partitions[j].Partition)
			p.ErrorCode, p.AbortedTransactions = int16(code), noAborted
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	op.reply.respond(resp)
}

// begin turns the request into the list of partitions to fetch.
func (op *fetchOp) begin(now time.Time, in *kmsg.FetchRequest) kafka.ErrorCode {
	count := 0
	for i := range in.Topics {
		count += len(in.Topics[i].Partitions)
	}
	r := fetchsession.Request{ID: in.SessionID, Epoch: in.SessionEpoch, ByID: op.byID,
		Partitions: room(op.memory.asked[:], count)}
	if !op.sessions {
		r.ID, r.Epoch = fetchsession.NoSession, fetchsession.EpochFinal
	}
	for i := range in.Topics {
		t := &in.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			r.Partitions = append(r.Partitions, fetchsession.Partition{
				Key:              fetchsession.Key{TopicID: t.TopicID, Topic: t.Topic, Partition: p.Partition},
				Offset:           kafka.Offset(p.FetchOffset),
				MaxBytes:         p.PartitionMaxBytes,
				LeaderEpoch:      kafka.LeaderEpoch(p.CurrentLeaderEpoch),
				LastFetchedEpoch: kafka.LeaderEpoch(p.LastFetchedEpoch),
			})
		}
	}
	if r.Epoch == fetchsession.EpochInitial || r.Epoch == fetchsession.EpochFinal {
		r.Partitions = lastOfEach(r.Partitions)
	}
	for i := range in.ForgottenTopics {
		t := &in.ForgottenTopics[i]
		for _, p := range t.Partitions {
			r.Forgotten = append(r.Forgotten, fetchsession.Key{TopicID: t.TopicID, Topic: t.Topic, Partition: p})
		}
	}
	var code kafka.ErrorCode
	op.session, code = op.server.Sessions.Begin(now, r, nil)
	return code
}

// lastOfEach leaves one of the entries that name the same partition: the last,
// in the place of the first.
func lastOfEach(list []fetchsession.Partition) []fetchsession.Partition {
	var places map[fetchsession.Key]int
	if len(list) > listMax {
		places = make(map[fetchsession.Key]int, len(list))
	}
	out := list[:0]
	for _, p := range list {
		var at int
		var ok bool
		if places != nil {
			at, ok = places[p.Key]
		} else {
			at = slices.IndexFunc(out, func(o fetchsession.Partition) bool { return o.Key == p.Key })
			ok = at >= 0
		}
		if ok {
			out[at] = p
			continue
		}
		if places != nil {
			places[p.Key] = len(out)
		}
		out = append(out, p)
	}
	return out
}

// resolve finds the partitions that are to be fetched.
func (op *fetchOp) resolve(now time.Time, in *kmsg.FetchRequest) {
	image := op.server.Broker.Image()
	op.slots = room(op.memory.slots[:], len(op.session.Partitions))[:len(op.session.Partitions)]
	replicaID := in.ReplicaID
	if in.Version >= 15 {
		replicaID = in.ReplicaState.ID
	}
	var topic *metadata.Topic
	var unknown kafka.ErrorCode
	for i := range op.slots {
		p, slot := &op.session.Partitions[i], &op.slots[i]
		if i == 0 || p.TopicID != op.session.Partitions[i-1].TopicID || p.Topic != op.session.Partitions[i-1].Topic {
			topic, unknown = findTopic(image, op.byID, p.TopicID, p.Topic)
		}
		slot.topic, slot.next, slot.nearer = topic, p.Offset, kafka.NoNode
		slot.hosted, slot.code = op.server.findPartition(now, topic, p.Partition, unknown)
		switch {
		case slot.code == kafka.ErrNotLeaderOrFollower:
			op.urgent = true
		case slot.code != kafka.None:
		case replicaID >= 0:
			// Kafka's answers to a replica that is none of the partition's.
			slot.code, op.urgent = kafka.ErrNotLeaderOrFollower, true
			if p.LeaderEpoch >= 0 {
				slot.code = kafka.ErrUnknownLeaderEpoch
			}
		case p.MaxBytes < 0 || in.MaxBytes < 0:
			slot.code, op.urgent = kafka.ErrInvalidFetchSize, true
		case in.Rack != "" && op.version >= 11:
			slot.nearer = nearestReplica(op.server.Broker, topic, slot.hosted, in.Rack, p.Offset)
			op.urgent = op.urgent || slot.nearer != kafka.NoNode
		}
	}
}

// read reads a partition, going on where it was read to.
func (op *fetchOp) read(now time.Time, i int) {
	slot, p := &op.slots[i], &op.session.Partitions[i]
	if slot.code != kafka.None {
		return
	}
	had, buf := len(slot.records), slot.records
	lastFetched := p.LastFetchedEpoch
	most := max(0, min(int(p.MaxBytes)-had, op.maxBytes-op.bytes))
	if had > 0 {
		lastFetched = kafka.NoLeaderEpoch
	} else {
		buf = op.buffers.spare()
		most = min(most, cap(buf))
	}
	if slot.nearer != kafka.NoNode {
		most = 0
	}
	result := slot.hosted.Read(now, partition.ReadRequest{
		Offset:             slot.next,
		MaxBytes:           most,
		MinOneMessage:      op.bytes == 0 && slot.nearer == kafka.NoNode,
		CurrentLeaderEpoch: currentEpoch(p.LeaderEpoch),
		LastFetchedEpoch:   lastFetched,
		Isolation:          op.isolation,
		ReplicaID:          partition.NoReplicaID,
		FromFollower:       op.version >= 11,
		Buf:                buf,
	})
	aborted := slot.result.Aborted
	slot.result, slot.code = result, result.Code
	op.bytes -= had
	if result.Code != kafka.None || result.Diverging != nil {
		op.urgent = true
		slot.records = nil
		return
	}
	records := result.Records
	if len(records) > had {
		slot.records = op.buffers.keep(records)
	}
	op.bytes += len(slot.records)
	slot.idle = len(slot.records) == had
	slot.next = endOf(slot.records[had:], slot.next)
	if had > 0 {
		slot.result.Aborted = mergeAborted(aborted, result.Aborted)
	}
}

// currentEpoch is the client's leader epoch; any negative one means that it
// has none.
func currentEpoch(e kafka.LeaderEpoch) kafka.LeaderEpoch { return max(e, kafka.NoLeaderEpoch) }

// finish answers the request.
func (op *fetchOp) finish(now time.Time) {
	op.mu.Lock()
	op.ended = true
	op.mu.Unlock()
	op.deadline.Cancel()
	outcomes := room(op.memory.outcomes[:], len(op.slots))[:len(op.slots)]
	largest := 0
	for i := range op.slots {
		slot := &op.slots[i]
		if slot.parked {
			slot.hosted.Unwatch(&slot.waiter)
		}
		outcomes[i] = fetchsession.Outcome{HighWatermark: kafka.NoOffset, LogStart: kafka.NoOffset, Failed: slot.code != kafka.None}
		if slot.code == kafka.None {
			outcomes[i].HighWatermark, outcomes[i].LogStart = slot.result.HighWatermark, slot.result.LogStart
			outcomes[i].HasRecords, outcomes[i].MustTell = len(slot.records) > 0, slot.result.Diverging != nil || slot.nearer != kafka.NoNode
		}
		largest = max(largest, len(slot.records))
	}
	op.client.fetched.bytes.Store(int64(largest))
	id, code := op.session.Finish(now, outcomes)
	resp := &op.memory.resp
	resp.Default()
	resp.Version, resp.SessionID, resp.ErrorCode = op.version, id, int16(code)
	if code == kafka.None {
		op.fill(resp, outcomes)
	} else {
		resp.Topics = []kmsg.FetchResponseTopic{}
	}
	op.reply(Answer{Response: resp, Release: op.buffers.release})
}

// fill writes the outcomes that the client is to be told.
func (op *fetchOp) fill(resp *kmsg.FetchResponse, outcomes []fetchsession.Outcome) {
	told, topics := 0, 0
	var last *fetchsession.Partition
	for i := range outcomes {
		if outcomes[i].Tell {
			p := &op.session.Partitions[i]
			if told++; last == nil || last.TopicID != p.TopicID || last.Topic != p.Topic {
				topics++
			}
			last = p
		}
	}
	resp.Topics = room(op.memory.topics[:], topics)
	partitions := room(op.memory.partitions[:], told)
	var hints leaderHints
	last = nil
	for i := range outcomes {
		if !outcomes[i].Tell {
			continue
		}
		p := &op.session.Partitions[i]
		if last == nil || last.TopicID != p.TopicID || last.Topic != p.Topic {
			resp.Topics = append(resp.Topics, kmsg.FetchResponseTopic{Topic: p.Topic, TopicID: p.TopicID,
				Partitions: partitions[len(partitions):]})
		}
		last = p
		partitions = append(partitions, op.partition(i, &hints))
		t := &resp.Topics[len(resp.Topics)-1]
		t.Partitions = t.Partitions[:len(t.Partitions)+1]
	}
	for _, b := range hints.brokers {
		rb := kmsg.NewFetchResponseBroker()
		rb.NodeID, rb.Host, rb.Port, rb.Rack = int32(b.ID), b.Host, b.Port, text(b.Rack)
		resp.Brokers = append(resp.Brokers, rb)
	}
}

// partition is the response of one slot.
func (op *fetchOp) partition(i int, hints *leaderHints) kmsg.FetchResponseTopicPartition {
	slot, asked := &op.slots[i], &op.session.Partitions[i]
	out := newFetchPartition(asked.Partition)
	out.ErrorCode = int16(slot.code)
	if t := op.server.Traffic; t != nil && slot.topic != nil {
		t.Fetched(slot.topic.Name, len(slot.records), slot.code)
	}
	if slot.code != kafka.None {
		if slot.code == kafka.ErrUnknownTopicOrPartition || slot.code == kafka.ErrUnknownTopicID {
			out.AbortedTransactions = noAborted
		}
		fenced := slot.code == kafka.ErrFencedLeaderEpoch // where this node is the news
		if (fenced || slot.code == kafka.ErrNotLeaderOrFollower) && op.version >= 16 && slot.topic != nil {
			leader, epoch := hints.of(op.server.Broker, slot.topic, asked.Partition, fenced)
			out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = int32(leader), int32(epoch)
		}
		return out
	}
	r := &slot.result
	out.HighWatermark, out.LastStableOffset, out.LogStartOffset = int64(r.HighWatermark), int64(r.LastStableOffset), int64(r.LogStart)
	out.PreferredReadReplica = int32(slot.nearer)
	if d := r.Diverging; d != nil && op.version >= 12 {
		out.DivergingEpoch.Epoch, out.DivergingEpoch.EndOffset = int32(d.Epoch), int64(d.Start)
	}
	if op.isolation == partition.ReadCommitted {
		out.AbortedTransactions = make([]kmsg.FetchResponseTopicPartitionAbortedTransaction, len(r.Aborted))
		for j, a := range r.Aborted {
			out.AbortedTransactions[j].ProducerID, out.AbortedTransactions[j].FirstOffset = int64(a.ProducerID), int64(a.FirstOffset)
		}
	}
	if len(slot.records) > 0 {
		out.RecordBatches = slot.records
	}
	return out
}

// noRecords is an empty set of records; null means something else to some clients.
var noRecords = []byte{}

// noAborted are the aborted transactions of a partition that does not exist; in
// Kafka's other errors they are null.
var noAborted = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}

// newFetchPartition is a response without offsets, as errors have it.
func newFetchPartition(number int32) kmsg.FetchResponseTopicPartition {
	out := kmsg.NewFetchResponseTopicPartition()
	out.Partition, out.HighWatermark, out.LastStableOffset, out.LogStartOffset = number, -1, -1, -1
	out.PreferredReadReplica, out.RecordBatches = -1, noRecords
	return out
}

// endOf is the offset that follows the batches, or from if there are none.
func endOf(batches []byte, from kafka.Offset) kafka.Offset {
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			break
		}
		from, batches = b.NextOffset(), rest
	}
	return from
}

// mergeAborted joins the aborted transactions of two reads that follow one
// another.
func mergeAborted(a, b []replica.AbortedTxn) []replica.AbortedTxn {
	out := slices.Concat(a, b)
	slices.SortFunc(out, func(x, y replica.AbortedTxn) int {
		return cmp.Or(cmp.Compare(x.FirstOffset, y.FirstOffset), cmp.Compare(x.ProducerID, y.ProducerID))
	})
	return slices.CompactFunc(out, func(x, y replica.AbortedTxn) bool {
		return x.FirstOffset == y.FirstOffset && x.ProducerID == y.ProducerID
	})
}

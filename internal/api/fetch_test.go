package api_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/format/record"
)

func TestAFetchWaitsForRecordsAndNoLongerThanAsked(t *testing.T) { // trap 19
	n := newNode(t, nil)
	n.topic("t", 2)
	req := fetchRequest(12, "t", kafka.TopicID{}, 0, 0)
	addFetch(req, "t", kafka.TopicID{}, 1, 0)
	req.MaxWaitMillis = 500
	waiting := n.send(req)
	if n.advance(100 * time.Millisecond); waiting.came {
		t.Fatal("a fetch without records did not wait")
	}
	n.mustProduce("t", 1, "a")
	if !waiting.came {
		t.Fatal("records did not end the waiting")
	}
	if got := values(t, waiting.resp.(*kmsg.FetchResponse).Topics[0].Partitions[1].RecordBatches); len(got) != 1 {
		t.Errorf("fetched %v", got)
	}
	begun := n.now
	req.Topics = req.Topics[:1]
	n.wait(n.send(req))
	if took := n.now.Sub(begun); took < 500*time.Millisecond || took > 520*time.Millisecond {
		t.Errorf("an empty fetch took %v, want 500 ms", took)
	}
	if left := n.queue.Len(); left > 20 {
		t.Errorf("%d deadlines left behind", left)
	}
}

func TestAFetchWaitsForMinBytes(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 2)
	one := batch(record.BuilderOptions{}, strings.Repeat("x", 100))
	req := fetchRequest(12, "t", kafka.TopicID{}, 0, 0)
	addFetch(req, "t", kafka.TopicID{}, 1, 0)
	req.MaxWaitMillis, req.MinBytes = 1000, int32(3*len(one))
	n.produce("t", 0, one)
	waiting := n.send(req)
	n.produce("t", 1, one)
	if waiting.came {
		t.Fatal("two batches were enough for three")
	}
	n.produce("t", 0, one)
	if !waiting.came {
		t.Fatal("three batches were not enough for three")
	}
	topics := waiting.resp.(*kmsg.FetchResponse).Topics
	total := 0
	for i := range topics {
		for _, p := range topics[i].Partitions {
			total += len(values(t, p.RecordBatches))
		}
	}
	if total != 3 {
		t.Errorf("fetched %d records, want 3", total)
	}
	// Time is up: what there is comes.
	req.MinBytes = 1 << 20
	if a := n.wait(n.send(req)); len(values(t, a.resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches)) != 2 {
		t.Error("what was there is not answered when time is up")
	}
	// More than the partition gives room for: no use in waiting.
	req.Topics, req.Topics[0].Partitions[0].PartitionMaxBytes = req.Topics[:1], int32(len(one))
	if a := n.send(req); !a.came {
		t.Error("a fetch waits for what has no room in its answer")
	}
}

func TestSizesAreKept(t *testing.T) { // kafka-answers Fetch: max bytes -1, 0 and 1
	n := newNode(t, nil)
	n.topic("t", 3)
	one := batch(record.BuilderOptions{}, strings.Repeat("x", 1000))
	for number := range int32(3) {
		for range 3 {
			n.produce("t", number, one)
		}
	}
	for _, tt := range []struct {
		name          string
		request, each int32
		first, all    int
		code          kafka.ErrorCode
	}{
		{"room for all", 1 << 20, 1 << 20, 3, 9, kafka.None},
		{"two each", 1 << 20, int32(2*len(one) + 5), 2, 6, kafka.None},
		{"four in all", int32(4*len(one) + 5), 1 << 20, 3, 4, kafka.None},
		{"0 gives the first batch", 0, 1 << 20, 1, 1, kafka.None},
		{"1 gives the first batch", 1, 1, 1, 1, kafka.None},
		{"0 each gives the first batch", 1 << 20, 0, 1, 1, kafka.None},
		{"-1 each", 1 << 20, -1, 0, 0, kafka.ErrInvalidFetchSize},
		{"-1", -1, 1 << 20, 0, 0, kafka.ErrInvalidFetchSize},
	} {
		req := fetchRequest(12, "t", kafka.TopicID{}, 0, 0)
		addFetch(req, "t", kafka.TopicID{}, 1, 0)
		addFetch(req, "t", kafka.TopicID{}, 2, 0)
		req.MaxBytes = tt.request
		for i := range req.Topics {
			req.Topics[i].Partitions[0].PartitionMaxBytes = tt.each
		}
		resp := ask[*kmsg.FetchResponse](n, req)
		all := 0
		for i, p := range resp.Topics[0].Partitions {
			got := len(values(t, p.RecordBatches))
			expect(t, tt.name, p.ErrorCode, tt.code)
			if i == 0 && got != tt.first {
				t.Errorf("%s: %d records of the first partition, want %d", tt.name, got, tt.first)
			}
			all += got
		}
		if all != tt.all {
			t.Errorf("%s: %d records, want %d", tt.name, all, tt.all)
		}
	}
}

func TestFetchRefusesWhatKafkaRefuses(t *testing.T) { // bad-input 5.4, kafka-answers Fetch, trap 12
	n := newNode(t, nil)
	id := n.topic("t", 1)
	n.mustProduce("t", 0, "a")
	type change func(*kmsg.FetchRequest)
	part := func(f func(p *kmsg.FetchRequestTopicPartition)) change {
		return func(r *kmsg.FetchRequest) { f(&r.Topics[0].Partitions[0]) }
	}
	for _, tt := range []struct {
		name    string
		version int16
		change  change
		top     kafka.ErrorCode
		want    kafka.ErrorCode
	}{
		{"fine", 17, func(*kmsg.FetchRequest) {}, kafka.None, kafka.None},
		{"above the end", 17, part(func(p *kmsg.FetchRequestTopicPartition) { p.FetchOffset = 2 }), kafka.None, kafka.ErrOffsetOutOfRange},
		{"below the start", 17, part(func(p *kmsg.FetchRequestTopicPartition) { p.FetchOffset = -1 }), kafka.None, kafka.ErrOffsetOutOfRange},
		{"newer epoch", 17, part(func(p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = 99 }), kafka.None, kafka.ErrUnknownLeaderEpoch},
		{"epoch -2", 17, part(func(p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = -2 }), kafka.None, kafka.None},
		{"unknown partition", 17, part(func(p *kmsg.FetchRequestTopicPartition) { p.Partition = 1 }), kafka.None, kafka.ErrUnknownTopicOrPartition},
		{"unknown topic id", 17, func(r *kmsg.FetchRequest) { r.Topics[0].TopicID = [16]byte{1} }, kafka.None, kafka.ErrUnknownTopicID},
		{"zero topic id", 13, func(r *kmsg.FetchRequest) { r.Topics[0].TopicID = [16]byte{} }, kafka.None, kafka.ErrUnknownTopicID},
		{"unknown topic", 12, func(r *kmsg.FetchRequest) { r.Topics[0].Topic = "nope" }, kafka.None, kafka.ErrUnknownTopicOrPartition},
		{"isolation 2", 17, func(r *kmsg.FetchRequest) { r.IsolationLevel = 2 }, kafka.ErrInvalidRequest, kafka.None},
		{"isolation 2 before v7", 6, func(r *kmsg.FetchRequest) { r.IsolationLevel = 2 }, kafka.None, kafka.ErrInvalidRequest},
		{"a replica", 12, func(r *kmsg.FetchRequest) { r.ReplicaID = 5 }, kafka.None, kafka.ErrNotLeaderOrFollower},
		{"a replica with an epoch", 12, func(r *kmsg.FetchRequest) { r.ReplicaID = 5; r.Topics[0].Partitions[0].CurrentLeaderEpoch = 0 }, kafka.None, kafka.ErrUnknownLeaderEpoch},
		{"a replica in the tag", 17, func(r *kmsg.FetchRequest) { r.ReplicaState.ID = 5 }, kafka.None, kafka.ErrNotLeaderOrFollower},
		{"another cluster", 17, func(r *kmsg.FetchRequest) { c := "x"; r.ClusterID = &c }, kafka.None, kafka.None},
		{"unknown session", 17, func(r *kmsg.FetchRequest) { r.SessionID, r.SessionEpoch = 9, 1 }, kafka.ErrFetchSessionIDNotFound, kafka.None},
	} {
		req := fetchRequest(tt.version, "t", id, 0, 0)
		tt.change(req)
		resp := ask[*kmsg.FetchResponse](n, req)
		expect(t, tt.name, resp.ErrorCode, tt.top)
		if tt.top != kafka.None {
			if len(resp.Topics) != 0 || resp.SessionID != 0 {
				t.Errorf("%s: session %d with %d topics", tt.name, resp.SessionID, len(resp.Topics))
			}
			continue
		}
		p := resp.Topics[0].Partitions[0]
		expect(t, tt.name, p.ErrorCode, tt.want)
		if tt.want != kafka.None && (p.HighWatermark != -1 || p.LastStableOffset != -1 && tt.version >= 4 || tt.version >= 5 && p.LogStartOffset != -1) {
			t.Errorf("%s: offsets %d, %d, %d with an error", tt.name, p.HighWatermark, p.LastStableOffset, p.LogStartOffset)
		}
	}
}

func TestAnUnknownTopicDoesNotEndTheWaiting(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	req := fetchRequest(12, "t", kafka.TopicID{}, 0, 0)
	addFetch(req, "nope", kafka.TopicID{}, 0, 0)
	req.MaxWaitMillis = 300
	if a := n.send(req); a.came {
		t.Error("a client with a deleted topic would ask again and again")
	}
	req.Topics = req.Topics[1:]
	if a := n.send(req); !a.came {
		t.Error("a fetch of nothing that exists waits")
	}
}

func TestDeletedTopicsEndTheWaiting(t *testing.T) {
	n := newNode(t, nil)
	id := n.topic("t", 1)
	req := fetchRequest(17, "", id, 0, 0)
	req.MaxWaitMillis = 60_000
	waiting := n.send(req)
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version, del.TimeoutMillis = 6, 5000
	del.Topics = append(del.Topics, kmsg.DeleteTopicsRequestTopic{TopicID: id})
	ask[*kmsg.DeleteTopicsResponse](n, del)
	n.advance(time.Second)
	if !waiting.came {
		t.Fatal("a fetch goes on waiting at a topic that is no more")
	}
	if code := kafka.ErrorCode(waiting.resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode); code == kafka.None {
		t.Error("no error")
	}
}

// A client that asks for weeks and goes away leaves its fetch behind, and with it
// a part of the memory that all connections share.
func TestNoFetchWaitsForWeeks(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 1)
	req := fetchRequest(11, "t", kafka.TopicID{}, 0, 0)
	req.MaxWaitMillis = math.MaxInt32
	waiting := n.send(req)
	n.advance(time.Minute)
	if waiting.came {
		t.Fatal("a fetch that may wait does not")
	}
	n.advance(5 * time.Minute)
	if !waiting.came {
		t.Fatal("no answer after 6 minutes")
	}
	expect(t, "fetch", waiting.resp.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode, kafka.None)
}

func TestSessionsTellWhatChanged(t *testing.T) { // trap 20
	for _, byID := range []bool{false, true} {
		n := newNode(t, nil)
		id := n.topic("t", 3)
		version, name := int16(12), "t"
		if byID {
			version, name = 17, ""
		}
		req := fetchRequest(version, name, id, 0, 0)
		addFetch(req, name, id, 1, 0)
		addFetch(req, name, id, 2, 0)
		req.SessionEpoch = 0
		if !byID {
			for i := range req.Topics {
				req.Topics[i].TopicID = [16]byte{}
			}
		}
		full := ask[*kmsg.FetchResponse](n, req)
		if full.SessionID == 0 || len(full.Topics) != 1 || len(full.Topics[0].Partitions) != 3 {
			t.Fatalf("a full fetch: session %d, topics %v", full.SessionID, full.Topics)
		}
		next := kmsg.NewPtrFetchRequest()
		next.Version, next.ReplicaID, next.MaxBytes, next.MinBytes, next.SessionID, next.SessionEpoch = version, -1, 1<<20, 1, full.SessionID, 1
		if resp := ask[*kmsg.FetchResponse](n, next); len(resp.Topics) != 0 || resp.ErrorCode != 0 {
			t.Errorf("nothing changed and %v came", resp.Topics)
		}
		n.mustProduce("t", 1, "a")
		next.SessionEpoch = 2
		resp := ask[*kmsg.FetchResponse](n, next)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].Partition != 1 {
			t.Fatalf("one partition changed and %v came", resp.Topics)
		}
		if byID && resp.Topics[0].TopicID != [16]byte(id) || !byID && resp.Topics[0].Topic != "t" {
			t.Errorf("the topic is named %q, %v", resp.Topics[0].Topic, resp.Topics[0].TopicID)
		}
		next.SessionEpoch = 2
		expect(t, "epoch again", ask[*kmsg.FetchResponse](n, next).ErrorCode, kafka.ErrInvalidFetchSessionEpoch)
		next.Version = 29 - version
		next.SessionEpoch = 3
		expect(t, "names and ids mixed", ask[*kmsg.FetchResponse](n, next).ErrorCode, kafka.ErrFetchSessionTopicIDError)
	}
}

func TestSessionsOfRecreatedTopicsFollowTheID(t *testing.T) { // traps 11, 20
	n := newNode(t, nil)
	old := n.topic("t", 1)
	req := fetchRequest(17, "", old, 0, 0)
	req.SessionEpoch = 0
	session := ask[*kmsg.FetchResponse](n, req).SessionID
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version, del.TimeoutMillis, del.TopicNames = 5, 5000, []string{"t"}
	expect(t, "delete", ask[*kmsg.DeleteTopicsResponse](n, del).Topics[0].ErrorCode, kafka.None)
	if again := n.topic("t", 1); again == old {
		t.Fatal("a recreated topic has its old id")
	}
	req.SessionID, req.SessionEpoch, req.Topics = session, 1, nil
	p := ask[*kmsg.FetchResponse](n, req).Topics[0]
	if p.TopicID != [16]byte(old) {
		t.Errorf("answered for %v", p.TopicID)
	}
	expect(t, "old id", p.Partitions[0].ErrorCode, kafka.ErrUnknownTopicID)
}

func TestFullPartitionsDoNotStarveTheOthers(t *testing.T) {
	n := newNode(t, nil)
	n.topic("t", 3)
	one := batch(record.BuilderOptions{}, strings.Repeat("x", 1000))
	for number := range int32(3) {
		for range 3 {
			n.produce("t", number, one)
		}
	}
	req := fetchRequest(12, "t", kafka.TopicID{}, 0, 0)
	addFetch(req, "t", kafka.TopicID{}, 1, 0)
	addFetch(req, "t", kafka.TopicID{}, 2, 0)
	req.SessionEpoch, req.MaxBytes = 0, 100 // one batch each time
	resp := ask[*kmsg.FetchResponse](n, req)
	offsets := [3]int64{1, 0, 0}
	var order []string
	for epoch := int32(1); epoch < 7; epoch++ {
		next := kmsg.NewPtrFetchRequest()
		next.Version, next.ReplicaID, next.MaxBytes, next.MinBytes, next.SessionID, next.SessionEpoch = 12, -1, 100, 1, resp.SessionID, epoch
		for i, o := range offsets {
			addFetch(next, "t", kafka.TopicID{}, int32(i), o)
		}
		for _, topic := range ask[*kmsg.FetchResponse](n, next).Topics {
			for _, p := range topic.Partitions {
				if len(p.RecordBatches) > 0 {
					order = append(order, fmt.Sprint(p.Partition))
					offsets[p.Partition]++
				}
			}
		}
	}
	if got := strings.Join(order, ""); got != "012012" {
		t.Errorf("read in the order %s, want 012012", got)
	}
}

func TestAbortedListOnlyForReadCommitted(t *testing.T) { // trap 21
	n := newNode(t, nil)
	n.topic("t", 1)
	n.mustProduce("t", 0, "a")
	for isolation, null := range map[int8]bool{0: true, 1: false} {
		req := fetchRequest(12, "t", kafka.TopicID{}, 0, 0)
		req.IsolationLevel = isolation
		p := ask[*kmsg.FetchResponse](n, req).Topics[0].Partitions[0]
		if (p.AbortedTransactions == nil) != null || len(p.AbortedTransactions) != 0 {
			t.Errorf("isolation %d: aborted %v", isolation, p.AbortedTransactions)
		}
		if p.LastStableOffset != 1 || p.PreferredReadReplica != -1 {
			t.Errorf("last stable offset %d, preferred replica %d", p.LastStableOffset, p.PreferredReadReplica)
		}
	}
}

func TestStoredBatchesAreTheProducers(t *testing.T) { // traps 27, 30
	n := newNode(t, nil)
	n.topic("t", 1)
	sent := batch(record.BuilderOptions{Codec: record.LZ4}, strings.Repeat("a", 300), "b")
	n.mustProduce("t", 0, "first")
	n.produce("t", 0, sent)
	p := ask[*kmsg.FetchResponse](n, fetchRequest(12, "t", kafka.TopicID{}, 0, 2)).Topics[0].Partitions[0]
	got := record.Batch(p.RecordBatches)
	if got.BaseOffset() != 1 || got.Codec() != record.LZ4 || !bytes.Equal(p.RecordBatches[16:], sent[16:]) {
		t.Errorf("the batch at offset 1 came back with offset %d, codec %v", got.BaseOffset(), got.Codec())
	}
	if got.LeaderEpoch() < 0 {
		t.Errorf("leader epoch %d", got.LeaderEpoch()) // trap 16
	}
}

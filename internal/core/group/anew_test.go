package group

import (
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/format/offsets"
)

// A topic that was deleted and made again is another, though it has the same name
// and as many partitions.
func TestATopicMadeAnewIsAssignedAnew(t *testing.T) {
	w := newConversation(t, Options{})
	topic := func(version int64, id byte) {
		w.topics = fakeTopics{version, []Topic{{Name: "t", ID: kafka.TopicID{id}, Partitions: 2}}}
		w.shard.SetTopics(w.topics)
	}
	heartbeat := func(epoch int32, owned []offsets.TopicPartitions) {
		w.ask(&ConsumerGroupHeartbeat{Version: 1, Group: "g", MemberID: "m", MemberEpoch: epoch, RebalanceTimeoutMs: 60000,
			SubscribedTopicNames: []string{"t"}, Owned: owned})
	}
	topic(1, 1)
	heartbeat(0, []offsets.TopicPartitions{})
	m := func() *consumerMember { return w.shard.groups["g"].consumer.members["m"] }
	epoch := m().epoch
	topic(2, 2)
	heartbeat(epoch, []offsets.TopicPartitions{{TopicID: kafka.TopicID{1}, Partitions: []int32{0, 1}}})
	heartbeat(m().epoch, []offsets.TopicPartitions{})
	if got := m(); got.epoch != epoch+1 || len(got.assigned) != 1 || got.assigned[0].TopicID != (kafka.TopicID{2}) {
		t.Errorf("at epoch %d after %d the member has %v", got.epoch, epoch, got.assigned)
	}
}

// Offsets of an empty classic group are kept from when it became empty, by a
// coordinator that has loaded it since, too.
func TestALoadedGroupIsEmptySinceItWasStoredSo(t *testing.T) {
	w := newConversation(t, Options{InitialRebalanceDelay: -1, OffsetsRetention: time.Hour, RetentionCheck: time.Minute})
	w.ask(&JoinGroup{Version: 3, Group: "g", SessionTimeoutMs: 10000, RebalanceTimeoutMs: 10000, ProtocolType: "consumer", Protocols: parseProtocols(nil, nil)})
	id := w.ids["#last"]
	w.ask(&SyncGroup{Version: 3, Group: "g", MemberID: id, Generation: 1})
	w.ask(&OffsetCommit{Version: 8, Group: "g", MemberID: id, Generation: 1, RetentionMs: -1, Offsets: parseOffsets([]string{"t/0@5"})})
	for range 40 * 60 / 5 {
		w.advance(5 * time.Second)
		w.ask(&Heartbeat{Group: "g", MemberID: id, Generation: 1})
	}
	w.ask(&LeaveGroup{Version: 2, Group: "g", Members: []LeavingMember{{MemberID: id}}})
	w.load()
	w.advance(50 * time.Minute)
	if g := w.shard.groups["g"]; g == nil || len(g.offsets) == 0 {
		t.Fatal("90 min after the commit, and 50 after the group became empty, the offset is gone")
	}
	w.advance(12 * time.Minute)
	if w.shard.groups["g"] != nil {
		t.Error("62 min after the group became empty it is there yet")
	}
}

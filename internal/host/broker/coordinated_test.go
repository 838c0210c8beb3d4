package broker

import (
	"strings"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/config"
	"chronik/internal/core/controller"
	"chronik/internal/core/group"
	"chronik/internal/core/metadata"
	"chronik/internal/format/offsets"
	"chronik/internal/host/quorum"
)

// createOnOne makes a topic with one partition.
func (w *world) createOnOne(name string) {
	w.t.Helper()
	created := false
	topic := controller.NewTopic{Name: name, Partitions: 1, ReplicationFactor: 1}
	w.nodes[1].b.Control(w.now, controller.CreateTopics{Topics: []controller.NewTopic{topic}}, 10*time.Second, func(r controller.Response, code kafka.ErrorCode) {
		created = true
		if code != kafka.None || r.(controller.CreateTopicsResult).Topics[0].Error != kafka.None {
			w.t.Errorf("create: %v %+v", code, r)
		}
	})
	w.until("created", func() bool { return created })
}

// askGroups has the first node answer a request to a group.
func (w *world) askGroups(req group.Request) (resp group.Response) {
	w.t.Helper()
	w.nodes[1].b.Groups().Handle(w.now, req, func(r group.Response) { resp = r })
	w.until("answered", func() bool { return resp != nil })
	return resp
}

// coordinates waits until the first node answers for groups.
func (w *world) coordinates() {
	w.t.Helper()
	w.until("coordinates", func() bool {
		active, _ := w.nodes[1].b.Groups().Status(0)
		return active
	})
}

func (w *world) committed() kafka.Offset {
	w.t.Helper()
	r := w.askGroups(&group.OffsetFetch{Group: "g", MemberEpoch: -1, Topics: []group.TopicToFetch{{Topic: "t", Partitions: []int32{0}}}}).(*group.OffsetFetchResponse)
	if r.Err != kafka.None {
		w.t.Fatal(r.Err)
	}
	return r.Topics[0].Partitions[0].Offset
}

func (w *world) commit(offset kafka.Offset) kafka.ErrorCode {
	w.t.Helper()
	return w.askGroups(&group.OffsetCommit{Version: 9, Group: "g", Generation: -1, RetentionMs: -1,
		Offsets: []group.OffsetToCommit{{Topic: "t", Offset: offset}}}).(*group.OffsetCommitResponse).Codes[0]
}

// A snapshot can tell at once that the topic of the groups has gone and that
// there is another one.
func TestGroupsFollowTheirTopicWhenItIsAnother(t *testing.T) {
	w := newWorld(t, 1)
	w.createOnOne("t")
	w.createOnOne(kafka.TopicConsumerOffsets)
	w.coordinates()
	if code := w.commit(5); code != kafka.None || w.committed() != 5 {
		t.Fatalf("commit: %v, committed is %d", code, w.committed())
	}
	b := w.nodes[1].b
	old := b.Image().TopicByName(kafka.TopicConsumerOffsets)
	next, _, err := b.Image().Apply(b.Image().Offset()+1, []metadata.Record{
		&metadata.RemoveTopicRecord{ID: old.ID},
		&metadata.TopicRecord{ID: kafka.TopicID{1}, Name: old.Name},
		&metadata.PartitionRecord{Topic: kafka.TopicID{1}, State: old.Partition(0)},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.installSnapshot(w.now, quorum.Output{Snapshot: next.EncodeSnapshot(nil), At: next.Offset()})
	w.until("open", func() bool { return b.Partition(kafka.TopicID{1}, 0) != nil })
	w.coordinates()
	if at := w.committed(); at != -1 {
		t.Errorf("committed is %d, of a topic that has gone", at)
	}
	if code := w.commit(6); code != kafka.None || w.committed() != 6 {
		t.Errorf("commit: %v, committed is %d", code, w.committed())
	}
}

// What requests find in the Image may be committed at once. A coordinator that
// loads then must not take the offset for one of a topic that is no more.
func TestGroupsKnowATopicAsSoonAsRequestsDo(t *testing.T) {
	w := newWorld(t, 1)
	w.createOnOne(kafka.TopicConsumerOffsets)
	w.coordinates()
	n := w.nodes[1]
	asked, busy := 0, false
	n.faults.SetHook(func(op vfs.Op) error {
		if busy || !strings.Contains(op.Name, "t-0") || n.b.Image().TopicByName("t") == nil {
			return nil
		}
		busy = true
		n.b.Groups().Handle(w.now, &group.ConsumerGroupHeartbeat{Version: 1, Group: "g", MemberID: "m", RebalanceTimeoutMs: 1000,
			SubscribedTopicNames: []string{"t"}, Owned: []offsets.TopicPartitions{}}, func(r group.Response) {
			asked++
			if h := r.(*group.ConsumerGroupHeartbeatResponse); h.Err != kafka.None || len(h.Assignment) != 1 {
				t.Errorf("the group is given %+v", h)
			}
		})
		return nil
	})
	w.createOnOne("t")
	w.until("answered", func() bool { return asked == 1 })
}

// 0 of a setting that may be 0 is not "not given".
func TestASettingOfZeroIsNotTheDefault(t *testing.T) {
	r, err := config.NewResolver(1, map[string]string{"offset.metadata.max.bytes": "0", "group.initial.rebalance.delay.ms": "0"})
	if err != nil {
		t.Fatal(err)
	}
	b := &Broker{resolver: r}
	b.image.Store(metadata.Empty())
	b.coordinated.b = b
	if o := b.coordinated.options(); o.OffsetMetadataMax >= 0 || o.InitialRebalanceDelay >= 0 {
		t.Errorf("metadata of %d bytes, a delay of %v", o.OffsetMetadataMax, o.InitialRebalanceDelay)
	}
}

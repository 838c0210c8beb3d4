package controller

import (
	"slices"
	"testing"

	"chronik/internal/base/kafka"
)

// An unclean election that is asked for again because its controller was lost
// must not be held twice: who was elected has acknowledged records since, and if
// it is gone with that controller, the next one would forget them.
func TestAnUncleanElectionIsNotHeldAgain(t *testing.T) {
	for name, named := range map[string][]kafka.TopicPartition{"all": nil, "named": {{Topic: "t"}}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, 0)
			for _, line := range []string{"brokers 1,2,3", "create names=t assign=1,2,3", "in-sync t/0 node=1 to=1", "lost node=1"} {
				w.line(line)
			}
			topic, _, p := w.partition("t/0")
			elect := ElectLeaders{Unclean: true, Partitions: named, Needed: []KnownLead{{topic.ID, 0, p.LeaderEpoch}}}
			want := func(again bool, code kafka.ErrorCode, leader kafka.NodeID) {
				t.Helper()
				elect.Again = again
				for _, a := range w.decide(elect).(ElectLeadersResult).Partitions {
					if a.Error != code {
						t.Errorf("%v %s", a.Error, a.Message)
					}
				}
				if _, _, p = w.partition("t/0"); p.Leader != leader {
					t.Errorf("node %d leads, want %d", p.Leader, leader)
				}
			}
			want(false, kafka.None, 2)
			w.line("failover")
			want(true, kafka.None, 2)
			w.line("lost node=2")
			want(true, kafka.ErrRequestTimedOut, kafka.NoNode)
			elect.Needed = nil // it went after the request had come
			want(true, kafka.ErrRequestTimedOut, kafka.NoNode)
			elect.Needed = []KnownLead{{topic.ID, 0, p.LeaderEpoch}} // not held before
			want(true, kafka.None, 3)
		})
	}
}

// A move that is asked for again because its controller was lost must not be made
// over one that was asked for since, and is not begun twice.
func TestAMoveIsNotMadeAgain(t *testing.T) {
	w := newWorld(t, nil, 0)
	for _, line := range []string{"brokers 1,2,3,4", "create names=t assign=1,2"} {
		w.line(line)
	}
	topic, _, known := w.partition("t/0")
	move := Reassignment{kafka.TopicPartition{Topic: "t"}, ids("1,3"), &KnownReplicas{topic.ID, known.Replicas, known.Adding, known.Removing}}
	want := func(again bool, code kafka.ErrorCode, adding string) {
		t.Helper()
		r := w.decide(AlterPartitionReassignments{Partitions: []Reassignment{move}, Again: again}).(AlterPartitionReassignmentsResult)
		if s := r.Partitions[0].Status; s.Error != code {
			t.Errorf("%v %s, want %v", s.Error, s.Message, code)
		}
		if _, _, p := w.partition("t/0"); !slices.Equal(p.Adding, ids(adding)) {
			t.Errorf("%v are added, want %s", p.Adding, adding)
		}
	}
	want(false, kafka.None, "3")
	w.line("failover")
	_, _, before := w.partition("t/0")
	want(true, kafka.None, "3")
	if _, _, p := w.partition("t/0"); p != before {
		t.Errorf("the move was begun twice: %+v then %+v", before, p)
	}
	w.line("reassign t/0 to=1,4")
	w.line("failover")
	want(true, kafka.ErrRequestTimedOut, "4")
}

// Partitions that a request has added, and a topic that it has deleted, before its
// controller was lost are its own when it is asked again; what others have done
// since is not.
func TestWhatIsDoneAlreadyIsSaidToBeDone(t *testing.T) {
	w := newWorld(t, nil, 0)
	for _, line := range []string{"brokers 1,2,3", "create names=t assign=1,2", "create names=u assign=1,2"} {
		w.line(line)
	}
	add := func(again bool, had, count int32, code kafka.ErrorCode, assigned ...[]kafka.NodeID) {
		t.Helper()
		m := MorePartitions{Name: "t", Count: count, Had: had, Assignment: assigned}
		s := w.decide(CreatePartitions{Topics: []MorePartitions{m}, Again: again}).(CreatePartitionsResult).Topics[0].Status
		if topic, _, _ := w.partition("t/0"); s.Error != code || len(topic.Partitions) != 2 {
			t.Errorf("%v %s, and %d partitions; want %v, and 2", s.Error, s.Message, len(topic.Partitions), code)
		}
	}
	add(false, 1, 2, kafka.None, ids("2,3"))
	w.line("failover")
	add(true, 1, 2, kafka.None, ids("2,3"))
	add(true, 1, 2, kafka.None)
	add(true, 1, 2, kafka.ErrInvalidPartitions, ids("3,1")) // others added it
	add(true, 2, 2, kafka.ErrInvalidPartitions)             // it was there when the request came
	add(false, 1, 2, kafka.ErrInvalidPartitions, ids("2,3"))

	topic, _, _ := w.partition("u/0")
	remove := func(again bool, known kafka.TopicID, code kafka.ErrorCode) {
		t.Helper()
		r := DeleteTopics{Topics: []TopicRef{{Name: "u"}}, Known: []kafka.TopicID{known}, Again: again}
		if s := w.decide(r).(DeleteTopicsResult).Topics[0].Status; s.Error != code {
			t.Errorf("%v %s, want %v", s.Error, s.Message, code)
		}
	}
	remove(false, topic.ID, kafka.None)
	w.line("failover")
	remove(true, topic.ID, kafka.None)
	remove(true, kafka.TopicID{}, kafka.ErrUnknownTopicOrPartition) // it was not there when the request came
	remove(false, topic.ID, kafka.ErrUnknownTopicOrPartition)
	w.line("create names=u assign=1,2")
	remove(true, topic.ID, kafka.ErrRequestTimedOut)
	if w.c.Image().TopicByName("u") == nil {
		t.Error("the topic of that name that has come since is deleted")
	}
}

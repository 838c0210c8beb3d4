package broker

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

// changeTopic asks a node for a change of topics whose controller is killed when
// the change is committed and before it has answered. Between happens then, and
// before the node asks the next controller. It returns the outcome.
func (w *world) changeTopic(req controller.Request, between func()) controller.Status {
	w.t.Helper()
	other, controllerID := w.follower()
	leader := w.nodes[controllerID]
	committed := false
	w.lose = func(from, to kafka.NodeID, frame []byte) bool {
		lost := false
		for _, kind := range []string{"Topics", "CreatePartitions", "StatusResult", "ElectLeaders", "AlterPartitionReassignments", "AlterConfigs"} {
			lost = lost || from == leader.id && to == other.id && frame[0] == frameAnswer && bytes.Contains(frame, []byte(kind))
		}
		committed = committed || lost
		return lost
	}
	got, answers := controller.Status{}, 0
	take := func(r controller.Response, code kafka.ErrorCode) {
		answers++
		switch r := r.(type) {
		case controller.CreateTopicsResult:
			got = r.Topics[0].Status
			if t := other.b.Image().TopicByName("t"); got.Error == kafka.None && (t == nil || t.ID != r.Topics[0].ID || int(r.Topics[0].Partitions) != len(t.Partitions) || len(r.Topics[0].Configs) == 0) {
				w.t.Errorf("answered %+v of topic %+v", r.Topics[0], t)
			}
		case controller.CreatePartitionsResult:
			got = r.Topics[0].Status
		case controller.DeleteTopicsResult:
			got = r.Topics[0].Status
		case controller.StatusResult:
			got = r.Status
		case controller.ElectLeadersResult:
			got = r.Partitions[0].Status
		case controller.AlterPartitionReassignmentsResult:
			got = r.Partitions[0].Status
		case controller.AlterConfigsResult:
			got = r.Resources[0].Status
		default:
			got = controller.Status{Error: code}
		}
	}
	other.b.Control(w.now, req, 30*time.Second, take)
	w.until("the answer is lost", func() bool { return committed })
	if answers > 0 {
		w.t.Fatal("answered before the controller was lost")
	}
	if between != nil {
		between()
	}
	if answers > 0 {
		w.t.Fatal("answered before the controller was lost")
	}
	w.lose = nil
	leader.kill()
	w.until("an answer", func() bool { return answers > 0 })
	leader.start()
	w.until("the node is back", func() bool { return leader.ready })
	for range 100 {
		w.step()
	}
	if answers != 1 {
		w.t.Errorf("%d answers", answers)
	}
	return got
}

func newTopic(partitions int32) controller.CreateTopics {
	return controller.CreateTopics{Topics: []controller.NewTopic{{Name: "t", Partitions: partitions, ReplicationFactor: 3}}}
}

// decideAt has the present controller make a change, as another client's.
func (w *world) decideAt(req controller.Request) {
	w.t.Helper()
	_, controllerID := w.follower()
	done := false
	w.nodes[controllerID].b.Control(w.now, req, 30*time.Second, func(_ controller.Response, code kafka.ErrorCode) {
		if done = true; code != kafka.None {
			w.t.Errorf("another client's change: %v", code)
		}
	})
	w.until("another client's change", func() bool { return done })
}

// A node asks the next controller what the one before has not answered. The
// change may be made by then: the client was told TOPIC_ALREADY_EXISTS of the
// topic that it had created itself.
func TestAChangeThatIsMadeIsNotRefusedWhenItsControllerIsLost(t *testing.T) {
	t.Run("create", func(t *testing.T) {
		w := newWorld(t, 3)
		if s := w.changeTopic(newTopic(2), nil); s.Error != kafka.None {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
	t.Run("add partitions", func(t *testing.T) {
		w := newWorld(t, 3)
		w.create(nil, 1)
		s := w.changeTopic(controller.CreatePartitions{Topics: []controller.MorePartitions{{Name: "t", Count: 3}}}, nil)
		if s.Error != kafka.None || len(w.nodes[1].b.Image().TopicByName("t").Partitions) != 3 {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
	t.Run("delete by name", func(t *testing.T) {
		w := newWorld(t, 3)
		w.create(nil, 1)
		if s := w.changeTopic(controller.DeleteTopics{Topics: []controller.TopicRef{{Name: "t"}}}, nil); s.Error != kafka.None {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
	t.Run("delete by id", func(t *testing.T) {
		w := newWorld(t, 3)
		w.create(nil, 1)
		id := w.nodes[1].b.Image().TopicByName("t").ID
		if s := w.changeTopic(controller.DeleteTopics{Topics: []controller.TopicRef{{ID: id}}}, nil); s.Error != kafka.None {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
}

// What others have done since is refused as ever, and not undone.
func TestAChangeThatIsAskedForAgainLeavesAloneWhatOthersDid(t *testing.T) {
	t.Run("create", func(t *testing.T) { // deleted and created by others
		w := newWorld(t, 3)
		s := w.changeTopic(newTopic(1), func() {
			w.decideAt(controller.DeleteTopics{Topics: []controller.TopicRef{{Name: "t"}}})
			w.decideAt(newTopic(2))
		})
		if topic := w.nodes[1].b.Image().TopicByName("t"); s.Error != kafka.ErrTopicAlreadyExists || len(topic.Partitions) != 2 {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
	t.Run("create what was deleted", func(t *testing.T) { // an id is never used twice
		w := newWorld(t, 3)
		var first kafka.TopicID
		w.changeTopic(newTopic(1), func() {
			first = w.nodes[1].b.Image().TopicByName("t").ID
			w.decideAt(controller.DeleteTopics{Topics: []controller.TopicRef{{Name: "t"}}})
		})
		if topic := w.nodes[1].b.Image().TopicByName("t"); topic != nil && topic.ID == first {
			t.Errorf("two topics with id %v", first)
		}
	})
	t.Run("delete", func(t *testing.T) { // created anew by others
		w := newWorld(t, 3)
		w.create(nil, 1)
		s := w.changeTopic(controller.DeleteTopics{Topics: []controller.TopicRef{{Name: "t"}}}, func() { w.decideAt(newTopic(2)) })
		if topic := w.nodes[1].b.Image().TopicByName("t"); topic == nil || s.Error != kafka.ErrRequestTimedOut {
			t.Errorf("%v: %s, the new topic is %v", s.Error, s.Message, topic)
		}
	})
	t.Run("add partitions", func(t *testing.T) { // more were added by others
		w := newWorld(t, 3)
		w.create(nil, 1)
		s := w.changeTopic(controller.CreatePartitions{Topics: []controller.MorePartitions{{Name: "t", Count: 2}}}, func() {
			w.decideAt(controller.CreatePartitions{Topics: []controller.MorePartitions{{Name: "t", Count: 4}}})
		})
		if topic := w.nodes[1].b.Image().TopicByName("t"); len(topic.Partitions) != 4 || s.Error != kafka.ErrInvalidPartitions {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
}

// A controller that laid down its part answered at once those who waited until
// all live nodes act on what it had committed: a client was told that a topic is
// deleted, and a node that served had it still.
func TestNothingIsAnsweredBeforeAllKnowWhenTheControllerResigns(t *testing.T) {
	t0 := kafka.TopicPartition{Topic: "t", Partition: 0}
	create := newTopic(1)
	create.Topics[0].Name = "u"
	for name, c := range map[string]struct {
		req  func(w *world) controller.Request
		made func(m *metadata.Image, before *metadata.Partition) bool
	}{
		"create": {
			func(*world) controller.Request { return create },
			func(m *metadata.Image, _ *metadata.Partition) bool { return m.TopicByName("u") != nil },
		},
		"delete": {
			func(*world) controller.Request {
				return controller.DeleteTopics{Topics: []controller.TopicRef{{Name: "t"}}}
			},
			func(m *metadata.Image, _ *metadata.Partition) bool { return m.TopicByName("t") == nil },
		},
		"elect": { // asked for a second time, it is not needed
			func(w *world) controller.Request {
				r := slices.Clone(w.partition().Replicas)
				slices.Reverse(r)
				w.decideAt(controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{{TopicPartition: t0, Replicas: r}}})
				return controller.ElectLeaders{Partitions: []kafka.TopicPartition{t0}}
			},
			func(m *metadata.Image, before *metadata.Partition) bool {
				return m.TopicByName("t").Partition(0).LeaderEpoch > before.LeaderEpoch
			},
		},
	} {
		for _, at := range []string{"the controller", "another node"} {
			t.Run(name+" at "+at, func(t *testing.T) {
				w := newWorld(t, 3)
				w.create(nil, 1)
				req, before := c.req(w), w.partition()
				other, controllerID := w.follower()
				leader := w.nodes[controllerID]
				asker, late := other, w.nodes[6-other.id-leader.id]
				if at == "the controller" {
					asker = leader
				}
				w.lose = func(from, to kafka.NodeID, _ []byte) bool { return from == late.id || to == late.id }
				answers := 0
				asker.b.Control(w.now, req, 30*time.Second, func(r controller.Response, code kafka.ErrorCode) {
					answers++
					if late.b.MayServe(w.now) && !c.made(late.b.Image(), before) {
						t.Errorf("answered while node %d serves and does not know", late.id)
					}
					switch r := r.(type) {
					case controller.CreateTopicsResult:
						code = r.Topics[0].Error
					case controller.DeleteTopicsResult:
						code = r.Topics[0].Error
					case controller.ElectLeadersResult:
						code = r.Partitions[0].Error
					}
					if code != kafka.None {
						t.Errorf("answered %v: %+v", code, r)
					}
				})
				w.until("committed", func() bool { return c.made(leader.b.Image(), before) && c.made(other.b.Image(), before) })
				leader.b.resign(w.now)
				for range 200 {
					w.step()
				}
				w.lose = nil
				w.until("an answer", func() bool { return answers > 0 })
				for range 100 {
					w.step()
				}
				if answers != 1 {
					t.Errorf("%d answers", answers)
				}
			})
		}
	}
}

// movable makes a world of five nodes with the topic t on the second node that
// is not the controller, and the nodes in that order, the controller first.
func movable(t *testing.T, replicas ...int) (w *world, ids []kafka.NodeID) {
	t.Helper()
	w = newWorld(t, 5)
	other, first := w.follower()
	ids = []kafka.NodeID{first, other.id}
	for id := range kafka.NodeID(5) {
		if id++; id != first && id != other.id {
			ids = append(ids, id)
		}
	}
	var nodes []*worldNode
	for _, i := range replicas {
		nodes = append(nodes, w.nodes[ids[i]])
	}
	w.place(nodes...)
	return w, ids
}

func move(to ...kafka.NodeID) controller.AlterPartitionReassignments {
	return controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{{TopicPartition: kafka.TopicPartition{Topic: "t"}, Replicas: to}}}
}

func electOf(unclean bool) controller.ElectLeaders {
	return controller.ElectLeaders{Unclean: unclean, Partitions: []kafka.TopicPartition{{Topic: "t"}}}
}

func setConfig(name, value string) controller.IncrementalAlterConfigs {
	return controller.IncrementalAlterConfigs{Resources: []controller.ResourceChanges{{
		Resource: metadata.ConfigResource{Type: metadata.ResourceTopic, Name: "t"},
		Changes:  []controller.ConfigChange{{ConfigValue: controller.ConfigValue{Name: name, Value: &value}, Op: controller.OpSet}},
	}}}
}

func (w *world) configAt(n kafka.NodeID, name string) string {
	return w.nodes[n].b.Image().Config(metadata.ConfigResource{Type: metadata.ResourceTopic, Name: "t"})[name]
}

// The same holds of what moves partitions, leads and nodes.
func TestAMoveThatIsMadeIsNotRefusedWhenItsControllerIsLost(t *testing.T) {
	t.Run("unregister", func(t *testing.T) {
		w, ids := movable(t, 2)
		w.goes = ids[4]
		if s := w.changeTopic(controller.UnregisterBroker{Node: ids[4]}, nil); s.Error != kafka.None {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		w, ids := movable(t, 2)
		w.nodes[ids[4]].kill()
		w.decideAt(move(ids[3], ids[4]))
		w.until("moving", func() bool { return w.nodes[ids[1]].b.Image().TopicByName("t").Partition(0).Reassigning() })
		if s := w.changeTopic(move(), nil); s.Error != kafka.None || w.nodes[ids[1]].b.Image().TopicByName("t").Partition(0).Reassigning() {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
	t.Run("elect", func(t *testing.T) {
		w, ids := movable(t, 2, 3)
		w.decideAt(move(ids[3], ids[2]))
		w.until("moved", func() bool { return w.nodes[ids[1]].b.Image().TopicByName("t").Partition(0).Replicas[0] == ids[3] })
		if s := w.changeTopic(electOf(false), nil); s.Error != kafka.None {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
		if s := w.nodes[ids[1]].b.Image().TopicByName("t").Partition(0); s.Leader != ids[3] {
			t.Errorf("node %d leads, want %d", s.Leader, ids[3])
		}
	})
	t.Run("config", func(t *testing.T) {
		w, ids := movable(t, 2)
		if s := w.changeTopic(setConfig("retention.ms", "1000"), nil); s.Error != kafka.None || w.configAt(ids[1], "retention.ms") != "1000" {
			t.Errorf("%v: %s", s.Error, s.Message)
		}
	})
}

func TestAMoveThatIsAskedForAgainLeavesAloneWhatOthersDid(t *testing.T) {
	t.Run("unregister", func(t *testing.T) { // the node has come back meanwhile
		w, ids := movable(t, 2)
		w.goes = ids[4]
		n := w.nodes[ids[4]]
		s := w.changeTopic(controller.UnregisterBroker{Node: n.id}, func() {
			n.kill()
			n.start()
			w.until("it is back", func() bool { return n.ready })
		})
		if w.nodes[ids[1]].b.Image().Broker(n.id) == nil || s.Error != kafka.ErrRequestTimedOut {
			t.Errorf("%v: %s, its registration is %v", s.Error, s.Message, w.nodes[ids[1]].b.Image().Broker(n.id))
		}
	})
	t.Run("cancel", func(t *testing.T) { // it is moved to others meanwhile
		w, ids := movable(t, 2)
		w.nodes[ids[4]].kill()
		w.decideAt(move(ids[3], ids[4]))
		s := w.changeTopic(move(), func() { w.decideAt(move(ids[4])) })
		if p := w.nodes[ids[1]].b.Image().TopicByName("t").Partition(0); s.Error != kafka.ErrRequestTimedOut || !p.IsReplica(ids[4]) {
			t.Errorf("%v: %s, the partition is %+v", s.Error, s.Message, p)
		}
	})
	t.Run("move", func(t *testing.T) { // the same
		w, ids := movable(t, 2)
		s := w.changeTopic(move(ids[3]), func() {
			w.until("moved", func() bool { return !w.nodes[ids[1]].b.Image().TopicByName("t").Partition(0).IsReplica(ids[2]) })
			w.decideAt(move(ids[4]))
		})
		if p := w.nodes[ids[1]].b.Image().TopicByName("t").Partition(0); s.Error != kafka.ErrRequestTimedOut || p.Replicas[0] != ids[4] {
			t.Errorf("%v: %s, the partition is %+v", s.Error, s.Message, p)
		}
	})
	t.Run("config", func(t *testing.T) {
		w, ids := movable(t, 2)
		s := w.changeTopic(setConfig("retention.ms", "1000"), func() { w.decideAt(setConfig("retention.ms", "2000")) })
		if is := w.configAt(ids[1], "retention.ms"); s.Error != kafka.ErrRequestTimedOut || is != "2000" {
			t.Errorf("%v: %s, it is %s", s.Error, s.Message, is)
		}
	})
}

// What follows from one answer cannot be proposed any more, as when the quorum has
// another leader by then: the controller resigns in the midst of its answers.
func TestAControllerThatResignsWhileItAnswersTellsTheOthersSo(t *testing.T) {
	w := newWorld(t, 3)
	_, controllerID := w.follower()
	b := w.nodes[controllerID].b
	var codes []kafka.ErrorCode
	answer := func(now time.Time, _ controller.Response, code kafka.ErrorCode, _ kafka.Offset) {
		codes = append(codes, code)
		if b.active != nil {
			b.resign(now)
		}
	}
	first := b.active.next
	b.active.next += 2
	for i := range controller.Ticket(2) {
		b.active.tickets[first+1+i] = &question{answer}
	}
	b.release(w.now, []controller.Reply{{Ticket: first + 1, Response: controller.RegisterBrokerResult{}}, {Ticket: first + 2, Response: controller.HeartbeatResult{}}}, b.Image().Offset())
	if want := []kafka.ErrorCode{kafka.None, kafka.ErrNotController}; !slices.Equal(codes, want) {
		t.Errorf("answered %v", codes)
	}
}

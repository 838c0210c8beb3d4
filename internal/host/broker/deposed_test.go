package broker

import (
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
)

// A leader that is to go is deposed before it knows. As long as it answers
// clients as the leader, nothing may be committed of which it does not know.
func TestALeaderThatIsToGoTellsNoEndThatIsOver(t *testing.T) {
	for name, goes := range map[string]func(w *world, nodes []*worldNode) (gone func() bool){
		"its node is removed": func(w *world, nodes []*worldNode) func() bool {
			w.place(nodes[1:4]...)
			w.deaf, w.goes = nodes[1].id, nodes[1].id
			return w.ask(nodes[0], controller.UnregisterBroker{Node: nodes[1].id})
		},
		"its node stops": func(w *world, nodes []*worldNode) func() bool {
			w.place(nodes[1:4]...)
			w.deaf = nodes[1].id
			stopped := false
			nodes[1].b.Stop(time.Minute, func(time.Time) { stopped = true })
			return func() bool { return stopped }
		},
		"the move by which it came is cancelled": func(w *world, nodes []*worldNode) func() bool {
			w.place(nodes[2])
			nodes[4].kill() // or the move would be done
			move := controller.Reassignment{TopicPartition: kafka.TopicPartition{Topic: "t"}, Replicas: []kafka.NodeID{nodes[1].id, nodes[4].id}}
			w.until("asked to move", w.ask(nodes[0], controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{move}}))
			w.until("in sync", func() bool { return w.partition().IsInSync(nodes[1].id) })
			w.until("it leads", w.ask(nodes[0], controller.ElectLeaders{Partitions: []kafka.TopicPartition{move.TopicPartition}}))
			w.deaf, move.Replicas = nodes[1].id, nil
			return w.ask(nodes[0], controller.AlterPartitionReassignments{Partitions: []controller.Reassignment{move}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 5)
			first := w.nodes[1].b.Controller()
			nodes := []*worldNode{w.nodes[first]}
			for id := range kafka.NodeID(5) {
				if id+1 != first {
					nodes = append(nodes, w.nodes[id+1])
				}
			}
			gone := goes(w, nodes)
			old := w.replicaOf(nodes[1].id)
			if _, leads := old.Leads(); !leads {
				t.Fatal("it does not lead")
			}
			var p *partition.Partition
			w.until("another leads", func() bool {
				leader := nodes[0].b.Image().TopicByName("t").Partition(0).Leader
				if leader == nodes[1].id || leader == kafka.NoNode {
					return false
				}
				p = w.replicaOf(leader)
				_, leads := p.Leads()
				return leads
			})
			end := kafka.NoOffset
			bd := record.NewBuilder(record.BuilderOptions{})
			bd.Append(w.now.UnixMilli(), []byte("key"), []byte("value"))
			p.Produce(w.now, partition.ProduceRequest{Records: bd.Build(), Acks: -1, Timeout: time.Minute}, func(r partition.ProduceResult) {
				if end = r.BaseOffset + 1; r.Code != kafka.None {
					t.Errorf("not acknowledged: %v", r.Code)
				}
			})
			for range 300 {
				w.step()
				told := old.ListOffsets(w.now, partition.ListOffsetsRequest{Timestamp: kafka.TimestampLatest, ReplicaID: partition.NoReplicaID, CurrentLeaderEpoch: kafka.NoLeaderEpoch})
				if nodes[1].b.MayServe(w.now) && told.Code == kafka.None && told.Offset < end {
					t.Fatalf("node %d tells the end %d, but all before %d was acknowledged", nodes[1].id, told.Offset, end)
				}
			}
			w.deaf = kafka.NoNode
			w.until("acknowledged", func() bool { return end != kafka.NoOffset })
			w.until("gone", gone)
			if state := nodes[0].b.Image().TopicByName("t").Partition(0); state.IsInSync(nodes[1].id) || state.Leader == nodes[1].id || state.Reassigning() {
				t.Errorf("it has not gone: %+v", state)
			}
		})
	}
}

// place makes the topic t with one partition on these nodes, and fills it.
func (w *world) place(nodes ...*worldNode) {
	w.t.Helper()
	var replicas []kafka.NodeID
	for _, n := range nodes {
		replicas = append(replicas, n.id)
	}
	topic := controller.NewTopic{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignment: []controller.Assignment{{Replicas: replicas}}}
	w.until("made", w.ask(nodes[0], controller.CreateTopics{Topics: []controller.NewTopic{topic}}))
	w.produce(3)
}

// ask has a node put a question to the controller, and says whether it was answered.
func (w *world) ask(n *worldNode, req controller.Request) (answered func() bool) {
	done := false
	n.b.Control(w.now, req, time.Minute, func(r controller.Response, code kafka.ErrorCode) {
		var s controller.Status
		switch r := r.(type) {
		case controller.CreateTopicsResult:
			s = r.Topics[0].Status
		case controller.StatusResult:
			s = r.Status
		case controller.AlterPartitionReassignmentsResult:
			s = r.Partitions[0].Status
		case controller.ElectLeadersResult:
			s = r.Partitions[0].Status
		}
		if done = true; code != kafka.None || s.Error != kafka.None {
			w.t.Errorf("%T: %v, %v %s", req, code, s.Error, s.Message)
		}
	})
	return func() bool { return done }
}

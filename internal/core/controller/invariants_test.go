package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

type failer interface {
	Fatalf(format string, args ...any)
}

// checkImage checks what holds of every image that a controller makes.
func checkImage(t failer, m *metadata.Image) {
	for _, topic := range m.Topics() {
		for i, p := range topic.Partitions {
			fail := func(what string) { t.Fatalf("%s-%d %s: %+v", topic.Name, i, what, *p) }
			subset := func(nodes []kafka.NodeID, what string) {
				for k, n := range nodes {
					if !p.IsReplica(n) || slices.Contains(nodes[:k], n) {
						fail(what + " names a node twice or that has no replica")
					}
				}
			}
			subset(p.Replicas, "the list of replicas")
			subset(p.InSync, "the in-sync set")
			subset(p.EligibleLeader, "the eligible set")
			var unfit []kafka.NodeID
			for _, u := range p.Unfit {
				unfit = append(unfit, u.Node)
			}
			subset(unfit, "the list of unfit replicas")
			subset(p.Adding, "the list of joining replicas")
			subset(p.Removing, "the list of leaving replicas")
			switch {
			case len(p.Replicas) == 0:
				fail("has no replicas")
			case (p.Leader == kafka.NoNode) != (len(p.InSync) == 0):
				fail("leads without being in sync, or has nobody lead")
			case p.Leader != kafka.NoNode && !p.IsInSync(p.Leader):
				fail("is led from outside the in-sync set")
			case p.Recovering && len(p.InSync) > 1:
				fail("recovers with followers in sync")
			case p.Leader != kafka.NoNode && p.LastLeader != kafka.NoNode:
				fail("has a leader and remembers its last one")
			}
			for _, n := range p.InSync {
				if !m.Broker(n).Active() {
					fail("has a node in sync that is not active")
				}
				if p.IsUnfit(n) {
					fail("has a node in sync that cannot use its replica")
				}
				if slices.Contains(p.EligibleLeader, n) {
					fail("has a node in sync and eligible")
				}
			}
		}
	}
}

// checkStep checks what holds of two images that follow one another.
func checkStep(t failer, from, to *metadata.Image) {
	for _, topic := range to.Topics() {
		before := from.Topic(topic.ID)
		for i, p := range topic.Partitions {
			old := before.Partition(int32(i))
			if old == nil || old == p {
				continue
			}
			if p.PartitionEpoch <= old.PartitionEpoch || p.LeaderEpoch < old.LeaderEpoch {
				t.Fatalf("%s-%d: epochs go back or stand: %+v then %+v", topic.Name, i, *old, *p)
			}
			if p.Leader != old.Leader && p.LeaderEpoch == old.LeaderEpoch {
				t.Fatalf("%s-%d: two leaders in one leader epoch: %+v then %+v", topic.Name, i, *old, *p)
			}
		}
	}
}

// ledger knows how much of a partition was committed, and how much of that
// each replica has.
type ledger struct {
	committed int
	has       map[kafka.NodeID]int
}

// model checks that no election loses committed records unless it says so.
type model struct {
	t       *rapid.T
	w       *world
	ledgers map[string]*ledger
}

func (m *model) follow(before *metadata.Image) {
	after := m.w.c.Image()
	checkImage(m.t, after)
	checkStep(m.t, before, after)
	for _, topic := range after.Topics() {
		minimum := int(m.w.c.opts.Configs.Topic(after, topic.Name).MinInSync)
		allowed := m.w.c.opts.Configs.Topic(after, topic.Name).UncleanLeaderElection
		for i, p := range topic.Partitions {
			key := fmt.Sprintf("%s-%d", topic.ID, i)
			l := m.ledgers[key]
			if l == nil {
				l = &ledger{has: map[kafka.NodeID]int{}}
				m.ledgers[key] = l
			}
			if p.Leader == kafka.NoNode {
				continue
			}
			old := before.Topic(topic.ID).Partition(int32(i))
			if p.Recovering && old != nil && old.Leader != p.Leader && !old.IsInSync(p.Leader) && !slices.Contains(old.EligibleLeader, p.Leader) {
				lastOnly := old.LastLeader == p.Leader && len(old.EligibleLeader) <= 1
				if !allowed && !lastOnly {
					m.t.Fatalf("%s: an unclean election that nobody allowed: %+v then %+v", key, old, *p)
				}
				l.committed = l.has[p.Leader]
				for n := range l.has {
					l.has[n] = min(l.has[n], l.committed)
				}
			}
			if l.has[p.Leader] < l.committed {
				m.t.Fatalf("%s: node %d leads and lacks committed records (%d of %d): %+v then %+v", key, p.Leader, l.has[p.Leader], l.committed, old, *p)
			}
			// Those in sync were let in by the leader, so they have all that is committed.
			if len(p.InSync) >= min(minimum, len(p.Replicas)) {
				l.committed++
				for _, n := range p.InSync {
					l.has[n] = l.committed
				}
			} else {
				for _, n := range p.InSync {
					l.has[n] = max(l.has[n], l.committed)
				}
			}
		}
	}
}

func (m *model) erase(n kafka.NodeID) {
	for _, l := range m.ledgers {
		delete(l.has, n)
	}
}

// crash takes from a node what it had not synced.
func (m *model) crash(n kafka.NodeID) {
	for _, topic := range m.w.c.Image().Topics() {
		if c := m.w.c.opts.Configs.Topic(m.w.c.Image(), topic.Name); c.FlushEach() {
			continue
		}
		for i := range topic.Partitions {
			l := m.ledgers[fmt.Sprintf("%s-%d", topic.ID, i)]
			l.has[n] = max(0, l.has[n]-1)
		}
	}
}

func TestCommittedRecordsSurviveAnySequenceOfDecisions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, nil, 0)
		m := &model{t: rt, w: w, ledgers: map[string]*ledger{}}
		w.applied = m.follow
		directory, incarnation := map[kafka.NodeID]byte{}, byte(10)
		const last = 5
		for n := kafka.NodeID(1); n <= last; n++ {
			directory[n] = byte(n)
			w.register(n, byte(n), byte(n), []string{"a", "b"}[n%2], true)
			w.beat(n, false)
		}
		next := byte(100)
		node := rapid.Int32Range(1, last)
		drawNode := func() kafka.NodeID { return kafka.NodeID(node.Draw(rt, "node")) }
		drawPartition := func() (*metadata.Topic, int32, *metadata.Partition) {
			topics := w.c.Image().Topics()
			if len(topics) == 0 {
				return nil, 0, nil
			}
			topic := rapid.SampledFrom(topics).Draw(rt, "topic")
			i := rapid.IntRange(0, len(topic.Partitions)-1).Draw(rt, "partition")
			return topic, int32(i), topic.Partitions[i]
		}
		drawNodes := func() []kafka.NodeID {
			list := rapid.SliceOfNDistinct(node, 1, 4, rapid.ID).Draw(rt, "nodes")
			var nodes []kafka.NodeID
			for _, n := range list {
				nodes = append(nodes, kafka.NodeID(n))
			}
			return nodes
		}
		steps := map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				minimum := fmt.Sprint(rapid.IntRange(1, 3).Draw(rt, "min"))
				unclean := fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "unclean") == 0)
				flush := rapid.SampledFrom([]string{"1", "1000"}).Draw(rt, "flush")
				w.decide(CreateTopics{Topics: []NewTopic{{
					Name: fmt.Sprintf("t%d", w.c.Image().TopicCount()), Partitions: int32(rapid.IntRange(1, 3).Draw(rt, "partitions")),
					ReplicationFactor: int16(rapid.IntRange(1, 4).Draw(rt, "factor")),
					Configs:           []ConfigValue{{"min.insync.replicas", &minimum}, {"unclean.leader.election.enable", &unclean}, {"flush.messages", &flush}},
				}}})
			},
			"lost": func(rt *rapid.T) { w.decide(PeerLost{drawNode(), kafka.NoBrokerEpoch}) },
			"beat": func(rt *rapid.T) { w.beat(drawNode(), false) },
			"stop": func(rt *rapid.T) { w.beat(drawNode(), true) },
			"restart": func(rt *rapid.T) {
				n := drawNode()
				incarnation++
				clean := rapid.Bool().Draw(rt, "clean")
				if !clean { // registering it is allowed, for the directory is the same
					m.crash(n)
				}
				w.register(n, directory[n], incarnation, "", clean)
			},
			"new disk": func(rt *rapid.T) {
				n := drawNode()
				w.now = w.now.Add(2 * time.Second) // the session before is over, ticked or not
				incarnation, next = incarnation+1, next+1
				directory[n] = next
				m.erase(n)
				if r := w.register(n, next, incarnation, "", false); r.Error != kafka.None {
					rt.Fatalf("a lost disk is refused: %v", r.Message)
				}
			},
			"unregister": func(rt *rapid.T) { w.decide(UnregisterBroker{Node: drawNode()}) },
			"pass": func(rt *rapid.T) {
				for range rapid.IntRange(1, 15).Draw(rt, "ticks") {
					w.now = w.now.Add(100 * time.Millisecond)
					w.apply(w.c.Tick(w.now))
				}
			},
			"in sync": func(rt *rapid.T) {
				topic, i, p := drawPartition()
				if p == nil || p.Leader == kafka.NoNode {
					return
				}
				change := InSyncChange{Topic: topic.ID, Partition: i, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, InSync: []InSyncMember{{p.Leader, -1}}}
				for _, n := range p.Replicas {
					if b := w.c.Image().Broker(n); n != p.Leader && b.Active() && !p.IsUnfit(n) && rapid.Bool().Draw(rt, "member") {
						change.InSync = append(change.InSync, InSyncMember{n, b.Epoch})
						// Its leader asks because it has caught up.
						l := m.ledgers[fmt.Sprintf("%s-%d", topic.ID, i)]
						l.has[n] = l.committed
					}
				}
				w.decide(AlterPartition{p.Leader, w.c.Image().Broker(p.Leader).Epoch, []InSyncChange{change}})
			},
			"report": func(rt *rapid.T) {
				topic, i, p := drawPartition()
				if p == nil {
					return
				}
				n := rapid.SampledFrom(p.Replicas).Draw(rt, "replica")
				b := w.c.Image().Broker(n)
				if b == nil {
					return
				}
				fitness := metadata.Fitness(rapid.IntRange(int(metadata.Fit), int(metadata.Slow)).Draw(rt, "fitness"))
				l := m.ledgers[fmt.Sprintf("%s-%d", topic.ID, i)]
				if c := w.c.opts.Configs.Topic(w.c.Image(), topic.Name); fitness == metadata.Failed && !c.FlushEach() {
					l.has[n] = max(0, l.has[n]-1)
				}
				r := w.decide(ReportReplicas{n, b.Epoch, []ReplicaReport{{topic.ID, i, fitness, "it was drawn"}}}).(ReportReplicasResult)
				if fitness == metadata.Damaged && r.Replicas[0].Error == kafka.None {
					l.has[n] = 0
				}
			},
			"reassign": func(rt *rapid.T) {
				if topic, i, p := drawPartition(); p != nil {
					r := Reassignment{TopicPartition: kafka.TopicPartition{Topic: topic.Name, Partition: i}, Replicas: drawNodes()}
					if rapid.IntRange(0, 3).Draw(rt, "cancel") == 0 {
						r.Replicas = nil
					}
					w.decide(AlterPartitionReassignments{Partitions: []Reassignment{r}})
				}
			},
			"elect": func(rt *rapid.T) { w.decide(ElectLeaders{}) },
			"minimum": func(rt *rapid.T) {
				topic, _, p := drawPartition()
				if p == nil {
					return
				}
				minimum := fmt.Sprint(rapid.IntRange(1, 3).Draw(rt, "min"))
				w.decide(IncrementalAlterConfigs{Resources: []ResourceChanges{{
					Resource: metadata.ConfigResource{Type: metadata.ResourceTopic, Name: topic.Name},
					Changes:  []ConfigChange{{ConfigValue{"min.insync.replicas", &minimum}, OpSet}},
				}}})
			},
			"failover": func(rt *rapid.T) { w.line("failover") },
		}
		for name, step := range steps {
			steps[name] = func(rt *rapid.T) {
				w.out.Reset()
				step(rt)
			}
		}
		rt.Repeat(steps)
		again, err := metadata.DecodeSnapshot(w.c.Image().EncodeSnapshot(nil))
		if err != nil || !again.Equal(w.c.Image()) {
			rt.Fatalf("the snapshot is another image: %v", err)
		}
	})
}

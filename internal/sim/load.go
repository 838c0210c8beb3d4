package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// load is what the clients do.
type load struct {
	w      *world
	rng    *rand.Rand
	admin  *client
	topics []*topicState

	producers []*producer
	consumers []*consumer
	probe     *prober
	intruder  *intruder
	skim      *skimmer
	committer []*committer
	draining  bool // nothing is produced but what waits
	electNext instant
	made      int
}

func newLoad(w *world) *load { return &load{w: w, rng: w.fork(partLoad)} }

// start makes the first topics, and then the clients that use them.
func (l *load) start() {
	l.admin = l.w.newClient("admin")
	l.probe = newProber(l)
	for range l.w.plan.topics {
		l.createTopic(l.newTopic())
	}
	for i := range l.w.plan.producers {
		l.producers = append(l.producers, newProducer(l, i))
	}
	for i := range l.w.plan.consumers {
		l.consumers = append(l.consumers, newConsumer(l, i))
	}
	for i := range l.w.plan.committers {
		l.committer = append(l.committer, newCommitter(l, i))
	}
	l.w.groups = startGroups(l)
	l.compactOffsets()
	l.intruder = newIntruder(l)
	l.intruder.start()
	l.skim = newSkimmer(l)
	l.skim.start()
	l.probe.start()
	l.adminLater()
	l.trimLater()
	l.configLater()
}

func (l *load) topic(name string, id kafka.TopicID) *topicState {
	for _, t := range l.topics {
		if t.name == name && t.id == id && !t.deleted {
			return t
		}
	}
	return nil
}

// parts are the partitions of all topics that are not deleted.
func (l *load) parts() []*topicPart {
	var out []*topicPart
	for _, t := range l.topics {
		if !t.deleted {
			out = append(out, t.parts...)
		}
	}
	return out
}

// drained says whether all that producers wanted to send is acknowledged.
func (l *load) drained() (bool, string) {
	for _, p := range l.producers {
		for _, ln := range p.lanes {
			if len(ln.pending) > 0 && !ln.part.topic.deleted {
				b := ln.pending[0]
				return false, fmt.Sprintf("%s has %d batches for %s, the first was tried %d times, last result %q", p.c.name, len(ln.pending), ln.part, b.attempts, ln.last)
			}
		}
	}
	return true, ""
}

// adminLater has the administrator do something now and then.
func (l *load) adminLater() {
	if l.w.plan.adminEvery == 0 {
		return
	}
	l.w.after(l.admin.between(l.w.plan.adminEvery/2, 3*l.w.plan.adminEvery/2), func() {
		if l.w.healed {
			return
		}
		l.administer()
		l.adminLater()
	})
}

// trimLater has records deleted, more often than the administrator does else.
func (l *load) trimLater() {
	if l.w.plan.trimEvery == 0 {
		return
	}
	l.w.after(l.admin.between(l.w.plan.trimEvery/2, 3*l.w.plan.trimEvery/2), func() {
		if !l.w.healed {
			l.trim(l.parts())
			l.trimLater()
		}
	})
}

// configLater has configs changed, more often than the administrator does else.
func (l *load) configLater() {
	if l.w.plan.configEvery == 0 {
		return
	}
	l.w.after(l.admin.between(l.w.plan.configEvery/2, 3*l.w.plan.configEvery/2), func() {
		if parts := l.parts(); len(parts) > 0 && !l.w.healed {
			l.alterConfig(parts[l.rng.IntN(len(parts))].topic)
		}
		l.configLater()
	})
}

func (l *load) administer() {
	parts := l.parts()
	if len(parts) == 0 {
		return
	}
	p := parts[l.rng.IntN(len(parts))]
	switch l.rng.IntN(12) {
	case 0:
		if len(l.topics) < 12 {
			t := l.newTopic()
			if t.passing = l.rng.IntN(2) == 0; t.passing {
				t.name, t.again = fmt.Sprintf("again%d", l.made), true
			}
			l.createTopic(t)
		}
	case 1, 2:
		if len(parts) > len(p.topic.parts) {
			l.deleteTopic(p.topic)
		}
	case 3, 4:
		l.reassign(p)
	case 5:
		l.addPartition(p.topic)
	case 6, 7, 8:
		l.trim(parts)
	case 9:
		l.reassign(p)
		// Soon it is to be otherwise again.
		l.w.after(l.admin.between(millisecond, second), func() {
			if !l.w.healed && !p.topic.deleted {
				l.reassign(p)
			}
		})
	default:
		l.electPreferred()
	}
}

// reassign moves a partition to other nodes; with some luck it is forgotten or
// replaced half way by the next one.
func (l *load) reassign(p *topicPart) {
	var nodes []int32
	order := l.rng.Perm(len(l.w.nodes))[:l.factor(p.topic)]
	if l.rng.IntN(5) > 0 { // else: cancel what is under way
		for _, i := range order {
			nodes = append(nodes, int32(l.w.nodes[i].id))
		}
	}
	l.reassignTo(p, nodes)
}

// reassignTo moves a partition to nodes, of which the first is preferred as its
// leader; none: what is under way is cancelled.
func (l *load) reassignTo(p *topicPart, nodes []int32) {
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.TimeoutMillis = 5000
	rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	rt.Topic = p.topic.name
	rp := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	rp.Partition = p.number
	if len(nodes) > 0 {
		rp.Replicas = nodes
		p.topic.factors = append(p.topic.factors, len(nodes))
		p.moves++
	} else {
		p.cancelled = true
	}
	if p.moves > 1 && p.cancelled {
		// Who was to join by a move that another one has replaced is among those that
		// leave by that. As in Kafka, whoever was to leave stays when it is cancelled.
		for n := p.topic.rf + 1; n <= len(l.w.nodes); n++ {
			p.topic.factors = append(p.topic.factors, n)
		}
	}
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	t := p.topic
	t.loose++
	l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(r kmsg.Response, err error) {
		if err == nil && kafka.ErrorCode(r.(*kmsg.AlterPartitionAssignmentsResponse).ErrorCode) == kafka.None {
			t.loose--
		}
	})
}

// factor is how many replicas a partition is to have when it is moved: mostly
// as many as it was made with, at times one more or one less. Where damage is
// done the good copies must not be the ones to go.
func (l *load) factor(t *topicState) int {
	if l.w.plan.mayLoseDisk || l.w.flips.wanted || l.rng.IntN(3) > 0 {
		return t.rf
	}
	return min(max(t.rf-1+2*l.rng.IntN(2), t.minSync), len(l.w.nodes))
}

func (l *load) electPreferred() {
	req := kmsg.NewPtrElectLeadersRequest()
	req.Version, req.TimeoutMillis = 2, 5000
	l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(kmsg.Response, error) {})
}

// electLost has the operator give a partition any leader of which nothing was
// ever committed, and whose only replica in sync went with its node's disk: it was
// made when its other nodes were away, and nobody knew of it when the disk was lost.
func (l *load) electLost() {
	image := l.w.check.newestImage()
	if image == nil || l.w.now < l.electNext || !l.w.plan.mayLoseDisk {
		return
	}
	l.electNext = l.w.now + 2*second
	for _, p := range l.parts() {
		state := image.Topic(p.topic.id).Partition(p.number)
		if state == nil || state.Leader != kafka.NoNode || len(state.InSync)+len(state.EligibleLeader) > 0 || p.highest > 0 ||
			!slices.ContainsFunc(state.Replicas, func(id kafka.NodeID) bool { return l.w.nodes[id-1].wiped }) {
			continue
		}
		p.givenUp = true
		req := kmsg.NewPtrElectLeadersRequest()
		req.Version, req.TimeoutMillis, req.ElectionType = 2, 5000, 1
		req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: p.topic.name, Partitions: []int32{p.number}}}
		l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(kmsg.Response, error) {})
	}
}

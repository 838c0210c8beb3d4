package sim

import (
	"fmt"
	"math/rand/v2"

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
	committer []*committer
	draining  bool // nothing is produced but what waits
	made      int
}

// topicState is a topic as the clients know it.
type topicState struct {
	name    string
	id      kafka.TopicID
	parts   []*topicPart
	rf      int
	minSync int
	deleted bool // its deletion was asked for
}

// topicPart is a partition of it, and what the checkers know of it.
type topicPart struct {
	topic  *topicState
	number int32
	history
}

func (p *topicPart) String() string { return fmt.Sprintf("%s-%d", p.topic.name, p.number) }

func newLoad(w *world) *load { return &load{w: w, rng: w.fork(partLoad)} }

// start makes the first topics, and then the clients that use them.
func (l *load) start() {
	l.admin = l.w.newClient("admin")
	l.probe = newProber(l)
	for range l.w.plan.topics {
		l.createTopic(func() {})
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
	l.probe.start()
	l.adminLater()
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

// createTopic asks for a topic until there is one.
func (l *load) createTopic(then func()) {
	l.made++
	t := &topicState{name: fmt.Sprintf("t%d", l.made), rf: min(l.w.plan.replicas, len(l.w.nodes)), minSync: l.w.plan.minSync}
	partitions := l.w.plan.partitions
	if l.rng.IntN(4) == 0 && !l.w.plan.mayLoseDisk {
		t.rf = 1 + l.rng.IntN(t.rf)
	}
	t.minSync = min(t.minSync, t.rf)
	var ask func()
	ask = func() {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.TimeoutMillis = 7, 5000
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.name, partitions, int16(t.rf)
		set := func(name, value string) {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = name, &value
			rt.Configs = append(rt.Configs, c)
		}
		set("min.insync.replicas", fmt.Sprint(t.minSync))
		if l.w.plan.segmentBytes > 0 {
			set("internal.segment.bytes", fmt.Sprint(l.w.plan.segmentBytes))
		}
		req.Topics = append(req.Topics, rt)
		l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(r kmsg.Response, err error) {
			retry := func() { l.w.after(l.admin.between(50*millisecond, 500*millisecond), ask) }
			if err != nil {
				retry()
				return
			}
			got := r.(*kmsg.CreateTopicsResponse).Topics[0]
			switch code := kafka.ErrorCode(got.ErrorCode); code {
			case kafka.None:
				t.id = got.TopicID
				l.created(t, int(partitions))
				then()
			case kafka.ErrTopicAlreadyExists: // an earlier answer was lost
				l.lookUp(t, int(partitions), then)
			case kafka.ErrInvalidReplicationFactor, kafka.ErrRequestTimedOut, kafka.ErrNotController,
				kafka.ErrCoordinatorNotAvailable, kafka.ErrBrokerNotAvailable:
				retry()
			default:
				l.w.violate("a topic can be made", "%s: %v", t.name, code)
			}
		})
	}
	l.w.after(0, ask)
}

// lookUp finds the id of a topic that is there.
func (l *load) lookUp(t *topicState, partitions int, then func()) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &t.name
	req.Topics = append(req.Topics, mt)
	l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 2*second, func(r kmsg.Response, err error) {
		if err == nil {
			if got := r.(*kmsg.MetadataResponse).Topics[0]; got.ErrorCode == 0 {
				t.id = got.TopicID
				l.created(t, partitions)
				then()
				return
			}
		}
		l.w.after(200*millisecond, func() { l.lookUp(t, partitions, then) })
	})
}

func (l *load) created(t *topicState, partitions int) {
	l.topics = append(l.topics, t)
	for i := range partitions {
		t.parts = append(t.parts, &topicPart{topic: t, number: int32(i)})
	}
	for _, p := range l.producers {
		p.take(t)
	}
	for _, c := range l.consumers {
		c.take(t)
	}
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

func (l *load) administer() {
	parts := l.parts()
	if len(parts) == 0 {
		return
	}
	p := parts[l.rng.IntN(len(parts))]
	switch l.rng.IntN(8) {
	case 0:
		if len(l.topics) < 12 {
			l.createTopic(func() {})
		}
	case 1:
		if len(parts) > len(p.topic.parts) {
			l.deleteTopic(p.topic)
		}
	case 2, 3, 4:
		l.reassign(p)
	default:
		l.electPreferred()
	}
}

func (l *load) deleteTopic(t *topicState) {
	t.deleted = true
	var ask func()
	ask = func() {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TimeoutMillis = 6, 5000
		rt := kmsg.NewDeleteTopicsRequestTopic()
		rt.TopicID = t.id
		req.Topics = append(req.Topics, rt)
		l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(r kmsg.Response, err error) {
			if err == nil {
				code := kafka.ErrorCode(r.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
				if code == kafka.None || code == kafka.ErrUnknownTopicID {
					return
				}
			}
			l.w.after(300*millisecond, ask)
		})
	}
	ask()
}

// reassign moves a partition to other nodes; with some luck it is forgotten or
// replaced half way by the next one.
func (l *load) reassign(p *topicPart) {
	order := l.rng.Perm(len(l.w.nodes))[:p.topic.rf]
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	req.TimeoutMillis = 5000
	rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	rt.Topic = p.topic.name
	rp := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	rp.Partition = p.number
	if l.rng.IntN(5) > 0 { // else: cancel what is under way
		for _, i := range order {
			rp.Replicas = append(rp.Replicas, int32(l.w.nodes[i].id))
		}
	}
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(kmsg.Response, error) {})
}

func (l *load) electPreferred() {
	req := kmsg.NewPtrElectLeadersRequest()
	req.Version, req.TimeoutMillis = 2, 5000
	l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(kmsg.Response, error) {})
}

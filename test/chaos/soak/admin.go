package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/chaos/cluster"
	"chronik/test/chaos/traffic"
)

// fate is what an administrator knows of a topic that it made.
type fate int8

const (
	uncertain fate = iota
	exists
	deleted
)

// administrator makes and deletes topics, moves replicas, and elects leaders.
type administrator struct {
	w      *workload
	rng    *rand.Rand
	client *kadm.Client
	topics map[string]fate
	ids    map[string][16]byte // of those whose creation was answered
	made   int
	done   map[string]int
}

func newAdministrator(w *workload) *administrator {
	return &administrator{w: w, rng: rand.New(rand.NewPCG(w.r.opts.seed, 2)), client: w.r.admin, topics: map[string]fate{}, ids: map[string][16]byte{}, done: map[string]int{}}
}

func (a *administrator) work(ctx context.Context) {
	type task struct {
		name string
		do   func(context.Context) error
	}
	tasks := []task{{"create", a.create}, {"delete", a.remove}, {"reassign", a.reassign}, {"reassign", a.reassign},
		{"cancel", a.cancel}, {"elect", a.elect}, {"config", a.config}}
	for ctx.Err() == nil {
		t := tasks[a.rng.IntN(len(tasks))]
		one, cancel := context.WithTimeout(ctx, 8*time.Second)
		err := t.do(one)
		cancel()
		if err == nil {
			a.done[t.name]++
			a.w.ops.Add(1)
		}
		pause(ctx, time.Duration(300+a.rng.IntN(1500))*time.Millisecond)
	}
}

func (a *administrator) create(ctx context.Context) error {
	name := fmt.Sprintf("made-%d", a.made)
	a.made++
	a.topics[name] = uncertain
	resp, err := a.client.CreateTopic(ctx, int32(1+a.rng.IntN(3)), 3, nil, name)
	if err != nil || resp.Err != nil {
		return errors.Join(err, resp.Err)
	}
	a.topics[name], a.ids[name] = exists, resp.ID
	a.w.r.mu.Lock()
	quiet := a.w.r.quiet
	a.w.r.mu.Unlock()
	if quiet {
		// Every node that can be reached knows it as soon as the answer is there.
		for _, n := range a.w.r.c.Nodes {
			if known, err := knows(n, name); err == nil && !known {
				a.w.r.violated("topic-unknown", "node %d does not know %s after its creation was answered", n.ID, name)
			}
		}
	}
	return nil
}

func (a *administrator) remove(ctx context.Context) error {
	for name, is := range a.topics {
		if is != exists {
			continue
		}
		a.topics[name] = uncertain
		resp, err := a.client.DeleteTopics(ctx, name)
		if err != nil || resp[name].Err != nil {
			return errors.Join(err, resp[name].Err)
		}
		a.topics[name] = deleted
		return nil
	}
	return errNotNow
}

// movable draws a partition whose replicas may be moved.
func (a *administrator) movable() (string, int32) {
	var list []topic
	for _, t := range a.w.topics {
		if t.moved {
			list = append(list, t)
		}
	}
	t := list[a.rng.IntN(len(list))]
	return t.name, int32(a.rng.IntN(int(t.partitions)))
}

// reassign moves a partition to other replicas, or to fewer.
func (a *administrator) reassign(ctx context.Context) error {
	topic, partition := a.movable()
	var nodes []int32
	for _, i := range a.rng.Perm(len(a.w.r.c.Nodes)) {
		nodes = append(nodes, int32(i+1))
	}
	replicas := nodes[:2+a.rng.IntN(2)]
	var req kadm.AlterPartitionAssignmentsReq
	req.Assign(topic, partition, replicas)
	resp, err := a.client.AlterPartitionAssignments(ctx, req)
	return errors.Join(err, resp.Error())
}

func (a *administrator) cancel(ctx context.Context) error {
	topic, partition := a.movable()
	var req kadm.AlterPartitionAssignmentsReq
	req.CancelAssign(topic, partition)
	resp, err := a.client.AlterPartitionAssignments(ctx, req)
	return errors.Join(err, resp.Error())
}

// three gives all moved partitions three replicas again.
func (a *administrator) three(ctx context.Context) error {
	var req kadm.AlterPartitionAssignmentsReq
	for _, t := range a.w.topics {
		for p := range t.partitions {
			if t.moved {
				req.Assign(t.name, p, []int32{1, 2, 3})
			}
		}
	}
	resp, err := a.client.AlterPartitionAssignments(ctx, req)
	return errors.Join(err, resp.Error())
}

func (a *administrator) elect(ctx context.Context) error {
	var set kadm.TopicsSet
	for _, t := range a.w.topics {
		for p := range t.partitions {
			set.Add(t.name, p)
		}
	}
	_, err := a.client.ElectLeaders(ctx, kadm.ElectPreferredReplica, set)
	return err
}

func (a *administrator) config(ctx context.Context) error {
	value := fmt.Sprint(100+a.rng.IntN(100)) + "000000"
	topic := a.w.topics[a.rng.IntN(len(a.w.topics))].name
	resp, err := a.client.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "segment.ms", Value: &value}}, topic)
	for _, r := range resp {
		err = errors.Join(err, r.Err)
	}
	return err
}

// check asks every node for every topic that was ever made. A client whose
// connection is lost asks again, and the node that has got its first request may
// carry that out late, as Kafka's do: one of a deleted name is another topic
// then, with another id.
func (a *administrator) check() {
	for _, n := range a.w.r.c.Nodes {
		known, err := topicsOf(n)
		if err != nil {
			a.w.r.violated("metadata", "node %d: %v", n.ID, err)
			continue
		}
		for name, is := range a.topics {
			switch id, has := known[name]; {
			case is == exists && !has:
				a.w.r.violated("topic-lost", "node %d does not know %s, whose creation was acknowledged", n.ID, name)
			case is == deleted && has && id == a.ids[name]:
				a.w.r.violated("topic-came-back", "node %d knows %s, whose deletion was acknowledged", n.ID, name)
			}
		}
	}
}

func topicsOf(n *cluster.Node) (map[string][16]byte, error) {
	c, err := traffic.Dial(n.Kafka, 3*time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 12, nil
	resp, err := c.Request(req)
	if err != nil {
		return nil, err
	}
	ids := make(map[string][16]byte)
	for _, t := range resp.(*kmsg.MetadataResponse).Topics {
		if t.ErrorCode == 0 {
			ids[*t.Topic] = t.TopicID
		}
	}
	return ids, nil
}

func knows(n *cluster.Node, topic string) (bool, error) {
	c, err := traffic.Dial(n.Kafka, time.Second)
	if err != nil {
		return false, err
	}
	defer c.Close()
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 9, false
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	resp, err := c.Request(req)
	if err != nil {
		return false, err
	}
	code := resp.(*kmsg.MetadataResponse).Topics[0].ErrorCode
	return code != kerr.UnknownTopicOrPartition.Code, nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const (
	failoverTopic = "failover"
	failoverWarm  = time.Second
	// A client with defaults does not ask again who leads within 5 s, and asks
	// twice after a fault. One that has just asked would only wait for that.
	failoverWarmDefault = 11 * time.Second
	failoverWait        = 60 * time.Second
)

// failoverRun is one cluster and the load on it.
type failoverRun struct {
	cluster  *localCluster
	network  *network // nil unless nodes are cut off
	admin    *administrator
	client   *kgo.Client
	parts    []failoverPart
	interval time.Duration
	count    int
	seen     *timeline
	warm     time.Duration // of load before a fault
}

// failoverPart is what is known of one partition's records: their values count
// up from 0.
type failoverPart struct {
	mu      sync.Mutex
	next    uint64
	acked   []uint64
	failed  int
	last    time.Time     // of the last ack
	sent    time.Time     // when the last record acked was sent
	gap     time.Duration // the longest between two acks since it was reset
	wait    time.Duration // the longest of a record for its ack since then
	waitEnd time.Time     // of that
}

func (r *failoverRun) open(ctx context.Context, dir string, log io.Writer, flags []string, fault string, quick bool) error {
	var err error
	if r.cluster, err = newLocalCluster(3, dir, "127.0.0.1:0", "127.0.0.1:0", "", flags, log); err != nil {
		return err
	}
	r.cluster.watch = r.seen.line
	if fault == "cut" {
		r.network = newNetwork()
		for _, n := range r.cluster.nodes {
			if n.kafkaFront, err = r.network.front(n.id, n.kafka, false); err != nil {
				return err
			}
			if n.peerFront, err = r.network.front(n.id, n.peer, true); err != nil {
				return err
			}
		}
	}
	starting, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	if err := r.cluster.startAll(starting); err != nil {
		return err
	}
	seeds := strings.Split(r.cluster.bootstrap(), ",")
	options := []kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.DefaultProduceTopic(failoverTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(1_000_000),
	}
	if quick {
		options = append(options, quickClient()...)
	}
	if quick && (fault == "cut" || fault == "stop") {
		options = append(options, impatient()...)
	}
	if r.client, err = kgo.NewClient(options...); err != nil {
		return err
	}
	raw, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		return err
	}
	r.admin = &administrator{kadm.NewClient(raw), raw}
	return nil
}

// quickClient has a client give up early and ask again soon.
func quickClient() []kgo.Opt {
	return []kgo.Opt{
		kgo.ProducerLinger(0), kgo.MetadataMinAge(20 * time.Millisecond), kgo.ProduceRequestTimeout(200 * time.Millisecond),
		kgo.RequestTimeoutOverhead(200 * time.Millisecond), kgo.DialTimeout(200 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}
}

// impatient has a quick client give up on a silent node sooner still, and ask no
// new connection for the versions that the broker knows. A silent node does not
// answer that either, and franz-go waits for it once for each request that it
// had in flight, one after the other. It forgets leader epochs then, and must
// not get any by KIP-951: it would take all metadata for older.
func impatient() []kgo.Opt {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.ApiVersions), -1)
	versions.SetMaxKeyVersion(int16(kmsg.Produce), 9)
	return []kgo.Opt{
		kgo.MaxVersions(versions), kgo.ProduceRequestTimeout(100 * time.Millisecond),
		kgo.RequestTimeoutOverhead(100 * time.Millisecond), kgo.DialTimeout(100 * time.Millisecond),
	}
}

func (r *failoverRun) close() {
	if r.client != nil {
		r.client.Close()
		r.admin.raw.Close()
	}
	if r.cluster != nil {
		r.cluster.stopAll(3 * time.Second)
	}
	if r.network != nil {
		r.network.close()
	}
}

// createTopic places the leaders so that the victims are what they are called.
func (r *failoverRun) createTopic(ctx context.Context, victim string) error {
	controller, err := r.controller(ctx)
	if err != nil {
		return err
	}
	request := kmsg.NewPtrCreateTopicsRequest()
	request.TimeoutMillis = 30_000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = failoverTopic, -1, -1
	config := kmsg.NewCreateTopicsRequestTopicConfig()
	config.Name, config.Value = "min.insync.replicas", kmsg.StringPtr("2")
	topic.Configs = append(topic.Configs, config)
	for p := range r.count {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition = int32(p)
		for i := range int32(3) {
			a.Replicas = append(a.Replicas, 1+(int32(p)+i)%3)
		}
		if r.count == 1 {
			first := r.first(victim, controller)
			a.Replicas = []int32{first, first%3 + 1, (first+1)%3 + 1}
		}
		topic.ReplicaAssignment = append(topic.ReplicaAssignment, a)
	}
	request.Topics = append(request.Topics, topic)
	response, err := kmsgRequest[*kmsg.CreateTopicsResponse](ctx, r.admin, request)
	if err == nil {
		err = kerr.ErrorForCode(response.Topics[0].ErrorCode)
	}
	return err
}

// first is the node that is to lead a partition that is the only one.
func (r *failoverRun) first(victim string, controller int32) int32 {
	if victim == "both" {
		return controller
	}
	return controller%3 + 1
}

// arrange has the only partition led by a node: the controller is another one
// after each trial.
func (r *failoverRun) arrange(ctx context.Context, first int32) error {
	topics, err := r.admin.ListTopics(ctx, failoverTopic)
	if err != nil {
		return err
	}
	if replicas := topics[failoverTopic].Partitions[0].Replicas; len(replicas) > 0 && replicas[0] == first {
		return nil
	}
	var request kadm.AlterPartitionAssignmentsReq
	request.Assign(failoverTopic, 0, []int32{first, first%3 + 1, (first+1)%3 + 1})
	answers, err := r.admin.AlterPartitionAssignments(ctx, request)
	if err == nil {
		err = answers.Error()
	}
	if err != nil {
		return fmt.Errorf("have node %d lead: %w", first, err)
	}
	return r.settle(ctx)
}

// controller is the node that leads the metadata quorum.
func (r *failoverRun) controller(ctx context.Context) (int32, error) {
	ctx, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	for {
		s, err := readClusterStatus(ctx, r.admin, "")
		if err == nil && s.Controller > 0 {
			return s.Controller, nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return -1, context.Canceled
			}
			return -1, fmt.Errorf("there is no controller after %v: %w", failoverWait, cmp.Or(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settle waits until all replicas are in sync, and has preferred leaders lead.
func (r *failoverRun) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, failoverWait)
	defer cancel()
	if err := r.cluster.ready(ctx, 0); err != nil {
		return err
	}
	for {
		preferred := true
		topics, err := r.admin.ListTopics(ctx, failoverTopic)
		whole := err == nil && len(topics[failoverTopic].Partitions) == r.count
		for _, p := range topics[failoverTopic].Partitions {
			whole = whole && p.Err == nil && len(p.ISR) == 3
			preferred = preferred && p.Leader == p.Replicas[0]
		}
		if whole && preferred {
			return nil
		}
		if whole {
			r.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, nil) //nolint:errcheck // asked again below
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return context.Canceled
			}
			return fmt.Errorf("the replicas are not in sync again after %v", failoverWait)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

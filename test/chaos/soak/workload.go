package soak

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"chronik/test/chaos/history"
	"chronik/test/chaos/netns"
	"chronik/test/chaos/traffic"
)

// topic is one that the workload writes to for the whole run.
type topic struct {
	name       string
	partitions int32
	moved      bool // its replicas are moved about
	raw        bool // written by plain producers, which never send again
	weak       bool // with acks=1: what was acknowledged may be lost
}

func (t topic) promise() history.Promise {
	// What a plain producer gave up on may still arrive, after what it sent later.
	return history.Promise{Once: true, Ordered: !t.raw}
}

// workload is all clients of a run.
type workload struct {
	r      *run
	topics []topic
	loads  []*traffic.Load
	groups []*group
	stop   context.CancelFunc // of all but the producers and the groups
	wg     sync.WaitGroup
	polled atomic.Int64 // records read by consumers without a group
	ops    atomic.Int64 // requests of administrators, watchers and committers that were answered
	admin  *administrator
}

func newWorkload(r *run) *workload {
	return &workload{r: r, topics: []topic{
		{name: "ordered", partitions: 3},
		{name: "moved", partitions: 2, moved: true},
		{name: "plain", partitions: 2, raw: true, moved: true},
		{name: "weak", partitions: 1, raw: true, weak: true},
	}}
}

// start makes the topics and starts all clients.
func (w *workload) start(ctx context.Context) error {
	two, small := "2", "1048576"
	for _, t := range w.topics {
		if _, err := w.r.admin.CreateTopic(ctx, t.partitions, 3, map[string]*string{"min.insync.replicas": &two, "segment.bytes": &small}, t.name); err != nil {
			return fmt.Errorf("create topic %s: %w", t.name, err)
		}
	}
	ctx, w.stop = context.WithCancel(ctx)
	addresses := w.r.c.Addresses()
	for _, t := range w.topics {
		for p := range t.partitions {
			o := traffic.LoadOptions{Topic: t.name, First: p, Partitions: 1, InFlightMax: 50, Pause: 8 * time.Millisecond, Acks: -1}
			if t.weak {
				o.Acks = 1
			}
			if t.raw {
				w.loads = append(w.loads, traffic.StartRaw(addresses, &w.r.h, o))
				continue
			}
			load, err := traffic.StartIdempotent(addresses, &w.r.h, o)
			if err != nil {
				return err
			}
			w.loads = append(w.loads, load)
		}
	}
	for _, g := range []*group{newGroup(w.r, "classic", false), newGroup(w.r, "modern", true)} {
		w.groups = append(w.groups, g)
		if err := g.start(); err != nil {
			return err
		}
	}
	w.wg.Go(func() { w.consume(ctx) })
	w.wg.Go(func() { w.watchEnds(ctx) })
	for i := range 3 {
		w.wg.Go(func() { w.commit(ctx, fmt.Sprintf("ledger-%d", i)) })
	}
	w.admin = newAdministrator(w)
	w.wg.Go(func() { w.admin.work(ctx) })
	return nil
}

// names are those of the topics written to.
func (w *workload) names() []string {
	var names []string
	for _, t := range w.topics {
		names = append(names, t.name)
	}
	return names
}

// moves says whether a topic's replicas are moved about.
func (w *workload) moves(name string) bool {
	return slices.ContainsFunc(w.topics, func(t topic) bool { return t.name == name && t.moved })
}

// consume reads all topics without a group, again and again from their starts.
func (w *workload) consume(ctx context.Context) {
	for ctx.Err() == nil {
		client, err := kgo.NewClient(append(traffic.ClientOptions(w.r.c.Addresses()), kgo.ConsumeTopics(w.names()...),
			kgo.FetchMaxWait(300*time.Millisecond), kgo.MetadataMaxAge(time.Second))...)
		if err != nil {
			w.r.violated("harness", "consumer: %v", err)
			return
		}
		session, cancel := context.WithTimeout(ctx, 20*time.Second)
		read := map[history.Place][]history.Record{}
		for session.Err() == nil {
			client.PollFetches(session).EachRecord(func(rec *kgo.Record) { w.took(read, rec) })
		}
		cancel()
		client.Close()
		for place, records := range read {
			w.polled.Add(int64(len(records)))
			w.r.h.Saw(history.Read{Place: place, Records: records})
		}
	}
}

func (w *workload) took(read map[history.Place][]history.Record, rec *kgo.Record) {
	place := history.Place{Topic: rec.Topic, Partition: rec.Partition}
	id, err := traffic.Identify(rec.Value)
	if err != nil {
		w.r.violated("wrong-bytes", "%v offset %d: %v", place, rec.Offset, err)
		return
	}
	read[place] = append(read[place], history.Record{Offset: rec.Offset, ID: id})
}

// watchEnds asks every node in turn for the ends of all partitions.
func (w *workload) watchEnds(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		n := w.r.c.Nodes[i%len(w.r.c.Nodes)]
		c, err := traffic.Dial(n.Kafka, time.Second)
		if err != nil {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		for _, t := range w.topics {
			for p := range t.partitions {
				begin := time.Now()
				end, err := c.End(t.name, p)
				if err != nil {
					continue // it does not lead, or does not know
				}
				w.ops.Add(1)
				w.r.h.Watched(history.Watch{Kind: history.HighWatermark, Key: fmt.Sprint(history.Place{Topic: t.name, Partition: p}),
					From: fmt.Sprintf("node %d", n.ID), Begin: begin, End: time.Now(), Value: end})
			}
		}
		c.Close()
		pause(ctx, 100*time.Millisecond)
	}
}

// dialAbruptly is for clients whose requests must not arrive after they gave
// up on them: closing their connections throws away what was not sent yet.
func dialAbruptly(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := netns.DialContext(ctx, network, address)
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		err = tcp.SetLinger(0)
	}
	return c, err
}

// commit commits ascending offsets for a group without members, and reads them
// back from every node.
func (w *workload) commit(ctx context.Context, name string) {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.OffsetCommit), 9)
	versions.SetMaxKeyVersion(int16(kmsg.OffsetFetch), 9)
	client, err := kgo.NewClient(append(traffic.ClientOptions(w.r.c.Addresses()), kgo.Dialer(dialAbruptly), kgo.MaxVersions(versions))...)
	if err != nil {
		w.r.violated("harness", "committer: %v", err)
		return
	}
	defer client.Close()
	w.wg.Go(func() { w.readCommitted(ctx, name) })
	for next := int64(1); ctx.Err() == nil; next++ {
		for ctx.Err() == nil {
			req := kmsg.NewPtrOffsetCommitRequest()
			req.Group, req.Generation = name, -1
			rt := kmsg.NewOffsetCommitRequestTopic()
			rt.Topic = "ordered"
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Offset = next
			rt.Partitions = append(rt.Partitions, rp)
			req.Topics = append(req.Topics, rt)
			begin := time.Now()
			one, cancel := context.WithTimeout(ctx, 3*time.Second)
			resp, err := req.RequestWith(one, client)
			cancel()
			if err == nil && resp.Topics[0].Partitions[0].ErrorCode == 0 {
				w.watchedCommit(name, "an acknowledged commit", begin, next)
				break
			}
			pause(ctx, 20*time.Millisecond)
		}
		pause(ctx, 30*time.Millisecond)
	}
}

func (w *workload) watchedCommit(name, from string, begin time.Time, offset int64) {
	w.ops.Add(1)
	w.r.h.Watched(history.Watch{Kind: history.CommittedOffset, Key: name, From: from, Begin: begin, End: time.Now(), Value: offset})
}

// readCommitted asks every node for a group's offset, whether it coordinates
// the group or not.
func (w *workload) readCommitted(ctx context.Context, name string) {
	for i := 0; ctx.Err() == nil; i++ {
		n := w.r.c.Nodes[i%len(w.r.c.Nodes)]
		begin := time.Now()
		if offset, err := fetchOffset(n.Kafka, name); err == nil {
			w.watchedCommit(name, "node "+strconv.Itoa(n.ID), begin, offset)
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func fetchOffset(address, group string) (int64, error) {
	c, err := traffic.Dial(address, time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 7
	req.Group = group
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = "ordered", []int32{0}
	req.Topics = append(req.Topics, rt)
	resp, err := c.Request(req)
	if err != nil {
		return 0, err
	}
	f := resp.(*kmsg.OffsetFetchResponse)
	if err := kerr.ErrorForCode(f.ErrorCode); err != nil {
		return 0, err
	}
	p := f.Topics[0].Partitions[0]
	return p.Offset, kerr.ErrorForCode(p.ErrorCode)
}

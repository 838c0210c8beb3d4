package partition

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/core/replica"
	"chronik/internal/core/throttle"
	"chronik/internal/format/record"
	"chronik/internal/host/peer"
	"chronik/internal/storage/wal"
)

// cluster is a set of nodes with one partition each, in one goroutine.
type cluster struct {
	t     testing.TB
	now   time.Time
	nodes []*node
	queue []frame
	timer []timer
	auto  bool // syncs run as they are scheduled
	cut   map[kafka.NodeID]bool
}

type frame struct {
	from, to kafka.NodeID
	bytes    []byte
}

type timer struct {
	at time.Time
	fn func(time.Time)
}

// node is the Env of a partition.
type node struct {
	c       *cluster
	id      kafka.NodeID
	fs      vfs.FS
	p       *Partition
	config  TopicConfig
	log     *slog.Logger
	epoch   kafka.BrokerEpoch
	mu      sync.Mutex
	pending int // syncs asked for
	changes []replica.InSyncChange
	failed  error
	damaged []*wal.CorruptError
	slow    time.Duration
	limit   *throttle.Bucket
}

func newCluster(t testing.TB, nodes int, config TopicConfig) *cluster {
	c := &cluster{t: t, now: time.UnixMilli(1_700_000_000_000), auto: true, cut: map[kafka.NodeID]bool{}}
	for i := range nodes {
		n := &node{c: c, id: kafka.NodeID(i + 1), fs: vfs.NewMem(), config: config, epoch: 1}
		c.nodes = append(c.nodes, n)
		n.open()
	}
	return c
}

func (n *node) open() {
	n.c.t.Helper()
	p, _, err := n.tryOpen()
	if err != nil {
		n.c.t.Fatal(err)
	}
	n.p = p
}

func (n *node) tryOpen() (*Partition, Recovery, error) {
	return Open(n.c.now, n.fs, filepath.Join("wal", "partitions", "t-0"), Options{Node: n.id, BrokerEpoch: n.epoch, Topic: "t", TopicID: kafka.TopicID{1}, Config: n.config, Log: n.log}, n)
}

func (n *node) Send(p *Partition, m *replica.Message) {
	b := peer.Encode(nil, p.TopicID(), p.Number(), m)
	n.c.queue = append(n.c.queue, frame{n.id, m.To, b})
}

func (n *node) ScheduleSync(p *Partition) {
	if n.c.auto {
		p.RunSync(n.c.now)
		return
	}
	n.mu.Lock()
	n.pending++
	n.mu.Unlock()
}

func (n *node) RequestInSync(_ *Partition, change replica.InSyncChange) {
	n.changes = append(n.changes, change)
}
func (n *node) At(t time.Time, fn func(time.Time))        { n.c.timer = append(n.c.timer, timer{t, fn}) }
func (n *node) Failed(_ *Partition, err error)            { n.failed = err }
func (n *node) Damaged(_ *Partition, d *wal.CorruptError) { n.damaged = append(n.damaged, d) }
func (n *node) Admit(now time.Time, l Limits, want int) (int, time.Duration) {
	if n.limit == nil {
		return want, 0
	}
	if wait := n.limit.Wait(now); wait > 0 {
		return 0, wait
	}
	n.limit.Take(now, want)
	return want, 0
}
func (n *node) Sent(now time.Time, _ Limits, more int) {
	if n.limit != nil {
		n.limit.Take(now, more)
	}
}
func (n *node) Slow(_ *Partition, since time.Duration) { n.slow = since }

func (c *cluster) node(id kafka.NodeID) *node { return c.nodes[id-1] }

// assign gives all nodes that are open the assignment with node 1.. as replicas.
func (c *cluster) assign(leader kafka.NodeID, epoch kafka.LeaderEpoch, isr ...kafka.NodeID) {
	a := replica.Assignment{LeaderEpoch: epoch, PartitionEpoch: kafka.PartitionEpoch(epoch) * 100, Leader: leader, InSync: isr}
	for _, n := range c.nodes {
		a.Replicas = append(a.Replicas, n.id)
		a.Brokers = append(a.Brokers, replica.Broker{Node: n.id, Epoch: n.epoch, Active: true})
	}
	for _, n := range c.nodes {
		if n.p != nil {
			n.p.Assign(c.now, a)
		}
	}
}

// run delivers messages and runs what is due in so much time.
func (c *cluster) run(d time.Duration) {
	for end := c.now.Add(d); c.now.Before(end); c.now = c.now.Add(time.Millisecond) {
		for len(c.queue) > 0 {
			f := c.queue[0]
			c.queue = c.queue[1:]
			to := c.node(f.to)
			if to.p == nil || c.cut[f.to] || c.cut[f.from] {
				continue
			}
			rest := f.bytes
			for len(rest) > 0 {
				_, _, m, next, err := peer.Decode(rest)
				if err != nil {
					c.t.Fatal(err)
				}
				to.p.HandleMessage(c.now, f.from, &m)
				rest = next
			}
		}
		timers := c.timer
		c.timer = nil
		for _, t := range timers {
			if t.at.After(c.now) {
				c.timer = append(c.timer, t)
			} else {
				t.fn(c.now)
			}
		}
		for _, n := range c.nodes {
			for _, ch := range n.changes {
				res := replica.InSyncResult{Seq: ch.Seq, LeaderEpoch: ch.LeaderEpoch, PartitionEpoch: ch.PartitionEpoch + 1}
				for _, m := range ch.InSync {
					res.InSync = append(res.InSync, m.Node)
				}
				n.p.HandleInSyncResult(c.now, res)
			}
			n.changes = nil
		}
	}
}

func batchOf(p *record.Producer, transactional bool, values ...string) []byte {
	bd := record.NewBuilder(record.BuilderOptions{Producer: p, Transactional: transactional})
	for _, v := range values {
		bd.Append(1_700_000_000_000, nil, []byte(v))
	}
	return bd.Build()
}

// produce returns where the answer will be.
func (n *node) produce(acks int16, records []byte) *ProduceResult {
	res := &ProduceResult{Code: pendingCode}
	n.p.Produce(n.c.now, ProduceRequest{Records: records, Acks: acks, Timeout: 10 * time.Second}, func(r ProduceResult) {
		if res.Code != pendingCode {
			n.c.t.Error("answered twice")
		}
		*res = r
	})
	return res
}

const pendingCode kafka.ErrorCode = -99

// told has a node do what a leader, node 9, tells it in an epoch.
func (n *node) told(epoch kafka.LeaderEpoch, messages ...replica.Message) {
	n.p.Assign(n.c.now, replica.Assignment{LeaderEpoch: epoch, PartitionEpoch: kafka.PartitionEpoch(epoch) * 100, Leader: 9, Replicas: []kafka.NodeID{1, 9}, InSync: []kafka.NodeID{9}})
	for i := range messages {
		messages[i].LeaderEpoch, messages[i].Session, messages[i].BrokerEpoch = epoch, 7, n.epoch
		n.p.HandleMessage(n.c.now, 9, &messages[i])
	}
}

func stamped(b []byte, offset kafka.Offset, epoch kafka.LeaderEpoch) []byte {
	record.Stamp(b, offset, epoch)
	return b
}

// values reads all that a consumer may see from an offset on.
func (n *node) values(from kafka.Offset, isolation Isolation) string {
	var out string
	var scratch record.Scratch
	for {
		res := n.p.Read(n.c.now, ReadRequest{Offset: from, MaxBytes: 100, MinOneMessage: true, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1, ReplicaID: NoReplicaID, Isolation: isolation})
		if res.Code != kafka.None {
			return fmt.Sprint(out, res.Code)
		}
		if len(res.Records) == 0 {
			return out
		}
		for rest := res.Records; len(rest) > 0; {
			b, next, err := record.Next(rest)
			if err != nil {
				n.c.t.Fatal(err)
			}
			for it := b.Records(&scratch); !b.IsControl() && it.Next(); {
				r := it.Record()
				if r.Offset >= from {
					out += string(r.Value)
				}
			}
			from, rest = b.NextOffset(), next
		}
	}
}

func (c *cluster) want(what string, got, want any) {
	c.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

var errDisk = errors.New("input/output error")

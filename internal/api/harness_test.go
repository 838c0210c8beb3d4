package api_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/format/record"
	"chronik/internal/format/wire"
	"chronik/internal/host/broker"
	"chronik/internal/host/deadline"
	"chronik/internal/host/fetchsession"
	"chronik/internal/host/partition"
)

// world is what the nodes of a cluster share: a clock that only the test moves,
// and what is to be done next.
type world struct {
	t      testing.TB
	now    time.Time
	queue  *deadline.Queue
	posted []func(now time.Time)
	syncs  []*partition.Partition
	slow   []func(now time.Time) // is done in the background
	hold   bool                  // the background stands still
}

// node is one broker on a disk in memory.
type node struct {
	*world
	fs        *vfs.Faulty
	broker    *broker.Broker
	server    *api.Server
	client    *api.Client
	nextCID   int32
	dead      bool // its process has ended
	unnoticed bool // it can see that connections have ended of which nobody has told it
	stalled   bool // what comes from others waits in its inbox
	inbox     []func(now time.Time)
}

// newNode starts a cluster of one node with these static settings and waits
// until it serves.
func newNode(t testing.TB, static map[string]string) *node { return newCluster(t, 1, static)[0] }

// newCluster starts a cluster of nodes 1 to count.
func newCluster(t testing.TB, count int, static map[string]string) []*node {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), queue: deadline.New(nil)}
	nodes := make([]*node, count)
	voters := map[kafka.NodeID]string{}
	for i := range nodes {
		voters[kafka.NodeID(i+1)] = fmt.Sprintf("broker-%d:9093", i+1)
	}
	for i := range nodes {
		nodes[i] = w.start(kafka.NodeID(i+1), voters, nodes, static)
	}
	for range 1000 {
		if !slices.ContainsFunc(nodes, func(n *node) bool { return !n.broker.Ready() }) {
			return nodes
		}
		w.advance(10 * time.Millisecond)
	}
	t.Fatal("the cluster is not ready after 10 s")
	return nil
}

func (w *world) start(id kafka.NodeID, voters map[kafka.NodeID]string, nodes []*node, static map[string]string) *node {
	n := &node{world: w, fs: vfs.NewFaulty(vfs.NewMem()), client: &api.Client{ID: 1, Host: "10.0.0.9", Listener: "PLAINTEXT"}}
	post := func(fn func(now time.Time)) { w.posted = append(w.posted, fn) }
	b, err := broker.New(w.now, broker.Options{
		Node: id, DataDir: "data", Voters: voters, AdvertiseHost: fmt.Sprintf("broker-%d", id), AdvertisePort: 9092,
		PeerAddress: voters[id], Rack: fmt.Sprintf("r%d", id), Static: static,
	}, broker.Env{
		FS: n.fs, Log: slog.New(slog.DiscardHandler), Rand: rand.New(rand.NewPCG(1, uint64(id))), Deadlines: w.queue,
		Post:         post,
		ScheduleSync: func(p *partition.Partition) { w.syncs = append(w.syncs, p) },
		Send: func(to kafka.NodeID, class broker.Class, pieces ...[]byte) {
			frame := bytes.Join(pieces, nil)
			if n.dead {
				return
			}
			arrive := func(now time.Time) {
				if nodes[to-1].dead {
					return
				}
				handle := nodes[to-1].broker.HandleControl
				if class == broker.ClassBulk {
					handle = nodes[to-1].broker.HandleBulk
				}
				if err := handle(now, id, frame); err != nil {
					w.t.Errorf("node %d cannot read a frame of node %d: %v", to, id, err)
				}
			}
			if to := nodes[to-1]; to.stalled {
				to.inbox = append(to.inbox, arrive)
				return
			}
			post(arrive)
		},
		Broken:     func(peer kafka.NodeID) bool { return n.unnoticed && nodes[peer-1].dead },
		Background: func(fn func(now time.Time)) { w.slow = append(w.slow, fn) },
		Peers:      func(map[kafka.NodeID]string) {},
		Ready:      func(bool) {},
		Fatal:      func(err error) { w.t.Fatalf("node %d gave up: %v", id, err) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	n.broker = b
	n.server = &api.Server{Broker: b, Sessions: fetchsession.New(fetchsession.Options{}, rand.New(rand.NewPCG(3, uint64(id))))}
	b.Start()
	return n
}

// settle does all that can be done without time going on.
func (w *world) settle() {
	for len(w.posted)+len(w.syncs) > 0 || len(w.slow) > 0 && !w.hold {
		posted, syncs := w.posted, w.syncs
		w.posted, w.syncs = nil, nil
		if !w.hold {
			posted, w.slow = append(posted, w.slow...), nil
		}
		for _, fn := range posted {
			fn(w.now)
		}
		for _, p := range syncs {
			p.RunSync(w.now)
		}
	}
}

// advance lets time go on.
func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for {
		w.settle()
		next := w.queue.Run(w.now)
		if len(w.posted)+len(w.syncs) > 0 {
			continue // which may set earlier deadlines
		}
		if next.IsZero() || next.After(end) {
			break
		}
		w.now = next
	}
	w.now = end
}

// answer is what came of a request.
type answer struct {
	came  bool
	close bool
	err   error
	resp  kmsg.Response // as a client decodes it
	bytes []byte        // of the whole frame
}

// handle gives a frame (without its length) to the server.
func (n *node) handle(client *api.Client, frame []byte, key, version int16) *answer {
	a := &answer{}
	n.server.Handle(n.now, frame, client, func(r api.Answer) {
		if a.came {
			n.t.Errorf("key %d version %d: answered twice", key, version)
		}
		a.came, a.close, a.err = true, r.Close, r.Err
		if r.Response != nil {
			a.bytes = wire.AppendResponse(nil, r.CorrelationID, r.Response)
			a.resp = n.decode(a.bytes, r.Response)
		}
		if r.Release != nil {
			r.Release()
		}
	})
	for i := range frame {
		frame[i] = 0xdb // from here on the frame is another request's
	}
	return a
}

// decode reads a response as a client does, and checks that nothing is lost.
func (n *node) decode(frame []byte, of kmsg.Response) kmsg.Response {
	_, resp, err := wire.DecodeResponse(of.Key(), of.GetVersion(), frame[4:])
	if err != nil {
		n.t.Errorf("%T v%d cannot be decoded: %v", of, of.GetVersion(), err)
		return nil
	}
	if again := wire.AppendResponse(nil, n.nextCID, resp); !bytes.Equal(again[8:], frame[8:]) {
		n.t.Errorf("%T v%d is not what it was encoded from", of, of.GetVersion())
	}
	return resp
}

// send sends a request at the version set in it and does not wait.
func (n *node) send(req kmsg.Request) *answer { return n.sendAs(n.client, req) }

func (n *node) sendAs(client *api.Client, req kmsg.Request) *answer {
	a := n.handleNow(client, req)
	n.settle()
	return a
}

// handleNow hands a request over; what else there is to do has not been done.
func (n *node) handleNow(client *api.Client, req kmsg.Request) *answer {
	n.nextCID++
	id := "test"
	frame := wire.AppendRequest(nil, n.nextCID, &id, req)
	return n.handle(client, frame[4:], req.Key(), req.GetVersion())
}

// wait lets time go on until the answer comes.
func (n *node) wait(a *answer) *answer {
	n.t.Helper()
	for range 6000 {
		if a.came {
			return a
		}
		n.advance(10 * time.Millisecond)
	}
	n.t.Fatal("no answer after a minute")
	return nil
}

// ask sends a request and returns its response.
func ask[R kmsg.Response](n *node, req kmsg.Request) R {
	n.t.Helper()
	a := n.wait(n.send(req))
	r, ok := a.resp.(R)
	if !ok {
		n.t.Fatalf("%T v%d was answered with %T (close %v, err %v)", req, req.GetVersion(), a.resp, a.close, a.err)
	}
	return r
}

// topic creates a topic and returns its id.
func (n *node) topic(name string, partitions int32, configs ...string) kafka.TopicID {
	n.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Version, req.TimeoutMillis = 7, 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	for i := 0; i+1 < len(configs); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = configs[i], &configs[i+1]
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	resp := ask[*kmsg.CreateTopicsResponse](n, req)
	if code := kafka.ErrorCode(resp.Topics[0].ErrorCode); code != kafka.None {
		n.t.Fatalf("create topic %s: %v %v", name, code, str(resp.Topics[0].ErrorMessage))
	}
	return resp.Topics[0].TopicID
}

func str(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// batch makes a batch of these values.
func batch(opts record.BuilderOptions, values ...string) []byte {
	b := record.NewBuilder(opts)
	for i, v := range values {
		b.Append(1_800_000_000_000+int64(i), []byte(fmt.Sprint("k", i)), []byte(v))
	}
	return b.Build()
}

// produceRequest is a request for one partition.
func produceRequest(version int16, topic string, id kafka.TopicID, number int32, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, -1, 5000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = number, records
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID, t.Partitions = topic, id, []kmsg.ProduceRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
	return req
}

// produce appends a batch to a partition and returns what came of it.
func (n *node) produce(topic string, number int32, records []byte) kmsg.ProduceResponseTopicPartition {
	n.t.Helper()
	resp := ask[*kmsg.ProduceResponse](n, produceRequest(11, topic, kafka.TopicID{}, number, bytes.Clone(records)))
	return resp.Topics[0].Partitions[0]
}

// mustProduce appends values in one batch.
func (n *node) mustProduce(topic string, number int32, values ...string) {
	n.t.Helper()
	if r := n.produce(topic, number, batch(record.BuilderOptions{}, values...)); r.ErrorCode != 0 {
		n.t.Fatalf("produce to %s-%d: %v %v", topic, number, kafka.ErrorCode(r.ErrorCode), str(r.ErrorMessage))
	}
}

// fetchRequest is a request for one partition without a session.
func fetchRequest(version int16, topic string, id kafka.TopicID, number int32, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MinBytes, req.MaxBytes, req.SessionEpoch = version, -1, 1, 50<<20, -1
	addFetch(req, topic, id, number, offset)
	return req
}

func addFetch(req *kmsg.FetchRequest, topic string, id kafka.TopicID, number int32, offset int64) {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = number, offset, 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = topic, id, []kmsg.FetchRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
}

// values are the values of all records in a set of batches.
func values(t testing.TB, batches []byte) []string {
	t.Helper()
	var out []string
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			t.Fatalf("fetched bytes are no batches: %v", err)
		}
		if !b.VerifyCRC() {
			t.Fatal("a fetched batch has a wrong checksum")
		}
		for it := b.Records(new(record.Scratch)); it.Next(); {
			out = append(out, string(it.Record().Value))
		}
		batches = rest
	}
	return out
}

// expect compares an error code of a response.
func expect(t testing.TB, what string, got int16, want kafka.ErrorCode) {
	t.Helper()
	if kafka.ErrorCode(got) != want {
		t.Errorf("%s: got %v, want %v", what, kafka.ErrorCode(got), want)
	}
}

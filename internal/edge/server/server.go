// Package server binds a node's parts together and runs them.
package server

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
	"chronik/internal/base/vfs"
	"chronik/internal/edge/config"
	"chronik/internal/edge/listener"
	"chronik/internal/edge/loop"
	"chronik/internal/edge/metrics"
	"chronik/internal/edge/transport"
	"chronik/internal/host/broker"
	"chronik/internal/host/fetchsession"
	"chronik/internal/host/partition"
)

const (
	// More workers than this do not make a disk faster, only the slowest sync slower.
	syncWorkers = 12
	// Opening a log takes several syncs. More at a time would make those of Raft
	// wait, on which heartbeats depend.
	openWorkers = 4
	// aheadWorkers is how many read ahead for consumers at the same time, and
	// aheadWaiting how many partitions may wait for them.
	aheadWorkers = 3
	aheadWaiting = 64
	// A frame from a leader that is larger than this is followed by others:
	// they are read while a worker syncs.
	inlineBytesMax = 64 << 10
	// How long a node that was told to stop tries to hand over what it leads.
	handOverMax = 600 * time.Millisecond
	// And how long it stays to tell clients who leads in its place. One that finds
	// its connection closed in the midst of a request waits for a back-off instead,
	// of a quarter of a second and more.
	farewell      = 100 * time.Millisecond
	electionTicks = 10
	httpStopMax   = 100 * time.Millisecond
	// How long a new cluster is not served before all its nodes are there.
	// Clients wait at least twice as long for the first answer of a connection.
	foundersWait = 5 * time.Second
)

// node is one running node.
type node struct {
	cfg    config.Config
	log    *slog.Logger
	broker *broker.Broker
	live   atomic.Pointer[broker.Broker] // broker, once it takes frames
	loop   *loop.Serial
	clock  *loop.Clock
	syncer *loop.Syncer[syncedLog]
	ahead  *loop.Pool

	peers    *transport.Transport
	flushed  atomic.Pointer[transport.Transport] // peers, once there are any
	clients  *listener.Listener
	metrics  *metrics.Node
	sessions *fetchsession.Cache
	http     *metrics.Server
	pages    atomic.Pointer[http.Handler] // what HTTP shows, once the node is open

	background sync.WaitGroup
	cluster    atomic.Pointer[string]
	own        atomic.Pointer[broker.Presence] // what the data directory held at the start
	strangers  strangers
	serve      sync.Once
	fatal      chan error
	serving    chan error
}

// threadsMax is more than there can be: a connection that waits for the disk has a
// thread, so it is for max.connections to bound them. Go would end the process
// at 10,000, which a slow disk and many consumers that are behind come to.
const threadsMax = 1 << 20

// Run runs the node until ctx ends or it fails, and stops it cleanly.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	started := time.Now()
	debug.SetMaxThreads(threadsMax)
	n := &node{cfg: cfg, log: log, fatal: make(chan error, 1), serving: make(chan error, 1)}
	if err := n.open(ctx, started); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop while it looked for its cluster
		}
		return err
	}
	log.Info("starting", "node", cfg.NodeID, "version", broker.Version, "data_dir", cfg.DataDir, "kafka", n.clients.Addr().String())
	n.warnOfFewFiles()
	n.broker.Start()
	var err error
	select {
	case <-ctx.Done():
		log.Info("stopping", "node", cfg.NodeID)
	case err = <-n.fatal:
	case err = <-n.serving:
	}
	stopErr := n.stop(err == nil)
	if err == nil {
		err = stopErr
	}
	if err == nil {
		log.Info("stopped", "node", cfg.NodeID)
	}
	return err
}

// open binds the ports first, so that a second process notices before it
// touches anything, then opens the data.
func (n *node) open(ctx context.Context, now time.Time) (err error) {
	var opened []func()
	defer func() {
		if err != nil {
			for i := len(opened) - 1; i >= 0; i-- {
				opened[i]()
			}
		}
	}()
	clientSocket, err := listen("kafka", n.cfg.Kafka)
	if err != nil {
		return err
	}
	opened = append(opened, func() { clientSocket.Close() })
	n.cfg.Kafka = clientSocket.Addr().String()
	if host, port, err := net.SplitHostPort(n.cfg.AdvertiseKafka); err == nil && port == "0" { // tell the one that was chosen
		n.cfg.AdvertiseKafka = net.JoinHostPort(host, strconv.Itoa(clientSocket.Addr().(*net.TCPAddr).Port))
	}
	peerSocket, err := n.listenPeers()
	if err != nil {
		return err
	}
	if peerSocket != nil {
		opened = append(opened, func() { peerSocket.Close() })
	}
	if n.cfg.HTTP != "" {
		socket, err := listen("http", n.cfg.HTTP)
		if err != nil {
			return err
		}
		n.http = metrics.Serve(socket, http.HandlerFunc(n.serveHTTP), n.log)
		opened = append(opened, func() { n.http.Stop(ctx) }) //nolint:errcheck // the node fails with another error
	}
	kick := func() { n.kick(false) }
	n.syncer = loop.NewSyncer[syncedLog](syncWorkers, func() { n.flushPeers(1) })
	n.ahead = loop.NewPool(aheadWorkers, aheadWaiting)
	n.loop = loop.NewSerial(kick)
	n.clock = loop.NewClock(kick)
	opened = append(opened, func() { n.clock.Close(); n.loop.Close(); n.syncer.Close(); n.ahead.Close() })

	opts, err := n.brokerOptions()
	if err != nil {
		return err
	}
	if peerSocket != nil {
		n.peers = transport.New(peerSocket, n.transportOptions())
		n.flushed.Store(n.peers)
		opened = append(opened, func() { n.peers.Close(0) })
	}
	if err := n.findCluster(ctx, &opts); err != nil {
		return err
	}
	n.broker, err = broker.New(time.Now(), opts, n.env())
	if errors.Is(err, broker.ErrMetadataDamaged) {
		n.broker, err = n.comeBack(ctx, opts, err)
	}
	if err != nil {
		return err
	}
	n.live.Store(n.broker)
	n.openMetrics()
	n.clients = listener.New(clientSocket, n.listenerOptions())
	n.metrics.Listener("kafka", n.clients.Counters())
	handler := n.handler()
	n.pages.Store(&handler)
	return nil
}

func listen(setting, address string) (net.Listener, error) {
	socket, err := net.Listen("tcp", address)
	if err != nil {
		hint := "is the address one of this machine's, and may this user listen there?"
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "is another process using the port?"
		}
		return nil, fmt.Errorf("%w; %s Choose another with --%s", err, hint, setting)
	}
	return socket, nil
}

func (n *node) brokerOptions() (broker.Options, error) {
	host, portText, err := net.SplitHostPort(n.cfg.AdvertiseKafka)
	if err != nil {
		return broker.Options{}, fmt.Errorf("advertise-kafka: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return broker.Options{}, fmt.Errorf("advertise-kafka: port %q is not a number", portText)
	}
	dir, err := filepath.Abs(n.cfg.DataDir)
	if err != nil {
		return broker.Options{}, fmt.Errorf("data-dir: %w", err)
	}
	o := broker.Options{
		Node: n.cfg.NodeID, DataDir: dir, AdvertiseHost: host, AdvertisePort: int32(port),
		PeerAddress: n.cfg.AdvertisePeer(), Rack: n.cfg.Rack, Static: n.cfg.Static(),
		LagRecordsMax:       n.cfg.ReplicaLagMessagesMax,
		LogCacheBytes:       cmp.Or(n.cfg.LogCacheBytes, -1),
		ScrubBytesPerSecond: n.cfg.ScrubBytesPerSecond, ScrubInterval: n.cfg.ScrubInterval,
		HeartbeatInterval: n.cfg.BrokerHeartbeatInterval, SessionTimeout: n.cfg.BrokerSessionTimeout,
		FoundersWait: foundersWait,
		// An election timeout is one to two times the ticks; a tick stays
		// coarse enough for an idle node to cost nothing.
		RaftTick: n.cfg.QuorumElectionTimeout / 2 / electionTicks, ElectionTicks: electionTicks,
	}
	for _, p := range n.cfg.Peers {
		if o.Voters == nil {
			o.Voters = make(map[kafka.NodeID]string)
		}
		o.Voters[p.ID] = p.Address
		if p.ID == n.cfg.NodeID {
			o.PeerAddress = p.Address
		}
	}
	return o, nil
}

// kick has what was caused on this goroutine done: messages to other nodes go
// out first, so that they sync at the same time as this one.
func (n *node) kick(inline bool) {
	n.flushPeers(0)
	n.syncer.Kick(inline)
}

// flushPeers sends what waits for other nodes. On a node with nothing else to
// do it saves a hand-off to do so at once; on a busy one more comes together
// until the links' own goroutines run. The caller is in the midst of so many syncs.
func (n *node) flushPeers(syncs int) {
	if p := n.flushed.Load(); p != nil && p.Unflushed() {
		p.Flush(!n.syncer.Busy(syncs))
	}
}

// syncedLog is a partition whose syncs take time.
type syncedLog struct{ *partition.Partition }

// RunSync implements loop.Syncable.
func (l syncedLog) RunSync(time.Time) {
	run := l.BeginSync()
	l.EndSync(time.Now(), run)
}

func (n *node) env() broker.Env {
	return broker.Env{
		FS: vfs.Disk{}, Log: n.log, Rand: newRand(), Deadlines: n.clock.Deadlines,
		Post:         n.loop.Post,
		ScheduleSync: func(p *partition.Partition) { n.syncer.Schedule(syncedLog{p}) },
		Send: func(to kafka.NodeID, class broker.Class, frame ...[]byte) {
			switch {
			case n.peers == nil:
			case class == broker.ClassBulk:
				n.peers.Queue(to, int(class), frame...)
			default:
				n.peers.Send(to, int(class), frame...)
			}
		},
		Broken: func(peer kafka.NodeID) bool { return n.peers != nil && n.peers.Broken(peer) },
		Background: func(fn func(now time.Time)) {
			n.background.Go(func() {
				fn(time.Now())
				n.kick(false)
			})
		},
		Each:    each,
		MayOpen: mayOpen,
		Peers: func(peers map[kafka.NodeID]string) {
			if n.peers != nil {
				n.peers.SetPeers(peers)
			}
		},
		Ready: n.setReady,
		Fatal: func(err error) {
			select {
			case n.fatal <- err:
			default:
			}
		},
	}
}

// each calls fn for every number below n, as many at a time as a disk has use for.
func each(n int, fn func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, openWorkers) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	workers.Wait()
}

func newRand() *rand.Rand {
	var seed [16]byte
	crand.Read(seed[:]) //nolint:errcheck // it never fails (Go 1.24)
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:8]), binary.BigEndian.Uint64(seed[8:])))
}

// setReady opens the door to clients when the node serves for the first time.
// Later it stays open: clients are told where to go by errors.
func (n *node) setReady(ready bool) {
	if !ready {
		return
	}
	cluster := n.broker.Image().ClusterID()
	n.cluster.Store(&cluster)
	n.serve.Do(func() {
		n.log.Info("ready", "node", n.cfg.NodeID, "cluster", cluster, "kafka", n.clients.Addr().String())
		n.background.Go(func() {
			if err := n.clients.Serve(); err != nil {
				n.serving <- err
			}
		})
	})
}

func (n *node) ready() error {
	if !n.broker.Ready() {
		return errors.New("not registered with the controller, or fenced by it")
	}
	if !n.broker.MayServe(time.Now()) {
		return errors.New("no lease from a controller: there is no majority of nodes, or this one is cut off from it")
	}
	return nil
}

func (n *node) listenerOptions() listener.Options {
	n.sessions = fetchsession.New(fetchsession.Options{SlotsMax: cmp.Or(n.cfg.FetchSessionSlotsMax, -1)}, newRand())
	server := &api.Server{
		Broker:   n.broker,
		Sessions: n.sessions,
		Limits:   api.Limits{FetchBytesMax: n.cfg.FetchBytesMax},
		Traffic:  nil,
		Ahead:    n.ahead.Try,
	}
	return listener.Options{
		Serve: server.Handle,
		Log:   n.log,
		// A client that waits for this answer gains from a sync on this very
		// goroutine; one that has sent more gains from going on.
		AfterRequest: func(more bool) { n.kick(!more) },
		Observe:      n.metrics.Observe,
		Limits: func() (total, perIP int) { // changed at run time, as configs of the broker
			settings, image := n.broker.Settings(), n.broker.Image()
			return int(settings.BrokerInt(image, "max.connections")), int(settings.BrokerInt(image, "max.connections.per.ip"))
		},
		FrameBytesMax:       n.cfg.RequestBytesMax,
		QueuedBytesMax:      n.cfg.QueuedRequestBytesMax,
		InFlightRequestsMax: n.cfg.InFlightRequestsMax,
		InFlightBytesMax:    n.cfg.InFlightBytesMax,
		IdleMax:             n.cfg.ConnectionsIdleMax,
		RequestDeadline:     n.cfg.RequestDeadline,
		ResponseDeadline:    n.cfg.ResponseDeadline,
		ShutdownWait:        n.cfg.ShutdownAnswersWait,
	}
}

func (n *node) transportOptions() transport.Options {
	return transport.Options{
		Node: n.cfg.NodeID, Log: n.log,
		ClusterID: func() string {
			if c := n.cluster.Load(); c != nil {
				return *c
			}
			if b := n.live.Load(); b != nil {
				return b.ClusterID()
			}
			if own := n.own.Load(); own != nil {
				return own.Cluster
			}
			return ""
		},
		Answer:  n.answer,
		Refused: n.refused,
		Receive: func(from kafka.NodeID, class int, frame []byte, more bool) error {
			b := n.live.Load()
			if b == nil {
				return nil // still looking for the cluster
			}
			if broker.Class(class) == broker.ClassControl {
				own := append([]byte(nil), frame...)
				n.loop.Post(func(now time.Time) {
					if err := b.HandleControl(now, from, own); err != nil {
						n.log.Warn("frame from a peer refused", "peer", from, "err", err)
					}
				})
				return nil
			}
			err := b.HandleBulk(time.Now(), from, frame)
			n.kick(!more && len(frame) <= inlineBytesMax)
			return err
		},
		Down: func(peer kafka.NodeID, gone bool) {
			if b := n.live.Load(); b != nil {
				n.loop.Post(func(now time.Time) { b.PeerDown(now, peer, gone) })
			}
		},
		Up: func(peer kafka.NodeID) {
			if b := n.live.Load(); b != nil {
				n.loop.Post(func(now time.Time) { b.PeerUp(now, peer) })
			}
		},
	}
}

// stop ends everything in an order in which nobody is called who has ended.
// When the node has failed it does not try to hand over.
func (n *node) stop(healthy bool) error {
	if healthy {
		handedOver := make(chan struct{})
		n.broker.Stop(handOverMax, func(time.Time) { close(handedOver) })
		<-handedOver
		if n.clients.Counters().Open.Load() > 0 && len(n.broker.Image().Brokers()) > 1 {
			time.Sleep(farewell)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.ShutdownAnswersWait)
	n.clients.Stop(ctx)
	cancel()
	closed := make(chan error, 1)
	n.loop.Post(func(now time.Time) { closed <- n.broker.Close(now) })
	n.loop.Close()
	n.clock.Close()
	n.syncer.Close()
	n.ahead.Close()
	var err error
	select {
	case err = <-closed:
	default:
	}
	if n.peers != nil {
		n.peers.Close(50 * time.Millisecond)
	}
	if n.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), httpStopMax)
		err = errors.Join(err, n.http.Stop(ctx))
		cancel()
	}
	n.background.Wait()
	return err
}

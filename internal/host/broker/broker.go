// Package broker is one node without its goroutines: its metadata, its
// partitions, its coordinators and its part in the controller's quorum.
//
// What changes with the metadata is done on the control loop, one call at a
// time (Env.Post): Raft, the controller, registration, and the placement of
// partitions. Handlers run on any goroutine; they see the published Image, the
// partitions, and the coordinators, each of which has its own lock.
package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/base/vfs"
	"chronik/internal/core/config"
	"chronik/internal/core/metadata"
	"chronik/internal/host/deadline"
	"chronik/internal/host/partition"
	"chronik/internal/host/quorum"
	"chronik/internal/host/raftlog"
	"chronik/internal/storage/wal"
)

// Version is the software's version, told to peers and clients.
var Version = "0.1.0"

// Options say who this node is. They do not change while it runs.
type Options struct {
	Node    kafka.NodeID
	DataDir string                  // all of this node's files
	Voters  map[kafka.NodeID]string // peer addresses of the first voters; empty: this node alone
	// Joining says that the cluster exists already and the node enters it; it
	// matters only while the data directory is empty. Then Voters only name
	// nodes that may know the way.
	Joining bool
	// Anew says that New has found the metadata damaged (ErrMetadataDamaged), and
	// that the node, which is then Joining, comes back as another member.
	Anew          bool
	Founders      map[kafka.NodeID]string // data directories of the founders, as Judge has found them
	AdvertiseHost string                  // for Kafka clients
	AdvertisePort int32
	PeerAddress   string // HOST:PORT for other nodes
	Rack          string
	Static        map[string]string // broker settings by Kafka's name: "num.partitions"

	LagRecordsMax int64 // a follower that lacks more records leaves the in-sync set; 0: no limit
	LogCacheBytes int64 // of each log that stay in the page cache; 0: wal's default, negative: the kernel decides
	LogDirectMin  int64 // bytes from which on one append goes past the page cache; 0: wal's default

	ScrubBytesPerSecond int64         // that are verified at the most; 0: the scrubber is off
	ScrubInterval       time.Duration // from the begin of one pass over all logs to the next; 0: only when asked for

	HeartbeatInterval time.Duration // between two heartbeats to the controller; default 100 ms
	SessionTimeout    time.Duration // without a heartbeat for this long a broker is fenced; default 1 s
	FoundersWait      time.Duration // how long nodes of a new cluster wait for each other to register before they serve
	RaftTick          time.Duration // default 50 ms
	ElectionTicks     int           // an election timeout is one to two times so many ticks; default 10

	// SnapshotEntries is how many entries behind the last snapshot have the
	// metadata log compacted; a twentieth of them is kept for nodes that lag a
	// little. Default 20 000.
	SnapshotEntries int

	NoteBytes  int64 // bytes appended to a log until the state of its producers is noted; 0: partition's default
	OpenInline int   // so many logs are opened where they are needed, more in the background; default 16

	OffsetsKept time.Duration // in place of offsets.retention.minutes; 0: that
	LoadBytes   int           // of groups, read at a time while they load; 0: coordinator's default
}

func (o Options) withDefaults() Options {
	if o.HeartbeatInterval == 0 {
		o.HeartbeatInterval = 100 * time.Millisecond
	}
	if o.SessionTimeout == 0 {
		o.SessionTimeout = time.Second
	}
	if o.RaftTick == 0 {
		o.RaftTick = 50 * time.Millisecond
	}
	if o.ElectionTicks == 0 {
		o.ElectionTicks = 10
	}
	if o.SnapshotEntries == 0 {
		o.SnapshotEntries = 20_000
	}
	if o.OpenInline == 0 {
		o.OpenInline = 16
	}
	if len(o.Voters) == 0 {
		o.Voters = map[kafka.NodeID]string{o.Node: o.PeerAddress}
	}
	return o
}

// Env is what a node needs of the outside. In production edge/server gives it
// with goroutines and sockets, in a simulation an event queue does.
type Env struct {
	FS        vfs.FS
	Log       *slog.Logger
	Rand      *rand.Rand // owned by the control loop from here on
	Deadlines *deadline.Queue

	// Post has fn called soon on the control loop, which runs one call at a
	// time in the order of their posting. Any goroutine may post.
	Post func(fn func(now time.Time))

	// ScheduleSync has p.RunSync called soon, once per call, on any goroutine,
	// and never twice at a time for the same p.
	ScheduleSync func(p *partition.Partition)

	// Send hands a frame, in one piece or several, to the connection with a
	// peer, which may lose it. It does not block and has copied the frame when
	// it returns.
	Send func(to kafka.NodeID, class Class, frame ...[]byte)

	// Broken says whether a connection with a peer has just ended, before
	// PeerDown tells of it. Any goroutine may ask. nil: nobody knows.
	Broken func(peer kafka.NodeID) bool

	// Background has fn called soon on some goroutine: slow work on files that
	// nothing waits for.
	Background func(fn func(now time.Time))
	// Each calls fn for every number below n, several at a time if it can, and
	// returns when all calls have. nil: one after the other.
	Each func(n int, fn func(i int))

	// MayOpen says whether the files of one more log may be opened, or why not:
	// some are kept for connections and metadata. Any goroutine may ask. nil: always.
	MayOpen func() error

	// Peers says which peers there are, by their addresses.
	Peers func(map[kafka.NodeID]string)

	// Ready is called on the control loop whenever the node begins or ends to
	// serve.
	Ready func(ready bool)

	// Fatal is called once when the node cannot go on. It does not return to
	// normal work; the process ends.
	Fatal func(err error)
}

// Class says which of the connections with a peer carries a frame, so that
// bulk data never delays an election.
type Class uint8

// The classes of frames between nodes.
const (
	ClassControl Class = iota // raft, heartbeats, requests to the controller
	ClassBulk                 // replication
)

// Broker is one node.
type Broker struct {
	opts     Options
	env      Env
	made     time.Time // when this node was made
	identity identity
	resolver *config.Resolver
	recovery Recovery

	foundCluster string

	// Published by the control loop, read by anyone.
	image      atomic.Pointer[metadata.Image]
	partitions atomic.Pointer[partitionTable]
	quorumView atomic.Pointer[quorum.State]
	leaseUntil atomic.Int64 // nanoseconds since made; 0: no lease
	ready      atomic.Bool
	stopping   atomic.Bool
	doubts     atomic.Pointer[Doubts]

	producerIDs producerIDs
	coordinated coordinated
	cleaning    cleaning
	scrub       scrubber
	lags        lagQuestions
	inSync      inSyncWishes
	counts      counts
	throttles   throttles
	logMemory   *wal.Memory // of large appends

	// Owned by the control loop.
	quorum     *quorum.Node
	raftLog    *raftlog.Log
	active     *activeController // nil while this node is not the active controller
	asked      asked
	lifecycle  lifecycle
	membership membership
	lost       map[kafka.NodeID]bool // peers whose process has ended, as far as is known
	departures map[kafka.NodeID]departure
	lastLeader led                    // who led the quorum before the present leader
	lastRound  uint64                 // of confirming, when this node was the active controller last
	deleted    map[kafka.TopicID]bool // topics whose deletion this process has seen
	gone       gone
	opening    opening
	fitness    fitness
	draining   bool
	closed     bool
}

// Recovery says what a start found on disk.
type Recovery struct {
	Fresh           bool // the data directory was empty
	CleanShutdown   bool
	MetadataEntries int // replayed behind the last snapshot
}

// New opens the node's data and prepares it. Start sets it in motion.
func New(now time.Time, opts Options, env Env) (*Broker, error) {
	opts = opts.withDefaults()
	if env.Each == nil {
		env.Each = func(n int, fn func(i int)) {
			for i := range n {
				fn(i)
			}
		}
	}
	b := &Broker{opts: opts, env: env, made: now, deleted: make(map[kafka.TopicID]bool), lost: make(map[kafka.NodeID]bool),
		departures: make(map[kafka.NodeID]departure), lastLeader: led{node: kafka.NoNode}}
	b.logMemory = wal.NewMemory(logMemoryBytes)
	var err error
	if b.resolver, err = config.NewResolver(opts.Node, opts.Static); err != nil {
		return nil, err
	}
	if b.identity, err = openIdentity(env.FS, opts.DataDir, opts.Node, env.Rand); err != nil {
		return nil, err
	}
	if err := b.identity.use(); err != nil {
		return nil, err
	}
	b.recovery.Fresh, b.recovery.CleanShutdown = b.identity.fresh, b.identity.clean
	b.foundCluster = b.identity.ClusterID
	if err := b.openMetadata(now, metadataDir(opts.DataDir)); err != nil {
		return nil, errors.Join(err, b.identity.lock.Close())
	}
	b.partitions.Store(&partitionTable{})
	b.asked.waiting = make(map[uint64]*ownQuestion)
	b.coordinated.init(b)
	b.lifecycle.init(b)
	b.asked.next = firstQuestion(b.lifecycle.incarnation)
	b.membership = membership{joiners: make(map[kafka.NodeID]joiner), removed: make(map[kafka.NodeID]bool), met: make(map[kafka.NodeID]string)}
	return b, nil
}

func (b *Broker) openMetadata(now time.Time, dir string) error {
	if b.opts.Anew {
		if err := b.enterAnew(dir); err != nil {
			return err
		}
	}
	if b.identity.Entering {
		return fmt.Errorf("%w: setting them aside was interrupted", ErrMetadataDamaged)
	}
	exists, err := b.identity.metadataExist()
	if err != nil {
		return err
	}
	if !exists && !b.opts.Anew {
		if err := b.makeMetadata(dir); err != nil {
			return fmt.Errorf("make metadata in %s: %w", dir, err)
		}
	}
	if !b.identity.Member {
		b.identity.Member = true
		if err := b.identity.save(); err != nil {
			return err
		}
	}
	var rec raftlog.Recovery
	if b.raftLog, rec, err = raftlog.Open(b.env.FS, dir, now); err != nil {
		if raftlog.Damaged(err) {
			err = fmt.Errorf("%w: %w", ErrMetadataDamaged, err)
		}
		return fmt.Errorf("open metadata in %s: %w", dir, err)
	}
	b.recovery.MetadataEntries = rec.Entries
	snap, err := b.raftLog.Snapshot()
	if err != nil {
		return fmt.Errorf("read metadata snapshot: %w", err)
	}
	image := metadata.Empty()
	if len(snap.GetData()) > 0 {
		if image, err = metadata.DecodeSnapshot(snap.GetData()); err != nil {
			return fmt.Errorf("decode metadata snapshot: %w", err)
		}
	}
	b.image.Store(image)
	b.quorum, err = quorum.New(b.raftLog, quorum.Options{Node: b.opts.Node, Incarnation: b.identity.Incarnation, ElectionTicks: b.opts.ElectionTicks, Logger: b.env.Log})
	if err != nil {
		return err
	}
	state := b.quorum.State()
	b.quorumView.Store(&state)
	return nil
}

// makeMetadata makes the first state of a founder, or of a node that joins: who
// it is to the quorum is on disk before it has a part in it.
func (b *Broker) makeMetadata(dir string) error {
	var voters []kafka.NodeID
	b.identity.Founders, b.identity.Incarnation = b.opts.Founders, 0
	if b.opts.Joining {
		b.identity.Founders, b.identity.Incarnation = nil, incarnationOf(b.identity.Directory)
	} else {
		voters = slices.Sorted(maps.Keys(b.opts.Voters))
	}
	if err := b.identity.save(); err != nil {
		return err
	}
	return raftlog.Bootstrap(b.env.FS, dir, voters, metadata.Empty().EncodeSnapshot(nil))
}

// Node is this node's id.
func (b *Broker) Node() kafka.NodeID { return b.opts.Node }

// Options are those that the node was made with, defaults filled in.
func (b *Broker) Options() Options { return b.opts }

// Recovery says what the start found on disk.
func (b *Broker) Recovery() Recovery { return b.recovery }

// Image is the state of the cluster as far as this node has applied it.
func (b *Broker) Image() *metadata.Image { return b.image.Load() }

// Settings finds effective configs with this node's static settings.
func (b *Broker) Settings() *config.Resolver { return b.resolver }

// Controller is the active controller, NoNode while none is known.
func (b *Broker) Controller() kafka.NodeID { return b.quorumView.Load().Leader }

// Quorum is this node's view of the metadata quorum.
func (b *Broker) Quorum() quorum.State { return *b.quorumView.Load() }

// Ready says whether the node is registered, unfenced, and has opened its
// partitions.
func (b *Broker) Ready() bool { return b.ready.Load() && !b.stopping.Load() }

// MayServe says whether the controller still counts on this node: its last
// granted heartbeat is younger than its session. When it is false the node must
// take itself for fenced until the controller has answered.
func (b *Broker) MayServe(now time.Time) bool {
	return int64(now.Sub(b.made)) < b.leaseUntil.Load() || mutant.On(mutant.IgnoreLease)
}

// At has fn called once, on any goroutine, when t has come.
func (b *Broker) At(t time.Time, fn func(now time.Time)) *deadline.Entry {
	return b.env.Deadlines.At(t, fn)
}

// Disk is the directory that holds the partitions' logs, and the size of its
// file system in bytes.
func (b *Broker) Disk() (dir string, total, usable int64, err error) {
	total, usable, err = b.env.FS.Space(b.opts.DataDir)
	return b.opts.DataDir, total, usable, err
}

// setReady publishes whether the node serves.
func (b *Broker) setReady(ready bool) {
	if b.ready.Swap(ready) != ready {
		b.env.Ready(ready)
	}
}

// tellPeers passes on the addresses of all nodes that are known: those that
// this one was started with, all that have registered, and what peers have told
// of themselves.
func (b *Broker) tellPeers() {
	peers := maps.Clone(b.opts.Voters)
	for _, br := range b.image.Load().Brokers() {
		peers[br.ID] = br.PeerAddress
	}
	maps.Copy(peers, b.membership.met)
	for node, j := range b.membership.joiners {
		peers[node] = j.address
	}
	delete(peers, b.opts.Node)
	b.membership.addresses = peers
	b.env.Peers(peers)
}

// fail ends the node: its metadata log cannot be written.
func (b *Broker) fail(err error) {
	if b.closed {
		return
	}
	b.closed = true
	b.env.Log.Error("node failed", "node", b.opts.Node, "err", err)
	b.env.Fatal(err)
}

// ClusterID is the id of the cluster that the data directory belongs to, ""
// when that is not known yet. It is what New found; the Image has the present one.
func (b *Broker) ClusterID() string { return b.foundCluster }

// Package coordinator binds the group coordinator's shards to the partitions of
// __consumer_offsets that this node leads: it loads them from the log, appends
// what they decide, and answers when that is committed.
//
// Each partition has a lock of its own. Decisions are applied at once, queued,
// and appended in their order; what comes while appends are under way goes
// into the next one together. A reply is given when all that was decided before
// it is committed, so no answer rests on what may still be lost. When records
// cannot be committed the shard is thrown away and loaded anew.
package coordinator

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
	"chronik/internal/format/record"
)

// Log is the log of one partition that this node leads. Its calls may be made
// from any goroutine; done is called exactly once, at once or later.
type Log interface {
	// Append adds one batch, and reports when all in-sync replicas have it.
	Append(now time.Time, batch []byte, done func(kafka.ErrorCode))
	// AppendMarker adds the end of a transaction likewise.
	AppendMarker(now time.Time, m record.Marker, tv2 bool, done func(kafka.ErrorCode))
	// Read returns whole committed batches from an offset on, none at the end.
	Read(now time.Time, from kafka.Offset, bytesMax int) ([]byte, kafka.ErrorCode)
	// Bounds are where the log starts, up to where it is committed, and where it ends.
	Bounds() (start, committed, end kafka.Offset)
}

// Options are the settings and surroundings of the coordinators.
type Options struct {
	Group         group.Options
	Log           *slog.Logger
	Rand          *rand.Rand                                 // for member ids; owned by Groups from here on
	At            func(at time.Time, fn func(now time.Time)) // has fn called when at has come
	Background    func(fn func(now time.Time))               // has fn called soon, on a goroutine that may take its time to load; nil: at once
	MayServe      func(now time.Time) bool                   // whether this node's lease holds; nil: always
	CommitTimeout time.Duration                              // offsets.commit.timeout.ms; default 5 s
	LoadBytes     int                                        // offsets.load.buffer.size: read at a time while loading; default 1 MiB
}

func (o Options) withDefaults() Options {
	if o.CommitTimeout == 0 {
		o.CommitTimeout = 5 * time.Second
	}
	if o.LoadBytes == 0 {
		o.LoadBytes = 1 << 20
	}
	if o.MayServe == nil {
		o.MayServe = func(time.Time) bool { return true }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Groups is the group coordinators of this node. Any goroutine may use it. The
// lock of a shard may be held when that of Groups is taken, never the reverse.
type Groups struct {
	opts Options

	mu     sync.RWMutex
	count  int32 // partitions of the topic; 0 while there is none
	topics group.Topics
	shards map[int32]*shard
}

// New makes the coordinators of a node, of no partition yet.
func New(opts Options) *Groups {
	return &Groups{opts: opts.withDefaults(), shards: map[int32]*shard{}}
}

// SetPartitions says how many partitions __consumer_offsets has; 0 for none.
func (g *Groups) SetPartitions(n int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count = n
}

// SetTopics replaces the view of the cluster's topics.
func (g *Groups) SetTopics(t group.Topics) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.topics = t
}

// SetOptions replaces the settings of all groups.
func (g *Groups) SetOptions(o group.Options) {
	g.mu.Lock()
	g.opts.Group = o
	shards := g.all()
	g.mu.Unlock()
	for _, s := range shards {
		s.setOptions(o)
	}
}

// PartitionOf is the partition of __consumer_offsets, out of count, that a
// group belongs to: Java's hash of the name.
func PartitionOf(id string, count int32) int32 {
	var h int32
	for _, c := range utf16.Encode([]rune(id)) {
		h = 31*h + int32(c)
	}
	if h < 0 {
		h = -h
	}
	if h < 0 { // the smallest int32
		h = 0
	}
	return h % count
}

// OnLeader begins to load the groups of a partition that this node leads from
// the epoch on.
func (g *Groups) OnLeader(now time.Time, partition int32, epoch kafka.LeaderEpoch, log Log) {
	g.mu.Lock()
	s := g.shards[partition]
	if s == nil {
		s = &shard{partition: partition, groups: g, log: g.opts.Log.With(keyTopic, kafka.TopicConsumerOffsets, keyPartition, partition)}
		g.shards[partition] = s
	}
	g.mu.Unlock()
	s.lead(now, epoch, log)
}

// OnResign ends the coordination of a partition that this node does not lead
// any more. Those who wait are sent away.
func (g *Groups) OnResign(now time.Time, partition int32) {
	if s := g.shard(partition); s != nil {
		s.resign(now)
	}
}

// Close ends the coordination of all partitions.
func (g *Groups) Close(now time.Time) {
	g.mu.RLock()
	shards := g.all()
	g.mu.RUnlock()
	for _, s := range shards {
		s.resign(now)
	}
}

// Handle answers a request to one group. The request belongs to Groups from
// here on. Reply is called exactly once, now or later, on any goroutine:
// NOT_COORDINATOR where this node does not lead the group's partition,
// COORDINATOR_LOAD_IN_PROGRESS while it loads, COORDINATOR_NOT_AVAILABLE while
// there is no such topic or its replicas do not answer.
func (g *Groups) Handle(now time.Time, req group.Request, reply func(group.Response)) {
	g.mu.RLock()
	count := g.count
	g.mu.RUnlock()
	if resp := refuseNameless(req); resp != nil {
		reply(resp)
		return
	}
	if count <= 0 {
		reply(req.Refuse(kafka.ErrCoordinatorNotAvailable))
		return
	}
	g.HandleAt(now, PartitionOf(req.GroupID(), count), req, reply)
}

// refuseNameless is the answer to a request without a group id, wherever it is
// sent to. Offsets may be committed under the empty name, and nil is returned.
func refuseNameless(req group.Request) group.Response {
	if req.GroupID() != "" {
		return nil
	}
	switch r := req.(type) {
	case *group.JoinGroup, *group.SyncGroup, *group.Heartbeat, *group.LeaveGroup, *group.OffsetDelete, *group.TxnOffsetCommit:
		return req.Refuse(kafka.ErrInvalidGroupID)
	case *group.ConsumerGroupHeartbeat:
		resp := r.Refuse(kafka.ErrInvalidRequest).(*group.ConsumerGroupHeartbeatResponse)
		resp.Message = "GroupId can't be empty."
		return resp
	}
	return nil
}

// HandleAt is Handle for the requests that concern all groups of a partition:
// TxnMarker and TopicsDeleted.
func (g *Groups) HandleAt(now time.Time, partition int32, req group.Request, reply func(group.Response)) {
	s := g.shard(partition)
	if s == nil || !g.opts.MayServe(now) {
		reply(req.Refuse(kafka.ErrNotCoordinator))
		return
	}
	s.handle(now, req, reply)
}

// List answers ListGroups for all partitions that this node leads. While one
// of them loads, the answer is COORDINATOR_LOAD_IN_PROGRESS.
func (g *Groups) List(now time.Time, req *group.ListGroups, reply func(*group.ListGroupsResponse)) {
	g.mu.RLock()
	shards := g.all()
	g.mu.RUnlock()
	shards = slices.DeleteFunc(shards, func(s *shard) bool { return !s.leads() })
	if !g.opts.MayServe(now) {
		reply(&group.ListGroupsResponse{Err: kafka.ErrNotCoordinator})
		return
	}
	if len(shards) == 0 {
		reply(&group.ListGroupsResponse{})
		return
	}
	l := &listing{left: len(shards), reply: reply}
	for _, s := range shards {
		s.handle(now, req, l.add)
	}
}

// listing collects the answers of the partitions to ListGroups.
type listing struct {
	mu    sync.Mutex
	left  int
	resp  group.ListGroupsResponse
	reply func(*group.ListGroupsResponse)
}

func (l *listing) add(r group.Response) {
	part := r.(*group.ListGroupsResponse)
	l.mu.Lock()
	switch {
	case part.Err == kafka.ErrNotCoordinator:
		// Another node leads the partition since; it lists those groups.
	case part.Err != kafka.None:
		l.resp.Err = part.Err
	}
	l.resp.Groups = append(l.resp.Groups, part.Groups...)
	l.left--
	last := l.left == 0
	l.mu.Unlock()
	if !last {
		return
	}
	if l.resp.Err != kafka.None {
		l.resp.Groups = nil
	}
	slices.SortFunc(l.resp.Groups, func(a, b group.ListedGroup) int { return strings.Compare(a.Group, b.Group) })
	l.reply(&l.resp)
}

// TopicsDeleted removes the offsets of topics that are no more from all groups.
func (g *Groups) TopicsDeleted(now time.Time, topics []string) {
	g.mu.RLock()
	shards := g.all()
	g.mu.RUnlock()
	for _, s := range shards {
		s.handle(now, &group.TopicsDeleted{Topics: topics}, func(group.Response) {})
	}
}

// EachOffset calls fn for all committed offsets of the groups that this node
// coordinates, for metrics.
func (g *Groups) EachOffset(fn func(group.CommittedOffset)) {
	g.mu.RLock()
	shards := g.all()
	g.mu.RUnlock()
	for _, s := range shards {
		for _, o := range s.offsets() {
			fn(o)
		}
	}
}

// EachGroup calls fn for all groups that this node coordinates, for metrics.
func (g *Groups) EachGroup(fn func(group.GroupStats)) {
	g.mu.RLock()
	shards := g.all()
	g.mu.RUnlock()
	for _, s := range shards {
		for _, st := range s.stats() {
			fn(st)
		}
	}
}

// Status says what this node does for a partition: whether it coordinates its
// groups, or is loading them.
func (g *Groups) Status(partition int32) (active, loading bool) {
	s := g.shard(partition)
	if s == nil {
		return false, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateActive, s.state == stateLoading
}

func (g *Groups) shard(partition int32) *shard {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.shards[partition]
}

// all lists the shards by partition. The caller holds the lock.
func (g *Groups) all() []*shard {
	list := make([]*shard, 0, len(g.shards))
	for _, s := range g.shards {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *shard) int { return int(a.partition) - int(b.partition) })
	return list
}

// background runs fn where it may take its time.
func (g *Groups) background(fn func(now time.Time)) {
	if g.opts.Background == nil {
		g.opts.At(time.Time{}, fn)
		return
	}
	g.opts.Background(fn)
}

// newCore makes an empty shard with the present settings.
func (g *Groups) newCore() *group.Shard {
	g.mu.Lock()
	defer g.mu.Unlock()
	return group.New(g.opts.Group, rand.New(rand.NewPCG(g.opts.Rand.Uint64(), g.opts.Rand.Uint64())))
}

func (g *Groups) groupOptions() group.Options {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.opts.Group
}

func (g *Groups) view() group.Topics {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.topics
}

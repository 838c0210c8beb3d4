// Package fetchsession remembers what consumers fetch, so that a request
// names only what changes, and a response only what is to be told (KIP-227).
package fetchsession

import (
	"container/list"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
)

// Epochs of a request that are not the number of an incremental one.
const (
	EpochInitial int32 = 0  // a full request that wants a session
	EpochFinal   int32 = -1 // a full request that wants none
)

// NoSession is the session id of a request or a response without a session.
const NoSession int32 = 0

// Options bound the cache.
type Options struct {
	SlotsMax int           // sessions kept (max.incremental.fetch.session.cache.slots); default 1000, negative for none
	AgeMin   time.Duration // for which a session is safe from being evicted; default 2 minutes
}

func (o Options) withDefaults() Options {
	if o.SlotsMax == 0 {
		o.SlotsMax = 1000
	}
	if o.AgeMin <= 0 {
		o.AgeMin = 2 * time.Minute
	}
	return o
}

// Key names a partition the way its session does: by the topic's id from
// Fetch v13 on, by its name before. The other of the two is zero.
type Key struct {
	TopicID   kafka.TopicID
	Topic     string
	Partition int32
}

// Partition is what is to be fetched of one partition.
type Partition struct {
	Key
	Offset           kafka.Offset
	MaxBytes         int32
	LeaderEpoch      kafka.LeaderEpoch // the client's; NoLeaderEpoch when not told
	LastFetchedEpoch kafka.LeaderEpoch
}

// Outcome is what came of fetching one partition.
type Outcome struct {
	HighWatermark kafka.Offset
	LogStart      kafka.Offset
	HasRecords    bool
	Failed        bool // there is an error
	MustTell      bool // there is something else to tell: a diverging epoch, another replica to read from
	Tell          bool // set by Finish: the partition belongs into the response
}

// entry is a partition of a session, and what its client was told last.
type entry struct {
	Partition
	highWatermark kafka.Offset
	logStart      kafka.Offset
	untold        bool          // it was never in a response
	place         *list.Element // in session.order
}

// session is one client's set of partitions.
type session struct {
	id      int32
	byID    bool
	created time.Time
	used    time.Time
	place   *list.Element // in Cache.recent

	epoch   int32 // that the next request must have
	entries map[Key]*entry
	order   *list.List // of *entry: the next to be fetched first
}

// Cache holds the sessions of one node. Any goroutine may use it.
type Cache struct {
	options Options

	mu       sync.Mutex
	rand     *rand.Rand
	sessions map[int32]*session
	recent   *list.List // of *session: the one used longest ago first
	entries  int
}

// New makes an empty cache. It owns the source of session ids from here on.
func New(o Options, r *rand.Rand) *Cache {
	return &Cache{options: o.withDefaults(), rand: r, sessions: map[int32]*session{}, recent: list.New()}
}

// Request is the part of a fetch request that concerns its session.
type Request struct {
	ID, Epoch  int32
	ByID       bool // the keys hold topic ids
	Partitions []Partition
	Forgotten  []Key
}

// Fetch is one request in the light of its session.
type Fetch struct {
	// Partitions are to be fetched in this order. They are the caller's.
	Partitions []Partition

	cache   *Cache
	session *session // of an incremental fetch
	epoch   int32    // of the session after this request
	create  bool     // a full fetch that wants a session
	byID    bool
}

// Begin takes a request in. For an incremental one, the partitions of the
// session are appended to dst; a full one brings its own. The codes are those
// of Kafka: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH,
// FETCH_SESSION_TOPIC_ID_ERROR. After an error the session is as before.
func (c *Cache) Begin(now time.Time, r Request, dst []Partition) (Fetch, kafka.ErrorCode) {
	if r.Epoch == EpochInitial || r.Epoch == EpochFinal {
		if r.ID != NoSession {
			c.mu.Lock()
			if s := c.sessions[r.ID]; s != nil {
				c.remove(s)
			}
			c.mu.Unlock()
		}
		return Fetch{Partitions: r.Partitions, cache: c, create: r.Epoch == EpochInitial, byID: r.ByID}, kafka.None
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[r.ID]
	switch {
	case s == nil:
		return Fetch{}, kafka.ErrFetchSessionIDNotFound
	case s.epoch != r.Epoch:
		return Fetch{}, kafka.ErrInvalidFetchSessionEpoch
	case s.byID != r.ByID:
		return Fetch{}, kafka.ErrFetchSessionTopicIDError
	}
	c.entries -= len(s.entries)
	for i := range r.Partitions {
		s.put(r.Partitions[i])
	}
	for _, k := range r.Forgotten {
		s.forget(k)
	}
	c.entries += len(s.entries)
	if len(s.entries) == 0 {
		// Kafka ends a session of which nothing is left.
		c.remove(s)
		return Fetch{Partitions: dst, cache: c}, kafka.None
	}
	s.used = now
	c.recent.MoveToBack(s.place)
	s.epoch = nextEpoch(s.epoch)
	for e := s.order.Front(); e != nil; e = e.Next() {
		dst = append(dst, e.Value.(*entry).Partition)
	}
	return Fetch{Partitions: dst, cache: c, session: s, epoch: s.epoch}, kafka.None
}

// Finish ends a fetch whose partitions had these outcomes, in the order of
// Partitions; it sets their Tell. It returns the session id for the response,
// and INVALID_FETCH_SESSION_EPOCH if another request of the session has come
// in between, which makes the response void.
func (f *Fetch) Finish(now time.Time, outcomes []Outcome) (int32, kafka.ErrorCode) {
	c, s := f.cache, f.session
	if s == nil {
		for i := range outcomes {
			outcomes[i].Tell = true
		}
		if !f.create || len(f.Partitions) == 0 {
			return NoSession, kafka.None
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.add(now, f, outcomes), kafka.None
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.epoch != f.epoch {
		return s.id, kafka.ErrInvalidFetchSessionEpoch
	}
	for i := range outcomes {
		o := &outcomes[i]
		e := s.entries[f.Partitions[i].Key]
		if e == nil {
			continue
		}
		o.Tell = e.tell(o)
		// Those that had records go to the end, so that the others come first
		// when the next response is full.
		if o.HasRecords && !mutant.On(mutant.SessionStarves) {
			s.order.MoveToBack(e.place)
		}
	}
	return s.id, kafka.None
}

// Len is the number of sessions, and of partitions in all of them.
func (c *Cache) Len() (sessions, partitions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions), c.entries
}

// add makes a session of a full fetch, if there is room for one.
func (c *Cache) add(now time.Time, f *Fetch, outcomes []Outcome) int32 {
	if c.options.SlotsMax < 0 || len(c.sessions) >= c.options.SlotsMax && !c.evict(now, len(f.Partitions)) {
		return NoSession
	}
	s := &session{byID: f.byID, created: now, used: now, epoch: 1,
		entries: make(map[Key]*entry, len(f.Partitions)), order: list.New()}
	for s.id == NoSession || c.sessions[s.id] != nil {
		s.id = 1 + c.rand.Int32N(math.MaxInt32)
	}
	for i := range f.Partitions {
		s.put(f.Partitions[i]).tell(&outcomes[i])
	}
	c.sessions[s.id] = s
	s.place = c.recent.PushBack(s)
	c.entries += len(s.entries)
	return s.id
}

// evict makes room for a session of size partitions: at the cost of the one
// that was not used for longest, or of one that is old and smaller.
func (c *Cache) evict(now time.Time, size int) bool {
	oldest := c.recent.Front().Value.(*session)
	if now.Sub(oldest.used) > c.options.AgeMin {
		c.remove(oldest)
		return true
	}
	var smallest *session
	for p := c.recent.Front(); p != nil; p = p.Next() {
		s := p.Value.(*session)
		if now.Sub(s.created) > c.options.AgeMin && (smallest == nil || len(s.entries) < len(smallest.entries)) {
			smallest = s
		}
	}
	if smallest == nil || len(smallest.entries) >= size {
		return false
	}
	c.remove(smallest)
	return true
}

func (c *Cache) remove(s *session) {
	delete(c.sessions, s.id)
	c.recent.Remove(s.place)
	c.entries -= len(s.entries)
	s.epoch = EpochFinal // a fetch that is under way is void
}

func (s *session) put(p Partition) *entry {
	e := s.entries[p.Key]
	if e == nil {
		e = &entry{untold: true, highWatermark: kafka.NoOffset, logStart: kafka.NoOffset}
		e.place = s.order.PushBack(e)
		s.entries[p.Key] = e
	} else if mutant.On(mutant.SessionOffsetKept) {
		return e
	}
	e.Partition = p
	return e
}

func (s *session) forget(k Key) {
	if e := s.entries[k]; e != nil {
		delete(s.entries, k)
		s.order.Remove(e.place)
	}
}

// tell says whether the client must hear of the outcome, and remembers what
// it will then know.
func (e *entry) tell(o *Outcome) bool {
	tell := e.untold || o.HasRecords || o.MustTell || o.Failed
	e.untold = false
	if o.HighWatermark != e.highWatermark && !mutant.On(mutant.SessionMarkUntold) {
		e.highWatermark, tell = o.HighWatermark, true
	}
	if o.LogStart != e.logStart {
		e.logStart, tell = o.LogStart, true
	}
	if o.Failed {
		// The next answer without an error is news again.
		e.highWatermark = kafka.NoOffset
	}
	return tell
}

// nextEpoch follows the largest epoch with 1: 0 asks for a new session.
func nextEpoch(e int32) int32 {
	if e == math.MaxInt32 {
		return 1
	}
	return e + 1
}

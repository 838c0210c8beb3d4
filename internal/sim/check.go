package sim

import (
	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/host/partition"
)

// checkers are all of them; each holds the world to one promise.
type checkers struct {
	w *world

	ackedCount, readCount, epochCount int

	probe       func(n *node)                    // looks at a disk when there is something that is not synced; nil: not now
	probeAfter  float64                          // how long after that, in times of a sync
	looks       int                              // into the nodes, so far
	images      []*metadata.Image                // by node: the last one seen
	newest      kafka.Offset                     // of any
	fences      []fence                          // by node
	atOffset    map[kafka.Offset]*metadata.Image // by their offset, as the first node had them
	producerIDs map[int64]string
	marks       map[*partition.Partition]mark // of open replicas
}

// mark is what may not go back while a replica is open.
type mark struct{ highWatermark, start kafka.Offset }

// history is what the checkers know of a partition.
type history struct {
	truth     []value                // by offset: what was acknowledged or read there; 0: not known
	stamps    map[kafka.Offset]int64 // by offset: of topics whose leader stamps records; nil: their producers do
	where     map[value]kafka.Offset
	acks      []ack
	weak      []ack             // of acks=1: only true while the first leader leads
	committed kafka.Offset      // the highest end that any client has been told of
	looked    kafka.Offset      // up to where lastSeen goes
	lastSeen  map[string]placed // by key: the last record that a node knew to be committed
	starts    kafka.Offset      // of the log, at the end
	mayStart  kafka.Offset      // the highest offset up to which a deletion was asked for
	trimmedTo kafka.Offset      // up to which one was acknowledged
	cut       bool              // a replica has dropped records that were not committed
	forgetful bool              // a damaged replica had to lead, which does not know who wrote what is damaged
	thinned   bool              // it was moved, and the replicas that left were in sync, others not
	lanes     map[uint64]*lane
	epochs    []epochSpan          // in the order of epochs
	synced    map[int]kafka.Offset // by node: up to where its replica was on disk when last seen
	highest   kafka.Offset         // high watermark of any replica
	lost      kafka.Offset         // up to where the disk had it that was lost
	spared    kafka.Offset         // of that: what was committed while nobody knew of the loss
	leaders   map[kafka.LeaderEpoch]int
	ledSince  instant // when the last of them was known first
	states    map[kafka.PartitionEpoch]*metadata.Partition
	seen      map[kafka.PartitionEpoch]*metadata.Image // in which each was known first
	newest    kafka.PartitionEpoch                     // of them
}

// placed is a record and where it is.
type placed struct {
	at kafka.Offset
	v  value
}

// ack is one acknowledged batch.
type ack struct {
	lane   *lane
	first  uint64
	count  int
	offset kafka.Offset // NoOffset: a duplicate whose offset was not told
}

func newCheckers(w *world) *checkers {
	return &checkers{w: w, atOffset: make(map[kafka.Offset]*metadata.Image), images: make([]*metadata.Image, len(w.plan.clocks)), fences: make([]fence, len(w.plan.clocks)), producerIDs: make(map[int64]string), marks: make(map[*partition.Partition]mark)}
}

// watchEvery is how often the nodes are looked into.
const watchEvery = 20 * millisecond

// haveCommittedEvery is how many of these looks make one at what is in sync,
// which takes longer.
const haveCommittedEvery = 5

// watch looks into the nodes now and then, until the end.
func (c *checkers) watch() {
	c.w.after(watchEvery, func() {
		c.looks++
		for _, n := range c.w.nodes {
			if n.up && n.broker != nil {
				c.look(n)
				c.waiting(n)
			}
		}
		c.watch()
	})
}

// lookAround takes in what the nodes have come to know of the cluster. It runs
// after every event: what lasts for a moment only counts too.
func (c *checkers) lookAround() {
	for _, n := range c.w.nodes {
		if n.up && n.broker != nil && n.broker.Image() != c.images[n.index] {
			c.unnoticed(n) // by what it knew until now
			c.images[n.index] = n.broker.Image()
			c.metadata(n, n.broker.Image())
		}
	}
}

// look looks into the replicas of a node.
func (c *checkers) look(n *node) {
	for _, p := range n.broker.Partitions() {
		part := c.part(p.TopicID(), p.Number())
		if part == nil {
			continue
		}
		if epoch, leads := p.Leads(); leads {
			c.leads(part, n, epoch)
			if c.looks%haveCommittedEvery == 0 {
				c.haveCommitted(part, n, p)
			}
		}
		c.mark(part, n, p)
	}
	c.unnoticed(n)
}

// saw notes up to where a replica is on disk.
func (c *checkers) saw(p *topicPart, n *node, hosted *partition.Partition) kafka.Offset {
	if p.synced == nil {
		p.synced = make(map[int]kafka.Offset)
	}
	p.synced[n.index] = c.safe(p, hosted.Status())
	return p.synced[n.index]
}

// safe is up to where a replica has what it may be acknowledged for: on its disk,
// or where its topic asks for no more in what outlives its process.
func (c *checkers) safe(p *topicPart, s partition.Status) kafka.Offset {
	if p.topic.relaxed {
		return s.End
	}
	return s.Synced
}

func (c *checkers) sawAll(n *node, all []*partition.Partition) {
	for _, hosted := range all {
		if p := c.part(hosted.TopicID(), hosted.Number()); p != nil {
			c.saw(p, n, hosted)
		}
	}
}

func (c *checkers) part(id kafka.TopicID, number int32) *topicPart {
	for _, t := range c.w.load.topics {
		if t.id == id && int(number) < len(t.parts) {
			return t.parts[number]
		}
	}
	return nil
}

func (c *checkers) started(n *node) { c.images[n.index] = nil }

func (c *checkers) ended(n *node) {
	if n.broker != nil {
		c.look(n) // the last moment to see it
		c.sawAll(n, n.broker.Partitions())
		c.durable(n, n.broker.Partitions(), nil, 0)
	}
}

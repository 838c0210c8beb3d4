package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/host/broker"
)

// Parts of a world with chance of their own.
const (
	partPlan = iota
	partNetwork
	partLoad
	partFaults
	partRaft
	partWays
	partProbes
	partTails
	partClient = 1 << 16
	partNode   = 2 << 16
	partDisk   = 3 << 16
)

// plan is what a seed draws before anything happens.
type plan struct {
	length         instant // of the part with faults
	clocks         []clock
	topics         int
	partitions     int32
	replicas       int
	minSync        int
	segmentBytes   int
	producers      int
	consumers      int
	committers     int
	mayLoseDisk    bool // one node may, since every record has another copy
	relaxed        bool // acknowledgements of some topics do not wait for disks; the power stays on
	requestTimeout instant
	lagMax         instant // replica.lag.time.max.ms
	adminEvery     instant // 0: never
	configEvery    instant // 0: never
	trimEvery      instant // 0: the administrator does it with all else
	static         map[string]string
	disks          []float64 // how slow they are
	founders       int       // nodes that found the cluster; the others join later
	latency        instant
	loss           float64
	groups         groupPlan
	kinds          []topicKind // of topics, to draw from
	snapshotEvery  int         // entries of the metadata log; 0: the default
	openInline     int         // logs that a node opens where it needs them; 0: the default
	manyIDs        bool        // more producer ids are asked for than a node gets at a time
	ways           ways
	compactOffsets bool // the topic of committed offsets has small segments, and is compacted often
}

func (w *world) draw(o Options) {
	rng := w.fork(partPlan)
	p := &w.plan
	p.length = instant(o.Length)
	nodes := []int{3, 3, 3, 3, 4, 5, 5}[rng.IntN(7)]
	if o.Nodes > 0 {
		nodes = o.Nodes
	}
	for range nodes {
		c := clock{rate: 1 + (rng.Float64()-0.5)/1000} // ±500 ppm
		switch rng.IntN(4) {
		case 0:
			c.wall = time.Duration(rng.Int64N(int64(time.Hour)) - int64(time.Hour)/2)
		case 1:
			c.wall = time.Duration(rng.Int64N(int64(time.Second)))
		}
		p.clocks = append(p.clocks, c)
		p.disks = append(p.disks, []float64{1, 1, 5, 50}[rng.IntN(4)])
	}
	p.founders = nodes
	if nodes > 3 && rng.IntN(2) == 0 {
		p.founders = 3 + rng.IntN(nodes-3)
	}
	p.topics = 1 + rng.IntN(3)
	p.partitions = int32(1 + rng.IntN(4))
	if o.Partitions > 0 {
		p.topics, p.partitions = 1, int32(o.Partitions)
	}
	p.replicas = min(nodes, []int{2, 3, 3, 3, 3, 5}[rng.IntN(6)])
	p.minSync = 1 + rng.IntN(2)
	if p.mayLoseDisk = p.replicas > 2 && rng.IntN(4) == 0; p.mayLoseDisk {
		p.minSync = 2
	}
	if rng.IntN(3) > 0 {
		p.segmentBytes = 2048 << rng.IntN(8)
	}
	p.kinds = []topicKind{plain, plain, plain, trimmed, retained, compacted}
	if rng.IntN(3) == 0 {
		p.kinds = []topicKind{plain, topicKind(rng.IntN(int(topicKinds)))}
	}
	if rng.IntN(2) == 0 {
		p.snapshotEvery = 20 << rng.IntN(5)
	}
	p.compactOffsets = rng.IntN(2) == 0
	p.producers = 1 + rng.IntN(3)
	p.consumers = 1 + rng.IntN(2)
	p.committers = rng.IntN(3)
	p.requestTimeout = instant(time.Duration(1+rng.IntN(8)) * time.Second)
	if rng.IntN(3) > 0 {
		p.adminEvery = instant(time.Duration(2+rng.IntN(20)) * time.Second)
		if rng.IntN(3) == 0 {
			p.adminEvery /= 8
		}
	}
	if rng.IntN(2) == 0 {
		p.trimEvery = instant(time.Duration(100+rng.IntN(3000)) * time.Millisecond)
	}
	if rng.IntN(2) == 0 {
		p.configEvery = instant(time.Duration(200+rng.IntN(3000)) * time.Millisecond)
	}
	p.lagMax = 500 * millisecond << rng.IntN(6)
	p.static = map[string]string{
		"replica.lag.time.max.ms":                 fmt.Sprint(int64(p.lagMax / millisecond)),
		"offsets.topic.num.partitions":            "3",
		"offsets.topic.replication.factor":        fmt.Sprint(min(3, nodes)),
		"log.retention.check.interval.ms":         fmt.Sprint(500 + rng.IntN(4000)),
		"log.cleaner.backoff.ms":                  fmt.Sprint(100 + rng.IntN(3000)),
		"leader.imbalance.check.interval.seconds": fmt.Sprint(1 + rng.IntN(60)),
	}
	p.latency = instant(50+rng.IntN(1000)) * microsecond
	if rng.IntN(3) == 0 {
		p.loss = rng.Float64() * 0.02
	}
	p.manyIDs = rng.IntN(12) == 0
	if rng.IntN(3) == 0 {
		p.openInline = 1
	}
	w.drawGroups(o)
	p.ways = drawWays(w.fork(partWays))
	if len(o.Faults) > 0 {
		p.ways.tails = slices.Contains(o.Faults, tailFault)
	}
	if p.ways.resets {
		p.trim()
	}
	for i := range p.clocks { // else nothing is forgotten
		if c := &p.clocks[i]; p.ways.expiry && c.differs() {
			c.wall = 0
		}
	}
	p.relaxed = len(o.Faults) == 0 && !p.mayLoseDisk && rng.IntN(10) == 0
}

// ways are what nodes and clients may do in one way or another. They have chance
// of their own.
type ways struct {
	cacheBytes int64 // of logs; with directMin above 0
	directMin  int64 // bytes of an append that is left in memory until it is synced; 0: none is
	racks      int32 // that nodes and consumers are in; 0: none
	noteBytes  int64 // bytes until the state of a log's producers is noted; 0: the default, which no run comes to
	silences   bool  // producers fall silent for a while, some for good
	resets     bool  // logs soon begin beyond where a node is that was away
	expiry     bool  // silent producers are looked for, and some records are old
	tails      bool  // leaders are replaced again and again that have records which nobody else has
}

func drawWays(rng *rand.Rand) ways {
	var w ways
	if rng.IntN(3) == 0 {
		w.cacheBytes, w.directMin = 1<<rng.IntN(16), 200<<rng.IntN(5)
	}
	if rng.IntN(2) == 0 {
		w.racks = 2
	}
	if rng.IntN(2) == 0 {
		w.noteBytes = 256 << rng.IntN(6)
	}
	w.silences, w.resets = rng.IntN(3) == 0, rng.IntN(5) == 0
	if w.expiry = rng.IntN(4) == 0; w.expiry {
		w.silences = true
		if w.noteBytes == 0 {
			w.noteBytes = 256 << rng.IntN(6)
		}
	}
	w.tails = rng.IntN(4) == 0
	return w
}

// trim has old records go soon and often, partitions move, and producers fall
// silent, so that what is known of them is in no log any more.
func (p *plan) trim() {
	p.kinds = []topicKind{trimmed, trimmed, trimmed, retained}
	p.ways.silences = true
	p.trimEvery = min(max(p.trimEvery, 100*millisecond), 500*millisecond)
	if p.adminEvery == 0 || p.adminEvery > 3*second {
		p.adminEvery = 3 * second
	}
}

// rack is that of the i-th node or consumer; "": it has none.
func (w *ways) rack(i int) string {
	if w.racks == 0 {
		return ""
	}
	return fmt.Sprintf("rack%d", i%int(w.racks))
}

// options are those that a node's process is started with.
func (p *plan) options(n *node) broker.Options {
	o := broker.Options{
		Node: n.id, DataDir: "/data", Voters: make(map[kafka.NodeID]string),
		AdvertiseHost: fmt.Sprintf("node%d", n.id), AdvertisePort: 9092, Static: p.static, SnapshotEntries: p.snapshotEvery, OpenInline: p.openInline,
	}
	for i := range p.founders {
		o.Voters[kafka.NodeID(i+1)] = fmt.Sprintf("node%d:9093", i+1)
	}
	o.LogCacheBytes, o.LogDirectMin, o.NoteBytes = p.ways.cacheBytes, p.ways.directMin, p.ways.noteBytes
	o.OffsetsKept, o.LoadBytes = time.Duration(p.groups.kept), p.groups.loadBytes
	o.Rack = p.ways.rack(n.index)
	o.PeerAddress = fmt.Sprintf("node%d:9093", n.id)
	o.Joining = n.wiped || n.index >= p.founders // which the cluster tells a node with an empty disk
	return o
}

// expireProducers has silent producers looked for all the time, and none be
// silent for long enough to be forgotten.
func (w *world) expireProducers() {
	if !w.wallClocksDiffer() {
		w.plan.static["producer.id.expiration.ms"] = fmt.Sprint(int64((w.plan.length + 150*second) / millisecond))
	}
}

// wallClocksDiffer says whether what one node takes for a minute ago may be
// hours ago to the next one that is asked.
func (w *world) wallClocksDiffer() bool {
	return slices.ContainsFunc(w.plan.clocks, clock.differs) || w.faults.has("step clock")
}

package sim

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
	"chronik/internal/host/broker"
	"chronik/internal/storage/wal"
)

// damageWatch is what nodes have said of damage in their logs.
type damageWatch struct {
	known map[watchedReplica]*watched
	lines map[*node]*scrubLines
}

type watchedReplica struct {
	n         *node
	topic     string
	partition int32
}

// watched is what a process knows of the damage in one of its logs.
type watched struct {
	life     uint64
	bad      map[kafka.Offset]instant // by the segment's base: when it was found
	repaired instant                  // when a segment was last
}

// scrubLines count what a process has written of its scrubber.
type scrubLines struct {
	life                                       uint64
	damages, unopened, repairs, anew, failures int64
	metadata, indices                          int64
}

var (
	lineReplica  = regexp.MustCompile(` topic=(\S+) partition=(\d+) `)
	lineTopicID  = regexp.MustCompile(` topic_id=(\S+) partition=(\d+) `)
	lineSegment  = regexp.MustCompile(`segment_(\d{20})`)
	lineRepaired = regexp.MustCompile(` from=(\d+) to=(\d+) `)
)

func offsetOf(s string) kafka.Offset {
	n, _ := strconv.ParseInt(s, 10, 64)
	return kafka.Offset(n)
}

// logged takes in what a node writes of damage and its repair.
func (w *damageWatch) logged(n *node, message, line string) {
	c := w.lines[n]
	if c == nil || c.life != n.life {
		c = &scrubLines{life: n.life}
		w.lines[n] = c
	}
	switch message {
	case "checkpoint of a log is lost: all of the log is verified before it is in use again":
		c.damages++
	case "log is damaged":
		if strings.Contains(line, " node=") { // else it is said when a log is opened, and again
			c.damages++
		}
	case "segment repaired":
		c.repairs++
	case "damaged log was set aside; it is copied anew from the leader":
		c.anew++
	case "damaged replica cannot be repaired now; nothing was removed":
		c.failures++
	case "metadata files are damaged; they are written anew from memory":
		c.metadata++
	case "damaged index was made anew":
		c.indices++
	case "partition could not be opened and is offline on this node", "partition could not be opened again", "log reset", "partition opened again":
		c.unopened++
	default:
		return
	}
	at := lineReplica.FindStringSubmatch(line)
	if at == nil {
		return
	}
	key := watchedReplica{n, at[1], int32(offsetOf(at[2]))}
	r := w.known[key]
	if r == nil || r.life != n.life {
		r = &watched{life: n.life, bad: make(map[kafka.Offset]instant)}
		w.known[key] = r
	}
	switch message {
	case "log is damaged":
		if s := lineSegment.FindStringSubmatch(line); s != nil {
			r.bad[offsetOf(s[1])] = n.w.now
		}
	case "segment repaired":
		r.repaired = n.w.now
		s := lineRepaired.FindStringSubmatch(line)
		from, to, first := offsetOf(s[1]), offsetOf(s[2]), kafka.NoOffset
		for base := range r.bad {
			if base >= from && base < to {
				delete(r.bad, base)
			} else if base < from {
				first = max(first, base)
			}
		}
		delete(r.bad, first) // of which the log begins in the midst
	case "damaged index was made anew":
	default: // another log, or it was opened again
		clear(r.bad)
	}
}

// unfit checks that a replica that cannot be used neither leads nor counts.
func (c *checkers) unfit(p *topicPart, state *metadata.Partition) {
	for _, u := range state.Unfit {
		if state.Leader == u.Node || state.IsInSync(u.Node) || u.Fitness == metadata.Damaged && slices.Contains(state.EligibleLeader, u.Node) {
			c.w.violate("a replica that cannot be used neither leads nor counts", "%s: %+v", p, *state)
		}
	}
}

// usable checks that a replica is not called fit while it is to be repaired by what
// its node has said before it repaired the last segment.
func (c *checkers) usable(p *topicPart, from, to *metadata.Partition) {
	for _, u := range from.Unfit {
		n := c.w.nodes[u.Node-1]
		if u.Fitness != metadata.Damaged || to.IsUnfit(u.Node) || !to.IsReplica(u.Node) || n.broker == nil {
			continue
		}
		r, hosted := c.w.flips.watch.known[watchedReplica{n, p.topic.name, p.number}], n.broker.Partition(p.topic.id, p.number)
		if r == nil || r.life != n.life || hosted == nil || p.topic.again {
			continue
		}
		for _, base := range slices.Sorted(maps.Keys(r.bad)) {
			if found := r.bad[base]; found < r.repaired && base >= hosted.LogStart() && base < hosted.LogEnd() {
				c.w.violate("a damaged replica is used when all of it is repaired", "%s: node %d is fit again, and has repaired a segment at %v, but that at offset %d was found damaged at %v and is not repaired",
					p, n.id, r.repaired, base, found)
				return
			}
		}
	}
}

// scrubbed checks what a node has after its scrubber has gone over all that it has:
// nothing damaged, and it counts what it has written of.
func (f *flipper) scrubbed(n *node) {
	state := n.broker.Scrub(n.time(), broker.ScrubRequest{})
	counts := state.Counts
	if c := f.watch.lines[n]; c != nil && c.life == n.life {
		if counts.Damages < c.damages || counts.Damages > c.damages+c.unopened+c.metadata || counts.Repairs != c.repairs+c.metadata ||
			counts.StartedOver != c.anew || counts.Failures != c.failures || counts.Indices != c.indices {
			f.w.violate("the scrubber counts what it does", "node %d: it has %+v, but has written of %+v", n.id, counts, *c)
		}
	}
	for _, r := range state.Replicas {
		for _, p := range f.w.load.parts() {
			if p.topic.name == r.Topic && p.number == r.Partition && r.VerifiedAt.IsZero() && r.LogEnd > r.LogStart && counts.StartedOver == 0 { // nothing is verified in an empty one, which may be new
				f.w.violate("a pass goes over all logs", "%s on node %d was never verified: %+v", p, n.id, r)
			}
		}
	}
	disk := n.disk.mem.Crash(nil, 1)
	disk.SetCapacity(0)
	for _, p := range f.w.load.parts() {
		if n.broker.Partition(p.topic.id, p.number) == nil {
			continue
		}
		log, rec, err := wal.Open(disk, logDir(p), wal.Identity{TopicID: p.topic.id, Partition: p.number}, wal.Options{}, n.time())
		why := fmt.Sprint(err, rec.Damage, rec.Damages)
		if rec.Damage != nil && rec.Damage.Offset < rec.Bounds.Start { // which is not repaired
			log.Abandon()
			continue
		}
		sound := err == nil && rec.Damage == nil && len(rec.Damages) == 0
		for at := rec.Bounds.Start; sound && at < rec.Bounds.End; {
			piece, err := log.Verify(at, rec.Bounds.End, 1<<20, 0)
			why = fmt.Sprint(err, piece.Damage, piece.IndexRebuilt)
			sound = err == nil && piece.Damage == nil && !piece.IndexRebuilt && piece.To > at
			at = piece.To
		}
		if log != nil {
			log.Abandon()
		}
		if !sound {
			f.w.violate("what was gone over is sound", "%s on node %d: %s", p, n.id, why)
			return
		}
	}
}

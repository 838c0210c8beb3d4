package sim

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// fetcher reads all partitions that one node leads by one request at a time, in
// a session: a request names what has changed since the one before, an answer
// what there is to tell (KIP-227).
type fetcher struct {
	c     *consumer
	node  int
	id    int32 // of the session; 0: none
	epoch int32
	told  []fetchTold // what the session knows, in the order in which it came to know
}

// fetchTold is what a session was told of a partition.
type fetchTold struct {
	r             *reading
	next          kafka.Offset
	epoch, leader int32
	trimmed       kafka.Offset // what was known to be deleted when the request was sent
	before        bool         // the session knew it
	now           sessionMark  // what the node knew when the request was sent; NoOffset: another one leads
	mark          sessionMark  // what the session has told last
	passed        int          // answers in a row without any of the records that there were
	most          int          // partitions that the session has had since
}

// sessionMark is what a session tells of a partition beside its records.
type sessionMark struct{ highWatermark, start kafka.Offset }

var noMark = sessionMark{kafka.NoOffset, kafka.NoOffset}

// known is what the node knows of a partition that it leads in an epoch.
func (f *fetcher) known(p *topicPart, epoch int32) sessionMark {
	n := f.c.c.w.nodes[f.node]
	if !n.up || n.broker == nil {
		return noMark
	}
	hosted := n.broker.Partition(p.topic.id, p.number)
	if hosted == nil {
		return noMark
	}
	if leads, ok := hosted.Leads(); !ok || int32(leads) != epoch {
		return noMark
	}
	return sessionMark{hosted.HighWatermark(), hosted.LogStart()}
}

// within says whether a node's high watermark may be within a batch, so that there
// is none to be read: one that has restarted knows an earlier one, and compaction
// has made larger batches since.
func (f *fetcher) within(p *topicPart) bool {
	n := f.c.c.w.nodes[f.node]
	if p.topic.kind != compacted || !n.up || n.broker == nil {
		return false
	}
	hosted := n.broker.Partition(p.topic.id, p.number)
	return hosted != nil && hosted.HighWatermark() < hosted.LogEnd()
}

// heard takes in an answer to a request, and checks that nothing is kept from
// the client: neither what the node knew when it was asked, nor for ever what
// there is to be read, however much there is of other partitions. Got is nil for
// what the answer says nothing of.
func (f *fetcher) heard(t *fetchTold, got *kmsg.FetchResponseTopicPartition) bool {
	w := f.c.c.w
	switch {
	case t.r.part.topic.deleted || got != nil && got.ErrorCode != 0:
		t.mark, t.passed, t.most = noMark, 0, 0
		return true
	case got != nil:
		t.mark = sessionMark{kafka.Offset(got.HighWatermark), kafka.Offset(got.LogStartOffset)}
	}
	if t.mark.highWatermark < t.now.highWatermark || t.mark.start < t.now.start {
		w.violate("a fetch session tells of what it is to fetch", "%s on node %d: session %d has told last that %s has the high watermark %d and begins at %d, when it was asked these were %d and %d",
			f.c.c.name, f.node+1, f.id, t.r.part, t.mark.highWatermark, t.mark.start, t.now.highWatermark, t.now.start)
		return false
	}
	if t.passed++; t.now.highWatermark <= t.next || got != nil && len(got.RecordBatches) > 0 || f.within(t.r.part) {
		t.passed, t.most = 0, 0
	}
	t.most = max(t.most, len(f.told))
	if t.passed > t.most+1 {
		w.violate("a fetch session passes over nobody", "%s on node %d: session %d has not told of the records of %s from %d to %d in %d answers, it has %d partitions",
			f.c.c.name, f.node+1, f.id, t.r.part, t.next, t.now.highWatermark, t.passed, t.most)
		return false
	}
	return true
}

// inSessions says whether the consumer reads the partition so. A topic of a
// name that was there before is asked for by its id.
func (r *reading) inSessions() bool {
	return r.c.sessions && (r.c.version >= 13 || !r.part.topic.again)
}

// fetchers makes those of a consumer, one for each node.
func (c *consumer) fetchers() {
	for i := range c.c.w.nodes {
		f := &fetcher{c: c, node: i}
		c.c.w.after(c.c.between(0, 200*millisecond), f.turn)
	}
}

func (f *fetcher) later() {
	c := f.c.c
	c.w.after(c.between(5*millisecond, 30*millisecond), f.turn)
}

// reset forgets the session: the next request begins another.
func (f *fetcher) reset() { f.id, f.epoch, f.told = 0, 0, nil }

// wanted are the partitions to be fetched from this node now.
func (f *fetcher) wanted() (out []fetchTold) {
	for _, r := range f.c.reads {
		if !r.ready || r.part.topic.deleted || !r.inSessions() {
			continue
		}
		if h, ok := f.c.c.leader(r.part); ok && h.node == f.node {
			out = append(out, fetchTold{r: r, next: r.next, epoch: r.epoch, leader: h.epoch, trimmed: r.part.trimmedTo, now: f.known(r.part, h.epoch), mark: noMark})
		}
	}
	return out
}

func (f *fetcher) turn() {
	c := f.c
	if c.c.w.stopped {
		return
	}
	want := f.wanted()
	if len(want) == 0 {
		f.later()
		return
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MinBytes, req.MaxBytes, req.MaxWaitMillis = c.version, -1, c.minBytes, c.maxBytes, c.patience()
	req.SessionID, req.SessionEpoch, req.IsolationLevel = f.id, f.epoch, isolation(c.isolated)
	before := f.told
	f.told = nil
	for _, o := range before { // what stays keeps its place
		if i := indexOf(want, o.r); i >= 0 {
			want[i].before, want[i].mark, want[i].passed, want[i].most = true, o.mark, o.passed, o.most
			if want[i].next != o.next || want[i].epoch != o.epoch || want[i].leader != o.leader {
				f.name(req, want[i])
			}
			f.told = append(f.told, want[i])
			continue
		}
		ft := kmsg.NewFetchRequestForgottenTopic()
		ft.Topic, ft.TopicID, ft.Partitions = o.r.part.topic.name, o.r.part.topic.id, []int32{o.r.part.number}
		req.ForgottenTopics = append(req.ForgottenTopics, ft)
	}
	for _, w := range want {
		if !w.before {
			f.name(req, w)
			f.told = append(f.told, w)
		}
	}
	k := c.c.call(f.node, req, c.c.w.plan.requestTimeout, func(resp kmsg.Response, err error) {
		defer f.later()
		if err != nil {
			f.reset()
			c.c.refresh()
			return
		}
		f.answered(resp.(*kmsg.FetchResponse))
	})
	k.told = f.told
}

func indexOf(list []fetchTold, r *reading) int {
	for i := range list {
		if list[i].r == r {
			return i
		}
	}
	return -1
}

// fetchPartMax is how many bytes are asked for of one partition.
const fetchPartMax = 64 << 10

// name puts a partition into the request.
func (f *fetcher) name(req *kmsg.FetchRequest, w fetchTold) {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch, p.LastFetchedEpoch = w.r.part.number, int64(w.next), fetchPartMax, w.leader, w.epoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID, t.Partitions = w.r.part.topic.name, w.r.part.topic.id, []kmsg.FetchRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
}

func (f *fetcher) answered(resp *kmsg.FetchResponse) {
	c, w := f.c, f.c.c.w
	switch code := kafka.ErrorCode(resp.ErrorCode); code {
	case kafka.None:
	case kafka.ErrFetchSessionIDNotFound: // another process is there now
		f.reset()
		return
	default:
		w.violate("a fetch session goes on", "%s on node %d: session %d at epoch %d ends with %v", c.c.name, f.node+1, f.id, f.epoch, code)
		return
	}
	if f.epoch > 0 && resp.SessionID != f.id {
		w.violate("a fetch session goes on", "%s on node %d: session %d is answered as %d", c.c.name, f.node+1, f.id, resp.SessionID)
		return
	}
	if f.id = resp.SessionID; f.id == 0 {
		f.reset()
	} else {
		f.epoch++
	}
	told := f.told
	answers := make([]*kmsg.FetchResponseTopicPartition, len(told))
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		for j := range rt.Partitions {
			fp := &rt.Partitions[j]
			at := -1
			for k := range told {
				if p := told[k].r.part; p.number == fp.Partition && (c.version >= 13 && p.topic.id == rt.TopicID || c.version < 13 && p.topic.name == rt.Topic) {
					at = k
				}
			}
			if at < 0 {
				w.violate("a fetch session tells of what it is to fetch", "%s on node %d: session %d tells of partition %d of %s (%s)", c.c.name, f.node+1, f.id, fp.Partition, rt.Topic, kafka.TopicID(rt.TopicID))
				return
			}
			t := told[at]
			answers[at] = fp
			if t.r.part.topic.deleted || !w.check.start(t.r.part, kafka.Offset(fp.LogStartOffset), t.trimmed, f.node) {
				continue
			}
			if t.r.next != t.next || t.r.epoch != t.epoch {
				continue // another node leads and has answered meanwhile
			}
			t.r.ready = false
			t.r.got(leaderHint{f.node, t.leader}, fp)
		}
	}
	for at := range told {
		if w.stopped || !f.heard(&told[at], answers[at]) {
			return
		}
	}
}

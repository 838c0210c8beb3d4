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
			out = append(out, fetchTold{r: r, next: r.next, epoch: r.epoch, leader: h.epoch, trimmed: r.part.trimmedTo})
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
	req.Version, req.ReplicaID, req.MinBytes, req.MaxBytes, req.MaxWaitMillis = c.version, -1, 1, c.maxBytes, c.patience()
	req.SessionID, req.SessionEpoch, req.IsolationLevel = f.id, f.epoch, isolation(c.isolated)
	before := f.told
	f.told = nil
	for _, o := range before { // what stays keeps its place
		if i := indexOf(want, o.r); i >= 0 {
			want[i].before = true
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
	c.c.call(f.node, req, c.c.w.plan.requestTimeout, func(resp kmsg.Response, err error) {
		defer f.later()
		if err != nil {
			f.reset()
			c.c.refresh()
			return
		}
		f.answered(resp.(*kmsg.FetchResponse))
	})
}

func indexOf(list []fetchTold, r *reading) int {
	for i := range list {
		if list[i].r == r {
			return i
		}
	}
	return -1
}

// name puts a partition into the request.
func (f *fetcher) name(req *kmsg.FetchRequest, w fetchTold) {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch, p.LastFetchedEpoch = w.r.part.number, int64(w.next), 64<<10, w.leader, w.epoch
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
}

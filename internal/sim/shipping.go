package sim

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// freight is a batch on its way to a node.
type freight struct {
	ln *lane
	b  *batch
	h  leaderHint
}

// send sends a lane's batch to a node, maybe with one each of other lanes.
func (p *producer) send(ln *lane, b *batch, h leaderHint) {
	all := []freight{{ln, b, h}}
	ln.load(b, h)
	// With acks=1 what is on disk is looked at when all partitions are done.
	for _, other := range p.lanes {
		if !p.shares || p.acks == 1 || other == ln || len(all) == 4 {
			continue
		}
		if b, at := other.next(); b != nil && at.node == h.node {
			other.load(b, at)
			all = append(all, freight{other, b, at})
		}
	}
	req := p.request(all)
	var onDisk kafka.Offset // an earlier request with the batch may be answered later
	k := p.c.call(h.node, req, p.l.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		for _, f := range all {
			f.b.flying = false
			f.ln.flying--
		}
		b.onDisk = onDisk
		for _, f := range all {
			p.arrived(f, r, err)
		}
	})
	if p.acks == 1 {
		k.served = func() {
			if hosted := p.c.w.nodes[h.node].broker.Partition(ln.part.topic.id, ln.part.number); hosted != nil {
				onDisk = p.l.w.check.safe(ln.part, hosted.Status())
			}
		}
	}
}

// load takes note that a batch is about to be sent.
func (ln *lane) load(b *batch, h leaderHint) {
	if b.attempts == 0 {
		b.least = ln.part.committed
	}
	b.trimmed = ln.part.trimmedTo
	b.flying = true
	b.attempts++
	ln.flying++
	ln.node = h.node
}

// request is one with all that is to be sent, each topic once.
func (p *producer) request(all []freight) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = p.version, p.acks, 2000
	places := make(map[*topicState]int)
	for _, f := range all {
		t := f.ln.part.topic
		if t.again {
			req.Version = 13 // by id: a node may still have the topic that had the name before
		}
		at, ok := places[t]
		if !ok {
			at = len(req.Topics)
			places[t] = at
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic, rt.TopicID = t.name, t.id
			req.Topics = append(req.Topics, rt)
		}
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = f.ln.part.number, f.b.bytes
		req.Topics[at].Partitions = append(req.Topics[at].Partitions, rp)
	}
	return req
}

// arrived takes in what became of one batch of a request.
func (p *producer) arrived(f freight, r kmsg.Response, err error) {
	ln := f.ln
	switch {
	case ln.part.topic.deleted || p.c.w.stopped:
		return
	case err != nil:
		ln.last = err.Error()
		p.c.refresh()
		ln.retry()
		return
	case r == nil: // acks=0
		ln.finish(f.b)
		return
	}
	resp := r.(*kmsg.ProduceResponse)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if resp.Version >= 13 && kafka.TopicID(t.TopicID) != ln.part.topic.id || resp.Version < 13 && t.Topic != ln.part.topic.name {
			continue
		}
		for j := range t.Partitions {
			if got := &t.Partitions[j]; got.Partition == ln.part.number {
				ln.answered(f.b, f.h, got)
				return
			}
		}
	}
	p.c.w.violate("each partition of a request is answered", "%s sent a batch for %s to node %d, which does not say what became of it", p.c.name, ln.part, f.h.node+1)
}

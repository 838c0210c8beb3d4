package sim

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
	"chronik/internal/format/wire"
)

// client is a program that speaks the Kafka protocol to the nodes.
type client struct {
	w        *world
	name     string
	site     int // its place in the network
	rng      *rand.Rand
	sessions []*session // by node; nil: not connected
	calls    int64

	leaders    map[*topicPart]leaderHint
	refreshing bool
}

// leaderHint is what a client takes for the leader of a partition.
type leaderHint struct {
	node  int
	epoch int32
}

var (
	errTimeout    = errors.New("no answer in time")
	errConnection = errors.New("connection lost")
)

func (w *world) newClient(name string) *client {
	i := len(w.clients)
	c := &client{w: w, name: name, site: len(w.nodes) + i%clientSites, rng: w.fork(partClient + uint64(i)),
		sessions: make([]*session, len(w.nodes)), leaders: make(map[*topicPart]leaderHint)}
	w.clients = append(w.clients, c)
	return c
}

func (c *client) between(lo, hi instant) instant { return lo + instant(c.rng.Int64N(int64(hi-lo))) }

// session is one connection of a client with a node, as edge/listener keeps it:
// requests are handled in order, and answered in order.
type session struct {
	c       *client
	node    *node
	life    uint64
	client  *api.Client
	out, in connection // of the client
	closed  bool       // by either side
	open    []*call    // without answer, in order
	served  []*slot    // by the node, without answer, in order
}

// call is one request of a client.
type call struct {
	number  int64
	key     int16
	version int16
	req     kmsg.Request
	told    []fetchTold // of a fetch in a session: what that is to read
	by      string      // the client's name
	done    func(resp kmsg.Response, err error)
	ended   bool
	served  func() // called when the node answers it; nil: nobody cares
	late    func() // called when the node handles it though the client has given it up; nil: nobody cares
}

// slot is a request as the node has it.
type slot struct {
	call     *call
	since    instant
	answered bool
	answer   []byte // nil: none is to be sent
	close    bool
}

// call sends a request to a node. Done is called once: with the response, or
// when there will be none.
func (c *client) call(to int, req kmsg.Request, timeout instant, done func(resp kmsg.Response, err error)) *call {
	s := c.sessions[to]
	if s == nil {
		n := c.w.nodes[to]
		s = &session{c: c, node: n, life: n.life, out: connection{n: c.w.net, from: c.site, to: to}, in: connection{n: c.w.net, from: to, to: c.site}}
		c.sessions[to] = s
	}
	c.calls++
	k := &call{number: c.calls, key: req.Key(), version: req.GetVersion(), req: req, by: c.name, done: done}
	s.open = append(s.open, k)
	id := c.name
	frame := wire.AppendRequest(nil, int32(k.number), &id, req)[4:]
	unacked := false
	if p, ok := req.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
		unacked = true
	}
	c.w.note(noteRequest, c.site, to, k.number, int64(crc32.Checksum(frame, castagnoli)), fmt.Sprintf("%s %s v%d", c.name, kmsg.NameForKey(k.key), k.version))
	s.out.carry(c.w.now, func() { s.arrive(k, frame) })
	if unacked {
		s.forget(k)
		c.w.after(0, func() { done(nil, nil) })
		return k
	}
	c.w.after(timeout, func() {
		if !k.ended {
			s.lose(errTimeout)
		}
	})
	return k
}

// forget takes a call out of those that wait.
func (s *session) forget(k *call) {
	k.ended = true
	for i, o := range s.open {
		if o == k {
			s.open = append(s.open[:i], s.open[i+1:]...)
			return
		}
	}
}

// lose ends the connection for the client. The node may not know yet, and goes
// on with what it has.
func (s *session) lose(err error) {
	if s.closed {
		return
	}
	s.closed, s.in.broken = true, true
	if s.c.sessions[s.node.index] == s {
		s.c.sessions[s.node.index] = nil
	}
	open := s.open
	s.open = nil
	for _, k := range open {
		k.ended = true
		s.c.w.after(0, func() { k.done(nil, err) })
	}
}

// loseSoon is lose after the time that the news takes.
func (s *session) loseSoon() {
	s.out.broken = true
	s.c.w.after(s.c.w.net.travel(s.node.index, s.c.site), func() { s.lose(errConnection) })
}

// ended is called when the node's process has ended.
func (s *session) ended(power bool) {
	if !power {
		s.loseSoon()
	}
}

// arrive takes a request at the node.
func (s *session) arrive(k *call, frame []byte) {
	n := s.node
	if n.dark {
		return // nobody is there to say so
	}
	if !n.up || n.life != s.life || n.broker == nil {
		s.loseSoon()
		return
	}
	n.deliver(func() {
		if !n.serving {
			s.loseSoon()
			return
		}
		if s.client == nil {
			n.clientIDs++
			s.client = &api.Client{ID: n.clientIDs, Host: "10.0.0.9", Listener: "PLAINTEXT"}
			n.sessions = append(n.sessions, s)
		}
		if k.ended && k.late != nil {
			k.late()
		}
		sl := &slot{call: k, since: s.c.w.now}
		s.served = append(s.served, sl)
		life, now := n.life, n.time()
		n.server.Handle(n.time(), frame, s.client, func(a api.Answer) {
			if sl.answered {
				s.c.w.violate("a request is answered once", "node %d answered %s #%d of %s twice", n.id, kmsg.NameForKey(k.key), k.number, s.c.name)
				return
			}
			sl.answered, sl.close = true, a.Close
			if k.served != nil && n.life == life {
				k.served()
			}
			if a.Response != nil {
				if n.life == life {
					s.c.w.check.answer(n, k.req, a.Response)
					if r, ok := a.Response.(*kmsg.FetchResponse); ok {
						s.c.w.check.early(n, k, now, r)
					}
				}
				sl.answer = wire.AppendResponse(nil, a.CorrelationID, a.Response)
			}
			if a.Release != nil {
				a.Release()
			}
			if n.life == life {
				s.flush()
			}
		})
		if !sl.answered && n.life == life {
			s.c.w.check.taken(n, sl)
		}
		for i := range frame {
			frame[i] = 0xdb // from here on the frame is another request's
		}
	})
}

// flush sends the answers that are next in order.
func (s *session) flush() {
	for len(s.served) > 0 && s.served[0].answered {
		sl := s.served[0]
		s.served[0] = nil
		s.served = s.served[1:]
		if sl.answer != nil {
			s.c.w.faults.answering(s.node, sl.call.key)
		}
		if sl.answer != nil {
			s.in.carry(s.node.clockNow(), func() { s.answered(sl.call, sl.answer) })
		}
		if sl.close {
			s.in.carry(s.node.clockNow(), func() { s.lose(errConnection) })
		}
	}
}

// answered takes an answer at the client.
func (s *session) answered(k *call, frame []byte) {
	if k.ended {
		return
	}
	c := s.c
	c.w.note(noteAnswer, s.node.index, c.site, k.number, int64(crc32.Checksum(frame, castagnoli)), fmt.Sprintf("%s %s", c.name, kmsg.NameForKey(k.key)))
	if len(s.open) == 0 || s.open[0] != k {
		c.w.violate("answers come in the order of the requests", "%s got the answer to #%d first", c.name, k.number)
		return
	}
	s.forget(k)
	correlation, resp, err := wire.DecodeResponse(k.key, k.version, frame[4:])
	if err != nil || correlation != int32(k.number) {
		c.w.violate("answers can be read", "%s v%d from node %d: correlation id %d, want %d: %v", kmsg.NameForKey(k.key), k.version, s.node.id, correlation, k.number, err)
		return
	}
	k.done(resp, nil)
}

// refresh asks some node who leads what.
func (c *client) refresh() {
	if c.refreshing {
		return
	}
	c.refreshing = true
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, t := range c.w.load.topics {
		if !t.deleted {
			mt := kmsg.NewMetadataRequestTopic()
			mt.Topic = kmsg.StringPtr(t.name)
			req.Topics = append(req.Topics, mt)
		}
	}
	c.call(c.rng.IntN(len(c.w.nodes)), req, 2*second, func(r kmsg.Response, err error) {
		if err != nil {
			c.w.after(c.between(20*millisecond, 100*millisecond), func() { c.refreshing = false; c.refresh() })
			return
		}
		c.w.after(c.between(5*millisecond, 50*millisecond), func() { c.refreshing = false })
		for _, mt := range r.(*kmsg.MetadataResponse).Topics {
			if mt.Topic == nil || mt.ErrorCode != 0 {
				continue
			}
			t := c.w.load.topic(*mt.Topic, mt.TopicID)
			if t == nil {
				continue
			}
			for _, mp := range mt.Partitions {
				if int(mp.Partition) < len(t.parts) && mp.Leader > 0 {
					c.learn(t.parts[mp.Partition], kafka.NodeID(mp.Leader), mp.LeaderEpoch)
				}
			}
		}
	})
}

// learn takes in who leads a partition, if that is not older than what is known.
func (c *client) learn(p *topicPart, leader kafka.NodeID, epoch int32) {
	if old, ok := c.leaders[p]; ok && epoch < old.epoch || int(leader) > len(c.w.nodes) || leader < 1 {
		return
	}
	c.leaders[p] = leaderHint{int(leader) - 1, epoch}
}

// leader is who the client takes for the leader of a partition. When it does
// not know it asks, and the caller tries again later.
func (c *client) leader(p *topicPart) (leaderHint, bool) {
	h, ok := c.leaders[p]
	if !ok {
		c.refresh()
	}
	return h, ok
}

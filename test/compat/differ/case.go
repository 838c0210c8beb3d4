package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Case is a conversation that is held with both servers, once for each version
// of its API key that both offer.
type Case struct {
	Key      int16
	Name     string
	From, To int16 // versions; To 0 means all from From on
	Alone    bool  // touches what all cases share: runs while nothing else does
	Nodes    int   // 3 for a case of a cluster of three, 0 for one of a single node
	Without  bool  // runs when node 3 was killed; what Before does, is done earlier
	Before   func(c *Conversation)
	Ignore   []string // globs of paths that are not compared
	Run      func(c *Conversation)
}

var cases []Case

func add(list ...Case) { cases = append(cases, list...) }

// Conversation is one run of a case with one server.
type Conversation struct {
	*Speaker
	V    int16 // the version under test
	side *side
	of   *Case
	tag  string // names of topics and groups begin with it

	mu       sync.Mutex
	answers  []*answer
	speakers []*Speaker
	ids      map[[16]byte]string // names of topics whose ids were looked up
	nodes    map[int32]*Speaker  // see Node
}

// Speaker is one connection of a conversation.
type Speaker struct {
	c    *Conversation
	conn connection
}

// answer is what a server did after one request.
type answer struct {
	label   string
	outcome string // "answered", "closed", "no answer", or what was wrong with the answer
	resp    kmsg.Response
	values  []value // instead of resp
}

// setupFailed unwinds a case that could not be set up.
type setupFailed struct{ reason string }

// notOffered unwinds a case that needs an API which the server does not have.
type notOffered struct{ key int16 }

// unprintable keeps the separator of labels and paths out of labels.
var unprintable = strings.NewReplacer(":", ".", "\x00", "0")

var unfit = regexp.MustCompile(`[^a-zA-Z0-9]+`)

func newConversation(s *side, j job) *Conversation {
	c := &Conversation{V: j.version, side: s, of: j.of, tag: j.tag(), ids: map[[16]byte]string{}, nodes: map[int32]*Speaker{}}
	c.Speaker = c.Other()
	return c
}

// tag is what the names of a job begin with.
func (j job) tag() string {
	tag := fmt.Sprintf("k%d-%s-v%d", j.of.Key, strings.Trim(unfit.ReplaceAllString(j.of.Name, "-"), "-"), j.version)
	if j.again > 0 {
		tag += fmt.Sprintf("-again%d", j.again)
	}
	return tag
}

// Other is one more connection to the same server.
func (c *Conversation) Other() *Speaker { return c.At(1) }

// At is one more connection, to the node with an id.
func (c *Conversation) At(node int32) *Speaker {
	s := &Speaker{c: c, conn: connection{addr: c.side.nodes[node], timeout: 8 * time.Second}}
	c.mu.Lock()
	c.speakers = append(c.speakers, s)
	c.mu.Unlock()
	return s
}

// Node is this conversation's own connection to the node with an id.
func (c *Conversation) Node(id int32) *Speaker {
	s := c.nodes[id]
	if s == nil {
		s = c.At(id)
		c.nodes[id] = s
	}
	return s
}

// hold runs the case, or what comes before it, and returns its answers; skipped names the API key that
// was missing, or is -1.
func (c *Conversation) hold(part func(*Conversation)) (answers []*answer, skipped int16) {
	skipped = -1
	defer func() {
		for _, s := range c.speakers {
			s.conn.close()
		}
		answers = c.answers
		switch r := recover().(type) {
		case nil:
		case setupFailed:
			answers = append(answers, &answer{label: "setup", outcome: "failed: " + r.reason})
		case notOffered:
			skipped = r.key
		default:
			panic(r)
		}
	}()
	part(c)
	return c.answers, skipped
}

// version sets the version of a request: the one under test for the case's
// key, the highest that both servers offer for another.
func (c *Conversation) version(req kmsg.Request) {
	if req.Key() == c.of.Key {
		req.SetVersion(c.V)
		return
	}
	v, ok := c.side.common[req.Key()]
	if !ok {
		panic(notOffered{req.Key()})
	}
	req.SetVersion(v.max)
}

func (c *Conversation) slot(label string) *answer {
	a := &answer{label: unprintable.Replace(label)}
	c.mu.Lock()
	c.answers = append(c.answers, a)
	c.mu.Unlock()
	return a
}

// Note records any value under a label.
func (c *Conversation) Note(label string, v any) {
	c.slot(label).values = []value{{"", fmt.Sprint(v)}}
}

// Fail ends the case: it cannot be carried on.
func (c *Conversation) Fail(format string, args ...any) {
	panic(setupFailed{fmt.Sprintf(format, args...)})
}

// Ask sends a request and records the answer, which is empty, not nil, when
// there was none.
func (s *Speaker) Ask(label string, req kmsg.Request) kmsg.Response {
	a := s.c.slot(label)
	s.c.version(req)
	return s.ask(a, req)
}

// Go is Ask in the background; the function it returns waits for the answer.
func (s *Speaker) Go(label string, req kmsg.Request) func() kmsg.Response {
	a := s.c.slot(label)
	s.c.version(req)
	done := make(chan kmsg.Response, 1)
	go func() { done <- s.ask(a, req) }()
	return func() kmsg.Response { return <-done }
}

// AskVersion is Ask at a version of its own.
func (s *Speaker) AskVersion(label string, version int16, req kmsg.Request) kmsg.Response {
	a := s.c.slot(label)
	req.SetVersion(version)
	return s.ask(a, req)
}

// Do is Ask without a record, for setting up.
func (s *Speaker) Do(req kmsg.Request) kmsg.Response {
	s.c.version(req)
	a := &answer{}
	resp := s.ask(a, req)
	if a.outcome != "answered" {
		s.c.Fail("%s v%d: %s", kmsg.NameForKey(req.Key()), req.GetVersion(), a.outcome)
	}
	return resp
}

func (s *Speaker) ask(a *answer, req kmsg.Request) kmsg.Response {
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	s.conn.next++
	s.raw(a, encode(req, s.conn.next), s.conn.next, resp)
	return resp
}

// Frame sends bytes as they are and records what comes back as an answer of
// the kind of resp; without one only whether anything came.
func (s *Speaker) Frame(label string, bytes []byte, correlation int32, resp kmsg.Response) {
	s.raw(s.c.slot(label), bytes, correlation, resp)
}

func (s *Speaker) raw(a *answer, bytes []byte, correlation int32, resp kmsg.Response) {
	if err := s.conn.write(bytes); err != nil {
		// A server may close while a large request is still on its way.
		s.conn.close()
		a.outcome = "closed"
		return
	}
	got, err := s.conn.readFrame()
	switch {
	case err == io.EOF:
		a.outcome = "closed"
		return
	case err != nil:
		a.outcome = err.Error()
		return
	}
	a.outcome = "answered"
	if resp == nil {
		return
	}
	if err := decode(resp, correlation, got); err != nil {
		a.outcome = err.Error()
		return
	}
	a.resp = resp
}

// Unanswered sends a request that gets no answer (acks=0), and records whether
// the connection lives on.
func (s *Speaker) Unanswered(label string, req kmsg.Request) {
	a := s.c.slot(label)
	s.c.version(req)
	s.conn.next++
	if err := s.conn.write(encode(req, s.conn.next)); err != nil {
		s.conn.close()
		a.outcome = "closed"
		return
	}
	probe := kmsg.NewPtrApiVersionsRequest()
	s.ask(a, probe)
	if a.outcome == "answered" {
		a.outcome, a.resp = "no answer, open", nil
	}
}

// Wait sets how long answers may take from here on.
func (s *Speaker) Wait(d time.Duration) { s.conn.timeout = d }

// Until tries again until ok says yes, since Kafka's answers may come from
// the state before a change.
func (c *Conversation) Until(what string, ok func() bool) { c.Within(8*time.Second, what, ok) }

// Within is Until with a limit of its own.
func (c *Conversation) Within(limit time.Duration, what string, ok func() bool) {
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; !ok(); pause = min(2*pause, 100*time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fail("%s did not happen", what)
		}
		time.Sleep(pause)
	}
}

package broker

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/replica"
	"chronik/internal/host/peer"
)

// ScrubPass is one going over the logs of a node, or over those of a topic.
type ScrubPass struct {
	Number uint64    `json:"number"`
	Topic  string    `json:"topic,omitempty"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: it is under way
	Logs   int       `json:"logs"`
	Done   int       `json:"done"`
}

// ScrubState is what the scrubber of one node does and knows.
type ScrubState struct {
	Node      kafka.NodeID    `json:"node"`
	Error     string          `json:"error,omitempty"` // the node did not answer; nothing else is set
	Off       bool            `json:"off,omitempty"`   // by its settings
	Counts    ScrubCounts     `json:"counts"`
	Running   *ScrubPass      `json:"running,omitempty"`
	Last      *ScrubPass      `json:"last,omitempty"`
	Started   uint64          `json:"started,omitempty"` // number of the pass that was asked for
	Pending   []uint64        `json:"pending"`           // numbers of the passes that are not finished
	Repairing int             `json:"repairing"`         // replicas
	Replicas  []ScrubbedState `json:"replicas"`
}

// ScrubbedState is what is known of one replica.
type ScrubbedState struct {
	Topic      string       `json:"topic"`
	Partition  int32        `json:"partition"`
	Role       string       `json:"role"`
	LogStart   kafka.Offset `json:"log_start"`
	LogEnd     kafka.Offset `json:"log_end"`
	VerifiedTo kafka.Offset `json:"verified_to"`          // from the log start on, in this pass or the last
	VerifiedAt time.Time    `json:"verified_at,omitzero"` // when the end was last reached
	ComparedAt time.Time    `json:"compared_at,omitzero"` // with the followers; leaders know it
	Damages    int64        `json:"damages"`              // segments found damaged
	Mismatches int64        `json:"mismatches"`           // ranges in which the leader had other records
	Repaired   int64        `json:"repaired"`             // segments, or the log as a whole
	RepairedAt time.Time    `json:"repaired_at,omitzero"`
	Bad        string       `json:"bad,omitempty"`   // what is wrong now
	Stuck      string       `json:"stuck,omitempty"` // why it is not repaired
}

// ScrubRequest asks for the state of all scrubbers.
type ScrubRequest struct {
	Start bool   `json:"start"` // begin a pass first
	Topic string `json:"topic"` // only of this topic; "": all
}

// ScrubCounts says what the scrubber has done since the start.
func (b *Broker) ScrubCounts() (counts ScrubCounts, repairing int, last time.Time) {
	s := &b.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts, len(s.repairs), s.last.Until
}

// Scrub reads the state of this node's scrubber, and begins a pass if that is
// asked for.
func (b *Broker) Scrub(now time.Time, req ScrubRequest) ScrubState {
	s := &b.scrub
	state := ScrubState{Node: b.opts.Node, Off: !b.scrubs(), Replicas: []ScrubbedState{}, Pending: []uint64{}}
	s.mu.Lock()
	if req.Start && b.scrubs() {
		state.Started = b.beginPass(now, req.Topic).number
	}
	state.Counts, state.Repairing = s.counts, len(s.repairs)
	if n := len(s.passes); n > 0 {
		p := s.passes[n-1]
		state.Running = &ScrubPass{Number: p.number, Topic: p.topic, Since: p.since, Logs: p.total, Done: p.total - len(p.led) - len(p.others)}
		if p.on {
			state.Running.Done--
		}
	}
	for _, p := range s.passes {
		state.Pending = append(state.Pending, p.number)
	}
	if s.last.Number > 0 {
		last := s.last
		state.Last = &last
	}
	for _, p := range b.Partitions() {
		if req.Topic == "" || p.Topic() == req.Topic {
			start, _, end := p.Durable()
			state.add(s, partitionKey{p.TopicID(), p.Number()}, ScrubbedState{Topic: p.Topic(), Partition: p.Number(), Role: p.Role().String(), LogStart: start, LogEnd: end})
		}
	}
	// Those that could not be opened.
	for key, r := range s.repairs {
		if b.Partition(key.topic, key.partition) == nil && (req.Topic == "" || r.topic == req.Topic) {
			state.add(s, key, ScrubbedState{Topic: r.topic, Partition: key.partition, Role: replica.Offline.String()})
		}
	}
	if req.Topic == "" || req.Topic == MetadataTopic {
		start, end := b.raftLog.Durable()
		meta := ScrubbedState{Topic: MetadataTopic, Role: "member", LogStart: start, LogEnd: end, Bad: s.metadata}
		state.add(s, metadataKey, meta)
	}
	s.mu.Unlock()
	slices.SortStableFunc(state.Replicas, func(x, y ScrubbedState) int {
		if x.Topic != y.Topic {
			return strings.Compare(x.Topic, y.Topic)
		}
		return int(x.Partition - y.Partition)
	})
	b.wakeScrub()
	return state
}

func (state *ScrubState) add(s *scrubber, key partitionKey, out ScrubbedState) {
	if r := s.replicas[key]; r != nil {
		out.VerifiedTo, out.VerifiedAt, out.ComparedAt = min(r.verifiedTo, out.LogEnd), r.verifiedAt, r.comparedAt
		out.Damages, out.Mismatches, out.Repaired, out.RepairedAt = r.damages, r.mismatches, r.repairs, r.repairedAt
	}
	if r := s.repairs[key]; r != nil {
		out.Bad, out.Stuck = r.why, r.stuck
	}
	state.Replicas = append(state.Replicas, out)
}

func (b *Broker) giveScrubState(now time.Time, to kafka.NodeID, q *peer.Scrub) {
	var req ScrubRequest
	answer := peer.Scrub{Kind: peer.State, ID: q.ID}
	if err := json.Unmarshal(q.Data, &req); err == nil {
		answer.Data, err = json.Marshal(b.Scrub(now, req))
		if err != nil {
			panic(fmt.Sprintf("encode the scrubber's state: %v", err))
		}
	}
	b.sendScrub(to, &answer)
}

// ScrubUnfinished says what is left to do of a pass, and of repairs; "" for
// nothing.
func (b *Broker) ScrubUnfinished(pass uint64) string {
	s := &b.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.passes, func(p *scrubPass) bool { return p.number == pass }) {
		return "its logs are being verified"
	}
	keys := slices.SortedFunc(maps.Keys(s.repairs), partitionKey.compare)
	if len(keys) == 0 {
		return ""
	}
	r := s.repairs[keys[0]]
	return fmt.Sprintf("%s-%d is damaged: %s; %s", r.topic, r.key.partition, r.why, r.stuck)
}

// ScrubAll reads the state of the scrubbers of all live nodes, which have wait
// to answer. Reply is called once, on any goroutine.
func (b *Broker) ScrubAll(now time.Time, req ScrubRequest, wait time.Duration, reply func([]ScrubState)) {
	body, err := json.Marshal(req)
	if err != nil {
		panic(fmt.Sprintf("encode a question to scrubbers: %v", err))
	}
	var others []kafka.NodeID
	for _, br := range b.image.Load().Brokers() {
		if br.ID != b.opts.Node {
			others = append(others, br.ID)
		}
	}
	states := make([]ScrubState, len(others)+1)
	var mu sync.Mutex
	left := len(states)
	end := func() {
		mu.Lock()
		left--
		last := left == 0
		mu.Unlock()
		if last {
			slices.SortFunc(states, func(x, y ScrubState) int { return int(x.Node - y.Node) })
			reply(states)
		}
	}
	for i, node := range others {
		states[i] = ScrubState{Node: node, Error: "it does not answer"}
		b.askScrub(now, node, peer.Scrub{Kind: peer.AskState, Data: body}, wait, func(_ time.Time, answer *peer.Scrub) {
			if answer != nil {
				if err := json.Unmarshal(answer.Data, &states[i]); err != nil {
					states[i] = ScrubState{Node: node, Error: "its answer was not understood"}
				} else {
					states[i].Node, states[i].Error = node, ""
				}
			}
			end()
		})
	}
	states[len(others)] = b.Scrub(now, req)
	end()
}

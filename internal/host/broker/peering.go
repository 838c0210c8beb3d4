package broker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/host/quorum"
)

// Frames of ClassControl begin with one byte that says what follows.
//
//	kind     | what follows
//	raft     | a Raft message (protobuf)
//	question | number (8), request to the controller (JSON)
//	answer   | number (8), code (2), metadata offset (8), response (JSON; nothing when the code is not 0, but see question)
//	applied  | metadata offset (8) that the sender has applied
//	join     | see frameJoin
//	joiner   | see frameJoiner
//	address  | see frameAddress
//	lag      | a question or an answer, see frameLagQuestion
//	repeat   | as a question; it was asked before
//	again    | nothing: the sender has a new connection, what it has not answered is to be repeated
//
// While the nodes of a cluster are upgraded one after the other, some send what
// others do not know yet. Kinds above frameLast are left alone, and a request of
// an unknown type is answered with UNSUPPORTED_VERSION: a new one has to be one
// that its sender can do without for a while.
const (
	frameRaft     = 1
	frameQuestion = 2
	frameAnswer   = 3
	frameApplied  = 4
	frameRepeat   = 9
	frameAgain    = 10
	frameLast     = frameJoiner
)

var (
	errFrame       = errors.New("malformed frame from a peer")
	errUnknownType = fmt.Errorf("%w: unknown type", errFrame)
)

// Requests and responses travel under their type's name.
var (
	requestTypes  = make(map[string]reflect.Type)
	responseTypes = make(map[string]reflect.Type)
)

func init() {
	for _, r := range []controller.Request{
		controller.RegisterBroker{}, controller.Heartbeat{}, controller.PeerLost{}, controller.UnregisterBroker{},
		controller.CreateTopics{}, controller.AutoCreateTopics{}, controller.DeleteTopics{}, controller.CreatePartitions{},
		controller.AlterConfigs{}, controller.IncrementalAlterConfigs{}, controller.AlterPartition{}, controller.ElectLeaders{},
		controller.AlterPartitionReassignments{}, controller.ListPartitionReassignments{}, controller.AllocateProducerIDs{},
		controller.DescribeQuorum{}, controller.ReportReplicas{},
	} {
		requestTypes[reflect.TypeOf(r).Name()] = reflect.TypeOf(r)
	}
	for _, r := range []controller.Response{
		controller.RegisterBrokerResult{}, controller.HeartbeatResult{}, controller.StatusResult{}, controller.CreateTopicsResult{},
		controller.DeleteTopicsResult{}, controller.CreatePartitionsResult{}, controller.AlterConfigsResult{},
		controller.AlterPartitionResult{}, controller.ElectLeadersResult{}, controller.AlterPartitionReassignmentsResult{},
		controller.ListPartitionReassignmentsResult{}, controller.AllocateProducerIDsResult{},
		controller.DescribeQuorumResult{}, controller.ReportReplicasResult{},
	} {
		responseTypes[reflect.TypeOf(r).Name()] = reflect.TypeOf(r)
	}
}

// envelope carries a request or a response. A request is for the controller of
// one epoch: one that comes late, to a node that has become the controller again,
// may have been decided by another, and what was asked for may be over. 0, of
// earlier releases, is for any.
type envelope struct {
	Type  string            `json:"type"`
	Epoch kafka.LeaderEpoch `json:"epoch,omitempty"`
	Body  json.RawMessage   `json:"body"`
}

func appendEnvelope(dst []byte, v any, epoch kafka.LeaderEpoch) []byte {
	body, err := json.Marshal(v)
	if err == nil {
		body, err = json.Marshal(envelope{reflect.TypeOf(v).Name(), epoch, body})
	}
	if err != nil {
		panic(fmt.Sprintf("encode %T for a peer: %v", v, err))
	}
	return append(dst, body...)
}

func openEnvelope(data []byte, types map[string]reflect.Type) (any, kafka.LeaderEpoch, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errFrame, err)
	}
	t, ok := types[e.Type]
	if !ok {
		return nil, 0, fmt.Errorf("%w %q", errUnknownType, e.Type)
	}
	v := reflect.New(t)
	if err := json.Unmarshal(e.Body, v.Interface()); err != nil {
		return nil, 0, fmt.Errorf("%w: %s: %w", errFrame, e.Type, err)
	}
	return v.Elem().Interface(), e.Epoch, nil
}

func (b *Broker) sendRaft(m quorum.Message) {
	b.env.Send(m.To, ClassControl, append([]byte{frameRaft}, m.Data...))
	if m.Snapshot {
		// A lost snapshot is sent again when the peer says that it is behind.
		b.quorum.ReportSnapshot(m.To, true)
	}
}

func (b *Broker) sendQuestion(to kafka.NodeID, kind byte, id uint64, req controller.Request) {
	frame := binary.BigEndian.AppendUint64([]byte{kind}, id)
	b.env.Send(to, ClassControl, appendEnvelope(frame, req, b.quorumView.Load().Epoch))
}

func (b *Broker) sendAnswer(to kafka.NodeID, id uint64, r controller.Response, code kafka.ErrorCode, offset kafka.Offset) {
	frame := binary.BigEndian.AppendUint64([]byte{frameAnswer}, id)
	frame = binary.BigEndian.AppendUint16(frame, uint16(code))
	frame = binary.BigEndian.AppendUint64(frame, uint64(offset))
	if r != nil {
		frame = appendEnvelope(frame, r, 0)
	}
	b.env.Send(to, ClassControl, frame)
}

func (b *Broker) tellApplied(offset kafka.Offset) {
	if to := b.quorumView.Load().Leader; to != kafka.NoNode && to != b.opts.Node {
		b.env.Send(to, ClassControl, binary.BigEndian.AppendUint64([]byte{frameApplied}, uint64(offset)))
	}
}

// HandleControl takes a frame of ClassControl from a peer. It runs on the
// control loop. The frame is valid during the call only. An error says that
// the peer does not speak this protocol; its connection should be closed.
func (b *Broker) HandleControl(now time.Time, from kafka.NodeID, frame []byte) error {
	if b.closed {
		return nil
	}
	if len(frame) == 0 {
		return errFrame
	}
	delete(b.lost, from)
	kind, body := frame[0], frame[1:]
	switch {
	case kind == frameRaft:
		if err := b.quorum.Step(body); err != nil {
			return err
		}
	case (kind == frameQuestion || kind == frameRepeat) && len(body) >= 8:
		id := binary.BigEndian.Uint64(body)
		v, epoch, err := openEnvelope(body[8:], requestTypes)
		if errors.Is(err, errUnknownType) { // of a later release
			b.sendAnswer(from, id, nil, kafka.ErrUnsupportedVersion, b.image.Load().Offset())
			return nil
		}
		if err != nil {
			return err
		}
		if a := b.active; epoch != 0 && a != nil && a.epoch != epoch {
			b.sendAnswer(from, id, nil, kafka.ErrNotController, 0)
		} else {
			b.hear(now, from, id, v.(controller.Request), kind == frameRepeat)
		}
	case kind == frameAnswer && len(body) >= 18:
		id, code, offset := binary.BigEndian.Uint64(body), kafka.ErrorCode(binary.BigEndian.Uint16(body[8:])), kafka.Offset(binary.BigEndian.Uint64(body[10:]))
		var r controller.Response
		if len(body) > 18 {
			v, _, err := openEnvelope(body[18:], responseTypes)
			if err != nil {
				return err
			}
			r = v.(controller.Response)
		}
		if q := b.asked.waiting[id]; q != nil && q.sentTo == from {
			b.settle(now, id, r, code, offset)
		}
	case kind == frameApplied && len(body) == 8:
		b.noteApplied(now, from, kafka.Offset(binary.BigEndian.Uint64(body)))
	case kind == frameJoin && len(body) > 4:
		b.hearWish(now, from, body)
	case kind == frameJoiner && len(body) > 8:
		b.noteJoiner(now, kafka.NodeID(binary.BigEndian.Uint32(body)), body[4:])
	case kind == frameAddress && len(body) > 0:
		b.noteAddress(from, string(body))
	case kind == frameAgain:
		b.asked.askAgain(b, from)
	case kind == frameLagQuestion, kind == frameLagAnswer:
		if err := b.handleLag(from, kind, body); err != nil {
			return err
		}
	case kind > frameLast: // of a later release, which can do without
		b.env.Log.Debug("frame of a later release left alone", "peer", from, "kind", kind, "bytes", len(body))
	default:
		return fmt.Errorf("%w: kind %d with %d bytes", errFrame, kind, len(body))
	}
	b.drain(now)
	return nil
}

// PeerDown says that a connection with the peer was lost; gone means that its
// process is proven to have ended: a new connection was refused. It runs on
// the control loop.
func (b *Broker) PeerDown(now time.Time, peer kafka.NodeID, gone bool) {
	if b.closed {
		return
	}
	b.depart(now, peer, gone)
	b.quorum.Unreachable(peer)
	if gone {
		if !b.lost[peer] {
			b.env.Log.Info("process of a peer has ended", "peer", peer)
		}
		b.lost[peer] = true
		if b.active != nil && b.active.begun {
			b.tellLost(now, peer)
		} else if b.quorumView.Load().Leader == peer {
			b.leaderGone(now)
		}
	}
	b.drain(now)
}

// tellLost has the active controller fence a broker whose process has ended.
func (b *Broker) tellLost(now time.Time, peer kafka.NodeID) {
	if br := b.image.Load().Broker(peer); br != nil && !br.Fenced {
		b.decide(now, controller.PeerLost{Node: peer, Epoch: kafka.NoBrokerEpoch}, &question{func(time.Time, controller.Response, kafka.ErrorCode, kafka.Offset) {}})
	}
}

// campaignStep lies between the campaigns of two voters that have noticed at
// the same time that their leader is gone: asking for votes at once, they
// would share them and wait for an election timeout.
const campaignStep = 40 * time.Millisecond

// leaderGone asks for an election without waiting for the election timeout.
// The voters do so one after the other, in the order of their ids.
func (b *Broker) leaderGone(now time.Time) {
	lost := b.quorumView.Load().Leader
	if err := b.quorum.ForgetLeader(); err != nil {
		return
	}
	rank, votes := 0, false
	voters, _ := b.quorum.Members()
	for _, v := range voters {
		votes = votes || b.quorum.Is(v)
		if v.Node < b.opts.Node && v.Node != lost && !b.lost[v.Node] {
			rank++
		}
	}
	if votes {
		b.campaign(now, rank)
	}
}

// campaign asks for votes when it is this voter's turn, and again and again for
// a while: the others may notice a little later that the leader is gone, and
// until then they do not vote.
func (b *Broker) campaign(now time.Time, rank int) {
	turn, waited := 0, 0
	var try func(now time.Time)
	try = func(now time.Time) {
		if b.closed || b.quorum.State().Leader != kafka.NoNode || turn >= campaignsMax {
			return
		}
		if waited++; !b.quorum.Electing() || waited > votesWait { // else votes are on their way
			waited = 0
			if err := b.quorum.Campaign(); err != nil {
				b.env.Log.Debug("campaign refused", "cause", err)
				return
			}
			b.drain(now)
		}
		again := min(campaignStep, campaignAgain<<(turn/2))
		turn++
		b.At(now.Add(again), func(time.Time) { b.env.Post(try) })
	}
	if rank == 0 {
		try(now)
		return
	}
	b.At(now.Add(time.Duration(rank)*campaignStep), func(time.Time) { b.env.Post(try) })
}

const (
	campaignAgain = 5 * time.Millisecond // at first; then twice as long every other time
	campaignsMax  = 16                   // about half a second, which is an election timeout
	votesWait     = 3                    // turns for which votes are waited for: they may be shared among several
)

// Package quorum drives one node's part in the Raft group that holds the
// cluster's metadata. It acts only when called and is owned by one caller.
package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/base/kafka"
	"chronik/internal/host/raftlog"
)

// ErrNotLeader says that only the leader of the group can do this.
var ErrNotLeader = errors.New("this node does not lead the metadata quorum")

// Options of a Node. Ticks are counted in calls of Tick.
type Options struct {
	Node           kafka.NodeID
	Incarnation    uint32 // of the node's data; see Member
	ElectionTicks  int    // without a leader's sign for this long, ask for an election; default 10
	HeartbeatTicks int    // default 1
	Logger         *slog.Logger
}

// Message is a Raft message for a peer. Lost ones are sent again by Raft.
type Message struct {
	To       kafka.NodeID
	Data     []byte
	Snapshot bool // ReportSnapshot must be told what became of it
}

// Entry is one committed entry of the metadata log.
type Entry struct {
	Offset kafka.Offset // Raft index
	Epoch  kafka.LeaderEpoch
	Data   []byte // empty when the entry belongs to Raft itself
}

// Output is what one call of Drain found to do, in the order of the fields.
type Output struct {
	Snapshot  []byte       // not nil: throw the state away and begin from this one,
	At        kafka.Offset // which is the state after this entry
	Committed []Entry      // apply these
	Messages  []Message    // send these
	Confirmed uint64       // the last round of Confirm that a majority has answered; 0: none
}

// State is what a Node thinks of its group.
type State struct {
	Leader  kafka.NodeID // NoNode while there is none
	Epoch   kafka.LeaderEpoch
	Leading bool
	Commit  kafka.Offset
	Applied kafka.Offset
}

// Node is one member of the metadata quorum.
type Node struct {
	id   uint64
	rn   *raft.RawNode
	log  *raftlog.Log
	conf *raftpb.ConfState

	changed bool         // conf is not that of the last snapshot
	unsaved kafka.Offset // entries proposed that Drain has not saved yet
	silent  int          // ticks since a leader was last heard of

	change proposedChange

	electionTicks int
}

// Raft reserves id 0, Kafka does not.
func raftID(m Member) uint64        { return uint64(m.Incarnation)<<32 | (uint64(m.Node) + 1) }
func nodeID(id uint64) kafka.NodeID { return kafka.NodeID(int64(id&(1<<32-1)) - 1) }
func member(id uint64) Member       { return Member{nodeID(id), uint32(id >> 32)} }

// New starts a member whose durable state is in log.
func New(log *raftlog.Log, opts Options) (*Node, error) {
	if opts.ElectionTicks == 0 {
		opts.ElectionTicks = 10
	}
	if opts.HeartbeatTicks == 0 {
		opts.HeartbeatTicks = 1
	}
	_, conf, err := log.InitialState()
	if err != nil {
		return nil, fmt.Errorf("read quorum state: %w", err)
	}
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        raftID(Member{opts.Node, opts.Incarnation}),
		ElectionTick:              opts.ElectionTicks,
		HeartbeatTick:             opts.HeartbeatTicks,
		Storage:                   log,
		Applied:                   log.SnapshotIndex(),
		MaxSizePerMsg:             1 << 20,
		MaxCommittedSizePerReady:  16 << 20,
		MaxUncommittedEntriesSize: 64 << 20,
		MaxInflightMsgs:           64,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
		Logger:                    raftLogger{opts.Logger},
	})
	if err != nil {
		return nil, fmt.Errorf("start metadata quorum: %w", err)
	}
	n := &Node{id: raftID(Member{opts.Node, opts.Incarnation}), rn: rn, log: log, conf: conf, electionTicks: opts.ElectionTicks}
	if len(conf.GetVoters()) == 1 && conf.GetVoters()[0] == n.id {
		// The only voter has nobody to wait for.
		if err := rn.Campaign(); err != nil {
			return nil, fmt.Errorf("campaign as the only voter: %w", err)
		}
	}
	return n, nil
}

// Tick tells the node that one unit of time has passed.
func (n *Node) Tick() {
	n.silent++
	n.rn.Tick()
}

// SilentTicks is how often Tick was called since a leader of the present epoch,
// or a later one, has sent something. Raft itself forgets a silent leader only
// on nodes that vote.
func (n *Node) SilentTicks() int { return n.silent }

// QuietTicks is the least whole number of ticks for which a voter has not heard
// of a leader when it votes for another one without proof that the leader's
// process is gone: the first of the election timeout's ticks may have come right
// after the leader's last sign.
func (n *Node) QuietTicks() int { return n.electionTicks - 1 }

// Step takes a message that a peer's Output held.
func (n *Node) Step(data []byte) error {
	var m raftpb.Message
	if err := proto.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("decode raft message: %w", err)
	}
	if raft.IsLocalMsg(m.GetType()) {
		return fmt.Errorf("raft message of type %v is not one that peers send", m.GetType())
	}
	if m.GetTo() != n.id {
		return nil // for an earlier incarnation of this node, whose disk was lost
	}
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		if m.GetTerm() >= n.rn.BasicStatus().HardState.GetTerm() {
			n.silent = 0
		}
	}
	if err := n.rn.Step(&m); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) && !errors.Is(err, raft.ErrProposalDropped) {
		return err
	}
	return nil
}

// Propose appends data as one entry and returns the offset that it will have
// if it is committed, which is seen when it comes out of Drain. It fails with
// ErrNotLeader on a follower.
func (n *Node) Propose(data []byte) (kafka.Offset, error) {
	if n.rn.BasicStatus().RaftState != raft.StateLeader {
		return kafka.NoOffset, ErrNotLeader
	}
	if err := n.rn.Propose(data); err != nil {
		return kafka.NoOffset, fmt.Errorf("propose metadata entry: %w", err)
	}
	n.unsaved++
	last, err := n.log.LastIndex()
	if err != nil {
		return kafka.NoOffset, err
	}
	return kafka.Offset(last) + n.unsaved, nil
}

// Confirm asks the voters whether this node, the leader, leads still. That a
// majority has said so after the question was put comes as Output.Confirmed.
// Rounds rise from 1 on; a later one answers those before it too. Lost messages
// are sent again, until leadership is lost.
func (n *Node) Confirm(round uint64) {
	n.rn.ReadIndex(binary.BigEndian.AppendUint64(nil, round))
}

// Unreachable tells the node that messages to a peer are being lost.
func (n *Node) Unreachable(peer kafka.NodeID) {
	n.eachIncarnation(peer, n.rn.ReportUnreachable)
}

// eachIncarnation calls fn for all members that the node is or was.
func (n *Node) eachIncarnation(node kafka.NodeID, fn func(id uint64)) {
	for _, id := range n.ids() {
		if nodeID(id) == node {
			fn(id)
		}
	}
}

// ids are those of all members: of voters that leave, too, on whom an old
// majority may depend until they are gone.
func (n *Node) ids() []uint64 {
	ids := slices.Concat(n.conf.GetVoters(), n.conf.GetLearners())
	for _, id := range n.conf.GetVotersOutgoing() {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Campaign asks for an election at once: the leader's process is known to be
// gone, so there is no need to wait for the election timeout.
func (n *Node) Campaign() error { return n.rn.Campaign() }

// Electing says whether this node has asked for votes, after the others had
// told that they would give them, and has neither won nor lost.
func (n *Node) Electing() bool { return n.rn.BasicStatus().RaftState == raft.StateCandidate }

// ForgetLeader makes the node ready to vote again, for the same reason.
func (n *Node) ForgetLeader() error { return n.rn.ForgetLeader() }

// TransferLeadership asks the leader to hand over to a peer.
func (n *Node) TransferLeadership(to Member) { n.rn.TransferLeader(raftID(to)) }

// ReportSnapshot says whether a snapshot message has reached the peer.
func (n *Node) ReportSnapshot(peer kafka.NodeID, ok bool) {
	s := raft.SnapshotFinish
	if !ok {
		s = raft.SnapshotFailure
	}
	n.eachIncarnation(peer, func(id uint64) { n.rn.ReportSnapshot(id, s) })
}

// State returns the node's present view.
func (n *Node) State() State {
	s := n.rn.BasicStatus()
	st := State{
		Leader:  kafka.NoNode,
		Epoch:   kafka.LeaderEpoch(s.HardState.GetTerm()),
		Leading: s.RaftState == raft.StateLeader,
		Commit:  kafka.Offset(s.HardState.GetCommit()),
		Applied: kafka.Offset(s.Applied),
	}
	if s.Lead != raft.None {
		st.Leader = nodeID(s.Lead)
	}
	return st
}

// Progress is how far a peer has got, as its leader knows.
type Progress struct {
	Member
	Match   kafka.Offset
	Active  bool
	Learner bool
}

// Peers lists the progress of all members; it is empty on a follower.
func (n *Node) Peers() []Progress {
	if n.rn.BasicStatus().RaftState != raft.StateLeader {
		return nil
	}
	byID := make(map[uint64]Progress)
	n.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr raftProgress) {
		byID[id] = Progress{Member: member(id), Match: kafka.Offset(pr.Match), Active: pr.RecentActive, Learner: typ == raft.ProgressTypeLearner}
	})
	var out []Progress
	for _, id := range n.ids() {
		if p, ok := byID[id]; ok {
			out = append(out, p)
		}
	}
	return out
}

// HasReady says whether Drain would find something to do.
func (n *Node) HasReady() bool { return n.rn.HasReady() }

// Drain persists what Raft wants on disk and returns what to apply and to
// send. Call it after anything else has been called, until it says that there
// is no more. An error is fatal: the log could not be written.
func (n *Node) Drain(now time.Time) (out Output, more bool, err error) {
	if !n.rn.HasReady() {
		return out, false, nil
	}
	rd := n.rn.Ready()
	if rd.Snapshot != nil && rd.Snapshot.GetMetadata().GetIndex() > 0 {
		if err := n.log.ApplySnapshot(now, rd.Snapshot); err != nil {
			return out, false, fmt.Errorf("install metadata snapshot: %w", err)
		}
		n.conf = rd.Snapshot.GetMetadata().GetConfState()
		out.Snapshot, out.At = rd.Snapshot.GetData(), kafka.Offset(rd.Snapshot.GetMetadata().GetIndex())
	}
	if err := n.log.Save(now, rd.HardState, rd.Entries, rd.MustSync); err != nil {
		return out, false, fmt.Errorf("write metadata log: %w", err)
	}
	n.unsaved = 0
	for _, s := range rd.ReadStates {
		out.Confirmed = max(out.Confirmed, binary.BigEndian.Uint64(s.RequestCtx))
	}
	for _, m := range rd.Messages {
		data, err := proto.Marshal(m)
		if err != nil {
			return out, false, fmt.Errorf("encode raft message: %w", err)
		}
		out.Messages = append(out.Messages, Message{To: nodeID(m.GetTo()), Data: data, Snapshot: m.GetType() == raftpb.MsgSnap})
	}
	for _, e := range rd.CommittedEntries {
		entry := Entry{Offset: kafka.Offset(e.GetIndex()), Epoch: kafka.LeaderEpoch(e.GetTerm())}
		switch e.GetType() {
		case raftpb.EntryNormal:
			entry.Data = e.GetData()
		case raftpb.EntryConfChange:
			var cc raftpb.ConfChange
			if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
				return out, false, fmt.Errorf("decode membership change at offset %d: %w", entry.Offset, err)
			}
			n.conf, n.changed = n.rn.ApplyConfChange(&cc), true
		case raftpb.EntryConfChangeV2:
			var cc raftpb.ConfChangeV2
			if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
				return out, false, fmt.Errorf("decode membership change at offset %d: %w", entry.Offset, err)
			}
			n.conf, n.changed = n.rn.ApplyConfChange(&cc), true
		}
		out.Committed = append(out.Committed, entry)
	}
	n.rn.Advance(rd)
	return out, n.rn.HasReady(), nil
}

// Compact makes data, the state after the entry at offset, the snapshot that
// replaces all entries up to there, but keeps the last keep of them for
// followers that lag a little.
func (n *Node) Compact(now time.Time, offset kafka.Offset, data []byte, keep int) error {
	n.changed = false
	return n.log.Compact(now, uint64(offset), n.conf, data, uint64(keep))
}

// Mend writes all files of this member anew from memory, with data, the state
// after the entry at offset, as the snapshot: for when they are damaged.
func (n *Node) Mend(now time.Time, offset kafka.Offset, data []byte) error {
	n.changed = false
	return n.log.Mend(now, uint64(offset), n.conf, data)
}

// MembersChanged says that the members are others than the last snapshot says.
// A member that joins understands only one that names it, so make one.
func (n *Node) MembersChanged() bool { return n.changed }

// LogLength is the number of entries behind the last snapshot, and their bytes.
func (n *Node) LogLength() (entries int, bytes int64) { return n.log.SinceSnapshot() }

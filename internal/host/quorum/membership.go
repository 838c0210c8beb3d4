package quorum

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/base/kafka"
)

// Member is a node of the quorum with one life of its data. A node that has
// lost its disk comes back as another member: what the old one has voted and
// acknowledged is not held against the new one, and not credited to it.
type Member struct {
	Node        kafka.NodeID
	Incarnation uint32 // 0 for those that founded the cluster, drawn by those that joined it
}

// Membership is a member's part in the quorum.
type Membership uint8

// The parts that a member can have.
const (
	Gone Membership = iota
	Learner
	Voter
)

// Change gives a member another part.
type Change struct {
	Member
	As Membership
}

// Change proposes changes of membership that take place together: several go
// through a joint quorum, of the old voters and of the new ones, which ends
// with EndChange. One that comes while another is under way is passed over.
func (n *Node) Change(changes ...Change) error {
	types := map[Membership]raftpb.ConfChangeType{
		Voter: raftpb.ConfChangeAddNode, Learner: raftpb.ConfChangeAddLearnerNode, Gone: raftpb.ConfChangeRemoveNode,
	}
	cc := &raftpb.ConfChangeV2{}
	if len(changes) > 1 {
		cc.Transition = raftpb.ConfChangeTransitionJointExplicit.Enum()
	}
	for _, c := range changes {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: types[c.As].Enum(), NodeId: proto.Uint64(raftID(c.Member))})
	}
	return n.proposeChange(cc)
}

// Changing says whether a change of membership goes through a joint quorum.
func (n *Node) Changing() bool { return len(n.conf.GetVotersOutgoing()) > 0 }

// EndChange proposes to leave the joint quorum.
func (n *Node) EndChange() error { return n.proposeChange(&raftpb.ConfChangeV2{}) }

// proposedChange is the last change of membership that this node has proposed.
type proposedChange struct {
	term   uint64
	offset kafka.Offset
}

// ChangeProposed says whether a change that this node, the leader, has proposed is
// not in force yet: one that is proposed now would be passed over.
func (n *Node) ChangeProposed() bool {
	s := n.rn.BasicStatus()
	return s.RaftState == raft.StateLeader && n.change.term == s.HardState.GetTerm() && kafka.Offset(s.Applied) < n.change.offset
}

func (n *Node) proposeChange(cc *raftpb.ConfChangeV2) error {
	s := n.rn.BasicStatus()
	if s.RaftState != raft.StateLeader {
		return ErrNotLeader
	}
	if err := n.rn.ProposeConfChange(cc); err != nil {
		return fmt.Errorf("propose change of membership: %w", err)
	}
	n.unsaved++
	last, err := n.log.LastIndex()
	if err != nil {
		return err
	}
	n.change = proposedChange{s.HardState.GetTerm(), kafka.Offset(last) + n.unsaved}
	return nil
}

// Members lists voters and learners, each in ascending order of their nodes.
func (n *Node) Members() (voters, learners []Member) {
	return members(n.conf.GetVoters()), members(append(slices.Clone(n.conf.GetLearners()), n.conf.GetLearnersNext()...))
}

// Leaving are former voters on whose majority, too, everything depends until
// the change of membership is through.
func (n *Node) Leaving() []Member {
	now := n.conf.GetVoters()
	return members(slices.DeleteFunc(slices.Clone(n.conf.GetVotersOutgoing()), func(id uint64) bool { return slices.Contains(now, id) }))
}

// members are those with these ids, by node.
func members(ids []uint64) (out []Member) {
	for _, id := range ids {
		out = append(out, member(id))
	}
	slices.SortFunc(out, func(a, b Member) int {
		if a.Node != b.Node {
			return int(a.Node) - int(b.Node)
		}
		return int(int64(a.Incarnation) - int64(b.Incarnation))
	})
	return out
}

// Is says whether this node is the member.
func (n *Node) Is(m Member) bool { return raftID(m) == n.id }

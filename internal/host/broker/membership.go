package broker

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/host/quorum"
)

// Who votes on the metadata is decided by the active controller: the first
// three nodes, or five where there are five or more. The others are learners,
// which hold the metadata all the same. A voter that is dead for long gives its
// place to a live learner; earlier lives of nodes that came back with an empty
// disk, and nodes that were removed, leave.
const (
	membershipInterval = 200 * time.Millisecond
	joinInterval       = 250 * time.Millisecond
	joinForget         = 5 * time.Second  // a wish to join that is not repeated is forgotten
	leaderlessMax      = 2 * time.Second  // a node that finds no controller for so long asks to be let in
	deadVoterMax       = 30 * time.Second // then another takes its place
	ghostMax           = time.Minute      // a member that is no broker and was not heard of for so long leaves
	addressInterval    = time.Second      // between two tellings of a voter's address
	caughtUpMax        = 200              // entries that a learner may lack when it becomes a voter
)

// membership is what the control loop keeps for the members of the quorum.
type membership struct {
	joiners   map[kafka.NodeID]joiner
	lookAt    time.Time
	silent    map[quorum.Member]time.Time // since when a member is dead or gone, by this controller's clock
	removed   map[kafka.NodeID]bool       // brokers that were unregistered while this process ran
	wishAt    time.Time
	leaderAt  time.Time // when a leader was last known
	addresses map[kafka.NodeID]string
	met       map[kafka.NodeID]string // addresses that peers have told of themselves, newer than the metadata
	tellAt    time.Time
}

// joiner is a node that has asked to be let in.
type joiner struct {
	member  quorum.Member
	address string
	at      time.Time
}

// frameJoin asks the active controller to make the sender a learner.
//
//	incarnation (4) | peer address
const frameJoin = 5

// frameJoiner passes a wish to join on to the active controller.
//
//	node (4) | incarnation (4) | peer address
const frameJoiner = 11

// wishToJoin tells all peers that this node wants to be a member, as long as
// it hears of no controller. One that does not vote, and was removed, is not
// told so: it only hears nothing more of the leader that it knows.
func (b *Broker) wishToJoin(now time.Time) {
	m := &b.membership
	state := b.quorumView.Load()
	led := state.Leading || state.Leader != kafka.NoNode && b.quorum.SilentTicks() < 2*b.opts.ElectionTicks
	if led || m.leaderAt.IsZero() {
		m.leaderAt = now
		if !b.opts.Joining {
			return
		}
	}
	voters, _ := b.quorum.Members()
	entered := len(voters) > 0
	if entered && now.Sub(m.leaderAt) < leaderlessMax || now.Before(m.wishAt) {
		return
	}
	m.wishAt = now.Add(joinInterval)
	frame := append([]byte{frameJoin}, wish(b.identity.Incarnation, b.opts.PeerAddress)...)
	for _, peer := range slices.Sorted(maps.Keys(m.addresses)) {
		b.env.Send(peer, ClassControl, frame)
	}
}

// frameAddress tells the peer address of the sender.
//
//	peer address
const frameAddress = 8

// tellAddress has a voter tell all peers where it is. A node that was away when
// the voter joined could not answer it otherwise, and would never come to know
// of it from the metadata, when that voter's own lead depends on the answer.
func (b *Broker) tellAddress(now time.Time) {
	m := &b.membership
	if now.Before(m.tellAt) {
		return
	}
	m.tellAt = now.Add(addressInterval)
	if voters, _ := b.quorum.Members(); !slices.ContainsFunc(voters, b.quorum.Is) {
		return
	}
	frame := append([]byte{frameAddress}, b.opts.PeerAddress...)
	for _, peer := range slices.Sorted(maps.Keys(m.addresses)) {
		b.env.Send(peer, ClassControl, frame)
	}
}

// noteAddress takes the address that a peer tells of itself.
func (b *Broker) noteAddress(from kafka.NodeID, address string) {
	if b.membership.addresses[from] != address {
		b.membership.met[from] = address
		b.tellPeers()
	}
}

// wish is the body of frameJoin.
func wish(incarnation uint32, address string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, incarnation), address...)
}

// hearWish takes the wish to join of the node that sent it, which perhaps does
// not know of the controller: it knows the nodes that it was started with.
func (b *Broker) hearWish(now time.Time, from kafka.NodeID, body []byte) {
	b.noteJoiner(now, from, body)
	if to := b.quorumView.Load().Leader; to != kafka.NoNode && to != b.opts.Node && to != from {
		b.env.Send(to, ClassControl, append(binary.BigEndian.AppendUint32([]byte{frameJoiner}, uint32(from)), body...))
	}
}

// noteJoiner takes a wish to join.
func (b *Broker) noteJoiner(now time.Time, from kafka.NodeID, body []byte) {
	m := &b.membership
	j := joiner{quorum.Member{Node: from, Incarnation: binary.BigEndian.Uint32(body)}, string(body[4:]), now}
	old, known := m.joiners[from]
	m.joiners[from] = j
	if !known || old.address != j.address {
		b.tellPeers()
	}
}

// noteBrokers takes in that brokers came or went.
func (b *Broker) noteBrokers(d *metadata.Delta) {
	for _, br := range d.Brokers {
		if br.New == nil || br.Old == nil || br.Old.PeerAddress != br.New.PeerAddress {
			delete(b.membership.met, br.Node)
		}
		if br.New == nil {
			b.membership.removed[br.Node] = true
			delete(b.departures, br.Node)
		} else {
			if br.Old == nil || br.Old.Epoch != br.New.Epoch {
				delete(b.lost, br.Node) // another process than the one that has ended
			}
			delete(b.membership.removed, br.Node)
			delete(b.membership.joiners, br.Node)
		}
	}
	b.tellPeers()
}

// manageMembers has the active controller make one change of membership, if
// one is due.
func (b *Broker) manageMembers(now time.Time) {
	m := &b.membership
	for node, j := range m.joiners {
		if now.Sub(j.at) > joinForget {
			delete(m.joiners, node)
		}
	}
	if b.active == nil || !b.active.begun || now.Before(m.lookAt) {
		return
	}
	m.lookAt = now.Add(membershipInterval)
	if b.quorum.ChangeProposed() {
		return
	}
	if b.quorum.Changing() {
		b.changeMembers(now, b.quorum.EndChange(), controller.Event{})
		return
	}
	plan := b.surveyMembers(now)
	for _, node := range slices.Sorted(maps.Keys(m.joiners)) {
		if j := m.joiners[node]; !plan.has(j.member) {
			b.changeMembers(now, b.quorum.Change(quorum.Change{Member: j.member, As: quorum.Learner}),
				controller.Event{Kind: "quorum member added", Node: node, Detail: "as a learner", Cause: "it asked to join, at " + j.address})
			return
		}
	}
	if !b.replaceMember(now, plan) {
		b.sizeQuorum(now, plan)
	}
}

// changeMembers notes what became of a proposed change, in the history too.
func (b *Broker) changeMembers(now time.Time, err error, e controller.Event) {
	if err != nil {
		b.env.Log.Debug("members not changed", "wanted", e.Kind, "cause", err)
		return
	}
	if b.active != nil && e.Kind != "" {
		b.carryOut(now, controller.Decision{Records: withEvents(now, nil, []controller.Event{e})})
		b.logEvents([]controller.Event{e}, b.image.Load().Offset())
	}
}

// survey is the members of the quorum, seen by the active controller.
type survey struct {
	voters, learners []quorum.Member
	active           map[quorum.Member]bool
	promotable       []quorum.Member // learners that may become voters
	leave            map[quorum.Member]string
	dead             map[quorum.Member]bool
	nodes            int // registered brokers that are members
}

func (s *survey) has(m quorum.Member) bool {
	return slices.Contains(s.voters, m) || slices.Contains(s.learners, m)
}

func (b *Broker) surveyMembers(now time.Time) *survey {
	s := &survey{active: make(map[quorum.Member]bool), leave: make(map[quorum.Member]string), dead: make(map[quorum.Member]bool)}
	s.voters, s.learners = b.quorum.Members()
	image := b.image.Load()
	progress := make(map[quorum.Member]quorum.Progress)
	for _, p := range b.quorum.Peers() {
		progress[p.Member] = p
		s.active[p.Member] = p.Active || b.quorum.Is(p.Member)
	}
	silent := b.membership.silent
	b.membership.silent = make(map[quorum.Member]time.Time)
	registered := make(map[kafka.NodeID]bool)
	for _, member := range append(slices.Clone(s.voters), s.learners...) {
		br := image.Broker(member.Node)
		down := br == nil || br.Fenced
		if down || !s.active[member] {
			since, ok := silent[member]
			if !ok {
				since = now
			}
			b.membership.silent[member] = since
			s.dead[member] = now.Sub(since) > deadVoterMax
			switch _, asks := b.membership.joiners[member.Node]; {
			case br == nil && b.membership.removed[member.Node] && !asks:
				s.leave[member] = "its node was removed"
			case br == nil && !s.active[member] && now.Sub(since) > ghostMax:
				s.leave[member] = "its node is not registered and silent"
			}
		}
		if br == nil {
			continue
		}
		registered[member.Node] = true
		// One that is alive has perhaps not been able to register yet, because the
		// life before it is taken for alive still.
		heir := quorum.Member{Node: member.Node, Incarnation: incarnationOf(br.Directory)}
		if heir != member && s.has(heir) && (s.active[heir] || !s.active[member]) {
			s.leave[member] = "its node has lost its disk and came back as another member"
		}
		// With the same directory it comes back as another member when its metadata
		// were damaged, and then never as the former again.
		again := func(l quorum.Member) bool { return l.Node == member.Node && l != member && s.active[l] }
		if !s.active[member] && slices.ContainsFunc(s.learners, again) {
			s.leave[member] = "its node's metadata were damaged and it came back as another member"
		}
	}
	s.nodes = len(registered)
	applied := image.Offset()
	for _, l := range s.learners {
		br, p := image.Broker(l.Node), progress[l]
		if br.Active() && s.leave[l] == "" && p.Active && p.Match+caughtUpMax >= applied {
			s.promotable = append(s.promotable, l)
		}
	}
	return s
}

// replaceMember lets one go that must leave, or is dead for long.
func (b *Broker) replaceMember(now time.Time, s *survey) bool {
	for _, l := range s.learners {
		if cause := s.leave[l]; cause != "" {
			b.changeMembers(now, b.quorum.Change(quorum.Change{Member: l, As: quorum.Gone}),
				controller.Event{Kind: "quorum member removed", Node: l.Node, Detail: "was a learner", Cause: cause})
			return true
		}
	}
	for _, v := range s.voters {
		cause, as := s.leave[v], quorum.Gone
		if cause == "" {
			if !s.dead[v] || b.quorum.Is(v) {
				continue
			}
			cause, as = fmt.Sprintf("it is silent for more than %v", deadVoterMax), quorum.Learner
		}
		if heir, ok := s.heir(v); ok {
			err := b.quorum.Change(quorum.Change{Member: heir, As: quorum.Voter}, quorum.Change{Member: v, As: as})
			b.changeMembers(now, err, controller.Event{Kind: "quorum voter replaced", Node: v.Node, Detail: fmt.Sprintf("node %d votes in its place", heir.Node), Cause: cause})
			return true
		}
		if as == quorum.Gone && b.membership.removed[v.Node] && s.quorumWithout(v) {
			b.changeMembers(now, b.quorum.Change(quorum.Change{Member: v, As: quorum.Gone}),
				controller.Event{Kind: "quorum member removed", Node: v.Node, Detail: "was a voter", Cause: cause})
			return true
		}
	}
	return false
}

// heir is the learner that takes a voter's place: its own node's, or the first.
func (s *survey) heir(v quorum.Member) (quorum.Member, bool) {
	for _, l := range s.promotable {
		if l.Node == v.Node {
			return l, true
		}
	}
	if len(s.promotable) == 0 {
		return quorum.Member{}, false
	}
	return s.promotable[0], true
}

// quorumWithout says whether the voters but v have a live majority.
func (s *survey) quorumWithout(v quorum.Member) bool {
	rest, live := 0, 0
	for _, o := range s.voters {
		if o == v {
			continue
		}
		rest++
		if s.active[o] {
			live++
		}
	}
	return live > rest/2
}

// sizeQuorum makes learners voters where there are too few, and the reverse.
func (b *Broker) sizeQuorum(now time.Time, s *survey) {
	target := len(s.voters)
	switch {
	case s.nodes >= 5:
		target = 5
	case s.nodes >= 3:
		target = 3
	}
	if missing := min(target-len(s.voters), len(s.promotable)); missing > 0 {
		if (len(s.voters)+missing)%2 == 0 && missing > 1 {
			missing-- // an even number of voters bears no more failures
		}
		var changes []quorum.Change
		var nodes []kafka.NodeID
		for _, l := range s.promotable[:missing] {
			changes = append(changes, quorum.Change{Member: l, As: quorum.Voter})
			nodes = append(nodes, l.Node)
		}
		if (len(s.voters)+missing)%2 == 0 && len(s.voters)%2 == 1 {
			return // wait for another one
		}
		b.changeMembers(now, b.quorum.Change(changes...),
			controller.Event{Kind: "quorum voters added", Node: nodes[0], Detail: fmt.Sprintf("nodes %v", nodes), Cause: fmt.Sprintf("there are %d nodes", s.nodes)})
		return
	}
	if len(s.voters) > target {
		for _, v := range slices.Backward(s.voters) {
			if !b.quorum.Is(v) && s.quorumWithout(v) {
				b.changeMembers(now, b.quorum.Change(quorum.Change{Member: v, As: quorum.Learner}),
					controller.Event{Kind: "quorum voter made a learner", Node: v.Node, Cause: fmt.Sprintf("there are %d nodes", s.nodes)})
				return
			}
		}
	}
}

// members tells the state of the quorum, of which this node is the leader.
func (b *Broker) members(now time.Time) controller.DescribeQuorumResult {
	state := b.quorum.State()
	out := controller.DescribeQuorumResult{Leader: state.Leader, Epoch: state.Epoch, HighWatermark: state.Commit + 1}
	progress := make(map[quorum.Member]quorum.Progress)
	for _, p := range b.quorum.Peers() {
		progress[p.Member] = p
	}
	image := b.image.Load()
	list := func(members []quorum.Member) (all []controller.QuorumMember) {
		for _, m := range members {
			s := controller.QuorumMember{Node: m.Node, End: kafka.NoOffset}
			if br := image.Broker(m.Node); br != nil {
				s.Directory = br.Directory
			}
			if p, ok := progress[m]; ok {
				s.End = p.Match + 1
				if p.Match >= state.Commit && (p.Active || b.quorum.Is(m)) {
					s.CaughtUp = now
				}
			}
			all = append(all, s)
		}
		return all
	}
	voters, learners := b.quorum.Members()
	out.Voters, out.Learners = list(append(voters, b.quorum.Leaving()...)), list(learners)
	return out
}

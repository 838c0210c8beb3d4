package sim

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// examBudget is how much virtual time a group at rest has until it answers each
// question as it must: what is left of members that are gone may take a session.
const examBudget = 60 * second

// exam is a question to the coordinator of a group, and why an answer is wrong.
type exam struct {
	what  string
	ask   func() kmsg.Request
	judge func(r kmsg.Response) string
}

// examGroups asks what all groups say of themselves, and whether they refuse what
// they must. Nothing happens in them any more, so that it is known.
func (w *world) examGroups() {
	if w.stopped {
		return
	}
	c := w.newClient("examiner")
	open := 0
	why := make([]string, len(w.groups)+len(w.load.committer))
	begin := func(i int, name string, coordinator func() int, state func() string, make func() []exam, rest func() string) {
		open++
		exams, of := make(), state()
		var next func(n int)
		next = func(n int) {
			if why[i] = ""; n == len(exams) {
				open--
				return
			}
			again := func(reason string) {
				why[i] = fmt.Sprintf("%s: %s: %s", name, exams[n].what, reason)
				w.after(200*millisecond, func() { next(n) })
			}
			if reason := rest(); reason != "" {
				again(reason)
				return
			}
			if state() != of { // who was gone was put out since: other questions are to be asked
				exams, of, n = make(), state(), 0
			}
			c.call(coordinator(), exams[n].ask(), w.plan.requestTimeout, func(r kmsg.Response, err error) {
				if err != nil {
					again(err.Error())
					return
				}
				reason := exams[n].judge(r)
				if reason == "" {
					next(n + 1)
					return
				}
				if now := rest(); now != "" {
					reason = now
				}
				again(reason)
			})
		}
		w.after(0, func() { next(0) })
	}
	for i, g := range w.groups {
		rest := func() string {
			if len(g.members) > 0 && g.members[0].coordinator == nowhere {
				return "its coordinator is not known"
			}
			if slices.ContainsFunc(g.members, func(m *member) bool { return m.rejoin || m.unknown != nil }) {
				return "a member is about to join again"
			}
			return g.unrest()
		}
		state := func() string {
			s := ""
			for _, m := range g.members {
				s += fmt.Sprintf("%s at %d ", m.id, m.epoch)
			}
			return s
		}
		begin(i, g.name, func() int { return g.members[0].coordinator }, state, func() []exam { return g.exams(c) }, rest)
	}
	for i, m := range w.load.committer {
		rest := func() string {
			if m.coordinator == nowhere && m.part != nil {
				return "its coordinator is not known"
			}
			return ""
		}
		if m.part != nil && !w.plan.groups.shortRetention {
			begin(len(w.groups)+i, m.group, func() int { return m.coordinator }, func() string { return "" }, m.exams, rest)
		}
	}
	for end := w.now + examBudget; w.now < end && open > 0 && !w.stopped; {
		w.run(w.now + 20*millisecond)
	}
	if open > 0 && !w.stopped {
		w.violate("a group is what it says, and refuses what it must", "%v", slices.DeleteFunc(why, func(s string) bool { return s == "" }))
	}
}

// exams are the questions to a group with members. The last one ends a member.
func (g *simGroup) exams(c *client) []exam {
	m := g.members[c.rng.IntN(len(g.members))]
	if !slices.ContainsFunc(g.members, func(m *member) bool { return !m.classic }) {
		return slices.Concat([]exam{g.describedClassic(), g.listed("", "classic"), g.listed("Stable", ""), g.listed("Empty", "")}, g.refusals(m), g.classicRefusals(c, m))
	}
	return slices.Concat([]exam{g.describedConsumer(), g.listed("", "consumer"), g.listed("Stable", "consumer"), g.listed("Empty", "")}, g.refusals(m), g.consumerRefusals(m))
}

// describedClassic asks for the members, and what each of them has.
func (g *simGroup) describedClassic() exam {
	ask := func() kmsg.Request {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Version, req.Groups = 6, []string{g.name}
		return req
	}
	return exam{"DescribeGroups", ask, func(r kmsg.Response) string {
		got := r.(*kmsg.DescribeGroupsResponse).Groups[0]
		if got.ErrorCode != 0 || got.State != "Stable" || got.ProtocolType != "consumer" || got.Protocol == "" {
			return fmt.Sprintf("%v, state %q, protocol %q of %q", kafka.ErrorCode(got.ErrorCode), got.State, got.Protocol, got.ProtocolType)
		}
		for _, m := range g.members {
			i := slices.IndexFunc(got.Members, func(d kmsg.DescribeGroupsResponseGroupMember) bool { return d.MemberID == m.id })
			if i < 0 {
				return fmt.Sprintf("%s is not among its %d members", m, len(got.Members))
			}
			d := &got.Members[i]
			if stringOf(d.InstanceID) != m.instance || d.ClientID != m.c.name {
				return fmt.Sprintf("%s is instance %q of client %q", m, stringOf(d.InstanceID), d.ClientID)
			}
			if !slices.Contains(m.strategies(), got.Protocol) {
				return fmt.Sprintf("%s does not know the protocol %q", m, got.Protocol)
			}
			var meta kmsg.ConsumerMemberMetadata
			if err := meta.ReadFrom(d.ProtocolMetadata); err != nil || m.instance == "" && !slices.Equal(meta.Topics, sorted(m.topics)) {
				return fmt.Sprintf("%s reads %v: %v", m, meta.Topics, err)
			}
			var a kmsg.ConsumerMemberAssignment
			if err := a.ReadFrom(d.MemberAssignment); err != nil && len(d.MemberAssignment) > 0 {
				return fmt.Sprintf("%s has %x: %v", m, d.MemberAssignment, err)
			}
			var has []*groupPart
			for _, t := range a.Topics {
				for _, n := range t.Partitions {
					has = append(has, g.partByName(t.Topic, n))
				}
			}
			if why := m.has(has); why != "" {
				return why
			}
		}
		return ""
	}}
}

// describedConsumer is describedClassic for a group of KIP-848.
func (g *simGroup) describedConsumer() exam {
	ask := func() kmsg.Request {
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Version, req.Groups = 1, []string{g.name}
		return req
	}
	return exam{"ConsumerGroupDescribe", ask, func(r kmsg.Response) string {
		got := r.(*kmsg.ConsumerGroupDescribeResponse).Groups[0]
		epoch := g.members[0].epoch
		switch {
		case got.ErrorCode != 0 || got.State != "Stable" || got.Epoch != epoch || got.AssignmentEpoch != epoch:
			return fmt.Sprintf("%v, state %q, epoch %d and assignment of %d, not %d", kafka.ErrorCode(got.ErrorCode), got.State, got.Epoch, got.AssignmentEpoch, epoch)
		case got.AssignorName != g.assignor && g.assignor != "" && g.kind == groupConsumer:
			return fmt.Sprintf("its assignor is %q, not %q", got.AssignorName, g.assignor)
		}
		for _, m := range g.members {
			i := slices.IndexFunc(got.Members, func(d kmsg.ConsumerGroupDescribeResponseGroupMember) bool { return d.MemberID == m.id })
			if i < 0 {
				return fmt.Sprintf("%s is not among its %d members", m, len(got.Members))
			}
			d := &got.Members[i]
			if stringOf(d.InstanceID) != m.instance || d.ClientID != m.c.name || d.MemberEpoch != epoch || (d.MemberType == 0) != m.classic {
				return fmt.Sprintf("%s is instance %q of client %q at epoch %d, type %d", m, stringOf(d.InstanceID), d.ClientID, d.MemberEpoch, d.MemberType)
			}
			if !m.classic && stringOf(d.RackID) != m.slot.rack {
				return fmt.Sprintf("%s is in rack %q, not %q", m, stringOf(d.RackID), m.slot.rack)
			}
			re, topics := "", sorted(m.topics)
			if m.byRegex() {
				re, topics = everything, nil
			}
			if m.instance == "" && (stringOf(d.SubscribedTopicRegex) != re || !slices.Equal(d.SubscribedTopics, topics)) {
				return fmt.Sprintf("%s reads %v and %q", m, d.SubscribedTopics, stringOf(d.SubscribedTopicRegex))
			}
			for _, a := range []kmsg.Assignment{d.Assignment, d.TargetAssignment} {
				var has []*groupPart
				for _, t := range a.TopicPartitions {
					for _, n := range t.Partitions {
						has = append(has, g.partByID(t.TopicID, n))
					}
				}
				if why := m.has(has); why != "" {
					return why
				}
			}
		}
		if len(got.Members) == len(g.members) {
			return g.unfair()
		}
		return ""
	}}
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return names
}

// has compares what a member is told to have with what it has.
func (m *member) has(told []*groupPart) string {
	counts := func(p *groupPart) bool { return p != nil && !p.part.topic.deleted }
	n := 0
	for _, p := range told {
		if counts(p) {
			if n++; !m.owned[p] {
				return fmt.Sprintf("%s has %s, which it has not", m, p.part)
			}
		}
	}
	for _, p := range m.list() {
		if counts(p) {
			n--
		}
	}
	if n != 0 {
		return fmt.Sprintf("%s has %d partitions too few or too many", m, n)
	}
	return ""
}

// unfair says where the assignor of a group of KIP-848, all of whose members read
// the same, did not give them as much as it must: each as many as the others, or,
// by ranges, each as many of each topic, next to each other.
func (g *simGroup) unfair() string {
	same := func(t *topicState) bool {
		return t.deleted || !slices.ContainsFunc(g.members, func(m *member) bool { return m.reads(t) != g.members[0].reads(t) })
	}
	if g.kind != groupConsumer || slices.ContainsFunc(g.w.load.topics, func(t *topicState) bool { return !same(t) }) {
		return ""
	}
	var loads []int
	for _, m := range g.members {
		loads = append(loads, 0)
		for _, t := range g.w.load.topics {
			if t.deleted {
				continue
			}
			var run []int32
			for _, p := range t.parts {
				if m.owned[g.part(p)] {
					run = append(run, p.number)
				}
			}
			loads[len(loads)-1] += len(run)
			least := len(t.parts) / len(g.members)
			if g.assignor == "range" && m.reads(t) && (len(run) < least || len(run) > least+1 || len(run) > 0 && int(run[len(run)-1]-run[0]) >= len(run)) {
				return fmt.Sprintf("%s has the partitions %v of %s, of %d for %d members", m, run, t.name, len(t.parts), len(g.members))
			}
		}
	}
	if g.assignor != "range" && slices.Max(loads)-slices.Min(loads) > 1 {
		return fmt.Sprintf("its members have %v partitions", loads)
	}
	return ""
}

// listed asks for the groups in a state, or of a type; "" for any.
func (g *simGroup) listed(state, kind string) exam {
	return listing(g.name, state, kind, func(l *kmsg.ListGroupsResponseGroup) string {
		switch {
		case l == nil && state != "Empty":
			return "it is not there"
		case l != nil && (l.GroupState != "Stable" || l.ProtocolType != "consumer" || kind != "" && l.GroupType != kind):
			return fmt.Sprintf("it is %s, %s, %s", l.GroupState, l.GroupType, l.ProtocolType)
		}
		return ""
	})
}

func listing(name, state, kind string, judge func(*kmsg.ListGroupsResponseGroup) string) exam {
	ask := func() kmsg.Request {
		req := kmsg.NewPtrListGroupsRequest()
		req.Version = 5
		if state != "" {
			req.StatesFilter = []string{state}
		}
		if kind != "" {
			req.TypesFilter = []string{kind}
		}
		return req
	}
	return exam{"ListGroups " + state + " " + kind, ask, func(r kmsg.Response) string {
		got := r.(*kmsg.ListGroupsResponse)
		if got.ErrorCode != 0 {
			return kafka.ErrorCode(got.ErrorCode).String()
		}
		var found *kmsg.ListGroupsResponseGroup
		for i := range got.Groups {
			l := &got.Groups[i]
			if state != "" && l.GroupState != state || kind != "" && l.GroupType != kind {
				return fmt.Sprintf("there is %s, %s, %s", l.Group, l.GroupState, l.GroupType)
			}
			if l.Group == name {
				found = l
			}
		}
		return judge(found)
	}}
}

// refusal is a question that must be answered with a code.
func refusal(what string, want kafka.ErrorCode, ask func() kmsg.Request) exam {
	return exam{what, ask, func(r kmsg.Response) string {
		if got := codeIn(r); got != want {
			return fmt.Sprintf("is answered %v, not %v", got, want)
		}
		return ""
	}}
}

// codeIn is the code in an answer to one thing.
func codeIn(r kmsg.Response) kafka.ErrorCode {
	switch r := r.(type) {
	case *kmsg.JoinGroupResponse:
		return kafka.ErrorCode(r.ErrorCode)
	case *kmsg.SyncGroupResponse:
		return kafka.ErrorCode(r.ErrorCode)
	case *kmsg.HeartbeatResponse:
		return kafka.ErrorCode(r.ErrorCode)
	case *kmsg.OffsetCommitResponse:
		return kafka.ErrorCode(r.Topics[0].Partitions[0].ErrorCode)
	case *kmsg.OffsetFetchResponse:
		return kafka.ErrorCode(r.Groups[0].ErrorCode)
	case *kmsg.OffsetDeleteResponse:
		if r.ErrorCode == 0 && len(r.Topics) > 0 {
			return kafka.ErrorCode(r.Topics[0].Partitions[0].ErrorCode)
		}
		return kafka.ErrorCode(r.ErrorCode)
	case *kmsg.DeleteGroupsResponse:
		return kafka.ErrorCode(r.Groups[0].ErrorCode)
	case *kmsg.DescribeGroupsResponse:
		return kafka.ErrorCode(r.Groups[0].ErrorCode)
	case *kmsg.ConsumerGroupDescribeResponse:
		return kafka.ErrorCode(r.Groups[0].ErrorCode)
	case *kmsg.ConsumerGroupHeartbeatResponse:
		return kafka.ErrorCode(r.ErrorCode)
	}
	return kafka.ErrUnknownServerError
}

// nobody is a member id that was never given out.
const nobody = "nobody"

// refusals are what a group of either protocol refuses.
func (g *simGroup) refusals(m *member) []exam {
	list := []exam{
		refusal("DeleteGroups of a group with members", kafka.ErrNonEmptyGroup, func() kmsg.Request {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Version, req.Groups = 2, []string{g.name}
			return req
		}),
		refusal("a commit of nobody", kafka.ErrUnknownMemberID, m.commitAs("", "", -1)),
		refusal("a commit of a stranger", kafka.ErrUnknownMemberID, m.commitAs(nobody, "", 0)),
	}
	for _, t := range g.w.load.topics {
		if !t.deleted && !t.again && slices.Contains(g.always, t.name) {
			list = append(list, refusal("OffsetDelete of what members read", kafka.ErrGroupSubscribedToTopic, func() kmsg.Request {
				req := kmsg.NewPtrOffsetDeleteRequest()
				req.Group = g.name
				rt := kmsg.NewOffsetDeleteRequestTopic()
				rt.Topic, rt.Partitions = t.name, []kmsg.OffsetDeleteRequestTopicPartition{kmsg.NewOffsetDeleteRequestTopicPartition()}
				req.Topics = append(req.Topics, rt)
				return req
			}))
			break
		}
	}
	return list
}

// commitAs makes a commit for a partition that no group reads.
func (m *member) commitAs(id, instance string, epoch int32) func() kmsg.Request {
	return func() kmsg.Request {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.MemberID, req.Generation = 9, m.g.name, id, epoch
		if instance != "" {
			req.InstanceID = &instance
		}
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic, rt.Partitions = kafka.TopicConsumerOffsets, []kmsg.OffsetCommitRequestTopicPartition{kmsg.NewOffsetCommitRequestTopicPartition()}
		req.Topics = append(req.Topics, rt)
		return req
	}
}

func (m *member) heartbeatAs(id, instance string, epoch int32) func() kmsg.Request {
	return func() kmsg.Request {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.Generation = 4, m.g.name, id, epoch
		if instance != "" {
			req.InstanceID = &instance
		}
		return req
	}
}

func (m *member) syncAs(id, instance string, epoch int32) func() kmsg.Request {
	return func() kmsg.Request {
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.Generation = 4, m.g.name, id, epoch
		if instance != "" {
			req.InstanceID = &instance
		}
		return req
	}
}

func (m *member) joinAs(id, instance string, protocols ...string) func() kmsg.Request {
	return func() kmsg.Request {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.ProtocolType = 9, m.g.name, id, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(m.g.w.plan.groups.session/millisecond), int32(m.slot.rebalance/millisecond)
		if instance != "" {
			req.InstanceID = &instance
		}
		for _, name := range protocols {
			proto := kmsg.NewJoinGroupRequestProtocol()
			proto.Name, proto.Metadata = name, m.metadata()
			req.Protocols = append(req.Protocols, proto)
		}
		return req
	}
}

// classicRefusals are what a classic group refuses. What comes last puts a member
// out, among others that are none.
func (g *simGroup) classicRefusals(c *client, m *member) []exam {
	old := m.epoch - 1
	list := []exam{
		refusal("ConsumerGroupDescribe", kafka.ErrGroupIDNotFound, func() kmsg.Request {
			req := kmsg.NewPtrConsumerGroupDescribeRequest()
			req.Groups = []string{g.name}
			return req
		}),
		refusal("a heartbeat of a generation that is over", kafka.ErrIllegalGeneration, m.heartbeatAs(m.id, m.instance, old)),
		refusal("a sync of a generation that is over", kafka.ErrIllegalGeneration, m.syncAs(m.id, m.instance, old)),
		refusal("a commit of a generation that is over", kafka.ErrIllegalGeneration, m.commitAs(m.id, m.instance, old)),
		refusal("a heartbeat of a stranger", kafka.ErrUnknownMemberID, m.heartbeatAs(nobody, "", m.epoch)),
		refusal("a sync of a stranger", kafka.ErrUnknownMemberID, m.syncAs(nobody, "", m.epoch)),
		refusal("a join of a stranger", kafka.ErrUnknownMemberID, m.joinAs(nobody, "", m.strategies()...)),
		refusal("a join with a protocol of its own", kafka.ErrInconsistentGroupProtocol, m.joinAs("", "", "another")),
	}
	if m.instance != "" {
		list = append(list,
			refusal("a heartbeat of whom an instance is not", kafka.ErrFencedInstanceID, m.heartbeatAs(nobody, m.instance, m.epoch)),
			refusal("a sync of whom an instance is not", kafka.ErrFencedInstanceID, m.syncAs(nobody, m.instance, m.epoch)),
			refusal("a commit of whom an instance is not", kafka.ErrFencedInstanceID, m.commitAs(nobody, m.instance, m.epoch)),
			refusal("a join of whom an instance is not", kafka.ErrFencedInstanceID, m.joinAs(nobody, m.instance, m.strategies()...)))
	}
	tries := 0
	leave := func() kmsg.Request {
		if tries++; tries == 1 {
			m.durable, m.leaseUntil = false, 0
		}
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group = 5, g.name
		for _, id := range []string{nobody, m.id} {
			l := kmsg.NewLeaveGroupRequestMember()
			if l.MemberID = id; id == m.id && m.instance != "" {
				l.MemberID, l.InstanceID = "", &m.instance // as an administrator does
			}
			req.Members = append(req.Members, l)
		}
		return req
	}
	return append(list, exam{"LeaveGroup", leave, func(r kmsg.Response) string {
		got := r.(*kmsg.LeaveGroupResponse)
		id := m.id
		if m.instance != "" {
			id = ""
		}
		if got.ErrorCode != 0 || len(got.Members) != 2 || got.Members[0].MemberID != nobody || got.Members[1].MemberID != id || stringOf(got.Members[1].InstanceID) != m.instance {
			return fmt.Sprintf("%v for the members %+v", kafka.ErrorCode(got.ErrorCode), got.Members)
		}
		first, second := kafka.ErrorCode(got.Members[0].ErrorCode), kafka.ErrorCode(got.Members[1].ErrorCode)
		if first != kafka.ErrUnknownMemberID || second != kafka.None && (tries == 1 || second != kafka.ErrUnknownMemberID) {
			return fmt.Sprintf("a stranger is answered %v, and %s %v", first, m, second)
		}
		return ""
	}})
}

// consumerRefusals are what a group of KIP-848 refuses.
func (g *simGroup) consumerRefusals(m *member) []exam {
	list := []exam{
		refusal("DescribeGroups", kafka.ErrGroupIDNotFound, func() kmsg.Request {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Version, req.Groups = 6, []string{g.name}
			return req
		}),
		refusal("a fetch of a stranger", kafka.ErrUnknownMemberID, m.fetchAs(nobody, m.epoch)),
		refusal("a heartbeat of a stranger", kafka.ErrUnknownMemberID, m.consumerAs(nobody, "", m.epoch)),
	}
	if m.classic {
		return append(list,
			refusal("a heartbeat of a generation that is over", kafka.ErrIllegalGeneration, m.heartbeatAs(m.id, m.instance, m.epoch-1)),
			refusal("a sync of a generation that is over", kafka.ErrIllegalGeneration, m.syncAs(m.id, m.instance, m.epoch-1)),
			refusal("a commit of a generation that is over", kafka.ErrIllegalGeneration, m.commitAs(m.id, m.instance, m.epoch-1)))
	}
	list = append(list, refusal("a heartbeat of an epoch to come", kafka.ErrFencedMemberEpoch, m.consumerAs(m.id, m.instance, m.epoch+1)))
	// What the member has kept since the epoch before it may commit at that one yet,
	// and a heartbeat of that one may claim it: neither is asked for here.
	for old := max(1, m.epoch-4); old < m.epoch; old++ {
		list = append(list,
			refusal(fmt.Sprintf("a heartbeat of epoch %d, which is over", old), kafka.ErrFencedMemberEpoch, m.consumerAs(m.id, m.instance, old)),
			refusal(fmt.Sprintf("a commit of epoch %d, which is over", old), kafka.ErrStaleMemberEpoch, m.commitAs(m.id, m.instance, old)),
			refusal(fmt.Sprintf("a fetch of epoch %d, which is over", old), kafka.ErrStaleMemberEpoch, m.fetchAs(m.id, old)))
	}
	if m.instance != "" {
		list = append(list,
			refusal("a heartbeat of whom an instance is not", kafka.ErrFencedInstanceID, m.consumerAs(nobody, m.instance, m.epoch)),
			refusal("a join in the place of who lives", kafka.ErrUnreleasedInstanceID, m.consumerAs(nobody, m.instance, 0)))
	}
	return list
}

// consumerAs makes a heartbeat that claims a partition which nobody has, or joins.
func (m *member) consumerAs(id, instance string, epoch int32) func() kmsg.Request {
	return func() kmsg.Request {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version = 1
		req.Group, req.MemberID, req.MemberEpoch = m.g.name, id, epoch
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = int32(m.slot.rebalance/millisecond), m.topics
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if epoch > 0 {
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: [16]byte{1}, Partitions: []int32{0}})
		}
		if instance != "" {
			req.InstanceID = &instance
		}
		return req
	}
}

func (m *member) fetchAs(id string, epoch int32) func() kmsg.Request {
	return func() kmsg.Request {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version = 9
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.MemberID, g.MemberEpoch = m.g.name, &id, epoch
		req.Groups = append(req.Groups, g)
		return req
	}
}

// exams are the questions to the coordinator of a group without members, of which
// an offset is committed.
func (m *committer) exams() []exam {
	ask := func() kmsg.Request {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Version, req.Groups = 6, []string{m.group}
		return req
	}
	is := func() bool { return m.acked >= 0 && !m.part.topic.deleted && !m.maybe[-1] && m.sent >= 0 }
	return []exam{
		{"DescribeGroups", ask, func(r kmsg.Response) string {
			if got := r.(*kmsg.DescribeGroupsResponse).Groups[0]; is() && (got.ErrorCode != 0 || got.State != "Empty" || len(got.Members) > 0) {
				return fmt.Sprintf("%v, state %q, %d members", kafka.ErrorCode(got.ErrorCode), got.State, len(got.Members))
			}
			return ""
		}},
		listing(m.group, "", "classic", func(l *kmsg.ListGroupsResponseGroup) string {
			if is() && (l == nil || l.GroupState != "Empty") {
				return fmt.Sprintf("it is %+v", l)
			}
			return ""
		}),
		listing(m.group, "Empty", "", func(l *kmsg.ListGroupsResponseGroup) string {
			if is() && l == nil {
				return "it is not there"
			}
			return ""
		}),
		listing(m.group, "", "consumer", func(l *kmsg.ListGroupsResponseGroup) string {
			if l != nil {
				return "it is there"
			}
			return ""
		}),
	}
}

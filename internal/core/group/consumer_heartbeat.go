package group

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// consumerHeartbeat answers a heartbeat of the KIP-848 protocol, which is all
// of it: joining, staying, changing what is read, giving up partitions, leaving.
func (s *Shard) consumerHeartbeat(r *ConsumerGroupHeartbeat) Response {
	if code, why := s.checkHeartbeat(r); code != kafka.None {
		return refusal(code, why)
	}
	g := s.groups[r.Group]
	if g == nil || g.consumer == nil {
		if r.MemberEpoch != epochJoin {
			return refusal(kafka.ErrGroupIDNotFound, fmt.Sprintf("Group %s is not a consumer group.", r.Group))
		}
		var refused *ConsumerGroupHeartbeatResponse
		if g, refused = s.convertToConsumer(r, g); refused != nil {
			return refused
		}
	}
	if r.MemberEpoch < 0 {
		return s.consumerLeave(g, r)
	}
	if r.MemberID == "" {
		r.MemberID = s.uuid()
	}
	m, code, why := s.heartbeatMember(g, r)
	if code != kafka.None {
		return refusal(code, why)
	}
	return s.heartbeatOf(g, m, r)
}

func refusal(code kafka.ErrorCode, why string) *ConsumerGroupHeartbeatResponse {
	return &ConsumerGroupHeartbeatResponse{Err: code, Message: why}
}

// checkHeartbeat looks at what can be judged without knowing the group.
func (s *Shard) checkHeartbeat(r *ConsumerGroupHeartbeat) (kafka.ErrorCode, string) {
	bad := func(why string) (kafka.ErrorCode, string) { return kafka.ErrInvalidRequest, why }
	switch {
	case r.Group == "":
		return bad("GroupId can't be empty.")
	case r.MemberEpoch < epochLeaveStatic:
		return bad("MemberEpoch is invalid.")
	case r.MemberID == "" && (r.Version >= 1 || r.MemberEpoch != epochJoin):
		return bad("MemberId can't be empty.")
	case r.MemberEpoch == epochLeaveStatic && r.InstanceID == "":
		return bad("InstanceId can't be null.")
	}
	if r.MemberEpoch == epochJoin {
		switch {
		case r.RebalanceTimeoutMs == -1:
			return bad("RebalanceTimeoutMs must be provided in first request.")
		case r.Owned == nil || len(r.Owned) > 0:
			return bad("TopicPartitions must be empty when (re-)joining.")
		case r.SubscribedTopicNames == nil && r.SubscribedTopicRegex == nil:
			return bad("SubscribedTopicNames or SubscribedTopicRegex must be set in first request.")
		}
	}
	if r.ServerAssignor != "" && !slices.Contains(s.opts.ConsumerAssignors, r.ServerAssignor) {
		return kafka.ErrUnsupportedAssignor, fmt.Sprintf("ServerAssignor %s is not supported. Supported assignors: %s.",
			r.ServerAssignor, strings.Join(s.opts.ConsumerAssignors, ", "))
	}
	if r.SubscribedTopicRegex != nil && *r.SubscribedTopicRegex != "" {
		if _, err := compileWhole(*r.SubscribedTopicRegex); err != nil {
			return kafka.ErrInvalidRegularExpression, fmt.Sprintf("SubscribedTopicRegex `%s` is not a valid regular expression: %v.",
				*r.SubscribedTopicRegex, err)
		}
	}
	return kafka.None, ""
}

// compileWhole compiles a regular expression that matches whole names.
func compileWhole(re string) (*regexp.Regexp, error) {
	if _, err := regexp.Compile(re); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + re + `)\z`)
}

// convertToClassic makes an empty group of the KIP-848 protocol a classic one.
func (s *Shard) convertToClassic(g *group, r *JoinGroup) kafka.ErrorCode {
	if r.MemberID != "" {
		return kafka.ErrUnknownMemberID
	}
	g.classic = newClassicGroup(s.now)
	g.classic.generation = g.consumer.epoch
	if g.classic.supports(r.ProtocolType, r.Protocols) {
		s.consumerTombstones(g)
	}
	return kafka.None
}

// heartbeatMember finds the member that sends the heartbeat, or makes the one
// that joins. What it returns is a copy.
func (s *Shard) heartbeatMember(g *group, r *ConsumerGroupHeartbeat) (m consumerMember, code kafka.ErrorCode, why string) {
	c := g.consumer
	old := c.members[r.MemberID]
	if r.InstanceID != "" {
		holder := c.members[c.static[r.InstanceID]]
		switch {
		case r.MemberEpoch == epochJoin && holder != nil && holder.id != r.MemberID:
			if !mutant.On(mutant.InstanceTaken) && holder.epoch != epochLeaveStatic && holder.about.Classic == nil && r.classic == nil {
				return m, kafka.ErrUnreleasedInstanceID, fmt.Sprintf("Static member %s with instance id %s cannot join the group because the instance id is owned by member %s.", r.MemberID, r.InstanceID, holder.id)
			}
			if old != nil { // what it has under its own name would be nobody's
				return m, kafka.ErrInvalidRequest, whyTaken(r, holder.id)
			}
			return s.replaceConsumer(g, holder, r), kafka.None, ""
		case r.MemberEpoch != epochJoin && holder == nil:
			return m, kafka.ErrUnknownMemberID, fmt.Sprintf("Instance id %s is unknown.", r.InstanceID)
		case r.MemberEpoch != epochJoin && holder.id != r.MemberID && !mutant.On(mutant.InstanceUnfenced):
			return m, kafka.ErrFencedInstanceID, fmt.Sprintf("Static member %s with instance id %s was fenced by member %s.", r.MemberID, r.InstanceID, holder.id)
		}
	}
	if old == nil {
		if r.MemberEpoch != epochJoin {
			return m, kafka.ErrUnknownMemberID, fmt.Sprintf("Member %s is not a member of group %s.", r.MemberID, g.id)
		}
		if len(c.members) >= s.opts.ConsumerMaxSize {
			return m, kafka.ErrGroupMaxSizeReached, s.whyFull()
		}
		s.schedule(timerConsumerSession, g.id, r.MemberID, s.now.Add(s.consumerSession(g.id, r.classic)))
		s.event(EventMemberJoined, g, r.MemberID, "")
		return consumerMember{id: r.MemberID}, kafka.None, ""
	}
	if old.isFenced(r) {
		return m, kafka.ErrFencedMemberEpoch, fmt.Sprintf("The consumer group member has epoch %d, which is not the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", r.MemberEpoch, old.epoch)
	}
	s.extend(&old.session, timerConsumerSession, g.id, old.id, s.now.Add(s.consumerSession(g.id, r.classic)))
	return *old, kafka.None, ""
}

// whyFull says that there is no room for another member.
func (s *Shard) whyFull() string {
	return fmt.Sprintf("The consumer group has reached its maximum capacity of %d members.", s.opts.ConsumerMaxSize)
}

// whyTaken says that a member cannot have the place of another one as well.
func whyTaken(r *ConsumerGroupHeartbeat, holder string) string {
	return fmt.Sprintf("Member %s is in the group already and cannot take the place of member %s, which owns instance id %s.", r.MemberID, holder, r.InstanceID)
}

// isFenced says whether the epoch is none that the member can have. With the
// one before it is taken for a member that missed an answer, as long as it does
// not claim what it has not. One that does not say what it owns has what it had,
// which is within the assignment: the epoch rises only when the rest is given up.
func (m *consumerMember) isFenced(r *ConsumerGroupHeartbeat) bool {
	if r.MemberEpoch == epochJoin || r.MemberEpoch == m.epoch || mutant.On(mutant.OldEpochHeartbeat) && r.MemberEpoch < m.epoch {
		return false
	}
	return r.MemberEpoch > m.epoch || r.MemberEpoch != m.prevEpoch || len(subtract(normalize(r.Owned), m.assigned)) > 0
}

// replaceConsumer hands the place of a static member that left for a while, or
// that changes its protocol, to its new instance.
func (s *Shard) replaceConsumer(g *group, old *consumerMember, r *ConsumerGroupHeartbeat) consumerMember {
	c, id := g.consumer, r.MemberID
	m := *old
	m.about.Classic, m.joinAt, m.syncAt = r.classic, time.Time{}, time.Time{}
	if r.RebalanceTimeoutMs != -1 {
		m.about.RebalanceTimeoutMs = r.RebalanceTimeoutMs
	}
	m.id, m.epoch, m.prevEpoch, m.session, m.revokeAt = id, 0, 0, session{}, time.Time{}
	m.state, m.revoking = offsets.MemberStable, nil
	target := c.target[old.id]
	s.removeConsumer(g, old.id)
	about := m.about
	s.record(offsets.ConsumerMember{Group: g.id, MemberID: id, Value: &about})
	s.record(offsets.ConsumerTarget{Group: g.id, MemberID: id, Value: &offsets.ConsumerTargetValue{Partitions: target}})
	s.schedule(timerConsumerSession, g.id, id, s.now.Add(s.consumerSession(g.id, r.classic)))
	s.event(EventMemberFenced, g, old.id, fmt.Sprintf("instance %s came back as member %s", old.about.InstanceID, id))
	return m
}

// removeConsumer makes the records that remove a member.
func (s *Shard) removeConsumer(g *group, id string) {
	s.record(offsets.ConsumerCurrent{Group: g.id, MemberID: id})
	s.record(offsets.ConsumerTarget{Group: g.id, MemberID: id})
	s.record(offsets.ConsumerMember{Group: g.id, MemberID: id})
}

// heartbeatOf brings the member, and with it the group, up to date.
func (s *Shard) heartbeatOf(g *group, m consumerMember, r *ConsumerGroupHeartbeat) Response {
	c := g.consumer
	before := m
	_, known := c.members[m.id]
	replaced := !known && m.about.InstanceID != ""
	m.takeOver(r)
	changed := !sameMember(&m.about, &before.about)
	if changed || !known && !replaced {
		about := m.about
		s.record(offsets.ConsumerMember{Group: g.id, MemberID: m.id, Value: &about})
	}
	p := s.plan(g, &m, replaced)
	cause := ""
	switch {
	case !known && !replaced:
		cause = fmt.Sprintf("member %s joined", m.id)
	case changed && !sameSubscription(&m.about, &before.about):
		cause = fmt.Sprintf("member %s changed its subscription", m.id)
	}
	epoch, target := s.updateEpoch(g, p, cause), c.target[m.id]
	if replaced {
		target = c.target[c.static[m.about.InstanceID]]
	}
	targetEpoch, wait := c.targetEpoch, time.Duration(0)
	if epoch > c.targetEpoch {
		if wait = s.assignmentWait(g); wait == 0 {
			target = s.assignTarget(g, p, epoch, m.id, replaced)
			targetEpoch = epoch
		}
	}
	s.reconcile(g, &m, &before, r, target, targetEpoch, !known)
	resp := &ConsumerGroupHeartbeatResponse{
		MemberID: m.id, MemberEpoch: m.epoch,
		HeartbeatIntervalMs: int32(s.opts.settingsOf(g.id).HeartbeatInterval.Milliseconds()),
	}
	if wait > 0 { // so that nobody waits for longer than the assignment does
		resp.HeartbeatIntervalMs = min(resp.HeartbeatIntervalMs, int32(wait.Milliseconds())+1)
	}
	missed := known && r.MemberEpoch != before.epoch // the answer with the assignment, maybe
	unheard := before.unheard && (r.Owned == nil || !equalSets(normalize(r.Owned), m.assigned))
	full := missed || unheard || r.MemberEpoch == epochJoin || r.RebalanceTimeoutMs != -1 && r.Owned != nil &&
		(r.SubscribedTopicNames != nil || r.SubscribedTopicRegex != nil)
	changed = !equalSets(m.assigned, before.assigned)
	if full || changed {
		resp.HasAssignment, resp.Assignment = true, m.assigned
	}
	if live := c.members[m.id]; live != nil {
		live.unheard = m.epoch == before.epoch && (changed || unheard)
	}
	return resp
}

// assignmentWait is how long the next assignment has to wait for more changes,
// so that many of them, one after another, do not make as many assignments. The
// first one does not wait, nor does any after a step back of the clock.
func (s *Shard) assignmentWait(g *group) time.Duration {
	c := g.consumer
	since := time.Duration(s.now.UnixMilli()-c.assignedAt) * time.Millisecond
	if c.assignedAt == 0 || since < 0 {
		return 0
	}
	return max(s.opts.settingsOf(g.id).AssignmentInterval-since, 0)
}

// takeOver copies what the heartbeat says about the member.
func (m *consumerMember) takeOver(r *ConsumerGroupHeartbeat) {
	a := &m.about
	a.ClientID, a.ClientHost, a.Classic = r.ClientID, r.ClientHost, r.classic
	if r.InstanceID != "" {
		a.InstanceID = r.InstanceID
	}
	if r.RackID != "" {
		a.RackID = r.RackID
	}
	if r.RebalanceTimeoutMs != -1 {
		a.RebalanceTimeoutMs = r.RebalanceTimeoutMs
	}
	if r.ServerAssignor != "" {
		a.ServerAssignor = r.ServerAssignor
	}
	if r.SubscribedTopicNames != nil {
		a.SubscribedTopicNames = sortedNames(r.SubscribedTopicNames)
	}
	if r.SubscribedTopicRegex != nil {
		a.SubscribedTopicRegex = *r.SubscribedTopicRegex
	}
}

func sameMember(a, b *offsets.ConsumerMemberValue) bool {
	return a.ClientID == b.ClientID && a.ClientHost == b.ClientHost &&
		a.RebalanceTimeoutMs == b.RebalanceTimeoutMs && a.InstanceID == b.InstanceID && sameClassic(a.Classic, b.Classic) && sameSubscription(a, b)
}

// sameSubscription says whether what the assignment depends on is the same.
func sameSubscription(a, b *offsets.ConsumerMemberValue) bool {
	return slices.Equal(a.SubscribedTopicNames, b.SubscribedTopicNames) &&
		a.SubscribedTopicRegex == b.SubscribedTopicRegex && a.RackID == b.RackID && a.ServerAssignor == b.ServerAssignor
}

// plan is the group as it will be with the member, its regular expressions
// resolved.
func (s *Shard) plan(g *group, m *consumerMember, replaced bool) *subscription {
	c := g.consumer
	p := &subscription{members: c.members, regexes: map[string][]string{}}
	if old := c.members[m.id]; old == nil || !sameSubscription(&old.about, &m.about) {
		p.members = maps.Clone(c.members)
		if replaced {
			delete(p.members, c.static[m.about.InstanceID])
		}
		p.members[m.id] = m
		c.checked = -1
	} else if c.checked == s.topics.Version() && c.epoch == c.targetEpoch {
		return p
	}
	s.resolveRegexes(g, p)
	return p
}

// resolveRegexes finds the topics of the regular expressions in use, and
// records where they differ from what is known.
func (s *Shard) resolveRegexes(g *group, p *subscription) {
	c := g.consumer
	used := map[string]bool{}
	for _, m := range p.members {
		if re := m.about.SubscribedTopicRegex; re != "" {
			used[re] = true
		}
	}
	for _, re := range slices.Sorted(maps.Keys(used)) {
		known := c.regexes[re]
		if known != nil && c.checked == s.topics.Version() {
			p.regexes[re] = known.Topics
			continue
		}
		p.regexes[re] = s.matchTopics(re)
		if known == nil || !slices.Equal(known.Topics, p.regexes[re]) {
			s.record(offsets.ConsumerRegex{Group: g.id, Regex: re, Value: &offsets.ConsumerRegexValue{
				Topics: p.regexes[re], Version: s.topics.Version(), Timestamp: s.now.UnixMilli(),
			}})
		}
	}
	for _, re := range slices.Sorted(maps.Keys(c.regexes)) {
		if !used[re] {
			s.record(offsets.ConsumerRegex{Group: g.id, Regex: re})
		}
	}
}

// matchTopics names the topics that an expression matches, internal ones too:
// clients count on it.
func (s *Shard) matchTopics(re string) []string {
	compiled, err := compileWhole(re)
	if err != nil {
		return nil
	}
	var names []string
	s.topics.Each(func(t Topic) bool {
		if compiled.MatchString(t.Name) {
			names = append(names, t.Name)
		}
		return true
	})
	return names
}

// updateEpoch raises the group epoch if there is cause, or if the topics
// changed. It returns the group epoch.
func (s *Shard) updateEpoch(g *group, p *subscription, cause string) int32 {
	c := g.consumer
	hash := c.metadataHash
	if c.checked != s.topics.Version() {
		found := p.found(s.topics)
		hash = p.hashOf(found)
		if cause == "" && hash != c.metadataHash {
			cause = topicChanges(c.seen, found)
		}
		c.checked, c.seen = s.topics.Version(), map[string]int32{}
		for name, t := range found {
			c.seen[name] = t.Partitions
		}
	}
	if cause == "" {
		return c.epoch
	}
	s.record(offsets.ConsumerGroup{Group: g.id, Value: &offsets.ConsumerGroupValue{Epoch: c.epoch + 1, MetadataHash: hash}})
	s.event(EventRebalanceStarted, g, "", cause)
	return c.epoch + 1
}

func plural(n int32) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// topicChanges says in words how the topics that a group reads have changed.
func topicChanges(seen map[string]int32, found map[string]Topic) string {
	const unknown = "the topics that the group reads changed"
	if seen == nil {
		return unknown
	}
	var changes []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		switch had, ok := seen[name]; {
		case !ok:
			changes = append(changes, fmt.Sprintf("topic %s was made", name))
		case found[name].Partitions > had:
			changes = append(changes, fmt.Sprintf("topic %s got %d more partition%s", name, found[name].Partitions-had, plural(found[name].Partitions-had)))
		case found[name].Partitions < had:
			changes = append(changes, fmt.Sprintf("topic %s was made anew with %d partition%s", name, found[name].Partitions, plural(found[name].Partitions)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if _, ok := found[name]; !ok {
			changes = append(changes, fmt.Sprintf("topic %s is gone", name))
		}
	}
	const most = 5
	switch {
	case len(changes) == 0:
		return "a topic that the group reads was made anew, or its replicas' racks changed"
	case len(changes) > most:
		return fmt.Sprintf("%s, and %d more changes", strings.Join(changes[:most], ", "), len(changes)-most)
	}
	return strings.Join(changes, ", ")
}

// assignTarget makes the target assignment for the group epoch and returns
// that of the member.
func (s *Shard) assignTarget(g *group, p *subscription, epoch int32, memberID string, replaced bool) partitionSet {
	c := g.consumer
	ids := slices.Sorted(maps.Keys(p.members))
	members := make([]assignorMember, len(ids))
	targetOf := func(id string) (partitionSet, bool) {
		if replaced && id == memberID {
			id = c.static[p.members[id].about.InstanceID]
		}
		t, ok := c.target[id]
		return t, ok
	}
	for i, id := range ids {
		m := p.members[id]
		members[i] = assignorMember{id: id, order: m.about.InstanceID, rack: m.about.RackID, topics: p.topics(m, s.topics)}
		if members[i].order == "" {
			members[i].order = id
		}
		members[i].had, _ = targetOf(id)
	}
	var own partitionSet
	for i, set := range assign(s.preferredAssignor(p), members) {
		if had, ok := targetOf(ids[i]); !ok || !equalSets(had, set) {
			s.record(offsets.ConsumerTarget{Group: g.id, MemberID: ids[i], Value: &offsets.ConsumerTargetValue{Partitions: set}})
		}
		if ids[i] == memberID {
			own = set
		}
	}
	s.record(offsets.ConsumerTargetEpoch{Group: g.id, Value: &offsets.ConsumerTargetEpochValue{Epoch: epoch, Timestamp: s.now.UnixMilli()}})
	return own
}

// preferredAssignor is what most members ask for, or the default.
func (s *Shard) preferredAssignor(p *subscription) string {
	votes := map[string]int{}
	for _, m := range p.members {
		if a := m.about.ServerAssignor; a != "" {
			votes[a]++
		}
	}
	best := s.opts.ConsumerAssignors[0]
	for _, a := range s.opts.ConsumerAssignors {
		if votes[a] > votes[best] {
			best = a
		}
	}
	return best
}

// reconcile moves the member one step towards its target, and records it if
// anything changed. A member gets a partition only when nobody else has it,
// and goes to the next epoch only when it has given up what it must.
func (s *Shard) reconcile(g *group, m, before *consumerMember, r *ConsumerGroupHeartbeat, target partitionSet, targetEpoch int32, isNew bool) {
	var owned partitionSet
	if r.Owned != nil {
		owned = normalize(r.Owned)
	}
	holds := func(set partitionSet) bool {
		return len(set) > 0 && (r.Owned == nil || len(intersect(owned, set)) > 0)
	}
	switch {
	case m.state == offsets.MemberStable && m.epoch == targetEpoch:
	case m.state == offsets.MemberUnrevokedPartitions && holds(m.revoking):
	default:
		s.step(g, m, target, targetEpoch, holds)
	}
	if !isNew && m.epoch == before.epoch && m.state == before.state && equalSets(m.assigned, before.assigned) && equalSets(m.revoking, before.revoking) {
		return
	}
	s.record(offsets.ConsumerCurrent{Group: g.id, MemberID: m.id, Value: &offsets.ConsumerCurrentValue{
		MemberEpoch: m.epoch, PreviousMemberEpoch: m.prevEpoch, State: m.state,
		Assigned: m.assigned, PendingRevocation: m.revoking,
	}})
	if live := g.consumer.members[m.id]; live != nil && m.state == offsets.MemberUnrevokedPartitions {
		live.revokeAt = s.now.Add(time.Duration(m.about.RebalanceTimeoutMs) * time.Millisecond)
		s.schedule(timerConsumerRevoke, g.id, m.id, live.revokeAt)
	}
}

// step works out the member's next assignment.
func (s *Shard) step(g *group, m *consumerMember, target partitionSet, targetEpoch int32, holds func(partitionSet) bool) {
	c := g.consumer
	keep := intersect(m.assigned, target)
	revoke := subtract(m.assigned, target)
	if holds(revoke) {
		m.state, m.assigned, m.revoking = offsets.MemberUnrevokedPartitions, keep, revoke
		m.prevEpoch = m.epoch
		return
	}
	wanted := subtract(target, keep)
	free := c.free(wanted, m)
	m.state = offsets.MemberStable
	if countPartitions(free) < countPartitions(wanted) {
		m.state = offsets.MemberUnreleasedPartitions
	}
	m.assigned, m.revoking = union(keep, free), nil
	m.prevEpoch, m.epoch = m.epoch, targetEpoch
}

// free is what of the set no other member has or still has to give up.
func (c *consumerGroup) free(set partitionSet, m *consumerMember) partitionSet {
	var out partitionSet
	for _, t := range set {
		var list []int32
		for _, p := range t.Partitions {
			owner, ok := c.owners[t.TopicID][p]
			if !ok || mutant.On(mutant.AssignBeforeRevoked) || owner == m.id || m.about.InstanceID != "" && c.static[m.about.InstanceID] == owner {
				list = append(list, p)
			}
		}
		if len(list) > 0 {
			out = append(out, offsets.TopicPartitions{TopicID: t.TopicID, Partitions: list})
		}
	}
	return out
}

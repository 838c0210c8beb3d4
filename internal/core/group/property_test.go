package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"chronik/internal/base/kafka"
	"chronik/internal/format/offsets"
)

// model drives a shard with random requests and checks what must always hold.
type model struct {
	t       *rapid.T
	shard   *Shard
	topics  fakeTopics
	now     time.Time
	wake    time.Time
	ticket  Ticket
	log     []Record
	asked   map[Ticket]Request
	done    map[Ticket]Response
	members []string                // ids that were ever handed out
	gens    map[string]int32        // generation or epoch that a member last heard of
	given   map[string]partitionSet // last assignment that a member was told
	held    map[string]partitionSet // what it really reads; it takes its time to give up partitions
}

func newModel(t *rapid.T) *model {
	m := &model{t: t, now: time.UnixMilli(1_700_000_000_000), asked: map[Ticket]Request{}, done: map[Ticket]Response{},
		gens: map[string]int32{}, given: map[string]partitionSet{}, held: map[string]partitionSet{}}
	m.topics = fakeTopics{version: 1, list: []Topic{{Name: "t", ID: topicID("t"), Partitions: 5}, {Name: "u", ID: topicID("u"), Partitions: 2}}}
	m.reload()
	return m
}

func (m *model) reload() {
	m.shard = New(Options{InitialRebalanceDelay: 10 * time.Millisecond, OffsetsRetention: time.Hour, MaxSize: 4},
		rand.New(rand.NewPCG(7, uint64(len(m.log)))))
	m.shard.SetTopics(m.topics)
	for _, r := range m.log {
		m.shard.Apply(r)
	}
	m.take(m.shard.Start(m.now))
}

func (m *model) take(d Decision) {
	for _, r := range d.Records {
		m.shard.Apply(recode(m.t, r))
		m.log = append(m.log, recode(m.t, r))
	}
	for _, r := range d.Replies {
		if _, ok := m.asked[r.Ticket]; !ok {
			m.t.Fatalf("ticket %d was answered before, or never asked", r.Ticket)
		}
		delete(m.asked, r.Ticket)
		m.done[r.Ticket] = r.Response
	}
	m.wake = d.Wake
}

// recode sends the record through its bytes.
func recode(t *rapid.T, r Record) Record {
	if r.Data == nil {
		return r
	}
	var value []byte
	if !r.Data.IsTombstone() {
		value = r.Data.AppendValue(nil)
	}
	d, err := offsets.Decode(r.Data.AppendKey(nil), value)
	if err != nil {
		t.Fatalf("decode %+v: %v", r.Data, err)
	}
	r.Data = d
	return r
}

func (m *model) ask(req Request) Response {
	m.ticket++
	m.asked[m.ticket] = req
	m.take(m.shard.Decide(m.now, req, m.ticket))
	return m.done[m.ticket]
}

func (m *model) member() string {
	return rapid.SampledFrom(append([]string{""}, m.members...)).Draw(m.t, "member")
}

func (m *model) remember(id string) {
	if id != "" && !slices.Contains(m.members, id) {
		m.members = append(m.members, id)
	}
}

func (m *model) classic(t *rapid.T) {
	group := rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")
	id := m.member()
	if c := m.classicGroup(group); c != nil && len(c.order) > 0 && rapid.IntRange(0, 3).Draw(t, "known") > 0 {
		id = rapid.SampledFrom(c.order).Draw(t, "of the group").id
	}
	instance := rapid.SampledFrom([]string{"", "", "i", "j"}).Draw(t, "instance")
	switch rapid.IntRange(0, 5).Draw(t, "api") {
	case 0, 1:
		resp := m.ask(&JoinGroup{Version: int16(rapid.IntRange(0, 9).Draw(t, "version")), Group: group, MemberID: id, InstanceID: instance,
			ClientID: "c", SessionTimeoutMs: 6000, RebalanceTimeoutMs: 8000, ProtocolType: "consumer",
			Protocols: []Protocol{{Name: rapid.SampledFrom([]string{"range", "rr"}).Draw(t, "protocol"), Metadata: subscriptionOf([]string{"t"})}, {Name: "any"}}})
		if j, ok := resp.(*JoinGroupResponse); ok && j.MemberID != "" {
			m.remember(j.MemberID)
		}
	case 2, 3:
		c := m.classicGroup(group)
		if c == nil || c.members[id] == nil {
			return
		}
		r := &SyncGroup{Group: group, MemberID: id, Generation: c.generation}
		for p, o := range c.order {
			data := appendAssignment(nil, 1, []embeddedPartitions{{"t", []int32{int32(p), int32(p + rapid.IntRange(0, 1).Draw(t, "wrong"))}}})
			r.Assignments = append(r.Assignments, Assignment{MemberID: o.id, Data: data})
		}
		m.ask(r)
	case 4:
		if c := m.classicGroup(group); c != nil {
			m.ask(&Heartbeat{Group: group, MemberID: id, Generation: c.generation})
		}
	default:
		if c := m.classicGroup(group); c != nil && c.members[id] != nil {
			instance = c.members[id].instanceID
		}
		m.ask(&LeaveGroup{Version: 3, Group: group, Members: []LeavingMember{{MemberID: id, InstanceID: instance}}})
	}
	for _, resp := range m.done {
		if j, ok := resp.(*JoinGroupResponse); ok {
			m.remember(j.MemberID)
		}
	}
}

// mixed lets members of both protocols meet in the groups that begin as classic ones.
func (m *model) mixed(t *rapid.T) {
	group := rapid.SampledFrom([]string{"g", "h"}).Draw(t, "group")
	g := m.shard.groups[group]
	if g == nil || g.consumer == nil || rapid.Bool().Draw(t, "by heartbeat") {
		m.mixedHeartbeat(t, group)
		return
	}
	c := g.consumer
	ids := c.memberIDs()
	if len(ids) == 0 {
		return
	}
	member := c.members[rapid.SampledFrom(ids).Draw(t, "member")]
	id, instance := member.id, member.about.InstanceID
	switch rapid.IntRange(0, 4).Draw(t, "api") {
	case 0, 1:
		metadata := subscriptionOf([]string{"t"})
		if rapid.Bool().Draw(t, "keeps") {
			var owned []embeddedPartitions
			for _, n := range m.shard.named(member.assigned) {
				owned = append(owned, embeddedPartitions{n.Topic, n.Partitions})
			}
			assignment := appendAssignment(nil, 1, owned)
			metadata = append(metadata, assignment[2:len(assignment)-4]...)
		}
		m.ask(&JoinGroup{Version: 5, Group: group, MemberID: id, InstanceID: instance, ClientID: "c", SessionTimeoutMs: 6000, RebalanceTimeoutMs: 8000,
			ProtocolType: "consumer", Protocols: []Protocol{{Name: "range", Metadata: metadata}, {Name: "any"}}})
	case 2:
		m.ask(&SyncGroup{Group: group, MemberID: id, InstanceID: instance, Generation: member.epoch})
	case 3:
		m.ask(&Heartbeat{Group: group, MemberID: id, InstanceID: instance, Generation: member.epoch})
	default:
		m.ask(&LeaveGroup{Version: 3, Group: group, Members: []LeavingMember{{MemberID: id, InstanceID: instance}}})
	}
}

func (m *model) mixedHeartbeat(t *rapid.T, group string) {
	id := rapid.SampledFrom([]string{"y", "z"}).Draw(t, "consumer")
	r := &ConsumerGroupHeartbeat{Version: 1, Group: group, MemberID: id, RebalanceTimeoutMs: -1, Owned: partitionSet{}}
	if g := m.shard.groups[group]; g != nil && g.consumer != nil && g.consumer.members[id] != nil {
		r.MemberEpoch = g.consumer.members[id].epoch
	}
	if id == "z" {
		r.InstanceID = rapid.SampledFrom([]string{"", "i"}).Draw(t, "instance")
	}
	if r.MemberEpoch == epochJoin {
		r.RebalanceTimeoutMs, r.SubscribedTopicNames = 5000, []string{"t"}
	} else if rapid.IntRange(0, 3).Draw(t, "leaves") == 0 {
		r.MemberEpoch = epochLeave
	}
	m.ask(r)
}

func (m *model) classicGroup(id string) *classicGroup {
	if g := m.shard.groups[id]; g != nil && g.consumer == nil {
		return g.classic
	}
	return nil
}

func (m *model) consumer(t *rapid.T) {
	id := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "consumer")
	instance := ""
	if id >= "c" {
		instance = rapid.SampledFrom([]string{"", "x"}).Draw(t, "instance")
	}
	r := &ConsumerGroupHeartbeat{Version: 1, Group: "k", MemberID: id, InstanceID: instance, RebalanceTimeoutMs: -1, MemberEpoch: m.gens[id]}
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		r.MemberEpoch = epochLeave
	case 1:
		if instance != "" {
			r.MemberEpoch = epochLeaveStatic
		}
	case 2:
		r.MemberEpoch = int32(rapid.IntRange(0, 9).Draw(t, "epoch"))
	case 3:
		r.SubscribedTopicNames = rapid.SampledFrom([][]string{{"t"}, {"t", "u"}, {}, {"gone", "u"}}).Draw(t, "topics")
		r.ServerAssignor = rapid.SampledFrom([]string{"", AssignorRange}).Draw(t, "assignor")
	}
	if rapid.Bool().Draw(t, "has given up partitions") {
		m.held[id] = m.given[id]
	}
	if r.MemberEpoch == epochJoin {
		m.held[id], m.given[id] = nil, nil
		r.RebalanceTimeoutMs, r.SubscribedTopicNames, r.Owned = 5000, []string{"t"}, partitionSet{}
	} else if rapid.Bool().Draw(t, "tells what it owns") {
		r.Owned = append(partitionSet{}, m.held[id]...)
	}
	if r.MemberEpoch < 0 {
		m.held[id] = nil
	}
	resp := m.ask(r).(*ConsumerGroupHeartbeatResponse)
	switch {
	case resp.Err == kafka.None && resp.MemberEpoch < 0:
		m.gens[id], m.given[id], m.held[id] = 0, nil, nil
	case resp.Err == kafka.None:
		if m.gens[id] = resp.MemberEpoch; resp.HasAssignment {
			m.given[id], m.held[id] = resp.Assignment, union(m.held[id], resp.Assignment)
		}
	case resp.Err == kafka.ErrFencedMemberEpoch || resp.Err == kafka.ErrUnknownMemberID || resp.Err == kafka.ErrFencedInstanceID:
		m.gens[id], m.given[id], m.held[id] = 0, nil, nil
	}
}

// checkHeld: no two members that the coordinator knows read the same partition.
func (m *model) checkHeld(t *rapid.T, c *consumerGroup) {
	var all partitionSet
	for _, id := range slices.Sorted(maps.Keys(m.held)) {
		if member := c.members[id]; member == nil || m.gens[id] == 0 || member.epoch < m.gens[id] {
			continue
		}
		if both := intersect(all, m.held[id]); len(both) > 0 {
			t.Fatalf("%s and another member both read %s", id, formatSet(both))
		}
		all = union(all, m.held[id])
	}
}

func (m *model) commit(t *rapid.T) {
	group := rapid.SampledFrom([]string{"g", "k", "simple"}).Draw(t, "group")
	o := []OffsetToCommit{{Topic: "t", Partition: int32(rapid.IntRange(0, 2).Draw(t, "partition")), Offset: kafka.Offset(m.ticket)}}
	pid := kafka.ProducerID(rapid.IntRange(1, 2).Draw(t, "producer"))
	switch rapid.IntRange(0, 6).Draw(t, "what") {
	case 0, 1:
		m.ask(&OffsetCommit{Version: 9, Group: group, Generation: -1, Offsets: o, RetentionMs: -1})
	case 2, 3:
		m.ask(&TxnOffsetCommit{Version: 3, Group: group, Generation: -1, ProducerID: pid, Offsets: o})
	case 4:
		m.ask(&TxnMarker{ProducerID: pid, Commit: rapid.Bool().Draw(t, "commit")})
	case 5:
		m.ask(&OffsetDelete{Group: group, Partitions: []kafka.TopicPartition{{Topic: "t", Partition: o[0].Partition}}})
	default:
		m.ask(&DeleteGroup{Group: group})
	}
}

func (m *model) pass(t *rapid.T) {
	end := m.now.Add(time.Duration(rapid.IntRange(1, 9000).Draw(t, "ms")) * time.Millisecond)
	for i := 0; !m.wake.IsZero() && !m.wake.After(end); i++ {
		if i > 1000 {
			t.Fatal("the shard asks to be woken over and over")
		}
		m.now = m.wake
		m.take(m.shard.Tick(m.now))
	}
	m.now = end
}

func (m *model) resize(t *rapid.T) {
	list := slices.Clone(m.topics.list)
	list[0].Partitions = int32(rapid.IntRange(1, 7).Draw(t, "partitions"))
	m.topics = fakeTopics{version: m.topics.version + 1, list: list}
	m.shard.SetTopics(m.topics)
}

// check looks at what must hold between any two requests.
func (m *model) check(t *rapid.T) {
	waiting := map[Ticket]bool{}
	m.shard.Waiting(func(tk Ticket) {
		if waiting[tk] {
			t.Fatalf("ticket %d waits twice", tk)
		}
		waiting[tk] = true
	})
	for tk := range m.asked {
		if !waiting[tk] {
			t.Fatalf("ticket %d (%T) was forgotten", tk, m.asked[tk])
		}
	}
	if len(waiting) != len(m.asked) {
		t.Fatalf("%d requests wait, %d were asked", len(waiting), len(m.asked))
	}
	for _, id := range []string{"g", "h"} {
		if c := m.classicGroup(id); c != nil {
			checkClassic(t, c)
		} else if g := m.shard.groups[id]; g != nil {
			checkConsumer(t, g.consumer)
		}
	}
	if g := m.shard.groups["k"]; g != nil && g.consumer != nil {
		checkConsumer(t, g.consumer)
		m.checkHeld(t, g.consumer)
	}
	fresh := New(Options{}, rand.New(rand.NewPCG(1, 1)))
	for _, r := range m.log {
		fresh.Apply(r)
	}
	if got, want := durable(fresh), durable(m.shard); got != want {
		t.Fatalf("replay made\n%s\nnot\n%s", got, want)
	}
}

func checkClassic(t *rapid.T, c *classicGroup) {
	joins, syncs := 0, 0
	for _, m := range c.order {
		if c.members[m.id] != m || m.instanceID != "" && c.static[m.instanceID] != m.id {
			t.Fatalf("member %s is not filed under its ids", m.id)
		}
		if m.join.is {
			joins++
		}
		if m.owesSync {
			syncs++
		}
		if m.join.is && c.state != statePreparing {
			t.Fatalf("member %s waits for a join in state %s", m.id, c.state)
		}
		if m.sync.is && c.state != stateCompleting {
			t.Fatalf("member %s waits for a sync in state %s", m.id, c.state)
		}
	}
	switch {
	case len(c.order) != len(c.members), joins != c.awaitingJoin, syncs != c.awaitingSync:
		t.Fatalf("counts are wrong: %d members, %d in order, %d join of %d, %d sync of %d",
			len(c.members), len(c.order), joins, c.awaitingJoin, syncs, c.awaitingSync)
	case c.state == stateEmpty && len(c.members) > 0, c.state > statePreparing && len(c.members) == 0:
		t.Fatalf("%d members in state %s", len(c.members), c.state)
	case c.state > statePreparing && c.members[c.leader] == nil:
		t.Fatal("no leader")
	}
}

// checkConsumer: no partition is owned by two members, whatever their epochs;
// the target gives each partition to one member.
func checkConsumer(t *rapid.T, c *consumerGroup) {
	owners, targets := map[string]string{}, map[string]string{}
	add := func(m map[string]string, id string, set partitionSet) {
		for _, s := range set {
			for _, p := range s.Partitions {
				key := fmt.Sprint(s.TopicID, p)
				if m[key] != "" {
					t.Fatalf("partition %s belongs to %s and %s", key, m[key], id)
				}
				m[key] = id
			}
		}
	}
	for id, m := range c.members {
		add(owners, id, m.assigned)
		add(owners, id, m.revoking)
		add(targets, id, c.target[id])
	}
	n := 0
	for _, byPartition := range c.owners {
		n += len(byPartition)
	}
	if n != len(owners) {
		t.Fatalf("%d partitions are owned, %d are noted as such", len(owners), n)
	}
}

// durable is all that must survive a reload, as text.
func durable(s *Shard) string {
	out := ""
	for _, id := range s.groupIDs() {
		g := s.groups[id]
		line := ""
		if g.stored != nil {
			line += fmt.Sprintf(" stored %+v", *g.stored)
		}
		for _, t := range slices.Sorted(maps.Keys(g.offsets)) {
			for _, p := range slices.Sorted(maps.Keys(g.offsets[t])) {
				line += fmt.Sprintf(" %s/%d=%+v", t, p, g.offsets[t][p])
			}
		}
		for _, pid := range slices.Sorted(maps.Keys(g.pending)) {
			line += fmt.Sprintf(" pending %d %v", pid, g.pending[pid])
		}
		if c := g.consumer; c != nil {
			line += fmt.Sprintf(" epoch %d hash %d target %d %v %v", c.epoch, c.metadataHash, c.targetEpoch, c.target, c.owners)
			for _, id := range c.memberIDs() {
				m := c.members[id]
				about := m.about
				if about.Classic != nil {
					line += fmt.Sprintf(" classic %v", *about.Classic)
					about.Classic = nil
				}
				line += fmt.Sprintf(" %s %+v %d %d %d %v %v", id, about, m.epoch, m.prevEpoch, m.state, m.assigned, m.revoking)
			}
		}
		if line != "" {
			out += id + line + "\n"
		}
	}
	return out + fmt.Sprint(s.open)
}

func TestGroupsKeepTheirPromises(t *testing.T) { // trap 36
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"classic":  func(t *rapid.T) { m.t = t; m.classic(t) },
			"classic2": func(t *rapid.T) { m.t = t; m.classic(t) },
			"consumer": func(t *rapid.T) { m.t = t; m.consumer(t) },
			"mixed":    func(t *rapid.T) { m.t = t; m.mixed(t) },
			"commit":   func(t *rapid.T) { m.t = t; m.commit(t) },
			"pass":     func(t *rapid.T) { m.t = t; m.pass(t) },
			"resize":   func(t *rapid.T) { m.t = t; m.resize(t) },
			"reload": func(t *rapid.T) {
				m.t = t
				if rapid.IntRange(0, 5).Draw(t, "dice") == 0 {
					m.shard.Waiting(func(tk Ticket) { delete(m.asked, tk) })
					m.reload()
				}
			},
			"": func(t *rapid.T) { m.t = t; m.check(t) },
		})
		// In the end everybody is answered, whatever was left open.
		m.t = t
		for range 8 {
			end := m.now.Add(5 * time.Minute)
			for !m.wake.IsZero() && !m.wake.After(end) {
				m.now = m.wake
				m.take(m.shard.Tick(m.now))
			}
			m.now = end
		}
		if len(m.asked) > 0 {
			t.Fatalf("%d requests were never answered", len(m.asked))
		}
	})
}

func TestAssignorsGiveEachPartitionToOneReader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var topics []Topic
		for i := range rapid.IntRange(0, 4).Draw(t, "topics") {
			name := string(rune('a' + i))
			topics = append(topics, Topic{Name: name, ID: topicID(name), Partitions: int32(rapid.IntRange(1, 9).Draw(t, "partitions"))})
		}
		same := rapid.Bool().Draw(t, "same subscriptions")
		members := make([]assignorMember, rapid.IntRange(1, 7).Draw(t, "members"))
		for i := range members {
			members[i].id = string(rune('A' + i))
			members[i].order = members[i].id
			for _, topic := range topics {
				if same || rapid.Bool().Draw(t, "reads") {
					members[i].topics = append(members[i].topics, topic)
				}
			}
		}
		assignor := rapid.SampledFrom([]string{AssignorUniform, AssignorRange}).Draw(t, "assignor")
		for round := range 3 {
			sets := assign(assignor, members)
			checkAssignment(t, members, sets, assignor == AssignorUniform && same)
			moved := 0
			for i := range members {
				if round > 0 {
					moved += countPartitions(subtract(members[i].had, sets[i]))
				}
				members[i].had = sets[i]
			}
			if moved > 0 {
				t.Fatalf("%d partitions moved though nothing changed", moved)
			}
		}
	})
}

func checkAssignment(t *rapid.T, members []assignorMember, sets []partitionSet, even bool) {
	owner := map[string]int{}
	least, most := 1<<30, 0
	for i, set := range sets {
		n := countPartitions(set)
		least, most = min(least, n), max(most, n)
		for _, s := range set {
			if !slices.ContainsFunc(members[i].topics, func(t Topic) bool { return t.ID == s.TopicID }) {
				t.Fatalf("%s got a topic that it does not read", members[i].id)
			}
			for _, p := range s.Partitions {
				key := fmt.Sprint(s.TopicID, p)
				if _, ok := owner[key]; ok {
					t.Fatalf("%s is given twice", key)
				}
				owner[key] = i
			}
		}
	}
	for _, m := range members {
		for _, topic := range m.topics {
			for p := range topic.Partitions {
				if _, ok := owner[fmt.Sprint(topic.ID, p)]; !ok {
					t.Fatalf("%s/%d is given to nobody", topic.Name, p)
				}
			}
		}
	}
	if even && most > least+1 {
		t.Fatalf("loads are from %d to %d", least, most)
	}
}

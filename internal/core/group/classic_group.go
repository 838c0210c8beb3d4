package group

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// classicState is the state of a classic group.
//
//	         join                 all joined, or in time
//	Empty ─────────▶ Preparing ─────────────────────────▶ Completing
//	  ▲              │     ▲ ▲                              │     │
//	  └──────────────┘     │ └──────────────────────────────┘     │ the leader's
//	   nobody is left      │   join, leave, expiry                │ assignment
//	                       │                                      ▼
//	                       └─────────────────────────────────── Stable
//	                           join, leave, expiry
type classicState int8

const (
	stateEmpty classicState = iota
	statePreparing
	stateCompleting
	stateStable
)

func (st classicState) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable"}[st]
}

const protocolTypeConsumer = "consumer"

// classicGroup is a group whose members' leader assigns. All of it is soft
// state; its durable part is stored as offsets.GroupMetadata.
type classicGroup struct {
	state        classicState
	fromEmpty    bool  // Preparing: the state before was Empty, so the initial delay runs
	stateSince   int64 // milliseconds since 1970
	protocolType string
	protocol     string
	generation   int32
	skipped      int32 // a generation that is stored and no member must ever be in: the next is after it
	leader       string

	members map[string]*classicMember
	order   []*classicMember     // the members, the oldest first
	static  map[string]string    // instance id to member id
	pending map[string]time.Time // member ids given out (KIP-394), with their deadlines

	awaitingJoin int       // members whose join waits
	awaitingSync int       // members that owe this generation's first sync
	joinAt       time.Time // Preparing: when to stop waiting for members
	joinLeft     time.Duration
	joinDelay    time.Duration
	newcomer     bool      // Preparing from Empty: somebody joined during the delay
	syncAt       time.Time // when members that owe a sync are removed; zero for never

	subscribed      map[string]struct{} // topics of the present generation's members
	subscribedKnown bool
}

// classicMember is one member of a classic group.
type classicMember struct {
	id, instanceID       string
	clientID, clientHost string
	rebalanceTimeoutMs   int32
	sessionTimeoutMs     int32
	protocols            []Protocol
	named                map[string]bool // the names of many protocols; nil: not made yet
	assignment           []byte

	join     waiting
	sync     waiting
	isNew    bool // no generation has met it yet
	owesSync bool
	session  session
}

// waiting is a request that is answered later.
type waiting struct {
	ticket Ticket
	is     bool
}

func newClassicGroup(now time.Time) *classicGroup {
	return &classicGroup{
		stateSince: now.UnixMilli(), members: map[string]*classicMember{},
		static: map[string]string{}, pending: map[string]time.Time{},
		subscribedKnown: true,
	}
}

// restoreClassicGroup makes the live group out of what was stored.
func restoreClassicGroup(v *offsets.GroupMetadataValue) *classicGroup {
	c := newClassicGroup(time.UnixMilli(v.StateTimestamp))
	c.stateSince = v.StateTimestamp
	c.protocolType, c.protocol, c.generation, c.leader = v.ProtocolType, v.Protocol, v.Generation, v.Leader
	for i := range v.Members {
		m := &v.Members[i]
		c.add(&classicMember{
			id: m.MemberID, instanceID: m.InstanceID, clientID: m.ClientID, clientHost: m.ClientHost,
			rebalanceTimeoutMs: m.RebalanceTimeoutMs, sessionTimeoutMs: m.SessionTimeoutMs,
			protocols:  []Protocol{{Name: v.Protocol, Metadata: m.Subscription}},
			assignment: m.Assignment,
		})
	}
	if len(c.members) > 0 {
		c.state, c.leader = stateStable, v.Leader
	}
	c.computeSubscribed()
	return c
}

// snapshot is the durable part of the group.
func (c *classicGroup) snapshot() *offsets.GroupMetadataValue {
	v := &offsets.GroupMetadataValue{
		ProtocolType: c.protocolType, Generation: c.generation, Protocol: c.protocol,
		Leader: c.leader, StateTimestamp: c.stateSince,
	}
	if len(c.order) > 0 {
		v.Members = make([]offsets.GroupMember, 0, len(c.order))
	}
	for _, m := range c.order {
		v.Members = append(v.Members, offsets.GroupMember{
			MemberID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeoutMs: m.rebalanceTimeoutMs, SessionTimeoutMs: m.sessionTimeoutMs,
			Subscription: m.metadata(c.protocol), Assignment: m.assignment,
		})
	}
	return v
}

func (c *classicGroup) enter(state classicState, now time.Time) {
	c.state, c.stateSince = state, now.UnixMilli()
}

func (c *classicGroup) add(m *classicMember) {
	c.members[m.id] = m
	c.order = append(c.order, m)
	if m.instanceID != "" {
		c.static[m.instanceID] = m.id
	}
	if c.leader == "" {
		c.leader = m.id
	}
	if m.join.is {
		c.awaitingJoin++
	}
}

func (c *classicGroup) remove(m *classicMember) {
	delete(c.members, m.id)
	if i := slices.Index(c.order, m); i >= 0 {
		c.order = slices.Delete(c.order, i, i+1)
	}
	if m.instanceID != "" && c.static[m.instanceID] == m.id {
		delete(c.static, m.instanceID)
	}
	if m.join.is {
		c.awaitingJoin--
	}
	c.synced(m)
	if c.leader == m.id {
		c.leader = ""
		if len(c.order) > 0 {
			c.leader = c.order[0].id
		}
	}
}

// synced notes that the member owes no sync any more.
func (c *classicGroup) synced(m *classicMember) {
	if m.owesSync {
		m.owesSync = false
		c.awaitingSync--
	}
	if c.awaitingSync == 0 {
		c.syncAt = time.Time{}
	}
}

// rename gives the static member another id, in its place.
func (c *classicGroup) rename(m *classicMember, id string) {
	delete(c.members, m.id)
	if c.leader == m.id {
		c.leader = id
	}
	m.id = id
	c.members[id] = m
	if !mutant.On(mutant.StaticRenameUnnoted) {
		c.static[m.instanceID] = id
	}
}

func (c *classicGroup) allJoined() bool {
	return c.awaitingJoin == len(c.members) && len(c.pending) == 0
}

// electLeader keeps the leader if it has joined, or else takes the oldest
// member that has. It says whether there is one.
func (c *classicGroup) electLeader() bool {
	if m := c.members[c.leader]; m != nil && m.join.is {
		return true
	}
	for _, m := range c.order {
		if m.join.is {
			c.leader = m.id
			return true
		}
	}
	return false
}

// rebalanceTimeout is the longest of the members'.
func (c *classicGroup) rebalanceTimeout() time.Duration {
	longest := int32(0)
	for _, m := range c.order {
		longest = max(longest, m.rebalanceTimeoutMs)
	}
	return time.Duration(longest) * time.Millisecond
}

// supports says whether a member with these protocols fits in: the same type,
// and a protocol that all have in common. The member named by except does not
// count.
func (c *classicGroup) supports(protocolType string, protocols []Protocol) bool {
	if protocolType == "" || len(protocols) == 0 || hasDuplicates(protocols) {
		return false
	}
	if c.state == stateEmpty || len(c.members) == 0 {
		return true
	}
	if c.protocolType != protocolType {
		return false
	}
	for i := range protocols {
		if c.supportedByAll(protocols[i].Name) {
			return true
		}
	}
	return false
}

// hasDuplicates takes time in proportion to the number of protocols: a client
// may name a hundred thousand.
func hasDuplicates(protocols []Protocol) bool {
	seen := make(map[string]bool, len(protocols))
	for i := range protocols {
		if seen[protocols[i].Name] {
			return true
		}
		seen[protocols[i].Name] = true
	}
	return false
}

func (c *classicGroup) supportedByAll(name string) bool {
	for _, m := range c.order {
		if !m.supports(name) {
			return false
		}
	}
	return true
}

// selectProtocol takes, out of what all members support, what most of them
// prefer. When several are even, the oldest member's preference decides.
func (c *classicGroup) selectProtocol() string {
	if len(c.order) == 0 {
		return ""
	}
	candidates := map[string]bool{}
	for _, p := range c.order[0].protocols {
		if c.supportedByAll(p.Name) || mutant.On(mutant.ProtocolOfOne) {
			candidates[p.Name] = true
		}
	}
	votes := map[string]int{}
	for _, m := range c.order {
		for i := range m.protocols {
			if candidates[m.protocols[i].Name] {
				votes[m.protocols[i].Name]++
				break
			}
		}
	}
	best, most := "", 0
	for _, p := range c.order[0].protocols {
		if votes[p.Name] > most {
			best, most = p.Name, votes[p.Name]
		}
	}
	return best
}

// computeSubscribed works out the topics that the members read, if they are
// consumers and can be understood.
func (c *classicGroup) computeSubscribed() {
	c.subscribed, c.subscribedKnown = nil, false
	if len(c.members) == 0 {
		c.subscribedKnown = true
		return
	}
	if c.protocolType != protocolTypeConsumer || c.protocol == "" {
		return
	}
	topics := map[string]struct{}{}
	for _, m := range c.order {
		list, ok := subscribedTopics(m.metadata(c.protocol))
		if !ok {
			return
		}
		for _, t := range list {
			topics[t] = struct{}{}
		}
	}
	c.subscribed, c.subscribedKnown = topics, true
}

// isSubscribed says whether a member reads the topic, or might.
func (c *classicGroup) isSubscribed(topic string) bool {
	if !c.subscribedKnown {
		return c.protocolType == protocolTypeConsumer
	}
	_, ok := c.subscribed[topic]
	return ok
}

// fewProtocols are as quickly looked through as looked up.
const fewProtocols = 8

// supports is asked for each protocol of another member, of which either may
// have a hundred thousand.
func (m *classicMember) supports(name string) bool {
	if len(m.protocols) <= fewProtocols {
		return slices.ContainsFunc(m.protocols, func(p Protocol) bool { return p.Name == name })
	}
	if m.named == nil {
		m.named = make(map[string]bool, len(m.protocols))
		for i := range m.protocols {
			m.named[m.protocols[i].Name] = true
		}
	}
	return m.named[name]
}

func (m *classicMember) metadata(protocol string) []byte {
	for i := range m.protocols {
		if m.protocols[i].Name == protocol {
			return m.protocols[i].Metadata
		}
	}
	return nil
}

// matches says whether the member supports just these protocols.
func (m *classicMember) matches(protocols []Protocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

func (m *classicMember) sessionTimeout() time.Duration {
	return time.Duration(m.sessionTimeoutMs) * time.Millisecond
}

// subscribedTopics reads the topics out of a classic consumer's metadata:
// version, then the topics, then fields that do not matter here.
func subscribedTopics(b []byte) ([]string, bool) {
	if len(b) < 6 || int16(binary.BigEndian.Uint16(b)) < 0 {
		return nil, false
	}
	n := int(int32(binary.BigEndian.Uint32(b[2:])))
	b = b[6:]
	if n < 0 || n > len(b)/2 {
		return nil, false
	}
	topics := make([]string, 0, n)
	for range n {
		if len(b) < 2 {
			return nil, false
		}
		size := int(int16(binary.BigEndian.Uint16(b)))
		if size < 0 || size > len(b)-2 {
			return nil, false
		}
		topics = append(topics, string(b[2:2+size]))
		b = b[2+size:]
	}
	return topics, true
}

// givesUp says whether the member's assignment leaves out some of what it had
// when it joined. A cooperative member gives that up and joins once more, so
// that others get it.
func (c *classicGroup) givesUp(m *classicMember) bool {
	if c.protocolType != protocolTypeConsumer {
		return false
	}
	sub, ok := parseSubscription(m.metadata(c.protocol))
	assigned, _, fine := parseAssignment(m.assignment)
	if !ok || !fine {
		return false
	}
	has := func(topic string, partition int32) bool {
		return slices.ContainsFunc(assigned, func(a embeddedPartitions) bool {
			return a.topic == topic && slices.Contains(a.partitions, partition)
		})
	}
	for _, o := range sub.owned {
		for _, p := range o.partitions {
			if !has(o.topic, p) {
				return true
			}
		}
	}
	return false
}

package group

import (
	"fmt"
	"slices"
	"strings"

	"chronik/internal/base/kafka"
	"chronik/internal/base/mutant"
	"chronik/internal/format/offsets"
)

// describeGroup describes a classic group. One that is not there is Dead up to
// v5, and an error from v6 on (KIP-1043); so is one of another kind.
func (s *Shard) describeGroup(r *DescribeGroup) Response {
	g := s.groups[r.Group]
	if g == nil || g.consumer != nil {
		resp := &DescribeGroupResponse{State: "Dead"}
		if r.Version >= 6 {
			resp.Err = kafka.ErrGroupIDNotFound
			resp.Message = fmt.Sprintf("Group %s not found.", r.Group)
			if g != nil {
				resp.Message = fmt.Sprintf("Group %s is not a classic group.", r.Group)
			}
		}
		return resp
	}
	c := g.classic
	resp := &DescribeGroupResponse{State: c.state.String(), ProtocolType: c.protocolType}
	if c.state == stateStable {
		resp.Protocol = c.protocol
	}
	for _, m := range c.order {
		d := DescribedMember{MemberID: m.id, InstanceID: m.instanceID, ClientID: m.clientID, ClientHost: m.clientHost}
		if d.Assignment = m.assignment; c.state == stateStable { // while rebalancing it is the one from before
			d.Metadata = m.metadata(c.protocol)
		}
		if resp.Members = append(resp.Members, d); mutant.On(mutant.DescribeOne) {
			break
		}
	}
	return resp
}

func (s *Shard) listGroups(r *ListGroups) Response {
	resp := &ListGroupsResponse{}
	for _, id := range s.groupIDs() {
		g := s.groups[id]
		l := ListedGroup{Group: id, State: g.stateName(), Type: g.typeName(), ProtocolType: protocolTypeConsumer}
		if g.consumer == nil {
			l.ProtocolType = g.classic.protocolType
		}
		if mutant.On(mutant.ListNoEmpty) && g.isEmpty() {
			continue
		}
		if anyOrNone(r.States, l.State) && anyOrNone(r.Types, l.Type) {
			resp.Groups = append(resp.Groups, l)
		}
	}
	return resp
}

// anyOrNone says whether one of the filters is the word, or there are none.
func anyOrNone(filters []string, word string) bool {
	return len(filters) == 0 || slices.ContainsFunc(filters, func(f string) bool { return strings.EqualFold(f, word) })
}

func (s *Shard) deleteGroup(r *DeleteGroup) kafka.ErrorCode {
	g := s.groups[r.Group]
	switch {
	case g == nil:
		return kafka.ErrGroupIDNotFound
	case mutant.On(mutant.DeleteLiveGroup):
	case g.consumer != nil && len(g.consumer.members) > 0, g.consumer == nil && g.classic.state != stateEmpty:
		return kafka.ErrNonEmptyGroup
	}
	for _, tp := range g.partitionsWithOffsets(func(string, kafka.TopicID) bool { return !mutant.On(mutant.OffsetsOutliveGroup) }) {
		s.record(offsets.OffsetCommit{Group: g.id, Topic: tp.Topic, Partition: tp.Partition})
	}
	s.tombstones(g)
	s.event(EventGroupDeleted, g, "", "a client asked for it")
	return kafka.None
}

// tombstones makes the records that remove an empty group.
func (s *Shard) tombstones(g *group) {
	if g.consumer != nil {
		s.consumerTombstones(g)
		return
	}
	s.record(offsets.GroupMetadata{Group: g.id})
}

package sim

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
)

// committer commits offsets of a group of its own, no two alike, deletes them or
// the group, and
// reads them back: what was acknowledged last, unless a request without an answer
// was carried out late.
type committer struct {
	c           *client
	l           *load
	group       string
	part        *topicPart
	beside      *topicPart // another of the topic, of which nothing is deleted; nil: there is none
	coordinator int        // nowhere: not known

	next   int64          // commits so far
	acked  int64          // the last that was acknowledged; -1: none
	at     instant        // when that was sent
	maybe  map[int64]bool // without an answer, so that they may come at any time
	kept   int64          // as acked, of beside
	keptAt instant        // as at, of beside
	quiet  instant        // since when it asks nothing any more; 0: it does
	sent   int64          // on its way; -1: a deletion is, or nothing was sent
	gone   bool           // a deletion of the group without an answer may come at any time
	loose  bool           // some request had no answer
	last   string
}

func newCommitter(l *load, number int) *committer {
	m := &committer{c: l.w.newClient(fmt.Sprintf("committer%d", number)), l: l, group: fmt.Sprintf("group%d", number),
		coordinator: nowhere, acked: -1, sent: -1, maybe: make(map[int64]bool)}
	m.later()
	return m
}

func (m *committer) later() { m.soon(m.step) }

func (m *committer) soon(then func()) {
	m.c.w.after(m.c.between(100*millisecond, 800*millisecond), then)
}

func (m *committer) step() {
	parts := m.l.parts()
	switch {
	case m.quiet > 0:
		return
	case len(parts) == 0:
		m.later()
	case m.part == nil || m.part.topic.deleted:
		m.part, m.acked, m.kept, m.maybe = parts[m.c.rng.IntN(len(parts))], -1, -1, make(map[int64]bool)
		m.maybe[-1] = m.gone
		if m.beside = nil; len(m.part.topic.parts) > 1 {
			m.beside = m.part.topic.parts[(int(m.part.number)+1)%len(m.part.topic.parts)]
		}
		m.later()
	case m.coordinator == nowhere:
		m.find(m.step)
	case m.c.rng.IntN(3) == 0:
		m.fetch()
	case m.acked >= 0 && !m.c.w.healed && m.c.rng.IntN(16) == 0:
		m.delete()
	case m.acked >= 0 && !m.c.w.healed && m.c.rng.IntN(24) == 0:
		m.deleteGroup()
	default:
		m.commit()
	}
}

// failed goes on after an error: somebody else may be the coordinator.
func (m *committer) failed(why string) {
	m.last = why
	m.coordinator, m.loose = nowhere, true
	m.later()
}

// find asks who the coordinator is, and then goes on.
func (m *committer) find(then func()) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorKeys = 4, []string{m.group}
	m.c.call(m.c.rng.IntN(len(m.c.w.nodes)), req, m.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err != nil {
			m.failed("find: " + err.Error())
			return
		}
		got := r.(*kmsg.FindCoordinatorResponse).Coordinators
		if len(got) != 1 || got[0].ErrorCode != 0 || got[0].NodeID < 1 {
			m.failed(fmt.Sprintf("find: %v", got))
			return
		}
		m.coordinator = int(got[0].NodeID) - 1
		m.soon(then)
	})
}

func (m *committer) commit() {
	part := m.part
	m.next++
	offset := m.next ^ 1 // every other one goes back
	m.sent = offset
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = m.version(6, part), m.group, -1
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = part.number, offset
	rp.LeaderEpoch, rp.Metadata = besideOffset(offset)
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID, rt.Partitions = part.topic.name, part.topic.id, []kmsg.OffsetCommitRequestTopicPartition{rp}
	if m.beside != nil {
		rp.Partition = m.beside.number
		rt.Partitions = append(rt.Partitions, rp)
	}
	sent := m.c.w.now
	strange := m.c.rng.IntN(8) == 0
	if strange {
		rp.Partition = 1000
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	m.c.call(m.coordinator, req, m.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		switch {
		case err != nil:
			m.maybe[offset] = true
			m.failed("commit: " + err.Error())
		case strange && r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[len(rt.Partitions)-1].ErrorCode == 0:
			m.c.w.violate("offsets are of partitions that there are", "%s: a commit for partition 1000 of %s was taken", m.group, part.topic.name)
		case r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode == 0:
			m.acked, m.at, m.last = offset, sent, ""
			if got := r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions; m.beside != nil && got[1].ErrorCode == 0 { // else it is not known there yet
				m.kept, m.keptAt = offset, sent
			}
			m.later()
		default:
			m.maybe[offset] = true // the broker does not know either
			m.failed("commit: " + kafka.ErrorCode(r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode).String())
		}
	})
}

// delete removes the offset that is committed.
func (m *committer) delete() {
	m.sent = -1
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = m.group
	rp := kmsg.NewOffsetDeleteRequestTopicPartition()
	rp.Partition = m.part.number
	rt := kmsg.NewOffsetDeleteRequestTopic()
	rt.Topic, rt.Partitions = m.part.topic.name, []kmsg.OffsetDeleteRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	m.c.call(m.coordinator, req, m.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err == nil {
			got := r.(*kmsg.OffsetDeleteResponse)
			if got.ErrorCode == 0 && len(got.Topics) == 1 && len(got.Topics[0].Partitions) == 1 && got.Topics[0].Partitions[0].ErrorCode == 0 {
				m.acked, m.last = -1, ""
				m.afterDeletion()
				return
			}
			err = kafka.ErrorCode(got.ErrorCode)
		}
		m.maybe[-1] = true
		m.failed("delete: " + err.Error())
	})
}

// afterDeletion goes on, at times only after a while, by looking whether what is
// deleted is still so: perhaps there is another coordinator by then.
func (m *committer) afterDeletion() {
	if m.c.rng.IntN(2) == 0 {
		m.later()
		return
	}
	m.c.w.after(m.c.between(second, 15*second), m.look)
}

// look is a fetch, as soon as it is known whom to ask.
func (m *committer) look() {
	switch {
	case m.part.topic.deleted:
		m.step()
	case m.coordinator == nowhere:
		m.find(m.look)
	default:
		m.fetch()
	}
}

// deleteGroup deletes the group, and sees whether it is gone.
func (m *committer) deleteGroup() {
	m.sent = -1
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Version, req.Groups = 2, []string{m.group}
	m.c.call(m.coordinator, req, m.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err == nil {
			if code := kafka.ErrorCode(r.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode); code != kafka.None {
				err = code
			}
		}
		if err != nil {
			m.maybe[-1], m.gone = true, true
			m.failed("delete the group: " + err.Error())
			return
		}
		m.acked, m.kept, m.last = -1, -1, ""
		if m.loose { // a commit may have come late, and made it again
			m.afterDeletion()
			return
		}
		m.seeGone()
	})
}

func (m *committer) seeGone() {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Version, req.Groups = 6, []string{m.group}
	m.c.call(m.coordinator, req, m.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err != nil {
			m.failed("describe: " + err.Error())
			return
		}
		switch got := r.(*kmsg.DescribeGroupsResponse).Groups[0]; kafka.ErrorCode(got.ErrorCode) {
		case kafka.ErrGroupIDNotFound:
			m.afterDeletion()
		case kafka.None:
			m.c.w.violate("a group that was deleted is gone", "%s is %s", m.group, got.State)
		default:
			m.failed("describe: " + kafka.ErrorCode(got.ErrorCode).String())
		}
	})
}

// version draws the version of a request, from the lowest on that says all that
// matters to 10, which names topics by their ids.
func (m *committer) version(lowest int, p *topicPart) int16 {
	if p.topic.id.IsZero() {
		return int16(lowest + m.c.rng.IntN(10-lowest))
	}
	return int16(lowest + m.c.rng.IntN(11-lowest))
}

func (m *committer) fetch() {
	part := m.part
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = m.version(8, part)
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.MemberEpoch = m.group, -1
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.TopicID, gt.Partitions = part.topic.name, part.topic.id, []int32{part.number}
	if m.beside != nil {
		gt.Partitions = append(gt.Partitions, m.beside.number)
	}
	all := m.c.rng.IntN(3) == 0
	if !all { // else it is asked for all that there are
		g.Topics = append(g.Topics, gt)
	}
	req.Groups = append(req.Groups, g)
	node := m.coordinator
	if m.c.rng.IntN(4) == 0 {
		node = m.c.rng.IntN(len(m.c.w.nodes))
	}
	m.c.call(node, req, m.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		if err != nil {
			m.failed("fetch: " + err.Error())
			return
		}
		got := r.(*kmsg.OffsetFetchResponse).Groups[0]
		code := kafka.ErrorCode(got.ErrorCode)
		if code == kafka.None && (all || len(got.Topics) == 1) {
			at := &onlyOf(got.Topics, part)[0].Partitions[0]
			if code = kafka.ErrorCode(at.ErrorCode); code == kafka.None && !m.read(part, at, node) {
				return
			}
		}
		if code != kafka.None {
			m.failed("fetch: " + code.String())
			return
		}
		if m.beside != nil {
			if at := &onlyOf(got.Topics, m.beside)[0].Partitions[0]; at.ErrorCode == 0 && !m.read(m.beside, at, node) {
				return
			}
		}
		m.last = ""
		m.later()
	})
}

// read checks what is told of a partition, and says whether it may be so.
func (m *committer) read(part *topicPart, got *kmsg.OffsetFetchResponseGroupTopicPartition, node int) bool {
	w, acked, at := m.c.w, &m.acked, m.at
	if part == m.beside {
		acked, at = &m.kept, m.keptAt
	}
	if part.topic.deleted {
		return true
	}
	if got.Offset == -1 && w.plan.groups.shortRetention && (w.now-at >= w.plan.groups.offsetsKept() || w.wallClocksDiffer()) {
		*acked = -1 // a group without members; the clocks may have been stepped
	}
	maybe := m.maybe[got.Offset] && (part == m.part || got.Offset >= 0 || m.gone)
	if got.Offset != *acked && !maybe {
		w.violate("committed offsets do not go back", "%s: %s on node %d is at %d; %d was acknowledged, and %d commits were not answered", m.group, part, node+1, got.Offset, *acked, len(m.maybe))
		return false
	}
	return w.check.asCommitted(m.c.name, part, got)
}

// hush has the committer ask nothing any more, where its offsets are to grow old then.
func (m *committer) hush() {
	if m.c.w.plan.groups.shortRetention && !m.c.w.wallClocksDiffer() {
		m.quiet = m.c.w.now
	}
}

// lingers says what is left of the group, though nobody commits any more.
func (m *committer) lingers() (why string) {
	if m.quiet == 0 {
		return ""
	}
	for _, n := range m.c.w.nodes {
		n.broker.Groups().EachGroup(func(g group.GroupStats) {
			if g.Group == m.group {
				why = fmt.Sprintf("node %d has group %s yet, which nobody has used since %v", n.id, m.group, m.quiet)
			}
		})
	}
	return why
}

// onlyOf is what an answer with all offsets of a group says of a partition.
func onlyOf(topics []kmsg.OffsetFetchResponseGroupTopic, part *topicPart) []kmsg.OffsetFetchResponseGroupTopic {
	out := kmsg.NewOffsetFetchResponseGroupTopic()
	out.Topic = part.topic.name
	for _, t := range topics {
		for _, p := range t.Partitions {
			if (t.Topic == part.topic.name || t.Topic == "" && t.TopicID == part.topic.id) && p.Partition == part.number {
				out.Partitions = append(out.Partitions, p)
			}
		}
	}
	if len(out.Partitions) == 0 {
		none := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		none.Partition, none.Offset = part.number, -1
		out.Partitions = append(out.Partitions, none)
	}
	return []kmsg.OffsetFetchResponseGroupTopic{out}
}

// besideOffset is what is committed together with an offset: it can be told from
// the offset whether it is right.
func besideOffset(offset int64) (epoch int32, metadata *string) {
	return int32(offset % 5), kmsg.StringPtr(fmt.Sprintf("metadata of %d", offset))
}

// asCommitted checks that an offset that is read has beside it what it was
// committed with.
func (c *checkers) asCommitted(who string, p *topicPart, got *kmsg.OffsetFetchResponseGroupTopicPartition) bool {
	if got.Offset < 0 {
		return true
	}
	if epoch, metadata := besideOffset(got.Offset); got.LeaderEpoch != epoch || stringOf(got.Metadata) != *metadata {
		c.w.violate("offsets are read as they were committed", "%s reads %d of %s with epoch %d and metadata %q, committed were %d and %q", who, got.Offset, p, got.LeaderEpoch, stringOf(got.Metadata), epoch, *metadata)
		return false
	}
	return true
}

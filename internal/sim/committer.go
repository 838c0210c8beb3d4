package sim

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
)

// committer commits offsets of a group of its own, no two alike, deletes them, and
// reads them back: what was acknowledged last, unless a request without an answer
// was carried out late.
type committer struct {
	c           *client
	l           *load
	group       string
	part        *topicPart
	beside      *topicPart // another of the topic, of which nothing is deleted; nil: there is none
	coordinator int        // nowhere: not known

	next  int64          // commits so far
	acked int64          // the last that was acknowledged; -1: none
	maybe map[int64]bool // without an answer, so that they may come at any time
	kept  int64          // as acked, of beside
	sent  int64          // on its way; -1: a deletion is, or nothing was sent
	last  string
}

func newCommitter(l *load, number int) *committer {
	m := &committer{c: l.w.newClient(fmt.Sprintf("committer%d", number)), l: l, group: fmt.Sprintf("group%d", number),
		coordinator: nowhere, acked: -1, sent: -1, maybe: make(map[int64]bool)}
	m.later()
	return m
}

func (m *committer) later() {
	m.c.w.after(m.c.between(100*millisecond, 800*millisecond), m.step)
}

func (m *committer) step() {
	parts := m.l.parts()
	switch {
	case len(parts) == 0:
		m.later()
	case m.part == nil || m.part.topic.deleted:
		m.part, m.acked, m.kept, m.maybe = parts[m.c.rng.IntN(len(parts))], -1, -1, make(map[int64]bool)
		if m.beside = nil; len(m.part.topic.parts) > 1 {
			m.beside = m.part.topic.parts[(int(m.part.number)+1)%len(m.part.topic.parts)]
		}
		m.later()
	case m.coordinator == nowhere:
		m.find()
	case m.c.rng.IntN(3) == 0:
		m.fetch()
	case m.acked >= 0 && m.c.rng.IntN(16) == 0:
		m.delete()
	default:
		m.commit()
	}
}

// failed goes on after an error: somebody else may be the coordinator.
func (m *committer) failed(why string) {
	m.last = why
	m.coordinator = nowhere
	m.later()
}

func (m *committer) find() {
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
		m.later()
	})
}

func (m *committer) commit() {
	part := m.part
	m.next++
	offset := m.next ^ 1 // every other one goes back
	m.sent = offset
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, m.group, -1
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = part.number, offset
	rp.LeaderEpoch, rp.Metadata = besideOffset(offset)
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = part.topic.name, []kmsg.OffsetCommitRequestTopicPartition{rp}
	if m.beside != nil {
		rp.Partition = m.beside.number
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	m.c.call(m.coordinator, req, m.c.w.plan.requestTimeout, func(r kmsg.Response, err error) {
		switch {
		case err != nil:
			m.maybe[offset] = true
			m.failed("commit: " + err.Error())
		case r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode == 0:
			m.acked, m.last = offset, ""
			if got := r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions; m.beside != nil && got[1].ErrorCode == 0 { // else it is not known there yet
				m.kept = offset
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
				m.later()
				return
			}
			err = kafka.ErrorCode(got.ErrorCode)
		}
		m.maybe[-1] = true
		m.failed("delete: " + err.Error())
	})
}

func (m *committer) fetch() {
	part := m.part
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 8
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = m.group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = part.topic.name, []int32{part.number}
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
	w, acked := m.c.w, &m.acked
	if part == m.beside {
		acked = &m.kept
	}
	if part.topic.deleted {
		return true
	}
	if got.Offset == -1 && w.plan.groups.shortRetention && (w.now >= offsetsKept || w.wallClocksDiffer()) {
		*acked = -1 // a group without members; the clocks may have been stepped
	}
	maybe := m.maybe[got.Offset] && (part == m.part || got.Offset >= 0)
	if got.Offset != *acked && !maybe {
		w.violate("committed offsets do not go back", "%s: %s on node %d is at %d; %d was acknowledged, and %d commits were not answered", m.group, part, node+1, got.Offset, *acked, len(m.maybe))
		return false
	}
	return w.check.asCommitted(m.c.name, part, got)
}

// onlyOf is what an answer with all offsets of a group says of a partition.
func onlyOf(topics []kmsg.OffsetFetchResponseGroupTopic, part *topicPart) []kmsg.OffsetFetchResponseGroupTopic {
	out := kmsg.NewOffsetFetchResponseGroupTopic()
	out.Topic = part.topic.name
	for _, t := range topics {
		for _, p := range t.Partitions {
			if t.Topic == part.topic.name && p.Partition == part.number {
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

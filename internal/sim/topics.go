package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// topicKind says what becomes of a topic's old records.
type topicKind uint8

// The kinds of topics.
const (
	plain     topicKind = iota // they stay
	trimmed                    // DeleteRecords takes them
	retained                   // retention.bytes does
	aged                       // retention.ms does; the first records are old
	compacted                  // the last of each key stays
	topicKinds
)

var topicKindNames = [...]string{"plain", "trimmed", "retained", "aged", "compacted"}

func (k topicKind) String() string { return topicKindNames[k] }

// What the clients make old records of, and how old those are that go: more
// than clocks are ever off by.
const (
	agedMillis      = 10 * 3600 * 1000
	retentionMillis = agedMillis / 2
	lateMillis      = 3600 * 1000 // by how much the clocks of some producers are slow
	keysPerLane     = 5           // of compacted topics
)

// topicState is a topic as the clients know it.
type topicState struct {
	name    string
	id      kafka.TopicID
	kind    topicKind
	parts   []*topicPart
	rf      int
	factors []int // numbers of replicas that its partitions may have
	minSync int   // the least that may have been in force
	deleted bool  // its deletion was asked for
	waits   bool  // it is compacted, but no record will be old enough for that
	passing bool  // no group reads it: its name comes again
	again   bool  // there is to be another of this name, or was before: requests must name its id, for they may come late

	configs map[string]string // that were asked for and granted
	late    map[string]string // "name=value" that requests without an answer may set yet, or "name=": the name
	asked   map[string]string // as late, of all requests: one may find the next topic of this name
	loose   int               // requests by name to make, grow or move it that may come yet, and find the next topic of this name
	asking  bool              // a change of configs or partitions is under way
	stamped bool              // its leaders give records their time
	relaxed bool              // an acknowledgement does not wait for disks
}

// topicPart is a partition of it, and what the checkers know of it.
type topicPart struct {
	topic     *topicState
	number    int32
	moves     int  // how often it was asked for that other nodes have it
	cancelled bool // and whether that was to end half way
	givenUp   bool // any replica may lead, since nothing was ever committed
	history
}

func (p *topicPart) String() string { return fmt.Sprintf("%s-%d", p.topic.name, p.number) }

// newTopic draws a topic.
func (l *load) newTopic() *topicState {
	l.made++
	t := &topicState{name: fmt.Sprintf("t%d", l.made), rf: min(l.w.plan.replicas, len(l.w.nodes)), minSync: l.w.plan.minSync}
	t.kind = l.w.plan.kinds[l.rng.IntN(len(l.w.plan.kinds))]
	if l.rng.IntN(4) == 0 && !l.w.plan.mayLoseDisk {
		t.rf = 1 + l.rng.IntN(t.rf)
	}
	if l.w.flips.wanted {
		t.minSync = 2
	}
	t.minSync, t.factors = min(t.minSync, t.rf), []int{t.rf}
	t.late, t.asked = make(map[string]string), make(map[string]string)
	t.configs = map[string]string{"min.insync.replicas": fmt.Sprint(t.minSync)}
	segment := l.w.plan.segmentBytes
	if l.rng.IntN(6) == 0 {
		t.configs["compression.type"] = []string{"lz4", "snappy", "uncompressed"}[l.rng.IntN(3)]
	}
	l.drawConfigs(t)
	switch t.kind {
	case plain:
		if t.waits = l.rng.IntN(6) == 0; t.waits {
			segment = 2048 << l.rng.IntN(3)
			t.configs["cleanup.policy"], t.configs["min.cleanable.dirty.ratio"] = "compact", "0.01"
			t.configs["min.compaction.lag.ms"] = fmt.Sprint(agedMillis)
		}
	case retained:
		segment = 2048 << l.rng.IntN(3)
		t.configs["retention.bytes"] = fmt.Sprint(segment * (1 + l.rng.IntN(4)))
	case aged:
		segment = 2048 << l.rng.IntN(3)
		t.configs["retention.ms"] = fmt.Sprint(retentionMillis)
	case trimmed:
		segment = 2048 << l.rng.IntN(5)
	case compacted:
		segment = 2048 << l.rng.IntN(3)
		t.configs["cleanup.policy"] = "compact"
		t.configs["min.cleanable.dirty.ratio"] = []string{"0.01", "0.5"}[l.rng.IntN(2)]
		if l.rng.IntN(2) == 0 {
			t.configs["delete.retention.ms"] = fmt.Sprint(l.rng.IntN(5000))
		}
		if l.rng.IntN(2) == 0 {
			t.configs["max.compaction.lag.ms"] = fmt.Sprint(1000 + l.rng.IntN(10000))
		}
	}
	if segment > 0 {
		t.configs["internal.segment.bytes"] = fmt.Sprint(segment)
	}
	return t
}

// drawConfigs draws what topics of all kinds may have.
func (l *load) drawConfigs(t *topicState) {
	if t.stamped = t.kind != aged && l.rng.IntN(5) == 0; t.stamped {
		t.configs["message.timestamp.type"] = "LogAppendTime"
	}
	if l.rng.IntN(6) == 0 {
		t.configs["segment.ms"] = fmt.Sprint(500 + l.rng.IntN(10_000))
	}
	if t.relaxed = l.w.plan.relaxed && l.rng.IntN(2) == 0; t.relaxed {
		t.configs["flush.messages"] = fmt.Sprint(2 + l.rng.IntN(200))
		if l.rng.IntN(2) == 0 {
			t.configs["flush.ms"] = fmt.Sprint(100 + l.rng.IntN(5000))
		}
	}
}

// keyed says whether its records need keys.
func (t *topicState) keyed() bool { return t.kind == compacted || t.waits }

// recordMax is how large a record may be, so that four of them, a batch, fit
// into a segment.
func (t *topicState) recordMax() int {
	if segment, err := strconv.Atoi(t.configs["internal.segment.bytes"]); err == nil {
		return min(3500, (segment-600)/4)
	}
	return 3500
}

// createTopic asks for a topic until there is one.
func (l *load) createTopic(t *topicState) {
	partitions := int(l.w.plan.partitions)
	var ask func()
	ask = func() {
		t.loose++
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.TimeoutMillis = 7, 5000
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.name, int32(partitions), int16(t.rf)
		for _, name := range sortedKeys(t.configs) {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = name, kmsg.StringPtr(t.configs[name])
			rt.Configs = append(rt.Configs, c)
		}
		req.Topics = append(req.Topics, rt)
		l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(r kmsg.Response, err error) {
			retry := func() { l.w.after(l.admin.between(50*millisecond, 500*millisecond), ask) }
			if err != nil {
				retry()
				return
			}
			got := r.(*kmsg.CreateTopicsResponse).Topics[0]
			switch code := kafka.ErrorCode(got.ErrorCode); code {
			case kafka.None:
				t.loose--
				t.id = got.TopicID
				l.w.check.known("topic "+t.name+" was made", func(m *metadata.Image) bool { return m.Topic(t.id) != nil })
				l.created(t, partitions)
			case kafka.ErrTopicAlreadyExists: // an earlier answer was lost
				l.lookUp(t, partitions)
			case kafka.ErrInvalidReplicationFactor, kafka.ErrRequestTimedOut, kafka.ErrNotController,
				kafka.ErrCoordinatorNotAvailable, kafka.ErrBrokerNotAvailable:
				retry()
			default:
				l.w.violate("a topic can be made", "%s: %v %s", t.name, code, stringOf(got.ErrorMessage))
			}
		})
	}
	l.w.after(0, ask)
}

// lookUp finds the id of a topic that is there. A node may have one of the
// same name that was deleted.
func (l *load) lookUp(t *topicState, partitions int) {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &t.name
	req.Topics = append(req.Topics, mt)
	l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 2*second, func(r kmsg.Response, err error) {
		if err == nil {
			if got := r.(*kmsg.MetadataResponse).Topics[0]; got.ErrorCode == 0 && !l.known(got.TopicID) {
				t.id = got.TopicID
				l.created(t, partitions)
				return
			}
		}
		l.w.after(200*millisecond, func() { l.lookUp(t, partitions) })
	})
}

func (l *load) known(id kafka.TopicID) bool {
	for _, t := range l.topics {
		if t.id == id {
			return true
		}
	}
	return false
}

// stray says whether a topic was made by a request without an answer that came
// only when the topic it was to make, made by a later one, had been deleted: no
// client will ever hear of it.
func (l *load) stray(id kafka.TopicID) bool {
	for _, n := range l.w.nodes {
		if n.broker == nil {
			continue
		}
		if made := n.broker.Image().Topic(id); made != nil {
			return slices.ContainsFunc(l.topics, func(t *topicState) bool {
				return t.name == made.Name && t.id != id && t.deleted && !t.passing
			})
		}
	}
	return false
}

func (l *load) created(t *topicState, partitions int) {
	l.topics = append(l.topics, t)
	l.w.note(notePhase, nowhere, nowhere, 0, 0, fmt.Sprintf("topic %s is %s: %v", t.name, t.kind, t.configs))
	for range partitions {
		l.grow(t)
	}
}

// grow takes in that a topic has one more partition.
func (l *load) grow(t *topicState) {
	part := &topicPart{topic: t, number: int32(len(t.parts))}
	if t.stamped {
		part.stamps = make(map[kafka.Offset]int64)
	}
	t.parts = append(t.parts, part)
	for _, p := range l.producers {
		p.take(part)
	}
	for _, c := range l.consumers {
		c.take(part)
	}
}

func (l *load) deleteTopic(t *topicState) {
	t.deleted = true
	again := t.passing && l.rng.IntN(4) > 0 && t.loose == 0
	var ask func()
	ask = func() {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.Version, req.TimeoutMillis = 6, 5000
		rt := kmsg.NewDeleteTopicsRequestTopic()
		rt.TopicID = t.id
		req.Topics = append(req.Topics, rt)
		l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(r kmsg.Response, err error) {
			if err == nil {
				code := kafka.ErrorCode(r.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode)
				if code == kafka.None {
					l.w.check.known("topic "+t.name+" was deleted", func(m *metadata.Image) bool { return m.Topic(t.id) == nil })
				}
				if code == kafka.None || code == kafka.ErrUnknownTopicID {
					if again {
						l.remake(t)
					}
					return
				}
			}
			l.w.after(300*millisecond, ask)
		})
	}
	ask()
}

// remake makes a topic with the name of an old one that was deleted.
func (l *load) remake(old *topicState) {
	l.w.after(l.admin.between(0, 2*second), func() {
		if l.w.healed {
			return
		}
		t := l.newTopic()
		t.name, t.passing, t.again = old.name, true, true
		t.asked = maps.Clone(old.asked)
		t.late = maps.Clone(t.asked)
		if slices.Contains(slices.Collect(maps.Values(t.asked)), "min.insync.replicas") {
			t.minSync = 1
		}
		l.createTopic(t)
	})
}

// alterConfig changes a config of a topic, and does so until it is granted.
func (l *load) alterConfig(t *topicState) {
	if t.asking {
		return
	}
	t.asking = true
	name, value := "max.message.bytes", fmt.Sprint(100_000+l.rng.IntN(1_000_000))
	erase := l.rng.IntN(3) == 0
	switch l.rng.IntN(4) {
	case 0, 1:
		name, value = "index.interval.bytes", fmt.Sprint(500+l.rng.IntN(8000))
	case 2:
		if t.rf > 1 && !l.w.plan.mayLoseDisk && !l.w.flips.wanted {
			name, value, erase = "min.insync.replicas", fmt.Sprint(1+l.rng.IntN(2)), false
			t.minSync = 1 // a request may take effect at any time, or never
		}
	}
	if erase {
		value = ""
	}
	const other = "min.insync.replicas"
	var ask func()
	ask = func() {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.Version = 1
		rr := kmsg.NewIncrementalAlterConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeTopic, t.name
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Value = name, &value
		t.asked[name+"="+value] = name
		if erase {
			rc.Op, rc.Value = kmsg.IncrementalAlterConfigOpDelete, nil
		}
		rr.Configs = append(rr.Configs, rc)
		if other != name { // as it is: all else stays, too
			more := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			more.Name, more.Value = other, kmsg.StringPtr(t.configs[other])
			t.asked[other+"="+t.configs[other]] = other
			rr.Configs = append(rr.Configs, more)
		}
		req.Resources = append(req.Resources, rr)
		l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(r kmsg.Response, err error) {
			switch {
			case t.deleted:
			case err != nil || r.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode != 0:
				t.late[name+"="+value] = name
				if other != name {
					t.late[other+"="+t.configs[other]] = other
				}
				l.w.after(300*millisecond, ask)
			default:
				t.asking = false
				if delete(t.configs, name); !erase {
					t.configs[name] = value
				}
			}
		})
	}
	ask()
}

// granted says whether the configs are those that were granted, or what late
// requests have made of them.
func (t *topicState) granted(got map[string]string) bool {
	for _, name := range append(sortedKeys(t.configs), sortedKeys(got)...) {
		if got[name] != t.configs[name] && t.late[name+"="+got[name]] == "" {
			return false
		}
	}
	return true
}

// addPartition has a topic grow by one partition.
func (l *load) addPartition(t *topicState) {
	if t.asking || len(t.parts) > 5 {
		return
	}
	t.asking = true
	want := len(t.parts) + 1
	var ask func()
	ask = func() {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Version, req.TimeoutMillis = 3, 5000
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = t.name, int32(want)
		req.Topics = append(req.Topics, rt)
		t.loose++
		l.admin.call(l.rng.IntN(len(l.w.nodes)), req, 8*second, func(r kmsg.Response, err error) {
			code := kafka.ErrRequestTimedOut
			if err == nil {
				code = kafka.ErrorCode(r.(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode)
			}
			if code == kafka.None || code == kafka.ErrInvalidPartitions {
				t.loose--
			}
			if t.deleted {
				return
			}
			if code == kafka.None {
				l.w.check.known(fmt.Sprintf("topic %s has %d partitions", t.name, want), func(m *metadata.Image) bool {
					return m.Topic(t.id).Partition(int32(want-1)) != nil || m.Topic(t.id) == nil
				})
			}
			switch code {
			case kafka.None, kafka.ErrInvalidPartitions:
				// A broker asks the next controller again when one goes without
				// an answer, as Kafka's do: the partition may be there already.
				// Whether it is, is seen when all is at rest.
				t.asking = false
				l.grow(t)
			default:
				l.w.after(300*millisecond, ask)
			}
		})
	}
	ask()
}

// trim deletes records of a partition.
func (l *load) trim(parts []*topicPart) {
	var some []*topicPart
	for _, p := range parts {
		if p.topic.kind == trimmed && p.committed > 0 && !p.topic.again {
			some = append(some, p)
		}
	}
	if len(some) == 0 {
		return
	}
	p := some[l.rng.IntN(len(some))]
	h, ok := l.probe.c.leader(p)
	if !ok {
		return
	}
	to := kafka.Offset(l.rng.Int64N(int64(p.committed) + 1))
	beyond := l.rng.IntN(8) == 0 // nobody may ask for that
	if beyond {
		to += 1 << 30
	} else {
		p.mayStart = max(p.mayStart, to)
	}
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Version, req.TimeoutMillis = 2, 5000
	rp := kmsg.NewDeleteRecordsRequestTopicPartition()
	rp.Partition, rp.Offset = p.number, int64(to)
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic, rt.Partitions = p.topic.name, []kmsg.DeleteRecordsRequestTopicPartition{rp}
	req.Topics = append(req.Topics, rt)
	l.admin.call(h.node, req, 8*second, func(r kmsg.Response, err error) {
		if err != nil || p.topic.deleted {
			return
		}
		got := r.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
		switch {
		case got.ErrorCode == 0 && beyond:
			l.w.violate("only what was deleted is gone", "%s: deletion up to %d was answered with the low watermark %d, though nobody was told of so many records", p, to, got.LowWatermark)
		case got.ErrorCode == 0:
			l.w.check.trimmed(p, to, kafka.Offset(got.LowWatermark))
		}
	})
}

package broker

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/group"
	"chronik/internal/core/metadata"
	"chronik/internal/host/coordinator"
)

// coordinated is the group coordinators of those partitions of
// __consumer_offsets that this node leads. It belongs to the control loop.
type coordinated struct {
	b      *Broker
	groups *coordinator.Groups
	leads  map[int32]ledSince
}

// ledSince is what is led of a partition's number: whose it is, and since when.
type ledSince struct {
	topic kafka.TopicID
	epoch kafka.LeaderEpoch
}

// Groups is the group coordinators of this node.
func (b *Broker) Groups() *coordinator.Groups { return b.coordinated.groups }

func (c *coordinated) init(b *Broker) {
	c.b = b
	c.leads = make(map[int32]ledSince)
	c.groups = coordinator.New(coordinator.Options{
		Group:      c.options(),
		Log:        b.env.Log,
		Rand:       rand.New(rand.NewPCG(b.env.Rand.Uint64(), b.env.Rand.Uint64())),
		At:         func(at time.Time, fn func(now time.Time)) { b.At(at, fn) },
		MayServe:   b.MayServe,
		Background: func(fn func(now time.Time)) { b.env.Background(fn) },
		LoadBytes:  b.opts.LoadBytes,
	})
}

// options are the settings of groups as they are in effect on this node.
func (c *coordinated) options() group.Options {
	image, r := c.b.image.Load(), c.b.resolver
	ms := func(name string) time.Duration {
		return time.Duration(r.BrokerInt(image, name)) * time.Millisecond
	}
	assignors, _ := r.Broker(image, "group.consumer.assignors")
	o := group.Options{
		InitialRebalanceDelay:      ms("group.initial.rebalance.delay.ms"),
		SessionTimeoutMin:          ms("group.min.session.timeout.ms"),
		SessionTimeoutMax:          ms("group.max.session.timeout.ms"),
		MaxSize:                    int(r.BrokerInt(image, "group.max.size")),
		OffsetsRetention:           time.Duration(r.BrokerInt(image, "offsets.retention.minutes")) * time.Minute,
		RetentionCheck:             ms("offsets.retention.check.interval.ms"),
		OffsetMetadataMax:          int(r.BrokerInt(image, "offset.metadata.max.bytes")),
		ConsumerSessionTimeout:     ms("group.consumer.session.timeout.ms"),
		ConsumerHeartbeatInterval:  ms("group.consumer.heartbeat.interval.ms"),
		ConsumerAssignmentInterval: ms("group.consumer.assignment.interval.ms"),
		PerGroup:                   c.perGroup(image),
		ConsumerMaxSize:            int(r.BrokerInt(image, "group.consumer.max.size")),
	}
	o.OffsetsRetention = cmp.Or(c.b.opts.OffsetsKept, o.OffsetsRetention)
	migration, _ := r.Broker(image, "group.consumer.migration.policy")
	o.Migration = group.Migration(strings.ToLower(migration))
	if assignors != "" {
		o.ConsumerAssignors = strings.Split(assignors, ",")
	}
	// None, where 0 would mean the default.
	o.InitialRebalanceDelay = cmp.Or(o.InitialRebalanceDelay, -1)
	o.OffsetMetadataMax = cmp.Or(o.OffsetMetadataMax, -1)
	return o
}

// perGroup are the settings of groups that have some of their own.
func (c *coordinated) perGroup(image *metadata.Image) map[string]group.ConsumerSettings {
	var all map[string]group.ConsumerSettings
	for _, res := range image.ConfigResources() {
		if res.Type != metadata.ResourceGroup {
			continue
		}
		set := image.Config(res)
		ms := func(name string) time.Duration {
			if _, ok := set[name]; !ok {
				return 0
			}
			return time.Duration(c.b.resolver.GroupInt(image, res.Name, name)) * time.Millisecond
		}
		own := group.ConsumerSettings{
			SessionTimeout:     ms("consumer.session.timeout.ms"),
			HeartbeatInterval:  ms("consumer.heartbeat.interval.ms"),
			AssignmentInterval: ms("consumer.assignment.interval.ms"),
		}
		if _, ok := set["consumer.assignment.interval.ms"]; ok && own.AssignmentInterval == 0 {
			own.AssignmentInterval = -1 // none, where 0 would mean that of all groups
		}
		if all == nil {
			all = map[string]group.ConsumerSettings{}
		}
		all[res.Name] = own
	}
	return all
}

// imageChanged follows the leadership of the internal topic's partitions.
// Delta is nil when the whole image is new.
func (c *coordinated) imageChanged(now time.Time, d *metadata.Delta) {
	image := c.b.image.Load()
	c.groups.SetTopics(coordinator.TopicsOf(image))
	t := image.TopicByName(kafka.TopicConsumerOffsets)
	if t == nil {
		c.groups.SetPartitions(0)
	} else {
		c.groups.SetPartitions(int32(len(t.Partitions)))
	}
	for _, p := range slices.Sorted(maps.Keys(c.leads)) {
		if t == nil || t.ID != c.leads[p].topic || t.Partition(p) == nil || t.Partition(p).Leader != c.b.opts.Node {
			delete(c.leads, p)
			c.groups.OnResign(now, p)
		}
	}
	if t != nil {
		for i, state := range t.Partitions {
			c.lead(now, t, int32(i), state)
		}
	}
	if d == nil {
		return
	}
	var deleted []string
	for _, topic := range d.Topics {
		if topic.New == nil {
			deleted = append(deleted, topic.Old.Name)
		}
	}
	if len(deleted) > 0 {
		c.groups.TopicsDeleted(now, deleted)
	}
	for _, r := range d.Configs {
		if r.Type == metadata.ResourceBroker || r.Type == metadata.ResourceGroup {
			c.groups.SetOptions(c.options())
			break
		}
	}
}

func (c *coordinated) lead(now time.Time, t *metadata.Topic, number int32, state *metadata.Partition) {
	if state.Leader != c.b.opts.Node {
		return
	}
	p := c.b.Partition(t.ID, number)
	present := ledSince{t.ID, state.LeaderEpoch}
	if p == nil || c.leads[number] == present {
		return
	}
	c.leads[number] = present
	c.groups.OnLeader(now, number, state.LeaderEpoch, coordinator.PartitionLog(p, state.LeaderEpoch))
}

func (c *coordinated) close(now time.Time) {
	c.groups.Close(now)
	c.b.endLags()
}

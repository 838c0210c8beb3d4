package config

import "math"

type groupKey struct {
	Key
	rule rule
}

var groupTable = []groupKey{
	{Key{Name: "consumer.assignment.interval.ms", Type: Int, Default: "0", Synonym: "group.consumer.assignment.interval.ms", Doc: "The least time between two assignments of the group."}, intIn(0, 15000)},
	{Key{Name: "consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Synonym: "group.consumer.heartbeat.interval.ms", Doc: "How often a member tells that it is alive."}, intIn(5000, 15000)},
	{Key{Name: "consumer.session.timeout.ms", Type: Int, Default: "45000", Synonym: "group.consumer.session.timeout.ms", Doc: "After how long a silent member is removed."}, intIn(45000, 60000)},
	{Key{Name: "share.auto.offset.reset", Type: String, Default: "latest", Doc: "Where a share group begins to read: latest, earliest, or by_duration: and an ISO 8601 duration."}, shareOffsetReset},
	{Key{Name: "share.delivery.count.limit", Type: Int, Default: "5", Synonym: "group.share.delivery.count.limit", Doc: "How often a record is delivered before the group gives up on it."}, intIn(2, 10)},
	{Key{Name: "share.heartbeat.interval.ms", Type: Int, Default: "5000", Synonym: "group.share.heartbeat.interval.ms", Doc: "How often a member tells that it is alive."}, intIn(5000, 15000)},
	{Key{Name: "share.isolation.level", Type: String, Default: "read_uncommitted", Doc: "Whether the group sees records of transactions that are not committed."}, oneOf("read_committed", "read_uncommitted")},
	{Key{Name: "share.partition.max.record.locks", Type: Int, Default: "2000", Synonym: "group.share.partition.max.record.locks", Doc: "The most records of a partition that the group holds acquired."}, intIn(100, 10000)},
	{Key{Name: "share.record.lock.duration.ms", Type: Int, Default: "30000", Synonym: "group.share.record.lock.duration.ms", Doc: "How long a member holds a record."}, intIn(15000, 60000)},
	{Key{Name: "share.renew.acknowledge.enable", Type: Boolean, Default: "true", Doc: "Whether a member may ask for more time for a record."}, boolean},
	{Key{Name: "share.session.timeout.ms", Type: Int, Default: "45000", Synonym: "group.share.session.timeout.ms", Doc: "After how long a silent member is removed."}, intIn(45000, 60000)},
	{Key{Name: "streams.heartbeat.interval.ms", Type: Int, Default: "5000", Synonym: "group.streams.heartbeat.interval.ms", Doc: "How often a member tells that it is alive."}, intIn(5000, 15000)},
	{Key{Name: "streams.initial.rebalance.delay.ms", Type: Int, Default: "3000", Synonym: "group.streams.initial.rebalance.delay.ms", Doc: "How long a new group waits for more members."}, intIn(0, math.MaxInt32)},
	{Key{Name: "streams.num.standby.replicas", Type: Int, Default: "0", Synonym: "group.streams.num.standby.replicas", Doc: "How many standby copies of its state the group keeps."}, intIn(0, 2)},
	{Key{Name: "streams.session.timeout.ms", Type: Int, Default: "45000", Synonym: "group.streams.session.timeout.ms", Doc: "After how long a silent member is removed."}, intIn(45000, 60000)},
}

var clientMetricsTable = []groupKey{
	{Key{Name: "interval.ms", Type: Int, Default: "300000", Doc: "How often clients send their metrics."}, intIn(100, 3600000)},
	{Key{Name: "match", Type: List, Default: "", Doc: "Which clients are meant, as KEY=PATTERN."}, list(clientMatch)},
	{Key{Name: "metrics", Type: List, Default: "", Doc: "The prefixes of the metrics to send; * for all."}, list(anyElement)},
}

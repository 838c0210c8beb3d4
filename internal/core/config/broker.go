package config

import (
	"fmt"
	"math"
	"strings"
)

type brokerKey struct {
	Key
	rule rule
	pool bool // a size that may at most halve or double at a time
}

func fixed(name string, t Type, def string, r rule, doc string) brokerKey {
	return brokerKey{Key: Key{Name: name, Type: t, Default: def, ReadOnly: true, Doc: doc}, rule: r}
}

func dynamic(name string, t Type, def string, r rule, doc string) brokerKey {
	return brokerKey{Key: Key{Name: name, Type: t, Default: def, Doc: doc}, rule: r}
}

func (k brokerKey) noDefault() brokerKey {
	k.NoDefault = true
	return k
}

func (k brokerKey) sensitive() brokerKey {
	k.Sensitive = true
	return k
}

func pool(name, def, doc string) brokerKey {
	return brokerKey{Key: Key{Name: name, Type: Int, Default: def, Doc: doc}, rule: intFrom(1), pool: true}
}

// connectionsPerIP checks HOST:COUNT elements.
func connectionsPerIP(e string) error {
	host, count, ok := strings.Cut(e, ":")
	if _, err := intFrom(0)(count); !ok || host == "" || err != nil {
		return fmt.Errorf("%q is not HOST:COUNT", e)
	}
	return nil
}

// ownBrokerTable has the broker configs that are no topic's default; those
// follow from topicTable.
var ownBrokerTable = []brokerKey{
	fixed("advertised.listeners", List, "", list(anyElement), "The addresses that clients are told to connect to.").noDefault(),
	fixed("allow.everyone.if.no.acl.found", Boolean, "false", boolean, "Whether a resource without any ACL is open to all."),
	fixed("authorizer.class.name", String, "", text, "The authorizer in use; empty means that everybody may do everything."),
	fixed("auto.create.topics.enable", Boolean, "true", boolean, "Whether a topic is created when a client first asks for it."),
	fixed("auto.leader.rebalance.enable", Boolean, "true", boolean, "Whether leadership returns to preferred leaders by itself."),
	pool("background.threads", "10", "Kept for tools that set it; this broker sizes its background work itself."),
	fixed("broker.heartbeat.interval.ms", Int, "100", intFrom(1), "How often a broker tells the controller that it is alive."),
	fixed("broker.id", Int, "-1", intFrom(-1), "The older name of node.id."),
	fixed("broker.rack", String, "", text, "Where the broker stands; replicas are spread over racks.").noDefault(),
	fixed("broker.session.timeout.ms", Int, "1000", intFrom(1), "How long a broker may be silent before it is fenced."),
	fixed("connections.max.idle.ms", Long, "600000", longFrom(math.MinInt64), "After how long an idle connection is closed."),
	fixed("controlled.shutdown.enable", Boolean, "true", boolean, "Whether a broker that stops hands over its leaderships first."),
	fixed("controller.listener.names", List, "", list(anyElement), "Kept for tools that read it.").noDefault(),
	fixed("controller.quorum.voters", List, "", list(anyElement), "The first voters of the metadata group."),
	fixed("default.replication.factor", Int, "1", intFrom(1), "How many replicas a topic gets that does not say."),
	fixed("delete.topic.enable", Boolean, "true", boolean, "Whether topics may be deleted."),
	fixed("fetch.max.bytes", Int, "57671680", intFrom(1024), "The most that one fetch is answered with."),
	dynamic("follower.replication.throttled.rate", Long, maxLong, longFrom(0), "The most bytes per second that the broker gets for its replicas that catch up and are named by follower.replication.throttled.replicas."),
	fixed("group.consumer.assignors", List, "uniform,range", list(anyElement), "The server-side assignors of consumer groups (KIP-848), the default first."),
	fixed("group.consumer.heartbeat.interval.ms", Int, "5000", intFrom(1), "The heartbeat interval of members of consumer groups."),
	fixed("group.consumer.max.assignment.interval.ms", Int, "15000", intFrom(0), "The greatest assignment interval that a group may set."),
	dynamic("group.consumer.assignment.interval.ms", Int, "0", intIn(0, 15000), "The least time between two assignments of a consumer group."),
	fixed("group.consumer.max.heartbeat.interval.ms", Int, "15000", intFrom(1), "The greatest heartbeat interval that a group may set."),
	fixed("group.consumer.max.session.timeout.ms", Int, "60000", intFrom(1), "The greatest session timeout that a consumer group may set."),
	fixed("group.consumer.max.size", Int, "2147483647", intFrom(1), "The most members of a consumer group."),
	fixed("group.consumer.migration.policy", String, "bidirectional", oneOf("bidirectional", "upgrade", "downgrade", "disabled"), "Whether classic groups turn into consumer groups and back while they run."),
	fixed("group.consumer.min.heartbeat.interval.ms", Int, "5000", intFrom(1), "The least heartbeat interval that a group may set."),
	fixed("group.consumer.min.session.timeout.ms", Int, "45000", intFrom(1), "The least session timeout that a consumer group may set."),
	fixed("group.consumer.session.timeout.ms", Int, "45000", intFrom(1), "After how long a silent member of a consumer group is removed."),
	fixed("group.coordinator.rebalance.protocols", List, "classic,consumer,streams,share", list(elementOf("classic", "consumer", "share", "streams")), "The group protocols that are spoken."),
	fixed("group.initial.rebalance.delay.ms", Int, "3000", intFrom(0), "How long a new classic group waits for more members before its first rebalance."),
	fixed("group.max.session.timeout.ms", Int, "1800000", intFrom(1), "The greatest session timeout of classic members."),
	fixed("group.max.size", Int, "2147483647", intFrom(1), "The most members of a classic group."),
	fixed("group.min.session.timeout.ms", Int, "6000", intFrom(1), "The least session timeout of classic members."),
	fixed("group.share.delivery.count.limit", Int, "5", intIn(2, 10), "How often a record is delivered before a share group gives up on it."),
	fixed("group.share.heartbeat.interval.ms", Int, "5000", intFrom(1), "The heartbeat interval of members of share groups."),
	fixed("group.share.max.size", Int, "200", intIn(1, 1000), "The most members of a share group."),
	fixed("group.share.partition.max.record.locks", Int, "2000", intIn(100, 10000), "The most records of a partition that a share group holds acquired."),
	fixed("group.share.record.lock.duration.ms", Int, "30000", intIn(1000, 3600000), "How long a share group's member holds a record."),
	fixed("group.share.session.timeout.ms", Int, "45000", intFrom(1), "After how long a silent member of a share group is removed."),
	fixed("group.streams.heartbeat.interval.ms", Int, "5000", intFrom(1), "The heartbeat interval of members of streams groups."),
	fixed("group.streams.initial.rebalance.delay.ms", Int, "3000", intFrom(0), "How long a new streams group waits for more members."),
	fixed("group.streams.num.standby.replicas", Int, "0", intFrom(0), "How many standby copies of its state a streams group keeps."),
	fixed("group.streams.session.timeout.ms", Int, "45000", intFrom(1), "After how long a silent member of a streams group is removed."),
	fixed("inter.broker.listener.name", String, "", text, "Kept for tools that read it; brokers talk on a port of their own.").noDefault(),
	fixed("leader.imbalance.check.interval.seconds", Long, "300", longFrom(1), "How often leadership is returned to preferred leaders."),
	dynamic("leader.replication.throttled.rate", Long, maxLong, longFrom(0), "The most bytes per second that the broker sends to followers that catch up, of the partitions named by leader.replication.throttled.replicas."),
	fixed("listener.security.protocol.map", String, "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL", text, "The security protocol of each listener."),
	fixed("listeners", List, "PLAINTEXT://:9092", list(anyElement), "The addresses that the broker listens on."),
	dynamic("log.cleaner.backoff.ms", Long, "15000", longFrom(0), "How long compaction rests when it found nothing to do."),
	dynamic("log.cleaner.dedupe.buffer.size", Long, "134217728", longFrom(1<<20), "Memory for the keys that compaction looks at in one pass."),
	dynamic("log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308", doubleIn(0, math.MaxFloat64), "The most that compaction reads and writes in a second."),
	pool("log.cleaner.threads", "1", "How many logs are compacted at a time."),
	fixed("log.dir", String, "/tmp/kafka-logs", text, "The directory of all of the broker's files."),
	fixed("log.dirs", String, "", text, "The directories of the broker's files; one is supported.").noDefault(),
	fixed("log.retention.check.interval.ms", Long, "300000", longFrom(1), "How often logs are looked at for segments to drop."),
	dynamic("max.connection.creation.rate", Int, "2147483647", intFrom(0), "Kept for tools that set it; connections are not limited by rate here."),
	dynamic("max.connections", Int, "2147483647", intFrom(0), "The most connections at a time."),
	dynamic("max.connections.per.ip", Int, "2147483647", intFrom(0), "The most connections from one address."),
	dynamic("max.connections.per.ip.overrides", String, "", list(connectionsPerIP), "Kept for tools that set it, as HOST:COUNT; one limit holds for all addresses here."),
	fixed("max.incremental.fetch.session.cache.slots", Int, "1000", intFrom(0), "How many incremental fetch sessions are kept."),
	fixed("metadata.log.max.snapshot.interval.ms", Long, "3600000", longFrom(0), "After how long the metadata log gets a snapshot."),
	fixed("node.id", Int, "", intFrom(0), "The id of the node.").noDefault(),
	fixed("num.partitions", Int, "1", intFrom(1), "How many partitions a topic gets that does not say."),
	pool("num.io.threads", "8", "Kept for tools that set it; this broker sizes its work itself."),
	pool("num.network.threads", "3", "Kept for tools that set it; this broker sizes its work itself."),
	pool("num.recovery.threads.per.data.dir", "2", "How many logs are recovered at a time."),
	pool("num.replica.fetchers", "1", "Kept for tools that set it; leaders push to their followers here."),
	fixed("offset.metadata.max.bytes", Int, "4096", intFrom(0), "The longest text that a client may commit with an offset."),
	fixed("offsets.retention.check.interval.ms", Long, "600000", longFrom(1), "How often committed offsets are looked at for expired ones."),
	fixed("offsets.retention.minutes", Int, "10080", intFrom(1), "How long the committed offsets of a group without members are kept."),
	fixed("offsets.topic.num.partitions", Int, "50", intFrom(1), "The partitions of __consumer_offsets."),
	fixed("offsets.topic.replication.factor", Short, "3", intIn(1, math.MaxInt16), "The replicas of __consumer_offsets; fewer where there are fewer nodes."),
	fixed("offsets.topic.segment.bytes", Int, "104857600", intFrom(1<<20), "The segment size of __consumer_offsets."),
	fixed("principal.builder.class", Class, "", text, "Kept for tools that read it.").noDefault(),
	fixed("process.roles", List, "broker,controller", list(elementOf("broker", "controller")), "What the node is: every node is a broker and may become a controller."),
	dynamic("producer.id.expiration.ms", Int, "86400000", intFrom(1), "After how long a silent producer's sequence numbers are forgotten."),
	fixed("queued.max.requests", Int, "500", intFrom(1), "How many requests may wait."),
	fixed("quota.window.num", Int, "11", intFrom(1), "How many windows of the past quotas look at."),
	fixed("quota.window.size.seconds", Int, "1", intFrom(1), "How long a window of a quota is."),
	fixed("remote.log.storage.system.enable", Boolean, "false", onlyFalse("this cluster has no tiered storage"), "Tiered storage; there is none here."),
	dynamic("replica.alter.log.dirs.io.max.bytes.per.second", Long, maxLong, longFrom(0), "Kept for tools that set it; there is one log directory, between which nothing is moved."),
	fixed("replica.fetch.backoff.ms", Int, "1000", intFrom(0), "Kept for tools that read it; leaders push to their followers here."),
	fixed("replica.fetch.max.bytes", Int, "1048576", intFrom(0), "Kept for tools that read it; leaders push to their followers here."),
	fixed("replica.fetch.response.max.bytes", Int, "10485760", intFrom(0), "Kept for tools that read it; leaders push to their followers here."),
	fixed("replica.fetch.wait.max.ms", Int, "500", intFrom(0), "Kept for tools that read it; leaders push to their followers here."),
	fixed("replica.lag.time.max.ms", Long, "10000", longFrom(1), "How long a follower may be behind before it leaves the in-sync set."),
	fixed("replica.selector.class", String, "", text, "How a consumer is sent to a nearer replica; RackAwareReplicaSelector, or empty for the leader.").noDefault(),
	fixed("sasl.enabled.mechanisms", List, "GSSAPI", list(anyElement), "The SASL mechanisms that clients may use."),
	fixed("socket.request.max.bytes", Int, "104857600", intFrom(1), "The largest request."),
	dynamic("ssl.key.password", Password, "", text, "The password of the private key.").noDefault().sensitive(),
	dynamic("ssl.keystore.location", String, "", text, "The file with the broker's key and certificate.").noDefault(),
	dynamic("ssl.keystore.password", Password, "", text, "The password of the file with the key.").noDefault().sensitive(),
	dynamic("ssl.truststore.location", String, "", text, "The file with the certificates that are trusted.").noDefault(),
	dynamic("ssl.truststore.password", Password, "", text, "The password of the file with the certificates that are trusted.").noDefault().sensitive(),
	fixed("super.users", String, "", text, "Who may do everything, whatever the ACLs say."),
	fixed("transaction.max.timeout.ms", Int, "900000", intFrom(1), "The longest transaction timeout that a producer may ask for."),
	fixed("transaction.state.log.min.isr", Int, "2", intFrom(1), "The min.insync.replicas of __transaction_state; never more than it has replicas."),
	fixed("transaction.state.log.num.partitions", Int, "50", intFrom(1), "The partitions of __transaction_state."),
	fixed("transaction.state.log.replication.factor", Short, "3", intIn(1, math.MaxInt16), "The replicas of __transaction_state; fewer where there are fewer nodes."),
	fixed("transaction.state.log.segment.bytes", Int, "104857600", intFrom(1<<20), "The segment size of __transaction_state."),
	fixed("transactional.id.expiration.ms", Int, "604800000", intFrom(1), "After how long an idle transactional id is forgotten."),
	fixed("unclean.leader.election.interval.ms", Long, "300000", longFrom(1), "How often partitions without a leader are looked at for an unclean election."),
}

// coarse are the broker configs for topic defaults in hours and minutes.
var coarse = map[string]string{
	"log.retention.hours": "168", "log.roll.hours": "168", "log.roll.jitter.hours": "0",
	"log.flush.scheduler.interval.ms": maxLong,
}

// withTopicDefaults adds the broker configs that give topics their defaults.
func withTopicDefaults(table []brokerKey) []brokerKey {
	for _, t := range topicTable {
		for i, b := range t.brokers {
			k := brokerKey{Key: t.Key, rule: t.rule}
			k.Name, k.Synonym = b.name, ""
			k.Doc = "The default of " + t.Name + " for topics that do not set it. " + t.Doc
			// Where a coarser one has the default, the finer one is unset.
			k.NoDefault = len(t.brokers) > 1
			if i > 0 {
				k.Type, k.rule, k.ReadOnly = Int, intFrom(-1), true
				k.Default = coarse[b.name]
				k.NoDefault = k.Default == ""
				if b.unit == 1 {
					k.Type, k.rule = Long, t.rule
				}
				k.Doc = "The default of " + t.Name + " in a coarser unit, where the finer one is not set."
			}
			if b.name == "log.preallocate" {
				k.ReadOnly = false
			}
			table = append(table, k)
		}
	}
	return table
}

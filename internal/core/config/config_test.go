package config

import (
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// What a running Kafka 4.3.1 accepts out of the tried values, and nothing else.
var (
	tried = []string{"", "abc", "-2", "-1", "0", "1", "0.5", "2000000000", "9223372036854775807", "9223372036854775808", " 5 ", "true", "TRUE"}

	longs    = []string{"0", "1", "2000000000", "9223372036854775807", " 5 "}
	longs1   = longs[1:]
	accepted = map[string][]string{
		"cleanup.policy":                          {"", "compact", "delete", "compact,delete", "compact, delete", "compact,compact"},
		"compression.gzip.level":                  {"-1", "1", " 5 ", "9"},
		"compression.lz4.level":                   {"1", " 5 ", "17"},
		"compression.type":                        {"gzip", "snappy", "lz4", "zstd", "producer", "uncompressed"},
		"compression.zstd.level":                  {"-2", "-1", "0", "1", " 5 ", "22"},
		"delete.retention.ms":                     longs,
		"file.delete.delay.ms":                    longs,
		"flush.messages":                          longs1,
		"flush.ms":                                longs,
		"follower.replication.throttled.replicas": {""},
		"index.interval.bytes":                    {"0", "1", "2000000000", " 5 "},
		"leader.replication.throttled.replicas":   {"", "*", "0:1,1:1"},
		"local.retention.bytes":                   append([]string{"-2", "-1"}, longs...),
		"local.retention.ms":                      append([]string{"-2", "-1"}, longs...),
		"max.compaction.lag.ms":                   longs1,
		"max.message.bytes":                       {"0", "1", "2000000000", " 5 ", "2147483647"},
		"message.timestamp.after.max.ms":          longs,
		"message.timestamp.before.max.ms":         longs,
		"message.timestamp.type":                  {"LogAppendTime", "CreateTime"},
		"min.cleanable.dirty.ratio":               {"0", "1", "0.5"},
		"min.compaction.lag.ms":                   append([]string{"100"}, longs...),
		"min.insync.replicas":                     {"1", "2000000000", " 5 ", "5"},
		"preallocate":                             {"true", "TRUE"},
		"remote.log.copy.disable":                 {"true", "TRUE"},
		"remote.log.delete.on.disable":            {"true", "TRUE"},
		"remote.storage.enable":                   {"false"},
		"retention.bytes":                         append([]string{"-2", "-1"}, longs...),
		"retention.ms":                            append([]string{"-1"}, longs...),
		"segment.bytes":                           {"2000000000", "1048576"},
		"segment.index.bytes":                     {"2000000000", " 5 "},
		"segment.jitter.ms":                       longs,
		"segment.ms":                              longs1,
		"unclean.leader.election.enable":          {"true", "TRUE"},
		"internal.segment.bytes":                  {"-2", "-1", "0", "1", "2000000000", " 5 "},
		"message.format.version":                  {},
		"message.downconversion.enable":           {},
		"message.timestamp.difference.max.ms":     {},
	}
	triedGroup    = append([]string{"2", "5000", "45000", "60000", "10000000", "latest", "earliest", "by_duration:PT1H", "read_committed"}, tried...)
	acceptedGroup = map[string][]string{
		"consumer.session.timeout.ms":        {"45000", "60000"},
		"consumer.heartbeat.interval.ms":     {"5000"},
		"consumer.assignment.interval.ms":    {"0", "1", "2", "5000"},
		"share.session.timeout.ms":           {"45000", "60000"},
		"share.heartbeat.interval.ms":        {"5000"},
		"share.record.lock.duration.ms":      {"45000", "60000"},
		"share.auto.offset.reset":            {"latest", "earliest", "by_duration:PT1H"},
		"share.isolation.level":              {"read_committed"},
		"share.delivery.count.limit":         {"2"},
		"streams.session.timeout.ms":         {"45000", "60000"},
		"streams.heartbeat.interval.ms":      {"5000"},
		"streams.num.standby.replicas":       {"0", "1", "2"},
		"streams.initial.rebalance.delay.ms": {"0", "1", "2", "5000", "45000", "60000", "10000000"},
		"nope":                               {},
	}
)

func TestKafkasValuesAreAcceptedAndNoOthers(t *testing.T) {
	check := func(resource metadata.ResourceType, table map[string][]string, tried []string) {
		for key, good := range table {
			for _, value := range good {
				if err := Validate(resource, key, value); err != nil {
					t.Errorf("%s=%q: %v", key, value, err)
				}
			}
			for _, value := range tried {
				if resource == metadata.ResourceGroup && value == " 5 " || slices.Contains(good, value) {
					continue
				}
				if slices.Contains(good, "true") && (value == "true" || value == "TRUE") {
					continue
				}
				if err := Validate(resource, key, value); err == nil {
					t.Errorf("%s=%q is accepted", key, value)
				}
			}
		}
	}
	check(metadata.ResourceTopic, accepted, tried)
	check(metadata.ResourceGroup, acceptedGroup, slices.DeleteFunc(triedGroup, func(v string) bool { return v == "2000000000" }))
}

func TestEveryDefaultIsAcceptedByItsOwnRule(t *testing.T) {
	for _, resource := range []metadata.ResourceType{metadata.ResourceTopic, metadata.ResourceBroker, metadata.ResourceGroup, metadata.ResourceClientMetrics} {
		for _, k := range Keys(resource) {
			if k.Doc == "" || k.Type == 0 {
				t.Errorf("%s lacks a type or a sentence", k.Name)
			}
			if k.NoDefault {
				continue
			}
			if got, err := Normalize(resource, k.Name, k.Default); err != nil || got != k.Default {
				t.Errorf("%s: default %q becomes %q, %v", k.Name, k.Default, got, err)
			}
		}
	}
	for i := range topicTable {
		for _, b := range topicTable[i].brokers {
			k, ok := Lookup(metadata.ResourceBroker, b.name)
			if !ok || !k.NoDefault && b.unit == 1 && k.Default != topicTable[i].Default {
				t.Errorf("%s has another default than %s", b.name, topicTable[i].Name)
			}
		}
	}
}

func image(t *testing.T, records ...metadata.Record) *metadata.Image {
	t.Helper()
	m, _, err := metadata.Empty().Apply(1, records)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func set(kind metadata.ResourceType, name, key, value string) metadata.Record {
	return &metadata.ConfigRecord{Resource: metadata.ConfigResource{Type: kind, Name: name}, Key: key, Value: value}
}

func find(t *testing.T, entries []Entry, name string) Entry {
	t.Helper()
	for _, e := range entries {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no entry %s", name)
	return Entry{}
}

func TestTheNearestLevelWins(t *testing.T) {
	r, err := NewResolver(1, Static{"message.max.bytes": " 100 ", "log.retention.hours": "2", "min.insync.replicas": "2"})
	if err != nil {
		t.Fatal(err)
	}
	m := metadata.Empty()
	c := r.Topic(m, "t")
	if c.MaxMessageBytes != 100 || c.RetentionTime != 2*time.Hour || c.MinInSync != 2 || !c.Delete || c.Compact || !c.FlushEach() {
		t.Errorf("from static settings: %+v", c)
	}
	m = image(t, set(metadata.ResourceBroker, "", "message.max.bytes", "200"))
	if c := r.Topic(m, "t"); c.MaxMessageBytes != 200 {
		t.Errorf("from the cluster's default: %d", c.MaxMessageBytes)
	}
	m = image(t, set(metadata.ResourceBroker, "", "message.max.bytes", "200"),
		set(metadata.ResourceBroker, "1", "message.max.bytes", "300"), set(metadata.ResourceBroker, "2", "message.max.bytes", "9"))
	if c := r.Topic(m, "t"); c.MaxMessageBytes != 300 {
		t.Errorf("from the broker: %d", c.MaxMessageBytes)
	}
	m = image(t, set(metadata.ResourceBroker, "", "message.max.bytes", "200"), set(metadata.ResourceBroker, "1", "message.max.bytes", "300"),
		set(metadata.ResourceTopic, "t", "max.message.bytes", "400"), set(metadata.ResourceTopic, "t", "retention.ms", "-1"),
		set(metadata.ResourceTopic, "t", "cleanup.policy", "compact"), set(metadata.ResourceTopic, "t", "internal.segment.bytes", "1000"))
	c = r.Topic(m, "t")
	if c.MaxMessageBytes != 400 || c.RetentionTime != Forever || !c.Compact || c.Delete || c.SegmentBytes != 1000 {
		t.Errorf("from the topic: %+v", c)
	}
	e := find(t, r.DescribeTopic(m, "t"), "max.message.bytes")
	var levels []string
	for _, s := range e.Synonyms {
		levels = append(levels, s.Name+"="+*s.Value+" "+strconv.Itoa(int(s.Source)))
	}
	want := []string{"max.message.bytes=400 1", "message.max.bytes=300 2", "message.max.bytes=200 3", "message.max.bytes=100 4", "message.max.bytes=1048588 5"}
	if !slices.Equal(levels, want) || *e.Value != "400" || e.Source != SourceTopic {
		t.Errorf("synonyms %v", levels)
	}
}

func TestSynonymsNameOnlyLevelsWithAValue(t *testing.T) {
	r, _ := NewResolver(1, nil)
	entries := r.DescribeTopic(metadata.Empty(), "t")
	if e := find(t, entries, "max.message.bytes"); len(e.Synonyms) != 1 || e.Synonyms[0].Name != "message.max.bytes" || e.Source != SourceDefault {
		t.Errorf("%+v", e)
	}
	for _, name := range []string{"retention.ms", "segment.ms", "flush.ms", "leader.replication.throttled.replicas"} {
		if e := find(t, entries, name); len(e.Synonyms) != 0 || e.Value == nil || e.Source != SourceDefault {
			t.Errorf("%+v", e)
		}
	}
	if len(entries) != len(topicTable)-1 {
		t.Errorf("%d entries", len(entries))
	}
}

func TestDefaultsOfATopic(t *testing.T) {
	r, _ := NewResolver(1, nil)
	c := r.Topic(metadata.Empty(), "t")
	want := TopicConfig{
		Delete: true, RetentionTime: 168 * time.Hour, RetentionBytes: -1, SegmentBytes: 1 << 30, SegmentTime: 168 * time.Hour,
		SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096, MaxMessageBytes: 1048588, MinInSync: 1, CompressionType: "producer",
		GzipLevel: -1, LZ4Level: 9, ZstdLevel: 3, TimestampBeforeMax: Forever, TimestampAfterMax: time.Hour, DeleteRetention: 24 * time.Hour,
		MaxCompactionLag: Forever, MinCleanableDirtyRatio: 0.5, FlushMessages: 1, FlushTime: Forever,
	}
	if c != want {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	m := image(t, set(metadata.ResourceTopic, "t", "flush.messages", strconv.FormatInt(math.MaxInt64, 10)))
	if c := r.Topic(m, "t"); c.FlushEach() {
		t.Error("flush.messages has no effect")
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	r, _ := NewResolver(1, Static{"ssl.key.password": "secret"})
	m := image(t, set(metadata.ResourceBroker, "", "some.plugin.password", "secret"))
	for _, name := range []string{"ssl.key.password", "some.plugin.password"} {
		e := find(t, r.DescribeBroker(m), name)
		if !e.Sensitive || e.Value != nil || len(e.Synonyms) != 1 || e.Synonyms[0].Value != nil {
			t.Errorf("%+v", e)
		}
	}
	if e := find(t, r.DescribeBroker(m), "node.id"); e.Value == nil || *e.Value != "1" || !e.ReadOnly {
		t.Errorf("%+v", e)
	}
	if entries := r.DescribeClusterDefault(m); len(entries) != 1 || entries[0].Source != SourceClusterDefault {
		t.Errorf("%+v", entries)
	}
}

func TestGroupConfigsFallBackToTheBrokers(t *testing.T) {
	r, _ := NewResolver(kafka.NodeID(1), Static{"group.consumer.session.timeout.ms": "50000"})
	if v := r.GroupInt(metadata.Empty(), "g", "consumer.session.timeout.ms"); v != 50000 {
		t.Errorf("from static settings: %d", v)
	}
	m := image(t, set(metadata.ResourceGroup, "g", "consumer.session.timeout.ms", "60000"))
	if v := r.GroupInt(m, "g", "consumer.session.timeout.ms"); v != 60000 {
		t.Errorf("from the group: %d", v)
	}
	if e := find(t, r.DescribeGroup(m, "g"), "consumer.session.timeout.ms"); e.Source != SourceGroup || len(e.Synonyms) != 3 {
		t.Errorf("%+v", e)
	}
	if e := find(t, r.DescribeGroup(m, "unknown"), "share.auto.offset.reset"); *e.Value != "latest" {
		t.Errorf("%+v", e)
	}
}

func BenchmarkTopic(b *testing.B) {
	r, _ := NewResolver(1, nil)
	m, _, _ := metadata.Empty().Apply(1, []metadata.Record{set(metadata.ResourceTopic, "t", "retention.ms", "5")})
	for b.Loop() {
		r.Topic(m, "t")
	}
}

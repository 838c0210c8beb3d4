package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// accepted are the values that every topic setting is tried with.
var accepted = []string{"", "abc", "-2", "-1", "0", "1", "0.5", "2000000000", "9223372036854775807", "9223372036854775808", " 5 ", "true", "TRUE",
	"compact", "delete", "compact,delete", "compact, delete", "compact,compact", "9", "17", "22", "gzip", "snappy", "lz4", "zstd", "producer",
	"uncompressed", "*", "0:1,1:1", "2147483647", "LogAppendTime", "CreateTime", "100", "5", "false", "1048576", "1048575"}

var topicSettings = []string{"cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
	"delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms", "follower.replication.throttled.replicas", "index.interval.bytes",
	"leader.replication.throttled.replicas", "local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
	"message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type", "min.cleanable.dirty.ratio",
	"min.compaction.lag.ms", "min.insync.replicas", "preallocate", "remote.log.copy.disable", "remote.log.delete.on.disable",
	"remote.storage.enable", "retention.bytes", "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
	"unclean.leader.election.enable", "internal.segment.bytes", "message.format.version", "message.downconversion.enable",
	"message.timestamp.difference.max.ms", "nope"}

var groupSettings = []string{"consumer.session.timeout.ms", "consumer.heartbeat.interval.ms", "consumer.assignment.interval.ms", "nope"}

const (
	topicResource  = 2
	brokerResource = 4
	groupResource  = 32
)

type change struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

func set(name, value string) change { return change{name, 0, &value} }

func incremental(validate bool, kind kmsg.ConfigResourceType, name string, changes ...change) *kmsg.IncrementalAlterConfigsRequest {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = validate
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, name
	for _, c := range changes {
		r.Configs = append(r.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: c.name, Op: c.op, Value: c.value})
	}
	req.Resources = append(req.Resources, r)
	return req
}

func alter(validate bool, kind kmsg.ConfigResourceType, name string, changes ...change) *kmsg.AlterConfigsRequest {
	req := kmsg.NewPtrAlterConfigsRequest()
	req.ValidateOnly = validate
	r := kmsg.NewAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, name
	for _, c := range changes {
		r.Configs = append(r.Configs, kmsg.AlterConfigsRequestResourceConfig{Name: c.name, Value: c.value})
	}
	req.Resources = append(req.Resources, r)
	return req
}

func configsOf(kind kmsg.ConfigResourceType, name string, names ...string) *kmsg.DescribeConfigsRequest {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, names
	req.Resources = append(req.Resources, r)
	return req
}

// settled waits until a topic's setting has a value.
func (c *Conversation) settled(topic, name, value string) {
	c.Until(name+" "+value, func() bool {
		req := configsOf(topicResource, topic, name)
		req.SetVersion(c.side.common[32].max)
		resp := c.plain(req).(*kmsg.DescribeConfigsResponse)
		return len(resp.Resources) == 1 && len(resp.Resources[0].Configs) == 1 && or(resp.Resources[0].Configs[0].Value, "") == value
	})
}

func init() {
	add(
		Case{Key: 32, Name: "topics", Run: func(c *Conversation) {
			t := c.Topic("t", 1, "retention.ms=12345", "cleanup.policy=compact")
			c.Ask("all", configsOf(topicResource, t))
			c.Ask("two", configsOf(topicResource, t, "retention.ms", "segment.bytes", "nope"))
			req := configsOf(topicResource, t)
			req.IncludeSynonyms, req.IncludeDocumentation = false, false
			req.Resources[0].ConfigNames = []string{}
			c.Ask("empty list", req)
			c.Ask("unknown", configsOf(topicResource, c.Name("nope")))
			c.Ask("invalid", configsOf(topicResource, "a b"))
			c.Ask("empty", configsOf(topicResource, ""))
			req = configsOf(topicResource, t, "retention.ms")
			req.Resources = append(req.Resources, req.Resources[0])
			c.Ask("twice", req)
			c.Ask("type 0", configsOf(0, t))
			c.Ask("type 99", configsOf(99, t))
			req.Resources = nil
			c.Ask("nothing", req)
		}},
		Case{Key: 32, Name: "brokers", Run: func(c *Conversation) {
			names := []string{"auto.create.topics.enable", "num.partitions", "default.replication.factor", "log.retention.ms", "message.max.bytes",
				"min.insync.replicas", "delete.topic.enable", "compression.type", "log.segment.bytes", "offsets.topic.num.partitions"}
			c.Ask("some", configsOf(brokerResource, "1", names...))
			c.Ask("default", configsOf(brokerResource, "", names...))
			c.Ask("unknown broker", configsOf(brokerResource, "9"))
			c.Ask("no number", configsOf(brokerResource, "x"))
		}, Ignore: []string{"*Documentation"}},
		Case{Key: 32, Name: "groups", Run: func(c *Conversation) {
			c.Ask("unknown group", configsOf(groupResource, c.Name("g"), "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"))
			c.Ask("empty", configsOf(groupResource, ""))
		}},
		Case{Key: 33, Name: "replace", Run: func(c *Conversation) {
			t := c.Topic("t", 1, "retention.ms=12345")
			c.Ask("another", alter(false, topicResource, t, set("segment.ms", "777")))
			c.settled(t, "segment.ms", "777")
			c.Ask("described", configsOf(topicResource, t, "retention.ms", "segment.ms"))
			c.Ask("bad value", alter(false, topicResource, t, set("segment.ms", "abc")))
			c.Ask("unknown key", alter(false, topicResource, t, set("nope", "1")))
			c.Ask("null value", alter(false, topicResource, t, change{"segment.ms", 0, nil}))
			c.Ask("unknown topic", alter(false, topicResource, c.Name("nope"), set("segment.ms", "777")))
			c.Ask("invalid topic", alter(false, topicResource, "a b", set("segment.ms", "777")))
			c.Ask("empty name", alter(false, topicResource, "", set("segment.ms", "777")))
			c.Ask("type 0", alter(false, 0, t, set("segment.ms", "777")))
			c.Ask("only validated", alter(true, topicResource, t, set("retention.ms", "888")))
			c.Ask("nothing set", alter(false, topicResource, t))
			c.settled(t, "segment.ms", "604800000")
			c.Ask("described again", configsOf(topicResource, t, "retention.ms", "segment.ms"))
			c.Ask("unknown broker", alter(true, brokerResource, "9", set("log.retention.ms", "5")))
		}},
		Case{Key: 44, Name: "operations", Run: func(c *Conversation) {
			t := c.Topic("t", 1, "cleanup.policy=delete")
			op := func(label string, changes ...change) { c.Ask(label, incremental(false, topicResource, t, changes...)) }
			op("set", set("retention.ms", "999"))
			c.settled(t, "retention.ms", "999")
			op("append", change{"cleanup.policy", 2, p("compact")})
			c.settled(t, "cleanup.policy", "delete,compact")
			op("append what is there", change{"cleanup.policy", 2, p("compact")})
			op("subtract", change{"cleanup.policy", 3, p("delete")})
			c.settled(t, "cleanup.policy", "compact")
			op("subtract what is not there", change{"cleanup.policy", 3, p("delete")})
			op("delete", change{"retention.ms", 1, nil})
			c.settled(t, "retention.ms", "604800000")
			op("delete with a value", change{"retention.ms", 1, p("5")})
			op("delete unknown", change{"nope", 1, nil})
			op("set unknown", set("nope", "1"))
			op("append to a number", change{"retention.ms", 2, p("1")})
			op("subtract from a number", change{"retention.ms", 3, p("1")})
			op("null value", change{"retention.ms", 0, nil})
			op("null appended", change{"cleanup.policy", 2, nil})
			op("operation 4", change{"retention.ms", 4, p("1")})
			op("same key twice", set("retention.ms", "1"), set("retention.ms", "2"))
			op("set and delete", set("retention.ms", "1"), change{"retention.ms", 1, nil})
			op("good and bad", set("retention.ms", "1"), set("segment.ms", "abc"))
			op("nothing")
			c.Ask("described", configsOf(topicResource, t, "retention.ms", "cleanup.policy", "segment.ms"))
			req := incremental(false, topicResource, t, set("retention.ms", "1"))
			req.Resources = append(req.Resources, req.Resources[0])
			c.Ask("resource twice", req)
			c.Ask("unknown topic", incremental(false, topicResource, c.Name("nope"), set("retention.ms", "1")))
			c.Ask("invalid topic", incremental(false, topicResource, "a b", set("retention.ms", "1")))
			c.Ask("empty name", incremental(false, topicResource, "", set("retention.ms", "1")))
			c.Ask("type 0", incremental(false, 0, t, set("retention.ms", "1")))
			c.Ask("type 99", incremental(false, 99, t, set("retention.ms", "1")))
			c.Ask("unknown broker", incremental(true, brokerResource, "9", set("log.retention.ms", "5")))
			c.Ask("broker, bad value", incremental(true, brokerResource, "1", set("log.retention.ms", "abc")))
			c.Ask("broker, unknown key", incremental(true, brokerResource, "1", set("nope", "5")))
			c.Ask("broker, good value", incremental(true, brokerResource, "", set("log.retention.ms", "500000")))
			c.Ask("broker, read only", incremental(true, brokerResource, "", set("num.partitions", "5")))
		}},
		Case{Key: 44, Name: "values", From: 1, Run: func(c *Conversation) {
			t := c.Topic("t", 1)
			for _, name := range topicSettings {
				for _, value := range accepted {
					c.accepts(name, value, incremental(true, topicResource, t, set(name, value)))
				}
			}
		}},
		Case{Key: 44, Name: "group values", From: 1, Run: func(c *Conversation) {
			for _, name := range groupSettings {
				for _, value := range []string{"", "abc", "-1", "0", "1", "2", "5000", "45000", "60000", "44999", "60001", "10000000", " 5000 "} {
					c.accepts(name, value, incremental(true, groupResource, c.Name("g"), set(name, value)))
				}
			}
		}},
	)
}

// accepts records the error code alone, under the setting and the value.
func (c *Conversation) accepts(name, value string, req *kmsg.IncrementalAlterConfigsRequest) {
	req.SetVersion(c.V)
	resp := c.plain(req).(*kmsg.IncrementalAlterConfigsResponse)
	if len(resp.Resources) != 1 {
		c.Note(fmt.Sprintf("%s=%q", name, value), fmt.Sprint(len(resp.Resources), " results"))
		return
	}
	c.Note(fmt.Sprintf("%s=%q", name, value), resp.Resources[0].ErrorCode)
}

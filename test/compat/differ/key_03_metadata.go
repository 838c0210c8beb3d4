package main

import "github.com/twmb/franz-go/pkg/kmsg"

func metadata(allow bool, topics ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = allow
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
	}
	return req
}

func init() {
	add(
		Case{Key: 3, Name: "topics", Run: func(c *Conversation) {
			c.Ask("three partitions", metadata(false, c.Topic("t", 3)))
			c.Ask("two topics", metadata(false, c.Topic("u", 1), c.Name("t")))
			c.Ask("twice", metadata(false, c.Name("t"), c.Name("t")))
			if c.V >= 4 {
				c.Ask("unknown", metadata(false, c.Name("nope")))
			}
			for _, bad := range []string{"", ".", "..", "a b", "ä", string(make([]byte, 250))} {
				c.Ask("invalid "+bad, metadata(true, bad))
			}
			c.Ask("internal", metadata(false, "__consumer_offsets"))
		}},
		Case{Key: 3, Name: "nothing", From: 1, Run: func(c *Conversation) {
			c.Ask("no topics", metadata(false))
		}},
		Case{Key: 3, Name: "auto-create", Run: func(c *Conversation) {
			name := c.Name("new")
			c.Ask("the first time", metadata(true, name))
			c.Ready(name, 1)
			c.Ask("later", metadata(true, name))
			c.Ask("invalid", metadata(true, "a*b"))
			c.Ask("internal", metadata(true, "__cluster_metadata"))
		}},
		Case{Key: 3, Name: "authorized operations", From: 8, Run: func(c *Conversation) {
			req := metadata(false, c.Topic("t", 1), c.Name("nope"))
			req.IncludeTopicAuthorizedOperations = true
			req.IncludeClusterAuthorizedOperations = true
			c.Ask("asked for", req)
		}},
		Case{Key: 3, Name: "ids", From: 10, Run: func(c *Conversation) {
			a, b := c.Topic("t", 1), c.Topic("u", 1)
			byID := func(ids ...[16]byte) *kmsg.MetadataRequest {
				req := metadata(false)
				for _, id := range ids {
					t := kmsg.NewMetadataRequestTopic()
					t.TopicID = id
					req.Topics = append(req.Topics, t)
				}
				return req
			}
			c.Ask("by id", byID(c.ID(a), c.ID(b)))
			c.Ask("unknown id", byID([16]byte{9, 9, 9, 9, 1}, c.ID(a)))
			c.Ask("neither", byID([16]byte{}))
			req := byID(c.ID(a))
			req.Topics[0].Topic = &b
			c.Ask("both", req)
			req = byID(c.ID(a))
			req.Topics = append(req.Topics, metadata(false, b).Topics...)
			c.Ask("one of each", req)
			c.Ask("twice", byID(c.ID(a), c.ID(a)))
		}},
	)
}

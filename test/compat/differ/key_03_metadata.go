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
		Case{Key: 3, Name: "topic", Run: func(c *Conversation) {
			c.Ask("three partitions", metadata(false, c.Topic("t", 3)))
			c.Ask("unknown", metadata(false, c.Name("nope")))
			c.Ask("twice", metadata(false, c.Name("t"), c.Name("t")))
			for _, bad := range []string{"", ".", "..", "a b", "ä"} {
				c.Ask("invalid "+bad, metadata(false, bad))
			}
		}},
	)
}

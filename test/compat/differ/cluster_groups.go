package main

import "github.com/twmb/franz-go/pkg/kmsg"

// stranger asks a node that does not coordinate the group.
func stranger(key int16, from int16, request func(c *Conversation, group, topic string) kmsg.Request) Case {
	return Case{Key: key, Name: "another coordinator", From: from, Nodes: 3, Run: func(c *Conversation) {
		group, topic := c.Name("g"), c.Assigned("t", []int32{1, 2, 3})
		at := c.coordinator(group)
		c.At(at%3+1).Ask("asked", request(c, group, topic))
	}, Ignore: []string{"*NodeID"}}
}

func init() {
	add(
		stranger(8, 0, func(c *Conversation, group, topic string) kmsg.Request { return c.commit(group, topic, 0, 1) }),
		stranger(9, 0, func(c *Conversation, group, topic string) kmsg.Request { return c.offsets(c.V, group, topic, 0) }),
		stranger(11, 0, func(_ *Conversation, group, _ string) kmsg.Request { return join(group, "") }),
		stranger(12, 0, func(_ *Conversation, group, _ string) kmsg.Request { return heartbeat(group, 1, "m-x") }),
		stranger(13, 0, func(c *Conversation, group, _ string) kmsg.Request { return leave(c.V, group, "m-x") }),
		stranger(14, 0, func(_ *Conversation, group, _ string) kmsg.Request { return syncGroup(group, 1, "m-x") }),
		stranger(15, 0, func(_ *Conversation, group, _ string) kmsg.Request { return describe(group) }),
		stranger(42, 0, func(_ *Conversation, group, _ string) kmsg.Request { return deleteGroups(group) }),
		stranger(47, 0, func(_ *Conversation, group, topic string) kmsg.Request { return offsetDelete(group, topic, 0) }),
		stranger(68, 0, func(_ *Conversation, group, topic string) kmsg.Request { return beat(group, "m-one", 0, topic) }),
		stranger(69, 0, func(_ *Conversation, group, _ string) kmsg.Request { return describeConsumer(group) }),
		Case{Key: 10, Name: "every node says the same", Nodes: 3, Run: func(c *Conversation) {
			said := map[int32]bool{}
			at := c.coordinator(c.Name("g"))
			for node := int32(1); node <= 3; node++ {
				req := kmsg.NewPtrFindCoordinatorRequest()
				req.CoordinatorKey, req.CoordinatorKeys = c.Name("g"), []string{c.Name("g")}
				req.SetVersion(c.V)
				resp := c.Node(node).plain(req).(*kmsg.FindCoordinatorResponse)
				if c.V >= 4 {
					said[resp.Coordinators[0].NodeID] = true
				} else {
					said[resp.NodeID] = true
				}
			}
			c.Note("one", len(said) == 1 && said[at])
		}},
	)
}

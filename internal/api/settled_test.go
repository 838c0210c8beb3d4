package api_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/base/kafka"
)

// kill ends the process of a node: the others' connections with it break, and
// refused says whether they have tried to make new ones yet.
func (n *node) kill(nodes []*node, refused bool) {
	n.t.Helper()
	n.dead = true
	for _, o := range nodes {
		if !o.dead {
			o.broker.PeerDown(n.now, n.broker.Node(), false)
			if refused {
				o.broker.PeerDown(n.now, n.broker.Node(), true)
			}
		}
	}
}

// leaderQuestions are requests whose answers name the leaders of topic t, or of
// the group g's partition, and how to read them.
func leaderQuestions() map[string]func() (kmsg.Request, func(kmsg.Response) int32) {
	return map[string]func() (kmsg.Request, func(kmsg.Response) int32){
		"Metadata": func() (kmsg.Request, func(kmsg.Response) int32) {
			req := kmsg.NewPtrMetadataRequest()
			req.Version, req.Topics = 12, []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("t")}}
			return req, func(r kmsg.Response) int32 { return r.(*kmsg.MetadataResponse).Topics[0].Partitions[0].Leader }
		},
		"Metadata of all topics": func() (kmsg.Request, func(kmsg.Response) int32) {
			req := kmsg.NewPtrMetadataRequest()
			req.Version = 9
			return req, func(r kmsg.Response) int32 {
				for _, t := range r.(*kmsg.MetadataResponse).Topics {
					if *t.Topic == "t" {
						return t.Partitions[0].Leader
					}
				}
				return -2
			}
		},
		"DescribeTopicPartitions": func() (kmsg.Request, func(kmsg.Response) int32) {
			req := kmsg.NewPtrDescribeTopicPartitionsRequest()
			req.ResponsePartitionLimit, req.Topics = 10, []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "t"}}
			return req, func(r kmsg.Response) int32 {
				return r.(*kmsg.DescribeTopicPartitionsResponse).Topics[0].Partitions[0].LeaderID
			}
		},
		"FindCoordinator v3": func() (kmsg.Request, func(kmsg.Response) int32) {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.Version, req.CoordinatorKey = 3, "g"
			return req, func(r kmsg.Response) int32 { return r.(*kmsg.FindCoordinatorResponse).NodeID }
		},
		"FindCoordinator v4": func() (kmsg.Request, func(kmsg.Response) int32) {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.Version, req.CoordinatorKeys = 4, []string{"g"}
			return req, func(r kmsg.Response) int32 { return r.(*kmsg.FindCoordinatorResponse).Coordinators[0].NodeID }
		},
	}
}

// ledByOne is a cluster of which one node leads topic t and coordinates group g,
// and another leads the topic other. The one is the controller, if wanted; the
// first of the others is, if not.
func ledByOne(t *testing.T, controller bool) (one *node, others, all []*node) {
	t.Helper()
	all = newCluster(t, 3, map[string]string{"offsets.topic.num.partitions": "1"})
	active := all[all[0].broker.Controller()-1]
	for _, n := range all {
		if n != active {
			others = append(others, n)
		}
	}
	if one = active; !controller {
		one, others[0] = others[0], active
	}
	id, next := int32(one.broker.Node()), int32(others[0].broker.Node())
	created := createTopics(all[0], 7, withReplicas(newTopic("t", -1, -1), id, next), withReplicas(newTopic("other", -1, -1), next, id),
		withReplicas(newTopic(kafka.TopicConsumerOffsets, -1, -1), id, next))
	for i := range created.Topics {
		expect(t, "create", created.Topics[i].ErrorCode, kafka.None)
	}
	all[0].advance(time.Second)
	return one, others, all
}

// A client that asks in the moment after a process has ended is told who leads
// now, and not that the lost node does.
func TestAnswersWaitForTheDecisionOnALostLeader(t *testing.T) {
	for name, question := range leaderQuestions() {
		for what := range 8 {
			controller, refused, asks := what&1 != 0, what&2 != 0, what>>2
			lost, others, all := ledByOne(t, controller)
			asked, next := others[asks], int32(others[0].broker.Node())
			what := fmt.Sprintf("%s, controller %v, refused %v, node %d", name, controller, refused, asks)
			lost.kill(all, refused)
			req, leader := question()
			begun := asked.now
			a := asked.handleNow(&api.Client{}, req)
			if a.came {
				t.Fatalf("%s: answered %d before the decision", what, leader(a.resp))
			}
			if !refused {
				asked.advance(5 * time.Millisecond)
				if a.came {
					t.Fatalf("%s: answered while the node is suspected", what)
				}
				for _, n := range others {
					n.broker.PeerDown(n.now, lost.broker.Node(), true)
				}
			}
			for range 200 {
				if asked.advance(time.Millisecond); a.came {
					break
				}
			}
			if !a.came {
				t.Fatalf("%s: no answer", what)
			}
			if got := leader(a.resp); got != next {
				t.Errorf("%s: leader %d, want %d", what, got, next)
			}
			if waited := asked.now.Sub(begun); !controller && waited > 10*time.Millisecond {
				t.Errorf("%s: answered after %v", what, waited)
			}
		}
	}
}

// What does not concern the lost node is answered at once.
func TestAnswersThatNameOthersDoNotWait(t *testing.T) {
	lost, others, all := ledByOne(t, false)
	asked := others[0]
	lost.kill(all, true)
	other := kmsg.NewPtrMetadataRequest()
	other.Version, other.Topics = 12, []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("other")}}
	none := kmsg.NewPtrMetadataRequest()
	none.Version, none.Topics = 12, []kmsg.MetadataRequestTopic{}
	for _, req := range []kmsg.Request{other, none} {
		if a := asked.handleNow(&api.Client{}, req); !a.came {
			t.Errorf("%v waits", req.(*kmsg.MetadataRequest).Topics)
		}
	}
}

// A connection that broke and is there again, and a process that is never heard
// of again without having been refused.
func TestASuspicionEnds(t *testing.T) {
	one, others, _ := ledByOne(t, false)
	asked, peer := others[0], one.broker.Node()
	req, leader := leaderQuestions()["Metadata"]()
	asked.broker.PeerDown(asked.now, peer, false)
	a := asked.sendAs(&api.Client{}, req)
	asked.advance(20 * time.Millisecond)
	if a.came {
		t.Fatal("answered while the node is suspected")
	}
	asked.broker.PeerUp(asked.now, peer)
	asked.advance(0)
	if !a.came || leader(a.resp) != int32(peer) {
		t.Fatal("no answer when the connection is there again")
	}
	asked.advance(time.Second)
	asked.broker.PeerDown(asked.now, peer, false)
	if a := asked.sendAs(&api.Client{}, req); !a.came {
		t.Error("a connection that breaks again and again has answers wait each time")
	}
	asked.advance(10 * time.Second)
	asked.broker.PeerDown(asked.now, peer, false)
	a = asked.sendAs(&api.Client{}, req)
	asked.advance(99 * time.Millisecond)
	if a.came {
		t.Fatal("answered while the node is suspected")
	}
	asked.advance(time.Millisecond)
	if !a.came || leader(a.resp) != int32(peer) {
		t.Fatal("no answer when the suspicion is over")
	}
	if a := asked.sendAs(&api.Client{}, req); !a.came {
		t.Error("the next request waits, too")
	}
}

// Two of three nodes are gone: nobody decides anything. The answer comes after
// a while, later requests do not wait, and a node that is back is lost anew.
func TestAnswersDoNotWaitForADecisionThatCannotBeMade(t *testing.T) {
	lost, others, all := ledByOne(t, false)
	asked, peer := others[0], lost.broker.Node()
	others[1].kill(all, true)
	lost.kill(all, true)
	req, leader := leaderQuestions()["Metadata"]()
	a := asked.sendAs(&api.Client{}, req)
	asked.advance(300 * time.Millisecond)
	second := asked.sendAs(&api.Client{}, req)
	refusals := func(d time.Duration) { // the transport dials again and again
		for range 10 {
			asked.broker.PeerDown(asked.now, peer, true)
			asked.advance(d / 10)
		}
	}
	refusals(190 * time.Millisecond)
	if a.came || second.came {
		t.Fatal("answered within the bound")
	}
	refusals(10 * time.Millisecond)
	if !a.came || !second.came {
		t.Fatal("no answer after half a second")
	}
	if got := leader(a.resp); got != int32(peer) {
		t.Errorf("leader %d, want the lost one, as far as is known", got)
	}
	for range 20 {
		refusals(time.Second)
		if a := asked.sendAs(&api.Client{}, req); !a.came {
			t.Fatal("each request waits anew")
		}
	}
	if n := asked.queue.Len(); n > 100 {
		t.Errorf("%d deadlines are left", n)
	}
}

// The controller knows of a decision before the new leader does, which would
// refuse a client that came before.
func TestTheControllerSendsNobodyToALeaderThatDoesNotKnowYet(t *testing.T) {
	nodes := newCluster(t, 5, nil)
	active := nodes[nodes[0].broker.Controller()-1]
	var others []*node
	for _, n := range nodes {
		if n != active {
			others = append(others, n)
		}
	}
	lost, next := others[0], others[1]
	id := int32(next.broker.Node())
	created := createTopics(active, 7, withReplicas(newTopic("t", -1, -1), int32(lost.broker.Node()), id))
	expect(t, "create", created.Topics[0].ErrorCode, kafka.None)
	active.advance(time.Second)
	next.stalled = true
	lost.kill(nodes, true)
	req, leader := leaderQuestions()["Metadata"]()
	a := active.handleNow(&api.Client{}, req)
	active.advance(20 * time.Millisecond)
	if !active.broker.Image().Broker(lost.broker.Node()).Fenced {
		t.Fatal("no decision")
	}
	if a.came {
		t.Fatal("answered before the new leader knows")
	}
	next.stalled = false
	active.posted = append(active.posted, next.inbox...)
	active.settle()
	active.advance(0)
	if !a.came || leader(a.resp) != id {
		t.Fatal("no answer when the new leader knows")
	}
}

// A client may notice the end of a process before this node's own transport
// has, and ask.
func TestALossThatIsNotNoticedYetIsLookedFor(t *testing.T) {
	for name, question := range leaderQuestions() {
		lost, others, _ := ledByOne(t, false)
		asked, next := others[1], int32(others[0].broker.Node())
		lost.dead, asked.unnoticed = true, true
		req, leader := question()
		a := asked.sendAs(&api.Client{}, req)
		if a.came {
			t.Fatalf("%s: answered %d", name, leader(a.resp))
		}
		for _, n := range others {
			n.broker.PeerDown(n.now, lost.broker.Node(), false)
			n.broker.PeerDown(n.now, lost.broker.Node(), true)
		}
		asked.advance(10 * time.Millisecond)
		if !a.came || leader(a.resp) != next {
			t.Fatalf("%s: no answer after the decision", name)
		}
	}
	_, others, all := ledByOne(t, false) // without a quorum it stays at one wait
	asked := others[0]
	asked.unnoticed = true
	for _, n := range all {
		if n != asked {
			n.kill(all, true)
		}
	}
	asked.advance(500 * time.Millisecond)
	req, _ := leaderQuestions()["Metadata"]()
	a := asked.sendAs(&api.Client{}, req)
	asked.advance(0)
	if !a.came {
		t.Error("a loss that was waited for is waited for again")
	}
}

package controller

import (
	"fmt"
	"strings"
	"testing"

	"chronik/internal/base/kafka"
	"chronik/internal/core/metadata"
)

// A client may name a hundred thousand things in one request. What is decided
// takes time in proportion to them: with their square the controller would stand
// still for minutes, and with it the leases of all nodes.
func TestLongRequestsAreDecidedInProportion(t *testing.T) {
	const many = 100_000
	w := newWorld(t, nil, 1)
	w.register(1, 1, 1, "", true)
	w.beat(1, false)
	var names []string
	for i := range many {
		names = append(names, fmt.Sprintf("topic-%06d", i))
	}

	var twice []TopicRef
	for _, name := range names {
		twice = append(twice, TopicRef{Name: name}, TopicRef{Name: name})
	}
	for _, a := range w.decide(DeleteTopics{Topics: twice}).(DeleteTopicsResult).Topics {
		if a.Error != kafka.ErrInvalidRequest {
			t.Fatalf("a topic named twice is answered %v", a.Error)
		}
	}

	made := 0
	for i, a := range w.decide(AutoCreateTopics{Names: append(names, names...)}).(CreateTopicsResult).Topics {
		switch a.Error {
		case kafka.None:
			made++
		case kafka.ErrPolicyViolation:
		default:
			t.Fatalf("topic %d of many is answered %v", i, a.Error)
		}
	}
	if made != partitionsPerRequestMax {
		t.Errorf("one request made %d topics of one partition, want %d", made, partitionsPerRequestMax)
	}

	timeout := "50000"
	var changes []ResourceChanges
	for _, name := range names {
		changes = append(changes, ResourceChanges{
			Resource: metadata.ConfigResource{Type: metadata.ResourceGroup, Name: name},
			Changes:  []ConfigChange{{ConfigValue: ConfigValue{"consumer.session.timeout.ms", &timeout}}},
		})
	}
	w.decide(IncrementalAlterConfigs{Resources: changes})
	if set := len(w.c.Image().ConfigResources()); set != many {
		t.Errorf("%d groups have configs, want %d", set, many)
	}

	var list strings.Builder
	for i := range many {
		fmt.Fprintf(&list, "%d:1,", i)
	}
	throttled := strings.TrimSuffix(list.String(), ",")
	topic := metadata.ConfigResource{Type: metadata.ResourceTopic, Name: names[0]}
	for _, op := range []ConfigOp{OpAppend, OpAppend, OpSubtract} {
		w.decide(IncrementalAlterConfigs{Resources: []ResourceChanges{{Resource: topic, Changes: []ConfigChange{
			{ConfigValue{"leader.replication.throttled.replicas", &throttled}, op},
		}}}})
		want := throttled
		if op == OpSubtract {
			want = ""
		}
		if got := w.c.Image().Config(topic)["leader.replication.throttled.replicas"]; got != want {
			t.Errorf("after operation %d the list has %d bytes, want %d", op, len(got), len(want))
		}
	}
}

package broker

import (
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
)

// What one entry of the metadata log brings about may be a question of this node
// itself, and its answer another entry: that one is applied in its turn, behind
// those that came with the first.
func TestEntriesAreAppliedInTheirOrderWhateverTheyBringAbout(t *testing.T) {
	w := newWorld(t, 1)
	w.create(nil, 1)
	b := w.nodes[1].b
	p := w.replicaOf(1)
	b.fitness.asking = true // so that it is the next entry that has it reported
	b.findUnfit(w.now, partitionKey{p.TopicID(), p.Number()}, metadata.Failed, "its disk was taken out")
	b.fitness.asking = false
	for _, name := range []string{"u", "v"} {
		topic := controller.NewTopic{Name: name, Partitions: 1, ReplicationFactor: 1}
		b.decide(w.now, controller.CreateTopics{Topics: []controller.NewTopic{topic}},
			&question{func(time.Time, controller.Response, kafka.ErrorCode, kafka.Offset) {}})
	}
	b.drain(w.now)
	for _, name := range []string{"u", "v"} {
		if b.Image().TopicByName(name) == nil {
			t.Errorf("topic %s is not there", name)
		}
	}
	if w.partition().Unfit == nil {
		t.Error("the replica was not reported")
	}
}

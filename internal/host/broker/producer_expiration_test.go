package broker

import (
	"testing"
	"time"

	"chronik/internal/base/kafka"
	"chronik/internal/core/controller"
	"chronik/internal/core/metadata"
	"chronik/internal/format/record"
	"chronik/internal/host/partition"
)

// producer.id.expiration.ms may be changed while brokers run, and holds for the
// logs that are open then.
func TestProducersExpireByTheConfigAsItIs(t *testing.T) {
	w := newWorld(t, 3)
	w.create(nil, 1)
	bd := record.NewBuilder(record.BuilderOptions{Producer: &record.Producer{ID: 7}})
	bd.Append(w.now.UnixMilli(), nil, []byte("v"))
	done := false
	w.replicaOf(w.partition().Leader).Produce(w.now, partition.ProduceRequest{Records: bd.Build(), Acks: -1, Timeout: time.Minute}, func(r partition.ProduceResult) {
		if done = true; r.Code != kafka.None {
			t.Fatal(r)
		}
	})
	w.until("acknowledged", func() bool { return done })
	known := func() (n int) {
		for id := range w.nodes {
			n += len(w.replicaOf(id).Producers())
		}
		return n
	}
	w.until("known to all", func() bool { return known() == 3 })

	value := "30000"
	done = false
	w.nodes[1].b.Control(w.now, controller.IncrementalAlterConfigs{Resources: []controller.ResourceChanges{{
		Resource: metadata.ConfigResource{Type: metadata.ResourceBroker},
		Changes:  []controller.ConfigChange{{ConfigValue: controller.ConfigValue{Name: "producer.id.expiration.ms", Value: &value}}},
	}}}, 10*time.Second, func(r controller.Response, _ kafka.ErrorCode) {
		if done = true; r.(controller.AlterConfigsResult).Resources[0].Error != kafka.None {
			t.Fatal(r)
		}
	})
	w.until("config set", func() bool { return done })
	for until := w.now.Add(20 * time.Second); w.now.Before(until); {
		w.step()
	}
	if n := known(); n != 3 {
		t.Fatalf("forgotten on %d nodes before it was silent for 30 s", 3-n)
	}
	for until := w.now.Add(20 * time.Second); w.now.Before(until); {
		w.step()
	}
	if n := known(); n != 0 {
		t.Fatalf("known still to %d nodes after 40 s of silence", n)
	}
}
